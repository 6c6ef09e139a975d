"""Deep Sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hepdecorr.learning.networks.cloud import Cloud, needed, pool
from hepdecorr.learning.networks.mlp import layers


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
        pools: int = 4,
        activation: str = "silu",
        dropout: float = 0.0,
        inputs: Mapping[str, Any] | None = None,
        constituent_inputs: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        needed(constituents, by="DeepSets")
        self.inputs = Cloud(
            features, constituents, length, inputs=inputs, constituent_inputs=constituent_inputs
        )
        *inner, width = phi
        self.phi = layers(len(constituents), width + pools, hidden=inner, activation=activation)
        self.pools = pools
        self.norm = nn.LayerNorm(width * (1 + pools))
        entering = len(features) + 1 + width * (1 + pools)
        self.rho = layers(entering, outputs, hidden=hidden, activation=activation, dropout=dropout)

    def fit(self, x: Tensor) -> None:
        """Set the scaling of the inputs from training events, shape (n, width)."""
        self.inputs.fit(x)

    def forward(self, x: Tensor) -> Tensor:
        """Shape (n, outputs) for raw rows of shape (n, width); the order of constituents is no matter."""
        features, constituents, mask = self.inputs(x)
        answer = self.phi(constituents)
        values, scores = answer[..., self.pools :], answer[..., : self.pools]
        pooled = pool(values, scores, mask)
        count = mask.sum(1, keepdim=True).to(features.dtype).log1p()
        return self.rho(torch.cat([features, count, self.norm(pooled)], 1))  # type: ignore[no-any-return]
