"""One score against several signals that share a background: each for itself, and the mean over them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from hepdecorr.errors import InputError
from hepdecorr.validation.measures.efficiency import Tail
from hepdecorr.validation.measures.evaluation import REJECTIONS, or_none
from hepdecorr.validation.measures.events import checked, classes, effective
from hepdecorr.validation.measures.numbers import ONE_SIGMA, Array, Measured, Record
from hepdecorr.validation.measures.ranking import (
    Roc,
    SignalEfficiency,
    curve,
    efficiency_at,
    factor_at,
    on_logit_scale,
    placements,
    variance_of_mean,
)

POINTS = 101  # of each ROC curve


@dataclass(frozen=True)
class OfSample(Record):
    """One signal against the background that all share."""

    name: str
    events: int
    auc: Measured
    signal_efficiency: tuple[SignalEfficiency, ...]  # one per rejection, at cuts that all samples share
    r50: Measured | None
    roc: Roc

    def at(self, rejection: float) -> Measured | None:
        """Signal efficiency at one of the rejections; None where tied scores leave no cut for it."""
        near = [one for one in self.signal_efficiency if abs(one.rejection - rejection) < 1e-9]
        return near[0].efficiency if near else None


@dataclass(frozen=True)
class BySample(Record):
    """One score against several signals.

    covariance: (samples, samples) of the areas, which the shared background ties to each other; mean_auc: of
    all samples with equal weight, its error from that covariance.
    """

    background_events: int
    samples: tuple[OfSample, ...]
    mean_auc: Measured
    covariance: Array

    def of(self, name: str) -> OfSample:
        """One of the samples."""
        for one in self.samples:
            if one.name == name:
                return one
        raise InputError(f"no signal {name!r}; measured were {', '.join(one.name for one in self.samples)}")

    def to_dict(self) -> dict[str, Any]:
        """The figures, JSON-able; the curves excluded."""
        found = super().to_dict()
        for one in found["samples"]:
            del one["roc"]
        return found


def by_sample(
    logit: npt.ArrayLike,
    label: npt.ArrayLike,
    sample: npt.ArrayLike,
    weight: npt.ArrayLike | None = None,
    *,
    names: Sequence[str],
    rejections: Sequence[float] = REJECTIONS,
    level: float = ONE_SIGMA,
    seed: int = 0,
) -> BySample:
    """Measure a score against each signal, all with the same background.

    logit, label (0 background, 1 signal), weight: (events,); sample: (events,) the place of a signal event's
    sample among `names`; of background it says nothing. The areas' covariance is that of DeLong, DeLong,
    Clarke-Pearson, Biometrics 44 (1988) 837: of the background's placements, which the samples share,
    and on the diagonal also of the signal's own. Where many scores are tied, as those of a network that has
    learnt nothing, there may be no cut: that figure is left out. InputError for a name without events.
    """
    score, y, place, w = checked(weight, logit=logit, label=label, sample=sample)
    background, signal = classes(y)
    b_score, b_weight = score[background], w[background]
    tail = Tail(b_score, b_weight)
    found, above, own = [], [], []
    for number, name in enumerate(names):
        chosen = signal & (place == number)
        if not chosen.any():
            raise InputError(f"signal {name!r}: no events of it; check the selection and the split")
        other = Tail(score[chosen], w[chosen])
        below, seen = placements(b_score, b_weight, score[chosen], w[chosen])
        own.append(variance_of_mean(below, w[chosen]))
        above.append(seen)
        std = math.sqrt(own[-1] + variance_of_mean(seen, b_weight))
        least = min(effective(w[chosen]), effective(b_weight))
        area = float(np.average(below, weights=w[chosen]))
        found.append(
            OfSample(
                name=name,
                events=int(chosen.sum()),
                auc=on_logit_scale(area, std, level=level, events=least),
                signal_efficiency=_efficiencies(tail, other, rejections, level=level, seed=seed),
                r50=or_none(
                    partial(factor_at, tail, other, level=level, seed=seed), f"R50 of signal {name!r}"
                ),
                roc=curve(tail, other, points=POINTS),
            )
        )
    covariance = _covariance(np.stack(above), b_weight) + np.diag(own)
    mean = float(np.mean([one.auc.value for one in found]))
    return BySample(
        background_events=int(background.sum()),
        samples=tuple(found),
        mean_auc=on_logit_scale(
            mean, math.sqrt(covariance.mean()), level=level, events=effective(w[background])
        ),
        covariance=covariance,
    )


def mean_auc_difference(
    logits: tuple[npt.ArrayLike, npt.ArrayLike],
    label: npt.ArrayLike,
    sample: npt.ArrayLike,
    weight: npt.ArrayLike | None = None,
    *,
    signals: int,
    level: float = ONE_SIGMA,
) -> Measured:
    """Mean AUC over signals of the first score less that of the second, on the same events.

    Arrays as of `by_sample`, for so many signals. The error is that of a contrast (DeLong et al.), of the
    differences of placements, event by event, so that what both scores share cancels.
    """
    first, second, y, place, w = checked(
        weight, first=logits[0], second=logits[1], label=label, sample=sample
    )
    background, signal = classes(y)
    away, value, variance = np.zeros(int(background.sum())), 0.0, 0.0
    for number in range(signals):
        chosen = signal & (place == number)
        a, b = (
            placements(score[background], w[background], score[chosen], w[chosen])
            for score in (first, second)
        )
        away += (a[1] - b[1]) / signals
        value += float(np.average(a[0] - b[0], weights=w[chosen])) / signals
        variance += variance_of_mean(a[0] - b[0], w[chosen]) / signals**2
    std = math.sqrt(variance + variance_of_mean(away, w[background]))
    reach = float(stats.norm.ppf(0.5 + level / 2)) * std
    return Measured(value, value - reach, value + reach, std, level)


def _efficiencies(
    tail: Tail, other: Tail, rejections: Sequence[float], *, level: float, seed: int
) -> tuple[SignalEfficiency, ...]:
    found = []
    for rejection in rejections:
        measure = partial(efficiency_at, tail, other, rejection=rejection, level=level, seed=seed)
        if (one := or_none(measure, f"signal efficiency at {100 * rejection:g} % rejection")) is not None:
            found.append(one)
    return tuple(found)


def _covariance(placed: Array, weight: Array) -> Array:
    """Of weighted means over the same events; placed: (means, events)."""
    away = (placed - np.average(placed, axis=1, weights=weight)[:, None]) * weight
    size = effective(weight)
    correction = size / (size - 1) if size > 1 else 1.0
    return np.asarray(away @ away.T / weight.sum() ** 2 * correction)
