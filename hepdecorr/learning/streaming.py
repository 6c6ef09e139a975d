"""Batches streamed from shards, for tables larger than memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Generator

from hepdecorr.learning.batches import (
    LARGEST_SAMPLE,
    Batch,
    check,
    class_scales,
    described,
    labels,
    product,
    sizes,
    to_batch,
    to_read,
)
from hepdecorr.learning.layout import Layout
from hepdecorr.learning.regrouping import Ids, Regrouped
from hepdecorr.learning.reweighting import Rule
from hepdecorr.learning.whole import Whole
from hepdecorr.table import Selection, Table

NUMBERS = 50_000_000  # that the default buffer holds at most


class Streamed:
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
        layout: Layout,
        *,
        select: Selection | None = None,
        rule: Rule | None = None,
        buffer: int = 0,
    ) -> None:
        self._rule = rule
        self._table, self._layout, self._select = table, layout, select
        self._buffer = buffer or min(500_000, NUMBERS // layout.width)
        self._device: torch.device | str = "cpu"
        self.form, self.nuisances = layout.form, list(layout.nuisances)
        rows, sums = np.zeros(2), np.zeros(2)
        self._rows_of: dict[str, int] = {}
        groups: dict[str, Ids] = {}
        names = ["label", *layout.weights, *([layout.group] if layout.whole and layout.group else [])]
        for shard in table.shards:
            part = replace(table, shards=(shard,)).read(names, select=select)
            if layout.whole and layout.group:
                groups[shard.file] = part[layout.group].astype(np.int64)
            label, weight = labels(part["label"]), product(part, layout.weights)
            self._rows_of[shard.file] = len(label)
            rows += np.bincount(label, minlength=2)
            sums += np.bincount(label, weights=weight, minlength=2)
        self._count = int(rows.sum())
        source = described(table, select)
        self._scale = class_scales(rows, sums, balance=layout.balance, alone=layout.alone, source=source)
        self._regrouped = None
        if groups:
            self._regrouped = Regrouped.sorting(
                groups.values(), self._parts(None, shuffle=False), layout=layout
            )

    @property
    def features(self) -> list[str]:
        """Names of the features of a row."""
        return list(self.form.features)

    @property
    def whole(self) -> Whole | None:
        """The groups, where batches hold whole ones."""
        return self._regrouped.whole if self._regrouped else None

    def __len__(self) -> int:
        return self._count

    def to(self, device: torch.device | str) -> Streamed:
        """The same events, given out on `device`."""
        other = object.__new__(Streamed)
        other.__dict__.update(self.__dict__, _device=device)
        return other

    def turns(self, size: int) -> int:
        """How many batches `batches(size)` gives."""
        return self.whole.turns(size) if self.whole else max(1, -(-len(self) // size))

    def batches(
        self, size: int, *, generator: Generator | None = None, shuffle: bool = True
    ) -> Iterator[Batch]:
        """Every event once, in batches of at most `size`, of equal size up to one event.

        Those of whole groups are as of Events.
        """
        if self._regrouped is not None:
            for b in self._regrouped.batches(size, generator=generator, shuffle=shuffle):
                yield b.to(self._device)
            return
        pending = list(sizes(len(self), self.turns(size)))[::-1]
        held: list[Batch] = []
        rows = 0
        for part in self._parts(generator, shuffle=shuffle):
            held.append(part)
            rows += len(part.y)
            if rows < self._buffer:
                continue
            pool, given = _joined(held, generator, shuffle=shuffle), 0
            while pending and given + pending[-1] <= rows // 2:
                start, given = given, given + pending.pop()
                yield pool.take(slice(start, given)).to(self._device)
            held, rows = [pool.take(slice(given, None))], rows - given
        pool, given = _joined(held, generator, shuffle=shuffle), 0
        for step in pending[::-1]:
            start, given = given, given + step
            yield pool.take(slice(start, given)).to(self._device)

    def sample(self, rows: int = LARGEST_SAMPLE, *, generator: Generator | None = None) -> Batch:
        """At most `rows` events from a random choice of shards of every dataset; of whole groups, any."""
        if self._regrouped is not None:
            return self._regrouped.sample(rows, generator=generator).to(self._device)
        held: list[Batch] = []
        for part in self._parts(generator, shuffle=True):
            held.append(part)
            if sum(len(p.y) for p in held) >= 2 * rows:
                break
        return _joined(held, generator, shuffle=True).take(slice(0, rows)).to(self._device)

    def _parts(self, generator: Generator | None, *, shuffle: bool) -> Iterator[Batch]:
        shards = [s for s in self._table.shards if self._rows_of[s.file]]
        for k in _alternating([s.dataset for s in shards], generator) if shuffle else range(len(shards)):
            shard = replace(self._table, shards=(shards[k],))
            arrays = shard.read(to_read(self._layout, self._rule), select=self._select)
            raw = to_batch(arrays, self._layout, self._rule)
            check(raw, self.form, self.nuisances, str(self._table.folder / shards[k].file))
            yield raw._replace(w=raw.w * self._scale[raw.y.long()])


def _joined(parts: Sequence[Batch], generator: Generator | None, *, shuffle: bool) -> Batch:
    pool = Batch(*(torch.cat(columns) for columns in zip(*parts, strict=True)))
    return pool.take(torch.randperm(len(pool.y), generator=generator)) if shuffle else pool


def _alternating(datasets: Sequence[str], generator: Generator | None) -> list[int]:
    """A random order of shards in which each dataset's shards are spread evenly."""
    places = torch.empty(len(datasets))
    for name in dict.fromkeys(datasets):
        mine = [k for k, d in enumerate(datasets) if d == name]
        shuffled = torch.randperm(len(mine), generator=generator)
        jitter = torch.rand(len(mine), generator=generator)
        places[torch.tensor(mine)] = (shuffled + jitter) / len(mine)
    return [int(k) for k in places.argsort()]
