"""How a price grows with time, and how what must be trained to set it is moved.

How the weight of a part of a loss changes over the epochs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from torch import nn

from hepdecorr.errors import InputError, suggest
from hepdecorr.training.objective import LossFn, Objective
from hepdecorr.training.optim import OptimizerConfig, settings_from_config


@dataclass(frozen=True)
class Schedule:
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

    def value(self, progress: float) -> float:
        """The strength when this fraction of the stage has passed."""
        if progress < self.start:
            return 0.0
        return self.strength * min(1.0, (progress - self.start) / self.ramp) if self.ramp else self.strength

    @property
    def end(self) -> float:
        """The fraction of the stage after which the strength is full."""
        return self.start + self.ramp


DEFAULT_STEPS_PER_BATCH = 5


class AdversaryUpdate:
    """How an adversary or critic is moved.

    It rests until half of `start`, then makes four times its `steps` a turn: it must lead when the price
    sets in, since a lagging one rewards the tagger for moving, not for hiding.  `batch`: events
    in each of its own batches.  `moves`: lr, optimizer, ... as in `training`; old moments of Adam point where
    the tagger was, hence the short memory.

    `gradient_reversal: true`: from `start` on it moves once a turn, on the gradient of the tagger's backward
    pass.  What is often called the adversary's weight then does nothing: Adam divides a constant factor of
    its loss out, so that only `optimizer: {lr: ...}` makes it faster or slower.  The strength is no such
    factor, since it weighs the reversed gradient against that of the classification.
    """

    def __init__(
        self,
        steps_per_batch: int | None,
        batch_size: int,
        *,
        start: float,
        optimizer: Mapping[str, Any] | None,
        where: str,
        gradient_reversal: bool = False,
    ) -> None:
        if not isinstance(gradient_reversal, bool):
            raise InputError(f"{where}: gradient_reversal is true or false, not {gradient_reversal!r}")
        self.uses_gradient_reversal = gradient_reversal
        if self.uses_gradient_reversal and steps_per_batch is not None:
            raise InputError(
                f"{where}: with gradient_reversal: true it steps once per batch, with the tagger; "
                "leave out steps_per_batch, or set gradient_reversal: false"
            )
        steps_per_batch = DEFAULT_STEPS_PER_BATCH if steps_per_batch is None else steps_per_batch
        if steps_per_batch < 1 or batch_size < 1:
            raise InputError(f"{where}: steps_per_batch and batch_size must be at least 1")
        self.steps_per_batch, self.batch_size, self.start = steps_per_batch, batch_size, start
        self.optimizer_config = OptimizerConfig.from_config(
            optimizer,
            where=f"{where} optimizer",
            schedule="cosine",
            final_lr_fraction=0.1,
            weight_decay=1e-3,
            beta1=0.5,
            beta2=0.9,
            grad_clip=5.0,
        )

    def num_steps(self, progress: float) -> int:
        """Moves a turn when this fraction of the stage has passed."""
        if progress < 0.5 * self.start:
            return 0
        if progress < self.start:
            return 4 * self.steps_per_batch
        return 1 if self.uses_gradient_reversal else self.steps_per_batch

    def build_objective(self, module: nn.Module, loss: LossFn) -> Objective:
        """The player that moves `module` so."""
        return Objective(
            module,
            loss,
            steps_per_iteration=self.num_steps,
            optimizer=self.optimizer_config,
            batch_size=self.batch_size,
        )


SCHEDULE_SHAPES = ("constant", "linear", "cyclic")
TIME_UNITS = ("epochs", "fraction")
TIME_DIGITS = 9  # of a time: fractions of a stage do not add up to the last one


@dataclass(frozen=True)
class AnnealingSchedule:
    """A weight between 0 and 1: nothing before `start`, then of a shape.

    'constant': 1.  'linear': up within `rise`.  'cyclic': `cycles` times up within `rise`, full for `hold`
    and back to nothing, the last time without going back (Fu et al., 1903.10145, section 4, who let KL in
    like that; Cheng's code lets outlier exposure in so: rise 5, hold 5, three cycles, and in its second
    version from epoch 10 on).  unit: of start, rise and hold: 'epochs', or 'stage' for fractions of it.
    """

    shape: str = "cyclic"
    start: float = 0.0
    ramp: float = 5.0
    plateau: float = 5.0
    cycles: int = 3
    unit: str = "epochs"

    def __post_init__(self) -> None:
        for name, value, known in (("shape", self.shape, SCHEDULE_SHAPES), ("unit", self.unit, TIME_UNITS)):
            if value not in known:
                raise InputError(f"no {name} {value!r}{suggest(value, known)}")
        if not (self.start >= 0 and self.plateau >= 0 and self.ramp > 0 and self.cycles >= 1):
            raise InputError("start and plateau cannot be negative, ramp is above 0 and cycles at least 1")
        if self.unit == "fraction" and self._end >= 1:
            raise InputError(
                f"unit: fraction: the weight is full for good only after {self._end:g} of the stage; start, "
                "ramp and plateau are fractions of it"
            )

    @classmethod
    def from_config(cls, spec: Mapping[str, Any] | str, *, where: str) -> Self:
        """From a block of YAML, or the name of a shape."""
        given = {"shape": spec} if isinstance(spec, str) else spec
        if not isinstance(given, Mapping):
            raise InputError(
                f"{where} must be one of {', '.join(SCHEDULE_SHAPES)}, or {{shape: ...}}, not {spec!r}"
            )
        return settings_from_config(cls, given, where=where)

    @property
    def _end(self) -> float:
        """From when on the weight is full for good, in its unit."""
        if self.shape == "constant":
            return self.start
        whole = (self.cycles - 1) * (self.ramp + self.plateau) if self.shape == "cyclic" else 0.0
        return self.start + whole + self.ramp

    def value(self, progress: float, *, num_epochs: int) -> float:
        """The weight when this fraction of a stage of so many epochs has passed."""
        time = round(progress if self.unit == "fraction" else progress * num_epochs, TIME_DIGITS)
        if time < self.start:
            return 0.0
        if time >= self._end:
            return 1.0
        period = self.ramp + self.plateau if self.shape == "cyclic" else self.ramp
        return min(1.0, (time - self.start) % period / self.ramp)

    def is_full(self, epoch: int, *, num_epochs: int) -> bool:
        """Whether the weight was 1 during this epoch, counted from 1: at its beginning, middle and end."""
        return all(
            self.value((epoch - share) / num_epochs, num_epochs=num_epochs) >= 1 for share in (1.0, 0.5, 1e-6)
        )

    def first_full_progress(self, *, num_epochs: int, where: str = "anneal") -> float:
        """The fraction of the stage after which it is full for the first time.

        InputError where it is not full for good before the last epoch begins: no epoch would be judged by
        the whole loss.
        """
        per_unit = 1.0 if self.unit == "fraction" else 1 / num_epochs
        if round(self._end * per_unit * num_epochs, TIME_DIGITS) > num_epochs - 1:
            raise InputError(
                f"{where}: it is full for good after {self._end:g} {self.unit} and the stage has "
                f"{num_epochs} "
                "epochs: none is judged by the whole loss; give training: epochs, or a shorter start, ramp "
                "or plateau"
            )
        return min(1.0, (self.start + (self.ramp if self.shape != "constant" else 0.0)) * per_unit)
