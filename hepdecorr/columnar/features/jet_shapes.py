r"""Shapes of a jet: about its axis in the lab (planar flow, angularity), and in its rest frame.

The definitions are those of ATLAS, Phys. Rev. D 86 (2012) 072006 (arXiv:1206.5369), and of the
software behind the study that takes ten of them (ATL-PHYS-PUB-2018-014).  The axis, the mass and the rest
frame are those of the sum of the constituents.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from hepdecorr.columnar.features.branches import Floats, Ints
from hepdecorr.columnar.features.fox_wolfram import ratios_of
from hepdecorr.columnar.features.jet_momenta import LIGHT, Momenta, Sums, momenta, resting, sums
from hepdecorr.columnar.features.sharing import feature, intermediate
from hepdecorr.columnar.features.tensors import lower_eigenvalues_of
from hepdecorr.compiled import compiled

# As for a mass: a sum that is lighter by this has no shape but rounding.
_FLAT = 1e-14


@feature(title=r"$P$")
def planar_flow(rows: Any) -> Floats:
    r"""4 det I / (tr I)^2 with I_kl = sum_i p_ik p_il / E_i, k and l the directions across the jet axis.

    L. G. Almeida et al., Phys. Rev. D 79 (2009) 074017 (arXiv:0807.0234), with ATLAS's weights (the factor
    1 / m cancels): from 0 (two prongs, a line) to 1 (round).  0 for fewer than three constituents, and where
    all fly along the axis (0 / 0).
    """
    return about_axis(rows)[:, 0]


@feature(title=r"$\tau_{-2}$")
def angularity(rows: Any) -> Floats:
    r"""tau_a = 1/m sum_i E_i sin^a(theta_i) [1 - cos(theta_i)]^(1 - a) with a = -2.

    theta_i is the angle to the jet axis, as it stands in ATLAS's measurement (arXiv:1206.5369); the paper
    that proposes it, arXiv:0807.0234, has pi theta_i / (2 R) in its place.  A constituent opposite to the
    axis, where it diverges, is left out, as in ATLAS's code.  0 for fewer than two constituents and where
    the constituents' sum is massless (0 / 0).
    """
    return about_axis(rows)[:, 1]


@feature(title=r"$R_2$")
def jet_r2(rows: Any) -> Floats:
    """Fox-Wolfram ratio H_2 / H_0 of the constituents in the rest frame of their sum.

    As `r2` (Phys. Rev. Lett. 41 (1978) 1581), each constituent with itself included: 1 for two constituents,
    0 for one and where there is no rest frame (massless sum).  ATLAS's FoxWolfram20 leaves out the pairs of
    a constituent with itself.
    """
    frame = resting(rows)
    return ratios_of(frame.x, frame.y, frame.z, p=frame.p, start=frame.start)[:, 2]


@feature(title=r"$A_\mathrm{jet}$")
def jet_aplanarity(rows: Any) -> Floats:
    """Aplanarity of the constituents in the rest frame of their sum, as `aplanarity`: 0 (flat) to 1/2.

    0 for one constituent and where there is no rest frame (massless sum).
    """
    return 1.5 * _lower(rows)[:, 1]


@feature(title=r"$S_\mathrm{jet}$")
def jet_sphericity(rows: Any) -> Floats:
    """Sphericity of the constituents in the rest frame of their sum, as `sphericity`: 0 to 1.

    0 for one constituent and where there is no rest frame (massless sum).
    """
    lower = _lower(rows)
    return 1.5 * (lower[:, 0] + lower[:, 1])


@intermediate
def about_axis(rows: Any) -> Floats:
    """Planar flow and angularity, shape (rows, 2)."""
    return about_axis_of(momenta(rows), sums(rows))


def about_axis_of(parts: Momenta, total: Sums) -> Floats:
    """Planar flow and angularity from flat momenta and their sums, shape (jets, 2)."""
    out = np.zeros((len(total.e), 2))
    _about_axis(parts.start, parts.x, parts.y, parts.z, parts.e, *total, out)
    return out


@intermediate
def _lower(rows: Any) -> Floats:
    frame = resting(rows)
    return lower_eigenvalues_of(frame.x, frame.y, frame.z, start=frame.start)


@compiled
def _about_axis(
    start: Ints,
    x: Floats,
    y: Floats,
    z: Floats,
    e: Floats,
    sx: Floats,
    sy: Floats,
    sz: Floats,
    se: Floats,
    mass: Floats,
    out: Floats,
) -> None:
    for i in range(len(start) - 1):
        n = start[i + 1] - start[i]
        size = math.sqrt(sx[i] * sx[i] + sy[i] * sy[i] + sz[i] * sz[i])
        if n < 2 or size == 0.0:
            continue
        nx, ny, nz = sx[i] / size, sy[i] / size, sz[i] / size
        # Two directions across the axis: (n x the coordinate axis that is furthest from it), and n x that.
        if abs(nx) <= abs(ny) and abs(nx) <= abs(nz):
            ux, uy, uz = 0.0, nz, -ny
        elif abs(ny) <= abs(nz):
            ux, uy, uz = -nz, 0.0, nx
        else:
            ux, uy, uz = ny, -nx, 0.0
        length = math.sqrt(ux * ux + uy * uy + uz * uz)
        ux, uy, uz = ux / length, uy / length, uz / length
        vx, vy, vz = ny * uz - nz * uy, nz * ux - nx * uz, nx * uy - ny * ux
        uu, uv, vv, angular = 0.0, 0.0, 0.0, 0.0
        for k in range(start[i], start[i + 1]):
            a = ux * x[k] + uy * y[k] + uz * z[k]
            b = vx * x[k] + vy * y[k] + vz * z[k]
            c = nx * x[k] + ny * y[k] + nz * z[k]
            uu, uv, vv = uu + a * a / e[k], uv + a * b / e[k], vv + b * b / e[k]
            # sin^-2 (1 - cos)^3 = sin^4 / (1 + cos)^3, of which nothing cancels at small angles
            across, p = a * a + b * b, math.sqrt(a * a + b * b + c * c)
            below = 1.0 + c / p
            if below > 0.0:
                angular += e[k] * (across / (p * p)) ** 2 / below**3
        trace = uu + vv
        if n > 2 and trace > _FLAT * se[i]:
            out[i, 0] = min(max(4.0 * (uu * vv - uv * uv) / (trace * trace), 0.0), 1.0)
        if mass[i] > LIGHT * se[i]:
            out[i, 1] = angular / mass[i]
