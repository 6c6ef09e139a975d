"""Index of groups in a table and batches of complete groups."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Self

import torch
from torch import Generator, Tensor


class GroupBatch(NamedTuple):
    """Rows of some whole groups, those of one group side by side."""

    rows: Tensor  # (n,), where the rows lie
    group: Tensor  # (n,), of each row's group, from 0 in the order in which they were chosen


@dataclass(frozen=True)
class GroupIndex:
    """Groups whose rows lie side by side, one group behind the other.

    ids: what names each of them, (g,), ascending.  counts: their numbers of rows, (g,).
    """

    ids: Tensor
    counts: Tensor

    @classmethod
    def from_unsorted(cls, group: Tensor) -> tuple[Self, Tensor]:
        """The groups of rows (n,) in any order, and the order (n,) that brings each group together."""
        ids, counts = torch.unique(group, return_counts=True)
        return cls(ids, counts), group.argsort(stable=True)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def num_rows(self) -> int:
        """Rows of all groups."""
        return int(self.counts.sum())

    @property
    def row_groups(self) -> Tensor:
        """Of each row's group, from 0, (n,)."""
        return torch.arange(len(self)).repeat_interleave(self.counts)

    def num_batches(self, batch_size: int) -> int:
        """How many batches of about `size` rows hold all groups, each of them at least one."""
        return max(1, min(len(self), -(-self.num_rows // batch_size)))

    def batches(
        self,
        batch_size: int,
        *,
        generator: Generator | None,
        shuffle: bool,
        device: torch.device | str = "cpu",
    ) -> Iterator[GroupBatch]:
        """Every group once, in batches that differ by at most one group, on `device`.

        The order depends on the generator alone.
        """
        order = torch.randperm(len(self), generator=generator) if shuffle else torch.arange(len(self))
        turns, placed = self.num_batches(batch_size), self._starts_and_counts(device)
        ends = [(k + 1) * len(self) // turns for k in range(turns)]
        # Known beforehand, so that no batch waits for the device to say how long it is.
        rows = torch.cat([torch.zeros(1, dtype=torch.int64), self.counts[order].cumsum(0)]).tolist()
        order = order.to(device)
        for start, end in zip([0, *ends], ends, strict=False):
            yield _gather_group_rows(placed, order[start:end], rows[end] - rows[start])

    def sample(
        self, rows: int, *, generator: Generator | None, device: torch.device | str = "cpu"
    ) -> GroupBatch:
        """Groups at random, at most `rows` rows of them, but one at least; all, in order, where they fit."""
        every = rows >= self.num_rows
        order = torch.arange(len(self)) if every else torch.randperm(len(self), generator=generator)
        ends = self.counts[order].cumsum(0)
        kept = max(1, int((ends <= rows).sum()))
        return _gather_group_rows(
            self._starts_and_counts(device), order[:kept].to(device), int(ends[kept - 1])
        )

    def _starts_and_counts(self, device: torch.device | str) -> tuple[Tensor, Tensor]:
        starts = self.counts.cumsum(0) - self.counts
        return starts.to(device), self.counts.to(device)


def shard_groups(group: Tensor, rank: int, world_size: int) -> GroupBatch:
    """Every `parts`-th of the groups of rows (n,), from the one numbered `part` on, numbered anew.

    All of them where they are fewer than parts, so that no part is empty.
    """
    if not len(group) or int(group[-1]) + 1 < world_size:
        return GroupBatch(torch.arange(len(group), device=group.device), group)
    place = (group % world_size == rank).nonzero()[:, 0]
    return GroupBatch(place, group[place] // world_size)


def _gather_group_rows(starts_and_counts: tuple[Tensor, Tensor], groups: Tensor, num_rows: int) -> GroupBatch:
    """The rows, `total` of them, of these groups."""
    starts, counts = (values[groups] for values in starts_and_counts)
    numbers = torch.arange(len(groups), device=groups.device)
    number = numbers.repeat_interleave(counts, output_size=num_rows)
    ahead = counts.cumsum(0) - counts  # rows of the groups before, in the batch
    return GroupBatch(torch.arange(num_rows, device=groups.device) + (starts - ahead)[number], number)
