"""Is one tagger the same in every group? Its efficiencies, and the spectra of what passes.

Three families of figures, each with a p-value against 'no dependence on the group' that is Holm-adjusted
within its family and tagger: efficiencies of both classes at all working points, as they differ at all and as
they follow known conditions; mean and width of each
protected variable in background that passes; and the divergence of its spectra in passing background from
the groups with the lowest third of a condition and from those with the highest.

How many times smaller one tagger's spread between groups is than another's, on the same events.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from hepdecorr.errors import InputError
from hepdecorr.evaluation.groups.condition_regression import (
    ConditionRegression,
    ConditionTrend,
    bootstrap_explained_variance,
    fit_condition_regression,
    linear_trend,
)
from hepdecorr.evaluation.groups.events import GroupedEvents, GroupSizes
from hepdecorr.evaluation.groups.spread import (
    NUM_PERMUTATIONS,
    NUM_REPLICAS,
    BetweenGroupSpread,
    GroupMoments,
    SpreadRatio,
    between_group_variance,
    bootstrap_multiplicities,
    cap_draws,
    ratio_from_draws,
    spread_ratio,
)
from hepdecorr.evaluation.metrics.evaluation import REJECTIONS, measure_or_none
from hepdecorr.evaluation.metrics.sculpting import Sculpting, sculpting
from hepdecorr.stats.arrays import binned_sums, validate_arrays
from hepdecorr.stats.efficiency import ScoreTail
from hepdecorr.stats.multiple_testing import ALPHA, holm
from hepdecorr.stats.results import Array, Indices, ResultRecord

CLASS_LABELS = {"background": 0, "signal": 1}
N_TERCILES = 3  # slices of a condition: its lowest and its highest are compared
MAX_EVENT_PERMUTATIONS = 400  # permutations of means, and with weights: each of them takes all events
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class GroupEfficiency(ResultRecord):
    """At one cut; None for a class that is in fewer than two groups."""

    rejection: float
    threshold: float  # on this sample's background
    background: BetweenGroupSpread | None
    signal: BetweenGroupSpread | None
    trends: dict[str, dict[str, ConditionTrend]]  # condition -> class
    condition_regression: dict[
        str, ConditionRegression | None
    ]  # class -> what follows all conditions; {} without conditions

    def for_class(self, class_name: str) -> BetweenGroupSpread | None:
        """Of 'background' or 'signal'."""
        return self.background if class_name == "background" else self.signal


@dataclass(frozen=True)
class GroupSpectrum(ResultRecord):
    """A protected variable's spectrum in background, before a cut (rejection 0) or behind it.

    slices: condition -> divergence of the spectra in its lowest and its highest third of the events, as that
    of events that pass and fail; None where too few events are left.
    """

    rejection: float
    mean: BetweenGroupSpread | None
    width: BetweenGroupSpread | None
    tercile_divergence: dict[str, Sculpting | None]


@dataclass(frozen=True)
class GroupStability(ResultRecord):
    """One tagger between groups.

    p_holm: by 'signal 0.9', 'signal explained 0.9'; 'm_bc mean 0.9', 'm_bc width 0.9'; and with a condition
    'scale', 'm_bc scale 0.9'.
    """

    sizes: GroupSizes
    efficiencies: tuple[GroupEfficiency, ...]
    spectra: dict[
        str, tuple[GroupSpectrum, ...]
    ]  # protected variable -> before the cuts, then one per rejection
    p_holm: dict[str, float]
    seed: int

    def at_rejection(self, rejection: float) -> GroupEfficiency:
        """At one of the rejections; InputError lists those there are."""
        for one in self.efficiencies:
            if abs(one.rejection - rejection) < 1e-9:
                return one
        known = ", ".join(f"{one.rejection:g}" for one in self.efficiencies)
        raise InputError(f"by group: rejection {rejection:g} was not measured; {known} were")

    def is_significant(self, test_name: str) -> bool:
        """Whether a dependence on the group is seen, p_holm <= 0.05."""
        return self.p_holm.get(test_name, 1.0) <= ALPHA

    def depends_on_group(self, class_name: str, rejection: float) -> bool:
        """Whether an efficiency is seen to differ between groups, or to follow their conditions."""
        return self.is_significant(f"{class_name} {rejection:g}") or self.is_significant(
            f"{class_name} explained {rejection:g}"
        )


def group_stability(
    logit: npt.ArrayLike,
    events: GroupedEvents,
    *,
    rejections: Sequence[float] = REJECTIONS,
    permutations: int = NUM_PERMUTATIONS,
    replicas: int = NUM_REPLICAS,
    seed: int = 0,
) -> GroupStability:
    """Measure one tagger between groups at each background rejection.

    logit: (events,). Cuts are quantiles of the background of all groups together: what a single threshold
    does in each of them. InputError for fewer than two groups, or no background; what too few events leave
    without a value is None.
    """
    score, w = validate_arrays(events.weight, logit=logit)
    if len(score) != len(events.label):
        raise InputError(f"by group: {len(score)} scores for {len(events.label)} events")
    if events.num_groups < 2:
        raise InputError(
            f"by group: all {len(score)} events are of group {events.group_ids[0]}; flatness between groups "
            "needs two or more: test on more runs, or leave out 'groups'"
        )
    background = events.label == 0
    if not background.any():
        raise InputError("by group: no background events; cuts are fixed on them")
    tail = ScoreTail(score[background], w[background])
    slow = min(permutations, MAX_EVENT_PERMUTATIONS)
    settings = {
        "permutations": cap_draws(permutations if events.weight is None else slow, events.num_groups),
        "replicas": cap_draws(replicas, events.num_groups),
        "seed": seed,
    }
    found = {
        one: measure_or_none(partial(tail.threshold, 1 - one), f"cut at {100 * one:g} %")
        for one in rejections
    }
    # Where tied scores leave no cut nothing passes, and nothing is measured.
    cuts = {one: math.nan if cut is None else cut for one, cut in found.items()}
    efficiencies = tuple(
        _measure_efficiency(score > cut, events, rejection=one, threshold=cut, settings=settings)
        for one, cut in cuts.items()
    )
    settings |= {"permutations": slow}
    spectra = {
        name: tuple(
            _measure_spectrum(name, background & passing, events, rejection=one, settings=settings)
            for one, passing in [(0.0, background), *((one, score > cut) for one, cut in cuts.items())]
        )
        for name in events.protected
    }
    return GroupStability(events.sizes, efficiencies, spectra, _adjust_p_values(efficiencies, spectra), seed)


def condition_terciles(condition: Array, events: GroupedEvents) -> Indices:
    """Of every event its third of a condition: 0 the lowest, 1, 2 the highest; (events,).

    condition: (groups,). The thirds are those of all background events, so that cuts do not move them. A
    value is in one of them as a whole, where the middle of its events lies; the ends are never empty.
    """
    values, number = np.unique(condition, return_inverse=True)
    own = number[events.group_index]
    share = binned_sums(
        own[events.label == 0], np.ones(int(np.count_nonzero(events.label == 0))), len(values)
    )
    share /= share.sum()
    third = np.floor(N_TERCILES * (np.cumsum(share) - share / 2)).astype(np.int64).clip(0, N_TERCILES - 1)
    third[0], third[-1] = 0, N_TERCILES - 1
    return np.asarray(third[own], dtype=np.int64)


def _measure_efficiency(
    pass_mask: Mask, events: GroupedEvents, *, rejection: float, threshold: float, settings: dict[str, int]
) -> GroupEfficiency:
    found: dict[str, BetweenGroupSpread | None] = {}
    told: dict[str, ConditionRegression | None] = {}
    trends: dict[str, dict[str, ConditionTrend]] = {name: {} for name in events.conditions}
    about = {"replicas": settings["replicas"], "seed": settings["seed"]}
    for kind, label in CLASS_LABELS.items():
        own = events.label == label
        found[kind] = None
        if not own.any() or math.isnan(threshold):
            continue
        arrays = pass_mask[own].astype(np.float64), events.group_index[own], events.select_weights(own)
        title = f"spread of {kind} efficiency at {100 * rejection:g} % rejection"
        found[kind] = measure_or_none(
            partial(between_group_variance, *arrays, **settings, description=kind), title
        )
        moments = GroupMoments.from_events(*arrays, num_groups=events.num_groups)
        for name, condition in events.conditions.items():
            if (line := linear_trend(moments, condition, **about)) is not None:
                trends[name][kind] = line
        if events.conditions:
            told[kind] = fit_condition_regression(moments, list(events.conditions.values()), **about)
    return GroupEfficiency(rejection, threshold, found["background"], found["signal"], trends, told)


def _measure_spectrum(
    name: str, mask: Mask, events: GroupedEvents, *, rejection: float, settings: dict[str, int]
) -> GroupSpectrum:
    z = np.asarray(events.protected[name].values, dtype=np.float64)
    title = f"{name} by group at {100 * rejection:g} % rejection"
    if not mask.any():
        return GroupSpectrum(rejection, None, None, dict.fromkeys(events.conditions))
    slices = {
        condition: measure_or_none(
            partial(_compare_terciles, name, values, mask, events, seed=settings["seed"]),
            f"{title} in slices",
        )
        for condition, values in events.conditions.items()
    }
    arrays = events.group_index[mask], events.select_weights(mask)
    own = z[mask]
    mean = measure_or_none(
        partial(between_group_variance, own, *arrays, **settings, description=name),
        f"spread of the mean of {title}",
    )
    # About the mean of all groups: about that of each it would lose a freedom in each.
    middle = float(np.average(own, weights=arrays[1]))
    squares = np.square(own - middle)
    width = math.sqrt(float(np.average(squares, weights=arrays[1])))
    if mean is None or not width > 0:
        return GroupSpectrum(rejection, mean, None, slices)
    square = measure_or_none(
        partial(between_group_variance, squares / width, *arrays, **settings, description=name),
        f"spread of the width of {title}",
    )
    # d(width) = d(width^2) / 2 width
    about = None if square is None else square.scaled(0.5)
    return GroupSpectrum(rejection, mean, about, slices)


def _compare_terciles(
    name: str, condition: Array, mask: Mask, events: GroupedEvents, *, seed: int
) -> Sculpting:
    third, spectrum = condition_terciles(condition, events), events.protected[name]
    both = mask & (third != 1)
    return sculpting(
        (third[both] == N_TERCILES - 1).astype(np.float64),
        np.asarray(spectrum.values, dtype=np.float64)[both],
        range=spectrum.range,
        threshold=0.5,
        weight=events.select_weights(both),
        bins=spectrum.bins,
        seed=seed,
    )


def _adjust_p_values(
    efficiencies: Sequence[GroupEfficiency], spectra: dict[str, tuple[GroupSpectrum, ...]]
) -> dict[str, float]:
    """Holm's p-values within each family; what is there before the cuts is no figure of the tagger."""
    families: list[dict[str, float]] = [{}]
    for one in efficiencies:
        for kind in CLASS_LABELS:
            if (found := one.for_class(kind)) is not None:
                families[0][f"{kind} {one.rejection:g}"] = found.p_value
            if (known := one.condition_regression.get(kind)) is not None:
                families[0][f"{kind} explained {one.rejection:g}"] = known.p_value
    for name, many in spectra.items():
        behind = [one for one in many if one.rejection > 0]
        families.append(
            {
                f"{name} {figure} {one.rejection:g}": found.p_value
                for one in behind
                for figure, found in (("mean", one.mean), ("width", one.width))
                if found is not None
            }
        )
        families.append(
            {
                f"{name} {condition} {one.rejection:g}": found.p_value
                for one in behind
                for condition, found in one.tercile_divergence.items()
                if found is not None
            }
        )
    return {
        name: p for family in families for name, p in zip(family, holm(list(family.values())), strict=True)
    }


