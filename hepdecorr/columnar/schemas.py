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
    four-vector) and `Beam` are records with one entry per event, as are the true `Conditions` of samples
    with runs.  None of NanoAOD's cross-references and stand-in branches apply: a Photon_mass in the file is
    used, and made as zeros only where there is none.
    """

    vectors: ClassVar[dict[str, str]] = {
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
        fields = set(base_form["fields"])
        stored = "Photon_mass" in fields
        massless = (transforms.full_like_from_offsets_form, ("oPhoton", 0.0))
        self.full_like_items = {} if stored else {"Photon_mass": massless}
        # A vector without all of its coordinates could not even be looked at.
        self.mixins = NanoAODSchema.mixins | {
            name: mixin if self._complete(name, fields) else "NanoCollection"
            for name, mixin in self.vectors.items()
        }
        super().__init__(base_form, version)

    def _complete(self, name: str, fields: set[str]) -> bool:
        needed = {"pt", "eta", "phi", "mass"}
        needed |= {"charge"} if self.vectors[name].endswith("Candidate") else set()
        needed -= {field.removeprefix(f"{name}_") for field in self.full_like_items}
        return {f"{name}_{field}" for field in needed} <= fields
