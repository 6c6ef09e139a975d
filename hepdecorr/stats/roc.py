"""How well a score ranks signal above background: AUC, ROC curve, efficiencies at working points."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from hepdecorr.errors import InputError
from hepdecorr.stats.arrays import class_masks, effective_count, validate_arrays
from hepdecorr.stats.efficiency import ScoreTail, efficiency_distribution
from hepdecorr.stats.results import ONE_SIGMA, Array, Estimate, ResultRecord

NUM_REPLICAS = 1000


@dataclass(frozen=True)
class SignalEfficiency(ResultRecord):
    """Signal efficiency at a fixed background rejection."""

    rejection: float  # asked
    achieved_rejection: float  # differs where scores are tied or events few
    threshold: float  # pass: logit > threshold
    efficiency: Estimate
    background_events: int  # entries that pass: what the threshold rests on


@dataclass(frozen=True)
class Roc(ResultRecord):
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
) -> Estimate:
    """Area under the ROC curve, ties counting half, with DeLong's interval.

    logit, label (0 background, 1 signal), weight: (events,). The standard deviation is that of DeLong,
    DeLong, Clarke-Pearson, Biometrics 44 (1988) 837, with weighted moments and effective counts; the
    interval is symmetric in log(A / (1 - A)), so that it stays inside [0, 1].
    """
    score, y, w = validate_arrays(weight, logit=logit, label=label)
    background, signal = class_masks(y)
    below, above = delong_placements(score[background], w[background], score[signal], w[signal])
    area = float(np.average(below, weights=w[signal]))
    variance = variance_of_mean(below, w[signal]) + variance_of_mean(above, w[background])
    return logit_scale_interval(
        area,
        math.sqrt(variance),
        level=level,
        num_events=min(effective_count(w[signal]), effective_count(w[background])),
    )


def delong_placements(
    background: Array, b_weight: Array, signal: Array, s_weight: Array
) -> tuple[Array, Array]:
    """DeLong's structural components: the background below each signal event, the signal above each other.

    Shares of the other class, what is tied counting half; the mean of either is the area.
    """
    return _fraction_below(background, b_weight, signal), 1.0 - _fraction_below(signal, s_weight, background)


def _fraction_below(values: Array, weight: Array, at: Array) -> Array:
    order = np.argsort(values, kind="stable")
    ordered, sums = values[order], np.concatenate([[0.0], np.cumsum(weight[order])])
    places = (np.searchsorted(ordered, at, side=side) for side in ("left", "right"))
    low, high = (sums[place] for place in places)
    return np.asarray((low + high) / 2 / sums[-1])


def variance_of_mean(values: Array, weight: Array) -> float:
    """Of the weighted mean of independent events; weights are theirs, counts effective."""
    mean = np.average(values, weights=weight)
    size = effective_count(weight)
    correction = size / (size - 1) if size > 1 else 1.0
    return float(np.sum(np.square(weight * (values - mean))) / weight.sum() ** 2 * correction)


def logit_scale_interval(area: float, std: float, *, level: float, num_events: float) -> Estimate:
    """An area with an interval that is symmetric in log(A / (1 - A)); events: of the smaller class."""
    z = float(stats.norm.ppf(0.5 + level / 2))
    if std == 0 or not 0 < area < 1:
        # Perfect separation leaves no variance to estimate; the chance to see it bounds the area.
        slack = 1 - (0.5 - level / 2) ** (1 / max(num_events, 1.0))
        return Estimate(area, max(area - slack, 0.0), min(area + slack, 1.0), std, level)
    centre, width = math.log(area / (1 - area)), z * std / (area * (1 - area))
    low, high = (1 / (1 + math.exp(-(centre + side))) for side in (-width, width))
    return Estimate(area, low, high, std, level)


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
    score, y, w = validate_arrays(weight, logit=logit, label=label)
    background, signal = class_masks(y)
    tails = ScoreTail(score[background], w[background]), ScoreTail(score[signal], w[signal])
    return signal_efficiency_from_tails(*tails, rejection=rejection, level=level, seed=seed)


def signal_efficiency_from_tails(
    background_tail: ScoreTail,
    signal_tail: ScoreTail,
    *,
    rejection: float,
    level: float = ONE_SIGMA,
    seed: int = 0,
) -> SignalEfficiency:
    """`signal_efficiency` of background `tail` and signal `other`."""
    cut = background_tail.threshold(1 - rejection)
    draws = _fluctuate(background_tail, signal_tail, cut=cut, seed=seed)
    found = _bootstrap_interval(signal_tail.efficiency(cut), draws, level)
    return SignalEfficiency(
        rejection, 1 - background_tail.efficiency(cut), cut, found, background_tail.num_passing(cut)
    )


def rejection_factor(
    logit: npt.ArrayLike,
    label: npt.ArrayLike,
    *,
    efficiency: float = 0.5,
    weight: npt.ArrayLike | None = None,
    level: float = ONE_SIGMA,
    seed: int = 0,
) -> Estimate:
    """1 / (background efficiency) at a fixed signal efficiency; R50 at the default of one half.

    The interval is a bootstrap over both classes, as in `signal_efficiency`. When no background event
    passes the value is the number of effective background events, a lower bound; `high` is infinite.
    """
    score, y, w = validate_arrays(weight, logit=logit, label=label)
    background, signal = class_masks(y)
    tails = ScoreTail(score[background], w[background]), ScoreTail(score[signal], w[signal])
    return rejection_factor_from_tails(*tails, efficiency=efficiency, level=level, seed=seed)


def rejection_factor_from_tails(
    background_tail: ScoreTail,
    signal_tail: ScoreTail,
    *,
    efficiency: float = 0.5,
    level: float = ONE_SIGMA,
    seed: int = 0,
) -> Estimate:
    """`rejection_factor` of background `other` and signal `tail`."""
    cut = signal_tail.threshold(efficiency)
    draws = _fluctuate(signal_tail, background_tail, cut=cut, seed=seed)
    value = background_tail.efficiency(cut)
    low, high = np.quantile(draws, [0.5 - level / 2, 0.5 + level / 2])
    # No standard deviation: that of 1 / (few events) has no meaning.
    least = 1 / max(float(high), value)
    if value == 0:
        return Estimate(
            background_tail.total_weight**2 / float(background_tail.squared_weight_above[-1]),
            least,
            math.inf,
            None,
            level,
        )
    most = 1 / min(float(low), value) if low > 0 else math.inf
    return Estimate(1 / value, least, most, None, level)


def _fluctuate(reference_tail: ScoreTail, target_tail: ScoreTail, *, cut: float, seed: int) -> Array:
    """Draws of the follower's efficiency when leader's quantile and follower's count both fluctuate."""
    random = np.random.default_rng(seed)
    shares = efficiency_distribution(reference_tail, cut).rvs(NUM_REPLICAS, random_state=random)
    efficiencies = target_tail.efficiencies_at(reference_tail, shares)
    spread = efficiency_distribution(target_tail, cut).rvs(
        NUM_REPLICAS, random_state=random
    ) - target_tail.efficiency(cut)
    return np.asarray(np.clip(efficiencies + spread, 0.0, 1.0))


