"""Normal densities with independent dimensions: read from a network's answer, drawn from, priced."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor, nn

from hepdecorr.training.export.group_encoder import GroupPosterior
from hepdecorr.training.vae.base import LatentPosterior
from hepdecorr.training.vae.latent_terms import gaussian_kl

INSTANCE_PRIORS = ("unit", "class")

LOG_VAR_RANGE = (-14.0, 6.0)  # where the logarithm of a variance stays


def soft_clamp(log_var: Tensor) -> Tensor:
    """A soft clamp to LOG_VAR with value 0 and slope 1 at 0: a hard one has no gradient to come back with."""
    low, high = LOG_VAR_RANGE
    slope = -low * high / (high - low)
    return low + (high - low) * torch.sigmoid(log_var / slope + math.log(-low / high))


def posterior_from_output(network_output: Tensor) -> GroupPosterior:
    """The density of an answer (n, 2d): means, then logarithms of variances; float32 whatever came in."""
    mean, log_var = network_output.float().chunk(2, 1)
    return GroupPosterior(mean, soft_clamp(log_var))


def rsample(posterior: GroupPosterior, *, generator: Generator | None = None) -> Tensor:
    """One draw of each row, (n, d), whose gradient reaches mean and variance (Kingma, Welling, 1312.6114)."""
    noise = torch.randn(posterior.mean.shape, generator=generator, device=posterior.mean.device)
    return posterior.mean + (0.5 * posterior.log_var).exp() * noise


def kl_to_standard_normal(posterior: GroupPosterior) -> Tensor:
    """KL of each dimension from the unit Gaussian, (n, d)."""
    return gaussian_kl(LatentPosterior(posterior.mean, posterior.log_var, posterior.mean))


class ClassPrior(nn.Module):
    """p(v | y): the unit Gaussian for background, for signal one of learned mean and variance.

    With p(v) alone the code of an event is, in one dimension, its quantile among all events of the group, and
    where the background stands still the peak of the signal moves in it.  A prior for each class asks for
    codes that do not move within a class.  The labels are those of training; no encoder is told them.
    """

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(latent_dim))
        self.log_var = nn.Parameter(torch.zeros(latent_dim))

    def kl(self, posterior: GroupPosterior, y: Tensor) -> Tensor:
        """KL of each dimension from the prior of the event's class, (n, d), labels (n,)."""
        signal = (y == 1)[:, None]
        log_var = torch.where(signal, soft_clamp(self.log_var), 0.0)
        away = posterior.mean - torch.where(signal, self.mean, 0.0)
        return kl_to_standard_normal(
            GroupPosterior(away * (-0.5 * log_var).exp(), posterior.log_var - log_var)
        )
