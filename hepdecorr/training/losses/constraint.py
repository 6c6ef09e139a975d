"""How far a score depends on a nuisance, and how far independent events of as many would seem to.

A constraint in place of a strength, by modified differential multipliers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from scipy import stats
from torch import Tensor, nn

from hepdecorr.errors import InputError, suggest
from hepdecorr.stats.arrays import binned_sums, effective_count
from hepdecorr.stats.distance_correlation import unbiased_dcor2
from hepdecorr.stats.divergence import jsd, jsd_floor
from hepdecorr.training.data.batches import Batch
from hepdecorr.training.data.chunks import score_chunks, spread
from hepdecorr.training.data.splits import DataSplits
from hepdecorr.training.losses.base import Term, weighted_ranks
from hepdecorr.training.losses.information import mutual_information
from hepdecorr.training.optim import settings_from_config
from hepdecorr.training.trainer import Trainer

DEPENDENCE_MEASURES = ("dcor", "jsd", "information", "penalty")
FLOOR_QUANTILE = 0.95  # share of the samples of independent events that stay below the floor
MAX_PERMUTED_EVENTS, NUM_PERMUTATIONS = (
    2048,
    200,
)  # events whose nuisances are dealt by lot to find a floor, and how often
NUM_NUISANCE_BINS = 20  # of the nuisance, equally filled


class Dependence(NamedTuple):
    """What one look at a sample has found."""

    name: str
    value: float
    bound: float

    @property
    def ratio(self) -> float:
        """In units of the bound: above 1 the constraint is violated."""
        return self.value / self.bound


class ClassEvents(NamedTuple):
    """The events of one class that a term looks at, and one nuisance of theirs."""

    name: str
    logit: Tensor
    z: Tensor
    w: Tensor


class DependenceMeasure:
    """One sample, and what is found in it: a Dependence for each nuisance and each look at it.

    events: those that the term can see.  A term with a tail weight is looked at twice: as the events are,
    and with the weight, since either may hide what the other shows.  at_most: 0 for the floor, of which
    `floors` is the multiple.
    """

    def __init__(
        self,
        term: Term,
        batch: Batch,
        *,
        measure: str,
        max_value: float,
        floor_factor: float,
        rejections: Sequence[float],
        check_bulk: bool = True,
    ) -> None:
        self.events = batch.take(term.event_mask(batch))
        self._term, self._max_value, self._floor_factor, self._rejections = (
            term,
            max_value,
            floor_factor,
            rejections,
        )
        self._measure: Callable[[Tensor], Iterator[Dependence]] = {
            "dcor": self._measure_dcor,
            "jsd": self._measure_jsd,
            "information": self._measure_information,
            "penalty": self._measure_penalty,
        }[measure]
        # Without `bulk` only the look with the tail weight: another term answers for the other.
        self._tail_weights = ((0.0,) if check_bulk or not term.tail_weight else ()) + (
            (term.tail_weight,) if term.tail_weight else ()
        )
        self.noise_floors: dict[
            str, float
        ] = {}  # floors, found once; a training that goes on must not find others

    def __call__(self, logit: Tensor) -> list[Dependence]:
        """The looks at this sample, for the logits of its events, shape (n,)."""
        return list(self._measure(logit.float()))

    def _upper_bound(self, floor: float) -> float:
        return self._max_value or max(self._floor_factor * floor, 1e-12)

    def _class_events(self, logit: Tensor) -> Iterator[ClassEvents]:
        b, term = self.events, self._term
        for label in (0, 1) if term.classes == "each" else (None,):
            own = torch.ones_like(b.y, dtype=torch.bool) if label is None else b.y == label
            w = b.w.clamp_min(0) * own
            own = own & (w > 0)
            if term.top_fraction < 1:
                own[own.clone()] = weighted_ranks(logit[own], w[own]) > 1 - term.top_fraction
            suffix = "" if label is None else ("_background", "_signal")[label]
            for name, column in zip(term.nuisances, term.columns, strict=True):
                yield ClassEvents(name + suffix, logit[own], b.z[own, column], w[own])

    def _measure_dcor(self, logit: Tensor) -> Iterator[Dependence]:
        """Unbiased squared distance correlation of the ranks (Szekely, Rizzo, Ann. Statist. 42 (2014) 2382).

        With the tail weight the score's rank is one among events so weighted, in which each decade of
        rejection takes the same room.  Of ranks the floor depends on the weights alone, and needs to be found
        but once.
        """
        for own in self._class_events(logit):
            z = _midranks(own.z, own.w)
            for tail in self._tail_weights:
                w = own.w / (1 - weighted_ranks(own.logit.double(), own.w) + tail) if tail else own.w.double()
                s = weighted_ranks(own.logit.double(), w)
                arrays = tuple(t.double().cpu().numpy() for t in (s, z, w))
                name = f"{own.name}_tail" if tail else own.name
                if name not in self.noise_floors:
                    self.noise_floors[name] = _permutation_floor(*arrays)
                yield Dependence(name, unbiased_dcor2(*arrays), self._upper_bound(self.noise_floors[name]))

    def _measure_jsd(self, logit: Tensor) -> Iterator[Dependence]:
        """Excess of the divergence over its floor at each rejection, for as many equally filled bins."""
        level = 1 - (1 - FLOOR_QUANTILE) / len(self._rejections)
        for own in self._class_events(logit):
            place = (
                (_midranks(own.z, own.w) * NUM_NUISANCE_BINS)
                .long()
                .clamp(0, NUM_NUISANCE_BINS - 1)
                .cpu()
                .numpy()
            )
            w, u = own.w.double().cpu().numpy(), weighted_ranks(own.logit.double(), own.w).cpu().numpy()
            for rejection in self._rejections:
                passing = u > rejection
                counts = effective_count(w[passing]), effective_count(w[~passing])
                if min(counts) < NUM_NUISANCE_BINS:
                    continue  # such a cut cannot be looked at in this sample
                spectra = [binned_sums(place[p], w[p], NUM_NUISANCE_BINS) for p in (passing, ~passing)]
                floor = jsd_floor(*counts, bins=NUM_NUISANCE_BINS)
                upper = floor * (
                    float(stats.chi2.ppf(level, NUM_NUISANCE_BINS - 1)) / (NUM_NUISANCE_BINS - 1) - 1
                )
                yield Dependence(
                    f"{own.name}_at_{rejection:g}", jsd(*spectra) - floor, self._upper_bound(upper)
                )

    def _measure_information(self, logit: Tensor) -> Iterator[Dependence]:
        """I(score; nuisance) in nats on bins, finer towards the tail; floor by dealing the nuisances."""
        for own in self._class_events(logit):
            nats = partial(
                mutual_information,
                own.logit,
                w=own.w,
                bins=NUM_NUISANCE_BINS,
                fine_tail=bool(self._term.tail_weight),
            )
            if own.name not in self.noise_floors:
                generator = torch.Generator().manual_seed(1)
                lots = (torch.randperm(len(own.z), generator=generator) for _ in range(NUM_PERMUTATIONS // 4))
                dealt = [nats(own.z[lot.to(own.z.device)]) for lot in lots]
                self.noise_floors[own.name] = float(np.quantile(dealt, FLOOR_QUANTILE))
            yield Dependence(own.name, nats(own.z), self._upper_bound(self.noise_floors[own.name]))

    def _measure_penalty(self, logit: Tensor) -> Iterator[Dependence]:
        """The term's own price beyond what it asks when the nuisances are dealt to the events by lot."""
        b, term = self.events, self._term
        generator = torch.Generator().manual_seed(1)
        prices, dealt = [], []
        for s, part in spread(logit, b):
            prices.append(float(term.penalty(s, part)))
            lots = (
                part._replace(z=_permute_nuisances(part, generator)) for _ in range(NUM_PERMUTATIONS // 20)
            )
            dealt += [float(term.penalty(s, lot)) for lot in lots]
        base, error = float(np.mean(dealt)), float(np.std(dealt)) / len(prices) ** 0.5
        value = float(np.mean(prices)) - base
        yield Dependence(
            term.nuisance_label, value, self._upper_bound(float(stats.norm.ppf(FLOOR_QUANTILE)) * error)
        )


def _midranks(z: Tensor, w: Tensor) -> Tensor:
    """Weighted ranks in (0, 1), in which equal values share the middle of their places; shape (n,)."""
    values, place = z.unique(return_inverse=True)
    filled = torch.zeros(len(values), dtype=torch.float64, device=z.device).index_add(0, place, w.double())
    grown: Tensor = (filled.cumsum(0) - filled / 2) / filled.sum()
    return grown[place]


def _permutation_floor(s: Any, z: Any, w: Any) -> float:
    """What distance correlation stays below in 95 of 100 samples when z is dealt to (s, w) by lot.

    From some of the events: under independence it goes with the sum of the squared weights.
    """
    random = np.random.default_rng(0)
    part = random.choice(len(s), size=min(MAX_PERMUTED_EVENTS, len(s)), replace=False)
    found = [unbiased_dcor2(s[part], random.permutation(z[part]), w[part]) for _ in range(NUM_PERMUTATIONS)]
    return float(np.quantile(found, FLOOR_QUANTILE)) * effective_count(w[part]) / effective_count(w)


def _permute_nuisances(batch: Batch, generator: torch.Generator) -> Tensor:
    """The nuisances, dealt by lot to the events of each class."""
    z = batch.z.clone()
    for label in (0, 1):
        own = (batch.y == label).nonzero()[:, 0]
        z[own] = batch.z[own[torch.randperm(len(own), generator=generator).to(own.device)]]
    return z


TARGET_RATIO = 0.8  # of the bound: at the bound itself every other epoch would fall short
CONSTRAINT_SAMPLE_SEED = 1  # of the training events that are looked at
MULTIPLIER_RANGE = (1e-3, 1e4)  # of the multiplier, in first values


class Scorer(NamedTuple):
    """What gives the logits of raw rows, and the network behind it."""

    module: nn.Module
    logit: Callable[[Tensor], Tensor]

    @contextmanager
    def eval_mode(self) -> Iterator[None]:
        """Within it the network scores as it will when it is trained."""
        learning = self.module.training
        self.module.eval()
        try:
            yield
        finally:
            self.module.train(learning)


@dataclass(frozen=True)
class ConstraintConfig:
    """How far the score may depend on the nuisance; the term's strength is then found and not given.

    measure: 'dcor' (unbiased squared distance correlation), 'jsd' (divergence beyond its floor of the
    nuisance's spectra above and below a cut, at the rejections `at`), 'information' (nats between score and
    nuisance, on bins) or 'price' (the term's own, and of several nuisances their joint one).  at_most: a
    number, or 'floor': what 95 of 100 samples of so many independent events stay below, `floors` times that.

    sample: training events that are looked at, beside those of validation, `checks` times an epoch: they
    are many and tell little, those of validation few and unseen; both must stay below their bounds.
    rate: how fast the multiplier moves, `damping`: how stiff the constraint is; see Held.
    """

    measure: str = "dcor"
    max_value: float = 0.0  # 0 for the floor
    floor_factor: float = 1.0
    sample_size: int = 100_000
    checks_per_epoch: int = 2
    multiplier_lr: float = 12.0
    damping: float = 0.5
    rejections: tuple[float, ...] = (0.5, 0.9, 0.95, 0.99, 0.995)

    def __post_init__(self) -> None:
        if self.measure not in DEPENDENCE_MEASURES:
            raise InputError(f"no measure {self.measure!r}{suggest(self.measure, DEPENDENCE_MEASURES)}")
        if self.checks_per_epoch < 1 or self.sample_size < 0 or min(self.max_value, self.damping) < 0:
            raise InputError(
                "checks_per_epoch must be at least 1; sample_size, max_value and damping cannot be negative"
            )
        if not (self.multiplier_lr > 0 and self.floor_factor > 0):
            raise InputError("multiplier_lr and floor_factor must be positive")

    @classmethod
    def from_config(cls, spec: Any, *, where: str) -> Self:
        """From the block `constraint` of a term."""
        if not isinstance(spec, Mapping):
            raise InputError(
                f"{where}: constraint must say what, as {{measure: dcor, max_value: floor}}, not {spec!r}"
            )
        given = dict(spec)
        most = given.pop("max_value", "floor")
        if most == "floor":
            most = 0.0
        elif isinstance(most, bool) or not isinstance(most, int | float) or not most > 0:
            raise InputError(
                f"{where}: constraint: max_value must be 'floor' or a number above 0, not {most!r}"
            )
        at = given.pop("rejections", cls.rejections)
        good = isinstance(at, list | tuple) and at and all(isinstance(r, float) and 0 < r < 1 for r in at)
        if not good:
            raise InputError(
                f"{where}: constraint: rejections must be a list of background rejections, as [0.9, "
                f"0.99], not {at!r}"
            )
        settings = settings_from_config(cls, given, where=f"{where}: constraint")
        return replace(settings, max_value=float(most), rejections=tuple(at))


class ConstrainedStrength:
    """A term whose strength moves until its constraint holds: modified differential multipliers.

    Platt, Barr (Constrained differential optimization, NIPS 1987) descend f + m g + c g^2 / 2 and let the
    multiplier ascend, dm/dt = g; the damping c keeps both from circling each other.  Here g is the logarithm
    of the worst look in units of its bound, between -1 and 1, and the multiplier moves in its logarithm,
    d log m / dt = rate g (t: the fraction of the stage that has passed): what is needed differs by orders of
    magnitude from case to case, must not be negative, and has to be found within a few epochs.  The strength
    is m (1 + c g).  What is looked at are the averaged weights, which are kept, and not those that jitter.

    bulk: whether a term with a tail weight answers for the events as they are, too.
    """

    def __init__(
        self,
        config: ConstraintConfig,
        term: Term,
        *,
        scorer: Scorer,
        data: DataSplits,
        num_batches: int,
        check_bulk: bool = True,
    ) -> None:
        self.config, self.term, self._scorer = config, term, scorer
        self._check_interval = max(1, num_batches // config.checks_per_epoch)
        self._multiplier, self._violation, self._last_progress = (
            term.schedule.strength,
            0.0,
            term.schedule.start,
        )
        self._last_ratios: dict[str, float] = {}
        measure = partial(
            DependenceMeasure,
            term,
            measure=config.measure,
            max_value=config.max_value,
            floor_factor=config.floor_factor,
            rejections=config.rejections,
            check_bulk=check_bulk,
        )
        self._samples = {"validation": measure(data.validation.all)}
        if config.sample_size:
            # From a generator of its own, that a training that goes on looks at the same events.
            seen = data.train.sample(
                config.sample_size, generator=torch.Generator().manual_seed(CONSTRAINT_SAMPLE_SEED)
            )
            self._samples["training"] = measure(seen)

    def value(self, progress: float) -> float:
        """The strength when this fraction of the stage has passed; it sets in as the term's would."""
        growth = self.term.schedule
        share = growth.value(progress) / growth.strength
        return share * self._multiplier * (1 + self.config.damping * self._violation)

    def update(self, trainer: Trainer) -> None:
        """Look, every so many turns, how far the constraint is violated, and move the multiplier."""
        if trainer.progress < self.term.schedule.start or trainer.iteration % self._check_interval:
            return
        with trainer.ema_weights(), self._scorer.eval_mode():
            worst = max(one.ratio for one in self.measure())
        self._violation = max(-1.0, min(1.0, math.log(max(worst, 1e-3) / TARGET_RATIO)))
        first = self.term.schedule.strength
        moved = self._multiplier * math.exp(
            self.config.multiplier_lr * self._violation * (trainer.progress - self._last_progress)
        )
        self._multiplier, self._last_progress = (
            min(max(moved, MULTIPLIER_RANGE[0] * first), MULTIPLIER_RANGE[1] * first),
            trainer.progress,
        )

    @torch.no_grad()
    def measure(self) -> list[Dependence]:
        """The dependence found in each sample, with its bound."""
        found = []
        for name, measure in self._samples.items():
            logit = torch.cat([self._scorer.logit(part) for part in score_chunks(measure.events.x)]).float()
            found += [one._replace(name=f"{one.name} in {name}") for one in measure(logit)]
        if not found:
            raise InputError(
                f"constraint of {self.term.nuisance_label}: no rejection of {list(self.config.rejections)} "
                "leaves enough events to "
                "look at; ask for lower ones (rejections: [0.5, 0.9]), or for measure: dcor"
            )
        return found

    def measure_worst(self) -> Dependence:
        """The worst look at the weights as they are now, which the curves then show."""
        found = self.measure()
        self._last_ratios = {one.name: one.ratio for one in found}
        return max(found, key=lambda one: one.ratio)

    def describe_violation(self, worst: Dependence) -> str:
        """Why it does not hold."""
        return (
            f"does not hold: {self.config.measure} of {worst.name} events is {worst.value:.2g}, at most "
            f"{worst.bound:.2g} was asked; train for longer, ask for less (a greater max_value, or "
            "floor_factor: 3), or add a term that sees what this one misses"
        )

    def metrics(self) -> dict[str, float]:
        """What the curves show: the multiplier, and each look in units of its bound."""
        return {"multiplier": self._multiplier} | self._last_ratios

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        known = {name: dict(measure.noise_floors) for name, measure in self._samples.items()}
        moved = {"multiplier": self._multiplier, "strain": self._violation, "since": self._last_progress}
        return moved | {"known": known}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Back to what a checkpoint kept."""
        self._multiplier, self._violation, self._last_progress = (
            state["multiplier"],
            state["strain"],
            state["since"],
        )
        for name, measure in self._samples.items():
            measure.noise_floors = dict(state["known"][name])
