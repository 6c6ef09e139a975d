"""The aggregate posterior q(z) = mean over events of q(z|x), estimated from one batch.

Notation of Chen et al. (1802.04942): l_ijd = log N(z_id; mean_jd, var_jd) for sample i and component j.

The KL of a VAE taken apart, from the matrix of log densities.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hepdecorr.errors import InputError
from hepdecorr.training.data.batches import Batch
from hepdecorr.training.losses.base import weighted_mean
from hepdecorr.training.losses.schedules import Schedule
from hepdecorr.training.optim import full_precision
from hepdecorr.training.vae.base import LatentPosterior, LatentTerm
from hepdecorr.training.vae.discrete_latents import categorical_kl

LOG_2PI = math.log(2 * math.pi)
LOG2_E = 1 / math.log(2)


class StratifiedWeights(NamedTuple):
    """Stratified weights of the components, by the three values that a row of them has.

    base (B,): of component j in rows where nothing else is said; own (B,): of component i in row i;
    next (B,): of component i + 1 in row i, cyclic; total (B,): by which row i is divided.
    """

    base: Tensor
    diagonal: Tensor
    superdiagonal: Tensor
    total: Tensor


def compute_stratified_weights(
    batch_size: int, *, num_events: int, w: Tensor | None = None
) -> StratifiedWeights:
    """Minibatch stratified sampling for a batch of B out of N = `rows` events (Chen et al., appendix C.2).

    Own component 1/N, one other (N - M)/(N M), the rest 1/M, M = B - 1: each row sums to one.  (A stride
    of M + 1 in the circulating code puts these into columns 0 and 1 instead.)  With event weights `w`
    all are proportional to the component's weight and normalised row by row.
    """
    others = max(1, batch_size - 1)  # a batch of one is its own mixture
    num_events = max(num_events, batch_size)
    part = torch.ones(batch_size, dtype=torch.float64) if w is None else w / w.mean()
    shifted = part.roll(-1)
    base, own, beside = 1 / others, 1 / num_events, (num_events - others) / (num_events * others)
    total = part.sum() * base + part * (own - base) + shifted * (beside - base)
    return StratifiedWeights(part * base, part * own, shifted * beside, total)


def log_weight_matrix(weights: StratifiedWeights) -> Tensor:
    """The matrix log W_ij, shape (B, B): what `log_mixture` does without writing it down."""
    batch = len(weights.base)
    matrix = weights.base.expand(batch, batch).clone()
    place = torch.arange(batch, device=matrix.device)
    matrix[place, place] = weights.diagonal
    matrix[place, (place + 1) % batch] = weights.superdiagonal
    return (matrix / weights.total[:, None]).log()


def log_posterior_density(latent: LatentPosterior) -> Tensor:
    """log q(z_id|x_i), shape (B, d)."""
    return -0.5 * ((latent.sample - latent.mean) ** 2 / latent.log_var.exp() + latent.log_var + LOG_2PI)


def log_prior_density(latent: LatentPosterior) -> Tensor:
    """log p(z_id) under a unit Gaussian, shape (B, d)."""
    return -0.5 * (latent.sample**2 + LOG_2PI)


def log_aggregate_density(latent: LatentPosterior, weights: StratifiedWeights, dims: list[int]) -> Tensor:
    """log q(z_i) over `dims` together, shape (B,): log sum_j W_ij exp sum_d l_ijd."""
    mean, log_var, z = (t[:, dims] for t in latent[:3])
    # Centred, so that squares lose fewer digits.
    centre = mean.detach().mean(0)
    z, mean = z - centre, mean - centre
    ratios = weights.diagonal / weights.base, weights.superdiagonal / weights.base.roll(-1)
    log_base = weights.base.to(z).log()
    if len(dims) == 1:
        mixed: Tensor = _SingleMixture.apply(z[:, 0], mean[:, 0], log_var[:, 0], log_base, *ratios)
        return mixed - weights.total.to(z).log()
    inverse = (-log_var).exp()
    constant = (mean**2 * inverse + log_var).sum(1, keepdim=True) + len(dims) * LOG_2PI
    # (z - m)^2 / v = z^2 (1/v) - 2 z (m/v) + m^2/v: one matrix product gives all pairs.
    query = torch.cat([z**2, z, torch.ones_like(z[:, :1])], 1)
    key = torch.cat([-0.5 * inverse, mean * inverse, log_base[:, None] - 0.5 * constant], 1)
    with full_precision(z):
        mixed = _BlockMixture.apply(query, key, *ratios)
    return mixed - weights.total.to(z).log()


# Both are written out because autograd would keep and walk several matrices of B x B where one is enough,
# and in powers of two, which take a quarter of the time of exponentials.


class _SingleMixture(torch.autograd.Function):
    """log sum_j f_ij c_j N(z_i; m_j, v_j), with f_ij one except on the diagonal and next to it."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, mean: Tensor, log_var: Tensor, log_c: Tensor, *ratios: Tensor) -> Tensor:
        # No search for the largest term: the event's own is never small enough to vanish.
        total = _mixture_terms(z, mean, log_var, log_c, *ratios).sum(1)
        ctx.save_for_backward(z, mean, log_var, log_c, *ratios, total)
        return total.log()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        z, mean, log_var, *others, total = ctx.saved_tensors
        # Made again: to keep one matrix for each dimension costs more than its exponentials.
        p = _mixture_terms(z, mean, log_var, *others)
        scale, inverse = gradients[0] / total, (-log_var).exp()
        pulled = torch.mv(p, inverse * mean) - z * torch.mv(p, inverse)
        zeroth, first, second = (torch.mv(p.T, scale * power) for power in (1, z, z**2))
        squares = second - 2 * mean * first + mean**2 * zeroth
        return (
            scale * pulled,
            inverse * (first - mean * zeroth),
            0.5 * (inverse * squares - zeroth),
            None,
            None,
            None,
        )


