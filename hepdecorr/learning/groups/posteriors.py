"""Normal densities with independent dimensions: read from a network's answer, drawn from, priced."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor, nn

from hepdecorr.learning.grouping import Posterior
from hepdecorr.learning.latents.kl import gaussian_kl
from hepdecorr.learning.latents.term import Latent

PRIORS = ("unit", "class")

LOG_VAR = (-14.0, 6.0)  # where the logarithm of a variance stays


def bounded(log_var: Tensor) -> Tensor:
    """A soft clamp to LOG_VAR with value 0 and slope 1 at 0: a hard one has no gradient to come back with."""
    low, high = LOG_VAR
    slope = -low * high / (high - low)
    return low + (high - low) * torch.sigmoid(log_var / slope + math.log(-low / high))


def posterior(answer: Tensor) -> Posterior:
    """The density of an answer (n, 2d): means, then logarithms of variances; float32 whatever came in."""
    mean, log_var = answer.float().chunk(2, 1)
    return Posterior(mean, bounded(log_var))


def drawn(p: Posterior, *, generator: Generator | None = None) -> Tensor:
    """One draw of each row, (n, d), whose gradient reaches mean and variance (Kingma, Welling, 1312.6114)."""
    noise = torch.randn(p.mean.shape, generator=generator, device=p.mean.device)
    return p.mean + (0.5 * p.log_var).exp() * noise


def nats(p: Posterior) -> Tensor:
    """KL of each dimension from the unit Gaussian, (n, d)."""
    return gaussian_kl(Latent(p.mean, p.log_var, p.mean))


class ClassPrior(nn.Module):
    """p(v | y): the unit Gaussian for background, for signal one of learned mean and variance.

    With p(v) alone the code of an event is, in one dimension, its quantile among all events of the group, and
    where the background stands still the peak of the signal moves in it.  A prior for each class asks for
    codes that do not move within a class.  The labels are those of training; no encoder is told them.
    """

    def __init__(self, latents: int) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(latents))
        self.log_var = nn.Parameter(torch.zeros(latents))

    def nats(self, p: Posterior, y: Tensor) -> Tensor:
        """KL of each dimension from the prior of the event's class, (n, d), labels (n,)."""
        signal = (y == 1)[:, None]
        log_var = torch.where(signal, bounded(self.log_var), 0.0)
        away = p.mean - torch.where(signal, self.mean, 0.0)
        return nats(Posterior(away * (-0.5 * log_var).exp(), p.log_var - log_var))
