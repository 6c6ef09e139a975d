"""A monotone flow of one variable, conditioned on the nuisances: rational-quadratic splines by a network.

Background at each nuisance is moved onto background as a whole, in the order of its scores.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.special import ndtri
from torch import Tensor, nn

from hepdecorr.errors import InputError, suggest
from hepdecorr.training.posthoc import distribution_regression
from hepdecorr.training.posthoc.base import BackgroundSample, FloatArray, ScoreTransform
from hepdecorr.training.posthoc.grid import GridAxis, equal_weight_knots, weighted_quantiles
from hepdecorr.training.posthoc.quantile_map import (
    MIN_LOG_ODDS_STEP,
    NUM_KNOTS,
    DistributionEstimator,
    ScoreMap,
    rank_along_axis,
)

SPLINE_BOUND = 4.5  # the splines reach so far to either side; beyond, the flow is the identity
MIN_PIECE_SIZE = 1e-3  # width, height and slope of a piece


class ConditionalSplineFlow(nn.Module):
    """t = g(v; u), rising in v, with t standard normal at each u where v is background.

    Durkan, Bekasov, Murray, Papamakarios, Neural spline flows, NeurIPS 2019 (1906.04032), eqs. 4 and 5; the
    widths, heights and slopes of the `pieces` are what a small network makes of u (n, k).
    """

    def __init__(self, num_nuisances: int, *, spline_pieces: int, hidden: Sequence[int]) -> None:
        super().__init__()
        self.spline_pieces = spline_pieces
        sizes = [num_nuisances, *hidden]
        layers: list[nn.Module] = []
        for a, b in itertools.pairwise(sizes):
            layers += [nn.Linear(a, b), nn.SiLU()]
        last = nn.Linear(sizes[-1], 3 * spline_pieces - 1)
        nn.init.zeros_(last.weight)  # begins as the identity
        nn.init.zeros_(last.bias)
        self.network = nn.Sequential(*layers, last)

    def forward(self, v: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        """t and log dt/dv, shape (n,) each, of v (n,) and u (n, k)."""
        widths, heights, slopes = self._spline_parameters(u)
        x, y = (F.pad(part.cumsum(1), (1, 0)) - SPLINE_BOUND for part in (widths, heights))
        inside = v.abs() < SPLINE_BOUND
        at = v.clamp(-SPLINE_BOUND + 1e-4, SPLINE_BOUND - 1e-4)
        piece = torch.searchsorted(x[:, 1:-1].contiguous(), at[:, None])

        def own(values: Tensor, k: Tensor = piece) -> Tensor:
            return values.gather(1, k)[:, 0]

        width, height = own(widths), own(heights)
        low, high, steep = own(slopes), own(slopes, piece + 1), height / width
        xi = ((at - own(x)) / width).clamp(0, 1)
        mixed = xi * (1 - xi)
        below = steep + (high + low - 2 * steep) * mixed
        t = own(y) + height * (steep * xi**2 + low * mixed) / below
        rise = steep**2 * (high * xi**2 + 2 * steep * mixed + low * (1 - xi) ** 2) / below**2
        return torch.where(inside, t, v), torch.where(inside, rise.log(), 0.0)

    def _spline_parameters(self, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        k = self.spline_pieces
        raw = self.network(2 * u - 1)
        widths, heights = (
            2 * SPLINE_BOUND * (MIN_PIECE_SIZE + (1 - MIN_PIECE_SIZE * k) * part.softmax(1))
            for part in (raw[:, :k], raw[:, k : 2 * k])
        )
        # Slopes of 1 where the network says 0, and at both ends, where the identity goes on.
        slopes = MIN_PIECE_SIZE + F.softplus(raw[:, 2 * k :] + math.log(math.expm1(1 - MIN_PIECE_SIZE)))
        return widths, heights, F.pad(slopes, (1, 1), value=1.0)


def fit_flow(
    flow: ConditionalSplineFlow,
    v: FloatArray,
    u: FloatArray,
    w: FloatArray,
    *,
    steps: int,
    batch_size: int,
    lr: float,
    seed: int,
) -> None:
    """Maximum likelihood of background, (n,), (n, k), (n,): Adam with a falling rate, on shuffled batches."""
    data = [torch.as_tensor(part, dtype=torch.float32) for part in (v, u, w)]
    draw = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.Adam(flow.parameters(), lr=lr)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    order = torch.empty(0, dtype=torch.int64)
    for _ in range(steps):
        if len(order) < min(batch_size, len(v)):
            order = torch.randperm(len(v), generator=draw)
        chosen, order = order[:batch_size], order[batch_size:]
        own, at, weight = (part[chosen] for part in data)
        t, rise = flow(own, at)
        loss = (weight * (t**2 / 2 - rise)).sum() / weight.sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        falling.step()


METHODS = ("smooth", "binned", "flow")
FLOW_DEFAULTS = {
    "spline_pieces": 12,
    "hidden": (32, 32),
    "steps": 2000,
    "batch_size": 4096,
    "lr": 5e-3,
    "seed": 0,
}


class Transport(ScoreTransform):
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
        method: str = "smooth",
        bins: int = 20,
        interpolate: bool = True,
        thresholds: int = 81,
        spline_pieces: int | None = None,
        flow: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(nuisance, max_nuisances=2)
        if method not in METHODS:
            raise InputError(f"posthoc: Transport: no form {method!r}{suggest(str(method), METHODS)}")
        for key in flow or {}:
            if key not in FLOW_DEFAULTS:
                raise InputError(f"posthoc: Transport: flow: no {key!r}{suggest(str(key), FLOW_DEFAULTS)}")
        self.flow_options: dict[str, Any] = (
            {**FLOW_DEFAULTS, **(flow or {})} if method == "flow" or flow else {}
        )
        if flow and method != "flow":
            raise InputError("posthoc: Transport: 'flow' is for 'form: flow'")
        self.estimator = DistributionEstimator(
            "smooth" if self.flow_options else method, bins, interpolate, thresholds, spline_pieces
        )
        self.score_map: ScoreMap | None = None

    def fit(self, background: BackgroundSample) -> None:
        """From background events."""
        whole = MarginalDistribution.from_background(background, num_thresholds=self.estimator.thresholds)
        if self.flow_options:
            axes, normal = self._fit_flow(background, whole)
            values = whole.from_normal(normal)
        else:
            found = self.estimator.fit(background)
            axes, values = list(found.axes), whole.from_normal(normal_quantile_from_log_odds(found.log_odds))
            whole = MarginalDistribution(found.scores, whole.to_normal(found.scores))
        steps = np.maximum(np.diff(values, axis=-1), MIN_LOG_ODDS_STEP * np.diff(whole.scores))
        values = np.concatenate([values[..., :1], values[..., :1] + steps.cumsum(-1)], -1)
        self.score_map = ScoreMap(axes, whole.scores, values)

    def _fit_flow(
        self, background: BackgroundSample, marginal: MarginalDistribution
    ) -> tuple[list[GridAxis], FloatArray]:
        """Axes of the nuisances, and what the flow makes of the thresholds at each point of their grid."""
        number = NUM_KNOTS[len(self.nuisances) - 1]
        axes = [GridAxis(equal_weight_knots(z, background.w, num_knots=number)) for z in background.z.T]
        u = np.stack([rank_along_axis(axis, z) for axis, z in zip(axes, background.z.T, strict=True)], 1)
        given = dict(self.flow_options)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(given["seed"])
            made = ConditionalSplineFlow(
                len(axes), spline_pieces=given.pop("spline_pieces"), hidden=given.pop("hidden")
            )
        with torch.enable_grad():
            fit_flow(made, marginal.to_normal(background.score), u, background.w, **given)
        grid = np.meshgrid(*(np.linspace(0, 1, axis.size) for axis in axes), indexing="ij")
        at = np.stack([g.ravel() for g in grid], 1)
        v = np.tile(marginal.normal, len(at))
        t = made(
            torch.as_tensor(v, dtype=torch.float32),
            torch.as_tensor(np.repeat(at, len(marginal.normal), 0), dtype=torch.float32),
        )[0]
        return axes, t.detach().double().numpy().reshape(*grid[0].shape, -1)

    def forward(self, score: Tensor, z: Tensor) -> Tensor:
        """Shape (n,)."""
        if self.score_map is None:
            raise InputError("posthoc: Transport is not fitted yet")
        moved: Tensor = self.score_map(score, z)
        return moved


@dataclass(frozen=True)
class MarginalDistribution:
    """Background at all nuisances together: scores and their normal quantiles, straight on at both ends."""

    scores: FloatArray  # (thresholds,), ascending
    normal: FloatArray

    @classmethod
    def from_background(cls, background: BackgroundSample, *, num_thresholds: int) -> MarginalDistribution:
        """From its events."""
        at = distribution_regression.threshold_probabilities(background.w, num_thresholds=num_thresholds)
        scores = weighted_quantiles(background.score, background.w, at).astype(np.float32).astype(np.float64)
        kept = np.append(np.diff(scores) > 0, True)
        if np.count_nonzero(kept) < 3:
            raise InputError(
                "posthoc: the background's score takes hardly more than two values; a map of it says nothing"
            )
        return cls(scores[kept], ndtri(at[kept]))

    def to_normal(self, score: FloatArray) -> FloatArray:
        """Phi^-1(F(s))."""
        return _interp_extrapolate(score, self.scores, self.normal)

    def from_normal(self, normal: FloatArray) -> FloatArray:
        """F^-1(Phi(v))."""
        return _interp_extrapolate(normal, self.normal, self.scores)


def normal_quantile_from_log_odds(log_odds: FloatArray) -> FloatArray:
    """The normal quantile of a share with these log odds, precise in both tails."""
    share = 1 / (1 + np.exp(np.abs(log_odds)))
    return np.asarray(np.sign(log_odds) * -ndtri(share))


def _interp_extrapolate(x: FloatArray, xp: FloatArray, fp: FloatArray) -> FloatArray:
    first, last = ((fp[b] - fp[a]) / (xp[b] - xp[a]) for a, b in ((0, 1), (-2, -1)))
    inside = np.interp(x, xp, fp)
    beyond = first * np.minimum(x - xp[0], 0) + last * np.maximum(x - xp[-1], 0)
    return np.asarray(inside + beyond)
