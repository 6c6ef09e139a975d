"""A fast detector in the manner of CMS' particle flow: one candidate for each visible particle.

Charged particles are measured by a tracker to |eta| = 2.5, photons and neutral hadrons by calorimeters to 3;
beyond the tracker, electrons count as photons and charged hadrons as neutral ones.  No pile-up, no magnetic
field, no clusters that merge.  KINDS has the numbers.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from hepdecorr.samples.columns import round_mantissa
from hepdecorr.samples.jets.generation import Floats, Particles

ETA_MAX = 3.0
TRACKER_ETA = 2.5
# As NanoAOD stores candidates; rounded here, so that all that is computed from them can be computed again
# from the file.
MANTISSA_BITS = 12


class Kind(NamedTuple):
    """How a sort of particle is seen.

    id, mass: what is assigned to it (GeV); pt_min: threshold, GeV; efficiency; sigma(pT)/pT =
    constant (+) stochastic / sqrt(E / GeV) (+) slope * pT / GeV; angle: sigma of eta and of phi.
    """

    id: int
    mass: float
    pt_min: float
    efficiency: float
    constant: float
    stochastic: float
    slope: float
    angle: float


KINDS = {
    "charged hadron": Kind(211, 0.13957, 0.5, 0.97, 0.01, 0.0, 1.5e-4, 5e-4),
    "electron": Kind(11, 0.000511, 0.5, 0.97, 0.01, 0.0, 1.5e-4, 5e-4),
    "muon": Kind(13, 0.105658, 0.5, 0.97, 0.01, 0.0, 1.5e-4, 5e-4),
    "photon": Kind(22, 0.0, 0.5, 0.99, 0.01, 0.05, 0.0, 5e-3),
    # A calorimeter measures energy and direction: no mass.
    "neutral hadron": Kind(130, 0.0, 1.0, 0.99, 0.05, 0.9, 0.0, 2e-2),
}
_HADRON, _ELECTRON, _MUON, _PHOTON, _NEUTRAL = range(5)
_NUMBERS = {name: np.array([kind[i] for kind in KINDS.values()]) for i, name in enumerate(Kind._fields)}
_UNSEEN = -1

# The charged hadrons that live long enough (Pythia's defaults), and hyperons, should one let them live.
CHARGED_HADRONS = (211, 321, 2212, 3112, 3222, 3312, 3334)
# Of these, those whose particle (not antiparticle) is negative.
_NEGATIVE = (11, 13, 3112, 3312, 3334)
_NEUTRINOS = (12, 14, 16)


class Candidates(NamedTuple):
    """What the detector sees, one row each, events in order; GeV, float32 with MANTISSA_BITS."""

    event: NDArray[np.int64]
    pt: NDArray[np.float32]
    eta: NDArray[np.float32]
    phi: NDArray[np.float32]
    mass: NDArray[np.float32]
    pdg_id: NDArray[np.int32]
    charge: NDArray[np.int32]

    def take(self, rows: NDArray[Any]) -> Self:
        """The rows of an index or a mask."""
        return type(self)(*(column[rows] for column in self))

    def p4(self) -> Floats:
        """Four-vectors (n, 4)."""
        pt, eta, phi, mass = (np.asarray(x, dtype=np.float64) for x in self[1:5])
        px, py, pz = pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)
        return np.column_stack([px, py, pz, np.sqrt(px**2 + py**2 + pz**2 + mass**2)])


def detect(particles: Particles, rng: np.random.Generator) -> Candidates:
    """What the detector sees of stable particles."""
    pt = np.hypot(particles.p4[:, 0], particles.p4[:, 1])
    # Softer ones do not come over the threshold, and eta wants a pT.
    particles, pt = particles.take(pt > 0.1), pt[pt > 0.1]
    eta = np.arcsinh(particles.p4[:, 2] / pt)
    kind = kinds(particles.id, eta)
    seen = kind != _UNSEEN
    return _measured(particles.take(seen), pt[seen], eta=eta[seen], kind=kind[seen], rng=rng)


def kinds(pdg_id: NDArray[np.int32], eta: Floats) -> NDArray[np.int64]:
    """The index in KINDS as which each particle is seen; -1 if it is not."""
    species, distance = np.abs(pdg_id), np.abs(eta)
    kind = np.full(len(pdg_id), _NEUTRAL)
    kind[np.isin(species, CHARGED_HADRONS)] = _HADRON
    for code, index in ((11, _ELECTRON), (13, _MUON), (22, _PHOTON)):
        kind[species == code] = index
    outside = distance > TRACKER_ETA
    kind[outside & (kind == _HADRON)] = _NEUTRAL
    kind[outside & (kind == _ELECTRON)] = _PHOTON
    kind[np.isin(species, _NEUTRINOS) | (outside & (kind == _MUON)) | (distance > ETA_MAX)] = _UNSEEN
    return kind


def _measured(
    particles: Particles, pt: Floats, *, eta: Floats, kind: NDArray[np.int64], rng: np.random.Generator
) -> Candidates:
    has = {name: values[kind] for name, values in _NUMBERS.items()}
    count = len(pt)
    energy = particles.p4[:, 3]
    calorimeter = kind >= _PHOTON
    pt = np.where(calorimeter, energy / np.cosh(eta), pt)
    resolution = np.sqrt(has["constant"] ** 2 + has["stochastic"] ** 2 / energy + (has["slope"] * pt) ** 2)
    phi = np.arctan2(particles.p4[:, 1], particles.p4[:, 0]) + has["angle"] * rng.normal(size=count)
    charge = np.where(calorimeter, 0, _charge(particles.id))
    lepton = has["id"] < 20
    candidates = Candidates(
        event=particles.event,
        pt=_rounded(pt * (1.0 + resolution * rng.normal(size=count))),
        eta=_rounded(eta + has["angle"] * rng.normal(size=count)),
        phi=_rounded((phi + np.pi) % (2 * np.pi) - np.pi),
        mass=has["mass"].astype(np.float32),
        # A negative lepton has a positive PDG code.
        pdg_id=(has["id"] * np.select([charge == 0, lepton], [1, -charge], charge)).astype(np.int32),
        charge=charge.astype(np.int32),
    )
    return candidates.take((rng.random(count) < has["efficiency"]) & (candidates.pt > has["pt_min"]))


def _charge(pdg_id: NDArray[np.int32]) -> NDArray[np.int32]:
    sign = np.sign(pdg_id)
    return np.where(np.isin(np.abs(pdg_id), _NEGATIVE), -sign, sign)


def _rounded(values: Floats) -> NDArray[np.float32]:
    return round_mantissa(values.astype(np.float32), MANTISSA_BITS)
