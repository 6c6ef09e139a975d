"""The inputs of networks over constituents: preprocessing of features and of constituents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hepdecorr.errors import InputError
from hepdecorr.learning.form import Form, Parts
from hepdecorr.learning.networks.inputs import read_inputs

ENOUGH = 1_000_000  # constituents that a scaling is fitted on


class Cloud(nn.Module):
    """Raw rows (n, width) to scaled features, scaled constituents that are zero in the padding, and mask.

    inputs, constituent_inputs: arguments of Inputs for the two kinds of features.
    """

    def __init__(
        self,
        features: Sequence[str],
        constituents: Sequence[str],
        length: int,
        *,
        inputs: Mapping[str, Any] | None = None,
        constituent_inputs: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.form = Form(tuple(features), tuple(constituents), length)
        self.of_rows = read_inputs(features, inputs)
        self.of_constituents = read_inputs(constituents, constituent_inputs, where="constituent_inputs")

    def fit(self, x: Tensor) -> None:
        """Set the scalings from training events, shape (n, width), of which not all may be needed."""
        features, constituents, mask = self.form.unpack(x)
        self.of_rows.fit(features)
        if self.form.constituents:
            self.of_constituents.fit(some(constituents, mask))

    def parts(self, x: Tensor) -> Parts:
        """The parts of raw rows, without slots that no row fills."""
        features, constituents, mask = self.form.unpack(x)
        return Parts(features, *cropped(constituents, mask))

    def scale(self, parts: Parts) -> Parts:
        """Finite for finite features and constituents."""
        features, constituents, mask = self.of_rows(parts.features), parts.constituents, parts.mask
        if self.form.constituents:
            constituents = torch.where(mask[..., None], self.of_constituents(constituents), 0.0)
        return Parts(features, constituents, mask)

    def forward(self, x: Tensor) -> Parts:
        """Scaled parts of raw rows."""
        return self.scale(self.parts(x))


def needed(constituents: Sequence[str], *, by: str) -> None:
    """InputError where a network over constituents has none."""
    if not constituents:
        raise InputError(
            f"{by} works on constituents: give 'constituents' and their features in the config, and not "
            "'constituents: []' in the tagger's block; on row features alone works MLP"
        )


def some(constituents: Tensor, mask: Tensor) -> Tensor:
    """Features of about a million constituents at most, shape (m, c), from all over the rows."""
    step = 1 + mask.numel() // ENOUGH
    return constituents[::step][mask[::step]]


def cropped(constituents: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Without the slots behind the last one that any of the rows fills; an exported graph keeps them."""
    if torch.compiler.is_exporting() or not mask.numel():
        return constituents, mask
    filled = mask.any(0).nonzero()
    length = int(filled[-1]) + 1 if len(filled) else 1
    return constituents[:, :length], mask[:, :length]


def mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over the constituents there are of values (n, L, d), shape (n, d); 0 where there are none."""
    weight = mask.to(values.dtype)
    total = torch.einsum("nl,nld->nd", weight, values)
    return total / weight.sum(1, keepdim=True).clamp_min(1)


def pool(values: Tensor, scores: Tensor, mask: Tensor) -> Tensor:
    """Mean of values (n, L, d), and means weighted by a softmax of scores (n, L, h): (n, (1 + h) d)."""
    there = mask[..., None]
    share = there / there.sum(1, keepdim=True).clamp_min(1)
    if scores.shape[2]:
        chosen = torch.where(there, scores, -1e9).softmax(1)
        share = torch.cat([share, torch.where(there, chosen, 0.0)], 2)
    return (share.transpose(1, 2) @ values).flatten(1)