@dataclass(frozen=True)
class StabilityRatios(ResultRecord):
    """Spread of the reference over that of the tagger, at one rejection; None where one was not measured."""

    rejection: float
    background: SpreadRatio | None  # efficiencies
    signal: SpreadRatio | None
    means: dict[str, SpreadRatio | None]  # protected variable -> of its mean in background that passes
    condition_regression: dict[
        str, SpreadRatio | None
    ]  # class -> of what follows the conditions; {} without conditions

    def for_class(self, class_name: str) -> SpreadRatio | None:
        """Of the efficiency of 'background' or 'signal'."""
        return self.background if class_name == "background" else self.signal


def stability_ratios(
    reference: tuple[npt.ArrayLike, GroupStability],
    other: tuple[npt.ArrayLike, GroupStability],
    events: GroupedEvents,
    *,
    replicas: int = NUM_REPLICAS,
    seed: int = 0,
) -> tuple[StabilityRatios, ...]:
    """At each rejection that both were measured at; both: logit (events,) and what `by_group` found."""
    scores = [validate_arrays(logit=one[0])[0] for one in (reference, other)]
    if any(len(one) != len(events.label) for one in scores):
        raise InputError("steadier: scores and events do not fit; score the same events")
    known = {one.rejection: one for one in reference[1].efficiencies}
    about = {"replicas": cap_draws(replicas, events.num_groups), "seed": seed}
    background = events.label == 0
    found = []
    for point in other[1].efficiencies:
        if (first := known.get(point.rejection)) is None:
            continue
        passing = (scores[0] > first.threshold, scores[1] > point.threshold)
        shares = {
            kind: _efficiency_ratio(
                (first.for_class(kind), point.for_class(kind)),
                passing,
                _efficiency_moments(events, events.label == label),
                **about,
            )
            for kind, label in CLASS_LABELS.items()
        }
        means = {
            name: _efficiency_ratio(
                (
                    _find_mean_spread(reference[1], name, point.rejection),
                    _find_mean_spread(other[1], name, point.rejection),
                ),
                passing,
                _value_moments(
                    events, background, np.asarray(events.protected[name].values, dtype=np.float64)
                ),
                **about,
            )
            for name in events.protected
        }
        told = {
            kind: _regression_ratio(
                (first.condition_regression[kind], point.condition_regression[kind]),
                passing,
                _efficiency_moments(events, events.label == CLASS_LABELS[kind]),
                list(events.conditions.values()),
                **about,
            )
            for kind in point.condition_regression
            if kind in first.condition_regression
        }
        found.append(StabilityRatios(point.rejection, shares["background"], shares["signal"], means, told))
    return tuple(found)


