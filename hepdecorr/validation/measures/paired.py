"""Several taggers on the same events: which of their differences are more than noise?

Events are drawn again, the same for every tagger, so that what fluctuates alike in both drops out of their
difference (Efron, Tibshirani, An Introduction to the Bootstrap, 1993, sect. 8 and 10). The draw is Poisson's
(Oza, Russell, AISTATS 2001; Chamandy et al. 2012): every event, with all of its entries, gets a weight of
mean one. Trainings are a second source of noise: with several seeds the variance of their mean is added,
paired where both taggers have the same seeds, and the interval is Student's with the degrees of freedom of
Welch and Satterthwaite (Biometrics Bull. 2 (1946) 110). A single training says nothing about that source.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

from hepdecorr.errors import InputError
from hepdecorr.validation.measures.compare import ALPHA, holm
from hepdecorr.validation.measures.divergence import jsd
from hepdecorr.validation.measures.efficiency import indices
from hepdecorr.validation.measures.events import checked, classes, sums
from hepdecorr.validation.measures.numbers import Array, Indices, Measured, Record


class Protected(NamedTuple):
    """A protected variable of the events, (events,), and the spectrum that judges it."""

    values: npt.ArrayLike
    range: tuple[float, float]
    bins: int = 50


@dataclass(frozen=True)
class Difference(Record):
    """One figure of one tagger minus that of another, on the same events."""

    first: str
    second: str
    figure: str  # 'auc', 'efficiency 0.95', 'jsd m_bc 0.95' (nats)
    value: Measured  # first - second with its 95 % interval; means over the seeds
    p_value: float  # two-sided, against no difference
    p_holm: float  # adjusted over all pairs of taggers, for this figure
    separable: bool  # p_holm <= 0.05; otherwise the two cannot be ranked by this figure
    seeds: tuple[int, int]  # trainings of each; with one of each their spread is not in the interval


@dataclass(frozen=True)
class Comparison(Record):
    """All differences between pairs of taggers."""

    figures: tuple[str, ...]
    values: dict[str, dict[str, tuple[float, ...]]]  # tagger -> figure -> one value per seed
    differences: tuple[Difference, ...]
    events: int
    replicas: int
    seed: int

    def between(self, first: str, second: str, figure: str) -> Difference:
        """first - second; InputError where there is no such pair or figure."""
        for one in self.differences:
            if one.figure == figure and {one.first, one.second} == {first, second}:
                return one if one.first == first else _turned(one)
        raise InputError(f"no difference of {first!r} and {second!r} in {figure!r} was measured")


def paired(
    logits: Mapping[str, Sequence[npt.ArrayLike]],
    label: npt.ArrayLike,
    *,
    weight: npt.ArrayLike | None = None,
    protected: Mapping[str, Protected] | None = None,
    rejections: Sequence[float] = (0.5, 0.9, 0.95, 0.99, 0.995),
    event: npt.ArrayLike | None = None,
    replicas: int = 300,
    seed: int = 0,
) -> Comparison:
    """Differences of AUC, signal efficiency and JSD at fixed rejections between all pairs of taggers.

    logits: tagger -> one array (events,) per training, in the same order of seeds for every tagger. label (0
    background, 1 signal), weight, event: (events,); entries with the same number in `event` are drawn
    together, as jets of one event must be. A JSD that stands at its floor has a bootstrap spread up to
    sqrt(3) times too wide, since drawn events add the floor a second time: its test errs on the quiet side.
    InputError for no taggers, arrays that do not fit, or a rejection that leaves no background event.
    """
    if not logits or not all(len(seeds) for seeds in logits.values()):
        raise InputError("paired: no taggers, or one without scores; give one array per training")
    y, w = checked(weight, label=label)
    classes(y)
    spectra = {
        name: _Spectrum.of(one.values, one.range, one.bins, y == 0) for name, one in (protected or {}).items()
    }
    scores = {
        name: [_Ordered.of(one, y, spectra, tuple(rejections)) for one in seeds]
        for name, seeds in logits.items()
    }
    names = _names(rejections, spectra)
    values = {name: np.array([one.figures(w) for one in seeds]) for name, seeds in scores.items()}
    for name, found in values.items():
        if not np.all(np.isfinite(found)):
            at = names[int(np.flatnonzero(~np.isfinite(found).all(axis=0))[0])]
            raise InputError(
                f"paired: {name}: no background event passes or fails ({at}); lower the rejection"
            )
    draws = _drawn(scores, w, event, replicas=replicas, seed=seed)
    differences = [
        difference
        for number, figure in enumerate(names)
        for difference in _adjusted(
            [
                _difference(
                    (first, values[first][:, number], draws[first][:, number]),
                    (second, values[second][:, number], draws[second][:, number]),
                    figure=figure,
                )
                for first, second in itertools.combinations(logits, 2)
            ]
        )
    ]
    listed = {
        name: {figure: tuple(map(float, one[:, k])) for k, figure in enumerate(names)}
        for name, one in values.items()
    }
    return Comparison(names, listed, tuple(differences), len(y), replicas, seed)


def _names(rejections: Sequence[float], spectra: Mapping[str, _Spectrum]) -> tuple[str, ...]:
    names = ["auc", *(f"efficiency {one:g}" for one in rejections)]
    return (*names, *(f"jsd {name} {one:g}" for name in spectra for one in rejections))


def _drawn(
    scores: Mapping[str, Sequence[_Ordered]],
    w: Array,
    event: npt.ArrayLike | None,
    *,
    replicas: int,
    seed: int,
) -> dict[str, Array]:
    """Every tagger's figures, mean over its trainings, in every draw of the events: (replicas, figures)."""
    group: Indices | None = None
    if event is not None:
        group = np.asarray(np.unique(np.asarray(event), return_inverse=True)[1], dtype=np.int64)
    size = len(w) if group is None else int(group.max()) + 1
    random = np.random.default_rng(seed)
    draws: dict[str, list[Array]] = {name: [] for name in scores}
    for _ in range(replicas):
        times = random.poisson(1.0, size).astype(np.float64)
        again = w * (times if group is None else times[group])
        for name, seeds in scores.items():
            draws[name].append(np.mean([one.figures(again) for one in seeds], axis=0))
    return {name: np.array(many) for name, many in draws.items()}


