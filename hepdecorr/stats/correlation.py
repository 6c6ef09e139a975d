"""Monotone dependence of two variables as one number: Spearman's rank correlation."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hepdecorr.errors import InputError
from hepdecorr.stats.arrays import validate_arrays
from hepdecorr.stats.results import ONE_SIGMA, Array, Estimate, Indices

NUM_REPLICAS = 200


def rank_correlation(
    x: npt.ArrayLike,
    z: npt.ArrayLike,
    *,
    weight: npt.ArrayLike | None = None,
    replicas: int = NUM_REPLICAS,
    seed: int = 0,
) -> Estimate:
    """Spearman's correlation of x and z, ties sharing their rank, with the error of a Poisson bootstrap.

    x, z, weight: (events,). The correlation of the weighted ranks (Spearman, Am. J. Psychol. 15 (1904) 72):
    an event's rank is the weight below it and half of that beside it. InputError for fewer than three
    events or a constant variable.
    """
    a, b, w = validate_arrays(weight, x=x, z=z)
    for name, values in (("x", a), ("z", b)):
        if len(values) < 3 or np.ptp(values) == 0:
            raise InputError(f"rank_correlation: {name} is constant or has fewer than three values")
    first, second = (np.unique(values, return_inverse=True)[1].astype(np.int64) for values in (a, b))
    value = _weighted_spearman(first, second, w)
    random = np.random.default_rng(seed)
    draws = [_weighted_spearman(first, second, w * random.poisson(1.0, len(w))) for _ in range(replicas)]
    finite = [one for one in draws if np.isfinite(one)]
    std = float(np.std(finite)) if finite else float("nan")
    return Estimate(value, max(value - std, -1.0), min(value + std, 1.0), std, ONE_SIGMA)


def _weighted_spearman(x: Indices, z: Indices, w: Array) -> float:
    a, b = (_weighted_midranks(place, w) for place in (x, z))
    share = w / w.sum()
    a, b = a - share @ a, b - share @ b
    # Not finite where all that was drawn is one and the same.
    with np.errstate(invalid="ignore", divide="ignore"):
        return float((share * a) @ b / np.sqrt(((share * a) @ a) * ((share * b) @ b)))


def _weighted_midranks(value_index: Indices, w: Array) -> Array:
    """Of every event the weight below it, and half of the weight at its own place."""
    here = np.bincount(value_index, weights=w)
    return np.asarray((np.cumsum(here) - here / 2)[value_index])
