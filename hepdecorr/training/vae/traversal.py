"""Intervention on a latent: move it, decode, look at what changes (outlook of Tan, Urquijo 2020)."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from hepdecorr.training.data.batches import Batch
from hepdecorr.training.losses.base import weighted_mean
from hepdecorr.training.losses.nuisance_transform import NuisanceTransform
from hepdecorr.training.networks.preprocessing import FeaturePreprocessor
from hepdecorr.training.vae.base import LatentPosterior

WINDOW_HALF_WIDTH = 0.25  # deviations to either side within which events stand for a value of the nuisance
MIN_WINDOW_EVENTS = 20  # events there below which nothing is said


class LatentDecoder(Protocol):
    """What is asked of a representation."""

    inputs: FeaturePreprocessor

    def posterior_at_mean(self, scaled: Tensor) -> LatentPosterior: ...

    def decode(self, latent: LatentPosterior) -> Tensor: ...


class Traversal(NamedTuple):
    """What decoded features do when a latent is moved; all of shape (s, f) for s shifts."""

    change: Tensor  # mean over events, in units of the preprocessed features
    change_error: Tensor  # of that mean
    raw_change: Tensor  # mean over events, in the units of the features themselves


def traverse_latent(
    representation: LatentDecoder, batch: Batch, *, latent_index: int, shifts: Tensor
) -> Traversal:
    """Move latent `dim` of every event by `shifts`, (s,), in deviations of its posterior means."""
    scaled = representation.inputs(batch.x)
    latent = representation.posterior_at_mean(scaled)
    w = batch.w.clamp_min(0)
    mean = weighted_mean(latent.mean[:, latent_index], w)
    sigma = weighted_mean((latent.mean[:, latent_index] - mean) ** 2, w).sqrt()
    before = representation.decode(latent)
    unmoved = invert_preprocessing(representation.inputs, before)
    rows = []
    for shift in shifts:
        moved = latent.sample.clone()
        moved[:, latent_index] += shift * sigma
        after = representation.decode(latent._replace(sample=moved))
        raw = _weighted_mean_and_error(invert_preprocessing(representation.inputs, after) - unmoved, w)[0]
        rows.append((*_weighted_mean_and_error(after - before, w), raw))
    return Traversal(*(torch.stack(column) for column in zip(*rows, strict=True)))


def observed_change(scaled: Tensor, nuisance: Tensor, w: Tensor, *, shifts: Tensor) -> tuple[Tensor, Tensor]:
    """How features (n, f) differ between events with the nuisance (n,) `shifts` (s,) up and in the middle.

    In deviations of the unit Gaussian that its ranks make.  Mean and error, each (s, f); NaN where there are
    fewer than 20 events.
    """
    scaling = NuisanceTransform("probit").to(scaled.device)
    scaling.fit(nuisance, w)
    place = scaling(nuisance)

    def near(value: Tensor | float) -> tuple[Tensor, Tensor]:
        own = (place - value).abs() < WINDOW_HALF_WIDTH
        if own.sum() < MIN_WINDOW_EVENTS:
            return (torch.full_like(scaled[0], torch.nan),) * 2
        return _weighted_mean_and_error(scaled[own], w[own].clamp_min(0))

    middle, middle_error = near(0.0)
    found = [near(shift) for shift in shifts]
    means = torch.stack([mean - middle for mean, _ in found])
    return means, torch.stack([(error**2 + middle_error**2).sqrt() for _, error in found])


def invert_preprocessing(inputs: FeaturePreprocessor, scaled: Tensor) -> Tensor:
    """Features (n, f) in their own units; what was clipped stays at its bound."""
    x = scaled
    if inputs.scale == "quantile":
        x = torch.stack([_invert_knots(x[:, k], inputs, k) for k in range(x.shape[1])], 1)
    x = x / inputs.slope + inputs.shift
    if not inputs.has_log:
        return x
    exponential = (x.exp() - inputs.log_offset) * inputs.log_sign
    return torch.where(inputs.is_log, exponential, x)


def _invert_knots(x: Tensor, inputs: FeaturePreprocessor, feature_index: int) -> Tensor:
    """Back through the knots of feature k, straight on outside."""
    edges, rises = inputs.knot_positions[:, feature_index], inputs.knot_slopes[:, feature_index]
    count = len(edges)
    start = torch.special.ndtri(x.new_tensor(0.5 / count))
    target = start + torch.cat([x.new_zeros(1), ((edges[1:] - edges[:-1]) * rises).cumsum(0)])
    place = torch.searchsorted(target, x.contiguous()).clamp(1, count - 1)
    part = (x - target[place - 1]) / (target[place] - target[place - 1]).clamp_min(1e-9)
    inside = edges[place - 1] + part.clamp(0, 1) * (edges[place] - edges[place - 1])
    straight: Tensor = inside + (x - target[0]).clamp_max(0) + (x - target[-1]).clamp_min(0)
    return straight


def _weighted_mean_and_error(values: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    """Weighted mean over events of (n, f), and its error, each (f,)."""
    share = (w / w.sum())[:, None]
    mean = (share * values).sum(0)
    return mean, (share**2 * (values - mean) ** 2).sum(0).sqrt()
