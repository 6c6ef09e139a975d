"""A model of groups that is solved exactly: x = a u + b v + eps, everything Gaussian."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.stats import multivariate_normal

from hepdecorr.validation.measures.code_evaluation import Truth
from hepdecorr.validation.measures.codes import Inferred, Normal

A, B, NOISE = 1.5, 1.0, 0.6
TAU2 = B**2 + NOISE**2  # variance of x within a group


class Sample(NamedTuple):
    x: np.ndarray
    group: np.ndarray
    u: np.ndarray
    v: np.ndarray

    @property
    def truth(self) -> Truth:
        return Truth(self.u, self.v, ("u",), ("v",), lambda u, v: A * u + B * v)


def drawn(groups: int, *, seed: int = 0, size: int | None = None) -> Sample:
    random = np.random.default_rng(seed)
    counts = np.full(groups, size) if size else 3 + random.poisson(5, groups)
    group = np.repeat(np.arange(groups), counts)
    u, v = random.standard_normal((groups, 1)), random.standard_normal((len(group), 1))
    return Sample(A * u[group] + B * v + NOISE * random.standard_normal(v.shape), group, u, v)


def variance_of_u(counts: np.ndarray) -> np.ndarray:
    """Of the exact posterior of u, given so many events."""
    return 1 / (1 + counts * A**2 / TAU2)


def exact(sample: Sample, **changed) -> Inferred:
    """A tagger whose posteriors and decoder are those of the model."""
    counts = np.bincount(sample.group)
    var = variance_of_u(counts)
    mean = var * A / TAU2 * np.bincount(sample.group, sample.x[:, 0])
    own = {
        "x": sample.x,
        "group": sample.group,
        "code": Normal(mean[:, None], np.log(var)[:, None]),
        "encode": lambda rows, u: Normal(
            B * (sample.x[rows] - A * u) / TAU2, np.full((len(rows), 1), np.log(NOISE**2 / TAU2))
        ),
        "decode": lambda u, v: A * u + B * v,
        "variance": np.array([NOISE**2]),
    }
    return Inferred(**{**own, **changed})


def log_likelihoods(sample: Sample) -> np.ndarray:
    """Of each group, by the multivariate Gaussian."""
    found = []
    for x in np.split(sample.x[:, 0], np.cumsum(np.bincount(sample.group))[:-1]):
        covariance = TAU2 * np.eye(len(x)) + A**2
        found.append(multivariate_normal(np.zeros(len(x)), covariance).logpdf(x))
    return np.array(found)
