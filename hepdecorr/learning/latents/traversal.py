"""Intervention on a latent: move it, decode, look at what changes (outlook of Tan, Urquijo 2020)."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from hepdecorr.learning.batches import Batch
from hepdecorr.learning.latents.term import Latent, weighted_mean
from hepdecorr.learning.networks.inputs import Inputs
from hepdecorr.learning.terms.nuisance import Nuisance

WIDTH = 0.25  # deviations to either side within which events stand for a value of the nuisance
FEWEST = 20  # events there below which nothing is said


class Decoding(Protocol):
    """What is asked of a representation."""

    inputs: Inputs

    def expected(self, scaled: Tensor) -> Latent: ...

    def decode(self, latent: Latent) -> Tensor: ...


class Traversal(NamedTuple):
    """What decoded features do when a latent is moved; all of shape (s, f) for s shifts."""

    change: Tensor  # mean over events, in units of the preprocessed features
    error: Tensor  # of that mean
    raw: Tensor  # mean over events, in the units of the features themselves


def traverse(representation: Decoding, b: Batch, *, dim: int, shifts: Tensor) -> Traversal:
    """Move latent `dim` of every event by `shifts`, (s,), in deviations of its posterior means."""
    scaled = representation.inputs(b.x)
    latent = representation.expected(scaled)
    w = b.w.clamp_min(0)
    mean = weighted_mean(latent.mean[:, dim], w)
    sigma = weighted_mean((latent.mean[:, dim] - mean) ** 2, w).sqrt()
    before = representation.decode(latent)
    unmoved = unscaled(representation.inputs, before)
    rows = []
    for shift in shifts:
        moved = latent.sample.clone()
        moved[:, dim] += shift * sigma
        after = representation.decode(latent._replace(sample=moved))
        raw = _average(unscaled(representation.inputs, after) - unmoved, w)[0]
        rows.append((*_average(after - before, w), raw))
    return Traversal(*(torch.stack(column) for column in zip(*rows, strict=True)))


def observed(scaled: Tensor, nuisance: Tensor, w: Tensor, *, shifts: Tensor) -> tuple[Tensor, Tensor]:
    """How features (n, f) differ between events with the nuisance (n,) `shifts` (s,) up and in the middle.

    In deviations of the unit Gaussian that its ranks make.  Mean and error, each (s, f); NaN where there are
    fewer than 20 events.
    """
    scaling = Nuisance("probit").to(scaled.device)
    scaling.fit(nuisance, w)
    place = scaling(nuisance)

    def near(value: Tensor | float) -> tuple[Tensor, Tensor]:
        own = (place - value).abs() < WIDTH
        if own.sum() < FEWEST:
            return (torch.full_like(scaled[0], torch.nan),) * 2
        return _average(scaled[own], w[own].clamp_min(0))

    middle, middle_error = near(0.0)
    found = [near(shift) for shift in shifts]
    means = torch.stack([mean - middle for mean, _ in found])
    return means, torch.stack([(error**2 + middle_error**2).sqrt() for _, error in found])


def unscaled(inputs: Inputs, scaled: Tensor) -> Tensor:
    """Features (n, f) in their own units; what was clipped stays at its bound."""
    x = scaled
    if inputs.scale == "quantile":
        x = torch.stack([_through(x[:, k], inputs, k) for k in range(x.shape[1])], 1)
    x = x / inputs.slope + inputs.shift
    if not inputs.any_log:
        return x
    exponential = (x.exp() - inputs.log_offset) * inputs.log_sign
    return torch.where(inputs.logged, exponential, x)


def _through(x: Tensor, inputs: Inputs, k: int) -> Tensor:
    """Back through the knots of feature k, straight on outside."""
    edges, rises = inputs.edges[:, k], inputs.rises[:, k]
    count = len(edges)
    start = torch.special.ndtri(x.new_tensor(0.5 / count))
    target = start + torch.cat([x.new_zeros(1), ((edges[1:] - edges[:-1]) * rises).cumsum(0)])
    place = torch.searchsorted(target, x.contiguous()).clamp(1, count - 1)
    part = (x - target[place - 1]) / (target[place] - target[place - 1]).clamp_min(1e-9)
    inside = edges[place - 1] + part.clamp(0, 1) * (edges[place] - edges[place - 1])
    straight: Tensor = inside + (x - target[0]).clamp_max(0) + (x - target[-1]).clamp_min(0)
    return straight


def _average(values: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    """Weighted mean over events of (n, f), and its error, each (f,)."""
    share = (w / w.sum())[:, None]
    mean = (share * values).sum(0)
    return mean, (share**2 * (values - mean) ** 2).sum(0).sqrt()
