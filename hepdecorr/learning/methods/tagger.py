"""A classifier and the terms that decorrelate it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from hepdecorr import catalogue
from hepdecorr.errors import InputError
from hepdecorr.learning.batches import Batch, Data, Events
from hepdecorr.learning.holding import Held, Hold, Scorer
from hepdecorr.learning.methods.drawing import Drawing
from hepdecorr.learning.methods.judging import Judge
from hepdecorr.learning.methods.method import Method, cross_entropy, read_training
from hepdecorr.learning.networks.building import network as build_network
from hepdecorr.learning.networks.principal import fitted_on
from hepdecorr.learning.players import Player
from hepdecorr.learning.terms.adversary import Adversary
from hepdecorr.learning.terms.disco import DisCo
from hepdecorr.learning.terms.strength import Growth
from hepdecorr.learning.terms.term import Term
from hepdecorr.learning.training import Play

PLAIN = {"epochs": 16, "batch": 2048, "average": 0.998}
PAYING = {"epochs": 16, "batch": 4096, "average": 0.998, "clip": 1.0, "slack": 0.05}
PURSUED = PAYING | {"clip": 5.0}
HOLDING = {"slack": 0.0}  # the criterion is then without dependence and its noise


class Tagger(Method):
    """Cross-entropy plus the sum of its terms: plain with none, DisCo, pivot, or a mixture.

    With adversaries this is the game of Louppe et al. (1611.01046, algorithm 1): each adversary moves
    several times a turn on its own batches, then the tagger once; or both on one backward pass, with
    `update: reversal`.  Everything happens in one stage: a plain start, in which the adversaries are trained
    last, then the strengths grow.  weigh: what one nat of I(score; nuisance) costs, beside the terms, when
    epochs are compared.
    """

    def __init__(
        self,
        *,
        features: Sequence[str],
        constituents: Sequence[str] = (),
        length: int = 0,
        nuisances: Sequence[str] = (),
        terms: Sequence[Mapping[str, Any]] = (),
        network: Mapping[str, Any] | str = "MLP",
        training: Mapping[str, Any] | None = None,
        weigh: float = 0.0,
        base: Path | None = None,
    ) -> None:
        super().__init__()
        self.weigh = float(weigh)
        self.network = build_network(
            network, features=features, constituents=constituents, length=length, base=base
        )
        self._drawings: dict[str, Drawing] = {}
        self.terms = nn.ModuleDict(build_terms(terms, nuisances=nuisances, base=base))
        self.holds = read_holds(terms, list(self.terms))
        self._held: dict[str, Held] = {}
        adversaries = any(isinstance(t, Adversary) for t in self.terms.values())
        defaults = PURSUED if adversaries else PAYING if terms else PLAIN
        defaults = defaults | (HOLDING if self.holds else {})
        self.recipe, self.moves = read_training(training, where="method: training", defaults=defaults)

    def learn(self, data: Data, play: Play) -> None:
        """One stage, 'tagger'."""
        self.to(play.device)
        sample = data.train.sample(generator=play.generator)
        self.network.fit(fitted_on(self.network, sample).x)  # type: ignore[operator]
        players: dict[str, Player] = {}
        for name, term in self._each():
            term.fit(sample)
            if isinstance(term, Adversary):
                players[name] = term.chasing.player(term, self._chaser(term, play))
            if isinstance(term, DisCo) and term.draw and isinstance(data.train, Events):
                self._drawings[name] = Drawing(
                    data.train.all.take(term.among(data.train.all)),
                    self.logit,
                    rows=term.draw,
                    tail=term.tail,
                    refresh=term.refresh,
                    generator=play.generator,
                )
        self._held = self._holding(data)
        reversed_ = {name: term for name, term in self._each() if _reversed(term)}
        pay = Player(
            self.network, lambda b: self._pay(b, play), moves=self.moves, leaves=tuple(reversed_.values())
        )
        # These move on what the tagger's backward pass has left.
        after = {name: players.pop(name) for name in reversed_}
        players |= {"tagger": pay} | after
        play(
            players,
            data,
            self.recipe,
            stage="tagger",
            judge=Judge(
                self.logit,
                data.validation,
                terms=dict(self._each()),
                weigh=self.weigh,
                held=self._held,
            ),
            settled=max((t.growth.settled for _, t in self._each()), default=0.0),
            companions={f"hold_{name}": held for name, held in self._held.items()},
        )
        self._drawings.clear()  # they hold the training events
        self._held = {}

    def logit(self, x: Tensor) -> Tensor:
        """Shape (n,)."""
        return self.network(x).squeeze(-1)  # type: ignore[no-any-return]

    def _each(self) -> list[tuple[str, Term]]:
        return [(name, term) for name, term in self.terms.items() if isinstance(term, Term)]

    def _holding(self, data: Data) -> dict[str, Held]:
        about: dict[str, Any] = {"data": data, "turns": data.train.turns(self.recipe.batch)}
        about["scorer"] = Scorer(self.network, self.logit)
        held = {}
        for name, hold in self.holds.items():
            term = cast("Term", self.terms[name])
            others = [t for n, t in self._each() if n in self.holds and n != name]
            bulk = not any(t.tail == 0 and t.nuisances == term.nuisances for t in others)
            held[name] = Held(hold, term, bulk=bulk, **about)
        return held

    def _pay(self, b: Batch, play: Play) -> dict[str, Tensor]:
        for held in self._held.values():
            held.follow(play)  # before anything is computed with the present weights
        logit = self.logit(b.x)
        bill = {"classify": cross_entropy(logit, b)}
        for name, term in self._each():
            paid: Held | Growth = self._held.get(name, term.growth)
            strength = paid.at(play.passed)
            drawing = self._drawings.get(name)
            if isinstance(term, Adversary) and _reversed(term) and play.passed >= term.growth.start:
                bill[name] = term.reverse(logit, b, strength=strength)
            elif not strength:
                bill[name] = logit.new_zeros(())
            elif drawing is not None and isinstance(term, DisCo):
                drawn = drawing.batch(play.turn)
                bill[name] = strength * term.price(self.logit(drawn.x), drawn, even=True)
            else:
                bill[name] = strength * term.price(logit, b)
        return bill

    def _chaser(self, term: Adversary, play: Play) -> Any:
        def chase(b: Batch) -> dict[str, Tensor]:
            if term.chasing.reversal and play.passed >= term.growth.start:
                return {"chase": term.latest}  # its gradient is there
            own = b.take(term.among(b).nonzero()[:, 0])  # the others would not be looked at
            with torch.no_grad():
                logit = self.logit(own.x)
            return {"chase": term.chase(logit, own)}

        return chase


def _reversed(term: Term) -> bool:
    return isinstance(term, Adversary) and term.chasing.reversal


def build_terms(
    specs: Sequence[Mapping[str, Any]], *, nuisances: Sequence[str], base: Path | None
) -> dict[str, Term]:
    """The terms by the names that the curves carry: type and nuisance, numbered where they repeat."""
    built: dict[str, Term] = {}
    if isinstance(specs, Mapping | str) or not all(isinstance(spec, Mapping) for spec in specs):
        raise InputError(f"terms must list terms, as [{{type: DisCo, nuisance: NAME}}], not {specs!r}")
    for spec in specs:
        own = {k: v for k, v in spec.items() if k != "hold"}
        term: Term = catalogue.build(
            own, home="hepdecorr.learning.terms", base=base, nuisances=list(nuisances)
        )
        name = f"{type(term).__name__.lower()}_{term.nuisance}".replace(".", "_")
        count = sum(1 for known in built if known == name or known.startswith(f"{name}_"))
        built[f"{name}_{count + 1}" if count else name] = term
    return built


def read_holds(specs: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, Hold]:
    """The constraints of those terms that have one, by the terms' names."""
    asked = zip(specs, names, strict=True)
    for s in specs:
        if "hold" in s and s.get("strength") == 0:
            raise InputError(
                f"{s['type']}: hold finds the strength, from the one that is given on; leave strength: 0 out"
            )
    return {name: Hold.read(s["hold"], where=f"{s['type']}") for s, name in asked if "hold" in s}
