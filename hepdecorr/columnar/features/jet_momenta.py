"""Four-momenta of the constituents of jets, and the same in the rest frame of their sum.

Rows are jets (`objects.rows`); the constituents are those of `constituents.of`, with the file's own or the
chosen puppi convention.  'The jet' of a shape is the sum of its constituents, not the stored four-momentum:
the latter carries jet energy corrections, and with it a shape would depend on them.  Distances are in
rapidity and azimuth, as in FastJet.

The jet as the file has it: four-momentum, rho, number of constituents.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from hepdecorr._numba import cached_njit
from hepdecorr.columnar import constituents
from hepdecorr.columnar.features.branches import Floats, Ints
from hepdecorr.columnar.features.registry import cached, feature
from hepdecorr.columnar.features.stored_substructure import (
    counts_constituents,
    jet_collection,
    read_nonnegative_branch,
)

# A sum lighter than this share of its energy counts as massless: below, the mass is rounding, and there is
# no rest frame to go to.
MASSLESS_FRACTION = 1e-5


class ConstituentMomenta(NamedTuple):
    """Constituents of all jets, flat: jet i holds start[i] to start[i + 1]; energies in GeV."""

    start: Ints
    x: Floats
    y: Floats
    z: Floats
    e: Floats
    pt: Floats
    rapidity: Floats
    phi: Floats


class JetMomenta(NamedTuple):
    """The sum of each jet's constituents, one entry a jet [GeV]; zeros for a jet without constituents.

    The mass is 0 where its square is negative by rounding.
    """

    x: Floats
    y: Floats
    z: Floats
    e: Floats
    mass: Floats


class RestFrameMomenta(NamedTuple):
    """Constituents in the rest frame of their sum, flat as in Momenta; p is the magnitude [GeV].

    All zero in jets that have no such frame (one constituent, a massless sum) and in those whose constituents
    are all at rest in it.
    """

    start: Ints
    x: Floats
    y: Floats
    z: Floats
    p: Floats


@cached
def constituent_momenta(rows: Any) -> ConstituentMomenta:
    """Lab four-momenta of the constituents."""
    found = constituents.get_constituents(rows)
    return momenta_from_polar(found.start, found.pt, found.eta, found.phi, found.mass)


def momenta_from_polar(start: Ints, pt: Floats, eta: Floats, phi: Floats, mass: Floats) -> ConstituentMomenta:
    """Momenta from flat pT, pseudorapidity, azimuth and mass."""
    z = pt * np.sinh(eta)
    transverse = np.sqrt(pt * pt + mass * mass)
    e = np.sqrt(transverse * transverse + z * z)
    return ConstituentMomenta(
        start, pt * np.cos(phi), pt * np.sin(phi), z, e, pt, np.arcsinh(z / transverse), phi
    )


@cached
def jet_four_momenta(rows: Any) -> JetMomenta:
    """The four-momentum of each jet as the sum of its constituents."""
    return sum_constituents(constituent_momenta(rows))


def sum_constituents(momenta: ConstituentMomenta) -> JetMomenta:
    """Sums of flat momenta."""
    out = np.zeros((5, len(momenta.start) - 1))
    _fill_sums(momenta.start, momenta.x, momenta.y, momenta.z, momenta.e, out)
    return JetMomenta(*out)


@cached
def rest_frame_momenta(rows: Any) -> RestFrameMomenta:
    """Constituents in the rest frame of their sum."""
    return boost_to_rest_frame(constituent_momenta(rows), jet_four_momenta(rows))


def boost_to_rest_frame(momenta: ConstituentMomenta, jets: JetMomenta) -> RestFrameMomenta:
    """Flat momenta in the rest frames of their sums."""
    out = np.zeros((4, len(momenta.x)))
    _fill_rest_frame(momenta.start, momenta.x, momenta.y, momenta.z, momenta.e, *jets, out)
    return RestFrameMomenta(momenta.start, *out)


def divide_or_zero(numerator: Floats, denominator: Floats) -> Floats:
    """above / below, and 0 where `below` is not positive."""
    return np.asarray(
        np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0.0)
    )


@cached_njit
def _fill_sums(start: Ints, x: Floats, y: Floats, z: Floats, e: Floats, out: Floats) -> None:
    for i in range(len(start) - 1):
        sx, sy, sz, se = 0.0, 0.0, 0.0, 0.0
        for k in range(start[i], start[i + 1]):
            sx, sy, sz, se = sx + x[k], sy + y[k], sz + z[k], se + e[k]
        out[0, i], out[1, i], out[2, i], out[3, i] = sx, sy, sz, se
        # a NaN must not become a mass of 0
        square = se * se - sx * sx - sy * sy - sz * sz
        out[4, i] = 0.0 if square < 0.0 else math.sqrt(square)


@cached_njit
def _fill_rest_frame(
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
        if start[i + 1] - start[i] < 2 or m <= MASSLESS_FRACTION * se[i]:
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


# What a lighter jet counts as in a logarithm of the mass [GeV].
MIN_JET_MASS = 1e-3


@feature(unit="GeV", title=r"$p_T$")
def jet_pt(rows: Any) -> Floats:
    """Transverse momentum of the jet, as stored (with its jet energy corrections)."""
    return _read_own_branch(rows, "pt")


@feature(title=r"$\eta$")
def jet_eta(rows: Any) -> Floats:
    """Pseudorapidity of the jet, as stored."""
    return _read_own_branch(rows, "eta")


@feature(title=r"$\phi$")
def jet_phi(rows: Any) -> Floats:
    """Azimuth of the jet, as stored."""
    return _read_own_branch(rows, "phi")


@feature(unit="GeV", title=r"$m$")
def jet_mass(rows: Any) -> Floats:
    """Mass of the jet before grooming, as stored; 0 for a negative one (negative square) or NaN."""
    jet_collection(rows)
    return read_nonnegative_branch(rows, "mass")


@feature(title=r"$\rho$")
def rho(rows: Any) -> Floats:
    r"""ln(m^2 / pT^2), from the ungroomed mass; jets below 1 MeV, negative or massless, count as 1 MeV.

    M. Dasgupta et al., JHEP 09 (2013) 029 (arXiv:1307.0007), without their R^2.
    """
    return 2.0 * np.log(np.maximum(jet_mass(rows), MIN_JET_MASS) / jet_pt(rows))


@feature(title=r"$\rho^\mathrm{DDT}$")
def rho_ddt(rows: Any) -> Floats:
    r"""ln(m^2 / (pT * 1 GeV)), from the ungroomed mass; jets below 1 MeV count as 1 MeV.

    J. Dolen et al., JHEP 05 (2016) 156 (arXiv:1603.00027).
    """
    mass = np.maximum(jet_mass(rows), MIN_JET_MASS)
    return np.log(mass * mass / jet_pt(rows))


@feature(title=r"$n_\mathrm{const}$")
def n_constituents(rows: Any) -> Floats:
    """How many constituents the jet has in the file, less those without momentum.

    Where the file has no table of constituents, or with `substructure: stored`, its branch nConstituents.
    """
    if counts_constituents(rows):
        return np.diff(constituents.get_constituents(rows).start).astype(np.float64)
    return read_nonnegative_branch(rows, "nConstituents")


def _read_own_branch(rows: Any, field: str) -> Floats:
    jet_collection(rows)
    return constituents.read_jet_branch(rows, field)
