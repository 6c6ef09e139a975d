"""The background's distribution of the score given its nuisances, on a grid: what maps are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from hepdecorr.catalogue import suggest
from hepdecorr.errors import InputError
from hepdecorr.learning.posthoc import regression
from hepdecorr.learning.posthoc.grid import Axis, Grid, knots, quantiles
from hepdecorr.learning.posthoc.transform import Array, Background
from hepdecorr.validation.measures.events import effective

FORMS = ("smooth", "binned")
POINTS = (65, 25)  # knots in each of one or two nuisances
LEAST_RISE = 1e-3  # of the log odds from one threshold to the next: a map keeps the order of scores


@dataclass(frozen=True)
class Estimate:
    """How it is estimated.

    form: 'smooth' fits the log odds of F at `thresholds` scores by penalised splines of `pieces` polynomials
    in the nuisance's rank (see regression); default 12 for one nuisance, 5 for each of two.  'binned' counts
    in `bins` of equal content, or where there are two nuisances in about as many cells; with `interpolate`
    all is linear between the bins' medians, without it there are steps, which a finely binned spectrum shows.
    """

    form: str = "smooth"
    bins: int = 20
    interpolate: bool = True
    thresholds: int = 81
    pieces: int | None = None

    def __post_init__(self) -> None:
        if self.form not in FORMS:
            raise InputError(f"posthoc: no form {self.form!r}{suggest(str(self.form), FORMS)}")
        numbers = {
            "bins": (self.bins, 2),
            "thresholds": (self.thresholds, 5),
            "pieces": (self.pieces or 1, 1),
        }
        for name, (value, least) in numbers.items():
            if type(value) is not int or value < least:
                raise InputError(f"posthoc: {name} must be a whole number of at least {least}, not {value!r}")

    def fit(self, background: Background) -> Distribution:
        """The distribution; InputError for a bin without enough events."""
        at = regression.levels(background.w, number=self.thresholds)
        # float32, as the graph has them; a score that many events share gives one threshold.
        scores = np.unique(quantiles(background.score, background.w, at).astype(np.float32)).astype(float)
        if len(scores) < 3:
            raise InputError(
                "posthoc: the background's score takes hardly more than two values; a map of it says nothing"
            )
        axes, odds = (self._smooth if self.form == "smooth" else self._binned)(background, scores)
        steps = np.maximum(np.diff(odds, axis=-1), LEAST_RISE)
        rising = np.concatenate([odds[..., :1], odds[..., :1] + np.cumsum(steps, -1)], -1)
        return Distribution(tuple(axes), scores, rising)

    def _smooth(self, background: Background, scores: Array) -> tuple[list[Axis], Array]:
        two = background.z.shape[1] - 1
        axes = [Axis(knots(z, background.w, number=POINTS[two])) for z in background.z.T]
        u = np.stack([ranked(axis, z) for axis, z in zip(axes, background.z.T, strict=True)], 1)
        odds = regression.conditional(
            background.score,
            u,
            background.w,
            thresholds=scores,
            at=[np.linspace(0, 1, axis.size) for axis in axes],
            pieces=self.pieces or (12, 5)[two],
        )
        return axes, odds

    def _binned(self, background: Background, scores: Array) -> tuple[list[Axis], Array]:
        axes, places = cells(background, bins=self.bins, interpolate=self.interpolate)
        shape = tuple(axis.size for axis in axes)
        odds = np.empty((int(np.prod(shape)), len(scores)))
        for cell in range(len(odds)):
            own = places == cell
            score, w = background.score[own], background.w[own]
            if effective(w) < 2:
                raise InputError(
                    f"posthoc: a bin of the nuisance has {effective(w):.1f} effective background events; "
                    f"take fewer bins than {self.bins}, or form: smooth"
                )
            scale = w.sum() / np.square(w).sum()
            below = scale * np.bincount(np.searchsorted(scores, score), w, len(scores) + 1).cumsum()
            # Half an event on either side: no share is 0 or 1.
            odds[cell] = np.log(below[:-1] + 0.5) - np.log(below[-1] - below[:-1] + 0.5)
        return axes, odds.reshape(*shape, len(scores))


@dataclass(frozen=True)
class Distribution:
    """Log odds of F(score | nuisances), rising along the last axis, on a grid of nuisances and scores."""

    axes: tuple[Axis, ...]
    scores: Array  # (thresholds,), ascending
    odds: Array  # (m1, ..., mk, thresholds)

    def quantile(self, share: float) -> Array:
        """The score below which this share of the background lies, at each point of the nuisances' grid."""
        wanted = np.log(share / (1 - share))
        rows = self.odds.reshape(-1, len(self.scores))
        found = [np.interp(wanted, row, self.scores) for row in rows]
        return np.array(found).reshape(self.odds.shape[:-1])


class Surface(nn.Module):
    """A function of score and nuisances on a grid, straight on beyond the scores at its ends."""

    slopes: Tensor

    def __init__(self, axes: Sequence[Axis], scores: Array, values: Array) -> None:
        super().__init__()
        self.axes, self.score, self.grid = nn.ModuleList(axes), Axis(scores), Grid(values)
        reach = max(1, len(scores) // 20)
        ends = [(0, reach), (len(scores) - 1 - reach, len(scores) - 1)]
        slopes = [float(np.mean(values[..., b] - values[..., a])) / (scores[b] - scores[a]) for a, b in ends]
        self.register_buffer("slopes", torch.tensor(slopes, dtype=torch.float32))

    def forward(self, score: Tensor, z: Tensor) -> Tensor:
        """Shape (n,) of score (n,) and nuisances (n, k)."""
        places = [axis(z[:, k]) for k, axis in enumerate(self.axes)]
        inside = self.grid([*places, self.score(score)])
        below = (score - self.score.knots[0]).clamp_max(0)
        above = (score - self.score.knots[-1]).clamp_min(0)
        found: Tensor = inside + self.slopes[0] * below + self.slopes[1] * above
        return found


def ranked(axis: Axis, z: Array) -> Array:
    """Where z lies along an axis, from 0 to 1, as the graph will find it."""
    place = axis(torch.as_tensor(z, dtype=torch.float32)).double().numpy()
    return np.asarray(place / max(axis.size - 1, 1))


def cells(background: Background, *, bins: int, interpolate: bool) -> tuple[list[Axis], np.ndarray]:
    """Axes of bins of equal content, and the bin of each event, first axis slowest."""
    each = bins if background.z.shape[1] == 1 else max(2, round(bins**0.5))
    axes, places = [], np.zeros(len(background.w), np.int64)
    for z in background.z.T:
        edges = np.unique(quantiles(z, background.w, np.arange(1, each) / each).astype(np.float32))
        edges = edges[edges > z.min()]
        own = np.searchsorted(edges, z, side="right")
        parts = [(z[own == k], background.w[own == k]) for k in range(len(edges) + 1)]
        if empty := sum(1 for values, _ in parts if not len(values)):
            raise InputError(
                f"posthoc: {empty} bins of the nuisance have no background events; take fewer bins than "
                f"{bins}, or form: smooth"
            )
        middles = np.array([quantiles(values, w, np.array([0.5]))[0] for values, w in parts])
        axes.append(Axis(middles) if interpolate else Axis(edges, steps=True))
        places = places * (len(edges) + 1) + own
    return axes, places
