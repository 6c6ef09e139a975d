"""From generated events to those with two b jets and missing momentum, as an analysis would select them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hepdecorr.samples.jets.clustering import Jets
from hepdecorr.samples.jets.detector import detect
from hepdecorr.samples.lhc.generation import NEUTRINOS, Record, hadrons
from hepdecorr.samples.lhc.production import Chosen
from hepdecorr.samples.lhc.reconstruction import (
    JET_BRANCHES,
    collection,
    hadron_flavour,
    jet_columns,
    jets,
    missing,
)

STAGES = ("generated", "neutrinos, b and anti-b", "missing momentum", "two b tags")
COLLECTIONS = {"Jet": {**JET_BRANCHES, "btagged": "bool"}}

JET_ETA_MAX = 2.5
MET_MIN = 130.0
# Of the tag, by flavour of the jet: a working point of today's taggers.
EFFICIENCY = {5: 0.80, 4: 0.15, 0: 0.01}
# What has less is not looked at, which loses 1 % of the selected events of zh and 6 +- 2 % of zbb.
_NEUTRINOS_MIN = 100.0
_HADRON_PT_MIN, _HADRON_ETA_MAX = 10.0, 2.8


def reconstruct(record: Record, rng: np.random.Generator) -> Chosen:
    """The events with missing momentum above MET_MIN and two tagged jets, with all their jets."""
    hopeful = _hopeful(record)
    seen = detect(record.final(hopeful), rng)
    met = missing(seen, events=record.size, rng=rng)
    found = jets(seen, events=record.size, eta_max=JET_ETA_MAX)
    flavour = hadron_flavour(found, record.particles)
    tagged = tag(flavour, rng)
    invisible = hopeful & (met.pt > MET_MIN)
    chosen = invisible & (_tags(found, tagged, events=record.size) >= 2)
    stored = np.flatnonzero(chosen)
    columns = jet_columns(found, flavour) | {"btagged": tagged}
    return Chosen(
        stored,
        {"PuppiMET_pt": met.pt[stored], "PuppiMET_phi": met.phi[stored]},
        {"Jet": collection(found.event, columns, stored=stored)},
        hopeful.astype(np.int8) + invisible + chosen,
    )


def tag(flavour: NDArray[np.int32], rng: np.random.Generator) -> NDArray[np.bool_]:
    """Which jets pass the tag, of their flavours."""
    chance = np.select([flavour == 5, flavour == 4], [EFFICIENCY[5], EFFICIENCY[4]], EFFICIENCY[0])
    return np.asarray(rng.random(len(flavour)) < chance)


def _hopeful(record: Record) -> NDArray[np.bool_]:
    """Events with neutrinos that recoil, a b and an anti-b hadron: the others are not worth a detector.

    One that oscillates counts as both.
    """
    particles = record.particles
    invisible = particles.take(record.stable & np.isin(np.abs(particles.id), NEUTRINOS))
    x, y = (np.bincount(invisible.event, weights=invisible.p4[:, i], minlength=record.size) for i in (0, 1))
    bottom = hadrons(particles, 5, pt_min=_HADRON_PT_MIN)
    eta = np.arcsinh(bottom.p4[:, 2] / np.hypot(bottom.p4[:, 0], bottom.p4[:, 1]))
    inside = bottom.take(np.abs(eta) < _HADRON_ETA_MAX)
    both = [
        np.bincount(inside.event[sign * _bottom(inside.id) > 0], minlength=record.size) > 0
        for sign in (1, -1)
    ]
    return np.asarray((np.hypot(x, y) > _NEUTRINOS_MIN) & both[0] & both[1])


def _bottom(code: NDArray[np.int32]) -> NDArray[np.int32]:
    """+1 for hadrons with a b, -1 with an anti-b: in mesons the positive code has the anti-b."""
    meson = np.abs(code) % 10_000 < 1000
    return np.sign(code) * np.where(meson, -1, 1)


def _tags(found: Jets, tagged: NDArray[np.bool_], *, events: int) -> NDArray[np.int64]:
    return np.bincount(found.event[tagged], minlength=events)
