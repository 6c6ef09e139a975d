"""The aggregate posterior q(z) = mean over events of q(z|x), estimated from one batch.

Notation of Chen et al. (1802.04942): l_ijd = log N(z_id; mean_jd, var_jd) for sample i and component j.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hepdecorr.learning.latents.term import Latent

LOG_2PI = math.log(2 * math.pi)


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
    others = batch - 1
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
    mean, log_var, z = (t[:, dims] for t in latent)
    # Centred, so that the squares in the expansion below lose fewer digits.
    centre = mean.detach().mean(0)
    z, mean = z - centre, mean - centre
    inverse = (-log_var).exp()
    ones = torch.ones_like(z[:, :1])
    constant = (mean**2 * inverse + log_var).sum(1, keepdim=True) + len(dims) * LOG_2PI
    # (z - m)^2 / v = z^2 (1/v) - 2 z (m/v) + m^2/v: one matrix product gives all pairs.
    query = torch.cat([z**2, z, ones], 1)
    key = torch.cat([-0.5 * inverse, mean * inverse, -0.5 * constant + weights.base.to(z)[:, None].log()], 1)
    own = own_density(latent)[:, dims].sum(1).detach()
    ratios = weights.own / weights.base, weights.next / weights.base.roll(-1)
    mixed: Tensor = _LogMixture.apply(query, key, own, *ratios)
    return mixed - weights.total.to(z).log()


class _LogMixture(torch.autograd.Function):
    """log sum_j f_ij exp(query_i . key_j), with f_ij one except on the diagonal and next to it.

    Written out because autograd would keep and walk several matrices of B x B; here it is one.
    """

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, own: Tensor, diagonal: Tensor, beside: Tensor
    ) -> Tensor:
        # One dimension: its own density is within e^20 of the largest, so no search for the maximum.
        e = torch.addmm(-own[:, None], query, key.T)
        top = own
        if query.shape[1] > 3:
            largest = e.amax(1, keepdim=True)
            e.sub_(largest)
            top = own + largest[:, 0]
        e.exp_()
        e.diagonal().mul_(diagonal.to(e))
        if len(e) > 1:
            e.diagonal(1).mul_(beside[:-1].to(e))
            e[-1, 0] *= beside[-1].to(e)
        total = e.sum(1)
        ctx.save_for_backward(query, key, e, total)
        return total.log() + top

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        query, key, e, total = ctx.saved_tensors
        scale = (gradients[0] / total)[:, None]
        return scale * (e @ key), e.T @ (scale * query), None, None, None
