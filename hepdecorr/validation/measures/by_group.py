"""Is one tagger the same in every group? Its efficiencies, and the spectra of what passes.

Three families of figures, each with a p-value against 'no dependence on the group' that is Holm-adjusted
within its family and tagger: efficiencies of both classes at all working points, as they differ at all and as
they follow known conditions; mean and width of each
protected variable in background that passes; and the divergence of its spectra in passing background from
the groups with the lowest third of a condition and from those with the highest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from hepdecorr.errors import InputError
from hepdecorr.validation.measures.between import (
    PERMUTATIONS,
    REPLICAS,
    Between,
    Moments,
    between,
    limited,
)
from hepdecorr.validation.measures.compare import ALPHA, holm
from hepdecorr.validation.measures.efficiency import Tail
from hepdecorr.validation.measures.evaluation import REJECTIONS, or_none
from hepdecorr.validation.measures.events import checked, sums
from hepdecorr.validation.measures.explained import Explained, Trend, explained, trend
from hepdecorr.validation.measures.grouped import Grouped, Sizes
from hepdecorr.validation.measures.numbers import Array, Indices, Record
from hepdecorr.validation.measures.sculpting import Sculpting, sculpting

CLASSES = {"background": 0, "signal": 1}
PARTS = 3  # slices of a condition: its lowest and its highest are compared
OF_EVENTS = 400  # permutations of means, and with weights: each of them takes all events
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Efficiency(Record):
    """At one cut; None for a class that is in fewer than two groups."""

    rejection: float
    threshold: float  # on this sample's background
    background: Between | None
    signal: Between | None
    trends: dict[str, dict[str, Trend]]  # condition -> class
    explained: dict[str, Explained | None]  # class -> what follows all conditions; {} without conditions

    def of(self, kind: str) -> Between | None:
        """Of 'background' or 'signal'."""
        return self.background if kind == "background" else self.signal


@dataclass(frozen=True)
class Spectrum(Record):
    """A protected variable's spectrum in background, before a cut (rejection 0) or behind it.

    slices: condition -> divergence of the spectra in its lowest and its highest third of the events, as that
    of events that pass and fail; None where too few events are left.
    """

    rejection: float
    mean: Between | None
    width: Between | None
    slices: dict[str, Sculpting | None]


@dataclass(frozen=True)
class ByGroup(Record):
    """One tagger between groups.

    p_holm: by 'signal 0.9', 'signal explained 0.9'; 'm_bc mean 0.9', 'm_bc width 0.9'; and with a condition
    'scale', 'm_bc scale 0.9'.
    """

    sizes: Sizes
    efficiencies: tuple[Efficiency, ...]
    spectra: dict[str, tuple[Spectrum, ...]]  # protected variable -> before the cuts, then one per rejection
    p_holm: dict[str, float]
    seed: int

    def at(self, rejection: float) -> Efficiency:
        """At one of the rejections; InputError lists those there are."""
        for one in self.efficiencies:
            if abs(one.rejection - rejection) < 1e-9:
                return one
        known = ", ".join(f"{one.rejection:g}" for one in self.efficiencies)
        raise InputError(f"by group: rejection {rejection:g} was not measured; {known} were")

    def resolved(self, name: str) -> bool:
        """Whether a dependence on the group is seen, p_holm <= 0.05."""
        return self.p_holm.get(name, 1.0) <= ALPHA

    def differs(self, kind: str, rejection: float) -> bool:
        """Whether an efficiency is seen to differ between groups, or to follow their conditions."""
        return self.resolved(f"{kind} {rejection:g}") or self.resolved(f"{kind} explained {rejection:g}")


def by_group(
    logit: npt.ArrayLike,
    events: Grouped,
    *,
    rejections: Sequence[float] = REJECTIONS,
    permutations: int = PERMUTATIONS,
    replicas: int = REPLICAS,
    seed: int = 0,
) -> ByGroup:
    """Measure one tagger between groups at each background rejection.

    logit: (events,). Cuts are quantiles of the background of all groups together: what a single threshold
    does in each of them. InputError for fewer than two groups, or no background; what too few events leave
    without a value is None.
    """
    score, w = checked(events.weight, logit=logit)
    if len(score) != len(events.label):
        raise InputError(f"by group: {len(score)} scores for {len(events.label)} events")
    if events.groups < 2:
        raise InputError(
            f"by group: all {len(score)} events are of group {events.names[0]}; flatness between groups "
            "needs two or more: test on more runs, or leave out 'groups'"
        )
    background = events.label == 0
    if not background.any():
        raise InputError("by group: no background events; cuts are fixed on them")
    tail = Tail(score[background], w[background])
    slow = min(permutations, OF_EVENTS)
    settings = {
        "permutations": limited(permutations if events.weight is None else slow, events.groups),
        "replicas": limited(replicas, events.groups),
        "seed": seed,
    }
    found = {one: or_none(partial(tail.threshold, 1 - one), f"cut at {100 * one:g} %") for one in rejections}
    # Where tied scores leave no cut nothing passes, and nothing is measured.
    cuts = {one: math.nan if cut is None else cut for one, cut in found.items()}
    efficiencies = tuple(
        _efficiency(score > cut, events, rejection=one, threshold=cut, settings=settings)
        for one, cut in cuts.items()
    )
    settings |= {"permutations": slow}
    spectra = {
        name: tuple(
            _spectrum(name, background & passing, events, rejection=one, settings=settings)
            for one, passing in [(0.0, background), *((one, score > cut) for one, cut in cuts.items())]
        )
        for name in events.protected
    }
    return ByGroup(events.sizes, efficiencies, spectra, _adjusted(efficiencies, spectra), seed)


def slices_of(condition: Array, events: Grouped) -> Indices:
    """Of every event its third of a condition: 0 the lowest, 1, 2 the highest; (events,).

    condition: (groups,). The thirds are those of all background events, so that cuts do not move them. A
    value is in one of them as a whole, where the middle of its events lies; the ends are never empty.
    """
    values, number = np.unique(condition, return_inverse=True)
    own = number[events.place]
    share = sums(own[events.label == 0], np.ones(int(np.count_nonzero(events.label == 0))), len(values))
    share /= share.sum()
    third = np.floor(PARTS * (np.cumsum(share) - share / 2)).astype(np.int64).clip(0, PARTS - 1)
    third[0], third[-1] = 0, PARTS - 1
    return np.asarray(third[own], dtype=np.int64)


def _efficiency(
    passing: Mask, events: Grouped, *, rejection: float, threshold: float, settings: dict[str, int]
) -> Efficiency:
    found: dict[str, Between | None] = {}
    told: dict[str, Explained | None] = {}
    trends: dict[str, dict[str, Trend]] = {name: {} for name in events.conditions}
    about = {"replicas": settings["replicas"], "seed": settings["seed"]}
    for kind, label in CLASSES.items():
        own = events.label == label
        found[kind] = None
        if not own.any() or math.isnan(threshold):
            continue
        arrays = passing[own].astype(np.float64), events.place[own], events.weights(own)
        title = f"spread of {kind} efficiency at {100 * rejection:g} % rejection"
        found[kind] = or_none(partial(between, *arrays, **settings, what=kind), title)
        moments = Moments.of(*arrays, groups=events.groups)
        for name, condition in events.conditions.items():
            if (line := trend(moments, condition, **about)) is not None:
                trends[name][kind] = line
        if events.conditions:
            told[kind] = explained(moments, list(events.conditions.values()), **about)
    return Efficiency(rejection, threshold, found["background"], found["signal"], trends, told)


def _spectrum(
    name: str, chosen: Mask, events: Grouped, *, rejection: float, settings: dict[str, int]
) -> Spectrum:
    z = np.asarray(events.protected[name].values, dtype=np.float64)
    title = f"{name} by group at {100 * rejection:g} % rejection"
    if not chosen.any():
        return Spectrum(rejection, None, None, dict.fromkeys(events.conditions))
    slices = {
        condition: or_none(
            partial(_sliced, name, values, chosen, events, seed=settings["seed"]), f"{title} in slices"
        )
        for condition, values in events.conditions.items()
    }
    arrays = events.place[chosen], events.weights(chosen)
    own = z[chosen]
    mean = or_none(partial(between, own, *arrays, **settings, what=name), f"spread of the mean of {title}")
    # About the mean of all groups: about that of each it would lose a freedom in each.
    middle = float(np.average(own, weights=arrays[1]))
    squares = np.square(own - middle)
    width = math.sqrt(float(np.average(squares, weights=arrays[1])))
    if mean is None or not width > 0:
        return Spectrum(rejection, mean, None, slices)
    square = or_none(
        partial(between, squares / width, *arrays, **settings, what=name), f"spread of the width of {title}"
    )
    # d(width) = d(width^2) / 2 width
    about = None if square is None else square.scaled(0.5)
    return Spectrum(rejection, mean, about, slices)


def _sliced(name: str, condition: Array, chosen: Mask, events: Grouped, *, seed: int) -> Sculpting:
    third, spectrum = slices_of(condition, events), events.protected[name]
    both = chosen & (third != 1)
    return sculpting(
        (third[both] == PARTS - 1).astype(np.float64),
        np.asarray(spectrum.values, dtype=np.float64)[both],
        range=spectrum.range,
        threshold=0.5,
        weight=events.weights(both),
        bins=spectrum.bins,
        seed=seed,
    )


def _adjusted(
    efficiencies: Sequence[Efficiency], spectra: dict[str, tuple[Spectrum, ...]]
) -> dict[str, float]:
    """Holm's p-values within each family; what is there before the cuts is no figure of the tagger."""
    families: list[dict[str, float]] = [{}]
    for one in efficiencies:
        for kind in CLASSES:
            if (found := one.of(kind)) is not None:
                families[0][f"{kind} {one.rejection:g}"] = found.p_value
            if (known := one.explained.get(kind)) is not None:
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
                for condition, found in one.slices.items()
                if found is not None
            }
        )
    return {
        name: p for family in families for name, p in zip(family, holm(list(family.values())), strict=True)
    }
