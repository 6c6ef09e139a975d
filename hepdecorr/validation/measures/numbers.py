"""What every measure returns, and how it becomes JSON."""

from __future__ import annotations

import dataclasses
import json
import math
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self, cast

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

ONE_SIGMA = 0.682689492137086


class Record:
    """Gives a frozen dataclass `to_dict`, and JSON that can be read back."""

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON-able objects; a number that is not finite becomes None."""
        return cast("dict[str, Any]", plain(self))

    def to_json(self) -> str:
        """The fields as JSON that `from_json` reads back to the last bit, also what is not finite."""
        return json.dumps(dataclasses.asdict(cast("Any", self)), default=lambda array: array.tolist())

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The record that `to_json` wrote; ValueError, KeyError or TypeError where it is another's."""
        return cast("Self", _revived(cls, json.loads(text)))


@dataclass(frozen=True)
class Measured(Record):
    """A number with its central interval at `level`; `std` where a standard deviation means something."""

    value: float
    low: float
    high: float
    std: float | None = None
    level: float = ONE_SIGMA

    def scaled(self, factor: float) -> Measured:
        """The same measurement in another unit (factor > 0)."""
        std = None if self.std is None else self.std * factor
        return Measured(self.value * factor, self.low * factor, self.high * factor, std, self.level)

    def inverse(self) -> Measured:
        """1/value with the interval carried over; an end at zero becomes infinite."""
        value, low, high = (1.0 / end if end > 0 else math.inf for end in (self.value, self.high, self.low))
        return Measured(value, low, high, None, self.level)


def _revived(kind: Any, content: Any) -> Any:
    """Content of JSON as the type of a field."""
    arguments = typing.get_args(kind)
    origin = typing.get_origin(kind)
    if dataclasses.is_dataclass(kind):
        kinds = typing.get_type_hints(kind)
        fields = {field.name: kinds[field.name] for field in dataclasses.fields(kind)}
        return cast("Any", kind)(**{name: _revived(one, content[name]) for name, one in fields.items()})
    if origin is tuple:
        inner = [arguments[0]] * len(content) if Ellipsis in arguments else arguments
        return tuple(_revived(one, value) for one, value in zip(inner, content, strict=True))
    if origin is dict:
        return {key: _revived(arguments[1], value) for key, value in content.items()}
    if origin is np.ndarray:
        return np.array(content, dtype=np.float64)
    if type(None) in arguments:
        return None if content is None else _revived(arguments[0], content)
    return content


def plain(thing: Any) -> Any:
    """Dataclasses, mappings, arrays and numpy scalars as dicts, lists and Python numbers."""
    if dataclasses.is_dataclass(thing) and not isinstance(thing, type):
        return {field.name: plain(getattr(thing, field.name)) for field in dataclasses.fields(thing)}
    if isinstance(thing, Mapping):
        return {str(key): plain(value) for key, value in thing.items()}
    if isinstance(thing, np.ndarray):
        return plain(thing.tolist())
    if isinstance(thing, (list, tuple, set, frozenset)):
        return [plain(value) for value in thing]
    if isinstance(thing, np.generic):
        return plain(thing.item())
    if isinstance(thing, float):
        return thing if math.isfinite(thing) else None
    return thing if thing is None or isinstance(thing, (bool, int, str)) else str(thing)
