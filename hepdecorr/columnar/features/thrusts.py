r"""Thrust: T = max_n sum_i |p_i . n| / sum_i |p_i| (E. Farhi, Phys. Rev. Lett. 39 (1977) 1587).

The maximum is exact, not iterated to: the best axis is the sum of the momenta with the signs that some
plane through the origin gives them, and that plane can be turned until it holds two of the momenta, so it is
enough to look at every pair (S. Brandt and H. D. Dahmen, Z. Phys. C 1 (1979) 61).  This is n^3 steps; at the
dozen particles of an Upsilon(4S) event nothing cleverer is faster.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from hepdecorr.columnar.features.branches import Floats, Ints
from hepdecorr.columnar.features.particles import DAUGHTERS, kaon, particles, photon, pion
from hepdecorr.columnar.features.sharing import feature, intermediate
from hepdecorr.compiled import compiled

# Below this (relative) a momentum lies in the plane of the pair, or along another: rounding must not choose
# its side.
FLAT = 1e-12


class Thrust(NamedTuple):
    """Thrust value, shape (events,), and axis, shape (events, 3) (zero where there is no momentum)."""

    value: Floats
    axis: Floats


@feature(title=r"$T_B$")
def thrust_b(events: Any) -> Floats:
    """Thrust of the candidate's K, pi and photon in the CM frame; 0 if all are at rest."""
    return candidate_thrust(events).value


@feature(title=r"$T_O$")
def thrust_o(events: Any) -> Floats:
    """Thrust of the rest of the event in the CM frame; 0 if it is empty, 1 for one particle."""
    return rest_thrust(events).value


@feature(title=r"$T$")
def thrust_all(events: Any) -> Floats:
    """Thrust of all particles in the CM frame."""
    return _thrust(events, skip=0).value


@feature(title=r"$|\cos\theta_{TBTO}|$")
def cos_tbto(events: Any) -> Floats:
    """|cos| of the angle between the thrust axes of candidate and rest of event; 0 if the rest is empty.

    Flat for B decays, peaked at 1 for jets (The Physics of the B Factories, Eur. Phys. J. C 74 (2014) 3026,
    chapter 9).
    """
    return _cosine((candidate_thrust(events).axis * rest_thrust(events).axis).sum(axis=1))


@feature(title=r"$|\cos\theta_{TBz}|$")
def cos_tbz(events: Any) -> Floats:
    """|cos| of the angle between the candidate's thrust axis and z."""
    return _cosine(candidate_thrust(events).axis[:, 2])


@feature(title=r"$|\cos\theta_{TOz}|$")
def cos_toz(events: Any) -> Floats:
    """|cos| of the angle between the thrust axis of the rest of the event and z; 0 if the rest is empty."""
    return _cosine(rest_thrust(events).axis[:, 2])


@intermediate
def candidate_thrust(events: Any) -> Thrust:
    """Thrust of K, pi and photon."""
    three = np.stack([kaon(events), pion(events), photon(events)], axis=1)
    flat = np.ascontiguousarray(three[:, :, :3].reshape(-1, 3).T)
    return _run(flat[0], flat[1], flat[2], DAUGHTERS * np.arange(len(three) + 1), skip=0)


@intermediate
def rest_thrust(events: Any) -> Thrust:
    """Thrust of all but K, pi and photon."""
    return _thrust(events, skip=DAUGHTERS)


def _thrust(events: Any, *, skip: int) -> Thrust:
    everything = particles(events)
    return _run(everything.x, everything.y, everything.z, everything.start, skip=skip)


def _cosine(values: Floats) -> Floats:
    return np.minimum(np.abs(values), 1.0)


def _run(x: Floats, y: Floats, z: Floats, start: Ints, *, skip: int) -> Thrust:
    out = np.empty((len(start) - 1, 4))
    most = int(np.diff(start).max(initial=0))
    _thrusts(x, y, z, start, skip, np.empty((4, most)), out)
    return Thrust(out[:, 0], out[:, 1:])


