"""How many times smaller one tagger's spread between groups is than another's, on the same events."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hepdecorr.errors import InputError
from hepdecorr.validation.measures.between import (
    REPLICAS,
    Between,
    Moments,
    Smaller,
    again,
    compared,
    limited,
    smaller,
)
from hepdecorr.validation.measures.by_group import CLASSES, ByGroup
from hepdecorr.validation.measures.events import checked
from hepdecorr.validation.measures.explained import Explained, bootstrap_explained
from hepdecorr.validation.measures.grouped import Grouped
from hepdecorr.validation.measures.numbers import Array, Record

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Steadier(Record):
    """Spread of the reference over that of the tagger, at one rejection; None where one was not measured."""

    rejection: float
    background: Smaller | None  # efficiencies
    signal: Smaller | None
    means: dict[str, Smaller | None]  # protected variable -> of its mean in background that passes
    explained: dict[str, Smaller | None]  # class -> of what follows the conditions; {} without conditions

    def of(self, kind: str) -> Smaller | None:
        """Of the efficiency of 'background' or 'signal'."""
        return self.background if kind == "background" else self.signal


def steadier(
    reference: tuple[npt.ArrayLike, ByGroup],
    other: tuple[npt.ArrayLike, ByGroup],
    events: Grouped,
    *,
    replicas: int = REPLICAS,
    seed: int = 0,
) -> tuple[Steadier, ...]:
    """At each rejection that both were measured at; both: logit (events,) and what `by_group` found."""
    scores = [checked(logit=one[0])[0] for one in (reference, other)]
    if any(len(one) != len(events.label) for one in scores):
        raise InputError("steadier: scores and events do not fit; score the same events")
    known = {one.rejection: one for one in reference[1].efficiencies}
    about = {"replicas": limited(replicas, events.groups), "seed": seed}
    background = events.label == 0
    found = []
    for point in other[1].efficiencies:
        if (first := known.get(point.rejection)) is None:
            continue
        passing = (scores[0] > first.threshold, scores[1] > point.threshold)
        shares = {
            kind: _ratio(
                (first.of(kind), point.of(kind)), passing, _shares(events, events.label == label), **about
            )
            for kind, label in CLASSES.items()
        }
        means = {
            name: _ratio(
                (_mean(reference[1], name, point.rejection), _mean(other[1], name, point.rejection)),
                passing,
                _means(events, background, np.asarray(events.protected[name].values, dtype=np.float64)),
                **about,
            )
            for name in events.protected
        }
        told = {
            kind: _explained(
                (first.explained[kind], point.explained[kind]),
                passing,
                _shares(events, events.label == CLASSES[kind]),
                list(events.conditions.values()),
                **about,
            )
            for kind in point.explained
            if kind in first.explained
        }
        found.append(Steadier(point.rejection, shares["background"], shares["signal"], means, told))
    return tuple(found)


def _ratio(
    measured: tuple[Between | None, Between | None],
    passing: tuple[Mask, Mask],
    moments: Callable[[Mask], Moments],
    **about: int,
) -> Smaller | None:
    if measured[0] is None or measured[1] is None:
        return None
    return smaller(moments(passing[0]), moments(passing[1]), upper=measured[1].upper, **about)


def _explained(
    measured: tuple[Explained | None, Explained | None],
    passing: tuple[Mask, Mask],
    moments: Callable[[Mask], Moments],
    conditions: Sequence[Array],
    **about: int,
) -> Smaller | None:
    first, other = measured
    if first is None or other is None:
        return None
    found = [moments(one) for one in passing]
    times = again(len(found[0].size), size=about["replicas"], seed=about["seed"])
    drawn = [bootstrap_explained(one, conditions, times) for one in found]
    return compared((first.variance.value, other.variance.value), (drawn[0], drawn[1]), upper=other.upper)


def _mean(found: ByGroup, name: str, rejection: float) -> Between | None:
    return next((one.mean for one in found.spectra.get(name, ()) if one.rejection == rejection), None)


def _shares(events: Grouped, own: Mask) -> Callable[[Mask], Moments]:
    return lambda passing: Moments.of(
        passing[own].astype(np.float64), events.place[own], events.weights(own), groups=events.groups
    )


def _means(events: Grouped, own: Mask, values: Array) -> Callable[[Mask], Moments]:
    def moments(passing: Mask) -> Moments:
        chosen = own & passing
        return Moments.of(values[chosen], events.place[chosen], events.weights(chosen), groups=events.groups)

    return moments
