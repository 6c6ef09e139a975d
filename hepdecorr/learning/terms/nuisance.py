"""Scaling of a nuisance inside a term: the data keep their units."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from hepdecorr.catalogue import suggest
from hepdecorr.errors import InputError

TRANSFORMS = ("rank", "probit", "standard", "none")
KNOTS = 1025


class Nuisance(nn.Module):
    """z, shape (n,), to comparable numbers.

    'rank': uniform in (0, 1) on the events it was fitted on; 'probit': their unit Gaussian, Phi^-1 of
    the rank, with entropy 1.4189 nats; 'standard': mean 0, deviation 1; 'none': as it is.  Outliers
    dominate distances unless they are ranked.
    """

    knots: Tensor
    shift: Tensor
    spread: Tensor

    def __init__(self, transform: str = "rank") -> None:
        super().__init__()
        if transform not in TRANSFORMS:
            raise InputError(f"no transform {transform!r} of a nuisance{suggest(transform, TRANSFORMS)}")
        self.transform = transform
        self.register_buffer("knots", torch.linspace(0, 1, KNOTS, dtype=torch.float64))
        self.register_buffer("shift", torch.zeros((), dtype=torch.float64))
        self.register_buffer("spread", torch.ones((), dtype=torch.float64))

    @torch.no_grad()
    def fit(self, z: Tensor, w: Tensor) -> None:
        """Set the scaling from events of weights w."""
        z, w = z.double(), w.double().clamp_min(0)
        order = z.argsort()
        # Middle of each event's step, so that the ranks are uniform and neither 0 nor 1.
        grown = (w[order].cumsum(0) - w[order] / 2) / w.sum()
        at = torch.linspace(0, 1, KNOTS, dtype=torch.float64, device=z.device)
        self.knots.copy_(_interpolate(at, grown, z[order]))
        mean = (w * z).sum() / w.sum()
        spread = ((w * (z - mean) ** 2).sum() / w.sum()).sqrt()
        self.shift.copy_(mean)
        self.spread.copy_(spread if spread > 0 else torch.ones_like(spread))

    def rank(self, z: Tensor) -> Tensor:
        """Fraction of the fitted events below z, in (0, 1)."""
        at = torch.linspace(0, 1, KNOTS, dtype=torch.float64, device=z.device)
        half = 0.5 / KNOTS
        return _interpolate(z.double(), self.knots, at).clamp(half, 1 - half).to(z.dtype)

    def forward(self, z: Tensor) -> Tensor:
        """Shape (n,)."""
        if self.transform == "none":
            return z
        if self.transform == "standard":
            return ((z - self.shift) / self.spread).to(z.dtype)
        rank = self.rank(z)
        return rank if self.transform == "rank" else math.sqrt(2) * torch.erfinv(2 * rank - 1)


def _interpolate(x: Tensor, xs: Tensor, ys: Tensor) -> Tensor:
    """Piecewise linear through (xs, ys); xs increasing, equal neighbours allowed; flat outside."""
    right = torch.searchsorted(xs.contiguous(), x.contiguous(), right=True)
    last = len(xs) - 1
    high, low = right.clamp(1, last), (right - 1).clamp(0, last - 1)
    width = (xs[high] - xs[low]).clamp_min(1e-300)
    part = ((x - xs[low]) / width).clamp(0, 1)
    between = ys[low] + part * (ys[high] - ys[low])
    if not (xs[1:] == xs[:-1]).any():
        return between
    # Ties: from the middle of the run of equal knots, or a nuisance of few values would get extreme ranks.
    left = torch.searchsorted(xs.contiguous(), x.contiguous(), right=False)
    tied = 0.5 * (ys[left.clamp_max(last)] + ys[(right - 1).clamp_min(0)])
    return torch.where(right - left > 1, tied, between)
