"""Decoders: from the codes of a group and of an event to its features."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hepdecorr.errors import InputError
from hepdecorr.training.networks.mlp import mlp_layers


class Decoder(nn.Module):
    """The mean of p(x | u, v).

    raw: whether it gives features in their own units; else as preprocessed.  noise: the deviation of p(x | u,
    v), where the decoder knows it.
    """

    outputs_raw: bool = False
    noise_std: float | None = None

    @abstractmethod
    def forward(self, group: Tensor, instance: Tensor) -> Tensor:
        """Features (n, f) of codes (n, d_u) and (n, d_v)."""


class MLPDecoder(Decoder):
    """A network that is trained, of widths `hidden`."""

    def __init__(
        self,
        *,
        num_features: int,
        group_dim: int,
        instance_dim: int,
        hidden: Sequence[int] = (32, 32),
        activation: str = "silu",
    ) -> None:
        super().__init__()
        self.net = mlp_layers(group_dim + instance_dim, num_features, hidden=hidden, activation=activation)

    def forward(self, group: Tensor, instance: Tensor) -> Tensor:
        """As preprocessed."""
        return self.net(torch.cat([group, instance], 1)).float()  # type: ignore[no-any-return]


class ExamScoresDecoder(Decoder):
    """The process that made the exam scores, x = 2 mu + (sigma^2 + 1) v + eps (reference 3, section 3.1).

    Nothing of it is trained: "the same model as the generative model, instead of a neural network".  The
    group's code is (mu, sigma), the instance's v.  noise: deviation of eps, which the paper does not give.
    """

    outputs_raw = True

    def __init__(
        self, *, num_features: int, group_dim: int, instance_dim: int, noise_std: float = 0.5
    ) -> None:
        super().__init__()
        if (num_features, group_dim, instance_dim) != (1, 2, 1):
            raise InputError(
                "ExamScoresDecoder makes one feature of latents {group: 2, instance: 1}, "
                f"not {num_features} of {{group: {group_dim}, instance: {instance_dim}}}"
            )
        given: Any = noise_std  # from YAML, where it may be anything
        if isinstance(given, bool) or not isinstance(given, int | float) or not 0 < given < math.inf:
            raise InputError(f"ExamScoresDecoder: noise_std must be a number above 0, not {noise_std!r}")
        self.noise_std = float(noise_std)

    def forward(self, group: Tensor, instance: Tensor) -> Tensor:
        """In points."""
        mu, sigma = group[:, :1], group[:, 1:]
        return 2 * mu + (sigma.square() + 1) * instance
