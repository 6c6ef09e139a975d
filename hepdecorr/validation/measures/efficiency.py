"""Weighted efficiencies above a threshold, as a whole and in bins of the nuisance."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from hepdecorr.errors import InputError
from hepdecorr.validation.measures.events import checked, sums
from hepdecorr.validation.measures.numbers import ONE_SIGMA, Array, Measured, Record


class Tail:
    """One class's scores, sorted, with the weight above every one of them."""

    def __init__(self, score: Array, weight: Array) -> None:
        order = np.argsort(score, kind="stable")[::-1]
        descending, ordered = score[order], weight[order]
        # Only the last of a group of tied scores can stand before a threshold.
        last = np.append(np.flatnonzero(np.diff(descending)), len(descending) - 1)
        self.scores = descending[last]
        self.above = np.cumsum(ordered)[last]
        self.squares = np.cumsum(np.square(ordered))[last]
        self.counts = last + 1
        self.entries = len(score)

    @property
    def total(self) -> float:
        return float(self.above[-1])

    def threshold(self, efficiency: float) -> float:
        """The lowest cut with a share of at most `efficiency` above it, half-way between two scores."""
        if not 0 < efficiency < 1:
            raise InputError(
                f"working point: efficiency {efficiency:.6g}, rejection {1 - efficiency:.6g}; both must lie "
                "between 0 and 1"
            )
        taken = int(np.searchsorted(self.above, efficiency * self.total * (1 + 1e-9), side="right"))
        if taken == 0:
            raise InputError(
                f"no event passes at efficiency {efficiency:.4g} (rejection {1 - efficiency:.4g}): "
                f"{self.entries} events, and the highest score {self.scores[0]:.6g} is shared by "
                f"{self.above[0] / self.total:.2%} of the weight; ask for a lower rejection, measure on more "
                "events, or use the logit if a saturated score ties them"
            )
        if taken == len(self.scores):
            return float(self.scores[-1]) - 1.0
        return float((self.scores[taken - 1] + self.scores[taken]) / 2)

    def quantiles(self, efficiencies: Array) -> Array:
        """Scores above or at which the shares `efficiencies` lie, no tie rule: for curves and draws."""
        place = np.searchsorted(self.above, np.asarray(efficiencies) * self.total * (1 - 1e-9))
        return np.asarray(self.scores[np.clip(place, 0, len(self.scores) - 1)])

    def efficiencies(self, cuts: Array) -> Array:
        """Share of the weight at or above each cut."""
        place = np.searchsorted(-self.scores, -np.asarray(cuts), side="right")
        return np.concatenate([[0.0], self.above])[place] / self.total

    def variances(self, cuts: Array) -> Array:
        """Variance of `efficiencies`: binomial, with weights."""
        place = np.searchsorted(-self.scores, -np.asarray(cuts), side="right")
        share = self.efficiencies(cuts)
        passed = np.concatenate([[0.0], self.squares])[place]
        failed = self.squares[-1] - passed
        return np.asarray((passed * np.square(1 - share) + failed * np.square(share)) / self.total**2)

    def efficiency(self, cut: float) -> float:
        """Share of the weight above the cut."""
        return float(self.efficiencies(np.array([np.nextafter(cut, math.inf)]))[0])

    def passing(self, cut: float) -> int:
        """Number of entries above the cut."""
        place = int(np.searchsorted(-self.scores, -cut, side="left"))
        return int(self.counts[place - 1]) if place else 0

    def events(self, cut: float) -> float:
        """Effective number of events behind the efficiency at the cut."""
        share = self.efficiency(cut)
        variance = float(self.variances(np.array([np.nextafter(cut, math.inf)]))[0])
        return share * (1 - share) / variance if variance > 0 else self.total**2 / float(self.squares[-1])

    def at_efficiencies(self, leader: Tail, shares: Array) -> Array:
        """Own efficiencies at the cuts where the leader's are `shares`."""
        return self.efficiencies(leader.quantiles(shares))

    def interval(self, cut: float, *, level: float = ONE_SIGMA) -> Measured:
        """The efficiency at the cut with its Clopper-Pearson interval."""
        share, events = self.efficiency(cut), self.events(cut)
        low, high = clopper_pearson(np.array([share * events]), np.array([events]), level=level)
        return Measured(share, float(low[0]), float(high[0]), math.sqrt(share * (1 - share) / events), level)


