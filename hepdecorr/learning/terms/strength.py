"""How a price grows with time, and how what must be trained to set it is moved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from hepdecorr.catalogue import suggest
from hepdecorr.errors import InputError
from hepdecorr.learning.moves import Moves
from hepdecorr.learning.players import Loss, Player


@dataclass(frozen=True)
class Growth:
    """A strength that is nothing until `start` and full after `ramp` more, in fractions of the stage."""

    strength: float = 1.0
    start: float = 0.0
    ramp: float = 0.0

    def __post_init__(self) -> None:
        if not self.strength >= 0:
            raise InputError(
                f"strength is {self.strength:g}; it must not be negative, or the tagger would be paid for "
                "dependence"
            )
        if self.start < 0 or self.ramp < 0 or self.start + self.ramp > 1:
            raise InputError(
                "start and ramp are fractions of the training: not negative, together at most 1 "
                f"(they are {self.start:g} and {self.ramp:g})"
            )

    def at(self, passed: float) -> float:
        """The strength when this fraction of the stage has passed."""
        if passed < self.start:
            return 0.0
        return self.strength * min(1.0, (passed - self.start) / self.ramp) if self.ramp else self.strength

    @property
    def settled(self) -> float:
        """The fraction of the stage after which the strength is full."""
        return self.start + self.ramp


UPDATES = ("alternating", "reversal")
STEPS = 5


class Chasing:
    """How an adversary or critic is moved.

    It rests until half of `start`, then makes four times its `steps` a turn: it must lead when the price
    sets in, since a lagging one rewards the tagger for moving, not for hiding.  `batch`: events
    in each of its own batches.  `moves`: lr, optimizer, ... as in `training`; old moments of Adam point where
    the tagger was, hence the short memory.

    `update: reversal`: from `start` on it moves once a turn, on the gradient of the tagger's backward pass.
    What is often called the adversary's weight then does nothing: Adam divides a constant factor of its loss
    out, so that only `moves: {lr: ...}` makes it faster or slower.  The strength is no such factor, since it
    weighs the reversed gradient against that of the classification.
    """

    def __init__(
        self,
        steps: int | None,
        batch: int,
        *,
        start: float,
        moves: Mapping[str, Any] | None,
        where: str,
        update: str = "alternating",
    ) -> None:
        if update not in UPDATES:
            raise InputError(f"{where}: no update {update!r}{suggest(update, UPDATES)}")
        self.reversal = update == "reversal"
        if self.reversal and steps is not None:
            raise InputError(
                f"{where}: with update: reversal it moves once a turn, with the tagger; leave steps out, or "
                "take update: alternating"
            )
        steps = STEPS if steps is None else steps
        if steps < 1 or batch < 1:
            raise InputError(f"{where}: steps and batch must be at least 1")
        self.steps, self.batch, self.start = steps, batch, start
        self.moves = Moves.read(
            moves,
            where=f"{where} moves",
            schedule="cosine",
            final=0.1,
            weight_decay=1e-3,
            momentum=0.5,
            memory=0.9,
            clip=5.0,
        )

    def steps_at(self, passed: float) -> int:
        """Moves a turn when this fraction of the stage has passed."""
        if passed < 0.5 * self.start:
            return 0
        if passed < self.start:
            return 4 * self.steps
        return 1 if self.reversal else self.steps

    def player(self, module: nn.Module, loss: Loss) -> Player:
        """The player that moves `module` so."""
        return Player(module, loss, steps=self.steps_at, moves=self.moves, batch=self.batch)
