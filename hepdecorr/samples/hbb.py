"""The hard processes, with a Z to neutrinos and pT-hat above 100 GeV.

zh: f fbar -> ZH with H -> b b.
zbb: b g -> Z b.  The b of the proton comes from a gluon that splits into b and anti-b, and the shower adds
    the other one: this is g g -> Z b b with one b nearly collinear to the beam or, in the tail that is
    selected here, not.  Pythia has no matrix element for Z b b.  Of all of Pythia's Z + jet, this is
    86 +- 2 % of the events with two b hadrons above 20 GeV, |eta| < 2.5, of mass 50 to 250 GeV, and a Z above
    120 GeV; what lacks are gluons of the final state that split, at small Delta R and mass (below 50 GeV
    they are most of it).  To make these as well would take ten times as long.
zz: f fbar -> ZZ (and gamma*) -> nu nu b b: rarer, but with a peak of its own at the mass of the Z.

From generated events to those with two b jets and missing momentum, as an analysis would select them.

generate: a file of a process from a seed; regenerate: any of its jobs again.

ZH -> nu nu b b at 13 TeV and its backgrounds Z + b b and ZZ -> nu nu b b, made with Pythia 8.

The example of M. Zgubic's practical on classifiers that are independent of a parameter (MLHEP 2019).  The
protected variable is the mass of the two b jets.  Processes in `processes`, the selection in `selection`.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from hepdecorr.samples.jets.clustering import ClusteredJets
from hepdecorr.samples.jets.detector import simulate_detector
from hepdecorr.samples.lhc import production
from hepdecorr.samples.lhc.generation import NEUTRINOS, CollisionOptions, EventRecord, select_hadrons
from hepdecorr.samples.lhc.production import SelectedEvents
from hepdecorr.samples.lhc.reconstruction import (
    JET_BRANCHES,
    assign_hadron_flavour,
    build_collection,
    build_jet_columns,
    cluster_ak4_jets,
    missing_momentum,
)
from hepdecorr.samples.production import GenerationSummary, luminosity_block

__all__ = ["PROCESSES", "CollisionOptions", "GenerationSummary", "generate", "luminosity_block", "regenerate"]


RUN_NUMBERS = {"zh": 21, "zbb": 22, "zz": 23}
BOTTOM = 5
# zbb: what to look for before the shower, since one event in twenty of `qg2gmZq` has it.
INCOMING_FLAVOUR = {"zbb": BOTTOM}
PT_HAT_MIN = 100.0

_Z_TO_NEUTRINOS = ("23:onMode = off", "23:onIfAny = 12 14 16")
_PROCESS_SETTINGS = {
    "zh": ("HiggsSM:ffbar2HZ = on", "25:onMode = off", "25:onIfAny = 5", *_Z_TO_NEUTRINOS),
    # Without the photon, which does not go to neutrinos.
    "zbb": ("WeakBosonAndParton:qg2gmZq = on", "WeakZ0:gmZmode = 2", *_Z_TO_NEUTRINOS),
    # Either boson may go either way: what is not nu nu b b falls at the first cut.
    "zz": (
        "WeakDoubleBoson:ffbar2gmZgmZ = on",
        "WeakZ0:gmZmode = 0",
        "23:onMode = off",
        "23:onIfAny = 5 12 14 16",
    ),
}


def pythia_settings(process: str) -> list[str]:
    """What makes Pythia generate the process."""
    return [*_PROCESS_SETTINGS[process], f"PhaseSpace:pTHatMin = {PT_HAT_MIN}"]


STAGES = ("generated", "neutrinos, b and anti-b", "missing momentum", "two b tags")
COLLECTIONS = {"Jet": {**JET_BRANCHES, "btagged": "bool"}}

JET_ETA_MAX = 2.5
MET_MIN = 130.0
# Of the tag, by flavour of the jet: a working point of today's taggers.
TAG_EFFICIENCY = {5: 0.80, 4: 0.15, 0: 0.01}
# What has less is not looked at, which loses 1 % of the selected events of zh and 6 +- 2 % of zbb.
_NEUTRINOS_MIN = 100.0
_HADRON_PT_MIN, _HADRON_ETA_MAX = 10.0, 2.8


def reconstruct_events(record: EventRecord, rng: np.random.Generator) -> SelectedEvents:
    """The events with missing momentum above MET_MIN and two tagged jets, with all their jets."""
    hopeful = _preselect_events(record)
    seen = simulate_detector(record.stable_particles(hopeful), rng)
    met = missing_momentum(seen, num_events=record.num_events, rng=rng)
    found = cluster_ak4_jets(seen, num_events=record.num_events, eta_max=JET_ETA_MAX)
    flavour = assign_hadron_flavour(found, record.particles)
    tagged = tag_b_jets(flavour, rng)
    invisible = hopeful & (met.pt > MET_MIN)
    chosen = invisible & (_count_tags(found, tagged, num_events=record.num_events) >= 2)
    stored = np.flatnonzero(chosen)
    columns = build_jet_columns(found, flavour) | {"btagged": tagged}
    return SelectedEvents(
        stored,
        {"PuppiMET_pt": met.pt[stored], "PuppiMET_phi": met.phi[stored]},
        {"Jet": build_collection(found.event, columns, stored=stored)},
        hopeful.astype(np.int8) + invisible + chosen,
    )


def tag_b_jets(flavour: NDArray[np.int32], rng: np.random.Generator) -> NDArray[np.bool_]:
    """Which jets pass the tag, of their flavours."""
    chance = np.select(
        [flavour == 5, flavour == 4], [TAG_EFFICIENCY[5], TAG_EFFICIENCY[4]], TAG_EFFICIENCY[0]
    )
    return np.asarray(rng.random(len(flavour)) < chance)


def _preselect_events(record: EventRecord) -> NDArray[np.bool_]:
    """Events with neutrinos that recoil, a b and an anti-b hadron: the others are not worth a detector.

    One that oscillates counts as both.
    """
    particles = record.particles
    invisible = particles.take(record.stable & np.isin(np.abs(particles.id), NEUTRINOS))
    x, y = (
        np.bincount(invisible.event, weights=invisible.p4[:, i], minlength=record.num_events) for i in (0, 1)
    )
    bottom = select_hadrons(particles, 5, pt_min=_HADRON_PT_MIN)
    eta = np.arcsinh(bottom.p4[:, 2] / np.hypot(bottom.p4[:, 0], bottom.p4[:, 1]))
    inside = bottom.take(np.abs(eta) < _HADRON_ETA_MAX)
    both = [
        np.bincount(inside.event[sign * _bottom_sign(inside.id) > 0], minlength=record.num_events) > 0
        for sign in (1, -1)
    ]
    return np.asarray((np.hypot(x, y) > _NEUTRINOS_MIN) & both[0] & both[1])


def _bottom_sign(pdg_id: NDArray[np.int32]) -> NDArray[np.int32]:
    """+1 for hadrons with a b, -1 with an anti-b: in mesons the positive code has the anti-b."""
    meson = np.abs(pdg_id) % 10_000 < 1000
    return np.sign(pdg_id) * np.where(meson, -1, 1)


def _count_tags(jets: ClusteredJets, tagged: NDArray[np.bool_], *, num_events: int) -> NDArray[np.int64]:
    return np.bincount(jets.event[tagged], minlength=num_events)


PROCESSES = tuple(RUN_NUMBERS)
SAMPLE = production.CollisionSample(
    name="hbb",
    run_numbers=RUN_NUMBERS,
    pythia_settings=pythia_settings,
    incoming_flavour=INCOMING_FLAVOUR,
    reconstruct=reconstruct_events,
    stages=STAGES,
    collections=COLLECTIONS,
    job_events=5_000,
)

generate = partial(production.generate, SAMPLE)
regenerate = partial(production.regenerate, SAMPLE)
