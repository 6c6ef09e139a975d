"""How the weight of a part of a loss changes over the epochs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from hepdecorr.catalogue import suggest
from hepdecorr.errors import InputError
from hepdecorr.learning.moves import read_settings

SHAPES = ("constant", "linear", "cyclic")
UNITS = ("epochs", "stage")
DIGITS = 9  # of a time: fractions of a stage do not add up to the last one


@dataclass(frozen=True)
class Annealing:
    """A weight between 0 and 1: nothing before `start`, then of a shape.

    'constant': 1.  'linear': up within `rise`.  'cyclic': `cycles` times up within `rise`, full for `hold`
    and back to nothing, the last time without going back (Fu et al., 1903.10145, section 4, who let KL in
    like that; Cheng's code lets outlier exposure in so: rise 5, hold 5, three cycles, and in its second
    version from epoch 10 on).  unit: of start, rise and hold: 'epochs', or 'stage' for fractions of it.
    """

    shape: str = "cyclic"
    start: float = 0.0
    rise: float = 5.0
    hold: float = 5.0
    cycles: int = 3
    unit: str = "epochs"

    def __post_init__(self) -> None:
        for name, value, known in (("shape", self.shape, SHAPES), ("unit", self.unit, UNITS)):
            if value not in known:
                raise InputError(f"no {name} {value!r}{suggest(value, known)}")
        if not (self.start >= 0 and self.hold >= 0 and self.rise > 0 and self.cycles >= 1):
            raise InputError("start and hold cannot be negative, rise is above 0 and cycles at least 1")
        if self.unit == "stage" and self._end >= 1:
            raise InputError(
                f"unit: stage: the weight is full for good only after {self._end:g} of the stage; start, "
                "rise and hold are fractions of it"
            )

    @classmethod
    def read(cls, spec: Mapping[str, Any] | str, *, where: str) -> Self:
        """From a block of YAML, or the name of a shape."""
        given = {"shape": spec} if isinstance(spec, str) else spec
        if not isinstance(given, Mapping):
            raise InputError(f"{where} must be one of {', '.join(SHAPES)}, or {{shape: ...}}, not {spec!r}")
        return read_settings(cls, given, where=where)

    @property
    def _end(self) -> float:
        """From when on the weight is full for good, in its unit."""
        if self.shape == "constant":
            return self.start
        whole = (self.cycles - 1) * (self.rise + self.hold) if self.shape == "cyclic" else 0.0
        return self.start + whole + self.rise

    def at(self, passed: float, *, epochs: int) -> float:
        """The weight when this fraction of a stage of so many epochs has passed."""
        time = round(passed if self.unit == "stage" else passed * epochs, DIGITS)
        if time < self.start:
            return 0.0
        if time >= self._end:
            return 1.0
        period = self.rise + self.hold if self.shape == "cyclic" else self.rise
        return min(1.0, (time - self.start) % period / self.rise)

    def full(self, epoch: int, *, epochs: int) -> bool:
        """Whether the weight was 1 during this epoch, counted from 1: at its beginning, middle and end."""
        return all(self.at((epoch - share) / epochs, epochs=epochs) >= 1 for share in (1.0, 0.5, 1e-6))

    def first(self, *, epochs: int, where: str = "anneal") -> float:
        """The fraction of the stage after which it is full for the first time.

        InputError where it is not full for good before the last epoch begins: no epoch would be judged by
        the whole loss.
        """
        per_unit = 1.0 if self.unit == "stage" else 1 / epochs
        if round(self._end * per_unit * epochs, DIGITS) > epochs - 1:
            raise InputError(
                f"{where}: it is full for good after {self._end:g} {self.unit} and the stage has {epochs} "
                "epochs: none is judged by the whole loss; give training: epochs, or a shorter start, rise "
                "or hold"
            )
        return min(1.0, (self.start + (self.rise if self.shape != "constant" else 0.0)) * per_unit)
