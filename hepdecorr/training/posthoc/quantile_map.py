"""The background's distribution of the score given its nuisances, on a grid: what maps are made of.

The score becomes the background's conditional quantile: flat in the nuisance at every cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from hepdecorr.errors import InputError, suggest
from hepdecorr.stats.arrays import effective_count
from hepdecorr.training.posthoc import distribution_regression
from hepdecorr.training.posthoc.base import BackgroundSample, FloatArray, ScoreTransform
from hepdecorr.training.posthoc.grid import (
    GridAxis,
    GridInterpolation,
    equal_weight_knots,
    weighted_quantiles,
)

METHODS = ("smooth", "binned")
NUM_KNOTS = (65, 25)  # knots in each of one or two nuisances
MIN_LOG_ODDS_STEP = 1e-3  # of the log odds from one threshold to the next: a map keeps the order of scores


@dataclass(frozen=True)
class DistributionEstimator:
    """How it is estimated.

    form: 'smooth' fits the log odds of F at `thresholds` scores by penalised splines of `pieces` polynomials
    in the nuisance's rank (see regression); default 12 for one nuisance, 5 for each of two.  'binned' counts
    in `bins` of equal content, or where there are two nuisances in about as many cells; with `interpolate`
    all is linear between the bins' medians, without it there are steps, which a finely binned spectrum shows.
    """

    method: str = "smooth"
    bins: int = 20
    interpolate: bool = True
    thresholds: int = 81
    spline_pieces: int | None = None

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise InputError(f"posthoc: no form {self.method!r}{suggest(str(self.method), METHODS)}")
        numbers = {
            "bins": (self.bins, 2),
            "thresholds": (self.thresholds, 5),
            "pieces": (self.spline_pieces or 1, 1),
        }
        for name, (value, least) in numbers.items():
            if type(value) is not int or value < least:
                raise InputError(f"posthoc: {name} must be a whole number of at least {least}, not {value!r}")

    def fit(self, background: BackgroundSample) -> ConditionalDistribution:
        """The distribution; InputError for a bin without enough events."""
        at = distribution_regression.threshold_probabilities(background.w, num_thresholds=self.thresholds)
        # float32, as the graph has them; a score that many events share gives one threshold.
        scores = np.unique(weighted_quantiles(background.score, background.w, at).astype(np.float32)).astype(
            float
        )
        if len(scores) < 3:
            raise InputError(
                "posthoc: the background's score takes hardly more than two values; a map of it says nothing"
            )
        axes, odds = (self._fit_smooth if self.method == "smooth" else self._fit_binned)(background, scores)
        steps = np.maximum(np.diff(odds, axis=-1), MIN_LOG_ODDS_STEP)
        rising = np.concatenate([odds[..., :1], odds[..., :1] + np.cumsum(steps, -1)], -1)
        return ConditionalDistribution(tuple(axes), scores, rising)

    def _fit_smooth(
        self, background: BackgroundSample, scores: FloatArray
    ) -> tuple[list[GridAxis], FloatArray]:
        two = background.z.shape[1] - 1
        axes = [
            GridAxis(equal_weight_knots(z, background.w, num_knots=NUM_KNOTS[two])) for z in background.z.T
        ]
        u = np.stack([rank_along_axis(axis, z) for axis, z in zip(axes, background.z.T, strict=True)], 1)
        odds = distribution_regression.fit_conditional_log_odds(
            background.score,
            u,
            background.w,
            thresholds=scores,
            grid_points=[np.linspace(0, 1, axis.size) for axis in axes],
            spline_pieces=self.spline_pieces or (12, 5)[two],
        )
        return axes, odds

    def _fit_binned(
        self, background: BackgroundSample, scores: FloatArray
    ) -> tuple[list[GridAxis], FloatArray]:
        axes, places = equal_content_cells(background, bins=self.bins, interpolate=self.interpolate)
        shape = tuple(axis.size for axis in axes)
        odds = np.empty((int(np.prod(shape)), len(scores)))
        for cell in range(len(odds)):
            own = places == cell
            score, w = background.score[own], background.w[own]
            if effective_count(w) < 2:
                raise InputError(
                    f"posthoc: a bin of the nuisance has {effective_count(w):.1f} effective "
                    "background events; "
                    f"take fewer bins than {self.bins}, or form: smooth"
                )
            scale = w.sum() / np.square(w).sum()
            below = scale * np.bincount(np.searchsorted(scores, score), w, len(scores) + 1).cumsum()
            # Half an event on either side: no share is 0 or 1.
            odds[cell] = np.log(below[:-1] + 0.5) - np.log(below[-1] - below[:-1] + 0.5)
        return axes, odds.reshape(*shape, len(scores))


@dataclass(frozen=True)
class ConditionalDistribution:
    """Log odds of F(score | nuisances), rising along the last axis, on a grid of nuisances and scores."""

    axes: tuple[GridAxis, ...]
    scores: FloatArray  # (thresholds,), ascending
    log_odds: FloatArray  # (m1, ..., mk, thresholds)

    def quantile(self, probability: float) -> FloatArray:
        """The score below which this share of the background lies, at each point of the nuisances' grid."""
        wanted = np.log(probability / (1 - probability))
        rows = self.log_odds.reshape(-1, len(self.scores))
        found = [np.interp(wanted, row, self.scores) for row in rows]
        return np.array(found).reshape(self.log_odds.shape[:-1])


