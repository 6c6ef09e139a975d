"""Thrust: T = max_n sum_i |p_i . n| / sum_i |p_i| (E. Farhi, Phys. Rev. Lett. 39 (1977) 1587).

The maximum is exact, not iterated to: the best axis is the sum of the momenta with the signs that some
plane through the origin gives them, and that plane can be turned until it holds two of the momenta, so it is
enough to look at every pair (S. Brandt and H. D. Dahmen, Z. Phys. C 1 (1979) 61).  This is n^3 steps; at the
dozen particles of an Upsilon(4S) event nothing cleverer is faster.

Sphericity and aplanarity, from the eigenvalues l1 >= l2 >= l3 of sum_i p_i p_i^T / sum_i p_i^2.

J. D. Bjorken and S. J. Brodsky, Phys. Rev. D 1 (1970) 1416: S = 3/2 (l2 + l3), from 0 (two jets) to
1 (isotropic); A = 3/2 l3, from 0 (flat) to 1/2.

Fox-Wolfram moments: H_l = sum_ij |p_i| |p_j| P_l(cos theta_ij), R_l = H_l / H_0.

G. C. Fox and S. Wolfram, Phys. Rev. Lett. 41 (1978) 1581, with momenta in the place of energies as at
the B factories.  The sum runs over all ordered pairs, each particle with itself included, so that 0 <= R_l
<= 1: two back-to-back particles of one momentum have R_1 = R_3 = 0 and R_2 = R_4 = 1.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from hepdecorr._numba import cached_njit
from hepdecorr.columnar.features.b_candidate import (
    NUM_DAUGHTERS,
    cm_particles,
    kaon_momentum,
    photon_momentum,
    pion_momentum,
)
from hepdecorr.columnar.features.branches import Floats, Ints
from hepdecorr.columnar.features.registry import cached, feature

# Below this (relative) a momentum lies in the plane of the pair, or along another: rounding must not choose
# its side.
COPLANAR_TOLERANCE = 1e-12


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
    return _thrust_without_first(events, skip=0).value


@feature(title=r"$|\cos\theta_{TBTO}|$")
def cos_tbto(events: Any) -> Floats:
    """|cos| of the angle between the thrust axes of candidate and rest of event; 0 if the rest is empty.

    Flat for B decays, peaked at 1 for jets (The Physics of the B Factories, Eur. Phys. J. C 74 (2014) 3026,
    chapter 9).
    """
    return _absolute_cosine((candidate_thrust(events).axis * rest_thrust(events).axis).sum(axis=1))


@feature(title=r"$|\cos\theta_{TBz}|$")
def cos_tbz(events: Any) -> Floats:
    """|cos| of the angle between the candidate's thrust axis and z."""
    return _absolute_cosine(candidate_thrust(events).axis[:, 2])


@feature(title=r"$|\cos\theta_{TOz}|$")
def cos_toz(events: Any) -> Floats:
    """|cos| of the angle between the thrust axis of the rest of the event and z; 0 if the rest is empty."""
    return _absolute_cosine(rest_thrust(events).axis[:, 2])


@cached
def candidate_thrust(events: Any) -> Thrust:
    """Thrust of K, pi and photon."""
    three = np.stack([kaon_momentum(events), pion_momentum(events), photon_momentum(events)], axis=1)
    flat = np.ascontiguousarray(three[:, :, :3].reshape(-1, 3).T)
    return _compute_thrust(flat[0], flat[1], flat[2], NUM_DAUGHTERS * np.arange(len(three) + 1), skip=0)


@cached
def rest_thrust(events: Any) -> Thrust:
    """Thrust of all but K, pi and photon."""
    return _thrust_without_first(events, skip=NUM_DAUGHTERS)


def _thrust_without_first(events: Any, *, skip: int) -> Thrust:
    everything = cm_particles(events)
    return _compute_thrust(everything.x, everything.y, everything.z, everything.start, skip=skip)


def _absolute_cosine(values: Floats) -> Floats:
    return np.minimum(np.abs(values), 1.0)


def _compute_thrust(x: Floats, y: Floats, z: Floats, start: Ints, *, skip: int) -> Thrust:
    out = np.empty((len(start) - 1, 4))
    most = int(np.diff(start).max(initial=0))
    _fill_thrusts(x, y, z, start, skip, np.empty((4, most)), out)
    return Thrust(out[:, 0], out[:, 1:])


@cached_njit
def _fill_thrusts(x: Floats, y: Floats, z: Floats, start: Ints, skip: int, work: Floats, out: Floats) -> None:
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
        sx, sy, sz = _longest_signed_sum(work[0], work[1], work[2], work[3], n)
        best = math.sqrt(sx * sx + sy * sy + sz * sz)
        out[i, 0] = min(best, 1.0)
        out[i, 1], out[i, 2], out[i, 3] = sx / best, sy / best, sz / best


