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

    def others(self, values: Tensor, *, by_group: bool = False) -> Tensor:
        """Mean over the others of each event's group, (n, m): (S - own) / (K - 1), K >= 2.

        by_group: divided by K in place of K - 1.
        """
        sums = self.total(values)
        less = self.counts if by_group else self.counts - 1
        return (sums.index_select(0, self.group) - values) / less.index_select(0, self.group)[:, None]

    def sibling(self, *, generator: Generator | None = None, itself: bool = False) -> Tensor:
        """For each event another one of its group, by lot, (n,); K >= 2.  itself: it may be the event."""
        own = torch.arange(len(self.group), device=self.group.device) - self.starts[self.group]
        count = self.counts[self.group]
        step = self._by_lot(count if itself else count - 1, generator=generator) + (not itself)
        return self.starts[self.group] + (own + step) % count.long()

    def stranger(self, *, generator: Generator | None = None) -> Tensor:
        """For each event one of another group, by lot, (n,); g >= 2.

        All events of a group get theirs from one other group, which is as far on for every group.
        """
        away = 1 + int(torch.randint(self.groups - 1, (1,), generator=generator, device=self.group.device))
        other = (self.group + away) % self.groups
        return self.starts[other] + self._by_lot(self.counts[other], generator=generator)

    def _by_lot(self, count: Tensor, *, generator: Generator | None) -> Tensor:
        share = torch.rand(count.shape, generator=generator, device=count.device)
        return torch.minimum((share * count).long(), count.long() - 1)  # float32 may round up to the count
