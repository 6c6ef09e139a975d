"""Events with some of a collection's branches multiplied.

A shift of constituents, and of the jets that are made of them.

Systematic shifts: functions `events -> events` that change what was measured, before all else.

    shifts = build({"jes_up": {"type": "JetEnergyScale", "factor": 1.02}, "mine": "my_shifts.py:shift"})
    events = shifts["jes_up"](events)

Selection, features, constituents and scores then come from the shifted events, so that nothing that depends
on a shift can be forgotten.  The events given stay as they are.  Of coffea's cross-references, such as
`events.FatJet.constituents`, none knows of a shift: they lead to the file.
"""

from __future__ import annotations

import functools
import inspect
import logging
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from hepdecorr import registry
from hepdecorr.columnar import constituents
from hepdecorr.columnar import object_rows as jets
from hepdecorr.columnar.correctionlib import Correction
from hepdecorr.columnar.features.branches import (
    branch_names,
    count_objects,
    get_branch,
    mark_outdated,
    read_columns,
    validate_scalars,
)
from hepdecorr.errors import InputError, suggest
from hepdecorr.table import EVENT_IDS, splitmix64

__all__ = ["ConstituentScale", "JetEnergyResolution", "JetEnergyScale", "scale_fields"]


Floats = NDArray[np.float64]

JET_FIELDS = ("pt", "mass", "msoftdrop")  # what the energy scale of a jet moves


def scale_fields(events: Any, collection: str, factor: Floats, *, fields: Sequence[str]) -> Any:
    """The events with `fields` of a collection times `factor`, one number or one for each of its objects.

    Behaviours, metadata and what is not read yet stay as they are.  Works on branches 'FatJet_pt' too.
    """
    start, values = read_columns(events, collection, *fields)
    record = events[collection] if collection in events.fields else None
    for field, old in zip(fields, values, strict=True):
        kept = _get_dtype(get_branch(events, f"{collection}.{field}"))
        flat = ak.contents.NumpyArray((old * factor).astype(kept))
        new = ak.Array(ak.contents.ListOffsetArray(ak.index.Index64(start), flat))
        if record is None:
            events = ak.with_field(events, new, f"{collection}_{field}")
        else:
            record = ak.with_field(record, new, field)
    return events if record is None else ak.with_field(events, record, collection)


def has_field(events: Any, collection: str, field: str) -> bool:
    """Whether the events have this branch."""
    try:
        get_branch(events, f"{collection}.{field}")
    except InputError:
        return False
    return True