def _difference(
    first: tuple[str, Array, Array],
    second: tuple[str, Array, Array],
    *,
    figure: str,
    level: float = 1 - ALPHA,
) -> Difference:
    """From (name, one value per seed, draws) of both."""
    value = float(first[1].mean() - second[1].mean())
    drawn = first[2] - second[2]
    drawn = drawn[np.isfinite(drawn)]
    events = float(np.var(drawn, ddof=1)) if len(drawn) > 1 else math.inf
    trainings, freedom = _trainings(first[1], second[1])
    variance = events + trainings
    std = math.sqrt(variance)
    shares = [(events, len(drawn) - 1.0), (trainings, freedom)]
    inverse = sum(part**2 / many for part, many in shares if many > 0 and part > 0)
    student = stats.t(variance**2 / inverse) if inverse > 0 and math.isfinite(variance) else stats.norm()
    reach = float(student.ppf(0.5 + level / 2)) * std
    p_value = float(2 * student.sf(abs(value) / std)) if std > 0 else float(value == 0)
    measured = Measured(value, value - reach, value + reach, std, level)
    return Difference(
        first[0], second[0], figure, measured, p_value, p_value, False, (len(first[1]), len(second[1]))
    )


def _trainings(first: Array, second: Array) -> tuple[float, float]:
    """Variance of the difference of two means over trainings, and its degrees of freedom."""
    if len(first) == len(second):
        size = len(first)
        return (float(np.var(first - second, ddof=1)) / size, size - 1.0) if size > 1 else (0.0, 0.0)
    parts = [(float(np.var(one, ddof=1)) / len(one), len(one) - 1) for one in (first, second) if len(one) > 1]
    total = sum(part for part, _ in parts)
    squares = sum(part**2 / many for part, many in parts)
    return total, total**2 / squares if squares > 0 else 0.0


def _adjusted(differences: Sequence[Difference]) -> list[Difference]:
    adjusted = holm([one.p_value for one in differences])
    return [
        replace(one, p_holm=p, separable=p <= ALPHA) for one, p in zip(differences, adjusted, strict=True)
    ]


