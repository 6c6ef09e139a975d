"""How the features of a row and those of its constituents share one matrix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor


class Parts(NamedTuple):
    """What stands in a matrix of rows."""

    features: Tensor  # (n, f)
    constituents: Tensor  # (n, L, c), zero where the mask is false
    mask: Tensor  # (n, L), bool: whether there is a constituent


@dataclass(frozen=True)
class Form:
    """Rows of f features, then L slots of the c features of a constituent and its mask, 0 or 1.

    A matrix, and not three arrays, so that methods, terms and shuffling need not know of constituents.
    `length` is how many slots the training tables have; a matrix may have any number of them.
    """

    features: tuple[str, ...]
    constituents: tuple[str, ...] = ()
    length: int = 0

    @property
    def width(self) -> int:
        """Columns of a matrix with `length` slots."""
        return len(self.features) + self.slots(self.length)

    def slots(self, length: int) -> int:
        """Columns that so many slots take; none where there are no features of constituents."""
        return length * (len(self.constituents) + 1) if self.constituents else 0

    def pack(self, features: Tensor, constituents: Tensor, mask: Tensor) -> Tensor:
        """The matrix (n, f + L (c + 1)) of features (n, f), constituents (n, L, c) and mask (n, L)."""
        there = (mask > 0.5)[..., None]
        filled = torch.where(there, constituents, 0.0)
        return torch.cat([features, torch.cat([filled, there.to(filled.dtype)], 2).flatten(1)], 1)

    def unpack(self, x: Tensor) -> Parts:
        """The parts of a matrix; what stands in the padding, even NaN, comes out as 0."""
        slots = self._slots(x)
        mask = slots[..., -1] > 0.5
        filled = torch.where(mask[..., None], slots[..., :-1], 0.0)
        return Parts(x[:, : len(self.features)], filled, mask)

    def clear(self, x: Tensor) -> None:
        """Set the padding of a matrix to zero, in place."""
        if self.constituents:
            slots = self._slots(x)
            slots.masked_fill_(~(slots[..., -1:] > 0.5), 0.0)

    def _slots(self, x: Tensor) -> Tensor:
        first, each = len(self.features), len(self.constituents) + 1
        slots = x[:, first:] if self.constituents else x[:, first:first]
        # From the width, not from `length`: the exported graph takes any number of constituents.
        return slots.view(x.shape[0], slots.shape[1] // each, each)
