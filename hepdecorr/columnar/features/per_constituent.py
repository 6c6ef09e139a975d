"""One compiled pass from the columns of constituents to the padded array; only what is asked is computed.

Four-momenta of constituents in the rest frame of their jet, turned to its principal axes.

The frame is that of the sum of all constituents of the jet, however many of them a network sees.  The axes
are the eigenvectors of sum_i E_i n_i n_i^T there, n_i the direction and E_i the energy of constituent i: the
energy-weighted principal axis becomes z, the second x, and y completes a right-handed frame.  An axis points
to where sum_i E_i c_i |c_i| is positive, c_i the cosine to it: this does not depend on how the jet lies in
the detector, nor on soft or collinear radiation.  Where that sum vanishes it points to the side of the
hardest constituent.  (T. Cheng et al., arXiv:2007.01850, train on jets boosted to rest and rotated so that
the principal axis is aligned; all three axes and their signs are a choice of this package.)

A jet lighter than LIGHT times its energy (one massless particle; a mass squared below zero by rounding) is
boosted as one of that mass, which keeps everything finite.

What networks over constituents see: a few numbers for each, padded, with a mask.

    x, mask, dropped = prepare(rows, ["log_pt", "deta", "dphi", "charge"], length=40)

Momenta are in GeV, and weighted or raw as `constituents.conventions` says.  Relative ones are relative to
the branches of the jet (FatJet_pt, FatJet_mass), which carry jet energy corrections and shifts of them, not
to the sum of the constituents; deta and dphi count from its branches eta and phi, dphi from -pi to pi.
Logarithms are natural ones; what is below FLOOR (1e-8) is taken as FLOOR.  A jet of negative mass, as
NanoAOD writes a negative mass squared, has 0, and is counted.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hepdecorr._numba import cached_njit
from hepdecorr.columnar import constituents
from hepdecorr.columnar.constituents import Constituents
from hepdecorr.columnar.constituents.linking import pdg_charge
from hepdecorr.columnar.features.branches import Floats, Ints
from hepdecorr.columnar.features.registry import FeatureDescription, cached
from hepdecorr.errors import InputError, suggest

# A block of rows stays in the cache while its features are written, one after the other.
_BLOCK_ROWS = 32
_LOG_PT, _ENERGY, _LOG_E, _DETA, _DPHI, _PARTICLE_KIND, _NUM_DERIVED = 0, 1, 2, 3, 4, 5, 6

LOG_FLOOR = 1e-8  # what logarithms take for less: GeV, or a ratio

PT, LOG_PT, PT_REL, LOG_PT_REL, E, LOG_E, LOG_E_REL = 0, 1, 2, 3, 4, 5, 6
ETA, PHI, DETA, DPHI, DR, MASS, CHARGE = 7, 8, 9, 10, 11, 12, 13
ELECTRON, MUON, PHOTON, CHARGED_HADRON, NEUTRAL_HADRON = 14, 15, 16, 17, 18
REST_E, REST_PX, REST_PY, REST_PZ = 19, 20, 21, 22

# fmt: off
FEATURE_CODES = {
    "pt": PT, "log_pt": LOG_PT, "pt_rel": PT_REL, "log_pt_rel": LOG_PT_REL,
    "e": E, "log_e": LOG_E, "log_e_rel": LOG_E_REL,
    "eta": ETA, "phi": PHI, "deta": DETA, "dphi": DPHI, "dr": DR, "mass": MASS, "charge": CHARGE,
    "is_electron": ELECTRON, "is_muon": MUON, "is_photon": PHOTON,
    "is_charged_hadron": CHARGED_HADRON, "is_neutral_hadron": NEUTRAL_HADRON,
    "rest_e": REST_E, "rest_px": REST_PX, "rest_py": REST_PY, "rest_pz": REST_PZ,
}
# fmt: on


class ConstituentColumns(NamedTuple):
    """Columns of the constituents, flat; those that no feature needs are empty."""

    pt: Floats
    eta: Floats
    phi: Floats
    mass: Floats
    charge: Floats
    pdg: Ints
    rest_frame: Floats  # (4, constituents): e, px, py, pz
    extra: Floats  # (branches, constituents)


class JetColumns(NamedTuple):
    """Columns of the rows; those that no feature needs are empty."""

    pt: Floats
    eta: Floats
    phi: Floats
    e: Floats


class RowBlock(NamedTuple):
    """Where a block of rows has its constituents: in the columns, in what is derived, in the result."""

    start: Ints
    local: Ints
    first: Ints
    counts: Ints


@cached_njit
def fill_features(
    start: Ints,
    first: Ints,
    counts: Ints,
    codes: Ints,
    particles: ConstituentColumns,
    jets: JetColumns,
    out: NDArray[np.float32],
) -> None:
    """Feature codes[j] of constituent start[i] + k, k < kept[i], into out[first[i] + k, j]."""
    with_log = bool(np.any(codes == LOG_PT) or np.any(codes == LOG_PT_REL))
    local = np.zeros(_BLOCK_ROWS + 1, np.int64)
    for begin in range(0, len(counts), _BLOCK_ROWS):
        rows = min(_BLOCK_ROWS, len(counts) - begin)
        for i in range(rows):
            local[i + 1] = local[i] + counts[begin + i]
        own = np.empty((_NUM_DERIVED, local[rows]))
        for i in range(rows):
            a, b, s = local[i], local[i + 1], start[begin + i]
            _derive_columns(particles, jets, begin + i, s, with_log, own[:, a:b])
        end = begin + rows
        where = RowBlock(start[begin:end], local[:rows], first[begin:end], counts[begin:end])
        for j in range(len(codes)):
            _write_feature(codes[j], particles, jets, begin, own, where, out[:, j])


@cached_njit
def _derive_columns(
    particles: ConstituentColumns, jets: JetColumns, row: int, offset: int, with_log: bool, derived: Floats
) -> None:
    """What several features share: energy, its log, that of pt, deta, dphi, and the kind of particle."""
    for k in range(derived.shape[1] if with_log else 0):
        derived[_LOG_PT, k] = math.log(max(particles.pt[offset + k], LOG_FLOOR))
    if len(particles.eta) > 0 and len(particles.mass) > 0:
        for k in range(derived.shape[1]):
            t = math.exp(particles.eta[offset + k])
            p = 0.5 * particles.pt[offset + k] * (t + 1.0 / t)
            derived[_ENERGY, k] = math.sqrt(p * p + particles.mass[offset + k] * particles.mass[offset + k])
            derived[_LOG_E, k] = math.log(max(derived[_ENERGY, k], LOG_FLOOR))
    if len(jets.eta) > 0:
        for k in range(derived.shape[1]):
            derived[_DETA, k] = particles.eta[offset + k] - jets.eta[row]
    if len(jets.phi) > 0:
        for k in range(derived.shape[1]):
            angle = particles.phi[offset + k] - jets.phi[row]
            derived[_DPHI, k] = angle - 2.0 * math.pi * math.floor(angle / (2.0 * math.pi) + 0.5)
    if len(particles.pdg) > 0:
        for k in range(derived.shape[1]):
            derived[_PARTICLE_KIND, k] = _particle_kind(particles.pdg[offset + k])


@cached_njit
def _write_feature(
    code: int,
    particles: ConstituentColumns,
    jets: JetColumns,
    begin: int,
    derived: Floats,
    block: RowBlock,
    out: NDArray[np.float32],
) -> None:
    if code < 0:
        _copy_values(particles.extra[-1 - code], block.start, block, out)
    elif code == PT:
        _copy_values(particles.pt, block.start, block, out)
    elif code == PT_REL:
        _write_ratios(particles.pt, jets.pt[begin:], block, out)
    elif code == LOG_PT:
        _copy_values(derived[_LOG_PT], block.local, block, out)
    elif code == LOG_PT_REL:
        _write_log_ratios(derived[_LOG_PT], jets.pt[begin:], block, out)
    elif code == E:
        _copy_values(derived[_ENERGY], block.local, block, out)
    elif code == LOG_E:
        _copy_values(derived[_LOG_E], block.local, block, out)
    elif code == LOG_E_REL:
        _write_log_ratios(derived[_LOG_E], jets.e[begin:], block, out)
    elif code == ETA:
        _copy_values(particles.eta, block.start, block, out)
    elif code == PHI:
        _copy_values(particles.phi, block.start, block, out)
    elif code == DETA:
        _copy_values(derived[_DETA], block.local, block, out)
    elif code == DPHI:
        _copy_values(derived[_DPHI], block.local, block, out)
    elif code == DR:
        _write_distances(derived[_DETA], derived[_DPHI], block, out)
    elif code == MASS:
        _copy_values(particles.mass, block.start, block, out)
    elif code == CHARGE:
        _copy_values(particles.charge, block.start, block, out)
    elif code >= REST_E:
        _copy_values(particles.rest_frame[code - REST_E], block.start, block, out)
    else:
        _write_kind_flags(derived[_PARTICLE_KIND], code, block, out)


@cached_njit
def _copy_values(values: Floats, begin: Ints, block: RowBlock, out: NDArray[np.float32]) -> None:
    for i in range(len(begin)):
        s, to = begin[i], block.first[i]
        for k in range(block.counts[i]):
            out[to + k] = values[s + k]


@cached_njit
def _write_ratios(values: Floats, jets: Floats, block: RowBlock, out: NDArray[np.float32]) -> None:
    for i in range(len(block.start)):
        s, to, factor = block.start[i], block.first[i], 1.0 / jets[i]
        for k in range(block.counts[i]):
            out[to + k] = values[s + k] * factor


@cached_njit
def _write_log_ratios(logs: Floats, jets: Floats, block: RowBlock, out: NDArray[np.float32]) -> None:
    least = math.log(LOG_FLOOR)
    for i in range(len(block.start)):
        s, to, less = block.local[i], block.first[i], math.log(jets[i])
        for k in range(block.counts[i]):
            out[to + k] = max(logs[s + k] - less, least)


@cached_njit
def _write_distances(deta: Floats, dphi: Floats, block: RowBlock, out: NDArray[np.float32]) -> None:
    for i in range(len(block.start)):
        s, to = block.local[i], block.first[i]
        for k in range(block.counts[i]):
            out[to + k] = math.sqrt(deta[s + k] * deta[s + k] + dphi[s + k] * dphi[s + k])


@cached_njit
def _write_kind_flags(kinds: Floats, code: int, block: RowBlock, out: NDArray[np.float32]) -> None:
    for i in range(len(block.start)):
        s, to = block.local[i], block.first[i]
        for k in range(block.counts[i]):
            out[to + k] = 1.0 if kinds[s + k] == code else 0.0


@cached_njit
def _particle_kind(pdg: int) -> int:
    a = abs(pdg)
    # nearly all, first
    if a == 211:
        return CHARGED_HADRON
    if a == 130:
        return NEUTRAL_HADRON
    if a == 11:
        return ELECTRON
    if a == 13:
        return MUON
    if a == 2 or a == 22:  # noqa: PLR1714 (numba makes no set of this)
        return PHOTON
    if a == 1:
        return NEUTRAL_HADRON
    if a > 100:
        return CHARGED_HADRON if pdg_charge(pdg) != 0.0 else NEUTRAL_HADRON
    return -1


MIN_MASS_FRACTION = 1e-4

# Relative to the sum of energies: below this rounding would choose the sign.
_SIGN_TOLERANCE = 1e-9


@cached_njit
def fill_rest_frame(start: Ints, pt: Floats, eta: Floats, phi: Floats, mass: Floats, out: Floats) -> int:
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
            light += _boost_to_rest(total, first, last, out)
            _fill_energy_tensor(first, last, out, a)
            _find_principal_axes(a, v)
            _orient_axes(first, last, out, v)
            _rotate_to_axes(first, last, out, v)
    return light


@cached_njit
def _boost_to_rest(total: Floats, first: int, last: int, out: Floats) -> int:
    """Into the frame where `total` is at rest; 1 if it was too light for that."""
    square = total[1] * total[1] + total[2] * total[2] + total[3] * total[3]
    least = MIN_MASS_FRACTION * total[0]
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


@cached_njit
def _fill_energy_tensor(first: int, last: int, p: Floats, a: Floats) -> None:
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


@cached_njit
def _find_principal_axes(a: Floats, v: Floats) -> None:
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
                    _jacobi_rotate(a, v, p, q)
    for r in range(2):
        # the largest to the end
        if a[r, r] > a[2, 2]:
            a[r, r], a[2, 2] = a[2, 2], a[r, r]
            for c in range(3):
                v[r, c], v[2, c] = v[2, c], v[r, c]
    if a[1, 1] > a[0, 0]:
        for c in range(3):
            v[0, c], v[1, c] = v[1, c], v[0, c]


@cached_njit
def _jacobi_rotate(a: Floats, v: Floats, p: int, q: int) -> None:
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


@cached_njit
def _orient_axes(first: int, last: int, p: Floats, v: Floats) -> None:
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
        if abs(side) < _SIGN_TOLERANCE * norm:
            side = hardest
        if side < 0.0:
            for c in range(3):
                v[axis, c] = -v[axis, c]
    for c in range(3):
        v[1, c] = v[2, (c + 1) % 3] * v[0, (c + 2) % 3] - v[2, (c + 2) % 3] * v[0, (c + 1) % 3]


@cached_njit
def _rotate_to_axes(first: int, last: int, p: Floats, v: Floats) -> None:
    for k in range(first, last):
        x, y, z = p[1, k], p[2, k], p[3, k]
        for r in range(3):
            p[r + 1, k] = v[r, 0] * x + v[r, 1] * y + v[r, 2] * z


BRANCH_PREFIX = "branch:"


class PaddedConstituents(NamedTuple):
    """x (rows, L, features) float32, zero in the padding; mask (rows, L) bool; how many were left out."""

    x: NDArray[np.float32]
    mask: NDArray[np.bool_]
    num_dropped: int


@dataclass(frozen=True)
class ConstituentFeature:
    """A number for each constituent: `feature(rows)` gives them flat, in the order of `constituents.of`."""

    name: str
    unit: str
    title: str
    required_columns: frozenset[str]

    def __call__(self, rows: Any) -> NDArray[np.float32]:
        """Shape (constituents,), float32."""
        found = constituents.get_constituents(rows)
        out = np.empty((len(found.pt), 1), np.float32)
        every = np.diff(found.start)
        _fill_checked(rows, [self.name], first=found.start[:-1], counts=every, out=out, row_index=slice(None))
        return out[:, 0]


def _build_features() -> dict[str, ConstituentFeature]:
    listed = (
        ("pt", "GeV", r"$p_T$", ""),
        ("log_pt", "", r"$\log(p_T/\mathrm{GeV})$", ""),
        ("pt_rel", "", r"$p_T/p_T^\mathrm{jet}$", "jet_pt"),
        ("log_pt_rel", "", r"$\log(p_T/p_T^\mathrm{jet})$", "jet_pt"),
        ("e", "GeV", r"$E$", "eta mass"),
        ("log_e", "", r"$\log(E/\mathrm{GeV})$", "eta mass"),
        ("log_e_rel", "", r"$\log(E/E^\mathrm{jet})$", "eta mass jet_e"),
        ("eta", "", r"$\eta$", "eta"),
        ("phi", "", r"$\phi$", "phi"),
        ("deta", "", r"$\Delta\eta$", "eta jet_eta"),
        ("dphi", "", r"$\Delta\phi$", "phi jet_phi"),
        ("dr", "", r"$\Delta R$", "eta phi jet_eta jet_phi"),
        ("mass", "GeV", r"$m$", "mass"),
        ("charge", "", r"$q$", "charge"),
        ("is_electron", "", "electron", "pdg"),
        ("is_muon", "", "muon", "pdg"),
        ("is_photon", "", "photon", "pdg"),
        ("is_charged_hadron", "", "charged hadron", "pdg"),
        ("is_neutral_hadron", "", "neutral hadron", "pdg"),
        ("rest_e", "GeV", r"$E^*$", "eta phi mass rest"),
        ("rest_px", "GeV", r"$p_x^*$", "eta phi mass rest"),
        ("rest_py", "GeV", r"$p_y^*$", "eta phi mass rest"),
        ("rest_pz", "GeV", r"$p_z^*$", "eta phi mass rest"),
        ("puppi_weight", "", "Puppi weight", "branch"),
    )
    return {n: ConstituentFeature(n, u, t, frozenset(needs.split())) for n, u, t, needs in listed}


CONSTITUENT_FEATURES = _build_features()
"""Features by name.

