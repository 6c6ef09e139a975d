"""How far a score depends on a nuisance, and how far independent events of as many would seem to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from hepdecorr.learning.batches import Batch
from hepdecorr.learning.methods.judging import spread
from hepdecorr.learning.terms.entropy import mutual_information
from hepdecorr.learning.terms.term import Term, ranks
from hepdecorr.validation.measures.dependence import unbiased_dcor2
from hepdecorr.validation.measures.divergence import floor as jsd_floor
from hepdecorr.validation.measures.divergence import jsd
from hepdecorr.validation.measures.events import effective, sums

MEASURES = ("dcor", "jsd", "information", "price")
LEVEL = 0.95  # share of the samples of independent events that stay below the floor
DEALT, DEALS = 2048, 200  # events whose nuisances are dealt by lot to find a floor, and how often
BINS = 20  # of the nuisance, equally filled


class Dependence(NamedTuple):
    """What one look at a sample has found."""

    name: str
    value: float
    bound: float

    @property
    def ratio(self) -> float:
        """In units of the bound: above 1 the constraint is violated."""
        return self.value / self.bound


class Own(NamedTuple):
    """The events of one class that a term looks at, and one nuisance of theirs."""

    name: str
    logit: Tensor
    z: Tensor
    w: Tensor


class Measure:
    """One sample, and what is found in it: a Dependence for each nuisance and each look at it.

    events: those that the term can see.  A term with a tail weight is looked at twice: as the events are,
    and with the weight, since either may hide what the other shows.  at_most: 0 for the floor, of which
    `floors` is the multiple.
    """

    def __init__(
        self,
        term: Term,
        b: Batch,
        *,
        kind: str,
        at_most: float,
        floors: float,
        at: Sequence[float],
        bulk: bool = True,
    ) -> None:
        self.events = b.take(term.among(b))
        self._term, self._at_most, self._floors, self._at = term, at_most, floors, at
        self._look: Callable[[Tensor], Iterator[Dependence]] = {
            "dcor": self._dcor,
            "jsd": self._jsd,
            "information": self._information,
            "price": self._price,
        }[kind]
        # Without `bulk` only the look with the tail weight: another term answers for the other.
        self._tails = ((0.0,) if bulk or not term.tail else ()) + ((term.tail,) if term.tail else ())
        self.known: dict[str, float] = {}  # floors, found once; a training that goes on must not find others

    def __call__(self, logit: Tensor) -> list[Dependence]:
        """The looks at this sample, for the logits of its events, shape (n,)."""
        return list(self._look(logit.float()))

    def _bound(self, floor: float) -> float:
        return self._at_most or max(self._floors * floor, 1e-12)

    def _each(self, logit: Tensor) -> Iterator[Own]:
        b, term = self.events, self._term
        for label in (0, 1) if term.given == "label" else (None,):
            own = torch.ones_like(b.y, dtype=torch.bool) if label is None else b.y == label
            w = b.w.clamp_min(0) * own
            own = own & (w > 0)
            if term.top < 1:
                own[own.clone()] = ranks(logit[own], w[own]) > 1 - term.top
            suffix = "" if label is None else ("_background", "_signal")[label]
            for name, column in zip(term.nuisances, term.columns, strict=True):
                yield Own(name + suffix, logit[own], b.z[own, column], w[own])

    def _dcor(self, logit: Tensor) -> Iterator[Dependence]:
        """Unbiased squared distance correlation of the ranks (Szekely, Rizzo, Ann. Statist. 42 (2014) 2382).

        With the tail weight the score's rank is one among events so weighted, in which each decade of
        rejection takes the same room.  Of ranks the floor depends on the weights alone, and needs to be found
        but once.
        """
        for own in self._each(logit):
            z = _middles(own.z, own.w)
            for tail in self._tails:
                w = own.w / (1 - ranks(own.logit.double(), own.w) + tail) if tail else own.w.double()
                s = ranks(own.logit.double(), w)
                arrays = tuple(t.double().cpu().numpy() for t in (s, z, w))
                name = f"{own.name}_tail" if tail else own.name
                if name not in self.known:
                    self.known[name] = _dealt(*arrays)
                yield Dependence(name, unbiased_dcor2(*arrays), self._bound(self.known[name]))

    def _jsd(self, logit: Tensor) -> Iterator[Dependence]:
        """Excess of the divergence over its floor at each rejection, for as many equally filled bins."""
        level = 1 - (1 - LEVEL) / len(self._at)
        for own in self._each(logit):
            place = (_middles(own.z, own.w) * BINS).long().clamp(0, BINS - 1).cpu().numpy()
            w, u = own.w.double().cpu().numpy(), ranks(own.logit.double(), own.w).cpu().numpy()
            for rejection in self._at:
                passing = u > rejection
                counts = effective(w[passing]), effective(w[~passing])
                if min(counts) < BINS:
                    continue  # such a cut cannot be looked at in this sample
                spectra = [sums(place[p], w[p], BINS) for p in (passing, ~passing)]
                floor = jsd_floor(*counts, bins=BINS)
                upper = floor * (float(stats.chi2.ppf(level, BINS - 1)) / (BINS - 1) - 1)
                yield Dependence(f"{own.name}_at_{rejection:g}", jsd(*spectra) - floor, self._bound(upper))

    def _information(self, logit: Tensor) -> Iterator[Dependence]:
        """I(score; nuisance) in nats on bins, finer towards the tail; floor by dealing the nuisances."""
        for own in self._each(logit):
            nats = partial(mutual_information, own.logit, w=own.w, bins=BINS, tail=bool(self._term.tail))
            if own.name not in self.known:
                generator = torch.Generator().manual_seed(1)
                lots = (torch.randperm(len(own.z), generator=generator) for _ in range(DEALS // 4))
                dealt = [nats(own.z[lot.to(own.z.device)]) for lot in lots]
                self.known[own.name] = float(np.quantile(dealt, LEVEL))
            yield Dependence(own.name, nats(own.z), self._bound(self.known[own.name]))

    def _price(self, logit: Tensor) -> Iterator[Dependence]:
        """The term's own price beyond what it asks when the nuisances are dealt to the events by lot."""
        b, term = self.events, self._term
        generator = torch.Generator().manual_seed(1)
        prices, dealt = [], []
        for s, part in spread(logit, b):
            prices.append(float(term.price(s, part)))
            lots = (part._replace(z=_deal(part, generator)) for _ in range(DEALS // 20))
            dealt += [float(term.price(s, lot)) for lot in lots]
        base, error = float(np.mean(dealt)), float(np.std(dealt)) / len(prices) ** 0.5
        value = float(np.mean(prices)) - base
        yield Dependence(term.nuisance, value, self._bound(float(stats.norm.ppf(LEVEL)) * error))


def _middles(z: Tensor, w: Tensor) -> Tensor:
    """Weighted ranks in (0, 1), in which equal values share the middle of their places; shape (n,)."""
    values, place = z.unique(return_inverse=True)
    filled = torch.zeros(len(values), dtype=torch.float64, device=z.device).index_add(0, place, w.double())
    grown: Tensor = (filled.cumsum(0) - filled / 2) / filled.sum()
    return grown[place]


def _dealt(s: Any, z: Any, w: Any) -> float:
    """What distance correlation stays below in 95 of 100 samples when z is dealt to (s, w) by lot.

    From some of the events: under independence it goes with the sum of the squared weights.
    """
    random = np.random.default_rng(0)
    part = random.choice(len(s), size=min(DEALT, len(s)), replace=False)
    found = [unbiased_dcor2(s[part], random.permutation(z[part]), w[part]) for _ in range(DEALS)]
    return float(np.quantile(found, LEVEL)) * effective(w[part]) / effective(w)


def _deal(b: Batch, generator: torch.Generator) -> Tensor:
    """The nuisances, dealt by lot to the events of each class."""
    z = b.z.clone()
    for label in (0, 1):
        own = (b.y == label).nonzero()[:, 0]
        z[own] = b.z[own[torch.randperm(len(own), generator=generator).to(own.device)]]
    return z
