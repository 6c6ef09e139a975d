"""Who plays, for how long, and who judges."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol

from torch import Tensor, nn

from hepdecorr.errors import InputError
from hepdecorr.training.data.batches import Batch
from hepdecorr.training.optim import OptimizerConfig

LossFn = Callable[[Batch], Mapping[str, Tensor]]
ValidateFn = Callable[
    [Mapping[str, float]], "ValidationResult"
]  # given the mean training losses of the epoch
ProgressFn = Callable[[str, int, int, Mapping[str, float]], None]  # stage, epoch, epochs, figures


@dataclass(frozen=True)
class TrainingConfig:
    """How long a stage is played and which of its epochs is kept.

    `keep`: 'best' for the epoch of the smallest criterion, 'last' for the last one.  `slack`: among the
    epochs whose criterion is within this fraction of the smallest the latest is kept, since a criterion
    that measures dependence is noisy and the learning rate falls.  `patience`: stop after so many epochs
    without a better criterion, 0 for never.  `checkpoint`: epochs between checkpoints.  `turns`: batches
    that the stage has at least, for which a small sample gets more epochs.
    """

    epochs: int = 20
    min_steps: int = 0
    batch_size: int = 1024
    patience: int = 0
    select: str = "best"
    tolerance: float = 0.0
    checkpoint_every: int = 1

    def __post_init__(self) -> None:
        if self.select not in ("best", "last"):
            raise InputError(f"select must be best or last, not {self.select!r}")
        for name in ("epochs", "batch_size", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, not {getattr(self, name)}")
        if min(self.patience, self.tolerance, self.min_steps) < 0:
            raise InputError("patience, tolerance and min_steps cannot be negative")

    def with_min_steps(self, steps_per_epoch: int) -> TrainingConfig:
        """The recipe with as many epochs as `turns` asks for."""
        return replace(self, epochs=max(self.epochs, -(-self.min_steps // steps_per_epoch)))


@dataclass(frozen=True)
class Objective:
    """All that one player may change, and what it wants to be small.

    `loss` gives named scalars; the player minimises their sum.  `steps`: moves a turn, a number or a
    function of the fraction of the stage that has passed.  `batch`: events in batches of its own, 0 to
    move on the batch of the turn.  `leaves`: modules in which this player's loss leaves a gradient that their
    own players move on, in the same turn: such a player's loss has none of its own, it is only told.
    """

    module: nn.Module
    loss: LossFn
    steps_per_iteration: int | Callable[[float], int] = 1
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    batch_size: int = 0
    reversed_modules: tuple[nn.Module, ...] = ()


class StatefulCallback(Protocol):
    """What changes while a stage is played and is no weight: checkpoints keep it, curves show it."""

    def metrics(self) -> Mapping[str, float]:
        """Points of this epoch."""

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Back to what a checkpoint kept."""


class ValidationResult(NamedTuple):
    """How good an epoch is, on events that move nobody."""

    criterion: float  # smaller is better
    metrics: Mapping[str, float]
    warning: str = ""  # why the game is not to be trusted; empty when it is
    constraint_violation: float = 0.0  # how far a constraint is from holding; the first to be small
