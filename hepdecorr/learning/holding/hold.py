"""A constraint in place of a strength, by modified differential multipliers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn

from hepdecorr.catalogue import suggest
from hepdecorr.errors import InputError
from hepdecorr.learning.batches import Data
from hepdecorr.learning.holding.measuring import MEASURES, Dependence, Measure
from hepdecorr.learning.methods.judging import chunks
from hepdecorr.learning.moves import read_settings
from hepdecorr.learning.terms.term import Term
from hepdecorr.learning.training import Play

AIM = 0.8  # of the bound: at the bound itself every other epoch would fall short
SEED = 1  # of the training events that are looked at
RANGE = (1e-3, 1e4)  # of the multiplier, in first values


class Scorer(NamedTuple):
    """What gives the logits of raw rows, and the network behind it."""

    module: nn.Module
    logit: Callable[[Tensor], Tensor]

    @contextmanager
    def resting(self) -> Iterator[None]:
        """Within it the network scores as it will when it is trained."""
        learning = self.module.training
        self.module.eval()
        try:
            yield
        finally:
            self.module.train(learning)


@dataclass(frozen=True)
class Hold:
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
    at_most: float = 0.0  # 0 for the floor
    floors: float = 1.0
    sample: int = 100_000
    checks: int = 2
    rate: float = 12.0
    damping: float = 0.5
    at: tuple[float, ...] = (0.5, 0.9, 0.95, 0.99, 0.995)

    def __post_init__(self) -> None:
        if self.measure not in MEASURES:
            raise InputError(f"no measure {self.measure!r}{suggest(self.measure, MEASURES)}")
        if self.checks < 1 or self.sample < 0 or min(self.at_most, self.damping) < 0:
            raise InputError("checks must be at least 1; sample, at_most and damping cannot be negative")
        if not (self.rate > 0 and self.floors > 0):
            raise InputError("rate and floors must be positive")

    @classmethod
    def read(cls, spec: Any, *, where: str) -> Self:
        """From the block `hold` of a term."""
        if not isinstance(spec, Mapping):
            raise InputError(
                f"{where}: hold must say what, as {{measure: dcor, at_most: floor}}, not {spec!r}"
            )
        given = dict(spec)
        most = given.pop("at_most", "floor")
        if most == "floor":
            most = 0.0
        elif isinstance(most, bool) or not isinstance(most, int | float) or not most > 0:
            raise InputError(f"{where}: hold: at_most must be 'floor' or a number above 0, not {most!r}")
        at = given.pop("at", cls.at)
        good = isinstance(at, list | tuple) and at and all(isinstance(r, float) and 0 < r < 1 for r in at)
        if not good:
            raise InputError(
                f"{where}: hold: at must be a list of background rejections, as [0.9, 0.99], not {at!r}"
            )
        settings = read_settings(cls, given, where=f"{where}: hold")
        return replace(settings, at_most=float(most), at=tuple(at))


class Held:
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
        self, hold: Hold, term: Term, *, scorer: Scorer, data: Data, turns: int, bulk: bool = True
    ) -> None:
        self.hold, self.term, self._scorer = hold, term, scorer
        self._every = max(1, turns // hold.checks)
        self._multiplier, self._strain, self._since = term.growth.strength, 0.0, term.growth.start
        self._seen: dict[str, float] = {}
        measure = partial(
            Measure,
            term,
            kind=hold.measure,
            at_most=hold.at_most,
            floors=hold.floors,
            at=hold.at,
            bulk=bulk,
        )
        self._samples = {"validation": measure(data.validation.all)}
        if hold.sample:
            # From a generator of its own, that a training that goes on looks at the same events.
            seen = data.train.sample(hold.sample, generator=torch.Generator().manual_seed(SEED))
            self._samples["training"] = measure(seen)

    def at(self, passed: float) -> float:
        """The strength when this fraction of the stage has passed; it sets in as the term's would."""
        growth = self.term.growth
        share = growth.at(passed) / growth.strength
        return share * self._multiplier * (1 + self.hold.damping * self._strain)

    def follow(self, play: Play) -> None:
        """Look, every so many turns, how far the constraint is violated, and move the multiplier."""
        if play.passed < self.term.growth.start or play.turn % self._every:
            return
        with play.averaged(), self._scorer.resting():
            worst = max(one.ratio for one in self.looks())
        self._strain = max(-1.0, min(1.0, math.log(max(worst, 1e-3) / AIM)))
        first = self.term.growth.strength
        moved = self._multiplier * math.exp(self.hold.rate * self._strain * (play.passed - self._since))
        self._multiplier, self._since = min(max(moved, RANGE[0] * first), RANGE[1] * first), play.passed

    @torch.no_grad()
    def looks(self) -> list[Dependence]:
        """The dependence found in each sample, with its bound."""
        found = []
        for name, measure in self._samples.items():
            logit = torch.cat([self._scorer.logit(part) for part in chunks(measure.events.x)]).float()
            found += [one._replace(name=f"{one.name} in {name}") for one in measure(logit)]
        if not found:
            raise InputError(
                f"hold of {self.term.nuisance}: no rejection of {list(self.hold.at)} leaves enough events to "
                "look at; ask for lower ones (at: [0.5, 0.9]), or for measure: dcor"
            )
        return found

    def judged(self) -> Dependence:
        """The worst look at the weights as they are now, which the curves then show."""
        found = self.looks()
        self._seen = {one.name: one.ratio for one in found}
        return max(found, key=lambda one: one.ratio)

    def complaint(self, worst: Dependence) -> str:
        """Why it does not hold."""
        return (
            f"does not hold: {self.hold.measure} of {worst.name} events is {worst.value:.2g}, at most "
            f"{worst.bound:.2g} was asked; train for longer, ask for less (a greater at_most, or floors: 3), "
            "or add a term that sees what this one misses"
        )

    def figures(self) -> dict[str, float]:
        """What the curves show: the multiplier, and each look in units of its bound."""
        return {"multiplier": self._multiplier} | self._seen

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        known = {name: dict(measure.known) for name, measure in self._samples.items()}
        moved = {"multiplier": self._multiplier, "strain": self._strain, "since": self._since}
        return moved | {"known": known}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Back to what a checkpoint kept."""
        self._multiplier, self._strain, self._since = state["multiplier"], state["strain"], state["since"]
        for name, measure in self._samples.items():
            measure.known = dict(state["known"][name])
