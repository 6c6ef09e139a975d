"""Multilayer perceptron."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from hepdecorr.catalogue import suggest
from hepdecorr.errors import InputError
from hepdecorr.learning.networks.inputs import Inputs

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "tanh": nn.Tanh,
    "softplus": nn.Softplus,
}


class MLP(nn.Module):
    """Fully connected layers of widths `hidden` on preprocessed features (see Inputs).

    `norm: true` puts a LayerNorm after each hidden layer: not a BatchNorm, whose statistics would change
    with the mix of events that an adversary or a term looks at.
    """

    def __init__(
        self,
        features: Sequence[str],
        *,
        outputs: int = 1,
        hidden: Sequence[int] = (128, 128, 128),
        activation: str = "silu",
        dropout: float = 0.0,
        norm: bool = False,
        inputs: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        try:
            self.inputs = Inputs(features, **(inputs or {}))
        except TypeError as err:
            raise InputError(f"network inputs: {err}; known are scale, clip, log, knots") from None
        self.net = layers(
            len(features), outputs, hidden=hidden, activation=activation, dropout=dropout, norm=norm
        )

    def fit(self, x: Tensor) -> None:
        """Set the scaling of the inputs from training events, shape (n, features)."""
        self.inputs.fit(x)

    def forward(self, x: Tensor) -> Tensor:
        """Shape (n, outputs) for raw features of shape (n, features)."""
        return self.net(self.inputs(x))  # type: ignore[no-any-return]


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
