"""How well a score ranks signal above background: AUC, ROC curve, efficiencies at working points."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from hepdecorr.errors import InputError
from hepdecorr.validation.measures.efficiency import Tail, binomial
from hepdecorr.validation.measures.events import checked, classes, effective
from hepdecorr.validation.measures.numbers import ONE_SIGMA, Array, Measured, Record

REPLICAS = 1000


@dataclass(frozen=True)
class SignalEfficiency(Record):
    """Signal efficiency at a fixed background rejection."""

    rejection: float  # asked
    rejection_found: float  # differs where scores are tied or events few
    threshold: float  # pass: logit > threshold
    efficiency: Measured
    background_events: int  # entries that pass: what the threshold rests on


@dataclass(frozen=True)
class Roc(Record):
    """Signal efficiency against background efficiency, with a statistical band."""

    background_efficiency: Array
    signal_efficiency: Array
    low: Array
    high: Array


def auc(
    logit: npt.ArrayLike,
    label: npt.ArrayLike,
    *,
    weight: npt.ArrayLike | None = None,
    level: float = ONE_SIGMA,
) -> Measured:
    """Area under the ROC curve, ties counting half, with DeLong's interval.

    logit, label (0 background, 1 signal), weight: (events,). The standard deviation is that of DeLong,
    DeLong, Clarke-Pearson, Biometrics 44 (1988) 837, with weighted moments and effective counts; the
    interval is symmetric in log(A / (1 - A)), so that it stays inside [0, 1].
    """
    score, y, w = checked(weight, logit=logit, label=label)
    background, signal = classes(y)
    below, above = placements(score[background], w[background], score[signal], w[signal])
    area = float(np.average(below, weights=w[signal]))
    variance = variance_of_mean(below, w[signal]) + variance_of_mean(above, w[background])
    return on_logit_scale(
        area, math.sqrt(variance), level=level, events=min(effective(w[signal]), effective(w[background]))
    )


def placements(background: Array, b_weight: Array, signal: Array, s_weight: Array) -> tuple[Array, Array]:
    """DeLong's structural components: the background below each signal event, the signal above each other.

    Shares of the other class, what is tied counting half; the mean of either is the area.
    """
    return _below(background, b_weight, signal), 1.0 - _below(signal, s_weight, background)


def _below(values: Array, weight: Array, at: Array) -> Array:
    order = np.argsort(values, kind="stable")
    ordered, sums = values[order], np.concatenate([[0.0], np.cumsum(weight[order])])
    places = (np.searchsorted(ordered, at, side=side) for side in ("left", "right"))
    low, high = (sums[place] for place in places)
    return np.asarray((low + high) / 2 / sums[-1])


def variance_of_mean(values: Array, weight: Array) -> float:
    """Of the weighted mean of independent events; weights are theirs, counts effective."""
    mean = np.average(values, weights=weight)
    size = effective(weight)
    correction = size / (size - 1) if size > 1 else 1.0
    return float(np.sum(np.square(weight * (values - mean))) / weight.sum() ** 2 * correction)


def on_logit_scale(area: float, std: float, *, level: float, events: float) -> Measured:
    """An area with an interval that is symmetric in log(A / (1 - A)); events: of the smaller class."""
    z = float(stats.norm.ppf(0.5 + level / 2))
    if std == 0 or not 0 < area < 1:
        # Perfect separation leaves no variance to estimate; the chance to see it bounds the area.
        slack = 1 - (0.5 - level / 2) ** (1 / max(events, 1.0))
        return Measured(area, max(area - slack, 0.0), min(area + slack, 1.0), std, level)
    centre, width = math.log(area / (1 - area)), z * std / (area * (1 - area))
    low, high = (1 / (1 + math.exp(-(centre + side))) for side in (-width, width))
    return Measured(area, low, high, std, level)


def signal_efficiency(
    logit: npt.ArrayLike,
    label: npt.ArrayLike,
    *,
    rejection: float,
    weight: npt.ArrayLike | None = None,
    level: float = ONE_SIGMA,
    seed: int = 0,
) -> SignalEfficiency:
    """Signal efficiency where the weighted background efficiency is at most 1 - rejection.

    The threshold lies half-way between two background scores, so > and >= agree; a group of tied scores
    falls below it as a whole. The interval is a bootstrap over both classes: the background's share above
    the threshold and the signal's are drawn from their (effective) binomials. InputError when no
    background event can pass.
    """
    score, y, w = checked(weight, logit=logit, label=label)
    background, signal = classes(y)
    tails = Tail(score[background], w[background]), Tail(score[signal], w[signal])
    return efficiency_at(*tails, rejection=rejection, level=level, seed=seed)


def efficiency_at(
    tail: Tail, other: Tail, *, rejection: float, level: float = ONE_SIGMA, seed: int = 0
) -> SignalEfficiency:
    """`signal_efficiency` of background `tail` and signal `other`."""
    cut = tail.threshold(1 - rejection)
    draws = _swing(tail, other, cut=cut, seed=seed)
    found = _interval(other.efficiency(cut), draws, level)
    return SignalEfficiency(rejection, 1 - tail.efficiency(cut), cut, found, tail.passing(cut))


def rejection_factor(
    logit: npt.ArrayLike,
    label: npt.ArrayLike,
    *,
    efficiency: float = 0.5,
    weight: npt.ArrayLike | None = None,
    level: float = ONE_SIGMA,
    seed: int = 0,
) -> Measured:
    """1 / (background efficiency) at a fixed signal efficiency; R50 at the default of one half.

    The interval is a bootstrap over both classes, as in `signal_efficiency`. When no background event
    passes the value is the number of effective background events, a lower bound; `high` is infinite.
    """
    score, y, w = checked(weight, logit=logit, label=label)
    background, signal = classes(y)
    tails = Tail(score[background], w[background]), Tail(score[signal], w[signal])
    return factor_at(*tails, efficiency=efficiency, level=level, seed=seed)


def factor_at(
    other: Tail, tail: Tail, *, efficiency: float = 0.5, level: float = ONE_SIGMA, seed: int = 0
) -> Measured:
    """`rejection_factor` of background `other` and signal `tail`."""
    cut = tail.threshold(efficiency)
    draws = _swing(tail, other, cut=cut, seed=seed)
    value = other.efficiency(cut)
    low, high = np.quantile(draws, [0.5 - level / 2, 0.5 + level / 2])
    # No standard deviation: that of 1 / (few events) has no meaning.
    least = 1 / max(float(high), value)
    if value == 0:
        return Measured(other.total**2 / float(other.squares[-1]), least, math.inf, None, level)
    most = 1 / min(float(low), value) if low > 0 else math.inf
    return Measured(1 / value, least, most, None, level)


def _swing(leader: Tail, follower: Tail, *, cut: float, seed: int) -> Array:
    """Draws of the follower's efficiency when leader's quantile and follower's count both fluctuate."""
    random = np.random.default_rng(seed)
    shares = binomial(leader, cut).rvs(REPLICAS, random_state=random)
    efficiencies = follower.at_efficiencies(leader, shares)
    spread = binomial(follower, cut).rvs(REPLICAS, random_state=random) - follower.efficiency(cut)
    return np.asarray(np.clip(efficiencies + spread, 0.0, 1.0))