def require_positive(value: Any, name: str) -> float:
    """The value; InputError that names it where it is no number above 0."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise InputError(f"{name} must be a number above 0 (given: {value!r})")
    return float(value)


def _get_dtype(values: Any) -> Any:
    layout = ak.to_layout(values)
    while not layout.is_numpy:
        layout = layout.content
    return layout.dtype


logger = logging.getLogger(__name__)


_CANDIDATE_COLLECTIONS = ("PFCands", "PFCand")
_MASSLESS_FRACTION = 1e-10  # m^2 / E^2 of a sum, below which rounding makes it
# Branches of jets that are made of constituents: by the networks of others, and in some other way.
_TAGGER_SCORES = r"particleNet|ParticleNet|deepTag|globalParT|inclParT|btag"
_KIND_DEPENDENT_BRANCHES = (
    rf"{_TAGGER_SCORES}|tau\d|n[23]b\d|msoftdrop|lsf3|(ch|ne)(Em|H)EF|muEF|hfEmEF|hfHEF"
)
_STALE_BRANCH_MESSAGE = (
    "is made of constituents that are shifted (ConstituentScale), and does not follow; take what is computed "
    "from them ('substructure: computed' in 'objects', in training too), or leave this shift out"
)
_WARNED_COLLECTIONS: set[str] = set()  # collections of which this process has said that some jets stay


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
        self.factor, self.candidates, self.collection = (
            require_positive(factor, "factor"),
            candidates,
            collection,
        )
        self.pdg_ids = None if pdg_ids is None else [abs(int(i)) for i in pdg_ids]
        self.puppi = (objects or {}).get("puppi", "auto")

    def __call__(self, events: Any) -> Any:
        """The events with other candidates and jets."""
        table = self.candidates or _find_candidates(events)
        if self.pdg_ids is None:
            factor: Floats = np.array(self.factor)
        else:
            factor = self._factor_by_kind(read_columns(events, table, "pdgId")[1][0])
        fields = [f for f in ("pt", "mass") if has_field(events, table, f)] or ["pt"]
        scaled = scale_fields(events, table, factor, fields=fields)
        if self.collection is None:
            return scaled
        found = constituents.get_constituents(
            jets.explode_collection(events, {"collection": self.collection, "puppi": self.puppi})
        )
        if found.layout.table != table:
            raise InputError(
                f"{self.collection} is made of {found.layout.table}, not of {table!r}; take those, or say "
                f"'collection: null' to shift candidates alone"
            )
        return self._scale_jets(scaled, found, self.collection)

    def _scale_jets(self, events: Any, jet_constituents: constituents.Constituents, collection: str) -> Any:
        _warn_about_empty(
            int((np.diff(jet_constituents.start) == 0).sum()), len(jet_constituents.start) - 1, collection
        )
        there = {f for f in JET_FIELDS if has_field(events, collection, f)}
        if self.pdg_ids is None:
            pt = mass = np.where(np.diff(jet_constituents.start) > 0, self.factor, 1.0)
        else:
            pt, mass = _compute_jet_factors(jet_constituents, self._factor_by_kind(jet_constituents.pdg))
            there -= {"msoftdrop"}
        for field in there:
            events = scale_fields(events, collection, pt if field == "pt" else mass, fields=[field])
        left = _TAGGER_SCORES if self.pdg_ids is None else _KIND_DEPENDENT_BRANCHES
        named = [n for n in branch_names(events) if re.match(rf"{collection}[._]({left})", n)]
        return mark_outdated(
            events, {n.replace("_", ".", 1) if "." not in n else n: _STALE_BRANCH_MESSAGE for n in named}
        )

    def _factor_by_kind(self, pdg: NDArray[Any]) -> Floats:
        return np.where(np.isin(np.abs(pdg), self.pdg_ids or []), self.factor, 1.0)


def _warn_about_empty(num_empty: int, num_jets: int, collection: str) -> None:
    if num_empty and collection not in _WARNED_COLLECTIONS:
        _WARNED_COLLECTIONS.add(collection)
        logger.warning(
            "ConstituentScale: %d of %d entries of %s have no constituents stored, and stay as they are "
            "(said once; the file may keep them for hard jets only)", num_empty, num_jets, collection,
        )  # fmt: skip


def _compute_jet_factors(
    jet_constituents: constituents.Constituents, factor: Floats
) -> tuple[Floats, Floats]:
    """By what the vector sums of the rows' constituents change in pt and mass, shape (rows,) each."""
    row, size = (
        np.repeat(np.arange(len(jet_constituents.start) - 1), np.diff(jet_constituents.start)),
        len(jet_constituents.start) - 1,
    )
    x, y, z = (
        jet_constituents.pt * f(a)
        for f, a in (
            (np.cos, jet_constituents.phi),
            (np.sin, jet_constituents.phi),
            (np.sinh, jet_constituents.eta),
        )
    )
    four = (x, y, z, np.sqrt(x * x + y * y + z * z + jet_constituents.mass**2))
    pt, square, light = [], [], np.zeros(size, dtype=bool)
    for by in (np.ones(len(row)), factor):
        sx, sy, sz, e = (np.bincount(row, part * by, size) for part in four)
        pt.append(np.hypot(sx, sy))
        square.append(e**2 - sx**2 - sy**2 - sz**2)
        light |= square[-1] <= _MASSLESS_FRACTION * e**2
    by_pt = np.divide(pt[1], pt[0], out=np.ones(size), where=pt[0] > 0)
    by_mass = np.divide(square[1], square[0], out=by_pt**2, where=~light)
    return by_pt, np.sqrt(by_mass)


def _find_candidates(events: Any) -> str:
    for name in _CANDIDATE_COLLECTIONS:
        if has_field(events, name, "pt"):
            return name
    there = {n.partition(".")[0] for n in branch_names(events)}
    raise InputError(
        f"no candidates ({' or '.join(_CANDIDATE_COLLECTIONS)}) among {', '.join(sorted(there))}"
    )


SystematicFn = Callable[[Any], Any]

_MIN_SMEARING_FACTOR = 1e-3  # of a resolution's factors: below it a jet would turn round