@cached_njit
def _longest_signed_sum(x: Floats, y: Floats, z: Floats, p: Floats, n: int) -> tuple[float, float, float]:
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
            limit = COPLANAR_TOLERANCE * p[i] * p[j]
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
                ix, iy, iz, jx, jy, jz = _split_coplanar(x, y, z, p, n, i, nx, ny, nz, limit)
            for s in (1.0, -1.0):
                ux, uy, uz = ix + s * jx, iy + s * jy, iz + s * jz
                for t in (1.0, -1.0):
                    vx, vy, vz = ox + t * ux, oy + t * uy, oz + t * uz
                    v = vx * vx + vy * vy + vz * vz
                    if v > best:
                        best, ax, ay, az = v, vx, vy, vz
    return ax, ay, az


@cached_njit
def _split_coplanar(
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
        if abs(height) <= COPLANAR_TOLERANCE * p[i] * p[k] * normal:
            s = math.copysign(1.0, x[i] * x[k] + y[i] * y[k] + z[i] * z[k])
            lx, ly, lz = lx + s * x[k], ly + s * y[k], lz + s * z[k]
        else:
            s = math.copysign(1.0, height)
            hx, hy, hz = hx + s * x[k], hy + s * y[k], hz + s * z[k]
    return lx, ly, lz, hx, hy, hz


@feature(title=r"$S$")
def sphericity(events: Any) -> Floats:
    """Sphericity of all particles in the CM frame; 0 if all are at rest."""
    lower = momentum_tensor_eigenvalues(events, 0)
    return 1.5 * (lower[:, 0] + lower[:, 1])


@feature(title=r"$A$")
def aplanarity(events: Any) -> Floats:
    """Aplanarity of all particles in the CM frame; 0 if all are at rest."""
    return 1.5 * momentum_tensor_eigenvalues(events, 0)[:, 1]


@feature(title=r"$S^\mathrm{ROE}$")
def sphericity_roe(events: Any) -> Floats:
    """Sphericity of the rest of the event in the CM frame; 0 if it is empty."""
    lower = momentum_tensor_eigenvalues(events, NUM_DAUGHTERS)
    return 1.5 * (lower[:, 0] + lower[:, 1])


@feature(title=r"$A^\mathrm{ROE}$")
def aplanarity_roe(events: Any) -> Floats:
    """Aplanarity of the rest of the event in the CM frame; 0 if it is empty."""
    return 1.5 * momentum_tensor_eigenvalues(events, NUM_DAUGHTERS)[:, 1]


@cached
def momentum_tensor_eigenvalues(events: Any, skip: int) -> Floats:
    """l2 and l3 without the first `skip` particles of each event, shape (events, 2)."""
    everything = cm_particles(events)
    return compute_lower_eigenvalues(
        everything.x, everything.y, everything.z, start=everything.start, skip=skip
    )


def compute_lower_eigenvalues(x: Floats, y: Floats, z: Floats, *, start: Ints, skip: int = 0) -> Floats:
    """l2 and l3 of flat momenta, without the first `skip` of each event or jet, shape (events, 2)."""
    out = np.zeros((len(start) - 1, 2))
    _fill_lower_eigenvalues(x, y, z, start, skip, out)
    return np.maximum(out, 0.0)


@cached_njit
def _fill_lower_eigenvalues(x: Floats, y: Floats, z: Floats, start: Ints, skip: int, out: Floats) -> None:
    a = np.empty((3, 3))
    for i in range(len(out)):
        xx, xy, xz, yy, yz, zz = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
        for k in range(start[i] + skip, start[i + 1]):
            xx, xy, xz = xx + x[k] * x[k], xy + x[k] * y[k], xz + x[k] * z[k]
            yy, yz, zz = yy + y[k] * y[k], yz + y[k] * z[k], zz + z[k] * z[k]
        trace = xx + yy + zz
        if trace <= 0.0:
            continue
        a[0, 0], a[1, 1], a[2, 2] = xx / trace, yy / trace, zz / trace
        a[0, 1] = a[1, 0] = xy / trace
        a[0, 2] = a[2, 0] = xz / trace
        a[1, 2] = a[2, 1] = yz / trace
        _diagonalise_3x3(a)
        low = min(a[0, 0], a[1, 1], a[2, 2])
        high = max(a[0, 0], a[1, 1], a[2, 2])
        out[i, 0], out[i, 1] = a[0, 0] + a[1, 1] + a[2, 2] - low - high, low


@cached_njit
def _diagonalise_3x3(a: Floats) -> None:
    """Jacobi rotations: unlike the cubic's closed form they keep a tiny l3 exact."""
    for _ in range(20):
        if a[0, 1] * a[0, 1] + a[0, 2] * a[0, 2] + a[1, 2] * a[1, 2] < 1e-34:
            return
        for p in range(2):
            for q in range(p + 1, 3):
                if a[p, q] == 0.0:
                    continue
                theta = 0.5 * (a[q, q] - a[p, p]) / a[p, q]
                t = math.copysign(1.0, theta) / (abs(theta) + math.sqrt(theta * theta + 1.0))
                c = 1.0 / math.sqrt(t * t + 1.0)
                s = t * c
                r = 3 - p - q
                arp, arq = a[r, p], a[r, q]
                a[p, p] -= t * a[p, q]
                a[q, q] += t * a[p, q]
                a[p, q] = a[q, p] = 0.0
                a[r, p] = a[p, r] = c * arp - s * arq
                a[r, q] = a[q, r] = s * arp + c * arq


@feature(title=r"$R_1$")
def r1(events: Any) -> Floats:
    """R_1 of all particles in the CM frame: (momentum imbalance / summed momentum)^2."""
    return fox_wolfram_ratios(events, 0)[:, 1]


@feature(title=r"$R_2$")
def r2(events: Any) -> Floats:
    """R_2 of all particles in the CM frame: small for B decays at threshold, large for jets."""
    return fox_wolfram_ratios(events, 0)[:, 2]


@feature(title=r"$R_3$")
def r3(events: Any) -> Floats:
    """R_3 of all particles in the CM frame."""
    return fox_wolfram_ratios(events, 0)[:, 3]


@feature(title=r"$R_4$")
def r4(events: Any) -> Floats:
    """R_4 of all particles in the CM frame."""
    return fox_wolfram_ratios(events, 0)[:, 4]


@feature(title=r"$R_1^\mathrm{ROE}$")
def r1_roe(events: Any) -> Floats:
    """R_1 of the rest of the event in the CM frame; 0 if it is empty."""
    return fox_wolfram_ratios(events, NUM_DAUGHTERS)[:, 1]


@feature(title=r"$R_2^\mathrm{ROE}$")
def r2_roe(events: Any) -> Floats:
    """R_2 of the rest of the event in the CM frame; 0 if it is empty."""
    return fox_wolfram_ratios(events, NUM_DAUGHTERS)[:, 2]


@feature(title=r"$R_3^\mathrm{ROE}$")
def r3_roe(events: Any) -> Floats:
    """R_3 of the rest of the event in the CM frame; 0 if it is empty."""
    return fox_wolfram_ratios(events, NUM_DAUGHTERS)[:, 3]


@feature(title=r"$R_4^\mathrm{ROE}$")
def r4_roe(events: Any) -> Floats:
    """R_4 of the rest of the event in the CM frame; 0 if it is empty."""
    return fox_wolfram_ratios(events, NUM_DAUGHTERS)[:, 4]


@cached
def fox_wolfram_ratios(events: Any, skip: int) -> Floats:
    """R_0 to R_4 without the first `skip` particles of each event, shape (events, 5); 0 without momentum."""
    everything = cm_particles(events)
    return compute_fox_wolfram_ratios(*everything[:3], p=everything.p, start=everything.start, skip=skip)


def compute_fox_wolfram_ratios(
    x: Floats, y: Floats, z: Floats, *, p: Floats, start: Ints, skip: int = 0
) -> Floats:
    """R_0 to R_4 of flat momenta, without the first `skip` of each event or jet, shape (events, 5)."""
    out = np.zeros((len(start) - 1, 5))
    most = int(np.diff(start).max(initial=0))
    _fill_ratios(x, y, z, p, start, skip, np.empty((4, most)), out)
    return np.clip(out, 0.0, 1.0)


@cached_njit
def legendre_sums(
    c0: float, c1: float, c2: float, c3: float, c4: float
) -> tuple[float, float, float, float, float]:
    """sum P_0 to sum P_4 from the sums of the powers of the cosine: P_l is linear in them."""
    return c0, c1, 1.5 * c2 - 0.5 * c0, 2.5 * c3 - 1.5 * c1, 4.375 * c4 - 3.75 * c2 + 0.375 * c0


@cached_njit
def _fill_ratios(
    x: Floats, y: Floats, z: Floats, p: Floats, start: Ints, skip: int, work: Floats, out: Floats
) -> None:
    for i in range(len(out)):
        n = 0
        total = 0.0
        for k in range(start[i] + skip, start[i + 1]):
            if p[k] > 0.0:
                work[0, n], work[1, n], work[2, n] = x[k] / p[k], y[k] / p[k], z[k] / p[k]
                work[3, n] = p[k]
                total += p[k]
                n += 1
        if n == 0:
            continue
        h1, h2, h3, h4, own = 0.0, 0.0, 0.0, 0.0, 0.0
        for j in range(n):
            s1, s2, s3, s4 = 0.0, 0.0, 0.0, 0.0
            wj = work[3, j] / total
            for k in range(j):
                c = work[0, j] * work[0, k] + work[1, j] * work[1, k] + work[2, j] * work[2, k]
                w = work[3, k]
                s1 += w * c
                s2 += w * c * c
                s3 += w * c * c * c
                s4 += w * c * c * c * c
            own += wj * wj
            h1, h2, h3, h4 = h1 + wj * s1, h2 + wj * s2, h3 + wj * s3, h4 + wj * s4
        twice = 2.0 / total
        moments = legendre_sums(1.0, own + twice * h1, own + twice * h2, own + twice * h3, own + twice * h4)
        for l in range(5):  # noqa: E741
            out[i, l] = moments[l]
