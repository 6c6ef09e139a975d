"""What the terms of a method cost while one stage is played, and the players that chase its score."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from hepdecorr.learning.batches import Batch, Data, Events
from hepdecorr.learning.holding import Held, Hold, Scorer
from hepdecorr.learning.methods.drawing import Drawing
from hepdecorr.learning.players import Player
from hepdecorr.learning.terms.adversary import Adversary
from hepdecorr.learning.terms.disco import DisCo
from hepdecorr.learning.terms.strength import Growth
from hepdecorr.learning.terms.term import Term
from hepdecorr.learning.training import Play


class Dues:
    """The terms of a method and what they must know of its score.

    terms, holds: by name.  scorer: the network that is to be decorrelated and the logit it gives of rows.
    `begin` before a stage, `follow` and `bill` for each batch, `end` after it.
    """

    def __init__(self, terms: nn.ModuleDict, holds: Mapping[str, Hold], *, scorer: Scorer) -> None:
        self._terms, self._holds, self._scorer = terms, holds, scorer
        self._drawings: dict[str, Drawing] = {}
        self.held: dict[str, Held] = {}

    def each(self) -> list[tuple[str, Term]]:
        """The terms with their names."""
        return [(name, term) for name, term in self._terms.items() if isinstance(term, Term)]

    @property
    def settled(self) -> float:
        """The fraction of the stage after which every strength is full."""
        return max((term.growth.settled for _, term in self.each()), default=0.0)

    @property
    def leaves(self) -> tuple[Adversary, ...]:
        """Adversaries that move on the gradient which the bill leaves."""
        return tuple(term for _, term in self.each() if isinstance(term, Adversary) and _reversed(term))

    def begin(self, sample: Batch, data: Data, play: Play, *, turns: int) -> None:
        """Set the scalings from a sample of the training events; turns: of an epoch."""
        for name, term in self.each():
            term.fit(sample)
            if isinstance(term, DisCo) and term.draw and isinstance(data.train, Events):
                self._drawings[name] = Drawing(
                    data.train.all.take(term.among(data.train.all)),
                    self._scorer.logit,
                    rows=term.draw,
                    tail=term.tail,
                    refresh=term.refresh,
                    generator=play.generator,
                )
        self.held = self._holding(data, turns=turns)

    def end(self) -> None:
        """Forget the training events."""
        self._drawings, self.held = {}, {}

    def table(self, tagger: Player, play: Play, *, name: str = "tagger") -> dict[str, Player]:
        """All players in their order: adversaries, the tagger, then those that move on what it leaves."""
        chasing = {
            n: term.chasing.player(term, self.chaser(term, play))
            for n, term in self.each()
            if isinstance(term, Adversary)
        }
        after = {n: chasing.pop(n) for n, term in self.each() if _reversed(term)}
        return chasing | {name: tagger} | after

    @property
    def companions(self) -> dict[str, Held]:
        """What a stage keeps beside weights."""
        return {f"hold_{name}": held for name, held in self.held.items()}

    def follow(self, play: Play) -> None:
        """Move the multipliers; before anything is computed with the present weights."""
        for held in self.held.values():
            held.follow(play)

    def bill(self, logit: Tensor, b: Batch, play: Play) -> dict[str, Tensor]:
        """What each term costs now, for the logits (n,) of a batch."""
        bill = {}
        for name, term in self.each():
            paid: Held | Growth = self.held.get(name, term.growth)
            strength = paid.at(play.passed)
            drawing = self._drawings.get(name)
            if isinstance(term, Adversary) and _reversed(term) and play.passed >= term.growth.start:
                bill[name] = term.reverse(logit, b, strength=strength)
            elif not strength:
                bill[name] = logit.new_zeros(())
            elif drawing is not None and isinstance(term, DisCo):
                drawn = drawing.batch(play.turn)
                bill[name] = strength * term.price(self._scorer.logit(drawn.x), drawn, even=True)
            else:
                bill[name] = strength * term.price(logit, b)
        return bill

    def chaser(self, term: Adversary, play: Play) -> Any:
        """The loss of an adversary, on batches of its own."""

        def chase(b: Batch) -> dict[str, Tensor]:
            if term.chasing.reversal and play.passed >= term.growth.start:
                return {"chase": term.latest}  # its gradient is there
            own = b.take(term.among(b).nonzero()[:, 0])  # the others would not be looked at
            with torch.no_grad():
                logit = self._scorer.logit(own.x)
            return {"chase": term.chase(logit, own)}

        return chase

    def _holding(self, data: Data, *, turns: int) -> dict[str, Held]:
        about: dict[str, Any] = {"data": data, "turns": turns, "scorer": self._scorer}
        held = {}
        for name, hold in self._holds.items():
            term = cast("Term", self._terms[name])
            others = [t for n, t in self.each() if n in self._holds and n != name]
            bulk = not any(t.tail == 0 and t.nuisances == term.nuisances for t in others)
            held[name] = Held(hold, term, bulk=bulk, **about)
        return held


def _reversed(term: Term) -> bool:
    return isinstance(term, Adversary) and term.chasing.reversal
