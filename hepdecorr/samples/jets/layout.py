"""The branches of a file of jets, as PFNano or as NanoAOD v15 names them: TTree `Events`, TTree `Runs`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hepdecorr.samples.columns import Chunk, Collection, Columns
from hepdecorr.samples.jets.clustering import Jets, Substructure
from hepdecorr.samples.jets.detector import Candidates
from hepdecorr.samples.jets.generation import Batch
from hepdecorr.samples.jets.truth import Origin

# Beyond those of the other samples.
RUN = {"qcd": 11, "w": 12, "top": 13, "h4j": 14}

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


class Layout(NamedTuple):
    """Names of the tables of constituents, and the candidates' branches.

    links: the table with one row for each constituent of each jet, which points to the jet (`jetIdx`) and to
    the candidate (`pointer`); the rows stand in the order of the jets.
    """

    candidates: str
    links: str
    pointer: str
    fields: Mapping[str, str]

    @property
    def collections(self) -> dict[str, dict[str, str]]:
        """Branches and dtypes of the jagged tables."""
        return {
            "FatJet": JET_BRANCHES,
            self.candidates: dict(self.fields),
            self.links: {"jetIdx": "int32", self.pointer: "int32"},
        }


LAYOUTS = {
    "pfnano": Layout("PFCands", "FatJetPFCands", "pFCandsIdx", {**_CANDIDATE_BRANCHES, "charge": "int32"}),
    "v15": Layout("PFCand", "FatJetPFCand", "pfCandIdx", _CANDIDATE_BRANCHES),
}


def build(
    jets: Jets,
    candidates: Candidates,
    *,
    shapes: Substructure,
    truth: Origin,
    batch: Batch,
    layout: Layout,
    run: int,
    luminosity_block: int,
    first_event: int,
) -> Chunk:
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
    number = _within(jets_per_event)
    links = {
        "jetIdx": np.repeat(number, jets.multiplicity).astype(np.int32),
        layout.pointer: _within(per_event).astype(np.int32),
    }
    return Chunk(
        columns,
        {
            "FatJet": Collection(jets_per_event, _jets(jets, shapes, truth)),
            layout.candidates: Collection(per_event, _candidates(candidates.take(jets.constituents), layout)),
            layout.links: Collection(per_event, links),
        },
    )


def _within(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """0, 1, ... for each of the counts."""
    return np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)


def _jets(jets: Jets, shapes: Substructure, truth: Origin) -> Columns:
    values: dict[str, NDArray[Any]] = {
        "pt": jets.pt,
        "eta": jets.eta,
        "phi": jets.phi,
        "mass": jets.mass,
        "msoftdrop": shapes.softdrop,
        **{f"tau{i + 1}": shapes.tau[:, i] for i in range(shapes.tau.shape[1])},
        "nConstituents": jets.multiplicity,
        "genFlavour": truth.flavour,
        "nMatchedQuarks": truth.quarks,
    }
    return {name: values[name].astype(dtype) for name, dtype in JET_BRANCHES.items()}


def _candidates(candidates: Candidates, layout: Layout) -> Columns:
    values: dict[str, NDArray[Any]] = {
        "pt": candidates.pt,
        "eta": candidates.eta,
        "phi": candidates.phi,
        "mass": candidates.mass,
        "pdgId": candidates.pdg_id,
        "charge": candidates.charge,
    }
    return {name: values[name].astype(dtype) for name, dtype in layout.fields.items()}
