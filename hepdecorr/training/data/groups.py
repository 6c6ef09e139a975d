"""Batches of whole groups, by arithmetic on where the rows of each group begin and how many they are.

Who is in which group of a batch, and who may be paired with whom.

Groups of a table larger than memory, brought together once in a file that is mapped into memory.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from typing import NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from hepdecorr.errors import InputError
from hepdecorr.training.data.batches import Batch, pack_batch, unpack_batch
from hepdecorr.training.data.group_index import GroupBatch, GroupIndex
from hepdecorr.training.data.layout import ColumnLayout
from hepdecorr.training.export.group_encoder import count_by_group, sum_by_group


class BatchGroups(NamedTuple):
    """The events of g groups, rows of a group side by side and groups numbered from 0, as in a batch."""

    group: Tensor  # (n,)
    counts: Tensor  # (g,), float32
    starts: Tensor  # (g,), row of the first event of each

    @classmethod
    def from_index(cls, group: Tensor) -> Self:
        """Of the group indices of a batch, n >= 1."""
        counts = count_by_group(group, num_groups=int(group[-1]) + 1)
        ends = counts.long().cumsum(0)
        return cls(group, counts, ends - counts.long())

    def subset(self, index: Tensor) -> BatchGroups:
        """Of the events that `index` names, in their order; groups that lose all of theirs are left out."""
        group = self.group.index_select(0, index)
        return BatchGroups.from_index(torch.unique_consecutive(group, return_inverse=True)[1])

    @property
    def num_groups(self) -> int:
        """g."""
        return len(self.counts)

    def sum_by_group(self, values: Tensor) -> Tensor:
        """Sums (g, m) over each group of (n, m)."""
        return sum_by_group(values, self.group, num_groups=self.num_groups)

    def leave_one_out_mean(
        self, values: Tensor, rows: Tensor, *, divide_by_group_size: bool = False
    ) -> Tensor:
        """Mean of values (n, k) over the others of each of these rows' (m,) groups: (S - own) / (K - 1).

        by_group: divided by K in place of K - 1.
        """
        group = self.group.index_select(0, rows)
        less = self.counts if divide_by_group_size else self.counts - 1
        others = self.sum_by_group(values).index_select(0, group) - values.index_select(0, rows)
        return others / less.index_select(0, group)[:, None]

    def sample_same_group(
        self, rows: Tensor, *, generator: Generator | None = None, include_self: bool = False
    ) -> Tensor:
        """For each of these rows another one of its group, by lot, (m,); K >= 2.  itself: or the same."""
        group = self.group.index_select(0, rows)
        start, count = self.starts.index_select(0, group), self.counts.index_select(0, group)
        step = _random_index(count if include_self else count - 1, generator=generator) + (not include_self)
        return start + (rows - start + step) % count.long()

    def sample_other_group(self, rows: Tensor, *, generator: Generator | None = None) -> Tensor:
        """For each of these rows one of another group, by lot, (m,); g >= 2.

        All rows of a group get theirs from one other group, which is as far on for every group.
        """
        away = 1 + int(torch.randint(self.num_groups - 1, (1,), generator=generator, device=rows.device))
        other = (self.group.index_select(0, rows) + away) % self.num_groups
        count = self.counts.index_select(0, other)
        return self.starts.index_select(0, other) + _random_index(count, generator=generator)

    def sample(self, num_rows: int, *, generator: Generator | None = None) -> Tensor:
        """So many different rows by lot; all, in order, for 0 or where there are no more."""
        if not 0 < num_rows < len(self.group):
            return torch.arange(len(self.group), device=self.group.device)
        return torch.randperm(len(self.group), generator=generator, device=self.group.device)[:num_rows]


def _random_index(count: Tensor, *, generator: Generator | None) -> Tensor:
    share = torch.rand(count.shape, generator=generator, device=count.device)
    return torch.minimum((share * count).long(), count.long() - 1)  # float32 may round up to the count


GroupIds = NDArray[np.int64]


class GroupSortedMemmap:
    """Rows of a table whose groups straddle shards, sorted by group on disk; batches as Events gives them.

    The file has no name: it goes when this goes, also after a crash.  It lies in the folder for temporary
    files, TMPDIR.
    """

    def __init__(self, group_index: GroupIndex, rows: NDArray[np.float32], *, width: int) -> None:
        self.group_index, self._rows, self._width = group_index, rows, width

    @classmethod
    def from_unsorted(
        cls, ids: Iterable[GroupIds], batches: Iterable[Batch], *, layout: ColumnLayout
    ) -> Self:
        """Sort the rows of all parts, each read once, whose groups are `ids`, part by part.

        A counting sort: where a group begins follows from how many rows each has.  Rows of a group stay in
        the order of the parts.
        """
        whole = _merge_group_counts(ids)
        place = (whole.counts.cumsum(0) - whole.counts).numpy()
        rows = _allocate_memmap(whole.num_rows, layout.width)
        for part in batches:
            number = np.searchsorted(whole.ids.numpy(), part.group.numpy())
            order = np.argsort(number, kind="stable")
            found, first, counts = np.unique(number[order], return_index=True, return_counts=True)
            within = np.arange(len(order)) - first.repeat(counts)
            rows[place[found].repeat(counts) + within] = pack_batch(part).numpy()[order]
            place[found] += counts
        return cls(whole, rows, width=layout.packing.width)

    def batches(self, batch_size: int, *, generator: Generator | None, shuffle: bool) -> Iterator[Batch]:
        """Every group once, as of Events."""
        for chosen in self.group_index.batches(batch_size, generator=generator, shuffle=shuffle):
            yield self._read_batch(chosen)

    def sample(self, rows: int, *, generator: Generator | None) -> Batch:
        """Groups at random, at most `rows` rows of them, but one group at least."""
        return self._read_batch(self.group_index.sample(rows, generator=generator))

    def _read_batch(self, group_batch: GroupBatch) -> Batch:
        rows = torch.from_numpy(np.asarray(self._rows[group_batch.rows.numpy()]))
        return unpack_batch(rows, group_batch.group, width=self._width)


def _merge_group_counts(id_arrays: Iterable[GroupIds]) -> GroupIndex:
    found = [np.unique(part, return_counts=True) for part in id_arrays]
    every = np.concatenate([ids for ids, _ in found])
    ids, number = np.unique(every, return_inverse=True)
    counts = np.zeros(len(ids), dtype=np.int64)
    np.add.at(counts, number, np.concatenate([count for _, count in found]))
    return GroupIndex(torch.from_numpy(ids), torch.from_numpy(counts))


def _allocate_memmap(num_rows: int, num_columns: int) -> NDArray[np.float32]:
    """Room for a matrix on disk, which is taken at once: a full disk would end the process later."""
    size = 4 * num_rows * num_columns
    with tempfile.TemporaryFile() as file:
        try:
            os.posix_fallocate(file.fileno(), 0, size)
        except OSError as err:
            raise InputError(
                f"{tempfile.gettempdir()}: no room for {size / 1e9:.2g} GB, in which groups are brought "
                f"together ({err.strerror}); set TMPDIR to a folder that has it"
            ) from None
        return np.memmap(file, dtype=np.float32, mode="r+", shape=(num_rows, num_columns))
