"""One compiled pass from the columns of constituents to the padded array; only what is asked is computed."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hepdecorr.columnar.constituents.linking import charge
from hepdecorr.columnar.features.branches import Floats, Ints
from hepdecorr.columnar.features.compiled import compiled

FLOOR = 1e-8  # what logarithms take for less: GeV, or a ratio

PT, LOG_PT, PT_REL, LOG_PT_REL, E, LOG_E, LOG_E_REL = 0, 1, 2, 3, 4, 5, 6
ETA, PHI, DETA, DPHI, DR, MASS, CHARGE = 7, 8, 9, 10, 11, 12, 13
ELECTRON, MUON, PHOTON, CHARGED, NEUTRAL = 14, 15, 16, 17, 18
REST_E, REST_PX, REST_PY, REST_PZ = 19, 20, 21, 22

# fmt: off
CODES = {
    "pt": PT, "log_pt": LOG_PT, "pt_rel": PT_REL, "log_pt_rel": LOG_PT_REL,
    "e": E, "log_e": LOG_E, "log_e_rel": LOG_E_REL,
    "eta": ETA, "phi": PHI, "deta": DETA, "dphi": DPHI, "dr": DR, "mass": MASS, "charge": CHARGE,
    "is_electron": ELECTRON, "is_muon": MUON, "is_photon": PHOTON,
    "is_charged_hadron": CHARGED, "is_neutral_hadron": NEUTRAL,
    "rest_e": REST_E, "rest_px": REST_PX, "rest_py": REST_PY, "rest_pz": REST_PZ,
}
# fmt: on


class Particles(NamedTuple):
    """Columns of the constituents, flat; those that no feature needs are empty."""

    pt: Floats
    eta: Floats
    phi: Floats
    mass: Floats
    charge: Floats
    pdg: Ints
    rest: Floats  # (4, constituents): e, px, py, pz
    extra: Floats  # (branches, constituents)


class Jets(NamedTuple):
    """Columns of the rows; those that no feature needs are empty."""

    pt: Floats
    eta: Floats
    phi: Floats
    e: Floats


@compiled
def fill(
    start: Ints, first: Ints, kept: Ints, codes: Ints, of: Particles, jets: Jets, out: NDArray[np.float32]
) -> None:
    """Feature codes[j] of constituent start[i] + k, k < kept[i], into out[first[i] + k, j]."""
    longest = 0
    for i in range(len(kept)):
        longest = max(longest, kept[i])
    # energy, deta, dphi and kind in one row: a row at a time stays in the cache, for all of its features
    own = np.empty((4, longest))
    for i in range(len(kept)):
        n, s, to = kept[i], start[i], first[i]
        if len(of.eta) > 0 and len(of.mass) > 0:
            _energies(of.pt, of.eta, of.mass, s, n, own[0])
        if len(jets.eta) > 0:
            _differences(of.eta, jets.eta[i], s, n, own[1])
        if len(jets.phi) > 0:
            _angles(of.phi, jets.phi[i], s, n, own[2])
        for k in range(min(n, len(of.pdg))):
            own[3, k] = _kind(of.pdg[s + k])
        for j in range(len(codes)):
            _feature(codes[j], of, jets, i, s, own, out[to : to + n, j])


@compiled
def _feature(
    code: int, of: Particles, jets: Jets, i: int, s: int, own: Floats, out: NDArray[np.float32]
) -> None:
    if code < 0:
        _scaled(of.extra[-1 - code, s:], 1.0, out)
    elif code == PT:
        _scaled(of.pt[s:], 1.0, out)
    elif code == PT_REL:
        _scaled(of.pt[s:], 1.0 / jets.pt[i], out)
    elif code == LOG_PT:
        _logs(of.pt[s:], 0.0, out)
    elif code == LOG_PT_REL:
        _logs(of.pt[s:], math.log(jets.pt[i]), out)
    elif code == E:
        _scaled(own[0], 1.0, out)
    elif code == LOG_E:
        _logs(own[0], 0.0, out)
    elif code == LOG_E_REL:
        _logs(own[0], math.log(jets.e[i]), out)
    elif code == ETA:
        _scaled(of.eta[s:], 1.0, out)
    elif code == PHI:
        _scaled(of.phi[s:], 1.0, out)
    elif code == DETA:
        _scaled(own[1], 1.0, out)
    elif code == DPHI:
        _scaled(own[2], 1.0, out)
    elif code == DR:
        _hypot(own[1], own[2], out)
    elif code == MASS:
        _scaled(of.mass[s:], 1.0, out)
    elif code == CHARGE:
        _scaled(of.charge[s:], 1.0, out)
    elif code >= REST_E:
        _scaled(of.rest[code - REST_E, s:], 1.0, out)
    else:
        for k in range(len(out)):
            out[k] = 1.0 if own[3, k] == code else 0.0


@compiled
def _scaled(values: Floats, factor: float, out: NDArray[np.float32]) -> None:
    for k in range(len(out)):
        out[k] = values[k] * factor


@compiled
def _logs(values: Floats, less: float, out: NDArray[np.float32]) -> None:
    least = math.log(FLOOR)
    for k in range(len(out)):
        out[k] = max(math.log(max(values[k], FLOOR)) - less, least)


@compiled
def _hypot(x: Floats, y: Floats, out: NDArray[np.float32]) -> None:
    for k in range(len(out)):
        out[k] = math.sqrt(x[k] * x[k] + y[k] * y[k])


@compiled
def _energies(pt: Floats, eta: Floats, mass: Floats, s: int, n: int, out: Floats) -> None:
    for k in range(n):
        t = math.exp(eta[s + k])
        p = 0.5 * pt[s + k] * (t + 1.0 / t)
        out[k] = math.sqrt(p * p + mass[s + k] * mass[s + k])


@compiled
def _differences(values: Floats, less: float, s: int, n: int, out: Floats) -> None:
    for k in range(n):
        out[k] = values[s + k] - less


@compiled
def _angles(phi: Floats, axis: float, s: int, n: int, out: Floats) -> None:
    """Differences of azimuths, in -pi <= out <= pi."""
    for k in range(n):
        angle = phi[s + k] - axis
        out[k] = angle - 2.0 * math.pi * math.floor(angle / (2.0 * math.pi) + 0.5)


@compiled
def _kind(pdg: int) -> int:
    a = abs(pdg)
    if a == 11:
        return ELECTRON
    if a == 13:
        return MUON
    if a == 2 or a == 22:  # noqa: PLR1714 (numba makes no set of this)
        return PHOTON
    if a == 1:
        return NEUTRAL
    if a > 100:
        return CHARGED if charge(pdg) != 0.0 else NEUTRAL
    return -1
