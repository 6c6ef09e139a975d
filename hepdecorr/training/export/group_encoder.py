"""Interface of a group encoder that can be exported."""

from __future__ import annotations

from abc import abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor, nn


class GroupPosterior(NamedTuple):
    """A normal density with independent dimensions, one for each row: both (n, d)."""

    mean: Tensor
    log_var: Tensor


class GroupEncoderExport(nn.Module):
    """What a method returns from `grouping()`, to be exported beside its tagger.

    latents: d, dimensions of a group's code.  summands: m, numbers of each event.  counts: smallest, median
    and largest number of events in the groups of training.
    """

    code_dim: int
    num_summands: int
    group_sizes: tuple[int, int, int]

    @abstractmethod
    def summands(self, x: Tensor) -> Tensor:
        """Summands (n, m) of raw rows (n, f), float32; they do not depend on other rows."""

    @abstractmethod
    def pool(self, sums: Tensor, counts: Tensor) -> GroupPosterior:
        """Code of each group, (g, d), from the sums (g, m) of its events' summands and their numbers (g,)."""


def sum_by_group(values: Tensor, group: Tensor, *, num_groups: int) -> Tensor:
    """Sums (g, m) of the rows (n, m) of each group, numbered from 0."""
    return values.new_zeros(num_groups, values.shape[1]).index_add(0, group, values)


def count_by_group(group: Tensor, *, num_groups: int) -> Tensor:
    """How many rows (n,) each group has, (g,) of float32."""
    return torch.bincount(group, minlength=num_groups).float()
