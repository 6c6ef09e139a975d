"""What an analysis has of an event: jets of R = 0.4 with their flavour, missing transverse momentum."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hepdecorr.samples.columns import Collection, Columns
from hepdecorr.samples.jets.clustering import Jets, cluster
from hepdecorr.samples.jets.detector import Candidates
from hepdecorr.samples.jets.generation import Floats, Particles
from hepdecorr.samples.jets.truth import distance, pairs
from hepdecorr.samples.lhc.generation import hadrons

RADIUS = 0.4
JET_PT_MIN = 20.0
# What pile-up, of which there is none here, would add to each component of the missing momentum, GeV: a
# typical resolution of PUPPI at the LHC's second run.
SOFT_MET = 12.0

JET_BRANCHES = {
    **dict.fromkeys(("pt", "eta", "phi", "mass"), "float32"),
    **dict.fromkeys(("nConstituents", "hadronFlavour"), "int32"),
}


class Met(NamedTuple):
    """Missing transverse momentum of each event, GeV, and its azimuth."""

    pt: Floats
    phi: Floats


def missing(candidates: Candidates, *, events: int, rng: np.random.Generator) -> Met:
    """What balances all that is seen, with SOFT_MET added to it."""
    p4 = candidates.p4()
    x, y = (
        SOFT_MET * rng.normal(size=events) - np.bincount(candidates.event, weights=p4[:, i], minlength=events)
        for i in (0, 1)
    )
    return Met(np.hypot(x, y), np.arctan2(y, x))


def jets(candidates: Candidates, *, events: int, eta_max: float) -> Jets:
    """The jets above JET_PT_MIN."""
    return cluster(candidates, events=events, radius=RADIUS, pt_min=JET_PT_MIN, eta_max=eta_max)


def hadron_flavour(found: Jets, particles: Particles) -> NDArray[np.int32]:
    """NanoAOD's Jet_hadronFlavour: 5 for a b hadron above 5 GeV within R of the jet, 4 for a c, else 0."""
    flavour = np.zeros(len(found.event), dtype=np.int32)
    for quark in (4, 5):
        near = hadrons(particles, quark)
        jet, hadron = pairs(found.event, near.event)
        flavour[jet[distance(found, near, jet=jet, particle=hadron) < RADIUS]] = quark
    return flavour


def jet_columns(found: Jets, flavour: NDArray[np.int32]) -> Columns:
    """The columns of JET_BRANCHES."""
    values: dict[str, NDArray[Any]] = {
        **{name: getattr(found, name) for name in ("pt", "eta", "phi", "mass")},
        "nConstituents": found.multiplicity,
        "hadronFlavour": flavour,
    }
    return {name: values[name].astype(dtype) for name, dtype in JET_BRANCHES.items()}


def collection(event: NDArray[np.int64], columns: Columns, *, stored: NDArray[np.int64]) -> Collection:
    """Objects in order of event, as a collection of the stored events alone."""
    row = np.searchsorted(stored, event)
    kept = np.isin(event, stored)
    counts = np.bincount(row[kept], minlength=len(stored))
    return Collection(counts, {name: values[kept] for name, values in columns.items()})
