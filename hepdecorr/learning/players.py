"""Who plays, for how long, and who judges."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol

from torch import Tensor, nn

from hepdecorr.errors import InputError
from hepdecorr.learning.batches import Batch
from hepdecorr.learning.moves import Moves

Loss = Callable[[Batch], Mapping[str, Tensor]]
Judging = Callable[[Mapping[str, float]], "Verdict"]  # given the mean training losses of the epoch
Progress = Callable[[str, int, int, Mapping[str, float]], None]  # stage, epoch, epochs, figures


@dataclass(frozen=True)
class Recipe:
    """How long a stage is played and which of its epochs is kept.

    `keep`: 'best' for the epoch of the smallest criterion, 'last' for the last one.  `slack`: among the
    epochs whose criterion is within this fraction of the smallest the latest is kept, since a criterion
    that measures dependence is noisy and the learning rate falls.  `patience`: stop after so many epochs
    without a better criterion, 0 for never.  `checkpoint`: epochs between checkpoints.  `turns`: batches
    that the stage has at least, for which a small sample gets more epochs.
    """

    epochs: int = 20
    turns: int = 0
    batch: int = 1024
    patience: int = 0
    keep: str = "best"
    slack: float = 0.0
    checkpoint: int = 1

    def __post_init__(self) -> None:
        if self.keep not in ("best", "last"):
            raise InputError(f"keep must be best or last, not {self.keep!r}")
        for name in ("epochs", "batch", "checkpoint"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, not {getattr(self, name)}")
        if min(self.patience, self.slack, self.turns) < 0:
            raise InputError("patience, slack and turns cannot be negative")

    def lasting(self, turns_an_epoch: int) -> Recipe:
        """The recipe with as many epochs as `turns` asks for."""
        return replace(self, epochs=max(self.epochs, -(-self.turns // turns_an_epoch)))


@dataclass(frozen=True)
class Player:
    """All that one player may change, and what it wants to be small.

    `loss` gives named scalars; the player minimises their sum.  `steps`: moves a turn, a number or a
    function of the fraction of the stage that has passed.  `batch`: events in batches of its own, 0 to
    move on the batch of the turn.  `leaves`: modules in which this player's loss leaves a gradient that their
    own players move on, in the same turn: such a player's loss has none of its own, it is only told.
    """

    module: nn.Module
    loss: Loss
    steps: int | Callable[[float], int] = 1
    moves: Moves = field(default_factory=Moves)
    batch: int = 0
    leaves: tuple[nn.Module, ...] = ()


class Companion(Protocol):
    """What changes while a stage is played and is no weight: checkpoints keep it, curves show it."""

    def figures(self) -> Mapping[str, float]:
        """Points of this epoch."""

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Back to what a checkpoint kept."""


class Verdict(NamedTuple):
    """How good an epoch is, on events that move nobody."""

    criterion: float  # smaller is better
    figures: Mapping[str, float]
    complaint: str = ""  # why the game is not to be trusted; empty when it is
    violation: float = 0.0  # how far a constraint is from holding; the first to be small
