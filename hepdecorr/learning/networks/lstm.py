"""Long short-term memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hepdecorr.learning.networks.cloud import Cloud, mean, needed
from hepdecorr.learning.networks.mlp import layers


class LSTM(nn.Module):
    """A recurrent network that reads the constituents in their order, hardest first (1711.09059).

    width: of its state.  depth: layers of LSTM.  What it knows after the last constituent goes, with the mean
    over all its steps and the features of the row, through layers of widths `hidden`.
    """

    def __init__(
        self,
        features: Sequence[str],
        *,
        constituents: Sequence[str] = (),
        length: int = 0,
        outputs: int = 1,
        width: int = 64,
        depth: int = 1,
        hidden: Sequence[int] = (64,),
        activation: str = "silu",
        dropout: float = 0.0,
        inputs: Mapping[str, Any] | None = None,
        constituent_inputs: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        needed(constituents, by="LSTM")
        self.inputs = Cloud(
            features, constituents, length, inputs=inputs, constituent_inputs=constituent_inputs
        )
        self.recurrent = nn.LSTM(len(constituents), width, depth, batch_first=True)
        self.norm = nn.LayerNorm(2 * width)
        entering = len(features) + 2 * width
        self.head = layers(entering, outputs, hidden=hidden, activation=activation, dropout=dropout)

    def fit(self, x: Tensor) -> None:
        """Set the scaling of the inputs from training events, shape (n, width)."""
        self.inputs.fit(x)

    def forward(self, x: Tensor) -> Tensor:
        """Shape (n, outputs) for raw rows of shape (n, width)."""
        features, constituents, mask = self.inputs(x)
        constituents, mask = closed(constituents, mask)
        if torch.compiler.is_exporting():
            steps = as_onnx(self.recurrent, constituents)
        else:
            steps = self.recurrent(constituents)[0]
        # It reads on into the padding; what it knew before is taken.
        last = mask & ~torch.cat([mask[:, 1:], torch.zeros_like(mask[:, :1])], 1)
        known = torch.einsum("nl,nld->nd", last.to(steps.dtype), steps)
        pooled = self.norm(torch.cat([known, mean(steps, mask)], 1))
        return self.head(torch.cat([features, pooled], 1))  # type: ignore[no-any-return]


def closed(constituents: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """The same constituents (n, L, c) in the same order, with those that the mask leaves out behind."""
    place = torch.arange(mask.shape[1], device=mask.device)
    place = place + (~mask).to(place.dtype) * mask.shape[1]
    order = place.argsort(1)
    return constituents.gather(1, order[..., None].expand_as(constituents)), mask.gather(1, order)


def as_onnx(recurrent: nn.LSTM, x: Tensor) -> Tensor:
    """The steps (n, L, width) of an LSTM on (n, L, c) by ONNX's own operator.

    The exporter would make a loop of it, or fix the number of steps to that of its example.
    """
    x = x.transpose(0, 1)
    for k in range(recurrent.num_layers):
        weights = [
            getattr(recurrent, f"{name}_l{k}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        ]
        # The gates are input, forget, cell, output in torch and input, output, forget, cell in ONNX.
        of_input, of_state, *biases = (
            torch.cat([part[0], part[3], part[1], part[2]])[None] for part in (w.chunk(4) for w in weights)
        )
        x = torch.onnx.ops.symbolic(
            "LSTM",
            (x, of_input, of_state, torch.cat(biases, 1)),
            {"hidden_size": recurrent.hidden_size},
            dtype=x.dtype,
            shape=(x.shape[0], 1, x.shape[1], recurrent.hidden_size),
        ).squeeze(1)
    return x.transpose(0, 1)
