"""Which columns of a table are what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

from hepdecorr.catalogue import suggest
from hepdecorr.errors import InputError
from hepdecorr.learning.form import Form
from hepdecorr.table import Column, Table

PREFIX = "constituents."  # of the columns of a table that hold the constituents' features


@dataclass(frozen=True)
class Layout:
    """Which columns of a table are what, and how the classes are weighed."""

    features: tuple[str, ...]
    nuisances: tuple[str, ...]
    weights: tuple[str, ...] = ()  # multiplied with each other
    group: str | None = None
    balance: bool = False
    constituents: tuple[str, ...] = ()  # features of each constituent, without the prefix of their columns
    length: int = 0  # constituents that are looked at, the first ones
    count: str = ""  # column that says how many there are
    alone: bool = False  # background without any signal will do
    whole: bool = False  # batches hold whole groups

    @classmethod
    def of(
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
        groups = table.names("group")
        for name in (*(features or ()), *(nuisances or ())):
            if table.column(name).length:
                raise InputError(
                    f"{name!r} has many numbers a row; it is no feature and no nuisance of a row"
                )
        known = {c.name.removeprefix(PREFIX): c for c in table.columns if c.role == "constituent"}
        chosen = tuple(constituents if constituents is not None else known)
        return cls(
            tuple(features if features is not None else table.names("feature")),
            tuple(nuisances if nuisances is not None else table.names("nuisance")),
            tuple(table.names("weight")),
            groups[0] if groups else None,
            balance,
            constituents=chosen,
            length=_length(chosen, known, length=length, source=str(table.folder)),
            count=table.names("count")[0] if chosen else "",
        )

    def with_whole(self, method: str) -> Self:
        """The same for a method that learns from whole groups; InputError where the table has none."""
        if self.group is None:
            raise InputError(
                f"{method} learns from groups, and the table has none; say in the config what names them, as "
                "'groups: {of: run}', and make the table again"
            )
        return replace(self, whole=True)

    @property
    def form(self) -> Form:
        """How features and constituents stand in a row."""
        return Form(self.features, self.constituents, self.length)

    @property
    def columns(self) -> list[str]:
        """All columns to read, each once: a nuisance may also be a feature."""
        extra = [name for name in (self.group, self.count) if name]
        extra += [PREFIX + name for name in self.constituents]
        return list(dict.fromkeys([*self.features, *self.nuisances, "label", *self.weights, *extra]))

    @property
    def width(self) -> int:
        """Numbers in memory for each row."""
        return self.form.width + len(self.nuisances) + 3


def _length(chosen: Sequence[str], known: Mapping[str, Column], *, length: int | None, source: str) -> int:
    if not chosen:
        return 0
    for name in chosen:
        if name not in known:
            raise InputError(f"{source}: no feature of constituents {name!r}{suggest(name, known)}")
    most = min(known[name].length for name in chosen)
    if length is not None and not 1 <= length <= most:
        raise InputError(f"length must lie between 1 and the table's {most} constituents, not {length}")
    return length or most