class _BlockMixture(torch.autograd.Function):
    """log sum_j f_ij exp(query_i . key_j), with f_ij one except on the diagonal and next to it."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, *ratios: Tensor) -> Tensor:
        p = query @ (key * LOG2_E).T
        largest = p.amax(1)
        p.sub_(largest[:, None]).exp2_()
        _scale_diagonals(p, *ratios)
        total = p.sum(1)
        ctx.save_for_backward(query, key, p, total)
        return total.log() + largest / LOG2_E

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        query, key, p, total = ctx.saved_tensors
        scale = (gradients[0] / total)[:, None]
        return scale * (p @ key), ((scale * query).T @ p).T, None, None


def _mixture_terms(z: Tensor, mean: Tensor, log_var: Tensor, log_c: Tensor, *ratios: Tensor) -> Tensor:
    """f_ij c_j N(z_i; m_j, v_j), shape (B, B)."""
    p = z[:, None] - mean[None]
    p.mul_((-0.5 * log_var).exp() * math.sqrt(0.5 * LOG2_E)).square_()
    torch.sub((log_c - 0.5 * (log_var + LOG_2PI)) * LOG2_E, p, out=p)
    _scale_diagonals(p.exp2_(), *ratios)
    return p


def _scale_diagonals(p: Tensor, diagonal: Tensor, superdiagonal: Tensor) -> None:
    p.diagonal().mul_(diagonal.to(p))
    if len(p) > 1:
        p.diagonal(1).mul_(superdiagonal[:-1].to(p))
        p[-1, 0] *= superdiagonal[-1].to(p)


DIMENSION_CHOICES = ("sensitive", "all")


class KLPieces(NamedTuple):
    """information + correlation + rest + dims is the Monte Carlo KL, to rounding, in nats.

    information: I(x; z).  correlation: total correlation among all dimensions, or between the sensitive
    ones and the rest as a block.  rest: KL of the block's aggregate from the prior, 0 when there is
    no block.  dims: summed KL of the other single dimensions' aggregates.
    """

    mutual_information: Tensor
    total_correlation: Tensor
    block_kl: Tensor
    dimension_kl: Tensor


class KLDecomposition(LatentTerm):
    """alpha I(x; z) + beta TC + gamma KL_rest + delta KL_dims, by stratified sampling.

    of 'sensitive': beta-TCVAE-Sensitive (Tan, Urquijo 2020, 'Only disentangle protected factors').
    of 'all': beta-TCVAE (Chen et al. 1802.04942, eq. 4); gamma has no part in it.  It takes the place
    of KL; that of discrete latents is added with the factor delta.  In more than a few dimensions the
    estimate of TC saturates: see TotalCorrelation.
    """

    def __init__(
        self,
        *,
        latent_dim: int,
        sensitive: int,
        dimensions: str = "sensitive",
        alpha: float = 1.0,
        beta: float = 6.0,
        gamma: float = 1.0,
        delta: float = 1.0,
        start: float = 0.0,
        ramp: float = 0.0,
        classes: str = "all",
    ) -> None:
        super().__init__(schedule=Schedule(1.0, start, ramp), classes=classes)
        if dimensions not in DIMENSION_CHOICES:
            raise InputError(f"KLDecomposition: dimensions must be sensitive or all, not {dimensions!r}")
        self.sensitive = sensitive if dimensions == "sensitive" else latent_dim
        self.coefficients = (float(alpha), float(beta), float(gamma), float(delta))
        self.num_events = 0

    def fit(self, batch: Batch, *, num_events: int) -> None:
        """The size of the training sample enters the weights."""
        self.num_events = (
            num_events if self.classes == "all" else round(num_events * float((batch.y == 0).float().mean()))
        )

    def penalty(self, latent: LatentPosterior, batch: Batch) -> Tensor:
        """In nats, with the four factors."""
        latent, batch = self.select_events(latent, batch)
        pieces = decompose_kl(latent, sensitive=self.sensitive, num_events=self.num_events, w=batch.w)
        nats = torch.stack([f * p for f, p in zip(self.coefficients, pieces, strict=True)]).sum()
        for classes in latent.categorical:
            nats = nats + self.coefficients[3] * weighted_mean(categorical_kl(classes), batch.w)
        return nats


def decompose_kl(
    latent: LatentPosterior, *, sensitive: int, num_events: int, w: Tensor | None = None
) -> KLPieces:
    """The pieces with the first `sensitive` dimensions single and the others a block."""
    count, dims = latent.sample.shape
    weights, mean_w = _batch_weights(count, num_events, w, latent)
    single, block = list(range(sensitive)), list(range(sensitive, dims))
    joint = log_aggregate_density(latent, weights, single + block)
    alone = torch.stack([log_aggregate_density(latent, weights, [d]) for d in single], 1)
    prior = log_prior_density(latent)
    rest = log_aggregate_density(latent, weights, block) if block else torch.zeros_like(joint)
    return KLPieces(
        weighted_mean(log_posterior_density(latent).sum(1) - joint, mean_w),
        weighted_mean(joint - rest - alone.sum(1), mean_w),
        weighted_mean(rest - prior[:, block].sum(1), mean_w),
        weighted_mean((alone - prior[:, single]).sum(1), mean_w),
    )


def stratified_total_correlation(
    latent: LatentPosterior, *, sensitive: int, num_events: int, w: Tensor | None = None
) -> Tensor:
    """E[log q(z) - log q(z_rest) - sum_s log q(z_s)], scalar; negative values are normal, not clamped."""
    count, dims = latent.sample.shape
    weights, mean_w = _batch_weights(count, num_events, w, latent)
    block = list(range(sensitive, dims))
    value = log_aggregate_density(latent, weights, list(range(dims)))
    for d in range(sensitive):
        value = value - log_aggregate_density(latent, weights, [d])
    if block:
        value = value - log_aggregate_density(latent, weights, block)
    return weighted_mean(value, mean_w)


def _batch_weights(
    batch_size: int, num_events: int, w: Tensor | None, latent: LatentPosterior
) -> tuple[StratifiedWeights, Tensor]:
    weights = compute_stratified_weights(batch_size, num_events=num_events, w=w)
    return StratifiedWeights(*(t.to(latent.sample.device) for t in weights)), (
        torch.ones_like(latent.sample[:, 0]) if w is None else w
    )
