"""What a method that learns from groups adds to its tagger: how the code of a group comes from its events.

A group is a set of events with a common unknown: a run, an era, a region.  The code is found in two steps,
since the events of a group may lie in many chunks and files: each event gives summands, which are added up
over the group, and the code follows from their sums and the number of events.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor, nn


class Posterior(NamedTuple):
    """A normal density with independent dimensions, one for each row: both (n, d)."""

    mean: Tensor
    log_var: Tensor


class Grouping(nn.Module):
    """What a method returns from `grouping()`, to be exported beside its tagger.

    latents: d, dimensions of a group's code.  summands: m, numbers of each event.  counts: smallest, median
    and largest number of events in the groups of training.
    """

    latents: int
    summands: int
    counts: tuple[int, int, int]

    @abstractmethod
    def members(self, x: Tensor) -> Tensor:
        """Summands (n, m) of raw rows (n, f), float32; they do not depend on other rows."""

    @abstractmethod
    def pool(self, sums: Tensor, counts: Tensor) -> Posterior:
        """Code of each group, (g, d), from the sums (g, m) of its events' summands and their numbers (g,)."""


def added(values: Tensor, group: Tensor, *, groups: int) -> Tensor:
    """Sums (g, m) of the rows (n, m) of each group, numbered from 0."""
    return values.new_zeros(groups, values.shape[1]).index_add(0, group, values)


def counted(group: Tensor, *, groups: int) -> Tensor:
    """How many rows (n,) each group has, (g,) of float32."""
    return torch.bincount(group, minlength=groups).float()
