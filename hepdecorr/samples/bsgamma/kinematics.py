"""Beams, masses and four-vectors.

A four-vector is a float64 array (n, 4) of (px, py, pz, E) in GeV.  The generator works in the rest
frame of the e+e- pair ("CM frame", quantities with a star), the detector in the laboratory.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

SQRT_S = 10.58
BEAM_STAR = SQRT_S / 2
# An electron beam of 7 GeV against positrons of 4 GeV, without a crossing angle.
BOOST_Z = (7.0 - 4.0) / (7.0 + 4.0)

B0_MASS = 5.27958
KSTAR_MASS = 0.896
PI0_MASS = 0.1350
ETA_MASS = 0.5479
# The charged particles that live long enough to leave a track.
TRACK_MASS = {11: 0.000511, 13: 0.105658, 211: 0.13957, 321: 0.493677, 2212: 0.938272}


def four_vector(pt: Floats, eta: Floats, *, phi: Floats, mass: Floats) -> Floats:
    """Four-vectors (n, 4) of collider coordinates, in GeV."""
    momentum = np.stack([pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)], axis=1)
    return with_mass(momentum, mass)


def with_mass(p4: Floats, mass: Floats | float) -> Floats:
    """The same momenta (the first three columns) with the energies of another mass hypothesis."""
    momentum = p4[:, :3]
    energy = np.sqrt((momentum**2).sum(axis=1) + np.square(mass))
    return np.column_stack([momentum, energy])


def momentum(p4: Floats) -> Floats:
    """|p| in GeV, shape (n,)."""
    return np.asarray(np.sqrt((p4[:, :3] ** 2).sum(axis=1)))


def invariant_mass(p4: Floats) -> Floats:
    """m in GeV, shape (n,); rounding below zero counts as zero."""
    return root(p4[:, 3] ** 2 - (p4[:, :3] ** 2).sum(axis=1))


def root(square: Floats) -> Floats:
    """Square root, zero where rounding or a far-off candidate makes the square negative."""
    return np.asarray(np.sqrt(np.maximum(square, 0.0)))


def boost(p4: Floats, beta: Floats) -> Floats:
    """Four-vectors seen after an active boost by the velocities `beta`, shape (n, 3) or (3,), in units of c.

    `boost(p, v)` takes a particle from the rest frame of a system into the frame where it flies with v;
    `boost(p, -v)` takes it back.
    """
    beta = np.broadcast_to(beta, (len(p4), 3))
    b2 = (beta**2).sum(axis=1)
    gamma = 1.0 / np.sqrt(1.0 - b2)
    along = (p4[:, :3] * beta).sum(axis=1)
    # (gamma - 1) / beta^2 written so that a system at rest needs no special case.
    factor = gamma**2 / (1.0 + gamma) * along + gamma * p4[:, 3]
    return np.column_stack([p4[:, :3] + factor[:, None] * beta, gamma * (p4[:, 3] + along)])


def to_laboratory(p4: Floats) -> Floats:
    """From the CM frame to the laboratory."""
    return boost(p4, np.array([0.0, 0.0, BOOST_Z]))


def to_cm(p4: Floats) -> Floats:
    """From the laboratory to the CM frame."""
    return boost(p4, np.array([0.0, 0.0, -BOOST_Z]))


def velocity(p4: Floats) -> Floats:
    """Velocities (n, 3) in units of c."""
    return p4[:, :3] / p4[:, 3:]


def wrap(phi: Floats) -> Floats:
    """Azimuths in [-pi, pi)."""
    return (phi + np.pi) % (2.0 * np.pi) - np.pi


def sin2_cosine(uniform: NDArray[Any]) -> Floats:
    """Cosines distributed as 1 - c^2, from uniform numbers in [0, 1): the inverse of (2 + 3c - c^3) / 4."""
    return np.asarray(2.0 * np.sin(np.arcsin(2.0 * uniform - 1.0) / 3.0))
