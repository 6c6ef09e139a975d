"""How coffea makes events of a file: the schema of the built-in B -> K* gamma sample, and coffea's own.

Named in YAML as `schema: BsgammaSchema`.

Read a branch as `events.FatJet["tau2"]`, never as `events.FatJet.tau2`: on a collection that is a Lorentz
vector the attributes tau2, tau, rho, t, x, y, z, e, m, p, ... are properties of the vector and hide branches
of that name.
"""

from __future__ import annotations

from typing import Any, ClassVar

from coffea.nanoevents import BaseSchema, NanoAODSchema, PFNanoAODSchema, transforms

__all__ = ["BaseSchema", "BsgammaSchema", "NanoAODSchema", "PFNanoAODSchema"]


class BsgammaSchema(NanoAODSchema):
    """NanoAOD's habit for one B candidate per event in e+e- collisions.

    `Track` are candidates (four-vectors with charge), `Photon` four-vectors, both lists; `Bcand` (a
    four-vector) and `Beam` are records with one entry per event.  None of NanoAOD's cross-references and
    stand-in branches apply: a Photon_mass in the file is used, and made as zeros only where there is none.
    """

    mixins: ClassVar[dict[str, str]] = {
        **NanoAODSchema.mixins,
        "Bcand": "PtEtaPhiMLorentzVector",
        "Photon": "PtEtaPhiMLorentzVector",
        "Track": "PtEtaPhiMCandidate",
    }
    all_cross_references: ClassVar[dict[str, str]] = {}
    nested_items: ClassVar[dict[str, list[str]]] = {}
    nested_index_items: ClassVar[dict[str, tuple[str, str]]] = {}
    special_items: ClassVar[dict[str, Any]] = {}
    rename_items: ClassVar[dict[str, str]] = {}
    alias_items: ClassVar[dict[str, str]] = {}

    def __init__(self, base_form: dict[str, Any], version: str = "latest") -> None:
        stored = "Photon_mass" in base_form["fields"]
        massless = (transforms.full_like_from_offsets_form, ("oPhoton", 0.0))
        self.full_like_items = {} if stored else {"Photon_mass": massless}
        super().__init__(base_form, version)
