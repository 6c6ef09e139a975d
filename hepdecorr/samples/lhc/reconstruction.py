"""What an analysis has of an event: jets of R = 0.4 with their flavour, missing transverse momentum."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hepdecorr.samples.columns import Collection, Columns
from hepdecorr.samples.jets.clustering import ClusteredJets, cluster_jets
from hepdecorr.samples.jets.detector import PFCandidates
from hepdecorr.samples.jets.generation import Floats, GenParticles
from hepdecorr.samples.jets.truth import delta_r, pairs_in_event
from hepdecorr.samples.lhc.generation import select_hadrons

RADIUS = 0.4
JET_PT_MIN = 20.0
# What pile-up, of which there is none here, would add to each component of the missing momentum, GeV: a
# typical resolution of PUPPI at the LHC's second run.
SOFT_MET = 12.0

JET_BRANCHES = {
    **dict.fromkeys(("pt", "eta", "phi", "mass"), "float32"),
    **dict.fromkeys(("nConstituents", "hadronFlavour"), "int32"),
}


class MissingMomentum(NamedTuple):
    """Missing transverse momentum of each event, GeV, and its azimuth."""

    pt: Floats
    phi: Floats


def missing_momentum(
    candidates: PFCandidates, *, num_events: int, rng: np.random.Generator
) -> MissingMomentum:
    """What balances all that is seen, with SOFT_MET added to it."""
    p4 = candidates.p4()
    x, y = (
        SOFT_MET * rng.normal(size=num_events)
        - np.bincount(candidates.event, weights=p4[:, i], minlength=num_events)
        for i in (0, 1)
    )
    return MissingMomentum(np.hypot(x, y), np.arctan2(y, x))


def cluster_ak4_jets(candidates: PFCandidates, *, num_events: int, eta_max: float) -> ClusteredJets:
    """The jets above JET_PT_MIN."""
    return cluster_jets(candidates, num_events=num_events, radius=RADIUS, pt_min=JET_PT_MIN, eta_max=eta_max)


def assign_hadron_flavour(jets: ClusteredJets, particles: GenParticles) -> NDArray[np.int32]:
    """NanoAOD's Jet_hadronFlavour: 5 for a b hadron above 5 GeV within R of the jet, 4 for a c, else 0."""
    flavour = np.zeros(len(jets.event), dtype=np.int32)
    for quark in (4, 5):
        near = select_hadrons(particles, quark)
        jet, hadron = pairs_in_event(jets.event, near.event)
        flavour[jet[delta_r(jets, near, jet=jet, particle=hadron) < RADIUS]] = quark
    return flavour


def build_jet_columns(jets: ClusteredJets, flavour: NDArray[np.int32]) -> Columns:
    """The columns of JET_BRANCHES."""
    values: dict[str, NDArray[Any]] = {
        **{name: getattr(jets, name) for name in ("pt", "eta", "phi", "mass")},
        "nConstituents": jets.multiplicity,
        "hadronFlavour": flavour,
    }
    return {name: values[name].astype(dtype) for name, dtype in JET_BRANCHES.items()}


def build_collection(event: NDArray[np.int64], columns: Columns, *, stored: NDArray[np.int64]) -> Collection:
    """Objects in order of event, as a collection of the stored events alone."""
    row = np.searchsorted(stored, event)
    kept = np.isin(event, stored)
    counts = np.bincount(row[kept], minlength=len(stored))
    return Collection(counts, {name: values[kept] for name, values in columns.items()})
