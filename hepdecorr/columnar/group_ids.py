"""Which group each row belongs to: one whole number, from the branches or features that name it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np

from hepdecorr.columnar import features
from hepdecorr.columnar.cuts import Mask
from hepdecorr.columnar.features.branches import Ints, numbers
from hepdecorr.errors import InputError
from hepdecorr.table import EVENT_IDS, Table, combined

_EXACT = {2: 2.0**11, 4: 2.0**24, 8: 2.0**53}  # bytes of a float: where it begins to skip whole numbers


def of(rows: Any, names: Sequence[str], *, base: Path, among: Mask | None = None) -> Ints:
    """The group of each row, int64 of shape (rows,): the value itself for one name, a hash of several.

    A name is a branch, a feature or a function of the user's, and its values are whole numbers; they are
    read as they are stored, as float32 has no room for the digits of an event number.  InputError tells the
    name, how many rows are at fault and what to do: values that are missing or NaN, or no whole numbers.
    among: the rows (rows,) that have to have a group, default all; faults of others do not count.
    """
    asked = np.ones(len(rows), dtype=bool) if among is None else among
    return combined([_column(rows, name, base=base, among=asked)[0] for name in names])


def lost(rows: Any, names: Sequence[str], keep: Mask, *, base: Path) -> list[int]:
    """Groups of these rows of which `keep` (rows,) leaves none; rows that name no group count for nothing.

    Others of their rows may be left in other chunks: see `emptied`.  Nothing where each event is a group of
    its own: they would be as many as events, and the cutflow says it.
    """
    if not names or tuple(names) == EVENT_IDS:
        return []
    found = [_column(rows, name, base=base, among=keep) for name in names]
    ids = combined([column for column, _ in found])
    named = np.all([sound for _, sound in found], axis=0)
    gone: list[int] = np.setdiff1d(ids[named & ~keep], ids[keep]).tolist()
    return gone


def emptied(chunks: Iterable[Mapping[str, Any]], table: Table) -> int:
    """How many groups have lost rows in these chunks (`lost_groups`), and have none in the table."""
    gone = {one for chunk in chunks for one in chunk.get("lost_groups", ())}
    for name in table.names("group") if gone else ():
        for rows in table.iterate([name]):
            gone.difference_update(np.unique(rows[name]).tolist())
    return len(gone)


def _column(rows: Any, name: str, *, base: Path, among: Mask) -> tuple[Ints, Mask]:
    """The whole numbers that a name gives, and for which rows; zero for the others, which `among` has not."""
    about = f"groups: {name!r}"
    try:
        values, missing = _filled(features.raw(name, rows, base=base))
        found = numbers(values, length=len(rows))
    except InputError as err:
        raise InputError(f"{about}: {err}") from None
    floats = found.dtype.kind == "f"
    missing |= np.isnan(found) if floats else False
    if (among & missing).any():
        count = int((among & missing).sum())
        raise InputError(
            f"{about}: missing or NaN in {count} of {len(rows)} rows, which then belong to no group; cut "
            "them away by a function under 'selection', or mend the file"
        )
    if not floats:
        return found.astype(np.int64), ~missing
    exact = _EXACT.get(found.dtype.itemsize, 2.0**53)
    whole = found == np.floor(found)
    if (bad := among & ~whole).any():
        raise InputError(
            f"{about}: {int(bad.sum())} of {len(rows)} values are no whole numbers, the first "
            f"{found[bad][0]}; a group is named by whole numbers: name another branch, or write a function "
            "of the events that gives one, as 'my_features.py:period'"
        )
    if (bad := among & (np.abs(found) >= exact)).any():
        raise InputError(
            f"{about}: {int(bad.sum())} of {len(rows)} values are {exact:.0f} or more, from where on "
            f"{found.dtype} skips whole numbers, the first {found[bad][0]:.0f}; store it as an integer"
        )
    # A fault that does not count must not warn either.
    sound = whole & (np.abs(found) < exact) & ~missing
    return np.where(sound, found, 0).astype(np.int64), sound


def _filled(values: Any) -> tuple[Any, Mask]:
    """The values with zero for those that are missing, and which those are."""
    if not isinstance(values, ak.Array) or not isinstance(ak.type(values).content, ak.types.OptionType):
        return values, np.zeros(len(values), dtype=bool)
    return ak.fill_none(values, 0, axis=0), np.asarray(ak.is_none(values))
