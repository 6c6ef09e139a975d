"""A variational autoencoder of jets: network, price of the latents, and the scores that it gives."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from hepdecorr.learning.anomaly.beta import Beta
from hepdecorr.learning.anomaly.jets import Jets
from hepdecorr.learning.anomaly.mixture import Mixture
from hepdecorr.learning.anomaly.scores import Standard
from hepdecorr.learning.latents.kl import gaussian_kl
from hepdecorr.learning.latents.term import Latent
from hepdecorr.learning.networks.autoencoders import Autoencoder


class Told(NamedTuple):
    """What it says of n jets, at the mean of their posteriors."""

    mean: Tensor  # (n, d)
    kl: Tensor  # (n, d), of each dimension, in nats
    decoded: Tensor  # (n, length, 4), scaled
    scores: dict[str, Tensor]  # each (n,)


class Variational(nn.Module):
    """What one player moves; the buffers of the scores travel with its weights."""

    def __init__(self, network: Autoencoder, *, beta: Beta, score: str, components: int) -> None:
        super().__init__()
        self.network, self.beta = network, beta
        self.standard = Standard(score)
        self.mixture = Mixture(components, beta.latents)

    def encode(self, jets: Jets) -> Latent:
        """Posterior with a draw from it."""
        mean, log_var = self.network.encode(jets.x, jets.mask, jets.given)
        return Latent(mean, log_var, mean + (0.5 * log_var).exp() * torch.randn_like(mean))

    def distance(self, latent: Tensor, jets: Jets) -> Tensor:
        """Of the jets decoded from latents (n, d) from what they are, (n,)."""
        return self.network.distance(self.network.decode(latent, jets.given), jets.x, jets.mask).float()

    def tell(self, jets: Jets) -> Told:
        """Everything, without a draw."""
        mean, log_var = self.network.encode(jets.x, jets.mask, jets.given)
        kl = _nats(mean, log_var)
        decoded = self.network.decode(mean, jets.given)
        mse = self.network.distance(decoded, jets.x, jets.mask).float()
        scores = {
            "mse": mse,
            "kl": kl.sum(1),
            "nll": mse + self.beta.value * self.beta.reduced(kl),
            "sumsq": jets.x.square().sum((1, 2)),
            "density": self.mixture(mean),
        }
        return Told(mean, kl, decoded, scores)

    def score(self, jets: Jets, latent: Latent | None = None) -> Tensor:
        """The chosen score alone, (n,), of what `encode` has given, if it has."""
        if latent is None:
            mean, log_var = self.network.encode(jets.x, jets.mask, jets.given)
            latent = Latent(mean, log_var, mean)
        if self.standard.score == "sumsq":
            return jets.x.square().sum((1, 2))
        if self.standard.score == "density":
            return self.mixture(latent.mean)  # type: ignore[no-any-return]
        kl = _nats(latent.mean, latent.log_var)
        if self.standard.score == "kl":
            return kl.sum(1)
        mse = self.distance(latent.mean, jets)
        return mse if self.standard.score == "mse" else mse + self.beta.value * self.beta.reduced(kl)

    def logit(self, jets: Jets) -> Tensor:
        """The chosen score as a logit, (n,)."""
        return self.standard(self.score(jets))  # type: ignore[no-any-return]


def _nats(mean: Tensor, log_var: Tensor) -> Tensor:
    """KL of each dimension (n, d); near 0, where latents are not in use, float32 would leave a few digits."""
    wide = torch.float32 if mean.device.type == "mps" else torch.float64
    return gaussian_kl(Latent(mean.to(wide), log_var.to(wide), mean)).float()