def build_systematics(
    specs: Mapping[str, Mapping[str, Any] | str],
    *,
    base: Path | None = None,
    collection: str | None = None,
    objects: Mapping[str, Any] | None = None,
) -> dict[str, SystematicFn]:
    """The shifts by name, from {type: Name, **arguments} or 'my_shifts.py:shift'.

    A name stands for a class of this module, or for a class or function of the user's; arguments beside
    `type` are bound to a function.  `objects` are the analysis's: their collection, or `collection`, is the
    jets' where a block names none.  Files count from `base`.  Raises InputError that names the shift.
    """
    known: dict[str, Any] = {"folder": base or Path()}
    known |= {} if objects is None else {"objects": objects}
    if collection := collection or (objects or {}).get("collection"):
        known["collection"] = collection
    found: dict[str, SystematicFn] = {}
    for name, spec in specs.items():
        try:
            found[name] = _NamedSystematic(name, _build_systematic(spec, base=base, context=known))
        except InputError as err:
            raise InputError(f"shift {name!r}: {err}") from None
    return found


def list_correction_files(
    specs: Mapping[str, Mapping[str, Any] | str], base: Path | None = None
) -> list[Path]:
    """The files that the shifts read beside code, those of correctionlib: what stands under 'file'.

    Relative ones count from `base`; each comes once, sorted, whether it is there or not.
    """
    found: set[Path] = set()
    left: list[Any] = list(specs.values())
    while left:
        if isinstance(block := left.pop(), Mapping):
            left += block.values()
            if isinstance(file := block.get("file"), str):
                found.add((base or Path()) / Path(file).expanduser())
    return sorted(found)


def _build_systematic(
    spec: Mapping[str, Any] | str, *, base: Path | None, context: Mapping[str, Any]
) -> SystematicFn:
    arguments = {"type": spec} if isinstance(spec, str) else dict(spec)
    asked = arguments.get("type")
    if isinstance(asked, str):
        function = registry.find(asked, namespace=__name__, base=base)
        if inspect.isfunction(function):
            del arguments["type"]
            parameters = inspect.signature(function).parameters
            takes, open_ended = (
                list(parameters)[1:],
                any(p.kind is p.VAR_KEYWORD for p in parameters.values()),
            )
            for argument in arguments:
                if argument not in takes and not open_ended:
                    raise InputError(f"{asked} takes no {argument!r}{suggest(argument, takes)}")
            return functools.partial(function, **arguments) if arguments else function
    made = registry.build(arguments, namespace=__name__, base=base, **context)
    if not callable(made):
        raise InputError(f"{asked} is no function of the events")
    shift: SystematicFn = made
    return shift


class _NamedSystematic:
    """A shift that says its name when something goes wrong, and whose result is looked at."""

    def __init__(self, name: str, systematic: SystematicFn) -> None:
        self.name, self.systematic = name, systematic

    def __call__(self, events: Any) -> Any:
        try:
            shifted = self.systematic(events)
        except InputError as err:
            raise InputError(f"shift {self.name!r}: {err}") from None
        if not isinstance(shifted, ak.Array) or len(shifted) != len(events):
            raise InputError(f"shift {self.name!r}: it must give back as many events as it got")
        return shifted


class JetEnergyScale:
    """Multiplies pt and masses of every jet by `factor`, or by what a correction says.

    With `direction` ('up' or 'down') a correction is taken for a relative uncertainty, and the factor is
    1 + correction or 1 - correction, as JEC uncertainties are stored.  `fields` are the branches that are
    multiplied; by default pt, mass and msoftdrop, those of them that are there.
    """

    def __init__(
        self,
        *,
        collection: str = "FatJet",
        factor: float | None = None,
        file: str | None = None,
        correction: str | None = None,
        inputs: Mapping[str, Any] | None = None,
        direction: str | None = None,
        fields: Sequence[str] | None = None,
        folder: Path | str = ".",
    ) -> None:
        self.collection, self.fields = collection, fields
        self.scale = _build_scale(factor, file, correction=correction, inputs=inputs, folder=folder)
        if direction not in (None, "up", "down") or (direction and factor is not None):
            raise InputError(f"direction {direction!r}: 'up' or 'down', and only for a correction")
        self.sign = {None: 0, "up": 1, "down": -1}[direction]

    def __call__(self, events: Any) -> Any:
        """The events with other jets."""
        value = _evaluate_component(self.scale, events, self.collection)
        factor = 1 + self.sign * value if self.sign else value
        return scale_fields(events, self.collection, factor, fields=_select_fields(self, events))


