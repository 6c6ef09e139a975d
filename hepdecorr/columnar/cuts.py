"""Cuts: which rows a selection keeps, as YAML and filesets write it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from hepdecorr import catalogue
from hepdecorr.columnar import features
from hepdecorr.errors import InputError

Cut = Mapping[str, Any] | str
Cuts = Sequence[Cut]
Mask = NDArray[np.bool_]

_KEYS = ("feature", "min", "max", "any_of", "function")


def checked(cuts: Any, *, place: str = "selection") -> list[Cut]:
    """The cuts, each {feature, min, max}, {feature, any_of} or a function's name; InputError for others."""
    if isinstance(cuts, str) or not isinstance(cuts, Sequence):
        raise InputError(f"{place}: {cuts!r} is no list of cuts")
    return [_checked(cut, place) for cut in cuts]


def passes(rows: Any, cut: Cut, *, base: Path) -> Mask:
    """Which rows a cut keeps, shape (rows,)."""
    if isinstance(cut, str):
        return _by_function(rows, cut, base=base)
    (values,) = features.compute([cut["feature"]], rows, base=base).values()
    if "any_of" in cut:
        return np.isin(values, np.asarray(cut["any_of"], dtype=values.dtype))
    low, high = cut.get("min"), cut.get("max")
    return np.asarray(
        (values >= (-math.inf if low is None else low)) & (values < (math.inf if high is None else high))
    )


def cut_name(cut: Cut) -> str:
    """How a cut stands in the cutflow."""
    if isinstance(cut, str):
        return cut
    if "any_of" in cut:
        return f"{cut['feature']} in {', '.join(f'{value:g}' for value in cut['any_of'])}"
    low, high = cut.get("min"), cut.get("max")
    below = "" if low is None else f"{low:g} <= "
    above = "" if high is None else f" < {high:g}"
    return f"{below}{cut['feature']}{above}"


def _by_function(rows: Any, cut: str, *, base: Path) -> Mask:
    found = catalogue.find(cut, home=features.__name__, base=base)(rows)
    mask = np.asarray(ak.to_numpy(found))
    if mask.dtype != bool or mask.shape != (len(rows),):
        raise InputError(f"cut {cut!r}: {mask.dtype} of shape {mask.shape}, not a boolean for each row")
    return mask


def _checked(cut: Any, place: str) -> Cut:
    if isinstance(cut, str):
        return cut
    if not isinstance(cut, Mapping):
        raise InputError(f"{place}: {cut!r} is no cut; give {{feature, min, max}} or a function's name")
    about = f"cut {dict(cut)}"
    for key in cut:
        if key not in _KEYS:
            raise InputError(f"{about}: unknown key {key!r}{catalogue.suggest(str(key), _KEYS)}")
    given = {key: value for key, value in cut.items() if value is not None}
    if set(given) == {"function"}:
        return str(given["function"])
    bounds = {"min", "max"} & set(given)
    if "feature" not in given or "function" in given or bool(bounds) == ("any_of" in given):
        raise InputError(f"{about}: give 'feature', and 'min', 'max' or both, or 'any_of'")
    values = given["any_of"] if "any_of" in given else [given[key] for key in bounds]
    if isinstance(values, str) or not isinstance(values, Sequence) or not len(values):
        raise InputError(f"{about}: 'any_of' is a list of numbers, as [24, -24]")
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
            raise InputError(f"{about}: {value!r} is no number")
    return given