class ScoreMap(nn.Module):
    """A function of score and nuisances on a grid, straight on beyond the scores at its ends."""

    end_slopes: Tensor

    def __init__(self, axes: Sequence[GridAxis], scores: FloatArray, values: FloatArray) -> None:
        super().__init__()
        self.axes, self.score_axis, self.grid = (
            nn.ModuleList(axes),
            GridAxis(scores),
            GridInterpolation(values),
        )
        reach = max(1, len(scores) // 20)
        ends = [(0, reach), (len(scores) - 1 - reach, len(scores) - 1)]
        slopes = [float(np.mean(values[..., b] - values[..., a])) / (scores[b] - scores[a]) for a, b in ends]
        self.register_buffer("end_slopes", torch.tensor(slopes, dtype=torch.float32))

    def forward(self, score: Tensor, z: Tensor) -> Tensor:
        """Shape (n,) of score (n,) and nuisances (n, k)."""
        places = [axis(z[:, k]) for k, axis in enumerate(self.axes)]
        inside = self.grid([*places, self.score_axis(score)])
        below = (score - self.score_axis.knots[0]).clamp_max(0)
        above = (score - self.score_axis.knots[-1]).clamp_min(0)
        found: Tensor = inside + self.end_slopes[0] * below + self.end_slopes[1] * above
        return found


def rank_along_axis(axis: GridAxis, z: FloatArray) -> FloatArray:
    """Where z lies along an axis, from 0 to 1, as the graph will find it."""
    place = axis(torch.as_tensor(z, dtype=torch.float32)).double().numpy()
    return np.asarray(place / max(axis.size - 1, 1))


def equal_content_cells(
    background: BackgroundSample, *, bins: int, interpolate: bool
) -> tuple[list[GridAxis], np.ndarray]:
    """Axes of bins of equal content, and the bin of each event, first axis slowest."""
    each = bins if background.z.shape[1] == 1 else max(2, round(bins**0.5))
    axes, places = [], np.zeros(len(background.w), np.int64)
    for z in background.z.T:
        edges = np.unique(weighted_quantiles(z, background.w, np.arange(1, each) / each).astype(np.float32))
        edges = edges[edges > z.min()]
        own = np.searchsorted(edges, z, side="right")
        parts = [(z[own == k], background.w[own == k]) for k in range(len(edges) + 1)]
        if empty := sum(1 for values, _ in parts if not len(values)):
            raise InputError(
                f"posthoc: {empty} bins of the nuisance have no background events; take fewer bins than "
                f"{bins}, or form: smooth"
            )
        middles = np.array([weighted_quantiles(values, w, np.array([0.5]))[0] for values, w in parts])
        axes.append(GridAxis(middles) if interpolate else GridAxis(edges, as_edges=True))
        places = places * (len(edges) + 1) + own
    return axes, places


class QuantileMap(ScoreTransform):
    """t = log F(s|z) / (1 - F(s|z)), F the background's cumulative distribution of the score s given z.

    Its sigmoid is F itself: background is uniform in it at every z, and a cut at any threshold passes the
    same share everywhere.  The map keeps the order of scores at each z.  A score ordered by the likelihood
    ratio at each z is therefore, so mapped, the most powerful of all that are independent of z on background
    (the lemma of Neyman and Pearson, Phil. Trans. R. Soc. A 231 (1933) 289, at each z).

    nuisance: one, or a list of two.  The other arguments are those of Estimate.
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
    ) -> None:
        super().__init__(nuisance, max_nuisances=2)
        self.estimator = DistributionEstimator(method, bins, interpolate, thresholds, spline_pieces)
        self.score_map: ScoreMap | None = None

    def fit(self, background: BackgroundSample) -> None:
        """From background events."""
        found = self.estimator.fit(background)
        self.score_map = ScoreMap(found.axes, found.scores, found.log_odds)

    def forward(self, score: Tensor, z: Tensor) -> Tensor:
        """Shape (n,)."""
        if self.score_map is None:
            raise InputError("posthoc: QuantileMap is not fitted yet")
        mapped: Tensor = self.score_map(score, z)
        return mapped
