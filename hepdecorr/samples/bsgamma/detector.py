"""A fast detector in the laboratory frame, like Belle II in its main numbers: tracks and photons.

Acceptance 17 to 150 degrees.  Tracks: pT > 0.1 GeV, 97 % efficiency, sigma(pT)/pT = 0.5 % (+) 0.1 % pT,
1 mrad in the angles, a confusion table for particle identification.  Photons: E > 50 MeV, 98 % efficiency,
sigma(E)/E = 2 % (+) 0.66 %/E with a tail to low energies, 4 mrad / sqrt(E) in the angles.  Energies in GeV.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from hepdecorr.samples.bsgamma import kinematics as kin
from hepdecorr.samples.bsgamma.generation import Particles

THETA_MIN, THETA_MAX = np.radians(17.0), np.radians(150.0)
TRACK_PT_MIN = 0.1
PHOTON_ENERGY_MIN = 0.05

# True particle -> (what it is taken for, probability); the rest of the time it is identified rightly.
CONFUSION = {
    321: ((211, 0.05),),
    211: ((321, 0.05), (13, 0.01)),
    2212: ((321, 0.05), (211, 0.05)),
    13: ((211, 0.15),),
    11: ((211, 0.05),),
}


class Tracks(NamedTuple):
    """Reconstructed tracks in the laboratory, one row each, events in order."""

    event: NDArray[np.int64]
    pt: kin.Floats
    eta: kin.Floats
    phi: kin.Floats
    mass: kin.Floats
    charge: NDArray[np.int32]
    pdg_id: NDArray[np.int32]
    gen_id: NDArray[np.int32]
    mother: NDArray[np.int32]
    signal: NDArray[np.bool_]

    def take(self, rows: NDArray[Any]) -> Self:
        """The rows of an index or a mask."""
        return type(self)(*(column[rows] for column in self))

    def p4(self) -> kin.Floats:
        """Four-vectors (n, 4) in the laboratory."""
        return kin.four_vector(self.pt, self.eta, phi=self.phi, mass=self.mass)


class Photons(NamedTuple):
    """Reconstructed photons in the laboratory, one row each, events in order."""

    event: NDArray[np.int64]
    pt: kin.Floats
    eta: kin.Floats
    phi: kin.Floats
    mother: NDArray[np.int32]
    signal: NDArray[np.bool_]

    def take(self, rows: NDArray[Any]) -> Self:
        """The rows of an index or a mask."""
        return type(self)(*(column[rows] for column in self))

    def p4(self) -> kin.Floats:
        """Four-vectors (n, 4) in the laboratory."""
        return kin.four_vector(self.pt, self.eta, phi=self.phi, mass=np.zeros(len(self.pt)))


def detect(
    particles: Particles, rng: np.random.Generator, *, photon_scale: kin.Floats | None = None
) -> tuple[Tracks, Photons]:
    """What the detector sees of stable particles.

    photon_scale: of each event (events,), the factor by which it measures all photon energies wrongly.
    """
    p4 = kin.to_laboratory(particles.p4)
    theta = np.arctan2(np.hypot(p4[:, 0], p4[:, 1]), p4[:, 2])
    inside = (theta > THETA_MIN) & (theta < THETA_MAX)
    species = np.abs(particles.id)
    scale = np.ones(len(p4)) if photon_scale is None else photon_scale[particles.event]
    charged = inside & np.isin(species, list(TRACK_SPECIES))
    neutral = inside & (species == 22)
    return (
        _tracks(particles.take(charged), p4[charged], rng=rng),
        _photons(particles.take(neutral), p4[neutral], scale=scale[neutral], rng=rng),
    )


TRACK_SPECIES = tuple(kin.TRACK_MASS)


def _angles(p4: kin.Floats) -> tuple[kin.Floats, kin.Floats, kin.Floats]:
    """pT, theta and phi."""
    pt = np.hypot(p4[:, 0], p4[:, 1])
    return pt, np.arctan2(pt, p4[:, 2]), np.arctan2(p4[:, 1], p4[:, 0])


def _eta(theta: kin.Floats) -> kin.Floats:
    return np.asarray(-np.log(np.tan(np.clip(theta, 0.01, np.pi - 0.01) / 2)))


def _tracks(particles: Particles, p4: kin.Floats, *, rng: np.random.Generator) -> Tracks:
    count = len(p4)
    pt, theta, phi = _angles(p4)
    pt = pt * (1.0 + rng.normal(size=count) * np.hypot(0.005, 0.001 * pt))
    theta = theta + rng.normal(scale=1e-3, size=count)
    phi = phi + rng.normal(scale=1e-3, size=count)
    charge = _charge(particles.id)
    taken_for = identify(np.abs(particles.id), rng)
    tracks = Tracks(
        event=particles.event,
        pt=pt,
        eta=_eta(theta),
        phi=kin.wrap(phi),
        mass=np.array(list(kin.TRACK_MASS.values()))[_species_index(taken_for)],
        charge=charge,
        # A negative lepton has a positive PDG code.
        pdg_id=np.where(taken_for < 100, -charge, charge) * taken_for,
        gen_id=particles.id,
        mother=particles.mother,
        signal=particles.signal,
    )
    return tracks.take((rng.random(count) < 0.97) & (pt > TRACK_PT_MIN))


def _charge(pdg_id: NDArray[np.int32]) -> NDArray[np.int32]:
    """Charge of electrons, muons, pions, kaons and protons."""
    sign = np.sign(pdg_id)
    return np.where(np.abs(pdg_id) < 100, -sign, sign).astype(np.int32)


def _species_index(species: NDArray[np.int32]) -> NDArray[np.int64]:
    known = np.array(TRACK_SPECIES)
    order = np.argsort(known)
    return np.asarray(order[np.searchsorted(known[order], species)])


def identify(species: NDArray[np.int32], rng: np.random.Generator) -> NDArray[np.int32]:
    """The |PDG code| that particle identification gives to each true |PDG code|, by CONFUSION."""
    chance = rng.random(len(species))
    taken_for = species.copy()
    for true, mistakes in CONFUSION.items():
        below = 0.0
        for wrong, probability in mistakes:
            taken_for[(species == true) & (chance >= below) & (chance < below + probability)] = wrong
            below += probability
    return taken_for


def _photons(particles: Particles, p4: kin.Floats, *, scale: kin.Floats, rng: np.random.Generator) -> Photons:
    count = len(p4)
    _, theta, phi = _angles(p4)
    true = np.maximum(p4[:, 3], PHOTON_ENERGY_MIN)
    pull = rng.normal(size=count)
    # Leakage behind and beside the crystals: 15 % of the photons lose energy.
    leaks = rng.random(count) < 0.15
    pull = np.where(leaks, -np.abs(pull) - rng.exponential(size=count), pull)
    energy = scale * p4[:, 3] * (1.0 + pull * np.hypot(0.02, 0.0066 / true))
    angle = 0.004 / np.sqrt(true)
    measured = np.clip(theta + angle * rng.normal(size=count), 0.01, np.pi - 0.01)
    phi = phi + angle * rng.normal(size=count) / np.maximum(np.sin(theta), 0.05)
    photons = Photons(
        event=particles.event,
        pt=energy * np.sin(measured),
        eta=_eta(measured),
        phi=kin.wrap(phi),
        mother=particles.mother,
        signal=particles.signal,
    )
    return photons.take((rng.random(count) < 0.98) & (energy > PHOTON_ENERGY_MIN))