def _interval(value: float, draws: Array, level: float) -> Measured:
    low, high = np.quantile(draws, [0.5 - level / 2, 0.5 + level / 2])
    return Measured(value, min(float(low), value), max(float(high), value), float(np.std(draws)), level)


def roc(
    logit: npt.ArrayLike, label: npt.ArrayLike, *, weight: npt.ArrayLike | None = None, points: int = 201
) -> Roc:
    """The ROC curve at `points` background efficiencies, half of them spaced in its logarithm.

    The band (68.3 %) takes the binomial errors of both classes, the background's through the slope of the
    curve (delta method).
    """
    score, y, w = checked(weight, logit=logit, label=label)
    background, signal = classes(y)
    return curve(Tail(score[background], w[background]), Tail(score[signal], w[signal]), points=points)


def curve(tail: Tail, other: Tail, *, points: int = 201) -> Roc:
    """`roc` of background `tail` and signal `other`."""
    # With weights the lightest event alone would stretch the curve beyond what is measured.
    least = 1 / max(tail.total**2 / float(tail.squares[-1]), 2.0)
    grid = np.unique(
        np.concatenate([np.geomspace(least, 1, points // 2 + 1), np.linspace(least, 1, points // 2)])
    )
    cuts = tail.quantiles(grid)
    x, y_values = tail.efficiencies(cuts), other.efficiencies(cuts)
    x, first = np.unique(x, return_index=True)
    y_values, cuts = y_values[first], cuts[first]
    slope = np.gradient(y_values, x) if len(x) > 1 else np.zeros_like(x)
    std = np.sqrt(other.variances(cuts) + np.square(slope) * tail.variances(cuts))
    x, y_values, std = (np.concatenate([[0.0], column]) for column in (x, y_values, std))
    return Roc(x, y_values, np.clip(y_values - std, 0, 1), np.clip(y_values + std, 0, 1))


def closure(
    logit: npt.ArrayLike,
    *,
    threshold: float,
    rejection: float,
    weight: npt.ArrayLike | None = None,
    level: float = ONE_SIGMA,
) -> Closure:
    """Whether a frozen threshold rejects on these background events what it was chosen to reject.

    logit, weight: (events,), background only. The interval is Clopper-Pearson with effective counts.
    """
    score, w = checked(weight, logit=logit)
    found = Tail(score, w).interval(threshold, level=level)
    rejected = Measured(1 - found.value, 1 - found.high, 1 - found.low, found.std, level)
    if not 0 <= rejection < 1:
        raise InputError(f"rejection {rejection}: a background rejection lies in [0, 1), for example 0.95")
    pull = (rejected.value - rejection) / found.std if found.std else 0.0
    return Closure(rejection, rejected, threshold, pull, int(np.count_nonzero(score > threshold)))


@dataclass(frozen=True)
class Closure(Record):
    """Background rejection asked for, and found on an independent sample by the same threshold."""

    rejection: float
    found: Measured
    threshold: float
    pull: float  # (found - asked) / statistical error of this sample alone
    background_events: int
