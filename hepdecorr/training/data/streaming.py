"""Batches streamed from shards, for tables larger than memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Generator

from hepdecorr.table import Selection, Table
from hepdecorr.training.data.batches import (
    MAX_SAMPLE_SIZE,
    Batch,
    arrays_to_batch,
    check_batch,
    compute_class_scales,
    describe_source,
    multiply_weights,
    required_columns,
    split_sizes,
    validate_labels,
)
from hepdecorr.training.data.group_index import GroupIndex
from hepdecorr.training.data.groups import GroupIds, GroupSortedMemmap
from hepdecorr.training.data.layout import ColumnLayout
from hepdecorr.training.data.reweighting import FittedReweighting

MAX_BUFFERED_VALUES = 50_000_000  # that the default buffer holds at most


class StreamingDataset:
    """Events read shard by shard, for tables larger than memory; the same verbs as Events.

    Each epoch reads the shards in a new order, in which the datasets alternate evenly, into a buffer of
    `buffer` rows, default 500,000 or what 200 MB hold; half of the shuffled buffer goes out before more
    comes in.

    Of a layout of whole groups, which may straddle shards and datasets, the rows are sorted by group once,
    into a file that is mapped into memory; the batches are then those that Events give.
    """

    def __init__(
        self,
        table: Table,
        layout: ColumnLayout,
        *,
        select: Selection | None = None,
        reweighting: FittedReweighting | None = None,
        buffer_size: int = 0,
    ) -> None:
        self._reweighting = reweighting
        self._table, self._layout, self._selection = table, layout, select
        self._buffer_size = buffer_size or min(500_000, MAX_BUFFERED_VALUES // layout.width)
        self._device: torch.device | str = "cpu"
        self.packing, self.nuisances = layout.packing, list(layout.nuisances)
        rows, sums = np.zeros(2), np.zeros(2)
        self._rows_per_shard: dict[str, int] = {}
        groups: dict[str, GroupIds] = {}
        names = [
            "label",
            *layout.weight_columns,
            *([layout.group_column] if layout.grouped and layout.group_column else []),
        ]
        for shard in table.shards:
            part = replace(table, shards=(shard,)).read(names, select=select)
            if layout.grouped and layout.group_column:
                groups[shard.file] = part[layout.group_column].astype(np.int64)
            label, weight = validate_labels(part["label"]), multiply_weights(part, layout.weight_columns)
            self._rows_per_shard[shard.file] = len(label)
            rows += np.bincount(label, minlength=2)
            sums += np.bincount(label, weights=weight, minlength=2)
        self._num_events = int(rows.sum())
        source = describe_source(table, select)
        self._class_scales = compute_class_scales(
            rows,
            sums,
            balance=layout.balance,
            allow_background_only=layout.allow_background_only,
            source=source,
        )
        self._group_sorted = None
        if groups:
            self._group_sorted = GroupSortedMemmap.from_unsorted(
                groups.values(), self._read_shards(None, shuffle=False), layout=layout
            )

    @property
    def features(self) -> list[str]:
        """Names of the features of a row."""
        return list(self.packing.features)

    @property
    def group_index(self) -> GroupIndex | None:
        """The groups, where batches hold whole ones."""
        return self._group_sorted.group_index if self._group_sorted else None

    def __len__(self) -> int:
        return self._num_events

    def to(self, device: torch.device | str) -> StreamingDataset:
        """The same events, given out on `device`."""
        other = object.__new__(StreamingDataset)
        other.__dict__.update(self.__dict__, _device=device)
        return other

    def num_batches(self, batch_size: int) -> int:
        """How many batches `batches(size)` gives."""
        return (
            self.group_index.num_batches(batch_size)
            if self.group_index
            else max(1, -(-len(self) // batch_size))
        )

    def batches(
        self, batch_size: int, *, generator: Generator | None = None, shuffle: bool = True
    ) -> Iterator[Batch]:
        """Every event once, in batches of at most `size`, of equal size up to one event.

        Those of whole groups are as of Events.
        """
        if self._group_sorted is not None:
            for b in self._group_sorted.batches(batch_size, generator=generator, shuffle=shuffle):
                yield b.to(self._device)
            return
        pending = list(split_sizes(len(self), self.num_batches(batch_size)))[::-1]
        held: list[Batch] = []
        rows = 0
        for part in self._read_shards(generator, shuffle=shuffle):
            held.append(part)
            rows += len(part.y)
            if rows < self._buffer_size:
                continue
            pool, given = _concatenate_batches(held, generator, shuffle=shuffle), 0
            while pending and given + pending[-1] <= rows // 2:
                start, given = given, given + pending.pop()
                yield pool.take(slice(start, given)).to(self._device)
            held, rows = [pool.take(slice(given, None))], rows - given
        pool, given = _concatenate_batches(held, generator, shuffle=shuffle), 0
        for step in pending[::-1]:
            start, given = given, given + step
            yield pool.take(slice(start, given)).to(self._device)

    def sample(self, rows: int = MAX_SAMPLE_SIZE, *, generator: Generator | None = None) -> Batch:
        """At most `rows` events from a random choice of shards of every dataset; of whole groups, any."""
        if self._group_sorted is not None:
            return self._group_sorted.sample(rows, generator=generator).to(self._device)
        held: list[Batch] = []
        for part in self._read_shards(generator, shuffle=True):
            held.append(part)
            if sum(len(p.y) for p in held) >= 2 * rows:
                break
        return _concatenate_batches(held, generator, shuffle=True).take(slice(0, rows)).to(self._device)

    def _read_shards(self, generator: Generator | None, *, shuffle: bool) -> Iterator[Batch]:
        shards = [s for s in self._table.shards if self._rows_per_shard[s.file]]
        for k in (
            _interleave_datasets([s.dataset for s in shards], generator) if shuffle else range(len(shards))
        ):
            shard = replace(self._table, shards=(shards[k],))
            arrays = shard.read(required_columns(self._layout, self._reweighting), select=self._selection)
            raw = arrays_to_batch(arrays, self._layout, self._reweighting)
            check_batch(raw, self.packing, self.nuisances, str(self._table.folder / shards[k].file))
            yield raw._replace(w=raw.w * self._class_scales[raw.y.long()])


def _concatenate_batches(batches: Sequence[Batch], generator: Generator | None, *, shuffle: bool) -> Batch:
    pool = Batch(*(torch.cat(columns) for columns in zip(*batches, strict=True)))
    return pool.take(torch.randperm(len(pool.y), generator=generator)) if shuffle else pool


def _interleave_datasets(datasets: Sequence[str], generator: Generator | None) -> list[int]:
    """A random order of shards in which each dataset's shards are spread evenly."""
    places = torch.empty(len(datasets))
    for name in dict.fromkeys(datasets):
        mine = [k for k, d in enumerate(datasets) if d == name]
        shuffled = torch.randperm(len(mine), generator=generator)
        jitter = torch.rand(len(mine), generator=generator)
        places[torch.tensor(mine)] = (shuffled + jitter) / len(mine)
    return [int(k) for k in places.argsort()]
