"""Anomaly scores of a variational autoencoder, and the logit that one of them gives."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from hepdecorr.catalogue import suggest
from hepdecorr.errors import InputError

SCORES: Mapping[str, str] = {
    "mse": "distance of the jet decoded at the posterior mean, |xhat - x|^2 / 4n",
    "kl": "KL of the posterior from the prior, summed over the latents, in nats",
    "nll": "mse + beta KL, reduced as in the loss: the negative ELBO, but for constants, in the loss's unit",
    "sumsq": "sum of the squares of the scaled inputs, no network",
    "density": "-log of a mixture of Gaussians at the posterior mean, fitted on training background, in nats",
}
"""Larger is more anomalous (Cheng's slides, 'Jet Tagging Performance'; sumsq is their MSS, the l2 norm)."""

LEAST = 1e-6  # below which a jet is no less unusual
PACE = 0.05  # share of a batch in the running mean and deviation
LOGARITHMIC = ("density",)  # scores that are logarithms already


class Standard(nn.Module):
    """A score (n,) as a logit (n,): its logarithm, of mean 0 and deviation 1 on background.

    An order and no log odds, but monotone.  A score that is a logarithm itself is taken as it is.
    """

    shift: Tensor
    spread: Tensor
    followed: Tensor

    def __init__(self, score: str) -> None:
        super().__init__()
        if str(score) not in SCORES:
            raise InputError(f"no score {score!r}{suggest(str(score), SCORES)}")
        self.score = score
        self.register_buffer("shift", torch.zeros(()))
        self.register_buffer("spread", torch.ones(()))
        self.register_buffer("followed", torch.zeros((), dtype=torch.bool))

    def logarithm(self, score: Tensor) -> Tensor:
        """Without shift and spread."""
        return score if self.score in LOGARITHMIC else score.clamp_min(LEAST).log()

    @torch.no_grad()
    def fit(self, score: Tensor, w: Tensor) -> None:
        """From the scores of background events of weights w."""
        shift, spread = _moments(self.logarithm(score.double()), w.double())
        self.shift.copy_(shift)
        self.spread.copy_(spread)

    def forward(self, score: Tensor) -> Tensor:
        """Shape (n,)."""
        return (self.logarithm(score) - self.shift) / self.spread

    @torch.no_grad()
    def follow(self, score: Tensor, w: Tensor) -> None:
        """Towards the mean and deviation of a batch of background.

        The network learns, and what a term sees of its score is to be of order one all the time.
        """
        shift, spread = _moments(self.logarithm(score.double()), w.double())
        pace = PACE if self.followed else 1.0
        self.shift.lerp_(shift.to(self.shift), pace)
        self.spread.lerp_(spread.to(self.spread), pace)
        self.followed.fill_(True)


def _moments(values: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    share = w.clamp_min(0)
    share = share / share.sum().clamp_min(LEAST)
    mean = (share * values).sum()
    return mean, (share * (values - mean).square()).sum().sqrt().clamp_min(LEAST)
