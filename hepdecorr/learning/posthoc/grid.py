"""Functions on a grid, linear between its points, in operations that ONNX has."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from hepdecorr.learning.posthoc.transform import Array


class Axis(nn.Module):
    """Where a value lies among its knots: 0 at the first, m - 1 at the last of m, and not beyond.

    steps: the knots are the edges between m + 1 bins, and the place is that of the bin.
    """

    knots: Tensor
    widths: Tensor

    def __init__(self, knots: Array, *, steps: bool = False) -> None:
        super().__init__()
        self.steps = steps
        made = torch.as_tensor(np.asarray(knots), dtype=torch.float32).unique()  # float32 may tie some
        self.register_buffer("knots", made)
        self.register_buffer("widths", made[1:] - made[:-1])

    @property
    def size(self) -> int:
        """Points of a grid along this axis."""
        return len(self.knots) + self.steps

    def forward(self, values: Tensor) -> Tensor:
        """Shape (n,), within 0 and size - 1."""
        # A sum of clamped ramps instead of a search, which ONNX does not have.
        if self.steps:
            return (values[:, None] >= self.knots).to(values.dtype).sum(1)
        return ((values[:, None] - self.knots[:-1]) / self.widths).clamp(0, 1).sum(1)


class Grid(nn.Module):
    """Multilinear interpolation of `values` (m1, ..., ma) at places within 0 and m - 1 along each axis."""

    values: Tensor

    def __init__(self, values: Array) -> None:
        super().__init__()
        self.shape = values.shape
        self.register_buffer("values", torch.as_tensor(values, dtype=torch.float32).reshape(-1))

    def forward(self, places: Sequence[Tensor]) -> Tensor:
        """Shape (n,) of as many places (n,) as there are axes."""
        # What is not finite has no place; bounded, it takes a wrong one instead of ending the program.
        lower = [p.floor().clamp(0, max(m - 2, 0)).to(torch.int64).clamp(0, max(m - 2, 0))
                 for p, m in zip(places, self.shape, strict=True)]  # fmt: skip
        share = [p - low.to(p.dtype) for p, low in zip(places, lower, strict=True)]
        found = torch.zeros_like(places[0])
        for corner in itertools.product((0, 1), repeat=len(places)):
            index = torch.zeros_like(lower[0])
            weight = torch.ones_like(places[0])
            for up, low, part, size in zip(corner, lower, share, self.shape, strict=True):
                index = index * size + low + min(up, size - 1)
                weight = weight * (part if up else 1 - part)
            found = found + weight * self.values.index_select(0, index)
        return found


class Curve(nn.Module):
    """A function of one or more nuisances, linear between the points of a grid."""

    def __init__(self, axes: Sequence[Axis], values: Array) -> None:
        super().__init__()
        self.axes, self.grid = nn.ModuleList(axes), Grid(values)

    def forward(self, z: Tensor) -> Tensor:
        """Shape (n,) of z (n, k)."""
        found: Tensor = self.grid([axis(z[:, k]) for k, axis in enumerate(self.axes)])
        return found


def knots(values: Array, w: Array, *, number: int) -> Array:
    """At most `number` knots with equal weight between them, from the lowest value to the highest."""
    return np.unique(quantiles(values, w, np.linspace(0, 1, number)))


def quantiles(values: Array, w: Array, at: Array) -> Array:
    """Weighted quantiles of values (n,), linear between the middles of the events."""
    order = np.argsort(values, kind="stable")
    middle = np.cumsum(w[order]) - w[order] / 2
    return np.asarray(np.interp(at * w.sum(), middle, values[order]))
