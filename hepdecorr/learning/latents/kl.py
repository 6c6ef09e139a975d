"""Kullback-Leibler divergence from the prior."""

from __future__ import annotations

from torch import Tensor

from hepdecorr.learning.batches import Batch
from hepdecorr.learning.latents.term import Latent, LatentTerm, weighted_mean
from hepdecorr.learning.terms.strength import Growth


class KL(LatentTerm):
    """beta x KL(q(latent|x) || N(0, 1)), summed over dimensions, in closed form; beta = 1 is the ELBO's."""

    def __init__(
        self, beta: float = 1.0, *, start: float = 0.0, ramp: float = 0.0, given: str = "all"
    ) -> None:
        super().__init__(growth=Growth(float(beta), start, ramp), given=given)

    def price(self, latent: Latent, b: Batch) -> Tensor:
        """Mean over events, in nats."""
        latent, b = self.given_events(latent, b)
        nats = 0.5 * (latent.mean**2 + latent.log_var.exp() - 1 - latent.log_var).sum(1)
        return weighted_mean(nats, b.w)
