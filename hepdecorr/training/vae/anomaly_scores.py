"""Anomaly scores of a variational autoencoder, and the logit that one of them gives.

A density on the latents that ONNX can hold.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from hepdecorr.errors import InputError, suggest
from hepdecorr.training.optim import settings_from_config

SCORES: Mapping[str, str] = {
    "mse": "distance of the jet decoded at the posterior mean, |xhat - x|^2 / 4n",
    "kl": "KL of the posterior from the prior, summed over the latents, in nats",
    "nll": "mse + beta KL, reduced as in the loss: the negative ELBO, but for constants, in the loss's unit",
    "sumsq": "sum of the squares of the scaled inputs, no network",
    "density": "-log of a mixture of Gaussians at the posterior mean, fitted on training background, in nats",
}
"""Larger is more anomalous (Cheng's slides, 'Jet Tagging Performance'; sumsq is their MSS, the l2 norm)."""

MIN_SCORE = 1e-6  # below which a jet is no less unusual
RUNNING_MOMENTUM = 0.05  # share of a batch in the running mean and deviation
LOG_SCORES = ("density",)  # scores that are logarithms already


class ScoreStandardizer(nn.Module):
    """A score (n,) as a logit (n,): its logarithm, of mean 0 and deviation 1 on background.

    An order and no log odds, but monotone.  A score that is a logarithm itself is taken as it is.
    """

    shift: Tensor
    spread: Tensor
    has_statistics: Tensor

    def __init__(self, score: str) -> None:
        super().__init__()
        if str(score) not in SCORES:
            raise InputError(f"no score {score!r}{suggest(str(score), SCORES)}")
        self.score = score
        self.register_buffer("shift", torch.zeros(()))
        self.register_buffer("spread", torch.ones(()))
        self.register_buffer("has_statistics", torch.zeros((), dtype=torch.bool))

    def log_score(self, score: Tensor) -> Tensor:
        """Without shift and spread."""
        return score if self.score in LOG_SCORES else score.clamp_min(MIN_SCORE).log()

    @torch.no_grad()
    def fit(self, score: Tensor, w: Tensor) -> None:
        """From the scores of background events of weights w."""
        shift, spread = _weighted_mean_std(self.log_score(score.double()), w.double())
        self.shift.copy_(shift)
        self.spread.copy_(spread)

    def forward(self, score: Tensor) -> Tensor:
        """Shape (n,)."""
        return (self.log_score(score) - self.shift) / self.spread

    @torch.no_grad()
    def update(self, score: Tensor, w: Tensor) -> None:
        """Towards the mean and deviation of a batch of background.

        The network learns, and what a term sees of its score is to be of order one all the time.
        """
        shift, spread = _weighted_mean_std(self.log_score(score.double()), w.double())
        pace = RUNNING_MOMENTUM if self.has_statistics else 1.0
        self.shift.lerp_(shift.to(self.shift), pace)
        self.spread.lerp_(spread.to(self.spread), pace)
        self.has_statistics.fill_(True)


def _weighted_mean_std(values: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    share = w.clamp_min(0)
    share = share / share.sum().clamp_min(MIN_SCORE)
    mean = (share * values).sum()
    return mean, (share * (values - mean).square()).sum().sqrt().clamp_min(MIN_SCORE)


LOG_2PI = math.log(2 * math.pi)
MIN_VARIANCE = (
    1e-2  # added to the variances: a mean that varies by less is not in use (Burda et al. 1509.00519)
)


@dataclass(frozen=True)
class LatentDensityConfig:
    """components: Gaussians of the mixture.  sample: latents it is fitted on, at most."""

    components: int = 8
    sample_size: int = 50_000

    def __post_init__(self) -> None:
        if self.components < 1 or self.sample_size < 10 * self.components:
            raise InputError("components must be at least 1 and sample ten times as many")

    @classmethod
    def from_config(cls, spec: Mapping[str, Any] | None) -> Self:
        """From the block `density`."""
        return settings_from_config(cls, spec, where="density")


class LatentGMM(nn.Module):
    """-log of a mixture of Gaussians with full covariances, (n,), in nats, at points (n, d).

    Its answer is large where events are rare, also between modes, where a KL from one prior is small.
    """

    log_weights: Tensor
    means: Tensor
    precision_factors: Tensor
    log_norms: Tensor

    def __init__(self, components: int, dims: int) -> None:
        super().__init__()
        self.register_buffer("log_weights", torch.full((components,), -math.log(components)))
        self.register_buffer("means", torch.zeros(components, dims))
        self.register_buffer("precision_factors", torch.eye(dims).expand(components, dims, dims).clone())
        self.register_buffer("log_norms", torch.full((components,), -0.5 * dims * LOG_2PI))

    def fit(
        self, points: np.ndarray[Any, Any], w: np.ndarray[Any, Any], *, seed: int, max_points: int
    ) -> None:
        """By expectation maximisation, on at most `most` of the points (n, d), drawn by their weights."""
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.mixture import GaussianMixture

        components = len(self.log_weights)
        chosen = _systematic_sample(np.asarray(w, np.float64), min(max_points, len(points)), seed=seed)
        if len(chosen) < 2 * components or not np.isfinite(points).all():
            raise InputError(
                f"density: {len(chosen)} background events for {components} Gaussians on the latents; lower "
                "density: components, or check the selection"
            )
        model = GaussianMixture(components, reg_covar=MIN_VARIANCE, random_state=seed % 2**32)
        with warnings.catch_warnings():
            # One that has not come to rest is as good a density as any.
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(points[chosen].astype(np.float64))
        factors = torch.as_tensor(model.precisions_cholesky_)
        logs = factors.diagonal(dim1=1, dim2=2).log().sum(1)
        self.log_weights.copy_(torch.as_tensor(model.weights_).clamp_min(1e-30).log())
        self.means.copy_(torch.as_tensor(model.means_))
        self.precision_factors.copy_(factors)
        self.log_norms.copy_(logs - 0.5 * points.shape[1] * LOG_2PI)

    def forward(self, points: Tensor) -> Tensor:
        """Shape (n,)."""
        away = (points[:, None] - self.means).transpose(0, 1) @ self.precision_factors  # (components, n, d)
        logs = (self.log_weights + self.log_norms)[:, None] - 0.5 * away.square().sum(2)
        return -logs.logsumexp(0)


def _systematic_sample(w: np.ndarray[Any, Any], num_draws: int, *, seed: int) -> np.ndarray[Any, Any]:
    """So many places, each as often as its weight says up to one, in equal steps from a random start."""
    grown = np.maximum(w, 0).cumsum()
    if not len(grown) or not grown[-1] > 0:
        return np.empty(0, np.int64)
    steps = (np.arange(num_draws) + np.random.default_rng(seed).random()) / num_draws
    return np.asarray(np.searchsorted(grown, steps * grown[-1], side="right").clip(max=len(w) - 1))