def binomial(tail: Tail, cut: float) -> Any:
    """The distribution of the share above the cut: a beta with effective counts (Jeffreys' at the ends)."""
    share, events = tail.efficiency(cut), tail.events(cut)
    passed, failed = share * events, (1 - share) * events
    ends = 0.5 if min(passed, failed) < 0.5 else 0.0
    return stats.beta(passed + ends, failed + ends)


def clopper_pearson(passed: Array, total: Array, *, level: float = ONE_SIGMA) -> tuple[Array, Array]:
    """Ends of the central interval of binomial shares (Biometrika 26 (1934) 404); counts may be effective.

    Where nothing was tried the interval is [0, 1].
    """
    alpha = (1 - level) / 2
    passed, failed = np.asarray(passed, float), np.asarray(total, float) - passed
    with np.errstate(invalid="ignore"):
        low = np.where(passed > 0, stats.beta.ppf(alpha, passed, failed + 1), 0.0)
        high = np.where(failed > 0, stats.beta.ppf(1 - alpha, passed + 1, failed), 1.0)
    return low, high


@dataclass(frozen=True)
class Profile(Record):
    """Background efficiency in bins of the nuisance at one threshold; NaN where a bin is empty."""

    rejection: float
    threshold: float
    edges: Array  # (bins + 1,) in the nuisance's unit
    efficiency: Array
    low: Array
    high: Array
    events: Array  # entries in each bin
    outside: int  # entries outside the range


def profile(
    logit: npt.ArrayLike,
    nuisance: npt.ArrayLike,
    *,
    threshold: float,
    rejection: float,
    bins: int,
    range: tuple[float, float],  # noqa: A002  the name numpy and hist use
    weight: npt.ArrayLike | None = None,
    level: float = ONE_SIGMA,
) -> Profile:
    """Share of the events above the threshold in equal bins of the nuisance, with Clopper-Pearson ends.

    logit, nuisance, weight: (events,), one class. A flat profile is what 'no sculpting' means; effective
    counts are taken bin by bin.
    """
    score, z, w = checked(weight, logit=logit, nuisance=nuisance)
    edges = np.linspace(*range, bins + 1)
    place = indices(z, edges)
    inside = place < bins
    place, w, passing = place[inside], w[inside], score[inside] > threshold

    total, passed = sums(place, w, bins), sums(place, w * passing, bins)
    squares, squares_passed = sums(place, w**2, bins), sums(place, w**2 * passing, bins)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = passed / total
        variance = (squares_passed * (1 - share) ** 2 + (squares - squares_passed) * share**2) / total**2
        behind = np.where(variance > 0, share * (1 - share) / variance, total**2 / squares)
    low, high = clopper_pearson(np.nan_to_num(share * behind), np.nan_to_num(behind), level=level)
    low, high = np.where(total > 0, low, np.nan), np.where(total > 0, high, np.nan)
    entries = np.bincount(place, minlength=bins).astype(np.float64)
    return Profile(rejection, threshold, edges, share, low, high, entries, int(np.count_nonzero(~inside)))


def indices(values: Array, edges: Array) -> npt.NDArray[np.int64]:
    """Bin of every value; the last bin holds its upper edge; `bins` stands for outside the range."""
    bins = len(edges) - 1
    place = np.searchsorted(edges, values, side="right") - 1
    place[values == edges[-1]] = bins - 1
    place[(place < 0) | (place >= bins)] = bins
    return np.asarray(place, dtype=np.int64)
