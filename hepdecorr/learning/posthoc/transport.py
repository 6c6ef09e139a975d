"""Background at each nuisance is moved onto background as a whole, in the order of its scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.special import ndtri
from torch import Tensor

from hepdecorr.catalogue import suggest
from hepdecorr.errors import InputError
from hepdecorr.learning.posthoc import flow as flows
from hepdecorr.learning.posthoc import regression
from hepdecorr.learning.posthoc.distribution import LEAST_RISE, POINTS, Estimate, Surface, ranked
from hepdecorr.learning.posthoc.grid import Axis, knots, quantiles
from hepdecorr.learning.posthoc.transform import Array, Background, Transform

FORMS = ("smooth", "binned", "flow")
LEARNT = {"pieces": 12, "hidden": (32, 32), "steps": 2000, "batch": 4096, "lr": 5e-3, "seed": 0}


class Transport(Transform):
    """t = F^-1(F(s|z)): the score that has the same place in all background as s has in that at z.

    In one dimension this monotone rearrangement is the optimal transport for every convex cost (Villani,
    Topics in Optimal Transportation, 2003, sect. 2.2).  Like QuantileMap it is flat at every cut, and it
    keeps the scale of the score: where nothing depends on z, it changes nothing.

    form: 'smooth' and 'binned' as Estimate has them, whose arguments these are.  'flow' learns the map: a
    conditional spline flow (see flow) by maximum likelihood of background, from the score's normal
    quantile; `flow` may set its pieces, hidden, steps, batch, lr and seed.
    """

    def __init__(
        self,
        *,
        nuisance: str | Sequence[str],
        form: str = "smooth",
        bins: int = 20,
        interpolate: bool = True,
        thresholds: int = 81,
        pieces: int | None = None,
        flow: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(nuisance, most=2)
        if form not in FORMS:
            raise InputError(f"posthoc: Transport: no form {form!r}{suggest(str(form), FORMS)}")
        for key in flow or {}:
            if key not in LEARNT:
                raise InputError(f"posthoc: Transport: flow: no {key!r}{suggest(str(key), LEARNT)}")
        self.learnt: dict[str, Any] = {**LEARNT, **(flow or {})} if form == "flow" or flow else {}
        if flow and form != "flow":
            raise InputError("posthoc: Transport: 'flow' is for 'form: flow'")
        self.estimate = Estimate("smooth" if self.learnt else form, bins, interpolate, thresholds, pieces)
        self.surface: Surface | None = None

    def fit(self, background: Background) -> None:
        """From background events."""
        whole = Whole.of(background, number=self.estimate.thresholds)
        if self.learnt:
            axes, normal = self._learn(background, whole)
            values = whole.score(normal)
        else:
            found = self.estimate.fit(background)
            axes, values = list(found.axes), whole.score(ndtri_of_odds(found.odds))
            whole = Whole(found.scores, whole.normal_of(found.scores))
        steps = np.maximum(np.diff(values, axis=-1), LEAST_RISE * np.diff(whole.scores))
        values = np.concatenate([values[..., :1], values[..., :1] + steps.cumsum(-1)], -1)
        self.surface = Surface(axes, whole.scores, values)

    def _learn(self, background: Background, whole: Whole) -> tuple[list[Axis], Array]:
        """Axes of the nuisances, and what the flow makes of the thresholds at each point of their grid."""
        number = POINTS[len(self.nuisances) - 1]
        axes = [Axis(knots(z, background.w, number=number)) for z in background.z.T]
        u = np.stack([ranked(axis, z) for axis, z in zip(axes, background.z.T, strict=True)], 1)
        given = dict(self.learnt)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(given["seed"])
            made = flows.Flow(len(axes), pieces=given.pop("pieces"), hidden=given.pop("hidden"))
        with torch.enable_grad():
            flows.fit(made, whole.normal_of(background.score), u, background.w, **given)
        grid = np.meshgrid(*(np.linspace(0, 1, axis.size) for axis in axes), indexing="ij")
        at = np.stack([g.ravel() for g in grid], 1)
        v = np.tile(whole.normal, len(at))
        t = made(
            torch.as_tensor(v, dtype=torch.float32),
            torch.as_tensor(np.repeat(at, len(whole.normal), 0), dtype=torch.float32),
        )[0]
        return axes, t.detach().double().numpy().reshape(*grid[0].shape, -1)

    def forward(self, score: Tensor, z: Tensor) -> Tensor:
        """Shape (n,)."""
        if self.surface is None:
            raise InputError("posthoc: Transport is not fitted yet")
        moved: Tensor = self.surface(score, z)
        return moved


@dataclass(frozen=True)
class Whole:
    """Background at all nuisances together: scores and their normal quantiles, straight on at both ends."""

    scores: Array  # (thresholds,), ascending
    normal: Array

    @classmethod
    def of(cls, background: Background, *, number: int) -> Whole:
        """From its events."""
        at = regression.levels(background.w, number=number)
        scores = quantiles(background.score, background.w, at).astype(np.float32).astype(np.float64)
        kept = np.append(np.diff(scores) > 0, True)
        if np.count_nonzero(kept) < 3:
            raise InputError(
                "posthoc: the background's score takes hardly more than two values; a map of it says nothing"
            )
        return cls(scores[kept], ndtri(at[kept]))

    def normal_of(self, score: Array) -> Array:
        """Phi^-1(F(s))."""
        return _straight_on(score, self.scores, self.normal)

    def score(self, normal: Array) -> Array:
        """F^-1(Phi(v))."""
        return _straight_on(normal, self.normal, self.scores)


def ndtri_of_odds(odds: Array) -> Array:
    """The normal quantile of a share with these log odds, precise in both tails."""
    share = 1 / (1 + np.exp(np.abs(odds)))
    return np.asarray(np.sign(odds) * -ndtri(share))


def _straight_on(x: Array, known: Array, values: Array) -> Array:
    first, last = ((values[b] - values[a]) / (known[b] - known[a]) for a, b in ((0, 1), (-2, -1)))
    inside = np.interp(x, known, values)
    beyond = first * np.minimum(x - known[0], 0) + last * np.maximum(x - known[-1], 0)
    return np.asarray(inside + beyond)