def _efficiency_ratio(
    spreads: tuple[BetweenGroupSpread | None, BetweenGroupSpread | None],
    pass_masks: tuple[Mask, Mask],
    make_moments: Callable[[Mask], GroupMoments],
    **settings: int,
) -> SpreadRatio | None:
    if spreads[0] is None or spreads[1] is None:
        return None
    return spread_ratio(
        make_moments(pass_masks[0]),
        make_moments(pass_masks[1]),
        upper_limit=spreads[1].upper_limit,
        **settings,
    )


def _regression_ratio(
    regressions: tuple[ConditionRegression | None, ConditionRegression | None],
    pass_masks: tuple[Mask, Mask],
    make_moments: Callable[[Mask], GroupMoments],
    conditions: Sequence[Array],
    **settings: int,
) -> SpreadRatio | None:
    first, other = regressions
    if first is None or other is None:
        return None
    found = [make_moments(one) for one in pass_masks]
    times = bootstrap_multiplicities(
        len(found[0].size), num_replicas=settings["replicas"], seed=settings["seed"]
    )
    drawn = [bootstrap_explained_variance(one, conditions, times) for one in found]
    return ratio_from_draws(
        (first.variance.value, other.variance.value), (drawn[0], drawn[1]), upper_limit=other.upper_limit
    )


def _find_mean_spread(stability: GroupStability, name: str, rejection: float) -> BetweenGroupSpread | None:
    return next((one.mean for one in stability.spectra.get(name, ()) if one.rejection == rejection), None)


def _efficiency_moments(events: GroupedEvents, class_mask: Mask) -> Callable[[Mask], GroupMoments]:
    return lambda passing: GroupMoments.from_events(
        passing[class_mask].astype(np.float64),
        events.group_index[class_mask],
        events.select_weights(class_mask),
        num_groups=events.num_groups,
    )


def _value_moments(events: GroupedEvents, class_mask: Mask, values: Array) -> Callable[[Mask], GroupMoments]:
    def moments(passing: Mask) -> GroupMoments:
        chosen = class_mask & passing
        return GroupMoments.from_events(
            values[chosen],
            events.group_index[chosen],
            events.select_weights(chosen),
            num_groups=events.num_groups,
        )

    return moments
