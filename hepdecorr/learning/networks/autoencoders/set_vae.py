"""Autoencoder of sets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from hepdecorr.catalogue import suggest
from hepdecorr.errors import InputError
from hepdecorr.learning.networks.autoencoders.autoencoder import Autoencoder, beside, posterior
from hepdecorr.learning.networks.autoencoders.chamfer import chamfer
from hepdecorr.learning.networks.cloud import pool
from hepdecorr.learning.networks.mlp import layers
from hepdecorr.learning.precision import in_full

DISTANCES = ("matching", "chamfer")
WEIGHTS = ("even", "energy")


class SetVAE(Autoencoder):
    """Encoder, decoder and distance to which the order of constituents is no matter.

    Deep Sets with pools that attend, as of the network DeepSets, give the latents (phi: widths of the layers
    on each constituent, hidden: of those behind the pool); layers of widths `decoder` give `length`
    four-vectors.  A missing constituent is one of no momentum, and what is decoded with none is none: so
    the number of constituents, too, is learnt and made.

    distance: in training, 'matching' is the least of |xhat - x|^2 / 4n over all permutations, exactly;
    'chamfer' lets each find its nearest.  In the graph, and when epochs are judged, it is 'chamfer' always,
    because ONNX holds no assignment; it is at most as large where all weigh the same.  weigh: 'even', or by
    'energy': a constituent counts by its share of the energy in the frame.
    """

    per: ClassVar[str] = "component"
    judged_by: ClassVar[str] = "chamfer"
    zero: Tensor

    def __init__(
        self,
        *,
        length: int = 20,
        latents: int = 10,
        condition: int = 0,
        phi: Sequence[int] = (64, 64, 64),
        hidden: Sequence[int] = (128, 64),
        decoder: Sequence[int] = (64, 128, 256),
        pools: int = 4,
        activation: str = "silu",
        distance: str = "matching",
        weigh: str = "even",
    ) -> None:
        super().__init__(length=length, latents=latents, condition=condition)
        for name, value, known in (("distance", distance, DISTANCES), ("weigh", weigh, WEIGHTS)):
            if value not in known:
                raise InputError(f"SetVAE: no {name} {value!r}{suggest(value, known)}")
        if not phi or pools < 0:
            raise InputError("SetVAE: phi needs a width at least, and pools cannot be negative")
        *inner, width = phi
        self.trained_by, self.weigh, self.pools = distance, weigh, pools
        self.phi = layers(4, width + pools, hidden=inner, activation=activation)
        entering = width * (1 + pools) + 1 + condition
        self.encoder = layers(entering, 2 * latents, hidden=hidden, activation=activation)
        self.decoder = layers(latents + condition, 4 * length, hidden=decoder, activation=activation)
        self.register_buffer("zero", torch.zeros(4))

    def fit(self, zero: Tensor) -> None:
        """Set what a missing constituent is from a scaled four-vector of zero, (1, 4)."""
        if zero.numel() != 4:
            raise InputError("SetVAE: scales of each slot tell their order; give the frame 'per: component'")
        self.zero.copy_(zero.view(4))

    def encode(self, x: Tensor, mask: Tensor, given: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Means and log variances of the posterior, both (n, latents), of jets (n, length, 4)."""
        answer = self.phi(x)
        pooled = pool(answer[..., self.pools :], answer[..., : self.pools], mask)
        count = mask.sum(1, keepdim=True).to(pooled.dtype).log1p()
        return posterior(self.encoder(beside(torch.cat([pooled, count], 1), given)))

    def decode(self, latent: Tensor, given: Tensor | None = None) -> Tensor:
        """Scaled four-vectors (n, length, 4) of latents (n, latents), in no order."""
        answer: Tensor = self.decoder(beside(latent, given)).float()
        return answer.view(latent.shape[0], self.length, 4)

    def distance(self, decoded: Tensor, x: Tensor, mask: Tensor) -> Tensor:
        """Mean square over the 4 length numbers, (n,), between those that belong together."""
        with in_full(x):
            decoded, x = decoded.to(x.dtype), torch.where(mask[..., None], x, self.zero)
            if not self.training or self.trained_by == "chamfer":
                return chamfer(decoded, x, self._share(decoded), self._share(x)) / 4
            # Numba takes its time to come; who trains no set need not wait for it.
            from hepdecorr.learning.networks.autoencoders.matching import matched

            share = self._share(x)
            order = matched(decoded, x, share)
            own = x.gather(1, order[..., None].expand_as(x))
            return ((decoded - own).square().mean(2) * share.gather(1, order)).sum(1)

    def made(self, decoded: Tensor, mask: Tensor) -> Tensor:  # noqa: ARG002  a set answers a set
        """Which of the decoded four-vectors are constituents, (n, length) bool: those of some energy."""
        return decoded[..., 0] > self.zero[0]

    def _share(self, x: Tensor) -> Tensor:
        """The weights of four-vectors (n, L, 4), shape (n, L), which sum to one."""
        if self.weigh == "even":
            return torch.full_like(x[..., 0], 1 / self.length)
        energy = (x[..., 0] - self.zero[0]).clamp_min(0)
        return energy / energy.sum(1, keepdim=True).clamp_min(1e-6)
