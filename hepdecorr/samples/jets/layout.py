"""The branches of a file of jets, as PFNano or as NanoAOD v15 names them: TTree `Events`, TTree `Runs`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hepdecorr.samples.columns import Collection, Columns, EventChunk
from hepdecorr.samples.jets.clustering import ClusteredJets, Substructure
from hepdecorr.samples.jets.detector import PFCandidates
from hepdecorr.samples.jets.generation import JetSampleBatch
from hepdecorr.samples.jets.truth import JetTruth

# Beyond those of the other samples.
RUN_NUMBERS = {"qcd": 11, "w": 12, "top": 13, "h4j": 14}

EVENT_BRANCHES = {
    "run": "uint32",
    "luminosityBlock": "uint32",
    "event": "uint64",
    "genWeight": "float32",
    "Generator_ptHat": "float32",
}
JET_BRANCHES = {
    **dict.fromkeys(("pt", "eta", "phi", "mass", "msoftdrop", "tau1", "tau2", "tau3", "tau4"), "float32"),
    **dict.fromkeys(("nConstituents", "genFlavour", "nMatchedQuarks"), "int32"),
}
_CANDIDATE_BRANCHES = {**dict.fromkeys(("pt", "eta", "phi", "mass"), "float32"), "pdgId": "int32"}


class JetFileLayout(NamedTuple):
    """Names of the tables of constituents, and the candidates' branches.

    links: the table with one row for each constituent of each jet, which points to the jet (`jetIdx`) and to
    the candidate (`pointer`); the rows stand in the order of the jets.
    """

    candidate_table: str
    link_table: str
    pointer: str
    candidate_branches: Mapping[str, str]

    @property
    def collections(self) -> dict[str, dict[str, str]]:
        """Branches and dtypes of the jagged tables."""
        return {
            "FatJet": JET_BRANCHES,
            self.candidate_table: dict(self.candidate_branches),
            self.link_table: {"jetIdx": "int32", self.pointer: "int32"},
        }


LAYOUTS = {
    "pfnano": JetFileLayout(
        "PFCands", "FatJetPFCands", "pFCandsIdx", {**_CANDIDATE_BRANCHES, "charge": "int32"}
    ),
    "v15": JetFileLayout("PFCand", "FatJetPFCand", "pfCandIdx", _CANDIDATE_BRANCHES),
}


def build_chunk(
    jets: ClusteredJets,
    candidates: PFCandidates,
    *,
    shapes: Substructure,
    truth: JetTruth,
    batch: JetSampleBatch,
    layout: JetFileLayout,
    run: int,
    luminosity_block: int,
    first_event: int,
) -> EventChunk:
    """The branches of the events that have a jet, with the constituents of these jets alone.

    first_event: number of the first event of the batch.
    """
    events, index = np.unique(jets.event, return_inverse=True)
    jets_per_event = np.bincount(index, minlength=len(events))
    per_event = np.bincount(index, weights=jets.multiplicity, minlength=len(events)).astype(np.int64)
    values: dict[str, Any] = {
        "run": run,
        "luminosityBlock": luminosity_block,
        "event": first_event + events,
        "genWeight": batch.weight[events],
        "Generator_ptHat": batch.pthat[events],
    }
    columns = {
        name: np.broadcast_to(np.asarray(values[name], dtype=dtype), (len(events),))
        for name, dtype in EVENT_BRANCHES.items()
    }
    number = _local_indices(jets_per_event)
    links = {
        "jetIdx": np.repeat(number, jets.multiplicity).astype(np.int32),
        layout.pointer: _local_indices(per_event).astype(np.int32),
    }
    return EventChunk(
        columns,
        {
            "FatJet": Collection(jets_per_event, _jet_columns(jets, shapes, truth)),
            layout.candidate_table: Collection(
                per_event, _candidate_columns(candidates.take(jets.constituents), layout)
            ),
            layout.link_table: Collection(per_event, links),
        },
    )


def _local_indices(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """0, 1, ... for each of the counts."""
    return np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)


def _jet_columns(jets: ClusteredJets, shapes: Substructure, truth: JetTruth) -> Columns:
    values: dict[str, NDArray[Any]] = {
        "pt": jets.pt,
        "eta": jets.eta,
        "phi": jets.phi,
        "mass": jets.mass,
        "msoftdrop": shapes.softdrop_mass,
        **{f"tau{i + 1}": shapes.tau[:, i] for i in range(shapes.tau.shape[1])},
        "nConstituents": jets.multiplicity,
        "genFlavour": truth.flavour,
        "nMatchedQuarks": truth.matched_quarks,
    }
    return {name: values[name].astype(dtype) for name, dtype in JET_BRANCHES.items()}


def _candidate_columns(candidates: PFCandidates, layout: JetFileLayout) -> Columns:
    values: dict[str, NDArray[Any]] = {
        "pt": candidates.pt,
        "eta": candidates.eta,
        "phi": candidates.phi,
        "mass": candidates.mass,
        "pdgId": candidates.pdg_id,
        "charge": candidates.charge,
    }
    return {name: values[name].astype(dtype) for name, dtype in layout.candidate_branches.items()}