def _bootstrap_interval(value: float, draws: Array, level: float) -> Estimate:
    low, high = np.quantile(draws, [0.5 - level / 2, 0.5 + level / 2])
    return Estimate(value, min(float(low), value), max(float(high), value), float(np.std(draws)), level)


def roc(
    logit: npt.ArrayLike, label: npt.ArrayLike, *, weight: npt.ArrayLike | None = None, points: int = 201
) -> Roc:
    """The ROC curve at `points` background efficiencies, half of them spaced in its logarithm.

    The band (68.3 %) takes the binomial errors of both classes, the background's through the slope of the
    curve (delta method).
    """
    score, y, w = validate_arrays(weight, logit=logit, label=label)
    background, signal = class_masks(y)
    return roc_from_tails(
        ScoreTail(score[background], w[background]), ScoreTail(score[signal], w[signal]), points=points
    )


def roc_from_tails(background_tail: ScoreTail, signal_tail: ScoreTail, *, points: int = 201) -> Roc:
    """`roc` of background `tail` and signal `other`."""
    # With weights the lightest event alone would stretch the curve beyond what is measured.
    least = 1 / max(background_tail.total_weight**2 / float(background_tail.squared_weight_above[-1]), 2.0)
    grid = np.unique(
        np.concatenate([np.geomspace(least, 1, points // 2 + 1), np.linspace(least, 1, points // 2)])
    )
    cuts = background_tail.quantiles(grid)
    x, y_values = background_tail.efficiencies(cuts), signal_tail.efficiencies(cuts)
    x, first = np.unique(x, return_index=True)
    y_values, cuts = y_values[first], cuts[first]
    slope = np.gradient(y_values, x) if len(x) > 1 else np.zeros_like(x)
    std = np.sqrt(
        signal_tail.efficiency_variances(cuts) + np.square(slope) * background_tail.efficiency_variances(cuts)
    )
    x, y_values, std = (np.concatenate([[0.0], column]) for column in (x, y_values, std))
    return Roc(x, y_values, np.clip(y_values - std, 0, 1), np.clip(y_values + std, 0, 1))


def working_point_closure(
    logit: npt.ArrayLike,
    *,
    threshold: float,
    rejection: float,
    weight: npt.ArrayLike | None = None,
    level: float = ONE_SIGMA,
) -> WorkingPointClosure:
    """Whether a frozen threshold rejects on these background events what it was chosen to reject.

    logit, weight: (events,), background only. The interval is Clopper-Pearson with effective counts.
    """
    score, w = validate_arrays(weight, logit=logit)
    found = ScoreTail(score, w).efficiency_interval(threshold, level=level)
    rejected = Estimate(1 - found.value, 1 - found.high, 1 - found.low, found.std, level)
    if not 0 <= rejection < 1:
        raise InputError(f"rejection {rejection}: a background rejection lies in [0, 1), for example 0.95")
    pull = (rejected.value - rejection) / found.std if found.std else 0.0
    return WorkingPointClosure(rejection, rejected, threshold, pull, int(np.count_nonzero(score > threshold)))


@dataclass(frozen=True)
class WorkingPointClosure(ResultRecord):
    """Background rejection asked for, and found on an independent sample by the same threshold."""

    rejection: float
    observed_rejection: Estimate
    threshold: float
    pull: float  # (found - asked) / statistical error of this sample alone
    background_events: int
