"""Weighted sums of distances, and of products of distances, over all pairs in O(n log n).

The products follow Huo and Szekely, Technometrics 58 (2016) 435: sort one variable, keep prefix sums of the
other in a binary indexed tree.
"""

from __future__ import annotations

import numba
import numpy as np

from hepdecorr.validation.measures.numbers import Array, Indices


def distances(x: Array, v: Array) -> Array:
    """sum_j v_j |x_i - x_j| for every event i; (events,)."""
    order = np.argsort(x)
    sorted_x, sorted_v = x[order], v[order]
    below = np.cumsum(sorted_v)
    moment = np.cumsum(sorted_v * sorted_x)
    sums = np.empty_like(sorted_x)
    sums[order] = sorted_x * (2 * below - below[-1]) - (2 * moment - moment[-1])
    return sums


def squared_distances(x: Array, v: Array) -> Array:
    """sum_j v_j (x_i - x_j)^2 for every event i; (events,)."""
    return np.asarray(np.square(x) * v.sum() - 2 * x * (v @ x) + v @ np.square(x))


def products(x: Array, z: Array, v: Array) -> Array:
    """sum_j v_j |x_i - x_j| |z_i - z_j| for every event i; (events,)."""
    order = np.argsort(x)
    # Tied values may share a place or not: their distance is zero either way.
    place = np.empty(len(z), dtype=np.int64)
    place[np.argsort(z)] = np.arange(1, len(z) + 1)
    return _products(order, place, x, z, v)


@numba.njit(cache=True)
def _products(order: Indices, place: Indices, x: Array, z: Array, v: Array) -> Array:
    events = len(x)
    sums = np.zeros(events)
    for direction in range(2):
        tree = np.zeros((events + 1, 4))
        total = np.zeros(4)
        for step in range(events):
            i = order[step] if direction == 0 else order[events - 1 - step]
            below = np.zeros(4)
            node = place[i]
            while node > 0:
                below += tree[node]
                node -= node & -node
            # 2 * (those with smaller z) - (all) = the sum with |z_i - z_j|.
            part = 2 * below - total
            signed = part[0] * x[i] * z[i] - part[1] * z[i] - part[2] * x[i] + part[3]
            sums[i] += signed if direction == 0 else -signed
            own = np.array([v[i], v[i] * x[i], v[i] * z[i], v[i] * x[i] * z[i]])
            total += own
            node = place[i]
            while node <= events:
                tree[node] += own
                node += node & -node
    return sums
