"""In bins of the nuisance: how well a tagger separates in each, and how much its score tells of the bin."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt
from scipy import stats
from scipy.special import logit as logit_

from hepdecorr.errors import InputError
from hepdecorr.validation.measures.events import checked, effective, sums
from hepdecorr.validation.measures.numbers import Array, Indices, Measured, Record
from hepdecorr.validation.measures.ranking import auc

FEW = 8  # values of a nuisance up to which each is a slice of its own
SCORE_BINS = 20
EQUAL_BINS = 10
CLASSES: Mapping[str, int | None] = {"all": None, "background": 0, "signal": 1}


class Slices(NamedTuple):
    """Bins of a nuisance, [low, high) each: their edges, and one title less."""

    edges: tuple[float, ...]
    titles: tuple[str, ...]

    @classmethod
    def of(cls, nuisance: npt.ArrayLike, edges: Sequence[float] | None = None) -> Self | None:
        """Bins with these edges; without, one for each value where these are few, and None where many."""
        if edges is not None:
            if len(edges) < 2 or not np.all(np.diff(edges) > 0):
                raise InputError(f"slices: edges {list(edges)} do not ascend")
            titles = [f"{low:g} to {high:g}" for low, high in itertools.pairwise(edges)]
            return cls(tuple(edges), tuple(titles))
        values = np.unique(np.asarray(nuisance, dtype=np.float64))
        if not 2 <= len(values) <= FEW:
            return None
        between = (values[1:] + values[:-1]) / 2
        ends = 1.5 * values[[0, -1]] - 0.5 * values[[1, -2]]
        return cls((float(ends[0]), *between.tolist(), float(ends[1])), tuple(f"= {v:g}" for v in values))

    @property
    def centres(self) -> Array:
        """The middle of every bin."""
        centres: Array = (np.array(self.edges[1:]) + np.array(self.edges[:-1])) / 2
        return centres

    def places(self, nuisance: npt.ArrayLike) -> Indices:
        """Index of each event's bin, (events,), -1 outside."""
        place = np.searchsorted(self.edges, np.asarray(nuisance, dtype=np.float64), side="right") - 1
        return np.where(place < len(self.titles), place, -1).astype(np.int64)


@dataclass(frozen=True)
class Slice(Record):
    """One bin of the nuisance: what the score is worth in it, all classes together."""

    title: str
    background_events: int
    signal_events: int
    auc: Measured | None  # None where one of the classes is absent, as in an empty bin
    accuracy: Measured | None  # share of events on their side of score 1/2
    cross_entropy: Measured | None  # nats


@dataclass(frozen=True)
class Information(Record):
    """I(score; bin of the nuisance) in nats, less the bias of finite samples, and a test that it is zero."""

    nats: Measured
    p_value: float
    events: int


@dataclass(frozen=True)
class InSlices(Record):
    """A tagger in bins of a nuisance; information of all events, of the background and of the signal.

    `information` has the score in quantile bins and so sees every digit of the logit; `equal` has it in equal
    bins of (0, 1), as the practicals do.
    """

    nuisance: str
    slices: tuple[Slice, ...]
    information: Mapping[str, Information | None]  # None for a class that has not two bins
    equal: Mapping[str, Information | None]


def in_slices(
    logit: npt.ArrayLike,
    label: npt.ArrayLike,
    nuisance: npt.ArrayLike,
    weight: npt.ArrayLike | None = None,
    *,
    slices: Slices,
    name: str = "nuisance",
) -> InSlices:
    """AUC, accuracy and cross-entropy in each bin, and the mutual information of score and bin.

    logit, label (0 background, 1 signal), nuisance, weight: (events,); events outside all bins are left out.
    These are the figures of M. Borisyak's practicals on pivoting (MLHEP 2019).
    """
    score, y, z, w = checked(weight, logit=logit, label=label, nuisance=nuisance)
    place = slices.places(z)
    parts = [place == number for number in range(len(slices.titles))]
    found: dict[str, Information | None] = {}
    equal: dict[str, Information | None] = {}
    inner = logit_(np.arange(1, EQUAL_BINS) / EQUAL_BINS)
    for kind, value in CLASSES.items():
        chosen = (place >= 0) & (True if value is None else y == value)
        several = len(np.unique(place[chosen])) > 1
        of = score[chosen], place[chosen]
        found[kind] = information(*of, weight=w[chosen]) if several else None
        equal[kind] = information(*of, weight=w[chosen], edges=inner) if several else None
    return InSlices(
        nuisance=name,
        slices=tuple(
            _slice(title, score[own], y[own], w[own]) for title, own in zip(slices.titles, parts, strict=True)
        ),
        information=found,
        equal=equal,
    )


def _slice(title: str, score: Array, y: Array, w: Array) -> Slice:
    both = len(np.unique(y)) == 2
    sign = 2 * y - 1
    counted = w.sum() > 0
    return Slice(
        title=title,
        background_events=int(np.count_nonzero(y == 0)),
        signal_events=int(np.count_nonzero(y == 1)),
        auc=auc(score, y, weight=w) if both else None,
        accuracy=_mean((sign * score > 0).astype(np.float64), w) if counted else None,
        cross_entropy=_mean(np.logaddexp(0, -sign * score), w) if counted else None,
    )


def _mean(values: Array, w: Array) -> Measured:
    mean = float(np.average(values, weights=w))
    std = float(np.sqrt(np.sum(np.square(w * (values - mean)))) / w.sum())
    return Measured(mean, mean - std, mean + std, std)


def information(
    logit: npt.ArrayLike,
    place: npt.ArrayLike,
    *,
    weight: npt.ArrayLike | None = None,
    bins: int = SCORE_BINS,
    edges: npt.ArrayLike | None = None,
) -> Information:
    """Mutual information of a score, in quantile bins, and a whole number such as the bin of a nuisance.

    edges: between the bins of the score, in place of its quantiles.

    Miller's and Madow's bias, (a - 1)(b - 1) / 2 N, is subtracted: the value may be slightly negative.  The
    p-value is that of the G-test, for which 2 N I is chi-squared with (a - 1)(b - 1) degrees of freedom
    (Wilks 1938); N is the effective number of events.
    """
    score, number, w = checked(weight, logit=logit, place=place)
    between = np.quantile(score, np.arange(1, bins) / bins) if edges is None else edges
    a = np.searchsorted(np.unique(between), score, side="right").astype(np.int64)
    b = np.unique(number, return_inverse=True)[1].astype(np.int64)
    shape = (int(a.max()) + 1, int(b.max()) + 1)
    joint = sums(a * shape[1] + b, w, shape[0] * shape[1]).reshape(shape) / w.sum()
    apart = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    ratio = np.log(np.divide(joint, apart, where=joint > 0, out=np.ones(shape)))
    raw, events = float(np.sum(joint * ratio)), effective(w)
    filled = [np.count_nonzero(joint.sum(axis=axis)) - 1 for axis in (0, 1)]
    freedom = filled[0] * filled[1]
    # The delta method, less what chance alone puts in its sum; and the spread of chi-squared, which is all
    # that is left at independence.
    tilt = max(float(np.sum(joint * ratio**2)) - raw**2 - freedom / events, 0.0)
    spread = tilt / events + freedom / (2 * events**2)
    value, std = raw - freedom / (2 * events), float(np.sqrt(spread))
    p_value = float(stats.chi2.sf(2 * events * raw, freedom)) if freedom else 1.0
    return Information(Measured(value, value - std, value + std, std), p_value, len(score))
