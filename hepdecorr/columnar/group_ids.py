"""Which group each row belongs to: one whole number, from the branches or features that name it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from hepdecorr.columnar import features
from hepdecorr.columnar.features.branches import Ints, numbers
from hepdecorr.errors import InputError
from hepdecorr.table import combined

_EXACT = {2: 2.0**11, 4: 2.0**24, 8: 2.0**53}  # bytes of a float: where it begins to skip whole numbers


def of(rows: Any, names: Sequence[str], *, base: Path, among: NDArray[np.bool_] | None = None) -> Ints:
    """The group of each row, int64 of shape (rows,): the value itself for one name, a hash of several.

    A name is a branch, a feature or a function of the user's, and its values are whole numbers; they are
    read as they are stored, as float32 has no room for the digits of an event number.  InputError tells the
    name, how many rows are at fault and what to do: values that are missing or NaN, or no whole numbers.
    among: the rows (rows,) that have to have a group, default all; faults of others do not count.
    """
    return combined([_column(rows, name, base=base, among=among) for name in names])


def _column(rows: Any, name: str, *, base: Path, among: NDArray[np.bool_] | None) -> Ints:
    about = f"groups: {name!r}"
    try:
        values, missing = _filled(features.raw(name, rows, base=base))
        found = numbers(values, length=len(rows))
    except InputError as err:
        raise InputError(f"{about}: {err}") from None
    asked = np.ones(len(rows), dtype=bool) if among is None else among
    floats = found.dtype.kind == "f"
    missing |= np.isnan(found) if floats else False
    if (asked & missing).any():
        count = int((asked & missing).sum())
        raise InputError(
            f"{about}: missing or NaN in {count} of {len(rows)} rows, which then belong to no group; cut "
            "them away by a function under 'selection', or mend the file"
        )
    if not floats:
        return found.astype(np.int64)
    exact = _EXACT.get(found.dtype.itemsize, 2.0**53)
    whole = found == np.floor(found)
    if (bad := asked & ~whole).any():
        raise InputError(
            f"{about}: {int(bad.sum())} of {len(rows)} values are no whole numbers, the first "
            f"{found[bad][0]}; a group is named by whole numbers: name another branch, or write a function "
            "of the events that gives one, as 'my_features.py:period'"
        )
    if (bad := asked & (np.abs(found) > exact)).any():
        raise InputError(
            f"{about}: {int(bad.sum())} of {len(rows)} values are beyond {exact:.0f}, from where on "
            f"{found.dtype} skips whole numbers, the first {found[bad][0]:.0f}; store it as an integer"
        )
    # A fault that does not count must not warn either.
    return np.where(whole & (np.abs(found) <= exact), found, 0).astype(np.int64)


def _filled(values: Any) -> tuple[Any, NDArray[np.bool_]]:
    """The values with zero for those that are missing, and which those are."""
    if not isinstance(values, ak.Array) or not isinstance(ak.type(values).content, ak.types.OptionType):
        return values, np.zeros(len(values), dtype=bool)
    return ak.fill_none(values, 0, axis=0), np.asarray(ak.is_none(values))
