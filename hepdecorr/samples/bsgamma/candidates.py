"""One B -> K*0 gamma candidate an event: K pi near the K*0 with the hardest photon.

M_bc = sqrt(E_beam^2 - p_B^2) and Delta E = E_B - E_beam, both in the CM frame, in GeV.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hepdecorr.errors import InputError
from hepdecorr.samples.bsgamma import kinematics as kin
from hepdecorr.samples.bsgamma.conditions import Conditions
from hepdecorr.samples.bsgamma.detector import Photons, Tracks

PHOTON_STAR_MIN, PHOTON_STAR_MAX = 1.8, 3.4
# What an event passed last; an event that reached a stage has passed all before it.
STAGES = ("generated", "hard photon", "K pi pair", "K*0 mass", "Delta E", "M_bc")


@dataclass(frozen=True)
class Options:
    """What is kept of the generated events, and how it is stored.

    de_max: |Delta E| below, GeV; mkst_window: |m(K pi) - 0.896| below, GeV; mbc_min: M_bc above, GeV;
    keep_either: keep what passes `mbc_min` in M_bc *or* in the corrected M_bc, for a cut on M_bc alone
    sculpts the corrected mass (protect `mbcCorr` only in such a sample);
    kaon_id: ask for an identified kaon and pion (a tenth of the background remains);
    isr: photons from the initial state of the continuum (slower, about 2 % of the candidates);
    compact: round floats to what the detector resolves and compress hard, for small files;
    conditions: runs with hidden shifts of the photons' scale and of the beams; None: one run a process.
    """

    de_max: float = 0.5
    mkst_window: float = 0.5
    mbc_min: float = 5.2
    keep_either: bool = False
    kaon_id: bool = False
    isr: bool = False
    compact: bool = False
    conditions: Conditions | None = None

    def __post_init__(self) -> None:
        for name in ("de_max", "mkst_window"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} must be above 0 GeV, not {getattr(self, name)}")
        if not 0 <= self.mbc_min < kin.BEAM_STAR:
            raise InputError(f"mbc_min must lie in [0, {kin.BEAM_STAR}) GeV, not {self.mbc_min}")


class Candidates(NamedTuple):
    """Chosen candidates, at most one an event, events in order.

    kaon, pion, photon: rows in Tracks and Photons; b: four-vectors (n, 4) in the CM frame; mass_kpi,
    mbc, mbc_corrected, delta_e in GeV; multiplicity: candidates of the event among which this one was drawn.
    """

    event: NDArray[np.int64]
    kaon: NDArray[np.int64]
    pion: NDArray[np.int64]
    photon: NDArray[np.int64]
    b: kin.Floats
    photon_energy: kin.Floats
    mass_kpi: kin.Floats
    mbc: kin.Floats
    mbc_corrected: kin.Floats
    delta_e: kin.Floats
    multiplicity: NDArray[np.int64]


def find_candidates(
    tracks: Tracks, photons: Photons, *, events: int, rng: np.random.Generator, options: Options
) -> tuple[Candidates, NDArray[np.int8]]:
    """Candidates of `events` events, and the stage (index in STAGES) that each event reached."""
    reached = np.zeros(events, dtype=np.int8)
    photon_star = kin.to_cm(photons.p4())
    hardest = _hardest_photon(photons, photon_star[:, 3], events=events)
    reached[hardest >= 0] = 1

    kaon, pion = _pairs(tracks, hardest >= 0, rng=rng, kaon_id=options.kaon_id)
    reached[tracks.event[kaon]] = 2

    lab = tracks.p4()
    kpi = kin.to_cm(kin.with_mass(lab[kaon], kin.TRACK_MASS[321]))
    kpi += kin.to_cm(kin.with_mass(lab[pion], kin.TRACK_MASS[211]))
    mass_kpi = kin.invariant_mass(kpi)
    near = np.abs(mass_kpi - kin.KSTAR_MASS) < options.mkst_window
    kaon, pion, kpi, mass_kpi = kaon[near], pion[near], kpi[near], mass_kpi[near]
    reached[tracks.event[kaon]] = 3

    photon = hardest[tracks.event[kaon]]
    b = kpi + photon_star[photon]
    delta_e = b[:, 3] - kin.BEAM_STAR
    mbc, corrected = _mbc(b), _mbc(_rescaled(kpi, photon_star[photon]))
    balanced = np.abs(delta_e) < options.de_max
    reached[tracks.event[kaon[balanced]]] = 4

    # In the precision that is stored, or rounding puts a stored value below the cut.
    above = mbc.astype(np.float32) > np.float32(options.mbc_min)
    if options.keep_either:
        above |= corrected.astype(np.float32) > np.float32(options.mbc_min)
    chosen, multiplicity = _choose(tracks.event[kaon], balanced & above, rng=rng)
    event = tracks.event[kaon[chosen]]
    reached[event] = 5
    found = Candidates(
        event=event,
        kaon=kaon[chosen],
        pion=pion[chosen],
        photon=photon[chosen],
        b=b[chosen],
        photon_energy=photon_star[photon[chosen], 3],
        mass_kpi=mass_kpi[chosen],
        mbc=mbc[chosen],
        mbc_corrected=corrected[chosen],
        delta_e=delta_e[chosen],
        multiplicity=multiplicity,
    )
    return found, reached


def _hardest_photon(photons: Photons, energy: kin.Floats, *, events: int) -> NDArray[np.int64]:
    """Row of the hardest photon in the window of E*, -1 for an event without one."""
    window = np.flatnonzero((energy > PHOTON_STAR_MIN) & (energy < PHOTON_STAR_MAX))
    order = window[np.lexsort((-energy[window], photons.event[window]))]
    event, first = np.unique(photons.event[order], return_index=True)
    hardest = np.full(events, -1)
    hardest[event] = order[first]
    return hardest


def _pairs(
    tracks: Tracks, wanted: NDArray[np.bool_], *, rng: np.random.Generator, kaon_id: bool
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of kaon and pion for every pair of opposite charges in the wanted events."""
    species = np.abs(tracks.pdg_id)
    usable = wanted[tracks.event] & ((species == 321) | (species == 211))
    kaons = np.flatnonzero(usable & ((species == 321) | (not kaon_id)))
    pions = np.flatnonzero(usable & ((species == 211) | (not kaon_id)))
    start = np.searchsorted(tracks.event[pions], tracks.event[kaons], side="left")
    partners = np.searchsorted(tracks.event[pions], tracks.event[kaons], side="right") - start
    kaon = np.repeat(kaons, partners)
    within = np.arange(len(kaon)) - np.repeat(np.cumsum(partners) - partners, partners)
    pion = pions[np.repeat(start, partners) + within]
    keep = tracks.charge[kaon] * tracks.charge[pion] < 0
    if not kaon_id:
        # One hypothesis a pair, before any cut on M_bc: both would give nearly the same M_bc twice and pile
        # up at its threshold.  An identified kaon decides, else chance.
        preference = 2.0 * (species == 321) + rng.random(len(species))
        keep &= preference[kaon] > preference[pion]
    return kaon[keep], pion[keep]


def _mbc(b: kin.Floats) -> kin.Floats:
    return kin.root(kin.BEAM_STAR**2 - (b[:, :3] ** 2).sum(axis=1))


def _rescaled(kpi: kin.Floats, photon: kin.Floats) -> kin.Floats:
    """The B with the photon's energy set to E_beam - E_Kpi, as Belle corrects M_bc for leakage."""
    return kpi + photon * ((kin.BEAM_STAR - kpi[:, 3]) / photon[:, 3])[:, None]


def _choose(
    event: NDArray[np.int64], passing: NDArray[np.bool_], *, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """One passing row an event at random, and how many there were.

    To rank by Delta E or the K*0 mass instead would leave steps at the edges of the preferred window.
    """
    shuffled = rng.permutation(np.flatnonzero(passing))
    _, first, multiplicity = np.unique(event[shuffled], return_index=True, return_counts=True)
    return shuffled[first], multiplicity
