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
from hepdecorr.evaluation.metrics.evaluation import REJECTIONS, measure_or_none
from hepdecorr.stats.arrays import class_masks, effective_count, validate_arrays
from hepdecorr.stats.efficiency import ScoreTail
from hepdecorr.stats.results import ONE_SIGMA, Array, Estimate, ResultRecord
from hepdecorr.stats.roc import (
    Roc,
    SignalEfficiency,
    delong_placements,
    logit_scale_interval,
    rejection_factor_from_tails,
    roc_from_tails,
    signal_efficiency_from_tails,
    variance_of_mean,
)

NUM_ROC_POINTS = 101  # of each ROC curve


@dataclass(frozen=True)
class SignalResult(ResultRecord):
    """One signal against the background that all share."""

    name: str
    events: int
    auc: Estimate
    signal_efficiency: tuple[SignalEfficiency, ...]  # one per rejection, at cuts that all samples share
    r50: Estimate | None
    roc: Roc

    def at_rejection(self, rejection: float) -> Estimate | None:
        """Signal efficiency at one of the rejections; None where tied scores leave no cut for it."""
        near = [one for one in self.signal_efficiency if abs(one.rejection - rejection) < 1e-9]
        return near[0].efficiency if near else None


@dataclass(frozen=True)
class PerSignal(ResultRecord):
    """One score against several signals.

    covariance: (samples, samples) of the areas, which the shared background ties to each other; mean_auc: of
    all samples with equal weight, its error from that covariance.
    """

    background_events: int
    signals: tuple[SignalResult, ...]
    mean_auc: Estimate
    covariance: Array

    def find_signal(self, name: str) -> SignalResult:
        """One of the samples."""
        for one in self.signals:
            if one.name == name:
                return one
        raise InputError(f"no signal {name!r}; measured were {', '.join(one.name for one in self.signals)}")

    def to_dict(self) -> dict[str, Any]:
        """The figures, JSON-able; the curves excluded."""
        found = super().to_dict()
        for one in found["signals"]:
            del one["roc"]
        return found


def evaluate_per_signal(
    logit: npt.ArrayLike,
    label: npt.ArrayLike,
    signal_index: npt.ArrayLike,
    weight: npt.ArrayLike | None = None,
    *,
    signal_names: Sequence[str],
    rejections: Sequence[float] = REJECTIONS,
    level: float = ONE_SIGMA,
    seed: int = 0,
) -> PerSignal:
    """Measure a score against each signal, all with the same background.

    logit, label (0 background, 1 signal), weight: (events,); sample: (events,) the place of a signal event's
    sample among `names`; of background it says nothing. The areas' covariance is that of DeLong, DeLong,
    Clarke-Pearson, Biometrics 44 (1988) 837: of the background's placements, which the samples share,
    and on the diagonal also of the signal's own. Where many scores are tied, as those of a network that has
    learnt nothing, there may be no cut: that figure is left out. InputError for a name without events.
    """
    score, y, place, w = validate_arrays(weight, logit=logit, label=label, sample=signal_index)
    background, signal = class_masks(y)
    b_score, b_weight = score[background], w[background]
    tail = ScoreTail(b_score, b_weight)
    found, above, own = [], [], []
    for number, name in enumerate(signal_names):
        chosen = signal & (place == number)
        if not chosen.any():
            raise InputError(f"signal {name!r}: no events of it; check the selection and the split")
        other = ScoreTail(score[chosen], w[chosen])
        below, seen = delong_placements(b_score, b_weight, score[chosen], w[chosen])
        own.append(variance_of_mean(below, w[chosen]))
        above.append(seen)
        std = math.sqrt(own[-1] + variance_of_mean(seen, b_weight))
        least = min(effective_count(w[chosen]), effective_count(b_weight))
        area = float(np.average(below, weights=w[chosen]))
        found.append(
            SignalResult(
                name=name,
                events=int(chosen.sum()),
                auc=logit_scale_interval(area, std, level=level, num_events=least),
                signal_efficiency=_signal_efficiencies(tail, other, rejections, level=level, seed=seed),
                r50=measure_or_none(
                    partial(rejection_factor_from_tails, tail, other, level=level, seed=seed),
                    f"R50 of signal {name!r}",
                ),
                roc=roc_from_tails(tail, other, points=NUM_ROC_POINTS),
            )
        )
    covariance = _covariance_of_means(np.stack(above), b_weight) + np.diag(own)
    mean = float(np.mean([one.auc.value for one in found]))
    return PerSignal(
        background_events=int(background.sum()),
        signals=tuple(found),
        mean_auc=logit_scale_interval(
            mean, math.sqrt(covariance.mean()), level=level, num_events=effective_count(w[background])
        ),
        covariance=covariance,
    )


def mean_auc_difference(
    logits: tuple[npt.ArrayLike, npt.ArrayLike],
    label: npt.ArrayLike,
    signal_index: npt.ArrayLike,
    weight: npt.ArrayLike | None = None,
    *,
    num_signals: int,
    level: float = ONE_SIGMA,
) -> Estimate:
    """Mean AUC over signals of the first score less that of the second, on the same events.

    Arrays as of `by_sample`, for so many signals. The error is that of a contrast (DeLong et al.), of the
    differences of placements, event by event, so that what both scores share cancels.
    """
    first, second, y, place, w = validate_arrays(
        weight, first=logits[0], second=logits[1], label=label, sample=signal_index
    )
    background, signal = class_masks(y)
    away, value, variance = np.zeros(int(background.sum())), 0.0, 0.0
    for number in range(num_signals):
        chosen = signal & (place == number)
        a, b = (
            delong_placements(score[background], w[background], score[chosen], w[chosen])
            for score in (first, second)
        )
        away += (a[1] - b[1]) / num_signals
        value += float(np.average(a[0] - b[0], weights=w[chosen])) / num_signals
        variance += variance_of_mean(a[0] - b[0], w[chosen]) / num_signals**2
    std = math.sqrt(variance + variance_of_mean(away, w[background]))
    reach = float(stats.norm.ppf(0.5 + level / 2)) * std
    return Estimate(value, value - reach, value + reach, std, level)


def _signal_efficiencies(
    background_tail: ScoreTail,
    signal_tail: ScoreTail,
    rejections: Sequence[float],
    *,
    level: float,
    seed: int,
) -> tuple[SignalEfficiency, ...]:
    found = []
    for rejection in rejections:
        measure = partial(
            signal_efficiency_from_tails,
            background_tail,
            signal_tail,
            rejection=rejection,
            level=level,
            seed=seed,
        )
        if (
            one := measure_or_none(measure, f"signal efficiency at {100 * rejection:g} % rejection")
        ) is not None:
            found.append(one)
    return tuple(found)


def _covariance_of_means(placements: Array, weight: Array) -> Array:
    """Of weighted means over the same events; placed: (means, events)."""
    away = (placements - np.average(placements, axis=1, weights=weight)[:, None]) * weight
    size = effective_count(weight)
    correction = size / (size - 1) if size > 1 else 1.0
    return np.asarray(away @ away.T / weight.sum() ** 2 * correction)
