"""Decoders: from the codes of a group and of an event to its features."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hepdecorr.errors import InputError
from hepdecorr.learning.networks.mlp import layers


class Decoder(nn.Module):
    """The mean of p(x | u, v).

    raw: whether it gives features in their own units; else as preprocessed.  noise: the deviation of p(x | u,
    v), where the decoder knows it.
    """

    raw: bool = False
    noise: float | None = None

    @abstractmethod
    def forward(self, group: Tensor, instance: Tensor) -> Tensor:
        """Features (n, f) of codes (n, d_u) and (n, d_v)."""


class Network(Decoder):
    """A network that is trained, of widths `hidden`."""

    def __init__(
        self,
        *,
        features: int,
        group: int,
        instance: int,
        hidden: Sequence[int] = (32, 32),
        activation: str = "silu",
    ) -> None:
        super().__init__()
        self.net = layers(group + instance, features, hidden=hidden, activation=activation)

    def forward(self, group: Tensor, instance: Tensor) -> Tensor:
        """As preprocessed."""
        return self.net(torch.cat([group, instance], 1)).float()  # type: ignore[no-any-return]


class ExamScores(Decoder):
    """The process that made the exam scores, x = 2 mu + (sigma^2 + 1) v + eps (reference 3, section 3.1).

    Nothing of it is trained: "the same model as the generative model, instead of a neural network".  The
    group's code is (mu, sigma), the instance's v.  noise: deviation of eps, which the paper does not give.
    """

    raw = True

    def __init__(self, *, features: int, group: int, instance: int, noise: float = 0.5) -> None:
        super().__init__()
        if (features, group, instance) != (1, 2, 1):
            raise InputError(
                f"ExamScores makes one feature of latents {{group: 2, instance: 1}}, not {features} of "
                f"{{group: {group}, instance: {instance}}}"
            )
        given: Any = noise  # from YAML, where it may be anything
        if isinstance(given, bool) or not isinstance(given, int | float) or not 0 < given < math.inf:
            raise InputError(f"ExamScores: noise must be a number above 0, not {noise!r}")
        self.noise = float(noise)

    def forward(self, group: Tensor, instance: Tensor) -> Tensor:
        """In points."""
        mu, sigma = group[:, :1], group[:, 1:]
        return 2 * mu + (sigma.square() + 1) * instance