def _turned(one: Difference) -> Difference:
    value = replace(one.value, value=-one.value.value, low=-one.value.high, high=-one.value.low)
    return replace(one, first=one.second, second=one.first, value=value, seeds=one.seeds[::-1])


class _Spectrum(NamedTuple):
    place: Indices  # bin of every event; `bins` outside the range and for signal
    bins: int

    @classmethod
    def of(
        cls, values: npt.ArrayLike, span: tuple[float, float], bins: int, background: Indices
    ) -> _Spectrum:
        z, _ = checked(protected=values)
        if len(z) != len(background):
            raise InputError(
                f"paired: {len(z)} values of the protected variable for {len(background)} events"
            )
        place = indices(z, np.linspace(*span, bins + 1))
        place[~background] = bins
        return cls(place, bins)


@dataclass(frozen=True)
class _Ordered:
    """One score with its events in order, so that any weights give its figures in one pass."""

    background: Indices  # events by falling score
    last: Indices  # of every group of tied background scores; only behind these can a threshold stand
    scores: Array  # of the background, one per group, falling
    signal: Indices  # events by falling score
    signal_scores: Array
    above: Indices  # how many background events lie above each signal event
    tied: Indices  # and how many above it or level with it
    rejections: tuple[float, ...]
    spectra: tuple[tuple[Indices, Indices, int], ...]  # places of all events, of background in order; bins

    @classmethod
    def of(
        cls, logit: npt.ArrayLike, y: Array, spectra: Mapping[str, _Spectrum], rejections: tuple[float, ...]
    ) -> _Ordered:
        score, _ = checked(logit=logit)
        if len(score) != len(y):
            raise InputError(f"paired: {len(score)} scores for {len(y)} events; score the same events")
        order = np.argsort(-score, kind="stable")
        background, signal = order[y[order] == 0], order[y[order] == 1]
        falling, signal_scores = -score[background], score[signal]
        last = np.append(np.flatnonzero(np.diff(falling)), len(falling) - 1)
        return cls(
            background,
            last,
            -falling[last],
            signal,
            signal_scores,
            np.searchsorted(falling, -signal_scores, side="left"),
            np.searchsorted(falling, -signal_scores, side="right"),
            rejections,
            tuple((one.place, one.place[background], one.bins) for one in spectra.values()),
        )

    def figures(self, weight: Array) -> Array:
        """AUC, efficiencies and JSDs of the events with these weights; NaN where a JSD has no spectrum."""
        own, signal = weight[self.background], weight[self.signal]
        below = np.concatenate([[0.0], np.cumsum(own)])
        total, passed = below[-1], np.concatenate([[0.0], np.cumsum(signal)])
        if total <= 0 or passed[-1] <= 0:
            return np.full(1 + len(self.rejections) * (1 + len(self.spectra)), np.nan)
        area = 1 - float(signal @ (below[self.above] + below[self.tied])) / (2 * total * passed[-1])
        ends = below[self.last + 1]
        taken = [
            int(np.searchsorted(ends, (1 - one) * total * (1 + 1e-9), side="right"))
            for one in self.rejections
        ]
        found = [area, *(self._efficiency(one, passed) for one in taken)]
        for place, ordered, bins in self.spectra:
            whole = sums(place, weight, bins + 1)[:bins]
            found += [self._jsd(one, own, ordered, whole) for one in taken]
        return np.array(found)

    def _efficiency(self, taken: int, passed: Array) -> float:
        if taken in (0, len(self.scores)):
            return math.nan
        # Half-way between two scores, as in `signal_efficiency`.
        cut = (self.scores[taken - 1] + self.scores[taken]) / 2
        above = int(np.searchsorted(-self.signal_scores, -cut, side="left"))
        return float(passed[above] / passed[-1])

    def _jsd(self, taken: int, own: Array, ordered: Indices, whole: Array) -> float:
        if taken == 0:
            return math.nan
        stop = int(self.last[taken - 1]) + 1
        passing = sums(ordered[:stop], own[:stop], len(whole) + 1)[:-1]
        failing = np.maximum(whole - passing, 0.0)
        if not (passing.sum() > 0 and failing.sum() > 0):
            return math.nan
        return float(jsd(passing, failing))
