"""The KL of a VAE taken apart, from the matrix of log densities."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from hepdecorr.errors import InputError
from hepdecorr.learning.batches import Batch
from hepdecorr.learning.latents.density import (
    Weights,
    aggregate_density,
    own_density,
    prior_density,
    stratified_weights,
)
from hepdecorr.learning.latents.discrete import classes_kl
from hepdecorr.learning.latents.term import Latent, LatentTerm, weighted_mean
from hepdecorr.learning.terms.strength import Growth

OF = ("sensitive", "all")


class Pieces(NamedTuple):
    """information + correlation + rest + dims is the Monte Carlo KL, to rounding, in nats.

    information: I(x; z).  correlation: total correlation among all dimensions, or between the sensitive
    ones and the rest as a block.  rest: KL of the block's aggregate from the prior, 0 when there is
    no block.  dims: summed KL of the other single dimensions' aggregates.
    """

    information: Tensor
    correlation: Tensor
    rest: Tensor
    dims: Tensor


class Decomposition(LatentTerm):
    """alpha I(x; z) + beta TC + gamma KL_rest + delta KL_dims, by stratified sampling.

    of 'sensitive': beta-TCVAE-Sensitive (Tan, Urquijo 2020, 'Only disentangle protected factors').
    of 'all': beta-TCVAE (Chen et al. 1802.04942, eq. 4); gamma has no part in it.  It takes the place
    of KL; that of discrete latents is added with the factor delta.  In more than a few dimensions the
    estimate of TC saturates: see TotalCorrelation.
    """

    def __init__(
        self,
        *,
        latents: int,
        sensitive: int,
        of: str = "sensitive",
        alpha: float = 1.0,
        beta: float = 6.0,
        gamma: float = 1.0,
        delta: float = 1.0,
        start: float = 0.0,
        ramp: float = 0.0,
        given: str = "all",
    ) -> None:
        super().__init__(growth=Growth(1.0, start, ramp), given=given)
        if of not in OF:
            raise InputError(f"Decomposition: of must be sensitive or all, not {of!r}")
        self.sensitive = sensitive if of == "sensitive" else latents
        self.factors = (float(alpha), float(beta), float(gamma), float(delta))
        self.rows = 0

    def fit(self, b: Batch, *, rows: int) -> None:
        """The size of the training sample enters the weights."""
        self.rows = rows if self.given == "all" else round(rows * float((b.y == 0).float().mean()))

    def price(self, latent: Latent, b: Batch) -> Tensor:
        """In nats, with the four factors."""
        latent, b = self.given_events(latent, b)
        pieces = decompose(latent, sensitive=self.sensitive, rows=self.rows, w=b.w)
        nats = torch.stack([f * p for f, p in zip(self.factors, pieces, strict=True)]).sum()
        for classes in latent.classes:
            nats = nats + self.factors[3] * weighted_mean(classes_kl(classes), b.w)
        return nats


def decompose(latent: Latent, *, sensitive: int, rows: int, w: Tensor | None = None) -> Pieces:
    """The pieces with the first `sensitive` dimensions single and the others a block."""
    count, dims = latent.sample.shape
    weights, mean_w = _weights(count, rows, w, latent)
    single, block = list(range(sensitive)), list(range(sensitive, dims))
    joint = aggregate_density(latent, weights, single + block)
    alone = torch.stack([aggregate_density(latent, weights, [d]) for d in single], 1)
    prior = prior_density(latent)
    rest = aggregate_density(latent, weights, block) if block else torch.zeros_like(joint)
    return Pieces(
        weighted_mean(own_density(latent).sum(1) - joint, mean_w),
        weighted_mean(joint - rest - alone.sum(1), mean_w),
        weighted_mean(rest - prior[:, block].sum(1), mean_w),
        weighted_mean((alone - prior[:, single]).sum(1), mean_w),
    )


def total_correlation(latent: Latent, *, sensitive: int, rows: int, w: Tensor | None = None) -> Tensor:
    """E[log q(z) - log q(z_rest) - sum_s log q(z_s)], scalar; negative values are normal, not clamped."""
    count, dims = latent.sample.shape
    weights, mean_w = _weights(count, rows, w, latent)
    block = list(range(sensitive, dims))
    value = aggregate_density(latent, weights, list(range(dims)))
    for d in range(sensitive):
        value = value - aggregate_density(latent, weights, [d])
    if block:
        value = value - aggregate_density(latent, weights, block)
    return weighted_mean(value, mean_w)


def _weights(count: int, rows: int, w: Tensor | None, latent: Latent) -> tuple[Weights, Tensor]:
    weights = stratified_weights(count, rows=rows, w=w)
    return Weights(*(t.to(latent.sample.device) for t in weights)), (
        torch.ones_like(latent.sample[:, 0]) if w is None else w
    )
