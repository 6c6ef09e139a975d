"""Monotone dependence of two variables as one number: Spearman's rank correlation."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hepdecorr.errors import InputError
from hepdecorr.validation.measures.events import checked
from hepdecorr.validation.measures.numbers import ONE_SIGMA, Array, Indices, Measured

REPLICAS = 200


def rank_correlation(
    x: npt.ArrayLike,
    z: npt.ArrayLike,
    *,
    weight: npt.ArrayLike | None = None,
    replicas: int = REPLICAS,
    seed: int = 0,
) -> Measured:
    """Spearman's correlation of x and z, ties sharing their rank, with the error of a Poisson bootstrap.

    x, z, weight: (events,). The correlation of the weighted ranks (Spearman, Am. J. Psychol. 15 (1904) 72):
    an event's rank is the weight below it and half of that beside it. InputError for fewer than three
    events or a constant variable.
    """
    a, b, w = checked(weight, x=x, z=z)
    for name, values in (("x", a), ("z", b)):
        if len(values) < 3 or np.ptp(values) == 0:
            raise InputError(f"rank_correlation: {name} is constant or has fewer than three values")
    first, second = (np.unique(values, return_inverse=True)[1].astype(np.int64) for values in (a, b))
    value = _correlation(first, second, w)
    random = np.random.default_rng(seed)
    draws = [_correlation(first, second, w * random.poisson(1.0, len(w))) for _ in range(replicas)]
    finite = [one for one in draws if np.isfinite(one)]
    std = float(np.std(finite)) if finite else float("nan")
    return Measured(value, max(value - std, -1.0), min(value + std, 1.0), std, ONE_SIGMA)


def _correlation(x: Indices, z: Indices, w: Array) -> float:
    a, b = (_ranks(place, w) for place in (x, z))
    share = w / w.sum()
    a, b = a - share @ a, b - share @ b
    # Not finite where all that was drawn is one and the same.
    with np.errstate(invalid="ignore", divide="ignore"):
        return float((share * a) @ b / np.sqrt(((share * a) @ a) * ((share * b) @ b)))


def _ranks(place: Indices, w: Array) -> Array:
    """Of every event the weight below it, and half of the weight at its own place."""
    here = np.bincount(place, weights=w)
    return np.asarray((np.cumsum(here) - here / 2)[place])
