"""Deep Sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hepdecorr.training.networks.mlp import mlp_layers
from hepdecorr.training.networks.preprocessing import (
    ConstituentPreprocessor,
    attention_pool,
    require_constituents,
)


class DeepSets(nn.Module):
    """F of a pool of phi(constituent) (Zaheer et al., 1703.06114, theorem 2; jets: 1810.05165).

    phi: widths of the layers on each constituent.  hidden: widths of the layers of F.  pools: weighted means
    that are pooled beside the plain one, each with weights that a softmax makes from the constituents.
    The features of the row and the logarithm of the number of constituents enter F beside the pool.
    """

    def __init__(
        self,
        features: Sequence[str],
        *,
        constituents: Sequence[str] = (),
        length: int = 0,
        outputs: int = 1,
        phi: Sequence[int] = (64, 64, 64),
        hidden: Sequence[int] = (64, 64),
        attention_pools: int = 4,
        activation: str = "silu",
        dropout: float = 0.0,
        inputs: Mapping[str, Any] | None = None,
        constituent_inputs: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        require_constituents(constituents, network_name="DeepSets")
        self.inputs = ConstituentPreprocessor(
            features, constituents, length, inputs=inputs, constituent_inputs=constituent_inputs
        )
        *inner, width = phi
        self.phi = mlp_layers(len(constituents), width + attention_pools, hidden=inner, activation=activation)
        self.attention_pools = attention_pools
        self.norm = nn.LayerNorm(width * (1 + attention_pools))
        entering = len(features) + 1 + width * (1 + attention_pools)
        self.rho = mlp_layers(entering, outputs, hidden=hidden, activation=activation, dropout=dropout)

    def fit(self, x: Tensor) -> None:
        """Set the scaling of the inputs from training events, shape (n, width)."""
        self.inputs.fit(x)

    def forward(self, x: Tensor) -> Tensor:
        """Shape (n, outputs) for raw rows of shape (n, width); the order of constituents is no matter."""
        features, constituents, mask = self.inputs(x)
        answer = self.phi(constituents)
        values, scores = answer[..., self.attention_pools :], answer[..., : self.attention_pools]
        pooled = attention_pool(values, scores, mask)
        count = mask.sum(1, keepdim=True).to(features.dtype).log1p()
        return self.rho(torch.cat([features, count, self.norm(pooled)], 1))  # type: ignore[no-any-return]
