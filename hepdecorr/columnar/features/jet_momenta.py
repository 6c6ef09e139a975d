r"""Four-momenta of the constituents of jets, and the same in the rest frame of their sum.

Rows are jets (`objects.rows`); the constituents are those of `constituents.of`, with the file's own or the
chosen puppi convention.  'The jet' of a shape is the sum of its constituents, not the stored four-momentum:
the latter carries jet energy corrections, and with it a shape would depend on them.  Distances are in
rapidity and azimuth, as in FastJet.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from hepdecorr.columnar import constituents
from hepdecorr.columnar.features.branches import Floats, Ints
from hepdecorr.columnar.features.sharing import intermediate
from hepdecorr.compiled import compiled

# A sum lighter than this share of its energy counts as massless: below, the mass is rounding, and there is
# no rest frame to go to.
LIGHT = 1e-5


class Momenta(NamedTuple):
    """Constituents of all jets, flat: jet i holds start[i] to start[i + 1]; energies in GeV."""

    start: Ints
    x: Floats
    y: Floats
    z: Floats
    e: Floats
    pt: Floats
    rapidity: Floats
    phi: Floats


class Sums(NamedTuple):
    """The sum of each jet's constituents, one entry a jet [GeV]; zeros for a jet without constituents.

    The mass is 0 where its square is negative by rounding.
    """

    x: Floats
    y: Floats
    z: Floats
    e: Floats
    mass: Floats


class Resting(NamedTuple):
    """Constituents in the rest frame of their sum, flat as in Momenta; p is the magnitude [GeV].

    All zero in jets that have no such frame (one constituent, a massless sum) and in those whose constituents
    are all at rest in it.
    """

    start: Ints
    x: Floats
    y: Floats
    z: Floats
    p: Floats


@intermediate
def momenta(rows: Any) -> Momenta:
    """Lab four-momenta of the constituents."""
    found = constituents.of(rows)
    return of_polar(found.start, found.pt, found.eta, found.phi, found.mass)


def of_polar(start: Ints, pt: Floats, eta: Floats, phi: Floats, mass: Floats) -> Momenta:
    """Momenta from flat pT, pseudorapidity, azimuth and mass."""
    z = pt * np.sinh(eta)
    transverse = np.sqrt(pt * pt + mass * mass)
    e = np.sqrt(transverse * transverse + z * z)
    return Momenta(start, pt * np.cos(phi), pt * np.sin(phi), z, e, pt, np.arcsinh(z / transverse), phi)


@intermediate
def sums(rows: Any) -> Sums:
    """The four-momentum of each jet as the sum of its constituents."""
    return summed(momenta(rows))


def summed(parts: Momenta) -> Sums:
    """Sums of flat momenta."""
    out = np.zeros((5, len(parts.start) - 1))
    _sum(parts.start, parts.x, parts.y, parts.z, parts.e, out)
    return Sums(*out)


@intermediate
def resting(rows: Any) -> Resting:
    """Constituents in the rest frame of their sum."""
    return rested(momenta(rows), sums(rows))


def rested(parts: Momenta, total: Sums) -> Resting:
    """Flat momenta in the rest frames of their sums."""
    out = np.zeros((4, len(parts.x)))
    _rest(parts.start, parts.x, parts.y, parts.z, parts.e, *total, out)
    return Resting(parts.start, *out)


def divided(above: Floats, below: Floats) -> Floats:
    """above / below, and 0 where `below` is not positive."""
    return np.asarray(np.divide(above, below, out=np.zeros_like(above), where=below > 0.0))


@compiled
def _sum(start: Ints, x: Floats, y: Floats, z: Floats, e: Floats, out: Floats) -> None:
    for i in range(len(start) - 1):
        sx, sy, sz, se = 0.0, 0.0, 0.0, 0.0
        for k in range(start[i], start[i + 1]):
            sx, sy, sz, se = sx + x[k], sy + y[k], sz + z[k], se + e[k]
        out[0, i], out[1, i], out[2, i], out[3, i] = sx, sy, sz, se
        # a NaN must not become a mass of 0
        square = se * se - sx * sx - sy * sy - sz * sz
        out[4, i] = 0.0 if square < 0.0 else math.sqrt(square)


@compiled
def _rest(
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
        m = mass[i]
        if start[i + 1] - start[i] < 2 or m <= LIGHT * se[i]:
            continue
        total = 0.0
        for k in range(start[i], start[i + 1]):
            along = (x[k] * sx[i] + y[k] * sy[i] + z[k] * sz[i]) / (se[i] + m)
            shift = (along - e[k]) / m
            px, py, pz = x[k] + shift * sx[i], y[k] + shift * sy[i], z[k] + shift * sz[i]
            p = math.sqrt(px * px + py * py + pz * pz)
            out[0, k], out[1, k], out[2, k], out[3, k] = px, py, pz, p
            total += p
        # Massive constituents that fly in parallel at one velocity: what is left of them is rounding.
        if total <= 1e-6 * m:
            for k in range(start[i], start[i + 1]):
                out[0, k], out[1, k], out[2, k], out[3, k] = 0.0, 0.0, 0.0, 0.0
