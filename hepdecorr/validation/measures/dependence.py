"""Dependence of two variables as one number: the unbiased squared distance correlation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hepdecorr.errors import InputError
from hepdecorr.validation.measures.distances import distances, products, squared_distances
from hepdecorr.validation.measures.events import checked
from hepdecorr.validation.measures.numbers import ONE_SIGMA, Array, Measured, Record


@dataclass(frozen=True)
class DistanceCorrelation(Record):
    """Unbiased squared distance correlation of all events, with a test on a random part of them."""

    dcor2: Measured  # about zero, of either sign, for independent variables
    p_value: float  # against independence, by permutation of `tested` events
    events: int
    tested: int
    permutations: int
    seed: int


def dcor2(
    x: npt.ArrayLike,
    z: npt.ArrayLike,
    *,
    weight: npt.ArrayLike | None = None,
    permutations: int = 500,
    tested: int = 10_000,
    seed: int = 0,
) -> DistanceCorrelation:
    """Unbiased squared distance correlation of x and z, its error, and a permutation test.

    x, z, weight: (events,). The value uses every event in O(n log n). Without weights it is the U-centred
    estimator (Szekely, Rizzo, Ann. Statist. 42 (2014) 2382, eqs. 2.2, 3.1); with weights the same sums over
    distinct events, each event counting with its weight. The test permutes x against (z, w) on at most
    `tested` events. The error joins the linear term (delta method) and the spread of the permutations, which
    is all there is at independence. InputError for fewer than four events or a constant variable.
    """
    a, b, w = checked(weight, x=x, z=z)
    for name, values in (("x", a), ("z", b)):
        if len(values) < 4 or np.ptp(values) == 0:
            raise InputError(
                f"dcor2: {name} is constant or has fewer than four values; distance correlation needs spread"
            )
    # Centred and scaled, so that the sums of products do not cancel; the correlation does not change.
    a, b, share = (a - a.mean()) / a.std(), (b - b.mean()) / b.std(), w / w.sum()
    pairs = _pairs(a, b, share)
    value = _correlation(pairs, share)
    random = np.random.default_rng(seed)
    part = random.choice(len(a), size=min(tested, len(a)), replace=False)
    observed, null = _permuted(a[part], b[part], w[part], size=permutations, random=random)
    spread = float(np.std(null)) * _errors(w) / _errors(w[part])
    std = math.hypot(_linear_error(a, b, pairs, share), spread)
    beyond = int(np.count_nonzero(null >= observed))
    return DistanceCorrelation(
        dcor2=Measured(value, value - std, value + std, std, ONE_SIGMA),
        p_value=(1 + beyond) / (1 + permutations),
        events=len(a),
        tested=len(part),
        permutations=permutations,
        seed=seed,
    )


def unbiased_dcor2(x: npt.ArrayLike, z: npt.ArrayLike, weight: npt.ArrayLike) -> float:
    """The estimate of `dcor2` alone, without its error and its test; 0 where a variable is constant."""
    a, b, w = checked(weight, x=x, z=z)
    if len(a) < 4 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return 0.0
    share = w / w.sum()
    return _correlation(_pairs((a - a.mean()) / a.std(), (b - b.mean()) / b.std(), share), share)


def _errors(weight: Array) -> float:
    return float(np.square(weight).sum() / weight.sum() ** 2)


class _Pair(NamedTuple):
    """Sums over j of w_j a_ij b_ij, w_j^2 a_ij b_ij, w_j a_ij, w_j b_ij for every i; a, b are distances."""

    products: Array
    product_squares: Array
    left: Array
    right: Array


def _pairs(x: Array, z: Array, w: Array) -> tuple[_Pair, _Pair, _Pair]:
    """The sums for (x, z), (x, x) and (z, z); the weights sum to one."""
    left, right = distances(x, w), distances(z, w)
    together = products(x, z, w)
    # With equal weights the second tree would repeat the first.
    squares = together * w[0] if np.ptp(w) == 0 else products(x, z, w**2)
    return (
        _Pair(together, squares, left, right),
        _Pair(squared_distances(x, w), squared_distances(x, w**2), left, left),
        _Pair(squared_distances(z, w), squared_distances(z, w**2), right, right),
    )


def _covariance(pair: _Pair, w: Array) -> float:
    """Unbiased squared distance covariance: sums over distinct events, so that no event meets itself."""
    one, two, three, four = (float(np.sum(w**power)) for power in (1, 2, 3, 4))
    pairs = one**2 - two
    triples = one**3 - 3 * one * two + 2 * three
    quadruples = one**4 - 6 * one**2 * two + 3 * two**2 + 8 * one * three - 6 * four
    shared = pair.left * pair.right - pair.product_squares
    apart = (
        float(w @ pair.left) * float(w @ pair.right)
        - 4 * float(np.square(w) @ shared)
        - 2 * float(np.square(w) @ pair.product_squares)
    )
    return float(w @ pair.products) / pairs - 2 * float(w @ shared) / triples + apart / quadruples


def _correlation(pairs: tuple[_Pair, _Pair, _Pair], w: Array) -> float:
    covariance, x_variance, z_variance = (_covariance(pair, w) for pair in pairs)
    product = x_variance * z_variance
    return covariance / math.sqrt(product) if product > 0 else 0.0


def _linear_error(x: Array, z: Array, pairs: tuple[_Pair, _Pair, _Pair], w: Array) -> float:
    """Error from every event's influence, 2 (E_j[A_ij B_ij] - dCov^2), A and B doubly centred distances."""
    xz, xx, zz = (_centred(*columns, w) for columns in zip((x, x, z), (z, x, z), pairs, strict=True))
    c, vx, vz = w @ xz, w @ xx, w @ zz
    influence = 2 * ((xz - c) / math.sqrt(vx * vz) - c / math.sqrt(vx * vz) / 2 * (xx / vx + zz / vz - 2))
    return float(np.sqrt(np.sum(np.square(w * influence))))


def _centred(x: Array, z: Array, pair: _Pair, w: Array) -> Array:
    """sum_j w_j A_ij B_ij for every event i; the w sum to one, and rows of A and B then sum to zero."""
    left, right = pair.left, pair.right
    a, b = w @ left, w @ right
    crossed = distances(x, w * right) + distances(z, w * left)
    return np.asarray(
        pair.products - crossed - left * right + left * b + right * a + w @ (left * right) - a * b
    )


def _permuted(x: Array, z: Array, w: Array, *, size: int, random: np.random.Generator) -> tuple[float, Array]:
    w = w / w.sum()
    observed = _correlation(_pairs(x, z, w), w)
    null = np.empty(size)
    for draw in range(size):
        shuffled = random.permutation(x)
        null[draw] = _correlation(_pairs(shuffled, z, w), w)
    return observed, null
