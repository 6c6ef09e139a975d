"""A method that learns from groups, as small as one can be: a code is the mean of two features."""

from __future__ import annotations

import torch
from torch import Tensor

from hepdecorr.learning.grouping import Grouping, Posterior, added, counted
from hepdecorr.learning.methods.method import Method


class MeanOfFeatures(Grouping):
    """Of the first two features; the variance is that of a mean of so many, of values with variance one."""

    latents = summands = 2

    def __init__(self, counts: tuple[int, int, int]) -> None:
        super().__init__()
        self.counts = counts

    def members(self, x: Tensor) -> Tensor:
        return x[:, :2].clamp(-100, 100)

    def pool(self, sums: Tensor, counts: Tensor) -> Posterior:
        each = counts.clamp_min(1)[:, None]
        return Posterior(sums / each, -each.log().expand_as(sums))


class LinearGroups(Method):
    """Its logit is a weighted sum of the features, of which the first two count from their group's mean.

    What it gives beside is how far an event is from that.
    """

    whole, context, beside = True, 2, ("distance", "instance")

    def __init__(self, *, features=(), constituents=(), length=0, nuisances=(), weights=(0.5, 1.0, -0.2)):
        super().__init__()
        self.width = len(features)
        self.register_buffer("weights_of", torch.tensor(weights)[: self.width])
        self.sizes = (1, 1, 1)

    def learn(self, data, play) -> None:
        counts = torch.bincount(data.train.all.group)
        self.sizes = (int(counts.min()), int(counts.median()), int(counts.max()))

    def grouping(self) -> MeanOfFeatures:
        return MeanOfFeatures(self.sizes)

    def rows(self, b) -> Tensor:
        grouping, groups = self.grouping(), int(b.group.max()) + 1
        sums = added(grouping.members(b.x), b.group, groups=groups)
        return torch.cat([b.x, grouping.pool(sums, counted(b.group, groups=groups)).mean[b.group]], 1)

    def logit(self, x: Tensor) -> Tensor:
        return self._off(x) @ self.weights_of

    def further(self, x: Tensor) -> tuple[Tensor, ...]:
        off = self._off(x)[:, :2]
        return off.square().sum(1), off

    def _off(self, x: Tensor) -> Tensor:
        own, code = x[:, : self.width], x[:, self.width :]
        return torch.cat([own[:, :2] - code, own[:, 2:]], 1)
