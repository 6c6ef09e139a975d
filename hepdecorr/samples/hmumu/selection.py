"""From generated events to those with two muons of opposite charge, in the branches of NanoAOD."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepdecorr.samples.columns import Columns
from hepdecorr.samples.jets.detector import Candidates, detect
from hepdecorr.samples.jets.generation import Floats
from hepdecorr.samples.jets.truth import pairs
from hepdecorr.samples.lhc.generation import Record
from hepdecorr.samples.lhc.production import Chosen
from hepdecorr.samples.lhc.reconstruction import (
    JET_BRANCHES,
    collection,
    hadron_flavour,
    jet_columns,
    jets,
    missing,
)

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


def reconstruct(record: Record, rng: np.random.Generator) -> Chosen:
    """The events with a muon of either charge above PT_MIN, with all muons above STORED_PT_MIN and jets."""
    seen = detect(record.final(np.ones(record.size, dtype=bool)), rng)
    muons = _muons(seen)
    good = (muons.pt > PT_MIN) & (np.abs(muons.eta) < ETA_MAX)
    positive, negative = (
        np.bincount(muons.event[good & (muons.charge == sign)], minlength=record.size) > 0 for sign in (1, -1)
    )
    chosen = positive & negative
    stored = np.flatnonzero(chosen)
    met = missing(seen, events=record.size, rng=rng)
    seen = seen.take(chosen[seen.event])
    found = jets(seen, events=record.size, eta_max=JET_ETA_MAX)
    return Chosen(
        stored,
        {"PuppiMET_pt": met.pt[stored], "PuppiMET_phi": met.phi[stored]},
        {
            "Muon": collection(muons.event, _columns(muons, isolation(muons, seen)), stored=stored),
            "Jet": collection(
                found.event, jet_columns(found, hadron_flavour(found, record.particles)), stored=stored
            ),
        },
        chosen.astype(np.int8),
    )


def isolation(muons: Candidates, seen: Candidates) -> Floats:
    """NanoAOD's pfRelIso04_all without pile-up: pT of all else within Delta R < 0.4, over the muon's."""
    muon, other = pairs(muons.event, seen.event)
    eta, phi, pt = (np.asarray(getattr(seen, name), dtype=np.float64) for name in ("eta", "phi", "pt"))
    dphi = (muons.phi[muon] - phi[other] + np.pi) % (2 * np.pi) - np.pi
    away = np.hypot(muons.eta[muon] - eta[other], dphi)
    # The muon itself is among the candidates, at no distance.
    near = (away < ISOLATION_RADIUS) & (away > 0)
    total = np.bincount(muon[near], weights=pt[other[near]], minlength=len(muons.pt))
    return np.asarray(total / muons.pt, dtype=np.float64)


def _muons(seen: Candidates) -> Candidates:
    """By falling pT in each event."""
    muons = seen.take((np.abs(seen.pdg_id) == 13) & (seen.pt > STORED_PT_MIN))
    order: NDArray[np.int64] = np.lexsort((-muons.pt, muons.event))
    return muons.take(order)


def _columns(muons: Candidates, relative: Floats) -> Columns:
    values: dict[str, NDArray[Any]] = {
        **{name: getattr(muons, name) for name in ("pt", "eta", "phi", "mass", "charge")},
        "pfRelIso04_all": relative,
        # Whatever the detector takes for a muon is one.
        "mediumId": np.ones(len(muons.pt), dtype=bool),
    }
    return {name: values[name].astype(dtype) for name, dtype in COLLECTIONS["Muon"].items()}
