"""Kullback-Leibler divergence from the prior, weighed or held at a capacity."""

from __future__ import annotations

import math

from torch import Tensor

from hepdecorr.errors import InputError
from hepdecorr.learning.batches import Batch
from hepdecorr.learning.latents.discrete import classes_kl
from hepdecorr.learning.latents.term import Latent, LatentTerm, weighted_mean
from hepdecorr.learning.terms.strength import Growth


class KL(LatentTerm):
    """beta x KL(q(latent|x) || prior), summed over dimensions, in closed form; beta = 1 is the ELBO's.

    beta above 1 is the beta-VAE's (Higgins et al., ICLR 2017, eq. 4).  The KL of discrete latents counts too.
    """

    def __init__(
        self, beta: float = 1.0, *, start: float = 0.0, ramp: float = 0.0, given: str = "all"
    ) -> None:
        super().__init__(growth=Growth(float(beta), start, ramp), given=given)

    def price(self, latent: Latent, b: Batch) -> Tensor:
        """Mean over events, in nats."""
        latent, b = self.given_events(latent, b)
        nats = gaussian_kl(latent).sum(1)
        for classes in latent.classes:
            nats = nats + classes_kl(classes)
        return weighted_mean(nats, b.w)


class Capacity(LatentTerm):
    """gamma |KL - C(t)|: C grows evenly from 0 to `capacity` nats over the fraction `ramp` of the training.

    Burgess et al. (1804.03599, eq. 8), KL the mean over the batch.  Discrete latents are held at a capacity
    of their own, as in JointVAE (Dupont, 1804.00104, eq. 7): `discrete` nats each, at most log C.
    """

    def __init__(
        self,
        gamma: float = 100.0,
        *,
        capacity: float = 25.0,
        discrete: float = float("inf"),
        ramp: float = 0.5,
        given: str = "all",
    ) -> None:
        super().__init__(growth=Growth(float(gamma), 0.0, 0.0), given=given)
        if capacity < 0 or discrete < 0 or not 0 <= ramp <= 1:
            raise InputError(
                "Capacity: capacity and discrete are nats and cannot be negative, ramp is a fraction of the "
                f"training from 0 to 1; they are {capacity:g}, {discrete:g} and {ramp:g}"
            )
        self.capacity, self.discrete, self.ramp = float(capacity), float(discrete), float(ramp)

    @property
    def settled(self) -> float:
        """When the capacity is full."""
        return self.ramp

    def price(self, latent: Latent, b: Batch) -> Tensor:
        """The misses at full capacity, in nats."""
        return self._misses(latent, b, share=1.0)

    def cost(self, latent: Latent, b: Batch, *, passed: float) -> Tensor:
        """gamma times the misses at the capacity of this moment."""
        share = min(1.0, passed / self.ramp) if self.ramp else 1.0
        return self.growth.strength * self._misses(latent, b, share=share)

    def _misses(self, latent: Latent, b: Batch, *, share: float) -> Tensor:
        latent, b = self.given_events(latent, b)
        missed = (weighted_mean(gaussian_kl(latent).sum(1), b.w) - share * self.capacity).abs()
        for classes in latent.classes:
            # The most that a class can tell, whatever was asked.
            most = min(self.discrete, math.log(classes.logits.shape[1]))
            missed = missed + (weighted_mean(classes_kl(classes), b.w) - share * most).abs()
        return missed


def gaussian_kl(latent: Latent) -> Tensor:
    """KL of each dimension's posterior from a unit Gaussian, (n, d), in nats."""
    return 0.5 * (latent.mean**2 + latent.log_var.exp() - 1 - latent.log_var)
