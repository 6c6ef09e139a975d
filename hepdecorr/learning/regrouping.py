"""Groups of a table larger than memory, brought together once in a file that is mapped into memory."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator

from hepdecorr.errors import InputError
from hepdecorr.learning.batches import Batch, packed, unpacked
from hepdecorr.learning.layout import Layout
from hepdecorr.learning.whole import Chosen, Whole

Ids = NDArray[np.int64]


class Regrouped:
    """Rows of a table whose groups straddle shards, sorted by group on disk; batches as Events gives them.

    The file has no name: it goes when this goes, also after a crash.  It lies in the folder for temporary
    files, TMPDIR.
    """

    def __init__(self, whole: Whole, rows: NDArray[np.float32], *, width: int) -> None:
        self.whole, self._rows, self._width = whole, rows, width

    @classmethod
    def sorting(cls, ids: Iterable[Ids], parts: Iterable[Batch], *, layout: Layout) -> Self:
        """Sort the rows of all parts, each read once, whose groups are `ids`, part by part.

        A counting sort: where a group begins follows from how many rows each has.  Rows of a group stay in
        the order of the parts.
        """
        whole = _counted(ids)
        place = (whole.counts.cumsum(0) - whole.counts).numpy()
        rows = _file(whole.rows, layout.width)
        for part in parts:
            number = np.searchsorted(whole.ids.numpy(), part.group.numpy())
            order = np.argsort(number, kind="stable")
            found, first, counts = np.unique(number[order], return_index=True, return_counts=True)
            within = np.arange(len(order)) - first.repeat(counts)
            rows[place[found].repeat(counts) + within] = packed(part).numpy()[order]
            place[found] += counts
        return cls(whole, rows, width=layout.form.width)

    def batches(self, size: int, *, generator: Generator | None, shuffle: bool) -> Iterator[Batch]:
        """Every group once, as of Events."""
        for chosen in self.whole.batches(size, generator=generator, shuffle=shuffle):
            yield self._read(chosen)

    def sample(self, rows: int, *, generator: Generator | None) -> Batch:
        """Groups at random, at most `rows` rows of them, but one group at least."""
        return self._read(self.whole.some(rows, generator=generator))

    def _read(self, chosen: Chosen) -> Batch:
        rows = torch.from_numpy(np.asarray(self._rows[chosen.place.numpy()]))
        return unpacked(rows, chosen.number, width=self._width)


def _counted(parts: Iterable[Ids]) -> Whole:
    found = [np.unique(part, return_counts=True) for part in parts]
    every = np.concatenate([ids for ids, _ in found])
    ids, number = np.unique(every, return_inverse=True)
    counts = np.zeros(len(ids), dtype=np.int64)
    np.add.at(counts, number, np.concatenate([count for _, count in found]))
    return Whole(torch.from_numpy(ids), torch.from_numpy(counts))


def _file(rows: int, columns: int) -> NDArray[np.float32]:
    """Room for a matrix on disk, which is taken at once: a full disk would end the process later."""
    size = 4 * rows * columns
    with tempfile.TemporaryFile() as file:
        try:
            os.posix_fallocate(file.fileno(), 0, size)
        except OSError as err:
            raise InputError(
                f"{tempfile.gettempdir()}: no room for {size / 1e9:.2g} GB, in which groups are brought "
                f"together ({err.strerror}); set TMPDIR to a folder that has it"
            ) from None
        return np.memmap(file, dtype=np.float32, mode="r+", shape=(rows, columns))
