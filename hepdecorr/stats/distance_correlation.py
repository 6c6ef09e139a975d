"""Weighted sums of distances, and of products of distances, over all pairs in O(n log n).

The products follow Huo and Szekely, Technometrics 58 (2016) 435: sort one variable, keep prefix sums of the
other in a binary indexed tree.

Dependence of two variables as one number: the unbiased squared distance correlation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from hepdecorr.errors import InputError
from hepdecorr.stats.arrays import validate_arrays
from hepdecorr.stats.results import ONE_SIGMA, Array, Estimate, Indices, ResultRecord


def weighted_distance_sums(x: Array, weight: Array) -> Array:
    """sum_j v_j |x_i - x_j| for every event i; (events,)."""
    order = np.argsort(x)
    sorted_x, sorted_v = x[order], weight[order]
    below = np.cumsum(sorted_v)
    moment = np.cumsum(sorted_v * sorted_x)
    sums = np.empty_like(sorted_x)
    sums[order] = sorted_x * (2 * below - below[-1]) - (2 * moment - moment[-1])
    return sums


def weighted_squared_distance_sums(x: Array, weight: Array) -> Array:
    """sum_j v_j (x_i - x_j)^2 for every event i; (events,)."""
    return np.asarray(np.square(x) * weight.sum() - 2 * x * (weight @ x) + weight @ np.square(x))


def weighted_distance_products(x: Array, z: Array, weight: Array) -> Array:
    """sum_j v_j |x_i - x_j| |z_i - z_j| for every event i; (events,)."""
    order = np.argsort(x)
    # Tied values may share a place or not: their distance is zero either way.
    place = np.empty(len(z), dtype=np.int64)
    place[np.argsort(z)] = np.arange(1, len(z) + 1)
    return _accumulate_products(order, place, x, z, weight)


@numba.njit(cache=True)
def _accumulate_products(order: Indices, rank: Indices, x: Array, z: Array, weight: Array) -> Array:
    events = len(x)
    sums = np.zeros(events)
    for direction in range(2):
        tree = np.zeros((events + 1, 4))
        total = np.zeros(4)
        for step in range(events):
            i = order[step] if direction == 0 else order[events - 1 - step]
            below = np.zeros(4)
            node = rank[i]
            while node > 0:
                below += tree[node]
                node -= node & -node
            # 2 * (those with smaller z) - (all) = the sum with |z_i - z_j|.
            part = 2 * below - total
            signed = part[0] * x[i] * z[i] - part[1] * z[i] - part[2] * x[i] + part[3]
            sums[i] += signed if direction == 0 else -signed
            own = np.array([weight[i], weight[i] * x[i], weight[i] * z[i], weight[i] * x[i] * z[i]])
            total += own
            node = rank[i]
            while node <= events:
                tree[node] += own
                node += node & -node
    return sums


@dataclass(frozen=True)
class DistanceCorrelation(ResultRecord):
    """Unbiased squared distance correlation of all events, with a test on a random part of them."""

    dcor2: Estimate  # about zero, of either sign, for independent variables
    p_value: float  # against independence, by permutation of `tested` events
    events: int
    num_tested: int
    permutations: int
    seed: int


def dcor2(
    x: npt.ArrayLike,
    z: npt.ArrayLike,
    *,
    weight: npt.ArrayLike | None = None,
    permutations: int = 500,
    max_tested: int = 10_000,
    seed: int = 0,
) -> DistanceCorrelation:
    """Unbiased squared distance correlation of x and z, its error, and a permutation test.

    x, z, weight: (events,). The value uses every event in O(n log n). Without weights it is the U-centred
    estimator (Szekely, Rizzo, Ann. Statist. 42 (2014) 2382, eqs. 2.2, 3.1); with weights the same sums over
    distinct events, each event counting with its weight. The test permutes x against (z, w) on at most
    `tested` events. The error joins the linear term (delta method) and the spread of the permutations, which
    is all there is at independence. InputError for fewer than four events or a constant variable.
    """
    a, b, w = validate_arrays(weight, x=x, z=z)
    for name, values in (("x", a), ("z", b)):
        if len(values) < 4 or np.ptp(values) == 0:
            raise InputError(
                f"dcor2: {name} is constant or has fewer than four values; distance correlation needs spread"
            )
    # Centred and scaled, so that the sums of products do not cancel; the correlation does not change.
    a, b, share = (a - a.mean()) / a.std(), (b - b.mean()) / b.std(), w / w.sum()
    pairs = _compute_pair_sums(a, b, share)
    value = _unbiased_correlation(pairs, share)
    random = np.random.default_rng(seed)
    part = random.choice(len(a), size=min(max_tested, len(a)), replace=False)
    observed, null = _permutation_test(
        a[part], b[part], w[part], num_permutations=permutations, random=random
    )
    spread = float(np.std(null)) * _inverse_effective_count(w) / _inverse_effective_count(w[part])
    std = math.hypot(_delta_method_error(a, b, pairs, share), spread)
    beyond = int(np.count_nonzero(null >= observed))
    return DistanceCorrelation(
        dcor2=Estimate(value, value - std, value + std, std, ONE_SIGMA),
        p_value=(1 + beyond) / (1 + permutations),
        events=len(a),
        num_tested=len(part),
        permutations=permutations,
        seed=seed,
    )


def unbiased_dcor2(x: npt.ArrayLike, z: npt.ArrayLike, weight: npt.ArrayLike) -> float:
    """The estimate of `dcor2` alone, without its error and its test; 0 where a variable is constant."""
    a, b, w = validate_arrays(weight, x=x, z=z)
    if len(a) < 4 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return 0.0
    share = w / w.sum()
    return _unbiased_correlation(
        _compute_pair_sums((a - a.mean()) / a.std(), (b - b.mean()) / b.std(), share), share
    )


def _inverse_effective_count(weight: Array) -> float:
    return float(np.square(weight).sum() / weight.sum() ** 2)


class _PairSums(NamedTuple):
    """Sums over j of w_j a_ij b_ij, w_j^2 a_ij b_ij, w_j a_ij, w_j b_ij for every i; a, b are distances."""

    products: Array
    squared_weight_products: Array
    left_distances: Array
    right_distances: Array


def _compute_pair_sums(x: Array, z: Array, w: Array) -> tuple[_PairSums, _PairSums, _PairSums]:
    """The sums for (x, z), (x, x) and (z, z); the weights sum to one."""
    left, right = weighted_distance_sums(x, w), weighted_distance_sums(z, w)
    together = weighted_distance_products(x, z, w)
    # With equal weights the second tree would repeat the first.
    squares = together * w[0] if np.ptp(w) == 0 else weighted_distance_products(x, z, w**2)
    return (
        _PairSums(together, squares, left, right),
        _PairSums(weighted_squared_distance_sums(x, w), weighted_squared_distance_sums(x, w**2), left, left),
        _PairSums(
            weighted_squared_distance_sums(z, w), weighted_squared_distance_sums(z, w**2), right, right
        ),
    )


def _unbiased_covariance(pair_sums: _PairSums, w: Array) -> float:
    """Unbiased squared distance covariance: sums over distinct events, so that no event meets itself."""
    one, two, three, four = (float(np.sum(w**power)) for power in (1, 2, 3, 4))
    pairs = one**2 - two
    triples = one**3 - 3 * one * two + 2 * three
    quadruples = one**4 - 6 * one**2 * two + 3 * two**2 + 8 * one * three - 6 * four
    shared = pair_sums.left_distances * pair_sums.right_distances - pair_sums.squared_weight_products
    apart = (
        float(w @ pair_sums.left_distances) * float(w @ pair_sums.right_distances)
        - 4 * float(np.square(w) @ shared)
        - 2 * float(np.square(w) @ pair_sums.squared_weight_products)
    )
    return float(w @ pair_sums.products) / pairs - 2 * float(w @ shared) / triples + apart / quadruples


def _unbiased_correlation(pair_sums: tuple[_PairSums, _PairSums, _PairSums], w: Array) -> float:
    covariance, x_variance, z_variance = (_unbiased_covariance(pair, w) for pair in pair_sums)
    product = x_variance * z_variance
    return covariance / math.sqrt(product) if product > 0 else 0.0


def _delta_method_error(
    x: Array, z: Array, pair_sums: tuple[_PairSums, _PairSums, _PairSums], w: Array
) -> float:
    """Error from every event's influence, 2 (E_j[A_ij B_ij] - dCov^2), A and B doubly centred distances."""
    xz, xx, zz = (
        _centred_product_sums(*columns, w) for columns in zip((x, x, z), (z, x, z), pair_sums, strict=True)
    )
    c, vx, vz = w @ xz, w @ xx, w @ zz
    influence = 2 * ((xz - c) / math.sqrt(vx * vz) - c / math.sqrt(vx * vz) / 2 * (xx / vx + zz / vz - 2))
    return float(np.sqrt(np.sum(np.square(w * influence))))


def _centred_product_sums(x: Array, z: Array, pair_sums: _PairSums, w: Array) -> Array:
    """sum_j w_j A_ij B_ij for every event i; the w sum to one, and rows of A and B then sum to zero."""
    left, right = pair_sums.left_distances, pair_sums.right_distances
    a, b = w @ left, w @ right
    crossed = weighted_distance_sums(x, w * right) + weighted_distance_sums(z, w * left)
    return np.asarray(
        pair_sums.products - crossed - left * right + left * b + right * a + w @ (left * right) - a * b
    )


def _permutation_test(
    x: Array, z: Array, w: Array, *, num_permutations: int, random: np.random.Generator
) -> tuple[float, Array]:
    w = w / w.sum()
    observed = _unbiased_correlation(_compute_pair_sums(x, z, w), w)
    null = np.empty(num_permutations)
    for draw in range(num_permutations):
        shuffled = random.permutation(x)
        null[draw] = _unbiased_correlation(_compute_pair_sums(shuffled, z, w), w)
    return observed, null
