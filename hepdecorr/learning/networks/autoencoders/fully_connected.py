"""Fully connected autoencoder."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from hepdecorr.learning.networks.autoencoders.autoencoder import Autoencoder, beside, posterior
from hepdecorr.learning.networks.mlp import layers


class FullyConnected(Autoencoder):
    """Layers of widths `hidden` to the latents, and back in reverse (Cheng's slides, 'VAE Architecture').

    80-256-128-64-10-64-128-256-80 for 20 constituents.  Padding is four-vectors of zero, scaled as all
    others: the network sees it and pays for it, as the paper's does.
    """

    def __init__(
        self,
        *,
        length: int = 20,
        latents: int = 10,
        condition: int = 0,
        hidden: Sequence[int] = (256, 128, 64),
        activation: str = "relu",
    ) -> None:
        super().__init__(length=length, latents=latents, condition=condition)
        self.encoder = layers(4 * length + condition, 2 * latents, hidden=hidden, activation=activation)
        self.decoder = layers(
            latents + condition, 4 * length, hidden=tuple(hidden)[::-1], activation=activation
        )

    def encode(self, x: Tensor, mask: Tensor, given: Tensor | None = None) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        """Means and log variances of the posterior, both (n, latents), of jets (n, length, 4)."""
        return posterior(self.encoder(beside(x.flatten(1), given)))

    def decode(self, latent: Tensor, given: Tensor | None = None) -> Tensor:
        """Scaled four-vectors (n, length, 4) of latents (n, latents)."""
        answer: Tensor = self.decoder(beside(latent, given)).float()
        return answer.view(latent.shape[0], self.length, 4)
