"""A density on the latents that ONNX can hold."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from hepdecorr.errors import InputError
from hepdecorr.learning.moves import read_settings

LOG_2PI = math.log(2 * math.pi)
FLOOR = 1e-2  # added to the variances: a mean that varies by less is not in use (Burda et al. 1509.00519)


@dataclass(frozen=True)
class Density:
    """components: Gaussians of the mixture.  sample: latents it is fitted on, at most."""

    components: int = 8
    sample: int = 50_000

    def __post_init__(self) -> None:
        if self.components < 1 or self.sample < 10 * self.components:
            raise InputError("components must be at least 1 and sample ten times as many")

    @classmethod
    def read(cls, spec: Mapping[str, Any] | None) -> Self:
        """From the block `density`."""
        return read_settings(cls, spec, where="density")


class Mixture(nn.Module):
    """-log of a mixture of Gaussians with full covariances, (n,), in nats, at points (n, d).

    Its answer is large where events are rare, also between modes, where a KL from one prior is small.
    """

    log_weights: Tensor
    means: Tensor
    factors: Tensor
    constants: Tensor

    def __init__(self, components: int, dims: int) -> None:
        super().__init__()
        self.register_buffer("log_weights", torch.full((components,), -math.log(components)))
        self.register_buffer("means", torch.zeros(components, dims))
        self.register_buffer("factors", torch.eye(dims).expand(components, dims, dims).clone())
        self.register_buffer("constants", torch.full((components,), -0.5 * dims * LOG_2PI))

    def fit(self, points: np.ndarray[Any, Any], w: np.ndarray[Any, Any], *, seed: int, most: int) -> None:
        """By expectation maximisation, on at most `most` of the points (n, d), drawn by their weights."""
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.mixture import GaussianMixture

        components = len(self.log_weights)
        chosen = _drawn(np.asarray(w, np.float64), min(most, len(points)), seed=seed)
        if len(chosen) < 2 * components or not np.isfinite(points).all():
            raise InputError(
                f"density: {len(chosen)} background events for {components} Gaussians on the latents; lower "
                "density: components, or check the selection"
            )
        model = GaussianMixture(components, reg_covar=FLOOR, random_state=seed % 2**32)
        with warnings.catch_warnings():
            # One that has not come to rest is as good a density as any.
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(points[chosen].astype(np.float64))
        factors = torch.as_tensor(model.precisions_cholesky_)
        logs = factors.diagonal(dim1=1, dim2=2).log().sum(1)
        self.log_weights.copy_(torch.as_tensor(model.weights_).clamp_min(1e-30).log())
        self.means.copy_(torch.as_tensor(model.means_))
        self.factors.copy_(factors)
        self.constants.copy_(logs - 0.5 * points.shape[1] * LOG_2PI)

    def forward(self, points: Tensor) -> Tensor:
        """Shape (n,)."""
        away = (points[:, None] - self.means).transpose(0, 1) @ self.factors  # (components, n, d)
        logs = (self.log_weights + self.constants)[:, None] - 0.5 * away.square().sum(2)
        return -logs.logsumexp(0)


def _drawn(w: np.ndarray[Any, Any], rows: int, *, seed: int) -> np.ndarray[Any, Any]:
    """So many places, each as often as its weight says up to one, in equal steps from a random start."""
    grown = np.maximum(w, 0).cumsum()
    if not len(grown) or not grown[-1] > 0:
        return np.empty(0, np.int64)
    steps = (np.arange(rows) + np.random.default_rng(seed).random()) / rows
    return np.asarray(np.searchsorted(grown, steps * grown[-1], side="right").clip(max=len(w) - 1))
