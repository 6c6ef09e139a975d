"""What the groups of a table are like: how many, how large, and what of them a training will find odd."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from hepdecorr.table import Split, Table

Ids = NDArray[np.int64]
PARTS = ("train", "validation", "test")
_USES = ("train", "validate", "test")


@dataclass(frozen=True)
class Census:
    """Groups of a table.

    named: what names them.  ids: (g,).  labels: rows of background and of signal, (g, 2).  parts: rows to
    train, to validate and to test with, (g, 3).
    """

    named: str
    ids: Ids
    labels: Ids
    parts: Ids
    asked: tuple[bool, bool, bool] = (True, True, True)  # whether the split has folds for a part

    @classmethod
    def of(cls, table: Table, *, split: Split) -> Self:
        """Of all rows of a table with a column of role `group`, read one shard at a time."""
        (name,) = table.names("group")
        ids, counts = [np.empty(0, np.int64)], [np.empty((0, 5), np.int64)]
        for shard, rows in zip(table.shards, table.iterate([name, "label", "fold"]), strict=True):
            found, number = np.unique(rows[name].astype(np.int64), return_inverse=True)
            use = str(table.datasets[shard.dataset].get("use", "all"))
            part = split.part(rows["fold"], use=use)
            kinds = [rows["label"] == label for label in (0, 1)] + [part == one for one in PARTS]
            ids.append(found)
            counts.append(np.stack([np.bincount(number[k], minlength=len(found)) for k in kinds], 1))
        every, number = np.unique(np.concatenate(ids), return_inverse=True)
        total = np.zeros((len(every), 5), np.int64)
        np.add.at(total, number, np.concatenate(counts))
        asked = (True, bool(split.validation), bool(split.test))
        return cls(table.column(name).title or name, every, total[:, :2], total[:, 2:], asked)

    @property
    def sizes(self) -> Ids:
        """Rows of each group, (g,)."""
        found: Ids = self.labels.sum(1)
        return found

    def told(self, *, noun: str = "events", lost: int = 0) -> Iterator[str]:
        """A sentence on the groups, then one on each oddity; lost: how many groups the cuts have emptied."""
        sizes = self.sizes
        spread = f"{sizes.min():,} to {sizes.max():,} {noun} (median {np.median(sizes):,.10g})"
        said = [f"{len(sizes):,} groups of {self.named}, of {spread}"]
        if single := int((sizes == 1).sum()):
            said.append(f"{single:,} of a single one")
        if self.labels.any(0).all():
            alone = [int((self.labels[:, 1 - k] == 0).sum()) for k in (0, 1)]
            said += [
                f"{count:,} of {name} alone"
                for count, name in zip(alone, ("background", "signal"), strict=True)
                if count
            ]
        if lost:
            said.append(f"{lost:,} more lose all {noun} to the selection and are no groups")
        there = (self.parts > 0).sum(0)
        yield "; ".join([*said, ", ".join(f"{there[k]:,} to {one}" for k, one in enumerate(_USES))])
        for k, one in enumerate(_USES):
            if not there[k] and self.asked[k]:
                yield (
                    f"no group is left to {one} with: whole groups share a fold, and {len(sizes):,} are few "
                    "for the folds of 'split'; give this part more of them, or name smaller groups"
                )
        if both := int(((self.parts > 0).sum(1) > 1).sum()):
            yield (
                f"{both:,} groups stand in several of the parts, as their datasets are of use 'train' and "
                "'test': what is learnt from a group is tested on the same one; write 'use: all', so that "
                "folds part them, or tell them apart by a second name under 'groups: of'"
            )
