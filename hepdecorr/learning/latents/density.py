"""The aggregate posterior q(z) = mean over events of q(z|x), estimated from one batch.

Notation of Chen et al. (1802.04942): l_ijd = log N(z_id; mean_jd, var_jd) for sample i and component j.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hepdecorr.learning.latents.term import Latent
from hepdecorr.learning.precision import in_full

LOG_2PI = math.log(2 * math.pi)
LOG2_E = 1 / math.log(2)


class Weights(NamedTuple):
    """Stratified weights of the components, by the three values that a row of them has.

    base (B,): of component j in rows where nothing else is said; own (B,): of component i in row i;
    next (B,): of component i + 1 in row i, cyclic; total (B,): by which row i is divided.
    """

    base: Tensor
    own: Tensor
    next: Tensor
    total: Tensor


def stratified_weights(batch: int, *, rows: int, w: Tensor | None = None) -> Weights:
    """Minibatch stratified sampling for a batch of B out of N = `rows` events (Chen et al., appendix C.2).

    Own component 1/N, one other (N - M)/(N M), the rest 1/M, M = B - 1: each row sums to one.  (A stride
    of M + 1 in the circulating code puts these into columns 0 and 1 instead.)  With event weights `w`
    all are proportional to the component's weight and normalised row by row.
    """
    others = max(1, batch - 1)  # a batch of one is its own mixture
    rows = max(rows, batch)
    part = torch.ones(batch, dtype=torch.float64) if w is None else w / w.mean()
    shifted = part.roll(-1)
    base, own, beside = 1 / others, 1 / rows, (rows - others) / (rows * others)
    total = part.sum() * base + part * (own - base) + shifted * (beside - base)
    return Weights(part * base, part * own, shifted * beside, total)


def log_weights(weights: Weights) -> Tensor:
    """The matrix log W_ij, shape (B, B): what `log_mixture` does without writing it down."""
    batch = len(weights.base)
    matrix = weights.base.expand(batch, batch).clone()
    place = torch.arange(batch, device=matrix.device)
    matrix[place, place] = weights.own
    matrix[place, (place + 1) % batch] = weights.next
    return (matrix / weights.total[:, None]).log()


def own_density(latent: Latent) -> Tensor:
    """log q(z_id|x_i), shape (B, d)."""
    return -0.5 * ((latent.sample - latent.mean) ** 2 / latent.log_var.exp() + latent.log_var + LOG_2PI)


def prior_density(latent: Latent) -> Tensor:
    """log p(z_id) under a unit Gaussian, shape (B, d)."""
    return -0.5 * (latent.sample**2 + LOG_2PI)


def aggregate_density(latent: Latent, weights: Weights, dims: list[int]) -> Tensor:
    """log q(z_i) over `dims` together, shape (B,): log sum_j W_ij exp sum_d l_ijd."""
    mean, log_var, z = (t[:, dims] for t in latent[:3])
    # Centred, so that squares lose fewer digits.
    centre = mean.detach().mean(0)
    z, mean = z - centre, mean - centre
    ratios = weights.own / weights.base, weights.next / weights.base.roll(-1)
    log_base = weights.base.to(z).log()
    if len(dims) == 1:
        mixed: Tensor = _SingleMixture.apply(z[:, 0], mean[:, 0], log_var[:, 0], log_base, *ratios)
        return mixed - weights.total.to(z).log()
    inverse = (-log_var).exp()
    constant = (mean**2 * inverse + log_var).sum(1, keepdim=True) + len(dims) * LOG_2PI
    # (z - m)^2 / v = z^2 (1/v) - 2 z (m/v) + m^2/v: one matrix product gives all pairs.
    query = torch.cat([z**2, z, torch.ones_like(z[:, :1])], 1)
    key = torch.cat([-0.5 * inverse, mean * inverse, log_base[:, None] - 0.5 * constant], 1)
    with in_full(z):
        mixed = _BlockMixture.apply(query, key, *ratios)
    return mixed - weights.total.to(z).log()


# Both are written out because autograd would keep and walk several matrices of B x B where one is enough,
# and in powers of two, which take a quarter of the time of exponentials.


class _SingleMixture(torch.autograd.Function):
    """log sum_j f_ij c_j N(z_i; m_j, v_j), with f_ij one except on the diagonal and next to it."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, mean: Tensor, log_var: Tensor, log_c: Tensor, *ratios: Tensor) -> Tensor:
        # No search for the largest term: the event's own is never small enough to vanish.
        total = _terms(z, mean, log_var, log_c, *ratios).sum(1)
        ctx.save_for_backward(z, mean, log_var, log_c, *ratios, total)
        return total.log()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        z, mean, log_var, *others, total = ctx.saved_tensors
        # Made again: to keep one matrix for each dimension costs more than its exponentials.
        p = _terms(z, mean, log_var, *others)
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


def _terms(z: Tensor, mean: Tensor, log_var: Tensor, log_c: Tensor, *ratios: Tensor) -> Tensor:
    """f_ij c_j N(z_i; m_j, v_j), shape (B, B)."""
    p = z[:, None] - mean[None]
    p.mul_((-0.5 * log_var).exp() * math.sqrt(0.5 * LOG2_E)).square_()
    torch.sub((log_c - 0.5 * (log_var + LOG_2PI)) * LOG2_E, p, out=p)
    _scale_diagonals(p.exp2_(), *ratios)
    return p


def _scale_diagonals(p: Tensor, diagonal: Tensor, beside: Tensor) -> None:
    p.diagonal().mul_(diagonal.to(p))
    if len(p) > 1:
        p.diagonal(1).mul_(beside[:-1].to(p))
        p[-1, 0] *= beside[-1].to(p)
