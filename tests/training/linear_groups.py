"""A method that learns from groups, as small as one can be: a code is the mean of two features."""

from __future__ import annotations

import torch
from torch import Tensor

from hepdecorr.training.export.group_encoder import (
    GroupEncoderExport,
    GroupPosterior,
    count_by_group,
    sum_by_group,
)
from hepdecorr.training.methods.base import Method


class MeanOfFeatures(GroupEncoderExport):
    """Of the first two features; the variance is that of a mean of so many, of values with variance one."""

    code_dim = num_summands = 2

    def __init__(self, counts: tuple[int, int, int]) -> None:
        super().__init__()
        self.group_sizes = counts

    def summands(self, x: Tensor) -> Tensor:
        return x[:, :2].clamp(-100, 100)

    def pool(self, sums: Tensor, counts: Tensor) -> GroupPosterior:
        each = counts.clamp_min(1)[:, None]
        return GroupPosterior(sums / each, -each.log().expand_as(sums))


class LinearGroups(Method):
    """Its logit is a weighted sum of the features, of which the first two count from their group's mean.

    What it gives beside is how far an event is from that.
    """

    needs_groups, context_dim, aux_output_names = True, 2, ("distance", "instance")

    def __init__(self, *, features=(), constituents=(), length=0, nuisances=(), weights=(0.5, 1.0, -0.2)):
        super().__init__()
        self.width = len(features)
        self.register_buffer("weights_of", torch.tensor(weights)[: self.width])
        self.sizes = (1, 1, 1)

    def fit(self, data, trainer) -> None:
        counts = torch.bincount(data.train.all.group)
        self.sizes = (int(counts.min()), int(counts.median()), int(counts.max()))

    def export_group_encoder(self) -> MeanOfFeatures:
        return MeanOfFeatures(self.sizes)

    def inputs_with_codes(self, batch) -> Tensor:
        grouping, groups = self.export_group_encoder(), int(batch.group.max()) + 1
        sums = sum_by_group(grouping.summands(batch.x), batch.group, num_groups=groups)
        return torch.cat(
            [batch.x, grouping.pool(sums, count_by_group(batch.group, num_groups=groups)).mean[batch.group]],
            1,
        )

    def logit(self, x: Tensor) -> Tensor:
        return self._off(x) @ self.weights_of

    def aux_outputs(self, x: Tensor) -> tuple[Tensor, ...]:
        off = self._off(x)[:, :2]
        return off.square().sum(1), off

    def _off(self, x: Tensor) -> Tensor:
        own, code = x[:, : self.width], x[:, self.width :]
        return torch.cat([own[:, :2] - code, own[:, 2:]], 1)