is_photon counts CMS's electromagnetic hits of the forward calorimeter (pdgId 2), is_neutral_hadron the
hadronic ones (1); hadrons are those of any PDG id, not only 211 and 130.  rest_*: in the jet's rest frame,
turned to its principal axes (`constituent_frames`).  puppi_weight is there where the file stores it.
"""

CONSTITUENT_GROUPS: dict[str, tuple[str, ...]] = {
    "kinematics": ("log_pt", "log_e", "log_pt_rel", "log_e_rel", "deta", "dphi", "dr"),
    "particle_id": ("charge", *(n for n in CONSTITUENT_FEATURES if n.startswith("is_"))),
    "rest_frame": ("rest_e", "rest_px", "rest_py", "rest_pz"),
}
"""kinematics and particle_id are the inputs of the particle transformer (arXiv:2202.03772, table 2)."""


def expand_constituent_names(names: Iterable[str] | str) -> list[str]:
    """The names with groups ("kinematics") and patterns ("rest_*") spelt out, each once.

    Raises InputError, with the nearest name, for one that is neither these nor "branch:NAME".
    """
    found: dict[str, None] = {}
    for name in [names] if isinstance(names, str) else names:
        if name in CONSTITUENT_GROUPS:
            found.update(dict.fromkeys(CONSTITUENT_GROUPS[name]))
        elif name in CONSTITUENT_FEATURES or (name.startswith(BRANCH_PREFIX) and name != BRANCH_PREFIX):
            found[name] = None
        else:
            matching = [known for known in CONSTITUENT_FEATURES if fnmatchcase(known, name)]
            if not matching:
                known = [*CONSTITUENT_FEATURES, *CONSTITUENT_GROUPS]
                raise InputError(
                    f"no constituent feature {name!r}{suggest(name, known)}; a branch of the "
                    f"candidates is named as '{BRANCH_PREFIX}dz'"
                )
            found.update(dict.fromkeys(matching))
    return list(found)


def describe_constituent(name: str) -> FeatureDescription:
    """Name, unit and title of a constituent feature; a branch has no unit, and its name as title."""
    (name,) = expand_constituent_names([name])
    if name.startswith(BRANCH_PREFIX):
        return FeatureDescription(name, title=name.removeprefix(BRANCH_PREFIX))
    known = CONSTITUENT_FEATURES[name]
    return FeatureDescription(name, known.unit, known.title)


def pad_constituents(
    rows: Any,
    names: Iterable[str] | str,
    *,
    length: int,
    pad_to: str | int = "length",
    row_index: Ints | slice = slice(None),
) -> PaddedConstituents:
    """The `length` hardest constituents of each of `rows` (from objects.rows), features as expanded.

    They are padded to `length`, to a number, or with pad_to="longest" only to the most that a row has, at
    least to 1.  With `at` only some rows are prepared, a batch at a time; within `features.shared(rows)` what
    they have in common is read once.  Only the branches that the names need are read.  Raises InputError that
    names the branch and the event for what is missing or not finite, and the row for a jet without pt.
    """
    if length < 1:
        raise InputError(f"constituents: length {length!r}; it is how many of a jet are kept, 1 or more")
    wanted = expand_constituent_names(names)
    count = np.diff(constituents.get_constituents(rows).start)[row_index]
    width = _padded_length(pad_to, length, longest=int(count.max(initial=1)))
    kept = np.minimum(count, min(length, width))
    x = np.zeros((len(kept), width, len(wanted)), np.float32)
    first = np.arange(len(kept)) * width
    _fill_checked(rows, wanted, first=first, counts=kept, out=x.reshape(-1, len(wanted)), row_index=row_index)
    return PaddedConstituents(x, np.arange(width) < kept[:, None], int((count - kept).sum()))


def _padded_length(pad_to: str | int, length: int, *, longest: int) -> int:
    if isinstance(pad_to, int) and not isinstance(pad_to, bool) and pad_to > 0:
        return pad_to
    if pad_to not in {"length", "longest"}:
        raise InputError(f"pad_to {pad_to!r}; it is 'length', 'longest' or a number")
    return length if pad_to == "length" else max(1, min(longest, length))


def _fill_checked(
    rows: Any, names: list[str], *, first: Any, counts: Any, out: NDArray[np.float32], row_index: Ints | slice
) -> None:
    """Feature j of the k-th of the `kept` hardest of row at[i] into out[first[i] + k, j]."""
    codes, particles, jets = _read_inputs(rows, tuple(names))
    chosen = JetColumns(*(column[row_index] if len(column) else column for column in jets))
    fill_features(
        constituents.get_constituents(rows).start[:-1][row_index],
        first,
        counts,
        codes,
        particles,
        chosen,
        out,
    )
    # NaN comes through both, and neither makes an array as isfinite does.
    if not np.isfinite(out.min(initial=0)) or not np.isfinite(out.max(initial=0)):
        bad = names[int(np.flatnonzero(~np.isfinite(out).all(axis=0))[0])]
        raise InputError(f"constituent feature {bad!r}: values that are not finite in float32")


@cached
def _read_inputs(rows: Any, names: tuple[str, ...]) -> tuple[Ints, ConstituentColumns, JetColumns]:
    """Codes of the features, and the columns of constituents and rows that they are made of."""
    found = constituents.get_constituents(rows)
    needs = frozenset[str]().union(*(_required_columns(name) for name in names))
    branches = [n for n in names if "branch" in _required_columns(n)]
    extra = np.empty((len(branches), len(found.pt)))
    for i, name in enumerate(branches):
        extra[i] = found.column("puppiWeight" if name == "puppi_weight" else name.removeprefix(BRANCH_PREFIX))
    # A branch has a code of its own: minus its place in `extra`, less one.
    codes = np.array([-1 - branches.index(n) if n in branches else FEATURE_CODES[n] for n in names], np.int64)
    return codes, _read_constituent_columns(rows, found, needs, extra), _read_jet_columns(rows, needs)


def _required_columns(name: str) -> frozenset[str]:
    return (
        frozenset({"branch"})
        if name.startswith(BRANCH_PREFIX)
        else CONSTITUENT_FEATURES[name].required_columns
    )


def _read_constituent_columns(
    rows: Any, jet_constituents: Constituents, required: frozenset[str], extra: Floats
) -> ConstituentColumns:
    """Columns of the constituents; empty where nothing needs them, so that their branch is not read."""
    nothing = np.empty(0)
    return ConstituentColumns(
        jet_constituents.pt,
        jet_constituents.eta if "eta" in required else nothing,
        jet_constituents.phi if "phi" in required else nothing,
        jet_constituents.mass if "mass" in required else nothing,
        jet_constituents.charge if "charge" in required else nothing,
        jet_constituents.pdg if "pdg" in required else np.empty(0, np.int64),
        _rest_frame_components(rows) if "rest" in required else np.empty((4, 0)),
        extra,
    )


def _read_jet_columns(rows: Any, required: frozenset[str]) -> JetColumns:
    nothing = np.empty(0)
    pt = eta = phi = e = nothing
    if required & {"jet_pt", "jet_e"}:
        pt = _require_positive_pt(rows)
    if required & {"jet_eta", "jet_e"}:
        eta = constituents.read_jet_branch(rows, "eta")
    if "jet_phi" in required:
        phi = constituents.read_jet_branch(rows, "phi")
    if "jet_e" in required:
        mass = constituents.read_jet_branch(rows, "mass")
        e = np.hypot(pt * np.cosh(eta), np.maximum(mass, 0.0))
        constituents.get_constituents(rows).record_issue(
            "jets of negative mass taken as massless", int((mass < 0).sum())
        )
    return JetColumns(pt, eta, phi, e)


def _require_positive_pt(rows: Any) -> Floats:
    pt = constituents.read_jet_branch(rows, "pt")
    bad = np.flatnonzero((pt <= 0) & (np.diff(constituents.get_constituents(rows).start) > 0))
    if bad.size:
        raise InputError(
            f"the jet in row {bad[0]} has pt {pt[bad[0]]:g}: nothing can be relative to it; cut it away"
        )
    return pt


@cached
def _rest_frame_components(rows: Any) -> Floats:
    found = constituents.get_constituents(rows)
    out = np.empty((4, len(found.pt)))
    light = fill_rest_frame(found.start, found.pt, found.eta, found.phi, found.mass, out)
    found.record_issue(f"jets boosted as if of mass {MIN_MASS_FRACTION:g} E, being lighter", light)
    return out
