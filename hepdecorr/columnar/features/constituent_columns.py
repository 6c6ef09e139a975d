"""One compiled pass from the columns of constituents to the padded array; only what is asked is computed."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hepdecorr.columnar.constituents.linking import charge
from hepdecorr.columnar.features.branches import Floats, Ints
from hepdecorr.compiled import compiled

# A block of rows stays in the cache while its features are written, one after the other.
_BLOCK = 32
_LOG_PT, _ENERGY, _LOG_E, _DETA, _DPHI, _KIND, _DERIVED = 0, 1, 2, 3, 4, 5, 6

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


class Where(NamedTuple):
    """Where a block of rows has its constituents: in the columns, in what is derived, in the result."""

    start: Ints
    local: Ints
    first: Ints
    kept: Ints


@compiled
def fill(
    start: Ints, first: Ints, kept: Ints, codes: Ints, of: Particles, jets: Jets, out: NDArray[np.float32]
) -> None:
    """Feature codes[j] of constituent start[i] + k, k < kept[i], into out[first[i] + k, j]."""
    with_log = bool(np.any(codes == LOG_PT) or np.any(codes == LOG_PT_REL))
    local = np.zeros(_BLOCK + 1, np.int64)
    for begin in range(0, len(kept), _BLOCK):
        rows = min(_BLOCK, len(kept) - begin)
        for i in range(rows):
            local[i + 1] = local[i] + kept[begin + i]
        own = np.empty((_DERIVED, local[rows]))
        for i in range(rows):
            a, b, s = local[i], local[i + 1], start[begin + i]
            _derive(of, jets, begin + i, s, with_log, own[:, a:b])
        end = begin + rows
        where = Where(start[begin:end], local[:rows], first[begin:end], kept[begin:end])
        for j in range(len(codes)):
            _feature(codes[j], of, jets, begin, own, where, out[:, j])


@compiled
def _derive(of: Particles, jets: Jets, i: int, s: int, with_log: bool, own: Floats) -> None:
    """What several features share: energy, its log, that of pt, deta, dphi, and the kind of particle."""
    for k in range(own.shape[1] if with_log else 0):
        own[_LOG_PT, k] = math.log(max(of.pt[s + k], FLOOR))
    if len(of.eta) > 0 and len(of.mass) > 0:
        for k in range(own.shape[1]):
            t = math.exp(of.eta[s + k])
            p = 0.5 * of.pt[s + k] * (t + 1.0 / t)
            own[_ENERGY, k] = math.sqrt(p * p + of.mass[s + k] * of.mass[s + k])
            own[_LOG_E, k] = math.log(max(own[_ENERGY, k], FLOOR))
    if len(jets.eta) > 0:
        for k in range(own.shape[1]):
            own[_DETA, k] = of.eta[s + k] - jets.eta[i]
    if len(jets.phi) > 0:
        for k in range(own.shape[1]):
            angle = of.phi[s + k] - jets.phi[i]
            own[_DPHI, k] = angle - 2.0 * math.pi * math.floor(angle / (2.0 * math.pi) + 0.5)
    if len(of.pdg) > 0:
        for k in range(own.shape[1]):
            own[_KIND, k] = _kind(of.pdg[s + k])


@compiled
def _feature(
    code: int, of: Particles, jets: Jets, begin: int, own: Floats, at: Where, out: NDArray[np.float32]
) -> None:
    if code < 0:
        _copy(of.extra[-1 - code], at.start, at, out)
    elif code == PT:
        _copy(of.pt, at.start, at, out)
    elif code == PT_REL:
        _ratios(of.pt, jets.pt[begin:], at, out)
    elif code == LOG_PT:
        _copy(own[_LOG_PT], at.local, at, out)
    elif code == LOG_PT_REL:
        _log_ratios(own[_LOG_PT], jets.pt[begin:], at, out)
    elif code == E:
        _copy(own[_ENERGY], at.local, at, out)
    elif code == LOG_E:
        _copy(own[_LOG_E], at.local, at, out)
    elif code == LOG_E_REL:
        _log_ratios(own[_LOG_E], jets.e[begin:], at, out)
    elif code == ETA:
        _copy(of.eta, at.start, at, out)
    elif code == PHI:
        _copy(of.phi, at.start, at, out)
    elif code == DETA:
        _copy(own[_DETA], at.local, at, out)
    elif code == DPHI:
        _copy(own[_DPHI], at.local, at, out)
    elif code == DR:
        _distances(own[_DETA], own[_DPHI], at, out)
    elif code == MASS:
        _copy(of.mass, at.start, at, out)
    elif code == CHARGE:
        _copy(of.charge, at.start, at, out)
    elif code >= REST_E:
        _copy(of.rest[code - REST_E], at.start, at, out)
    else:
        _equal(own[_KIND], code, at, out)


@compiled
def _copy(values: Floats, begin: Ints, at: Where, out: NDArray[np.float32]) -> None:
    for i in range(len(begin)):
        s, to = begin[i], at.first[i]
        for k in range(at.kept[i]):
            out[to + k] = values[s + k]


@compiled
def _ratios(values: Floats, jets: Floats, at: Where, out: NDArray[np.float32]) -> None:
    for i in range(len(at.start)):
        s, to, factor = at.start[i], at.first[i], 1.0 / jets[i]
        for k in range(at.kept[i]):
            out[to + k] = values[s + k] * factor


@compiled
def _log_ratios(logs: Floats, jets: Floats, at: Where, out: NDArray[np.float32]) -> None:
    least = math.log(FLOOR)
    for i in range(len(at.start)):
        s, to, less = at.local[i], at.first[i], math.log(jets[i])
        for k in range(at.kept[i]):
            out[to + k] = max(logs[s + k] - less, least)


@compiled
def _distances(deta: Floats, dphi: Floats, at: Where, out: NDArray[np.float32]) -> None:
    for i in range(len(at.start)):
        s, to = at.local[i], at.first[i]
        for k in range(at.kept[i]):
            out[to + k] = math.sqrt(deta[s + k] * deta[s + k] + dphi[s + k] * dphi[s + k])


@compiled
def _equal(kinds: Floats, code: int, at: Where, out: NDArray[np.float32]) -> None:
    for i in range(len(at.start)):
        s, to = at.local[i], at.first[i]
        for k in range(at.kept[i]):
            out[to + k] = 1.0 if kinds[s + k] == code else 0.0


@compiled
def _kind(pdg: int) -> int:
    a = abs(pdg)
    # nearly all, first
    if a == 211:
        return CHARGED
    if a == 130:
        return NEUTRAL
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
