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


class ResultRecord:
    """Gives a frozen dataclass `to_dict`, and JSON that can be read back."""

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON-able objects; a number that is not finite becomes None."""
        return cast("dict[str, Any]", to_jsonable(self))

    def to_json(self) -> str:
        """The fields as JSON that `from_json` reads back to the last bit, also what is not finite."""
        return json.dumps(dataclasses.asdict(cast("Any", self)), default=lambda array: array.tolist())

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The record that `to_json` wrote; ValueError, KeyError or TypeError where it is another's."""
        return cast("Self", _decode_json(cls, json.loads(text)))


@dataclass(frozen=True)
class Estimate(ResultRecord):
    """A number with its central interval at `level`; `std` where a standard deviation means something."""

    value: float
    low: float
    high: float
    std: float | None = None
    level: float = ONE_SIGMA

    def scaled(self, factor: float) -> Estimate:
        """The same measurement in another unit (factor > 0)."""
        std = None if self.std is None else self.std * factor
        return Estimate(self.value * factor, self.low * factor, self.high * factor, std, self.level)

    def inverse(self) -> Estimate:
        """1/value with the interval carried over; an end at zero becomes infinite."""
        value, low, high = (1.0 / end if end > 0 else math.inf for end in (self.value, self.high, self.low))
        return Estimate(value, low, high, None, self.level)


def _decode_json(field_type: Any, content: Any) -> Any:
    """Content of JSON as the type of a field."""
    arguments = typing.get_args(field_type)
    origin = typing.get_origin(field_type)
    if dataclasses.is_dataclass(field_type):
        kinds = typing.get_type_hints(field_type)
        fields = {field.name: kinds[field.name] for field in dataclasses.fields(field_type)}
        return cast("Any", field_type)(
            **{name: _decode_json(one, content[name]) for name, one in fields.items()}
        )
    if origin is tuple:
        inner = [arguments[0]] * len(content) if Ellipsis in arguments else arguments
        return tuple(_decode_json(one, value) for one, value in zip(inner, content, strict=True))
    if origin is dict:
        return {key: _decode_json(arguments[1], value) for key, value in content.items()}
    if origin is np.ndarray:
        return np.array(content, dtype=np.float64)
    if type(None) in arguments:
        return None if content is None else _decode_json(arguments[0], content)
    return content


def to_jsonable(data: Any) -> Any:
    """Dataclasses, mappings, arrays and numpy scalars as dicts, lists and Python numbers."""
    if dataclasses.is_dataclass(data) and not isinstance(data, type):
        return {field.name: to_jsonable(getattr(data, field.name)) for field in dataclasses.fields(data)}
    if isinstance(data, Mapping):
        return {str(key): to_jsonable(value) for key, value in data.items()}
    if isinstance(data, np.ndarray):
        return to_jsonable(data.tolist())
    if isinstance(data, (list, tuple, set, frozenset)):
        return [to_jsonable(value) for value in data]
    if isinstance(data, np.generic):
        return to_jsonable(data.item())
    if isinstance(data, float):
        return data if math.isfinite(data) else None
    return data if data is None or isinstance(data, (bool, int, str)) else str(data)


def format_significant(value: float, digits: int = 2) -> str:
    """A number at so many significant digits, plain where that is short."""
    if not math.isfinite(value) or value == 0:
        return f"{value:g}"
    power = math.floor(math.log10(abs(value)))
    if -5 < power < 6:
        return f"{round(value, digits - 1 - power):.{max(digits - 1 - power, 0)}f}"
    return f"{value:.{digits - 1}e}"
