"""A shift of constituents, and of the jets that are made of them."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepdecorr.columnar import constituents
from hepdecorr.columnar import objects as jets
from hepdecorr.columnar.features.branches import columns, names, outdated
from hepdecorr.columnar.scaling import JET_FIELDS, has, multiplied, positive
from hepdecorr.errors import InputError

logger = logging.getLogger(__name__)

Floats = NDArray[np.float64]

_CANDIDATES = ("PFCands", "PFCand")
_MASSLESS = 1e-10  # m^2 / E^2 of a sum, below which rounding makes it
# Branches of jets that are made of constituents: by the networks of others, and in some other way.
_SCORES = r"particleNet|ParticleNet|deepTag|globalParT|inclParT|btag"
_BY_KIND = rf"{_SCORES}|tau\d|n[23]b\d|msoftdrop|lsf3|(ch|ne)(Em|H)EF|muEF|hfEmEF|hfHEF"
_LEFT = (
    "is made of constituents that are shifted (ConstituentScale), and does not follow; take what is computed "
    "from them ('substructure: computed' in 'objects', in training too), or leave this shift out"
)
_TOLD: set[str] = set()  # collections of which this process has said that some jets stay


class ConstituentScale:
    r"""Multiplies pt and mass of particle-flow candidates by `factor`, and moves the jets made of them.

    With `pdg_ids`, e.g. [22] for photons or [130] for neutral hadrons, only of those with such an \|pdgId\|.
    `candidates` names their collection; by default PFCands or PFCand, whichever is there.

    pt and mass of the jets of `collection` (null: none) move as the sums of their constituents do, with Puppi
    weights as `objects` says; the mass as pt where the sum is massless.  Their axes stay, and so do jets
    without constituents, of which a warning tells once, other collections, and missing energy.

    One factor for all moves msoftdrop as well and leaves tau_N, N2 and energy fractions as they are, which is
    exact.  By kind, those branches cannot follow, and neither way can scores that the file has (particleNet,
    ...): what reads one of them raises an InputError that says what to do.  What is computed from
    constituents follows.
    """

    def __init__(
        self,
        *,
        factor: float,
        pdg_ids: Sequence[int] | None = None,
        candidates: str | None = None,
        collection: str | None = "FatJet",
        objects: Mapping[str, Any] | None = None,
    ) -> None:
        self.factor, self.candidates, self.collection = positive(factor, "factor"), candidates, collection
        self.pdg_ids = None if pdg_ids is None else [abs(int(i)) for i in pdg_ids]
        self.puppi = (objects or {}).get("puppi", "auto")

    def __call__(self, events: Any) -> Any:
        """The events with other candidates and jets."""
        table = self.candidates or _candidates(events)
        if self.pdg_ids is None:
            factor: Floats = np.array(self.factor)
        else:
            factor = self._by_kind(columns(events, table, "pdgId")[1][0])
        fields = [f for f in ("pt", "mass") if has(events, table, f)] or ["pt"]
        scaled = multiplied(events, table, factor, fields=fields)
        if self.collection is None:
            return scaled
        found = constituents.of(jets.rows(events, {"collection": self.collection, "puppi": self.puppi}))
        if found.layout.table != table:
            raise InputError(
                f"{self.collection} is made of {found.layout.table}, not of {table!r}; take those, or say "
                f"'collection: null' to shift candidates alone"
            )
        return self._with_jets(scaled, found, self.collection)

    def _with_jets(self, events: Any, found: constituents.Constituents, collection: str) -> Any:
        _tell_of_empty(int((np.diff(found.start) == 0).sum()), len(found.start) - 1, collection)
        there = {f for f in JET_FIELDS if has(events, collection, f)}
        if self.pdg_ids is None:
            pt = mass = np.where(np.diff(found.start) > 0, self.factor, 1.0)
        else:
            pt, mass = _followed(found, self._by_kind(found.pdg))
            there -= {"msoftdrop"}
        for field in there:
            events = multiplied(events, collection, pt if field == "pt" else mass, fields=[field])
        left = _SCORES if self.pdg_ids is None else _BY_KIND
        named = [n for n in names(events) if re.match(rf"{collection}[._]({left})", n)]
        return outdated(events, {n.replace("_", ".", 1) if "." not in n else n: _LEFT for n in named})

    def _by_kind(self, pdg: NDArray[Any]) -> Floats:
        return np.where(np.isin(np.abs(pdg), self.pdg_ids or []), self.factor, 1.0)


def _tell_of_empty(empty: int, jets: int, collection: str) -> None:
    if empty and collection not in _TOLD:
        _TOLD.add(collection)
        logger.warning(
            "ConstituentScale: %d of %d entries of %s have no constituents stored, and stay as they are "
            "(said once; the file may keep them for hard jets only)", empty, jets, collection,
        )  # fmt: skip


def _followed(found: constituents.Constituents, factor: Floats) -> tuple[Floats, Floats]:
    """By what the vector sums of the rows' constituents change in pt and mass, shape (rows,) each."""
    row, size = np.repeat(np.arange(len(found.start) - 1), np.diff(found.start)), len(found.start) - 1
    x, y, z = (found.pt * f(a) for f, a in ((np.cos, found.phi), (np.sin, found.phi), (np.sinh, found.eta)))
    four = (x, y, z, np.sqrt(x * x + y * y + z * z + found.mass**2))
    pt, square, light = [], [], np.zeros(size, dtype=bool)
    for by in (np.ones(len(row)), factor):
        sx, sy, sz, e = (np.bincount(row, part * by, size) for part in four)
        pt.append(np.hypot(sx, sy))
        square.append(e**2 - sx**2 - sy**2 - sz**2)
        light |= square[-1] <= _MASSLESS * e**2
    by_pt = np.divide(pt[1], pt[0], out=np.ones(size), where=pt[0] > 0)
    by_mass = np.divide(square[1], square[0], out=by_pt**2, where=~light)
    return by_pt, np.sqrt(by_mass)


def _candidates(events: Any) -> str:
    for name in _CANDIDATES:
        if has(events, name, "pt"):
            return name
    there = {n.partition(".")[0] for n in names(events)}
    raise InputError(f"no candidates ({' or '.join(_CANDIDATES)}) among {', '.join(sorted(there))}")
