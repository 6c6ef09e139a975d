"""The hard processes.

signal: g g -> H and weak boson fusion q q' -> H q q', mixed by their cross-sections, with H -> mu mu.
dy: f fbar -> Z/gamma* -> mu mu with a mass of 105 to 170 GeV before photons are radiated, for a window of
    110 to 150 GeV whose lower end is four times the resolution (1.1 %) above 105.

From generated events to those with two muons of opposite charge, in the branches of NanoAOD.

generate: a file of a process from a seed; regenerate: any of its jobs again.

H -> mu mu at 13 TeV and its background Z/gamma* -> mu mu, made with Pythia 8, in NanoAOD's branches.

The second example of M. Zgubic's talk on classifiers that are independent of a parameter (MLHEP 2019).  The
protected variable is the mass of the muons.  Processes in `processes`, muons and jets in `selection`.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepdecorr.samples.columns import Columns
from hepdecorr.samples.jets.detector import PFCandidates, simulate_detector
from hepdecorr.samples.jets.generation import Floats
from hepdecorr.samples.jets.truth import pairs_in_event
from hepdecorr.samples.lhc import production
from hepdecorr.samples.lhc.generation import CollisionOptions, EventRecord
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


RUN_NUMBERS = {"signal": 31, "dy": 32}
MASS_MIN, MASS_MAX = 105.0, 170.0

_PROCESS_SETTINGS = {
    "signal": (
        "HiggsSM:gg2H = on",
        "HiggsSM:ff2Hff(t:ZZ) = on",
        "HiggsSM:ff2Hff(t:WW) = on",
        "25:onMode = off",
        "25:onIfAny = 13",
    ),
    "dy": (
        "WeakSingleBoson:ffbar2gmZ = on",
        "23:onMode = off",
        "23:onIfAny = 13",
        f"PhaseSpace:mHatMin = {MASS_MIN}",
        f"PhaseSpace:mHatMax = {MASS_MAX}",
    ),
}


def pythia_settings(process: str) -> list[str]:
    """What makes Pythia generate the process."""
    return list(_PROCESS_SETTINGS[process])


STAGES = ("generated", "two opposite muons")
COLLECTIONS = {
    "Muon": {
        **dict.fromkeys(("pt", "eta", "phi", "mass", "pfRelIso04_all"), "float32"),
        "charge": "int32",
        "mediumId": "bool",
    },
    "Jet": JET_BRANCHES,
}

# Muons that are stored, and those that a stored event has of either charge.
STORED_PT_MIN, PT_MIN, ETA_MAX = 5.0, 20.0, 2.4
# The detector sees hadrons up to 3.
JET_ETA_MAX = 2.6
ISOLATION_RADIUS = 0.4


def reconstruct_events(record: EventRecord, rng: np.random.Generator) -> SelectedEvents:
    """The events with a muon of either charge above PT_MIN, with all muons above STORED_PT_MIN and jets."""
    seen = simulate_detector(record.stable_particles(np.ones(record.num_events, dtype=bool)), rng)
    muons = _select_muons(seen)
    good = (muons.pt > PT_MIN) & (np.abs(muons.eta) < ETA_MAX)
    positive, negative = (
        np.bincount(muons.event[good & (muons.charge == sign)], minlength=record.num_events) > 0
        for sign in (1, -1)
    )
    chosen = positive & negative
    stored = np.flatnonzero(chosen)
    met = missing_momentum(seen, num_events=record.num_events, rng=rng)
    seen = seen.take(chosen[seen.event])
    found = cluster_ak4_jets(seen, num_events=record.num_events, eta_max=JET_ETA_MAX)
    return SelectedEvents(
        stored,
        {"PuppiMET_pt": met.pt[stored], "PuppiMET_phi": met.phi[stored]},
        {
            "Muon": build_collection(
                muons.event, _muon_columns(muons, relative_isolation(muons, seen)), stored=stored
            ),
            "Jet": build_collection(
                found.event,
                build_jet_columns(found, assign_hadron_flavour(found, record.particles)),
                stored=stored,
            ),
        },
        chosen.astype(np.int8),
    )


def relative_isolation(muons: PFCandidates, candidates: PFCandidates) -> Floats:
    """NanoAOD's pfRelIso04_all without pile-up: pT of all else within Delta R < 0.4, over the muon's."""
    muon, other = pairs_in_event(muons.event, candidates.event)
    eta, phi, pt = (np.asarray(getattr(candidates, name), dtype=np.float64) for name in ("eta", "phi", "pt"))
    dphi = (muons.phi[muon] - phi[other] + np.pi) % (2 * np.pi) - np.pi
    away = np.hypot(muons.eta[muon] - eta[other], dphi)
    # The muon itself is among the candidates, at no distance.
    near = (away < ISOLATION_RADIUS) & (away > 0)
    total = np.bincount(muon[near], weights=pt[other[near]], minlength=len(muons.pt))
    return np.asarray(total / muons.pt, dtype=np.float64)


def _select_muons(candidates: PFCandidates) -> PFCandidates:
    """By falling pT in each event."""
    muons = candidates.take((np.abs(candidates.pdg_id) == 13) & (candidates.pt > STORED_PT_MIN))
    order: NDArray[np.int64] = np.lexsort((-muons.pt, muons.event))
    return muons.take(order)


def _muon_columns(muons: PFCandidates, isolation: Floats) -> Columns:
    values: dict[str, NDArray[Any]] = {
        **{name: getattr(muons, name) for name in ("pt", "eta", "phi", "mass", "charge")},
        "pfRelIso04_all": isolation,
        # Whatever the detector takes for a muon is one.
        "mediumId": np.ones(len(muons.pt), dtype=bool),
    }
    return {name: values[name].astype(dtype) for name, dtype in COLLECTIONS["Muon"].items()}


PROCESSES = tuple(RUN_NUMBERS)
SAMPLE = production.CollisionSample(
    name="hmumu",
    run_numbers=RUN_NUMBERS,
    pythia_settings=pythia_settings,
    incoming_flavour={},
    reconstruct=reconstruct_events,
    stages=STAGES,
    collections=COLLECTIONS,
    job_events=5_000,
)

generate = partial(production.generate, SAMPLE)
regenerate = partial(production.regenerate, SAMPLE)
