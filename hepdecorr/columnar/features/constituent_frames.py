"""Four-momenta of constituents in the rest frame of their jet, turned to its principal axes.

The frame is that of the sum of all constituents of the jet, however many of them a network sees.  The axes
are the eigenvectors of sum_i E_i n_i n_i^T there, n_i the direction and E_i the energy of constituent i: the
energy-weighted principal axis becomes z, the second x, and y completes a right-handed frame.  An axis points
to where sum_i E_i c_i |c_i| is positive, c_i the cosine to it: this does not depend on how the jet lies in
the detector, nor on soft or collinear radiation.  Where that sum vanishes it points to the side of the
hardest constituent.  (T. Cheng et al., arXiv:2007.01850, train on jets boosted to rest and rotated so that
the principal axis is aligned; all three axes and their signs are a choice of this package.)

A jet lighter than LIGHT times its energy (one massless particle; a mass squared below zero by rounding) is
boosted as one of that mass, which keeps everything finite.
"""

from __future__ import annotations

import math

import numpy as np

from hepdecorr.columnar.features.branches import Floats, Ints
from hepdecorr.compiled import compiled

LIGHT = 1e-4

# Relative to the sum of energies: below this rounding would choose the sign.
_EVEN = 1e-9


@compiled
def at_rest(start: Ints, pt: Floats, eta: Floats, phi: Floats, mass: Floats, out: Floats) -> int:
    """Fill out (4, constituents) with energy and x, y, z momentum; returns how many jets were too light."""
    light = 0
    a, v = np.empty((3, 3)), np.empty((3, 3))
    total = np.empty(4)
    for i in range(len(start) - 1):
        first, last = start[i], start[i + 1]
        total[:] = 0.0
        for k in range(first, last):
            out[1, k], out[2, k] = pt[k] * math.cos(phi[k]), pt[k] * math.sin(phi[k])
            out[3, k] = pt[k] * math.sinh(eta[k])
            out[0, k] = math.sqrt(pt[k] * pt[k] + out[3, k] * out[3, k] + mass[k] * mass[k])
            for j in range(4):
                total[j] += out[j, k]
        if last > first:
            light += _boost(total, first, last, out)
            _tensor(first, last, out, a)
            _principal(a, v)
            _point(first, last, out, v)
            _turn(first, last, out, v)
    return light


@compiled
def _boost(total: Floats, first: int, last: int, out: Floats) -> int:
    """Into the frame where `total` is at rest; 1 if it was too light for that."""
    square = total[1] * total[1] + total[2] * total[2] + total[3] * total[3]
    least = LIGHT * total[0]
    mass2 = total[0] * total[0] - square
    too_light = 1 if mass2 < least * least else 0
    m = least if too_light == 1 else math.sqrt(mass2)
    gamma = total[0] / m
    # u = gamma beta
    scale = 1.0 / m
    if too_light == 1:
        scale = math.sqrt((gamma * gamma - 1.0) / square)
    u, v, w = total[1] * scale, total[2] * scale, total[3] * scale
    for k in range(first, last):
        e = out[0, k]
        along = u * out[1, k] + v * out[2, k] + w * out[3, k]
        shift = along / (gamma + 1.0) - e
        out[0, k] = gamma * e - along
        out[1, k] += u * shift
        out[2, k] += v * shift
        out[3, k] += w * shift
    return too_light


@compiled
def _tensor(first: int, last: int, p: Floats, a: Floats) -> None:
    a[:, :] = 0.0
    norm = 0.0
    for k in range(first, last):
        square = p[1, k] * p[1, k] + p[2, k] * p[2, k] + p[3, k] * p[3, k]
        norm += p[0, k]
        if square > 0.0:
            for r in range(3):
                for c in range(3):
                    a[r, c] += p[0, k] * p[r + 1, k] * p[c + 1, k] / square
    for r in range(3):
        for c in range(3):
            a[r, c] /= norm


@compiled
def _principal(a: Floats, v: Floats) -> None:
    """Eigenvectors of the symmetric `a` into the rows of v: second, third, first; Jacobi's rotations."""
    for r in range(3):
        for c in range(3):
            v[r, c] = 1.0 if r == c else 0.0
    for _ in range(20):
        if a[0, 1] * a[0, 1] + a[0, 2] * a[0, 2] + a[1, 2] * a[1, 2] < 1e-34:
            break
        for p in range(2):
            for q in range(p + 1, 3):
                if a[p, q] != 0.0:
                    _rotate(a, v, p, q)
    for r in range(2):
        # the largest to the end
        if a[r, r] > a[2, 2]:
            a[r, r], a[2, 2] = a[2, 2], a[r, r]
            for c in range(3):
                v[r, c], v[2, c] = v[2, c], v[r, c]
    if a[1, 1] > a[0, 0]:
        for c in range(3):
            v[0, c], v[1, c] = v[1, c], v[0, c]


@compiled
def _rotate(a: Floats, v: Floats, p: int, q: int) -> None:
    theta = 0.5 * (a[q, q] - a[p, p]) / a[p, q]
    t = math.copysign(1.0, theta) / (abs(theta) + math.sqrt(theta * theta + 1.0))
    c = 1.0 / math.sqrt(t * t + 1.0)
    s = t * c
    r = 3 - p - q
    rp, rq = a[r, p], a[r, q]
    a[p, p] -= t * a[p, q]
    a[q, q] += t * a[p, q]
    a[p, q] = a[q, p] = 0.0
    a[r, p] = a[p, r] = c * rp - s * rq
    a[r, q] = a[q, r] = s * rp + c * rq
    for k in range(3):
        vp, vq = v[p, k], v[q, k]
        v[p, k], v[q, k] = c * vp - s * vq, s * vp + c * vq


@compiled
def _point(first: int, last: int, p: Floats, v: Floats) -> None:
    """Give x (row 0) and z (row 2) their sign, and y = z x x."""
    for axis in (0, 2):
        side, norm, hardest = 0.0, 0.0, 0.0
        for k in range(first, last):
            square = p[1, k] * p[1, k] + p[2, k] * p[2, k] + p[3, k] * p[3, k]
            along = v[axis, 0] * p[1, k] + v[axis, 1] * p[2, k] + v[axis, 2] * p[3, k]
            if k == first:
                hardest = along
            if square > 0.0:
                side += p[0, k] * along * abs(along) / square
            norm += p[0, k]
        if abs(side) < _EVEN * norm:
            side = hardest
        if side < 0.0:
            for c in range(3):
                v[axis, c] = -v[axis, c]
    for c in range(3):
        v[1, c] = v[2, (c + 1) % 3] * v[0, (c + 2) % 3] - v[2, (c + 2) % 3] * v[0, (c + 1) % 3]


@compiled
def _turn(first: int, last: int, p: Floats, v: Floats) -> None:
    for k in range(first, last):
        x, y, z = p[1, k], p[2, k], p[3, k]
        for r in range(3):
            p[r + 1, k] = v[r, 0] * x + v[r, 1] * y + v[r, 2] * z
