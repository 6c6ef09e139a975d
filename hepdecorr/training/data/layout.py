"""How the features of a row and those of its constituents share one matrix.

Which columns of a table are what.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Self

import torch
from torch import Tensor

from hepdecorr.errors import InputError, suggest
from hepdecorr.table import Column, Table


class UnpackedRows(NamedTuple):
    """What stands in a matrix of rows."""

    features: Tensor  # (n, f)
    constituents: Tensor  # (n, L, c), zero where the mask is false
    mask: Tensor  # (n, L), bool: whether there is a constituent


@dataclass(frozen=True)
class RowPacking:
    """Rows of f features, then L slots of the c features of a constituent and its mask, 0 or 1.

    A matrix, and not three arrays, so that methods, terms and shuffling need not know of constituents.
    `length` is how many slots the training tables have; a matrix may have any number of them.
    """

    features: tuple[str, ...]
    constituents: tuple[str, ...] = ()
    length: int = 0

    @property
    def width(self) -> int:
        """Columns of a matrix with `length` slots."""
        return len(self.features) + self.constituent_width(self.length)

    def constituent_width(self, num_slots: int) -> int:
        """Columns that so many slots take; none where there are no features of constituents."""
        return num_slots * (len(self.constituents) + 1) if self.constituents else 0

    def pack(self, features: Tensor, constituents: Tensor, mask: Tensor) -> Tensor:
        """The matrix (n, f + L (c + 1)) of features (n, f), constituents (n, L, c) and mask (n, L)."""
        there = (mask > 0.5)[..., None]
        filled = torch.where(there, constituents, 0.0)
        return torch.cat([features, torch.cat([filled, there.to(filled.dtype)], 2).flatten(1)], 1)

    def unpack(self, x: Tensor) -> UnpackedRows:
        """The parts of a matrix; what stands in the padding, even NaN, comes out as 0."""
        slots = self._constituent_slots(x)
        mask = slots[..., -1] > 0.5
        filled = torch.where(mask[..., None], slots[..., :-1], 0.0)
        return UnpackedRows(x[:, : len(self.features)], filled, mask)

    def zero_padding(self, x: Tensor) -> None:
        """Set the padding of a matrix to zero, in place."""
        if self.constituents:
            slots = self._constituent_slots(x)
            slots.masked_fill_(~(slots[..., -1:] > 0.5), 0.0)

    def _constituent_slots(self, x: Tensor) -> Tensor:
        first, each = len(self.features), len(self.constituents) + 1
        slots = x[:, first:] if self.constituents else x[:, first:first]
        # From the width, not from `length`: the exported graph takes any number of constituents.
        return slots.view(x.shape[0], slots.shape[1] // each, each)


CONSTITUENT_PREFIX = "constituents."  # of the columns of a table that hold the constituents' features


@dataclass(frozen=True)
class ColumnLayout:
    """Which columns of a table are what, and how the classes are weighed."""

    features: tuple[str, ...]
    nuisances: tuple[str, ...]
    weight_columns: tuple[str, ...] = ()  # multiplied with each other
    group_column: str | None = None
    balance: bool = False
    constituents: tuple[str, ...] = ()  # features of each constituent, without the prefix of their columns
    length: int = 0  # constituents that are looked at, the first ones
    count_column: str = ""  # column that says how many there are
    allow_background_only: bool = False  # background without any signal will do
    grouped: bool = False  # batches hold whole groups

    @classmethod
    def from_table(
        cls,
        table: Table,
        *,
        features: Sequence[str] | None = None,
        constituents: Sequence[str] | None = None,
        length: int | None = None,
        nuisances: Sequence[str] | None = None,
        balance: bool = False,
    ) -> Self:
        """The layout that the roles of the table's columns give, or a choice from them.

        constituents: names without the prefix; none of them with [].  length: at most the table's.
        """
        groups = table.column_names("group")
        for name in (*(features or ()), *(nuisances or ())):
            if table.column(name).length:
                raise InputError(
                    f"{name!r} has many numbers a row; it is no feature and no nuisance of a row"
                )
        known = {c.name.removeprefix(CONSTITUENT_PREFIX): c for c in table.columns if c.role == "constituent"}
        chosen = tuple(constituents if constituents is not None else known)
        return cls(
            tuple(features if features is not None else table.column_names("feature")),
            tuple(nuisances if nuisances is not None else table.column_names("nuisance")),
            tuple(table.column_names("weight")),
            groups[0] if groups else None,
            balance,
            constituents=chosen,
            length=_resolve_length(chosen, known, length=length, source=str(table.folder)),
            count_column=table.column_names("count")[0] if chosen else "",
        )

    def with_grouped_batches(self, method_name: str) -> Self:
        """The same for a method that learns from whole groups; InputError where the table has none."""
        if self.group_column is None:
            raise InputError(
                f"{method_name} learns from groups, and the table has none; name them in the config, as "
                "'groups: {of: run}', and make the table again"
            )
        return replace(self, grouped=True)

    @property
    def packing(self) -> RowPacking:
        """How features and constituents stand in a row."""
        return RowPacking(self.features, self.constituents, self.length)

    @property
    def columns(self) -> list[str]:
        """All columns to read, each once: a nuisance may also be a feature."""
        extra = [name for name in (self.group_column, self.count_column) if name]
        extra += [CONSTITUENT_PREFIX + name for name in self.constituents]
        return list(dict.fromkeys([*self.features, *self.nuisances, "label", *self.weight_columns, *extra]))

    @property
    def width(self) -> int:
        """Numbers in memory for each row."""
        return self.packing.width + len(self.nuisances) + 3


def _resolve_length(
    names: Sequence[str], table_columns: Mapping[str, Column], *, length: int | None, source: str
) -> int:
    if not names:
        return 0
    for name in names:
        if name not in table_columns:
            raise InputError(f"{source}: no feature of constituents {name!r}{suggest(name, table_columns)}")
    most = min(table_columns[name].length for name in names)
    if length is not None and not 1 <= length <= most:
        raise InputError(f"length must lie between 1 and the table's {most} constituents, not {length}")
    return length or most