@compiled
def _thrusts(x: Floats, y: Floats, z: Floats, start: Ints, skip: int, work: Floats, out: Floats) -> None:
    for i in range(len(out)):
        total = 0.0
        n = 0
        for k in range(start[i] + skip, start[i + 1]):
            p = math.sqrt(x[k] * x[k] + y[k] * y[k] + z[k] * z[k])
            if p > 0.0:
                work[0, n], work[1, n], work[2, n], work[3, n] = x[k], y[k], z[k], p
                total += p
                n += 1
        out[i, :] = 0.0
        if n == 0:
            continue
        for k in range(n):
            # as shares of the sum: no under- or overflow below
            work[:, k] /= total
        sx, sy, sz = _best_sum(work[0], work[1], work[2], work[3], n)
        best = math.sqrt(sx * sx + sy * sy + sz * sz)
        out[i, 0] = min(best, 1.0)
        out[i, 1], out[i, 2], out[i, 3] = sx / best, sy / best, sz / best


@compiled
def _best_sum(x: Floats, y: Floats, z: Floats, p: Floats, n: int) -> tuple[float, float, float]:
    """The longest sum of +-p_k."""
    # Signs by the first particle's hemisphere: the answer if all lie on one line, where no pair has a plane.
    ax, ay, az = x[0], y[0], z[0]
    for k in range(1, n):
        s = math.copysign(1.0, x[0] * x[k] + y[0] * y[k] + z[0] * z[k])
        ax, ay, az = ax + s * x[k], ay + s * y[k], az + s * z[k]
    best = ax * ax + ay * ay + az * az
    for i in range(n - 1):
        for j in range(i + 1, n):
            nx, ny, nz = y[i] * z[j] - z[i] * y[j], z[i] * x[j] - x[i] * z[j], x[i] * y[j] - y[i] * x[j]
            limit = FLAT * p[i] * p[j]
            if nx * nx + ny * ny + nz * nz <= limit * limit:
                continue
            ox, oy, oz, inside = 0.0, 0.0, 0.0, 0.0
            for k in range(n):
                d = nx * x[k] + ny * y[k] + nz * z[k]
                side = (1.0 if d > limit * p[k] else 0.0) - (1.0 if d < -limit * p[k] else 0.0)
                ox, oy, oz = ox + side * x[k], oy + side * y[k], oz + side * z[k]
                inside += 1.0 - abs(side)
            ix, iy, iz, jx, jy, jz = x[i], y[i], z[i], x[j], y[j], z[j]
            if inside > 2.5:
                ix, iy, iz, jx, jy, jz = _in_plane(x, y, z, p, n, i, nx, ny, nz, limit)
            for s in (1.0, -1.0):
                ux, uy, uz = ix + s * jx, iy + s * jy, iz + s * jz
                for t in (1.0, -1.0):
                    vx, vy, vz = ox + t * ux, oy + t * uy, oz + t * uz
                    v = vx * vx + vy * vy + vz * vz
                    if v > best:
                        best, ax, ay, az = v, vx, vy, vz
    return ax, ay, az


@compiled
def _in_plane(
    x: Floats, y: Floats, z: Floats, p: Floats, n: int, i: int, nx: float, ny: float, nz: float, limit: float
) -> tuple[float, float, float, float, float, float]:
    """More than two momenta lie in the plane with normal n: split them by the line along p_i.

    Returns the sum along the line and the sum of the two sides, one of them turned round.  Every such line is
    tried, as every particle but one comes first in some pair.
    """
    normal = math.sqrt(nx * nx + ny * ny + nz * nz)
    lx, ly, lz, hx, hy, hz = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for k in range(n):
        if abs(nx * x[k] + ny * y[k] + nz * z[k]) > limit * p[k]:
            continue
        cx, cy, cz = y[i] * z[k] - z[i] * y[k], z[i] * x[k] - x[i] * z[k], x[i] * y[k] - y[i] * x[k]
        height = nx * cx + ny * cy + nz * cz
        if abs(height) <= FLAT * p[i] * p[k] * normal:
            s = math.copysign(1.0, x[i] * x[k] + y[i] * y[k] + z[i] * z[k])
            lx, ly, lz = lx + s * x[k], ly + s * y[k], lz + s * z[k]
        else:
            s = math.copysign(1.0, height)
            hx, hy, hz = hx + s * x[k], hy + s * y[k], hz + s * z[k]
    return lx, ly, lz, hx, hy, hz
