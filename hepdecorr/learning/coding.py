"""Codes of groups as a tagger has them in use: from sums over all events of each group.

A training finds the codes of a batch on its own (Method.rows); what stands on a card is fixed on codes found
as they are found in an analysis, chunk by chunk, from exact sums.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hepdecorr.errors import InputError
from hepdecorr.learning.batches import to_batch
from hepdecorr.learning.grouping import Grouping, Posterior
from hepdecorr.learning.layout import Layout
from hepdecorr.learning.methods.judging import chunks
from hepdecorr.learning.methods.method import Method
from hepdecorr.sums import GroupSums
from hepdecorr.table import Selection, Table


class Codes(NamedTuple):
    """The code of each group, (g, d), by its id, (g,) ascending; of a method without a context nothing."""

    ids: NDArray[np.int64]
    mean: Tensor

    @classmethod
    def of(cls, method: Method, x: Tensor, group: Tensor) -> Self:
        """Of raw rows (n, width) and the ids (n,) of their groups, which are whole."""
        grouping = method.grouping()
        if grouping is None:
            return cls(np.zeros(0, np.int64), x.new_zeros(0, 0))
        return cls._pooled(grouping, [summed(grouping, x, group)])

    @classmethod
    def of_table(cls, method: Method, table: Table, layout: Layout, *, select: Selection) -> Self:
        """Of the selected part of a table, one shard at a time, from events of all labels.

        A group in data has no labels, and in use its code comes from all that was selected.
        """
        grouping = method.grouping()
        if grouping is None:
            return cls(np.zeros(0, np.int64), torch.zeros(0, 0))
        if layout.group is None:
            raise InputError(
                f"{table.folder}: no column of groups, and the method learns from groups; add the section "
                "'groups' to the config"
            )
        part = replace(select, label=None)
        batches = (to_batch(arrays, layout) for arrays in table.iterate(layout.columns, select=part))
        return cls._pooled(grouping, [summed(grouping, raw.x, raw.group) for raw in batches])

    @classmethod
    def _pooled(cls, grouping: Grouping, sums: Sequence[GroupSums]) -> Self:
        total = sums[0]
        for one in sums[1:]:
            total = total + one
        return cls(total.ids, pooled(grouping, total).mean)

    def rows(self, x: Tensor, group: Tensor) -> Tensor:
        """What `logit` takes: x (n, width) with the codes of the groups (n,) behind, as far as there are."""
        if not self.mean.shape[1]:
            return x
        at = np.searchsorted(self.ids, group.cpu().numpy())
        return torch.cat([x, self.mean[torch.from_numpy(at)].to(x.device)], 1)


@torch.no_grad()
def summed(grouping: Grouping, x: Tensor, group: Tensor) -> GroupSums:
    """Sums over each group of raw rows (n, width), with ids (n,); exact for the summands in float32."""
    ids, total = group.cpu().numpy(), GroupSums.of(np.zeros(0, np.int64), np.zeros((0, grouping.summands)))
    start = 0
    for part in chunks(x):
        own = ids[start : start + len(part)]
        total = total + GroupSums.of(own, grouping.members(part).float().cpu().numpy())
        start += len(part)
    return total


@torch.no_grad()
def pooled(grouping: Grouping, sums: GroupSums) -> Posterior:
    """The codes that follow from sums, (g, d) each, in the order of their ids."""
    given = torch.from_numpy(sums.sums).float(), torch.from_numpy(sums.counts).float()
    parts = zip(*(values.split(65_536) for values in given), strict=True)
    found = [grouping.pool(own, counts) for own, counts in parts]
    return Posterior(*(torch.cat(columns).float() for columns in zip(*found, strict=True)))
