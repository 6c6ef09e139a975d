"""Multilayer perceptron."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hepdecorr.catalogue import suggest
from hepdecorr.errors import InputError
from hepdecorr.learning.networks.cloud import Cloud

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "tanh": nn.Tanh,
    "softplus": nn.Softplus,
}


class MLP(nn.Module):
    """Fully connected layers of widths `hidden` on preprocessed features (see Inputs).

    first: it also sees so many constituents, the first ones, as they stand, with zeros for those that are
    missing.  `norm: true` puts a LayerNorm after each hidden layer: not a BatchNorm, whose statistics would
    change with the mix of events that an adversary or a term looks at.
    """

    def __init__(
        self,
        features: Sequence[str],
        *,
        constituents: Sequence[str] = (),
        length: int = 0,
        outputs: int = 1,
        first: int = 0,
        hidden: Sequence[int] = (128, 128, 128),
        activation: str = "silu",
        dropout: float = 0.0,
        norm: bool = False,
        inputs: Mapping[str, Any] | None = None,
        constituent_inputs: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if bool(constituents) != bool(first) or not 0 <= first <= length:
            raise InputError(
                f"MLP: first is {first} where there are {length if constituents else 0} constituents; give "
                "'first: N', at most as many, or 'constituents: []' in the tagger's block for features alone"
            )
        self.first = first
        self.inputs = Cloud(
            features, constituents, length, inputs=inputs, constituent_inputs=constituent_inputs
        )
        entering = len(features) + first * (len(constituents) + 1)
        self.net = layers(entering, outputs, hidden=hidden, activation=activation, dropout=dropout, norm=norm)

    def fit(self, x: Tensor) -> None:
        """Set the scaling of the inputs from training events, shape (n, width)."""
        self.inputs.fit(x)

    def forward(self, x: Tensor) -> Tensor:
        """Shape (n, outputs) for raw rows of shape (n, width)."""
        features, constituents, mask = self.inputs(x)
        if self.first:
            slots = torch.cat([constituents, mask[..., None].to(constituents.dtype)], 2)
            slots = F.pad(slots, (0, 0, 0, self.first))[:, : self.first]
            features = torch.cat([features, slots.flatten(1)], 1)
        return self.net(features)  # type: ignore[no-any-return]


def layers(
    entering: int,
    leaving: int,
    *,
    hidden: Sequence[int],
    activation: str = "silu",
    dropout: float = 0.0,
    norm: bool = False,
) -> nn.Sequential:
    """Linear layers with activations between them."""
    if activation not in ACTIVATIONS:
        raise InputError(f"no activation {activation!r}{suggest(activation, ACTIVATIONS)}")
    given: Any = hidden  # from YAML, where it may be anything
    if not isinstance(given, Sequence) or not all(isinstance(n, int) and n > 0 for n in given):
        raise InputError(f"widths of layers must be a list of whole numbers above 0, not {hidden!r}")
    parts: list[nn.Module] = []
    for width in hidden:
        parts.append(nn.Linear(entering, width))
        if norm:
            parts.append(nn.LayerNorm(width))
        parts.append(ACTIVATIONS[activation]())
        if dropout:
            parts.append(nn.Dropout(dropout))
        entering = width
    return nn.Sequential(*parts, nn.Linear(entering, leaving))
