"""The decoder of an autoencoder of jets, from latents to momenta."""

from __future__ import annotations

import torch
from torch import Tensor

from hepdecorr.learning.anomaly.jets import Framing
from hepdecorr.learning.generator import Generator
from hepdecorr.learning.networks.autoencoders import Autoencoder


class JetGenerator(Generator):
    """What a network decodes, in GeV; a four-vector without energy is no constituent.

    No mask tells what is padding: a network whose slots answer slots says it by decoding nothing there.
    """

    def __init__(self, framing: Framing, network: Autoencoder, *, latents: int) -> None:
        super().__init__()
        self.framing, self.network, self.latents = framing, network, latents
        self.condition = tuple(framing.names)
        self.boost, self.length = framing.frame.boost, framing.length

    def forward(self, latent: Tensor, condition: Tensor) -> Tensor:
        """Momenta (n, L, 4) of latents (n, d), told raw values of `condition` (n, k)."""
        given = self.framing.inputs(condition) if self.condition else None
        decoded = self.network.decode(latent, given)
        momenta = self.framing.frame.unscale(decoded)
        every = torch.ones_like(decoded[..., 0], dtype=torch.bool)
        made = self.network.made(decoded, every) & (momenta[..., 0] > 0)
        return torch.where(made[..., None], momenta, 0.0)
