"""Who is in which group of a batch, and who may be paired with whom."""

from __future__ import annotations

from typing import NamedTuple, Self

import torch
from torch import Generator, Tensor

from hepdecorr.learning.grouping import added, counted


class Members(NamedTuple):
    """The events of g groups, rows of a group side by side and groups numbered from 0, as in a batch."""

    group: Tensor  # (n,)
    counts: Tensor  # (g,), float32
    starts: Tensor  # (g,), row of the first event of each

    @classmethod
    def of(cls, group: Tensor) -> Self:
        """Of the group indices of a batch, n >= 1."""
        counts = counted(group, groups=int(group[-1]) + 1)
        ends = counts.long().cumsum(0)
        return cls(group, counts, ends - counts.long())

    def part(self, index: Tensor) -> Members:
        """Of the events that `index` names, in their order; groups that lose all of theirs are left out."""
        group = self.group.index_select(0, index)
        return Members.of(torch.unique_consecutive(group, return_inverse=True)[1])

    @property
    def groups(self) -> int:
        """g."""
        return len(self.counts)

    def total(self, values: Tensor) -> Tensor:
        """Sums (g, m) over each group of (n, m)."""
        return added(values, self.group, groups=self.groups)

    def others(self, values: Tensor, rows: Tensor, *, by_group: bool = False) -> Tensor:
        """Mean of values (n, k) over the others of each of these rows' (m,) groups: (S - own) / (K - 1).

        by_group: divided by K in place of K - 1.
        """
        group = self.group.index_select(0, rows)
        less = self.counts if by_group else self.counts - 1
        others = self.total(values).index_select(0, group) - values.index_select(0, rows)
        return others / less.index_select(0, group)[:, None]

    def sibling(self, rows: Tensor, *, generator: Generator | None = None, itself: bool = False) -> Tensor:
        """For each of these rows another one of its group, by lot, (m,); K >= 2.  itself: or the same."""
        group = self.group.index_select(0, rows)
        start, count = self.starts.index_select(0, group), self.counts.index_select(0, group)
        step = _by_lot(count if itself else count - 1, generator=generator) + (not itself)
        return start + (rows - start + step) % count.long()

    def stranger(self, rows: Tensor, *, generator: Generator | None = None) -> Tensor:
        """For each of these rows one of another group, by lot, (m,); g >= 2.

        All rows of a group get theirs from one other group, which is as far on for every group.
        """
        away = 1 + int(torch.randint(self.groups - 1, (1,), generator=generator, device=rows.device))
        other = (self.group.index_select(0, rows) + away) % self.groups
        count = self.counts.index_select(0, other)
        return self.starts.index_select(0, other) + _by_lot(count, generator=generator)

    def some(self, rows: int, *, generator: Generator | None = None) -> Tensor:
        """So many different rows by lot; all, in order, for 0 or where there are no more."""
        if not 0 < rows < len(self.group):
            return torch.arange(len(self.group), device=self.group.device)
        return torch.randperm(len(self.group), generator=generator, device=self.group.device)[:rows]


def _by_lot(count: Tensor, *, generator: Generator | None) -> Tensor:
    share = torch.rand(count.shape, generator=generator, device=count.device)
    return torch.minimum((share * count).long(), count.long() - 1)  # float32 may round up to the count