class JetEnergyResolution:
    r"""Smears pt and masses of every jet by a Gaussian of relative width `smearing`.

    The factor is :math:`1 + N(0, 1) \cdot` smearing; where `resolution` and `factor` s of data over
    simulation are given instead, smearing is :math:`\sigma \sqrt{\max(s^2 - 1, 0)}` (the stochastic method
    of CMS; jets are not matched to generated ones, so the hybrid method is not here).  `resolution` is a
    number, or {file, correction, inputs} of correctionlib, and so is `factor`.  The random numbers are a
    hash of run, luminosityBlock, event, the jet's place in its event and `seed`: the same for any chunking,
    and different between events.
    """

    def __init__(
        self,
        *,
        collection: str = "FatJet",
        smearing: float | None = None,
        resolution: float | Mapping[str, Any] | None = None,
        factor: float | Mapping[str, Any] | None = None,
        seed: int = 0,
        fields: Sequence[str] | None = None,
        folder: Path | str = ".",
    ) -> None:
        self.collection, self.fields, self.seed = collection, fields, seed
        if (smearing is None) == (resolution is None) or (resolution is None) != (factor is None):
            raise InputError("JetEnergyResolution: give 'smearing', or 'resolution' and 'factor'")
        given = {"smearing": smearing, "resolution": resolution, "factor": factor}
        self.components = [
            _build_component(value, name, folder) for name, value in given.items() if value is not None
        ]

    def __call__(self, events: Any) -> Any:
        """The events with other jets."""
        width, *rest = (_evaluate_component(part, events, self.collection) for part in self.components)
        if rest:
            width = width * np.sqrt(np.maximum(rest[0] ** 2 - 1, 0))
        factor = np.maximum(
            1 + width * draw_normal(events, self.collection, seed=self.seed), _MIN_SMEARING_FACTOR
        )
        return scale_fields(events, self.collection, factor, fields=_select_fields(self, events))


def draw_normal(events: Any, collection: str, *, seed: int = 0) -> Floats:
    """A standard normal number for each object of a collection, from its event's numbers and its place."""
    many = count_objects(events, collection)
    place = np.arange(many.sum()) - np.repeat(np.cumsum(many) - many, many)
    state = np.full(len(place), seed % 2**64, dtype=np.uint64)
    with np.errstate(over="ignore"):
        for name in EVENT_IDS:
            of_event = validate_scalars(get_branch(events, name), length=len(events)).astype(np.uint64)
            state = splitmix64(state ^ np.repeat(of_event, many))
        state = splitmix64(state ^ place.astype(np.uint64))
    uniform = ((state >> np.uint64(11)).astype(np.float64) + 0.5) / 2.0**53
    return np.asarray(ndtri(uniform), dtype=np.float64)


def _build_scale(
    factor: float | None, file: str | None, *, correction: str | None, inputs: Any, folder: Path | str
) -> float | Correction:
    if (factor is None) == (file is None):
        raise InputError("give 'factor', or 'file', 'correction' and 'inputs'")
    if factor is not None:
        return require_positive(factor, "factor")
    return _build_correction({"file": file, "correction": correction, "inputs": inputs}, folder)


def _build_component(value: Any, name: str, folder: Path | str) -> float | Correction:
    return _build_correction(value, folder) if isinstance(value, Mapping) else require_positive(value, name)


def _build_correction(spec: Mapping[str, Any], folder: Path | str) -> Correction:
    needed = ("file", "correction", "inputs")
    for key in spec:
        if key not in needed:
            raise InputError(f"a correction takes no {key!r}{suggest(key, needed)}")
    if missing := [key for key in needed if not spec.get(key)]:
        raise InputError(f"a correction needs {', '.join(needed)}; {missing[0]!r} is missing")
    return Correction(file=spec["file"], correction=spec["correction"], inputs=spec["inputs"], folder=folder)


def _evaluate_component(component: float | Correction, events: Any, collection: str) -> Floats:
    return component(events, collection) if isinstance(component, Correction) else np.array(component)


def _select_fields(systematic: JetEnergyScale | JetEnergyResolution, events: Any) -> Sequence[str]:
    """The fields to multiply: those asked for, or of the usual ones those that are there."""
    found = [f for f in JET_FIELDS if has_field(events, systematic.collection, f)]
    return systematic.fields or found or ["pt"]  # of a collection that is not there, pt is what is missed
