r"""Sphericity and aplanarity, from the eigenvalues l1 >= l2 >= l3 of sum_i p_i p_i^T / sum_i p_i^2.

J. D. Bjorken and S. J. Brodsky, Phys. Rev. D 1 (1970) 1416: S = 3/2 (l2 + l3), from 0 (two jets) to
1 (isotropic); A = 3/2 l3, from 0 (flat) to 1/2.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from hepdecorr.columnar.features.branches import Floats, Ints
from hepdecorr.columnar.features.particles import DAUGHTERS, particles
from hepdecorr.columnar.features.sharing import feature, intermediate
from hepdecorr.compiled import compiled


@feature(title=r"$S$")
def sphericity(events: Any) -> Floats:
    """Sphericity of all particles in the CM frame; 0 if all are at rest."""
    lower = lower_eigenvalues(events, 0)
    return 1.5 * (lower[:, 0] + lower[:, 1])


@feature(title=r"$A$")
def aplanarity(events: Any) -> Floats:
    """Aplanarity of all particles in the CM frame; 0 if all are at rest."""
    return 1.5 * lower_eigenvalues(events, 0)[:, 1]


@feature(title=r"$S^\mathrm{ROE}$")
def sphericity_roe(events: Any) -> Floats:
    """Sphericity of the rest of the event in the CM frame; 0 if it is empty."""
    lower = lower_eigenvalues(events, DAUGHTERS)
    return 1.5 * (lower[:, 0] + lower[:, 1])


@feature(title=r"$A^\mathrm{ROE}$")
def aplanarity_roe(events: Any) -> Floats:
    """Aplanarity of the rest of the event in the CM frame; 0 if it is empty."""
    return 1.5 * lower_eigenvalues(events, DAUGHTERS)[:, 1]


@intermediate
def lower_eigenvalues(events: Any, skip: int) -> Floats:
    """l2 and l3 without the first `skip` particles of each event, shape (events, 2)."""
    everything = particles(events)
    return lower_eigenvalues_of(everything.x, everything.y, everything.z, start=everything.start, skip=skip)


def lower_eigenvalues_of(x: Floats, y: Floats, z: Floats, *, start: Ints, skip: int = 0) -> Floats:
    """l2 and l3 of flat momenta, without the first `skip` of each event or jet, shape (events, 2)."""
    out = np.zeros((len(start) - 1, 2))
    _lower(x, y, z, start, skip, out)
    return np.maximum(out, 0.0)


@compiled
def _lower(x: Floats, y: Floats, z: Floats, start: Ints, skip: int, out: Floats) -> None:
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
        _diagonalise(a)
        low = min(a[0, 0], a[1, 1], a[2, 2])
        high = max(a[0, 0], a[1, 1], a[2, 2])
        out[i, 0], out[i, 1] = a[0, 0] + a[1, 1] + a[2, 2] - low - high, low


@compiled
def _diagonalise(a: Floats) -> None:
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
