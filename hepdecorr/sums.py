"""Sums over groups of events that come in parts: the same to the last bit, however the events are divided.

A sum of floating-point numbers depends on their order, and events come in chunks that finish in any order.
Each number is therefore written in fixed point, and integers are added: that is exact, so that a group whose
events lie in many chunks and files has the sum of the group at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from hepdecorr.errors import InputError

# A float32 number above 2^-16 has no digit below 2^-40; what is smaller is rounded to that, 5e-13 at most.
_COARSE, _FINE = 2.0**10, 2.0**40
LARGEST = 2.0**31  # of one number: four million of these are summed without overflow
_ROWS = 65_536  # that are summed at once, so that their integers take little memory

Ints = NDArray[np.int64]


class _Part(NamedTuple):
    ids: Ints  # (g,), ascending
    counts: Ints  # (g,)
    coarse: Ints  # (g, m), in units of 2^-10
    fine: Ints  # (g, m), the rest in units of 2^-40


class GroupSums:
    """Number of events and sums of their summands, by group; `+` merges, so that it is an accumulator.

    tagger: sha256 of the tagger whose summands they are; sums of different taggers are not added.
    """

    def __init__(self, parts: Sequence[_Part], *, tagger: str = "") -> None:
        self._parts, self.tagger = list(parts), tagger

    @classmethod
    def of(cls, ids: NDArray[Any], summands: NDArray[Any], *, tagger: str = "") -> Self:
        """Of rows with the ids (n,) of their groups, integers, and summands (n, m).

        InputError for summands that are not finite, or so large that their sum would not be exact.
        """
        if np.ndim(summands) != 2 or np.shape(ids) != (len(summands),):
            raise InputError(f"ids of shape {np.shape(ids)} for summands of shape {np.shape(summands)}")
        if not np.issubdtype(np.asarray(ids).dtype, np.integer):
            raise InputError(f"groups are named by integers, not by {np.asarray(ids).dtype}")
        own = np.asarray(ids).astype(np.int64)
        starts = range(0, max(len(own), 1), _ROWS)
        return cls([_part(own[k : k + _ROWS], summands[k : k + _ROWS]) for k in starts], tagger=tagger)

    @property
    def ids(self) -> Ints:
        """Ids of the groups, (g,), ascending."""
        return self._whole.ids

    @property
    def counts(self) -> Ints:
        """Number of events of each group, (g,)."""
        return self._whole.counts

    @property
    def sums(self) -> NDArray[np.float64]:
        """Sums over the events of each group, (g, m)."""
        whole = self._whole
        found: NDArray[np.float64] = whole.coarse / _COARSE + whole.fine / _FINE
        return found

    def __len__(self) -> int:
        return len(self.ids)

    def __add__(self, other: GroupSums) -> GroupSums:
        if not isinstance(other, GroupSums):
            return NotImplemented
        if self.tagger != other.tagger:
            raise InputError("sums over groups of different taggers cannot be added")
        parts = [*self._parts, *other._parts]
        # Not each time: with many groups and many chunks that would copy all of them for each chunk.
        later = sum(len(part.ids) for part in parts[1:])
        return GroupSums([_merged(parts)] if later >= len(parts[0].ids) else parts, tagger=self.tagger)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, GroupSums):
            return NotImplemented
        pairs = zip(self._whole, other._whole, strict=True)
        return self.tagger == other.tagger and all(np.array_equal(a, b) for a, b in pairs)

    __hash__ = None  # type: ignore[assignment]  # as of all that can be equal without being the same

    def __getstate__(self) -> dict[str, Any]:
        return {"tagger": self.tagger, "_parts": [self._whole]}

    def arrays(self) -> dict[str, Ints]:
        """All of it as arrays of integers by name, to be kept on disk."""
        return self._whole._asdict()

    @classmethod
    def from_arrays(cls, arrays: dict[str, Ints], *, tagger: str) -> Self:
        """What `arrays` gave."""
        return cls([_Part(**arrays)], tagger=tagger)

    @property
    def _whole(self) -> _Part:
        self._parts = [_merged(self._parts)]
        return self._parts[0]


def _part(ids: Ints, summands: NDArray[Any]) -> _Part:
    values = np.asarray(summands, dtype=np.float64)
    if not (np.abs(values) <= LARGEST).all():  # NaN compares false
        row, column = map(int, np.argwhere(~(np.abs(values) <= LARGEST))[0])
        raise InputError(
            f"summand {column} is {values[row, column]:g} in row {row}: not a number that can be summed "
            f"exactly (at most {LARGEST:g}); look at the features of that event"
        )
    coarse = np.rint(values * _COARSE)
    fine = np.rint((values - coarse / _COARSE) * _FINE)
    each = np.ones(len(ids), dtype=np.int64)
    return _grouped(_Part(ids, each, coarse.astype(np.int64), fine.astype(np.int64)))


def _merged(parts: Sequence[_Part]) -> _Part:
    if len(parts) == 1:
        return parts[0]
    widths = {part.coarse.shape[1] for part in parts}
    if len(widths) > 1:
        raise InputError(f"sums over groups with {min(widths)} and {max(widths)} summands cannot be added")
    return _grouped(_Part(*(np.concatenate(columns) for columns in zip(*parts, strict=True))))


def _grouped(rows: _Part) -> _Part:
    """Rows with the same id added up."""
    order = np.argsort(rows.ids, kind="stable")
    ids = rows.ids[order]
    first = np.flatnonzero(np.concatenate([np.ones(min(len(ids), 1), bool), ids[1:] != ids[:-1]]))
    return _Part(ids[first], *(np.add.reduceat(values[order], first, axis=0) for values in rows[1:]))
