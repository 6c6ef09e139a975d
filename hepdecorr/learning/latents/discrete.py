"""Latents of few values, for protected variables of few values.

A draw from them has no gradient; it is relaxed to positive numbers that sum to one (Jang et al. 1611.01144,
eq. 2; Maddison et al. 1611.00712, prop. 1a).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hepdecorr.errors import InputError
from hepdecorr.learning.latents.term import Classes

PRIORS = ("uniform", "found")


class Values(nn.Module):
    """The distinct values of a nuisance, in rising order, learned from events."""

    known: Tensor

    def __init__(self, count: int, *, name: str) -> None:
        super().__init__()
        if count < 2:
            raise InputError(f"nuisance {name!r}: {count} values; a discrete one has at least 2")
        self.name = name
        self.register_buffer("known", torch.arange(count, dtype=torch.float32))

    def fit(self, z: Tensor) -> None:
        """From raw values, (n,); InputError where there are more or fewer than was said."""
        found = z.unique()
        if len(found) != len(self.known):
            raise InputError(
                f"nuisance {self.name!r} has {len(found)} different values, not {len(self.known)}; "
                "correct 'discrete', or leave it out for a continuous one"
            )
        self.known.copy_(found)

    def forward(self, z: Tensor) -> Tensor:
        """Number of the nearest value, (n,), from 0."""
        nearest: Tensor = (z[:, None] - self.known).abs().argmin(1)
        return nearest


class Relaxed(nn.Module):
    """A discrete latent whose values stand for those of one nuisance.

    temperature: towards 0 draws become whole and their gradients wild; 2/3 is Maddison's.  prior: 'uniform',
    or 'found' for the shares of the values among the events.
    """

    log_prior: Tensor

    def __init__(self, count: int, *, name: str, temperature: float = 2 / 3, prior: str = "uniform") -> None:
        super().__init__()
        if temperature <= 0 or prior not in PRIORS:
            raise InputError(
                f"discrete {name!r}: temperature must be positive and prior {' or '.join(PRIORS)}, "
                f"not {temperature:g} and {prior!r}"
            )
        self.values, self.temperature, self.prior = Values(count, name=name), float(temperature), prior
        self.register_buffer("log_prior", torch.full((count,), -math.log(count)))

    def fit(self, z: Tensor, w: Tensor) -> None:
        """The values, and the prior where it is found, from raw values and weights (n,)."""
        self.values.fit(z)
        if self.prior == "found":
            shares = torch.zeros_like(self.log_prior).index_add(0, self.values(z), w.clamp_min(0))
            self.log_prior.copy_((shares / shares.sum()).clamp_min(1e-9).log())

    def forward(self, logits: Tensor) -> Classes:
        """The posterior of logits (n, C), with a draw."""
        uniform = torch.rand_like(logits).clamp(1e-9, 1 - 1e-7)
        gumbel = -(-uniform.log()).log()
        sample = ((logits.log_softmax(1) + gumbel) / self.temperature).softmax(1)
        return Classes(logits, sample, self.log_prior)


def classes_kl(classes: Classes) -> Tensor:
    """KL of the class probabilities from their prior, (n,), in nats; at most log C for a uniform one."""
    log_q = classes.logits.float().log_softmax(1)
    return (log_q.exp() * (log_q - classes.log_prior)).sum(1)


def misses(classes: Classes, index: Tensor) -> Tensor:
    """Cross-entropy of the class with the true one, (n,), in nats."""
    return F.cross_entropy(classes.logits.float(), index, reduction="none")
