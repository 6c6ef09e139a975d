"""Batches of whole groups, by arithmetic on where the rows of each group begin and how many they are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Self

import torch
from torch import Generator, Tensor


class Chosen(NamedTuple):
    """Rows of some whole groups, those of one group side by side."""

    place: Tensor  # (n,), where the rows lie
    number: Tensor  # (n,), of each row's group, from 0 in the order in which they were chosen


@dataclass(frozen=True)
class Whole:
    """Groups whose rows lie side by side, one group behind the other.

    ids: what names each of them, (g,), ascending.  counts: their numbers of rows, (g,).
    """

    ids: Tensor
    counts: Tensor

    @classmethod
    def sorting(cls, group: Tensor) -> tuple[Self, Tensor]:
        """The groups of rows (n,) in any order, and the order (n,) that brings each group together."""
        ids, counts = torch.unique(group, return_counts=True)
        return cls(ids, counts), group.argsort(stable=True)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def rows(self) -> int:
        """Rows of all groups."""
        return int(self.counts.sum())

    @property
    def numbers(self) -> Tensor:
        """Of each row's group, from 0, (n,)."""
        return torch.arange(len(self)).repeat_interleave(self.counts)

    def turns(self, size: int) -> int:
        """How many batches of about `size` rows hold all groups, each of them at least one."""
        return max(1, min(len(self), -(-self.rows // size)))

    def batches(
        self, size: int, *, generator: Generator | None, shuffle: bool, device: torch.device | str = "cpu"
    ) -> Iterator[Chosen]:
        """Every group once, in batches that differ by at most one group, on `device`.

        The order depends on the generator alone.
        """
        order = torch.randperm(len(self), generator=generator) if shuffle else torch.arange(len(self))
        turns, placed = self.turns(size), self._placed(device)
        ends = [(k + 1) * len(self) // turns for k in range(turns)]
        # Known beforehand, so that no batch waits for the device to say how long it is.
        rows = torch.cat([torch.zeros(1, dtype=torch.int64), self.counts[order].cumsum(0)]).tolist()
        order = order.to(device)
        for start, end in zip([0, *ends], ends, strict=False):
            yield _rows(placed, order[start:end], rows[end] - rows[start])

    def some(self, rows: int, *, generator: Generator | None, device: torch.device | str = "cpu") -> Chosen:
        """Groups at random, at most `rows` rows of them, but one at least; all, in order, where they fit."""
        every = rows >= self.rows
        order = torch.arange(len(self)) if every else torch.randperm(len(self), generator=generator)
        ends = self.counts[order].cumsum(0)
        kept = max(1, int((ends <= rows).sum()))
        return _rows(self._placed(device), order[:kept].to(device), int(ends[kept - 1]))

    def _placed(self, device: torch.device | str) -> tuple[Tensor, Tensor]:
        starts = self.counts.cumsum(0) - self.counts
        return starts.to(device), self.counts.to(device)


def shared_out(number: Tensor, part: int, parts: int) -> Chosen:
    """Every `parts`-th of the groups of rows (n,), from the one numbered `part` on, numbered anew.

    All of them where they are fewer than parts, so that no part is empty.
    """
    if not len(number) or int(number[-1]) + 1 < parts:
        return Chosen(torch.arange(len(number), device=number.device), number)
    place = (number % parts == part).nonzero()[:, 0]
    return Chosen(place, number[place] // parts)


def _rows(placed: tuple[Tensor, Tensor], groups: Tensor, total: int) -> Chosen:
    """The rows, `total` of them, of these groups."""
    starts, counts = (values[groups] for values in placed)
    numbers = torch.arange(len(groups), device=groups.device)
    number = numbers.repeat_interleave(counts, output_size=total)
    ahead = counts.cumsum(0) - counts  # rows of the groups before, in the batch
    return Chosen(torch.arange(total, device=groups.device) + (starts - ahead)[number], number)
