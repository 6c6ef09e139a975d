"""Systematic shifts: functions `events -> events` that change what was measured, before all else.

    shifts = build({"jes_up": {"type": "JetEnergyScale", "factor": 1.02}, "mine": "my_shifts.py:shift"})
    events = shifts["jes_up"](events)

Selection, features, constituents and scores then come from the shifted events, so that nothing that depends
on a shift can be forgotten.  The events given stay as they are.  Of coffea's cross-references, such as
`events.FatJet.constituents`, none knows of a shift: they lead to the file.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from hepdecorr import catalogue
from hepdecorr.columnar.corrections import Correction
from hepdecorr.columnar.features.branches import branch, columns, counts, names, numbers
from hepdecorr.errors import InputError
from hepdecorr.table import EVENT_IDS, splitmix64

__all__ = ["ConstituentScale", "JetEnergyResolution", "JetEnergyScale"]

Floats = NDArray[np.float64]
Shift = Callable[[Any], Any]

_JET_FIELDS = ("pt", "mass", "msoftdrop")
_CANDIDATES = ("PFCands", "PFCand")
_SMALLEST = 1e-3  # of a resolution's factors: below it a jet would turn round


def build(
    specs: Mapping[str, Mapping[str, Any] | str],
    *,
    base: Path | None = None,
    collection: str | None = None,
) -> dict[str, Shift]:
    """The shifts by name, from {type: Name, **arguments} or 'my_shifts.py:shift'.

    A name stands for a class of this module, or for a class or function of the user's; arguments beside
    `type` are bound to a function.  `collection` is the jets' where a block names none, and files count from
    `base`.  Raises InputError that names the shift.
    """
    known = {"folder": base or Path()} | ({"collection": collection} if collection else {})
    found: dict[str, Shift] = {}
    for name, spec in specs.items():
        try:
            found[name] = _Named(name, _shift(spec, base=base, known=known))
        except InputError as err:
            raise InputError(f"shift {name!r}: {err}") from None
    return found


def _shift(spec: Mapping[str, Any] | str, *, base: Path | None, known: Mapping[str, Any]) -> Shift:
    arguments = {"type": spec} if isinstance(spec, str) else dict(spec)
    asked = arguments.get("type")
    if isinstance(asked, str):
        function = catalogue.find(asked, home=__name__, base=base)
        if inspect.isfunction(function):
            del arguments["type"]
            parameters = inspect.signature(function).parameters
            takes, open_ended = (
                list(parameters)[1:],
                any(p.kind is p.VAR_KEYWORD for p in parameters.values()),
            )
            for argument in arguments:
                if argument not in takes and not open_ended:
                    raise InputError(f"{asked} takes no {argument!r}{catalogue.suggest(argument, takes)}")
            return functools.partial(function, **arguments) if arguments else function
    made = catalogue.build(arguments, home=__name__, base=base, **known)
    if not callable(made):
        raise InputError(f"{asked} is no function of the events")
    shift: Shift = made
    return shift


class _Named:
    """A shift that says its name when something goes wrong, and whose result is looked at."""

    def __init__(self, name: str, shift: Shift) -> None:
        self.name, self.shift = name, shift

    def __call__(self, events: Any) -> Any:
        try:
            shifted = self.shift(events)
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
        self.scale = _scale(factor, file, correction=correction, inputs=inputs, folder=folder)
        if direction not in (None, "up", "down") or (direction and factor is not None):
            raise InputError(f"direction {direction!r}: 'up' or 'down', and only for a correction")
        self.sign = {None: 0, "up": 1, "down": -1}[direction]

    def __call__(self, events: Any) -> Any:
        """The events with other jets."""
        value = _evaluated(self.scale, events, self.collection)
        factor = 1 + self.sign * value if self.sign else value
        return multiplied(events, self.collection, factor, fields=_there(self, events))


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
        self.parts = [_part(value, name, folder) for name, value in given.items() if value is not None]

    def __call__(self, events: Any) -> Any:
        """The events with other jets."""
        width, *rest = (_evaluated(part, events, self.collection) for part in self.parts)
        if rest:
            width = width * np.sqrt(np.maximum(rest[0] ** 2 - 1, 0))
        factor = np.maximum(1 + width * normal(events, self.collection, seed=self.seed), _SMALLEST)
        return multiplied(events, self.collection, factor, fields=_there(self, events))


class ConstituentScale:
    """Multiplies pt and mass of particle-flow candidates by `factor`; the jets' own branches stay.

    With `pdg_ids`, e.g. [22] for photons or [130] for neutral hadrons, only of those with such an |pdgId|.
    `candidates` names their collection; by default PFCands or PFCand, whichever is there.
    """

    def __init__(
        self, *, factor: float, pdg_ids: Sequence[int] | None = None, candidates: str | None = None
    ) -> None:
        self.factor, self.candidates = _positive(factor, "factor"), candidates
        self.pdg_ids = None if pdg_ids is None else [abs(int(i)) for i in pdg_ids]

    def __call__(self, events: Any) -> Any:
        """The events with other candidates."""
        collection = self.candidates or _candidates(events)
        factor: Floats = np.array(self.factor)
        if self.pdg_ids is not None:
            _, (pdg,) = columns(events, collection, "pdgId")
            factor = np.where(np.isin(np.abs(pdg), self.pdg_ids), self.factor, 1.0)
        fields = [f for f in ("pt", "mass") if _has(events, collection, f)] or ["pt"]
        return multiplied(events, collection, factor, fields=fields)


def multiplied(events: Any, collection: str, factor: Floats, *, fields: Sequence[str]) -> Any:
    """The events with `fields` of a collection times `factor`, one number or one for each of its objects.

    Behaviours, metadata and what is not read yet stay as they are.  Works on branches 'FatJet_pt' too.
    """
    start, values = columns(events, collection, *fields)
    record = events[collection] if collection in events.fields else None
    for field, old in zip(fields, values, strict=True):
        kept = _dtype(branch(events, f"{collection}.{field}"))
        flat = ak.contents.NumpyArray((old * factor).astype(kept))
        new = ak.Array(ak.contents.ListOffsetArray(ak.index.Index64(start), flat))
        if record is None:
            events = ak.with_field(events, new, f"{collection}_{field}")
        else:
            record = ak.with_field(record, new, field)
    return events if record is None else ak.with_field(events, record, collection)


def normal(events: Any, collection: str, *, seed: int = 0) -> Floats:
    """A standard normal number for each object of a collection, from its event's numbers and its place."""
    many = counts(events, collection)
    place = np.arange(many.sum()) - np.repeat(np.cumsum(many) - many, many)
    state = np.full(len(place), seed % 2**64, dtype=np.uint64)
    with np.errstate(over="ignore"):
        for name in EVENT_IDS:
            of_event = numbers(branch(events, name), length=len(events)).astype(np.uint64)
            state = splitmix64(state ^ np.repeat(of_event, many))
        state = splitmix64(state ^ place.astype(np.uint64))
    uniform = ((state >> np.uint64(11)).astype(np.float64) + 0.5) / 2.0**53
    return np.asarray(ndtri(uniform), dtype=np.float64)


def _scale(
    factor: float | None, file: str | None, *, correction: str | None, inputs: Any, folder: Path | str
) -> float | Correction:
    if (factor is None) == (file is None):
        raise InputError("give 'factor', or 'file', 'correction' and 'inputs'")
    if factor is not None:
        return _positive(factor, "factor")
    return _correction({"file": file, "correction": correction, "inputs": inputs}, folder)


def _part(value: Any, name: str, folder: Path | str) -> float | Correction:
    return _correction(value, folder) if isinstance(value, Mapping) else _positive(value, name)


def _correction(spec: Mapping[str, Any], folder: Path | str) -> Correction:
    needed = ("file", "correction", "inputs")
    for key in spec:
        if key not in needed:
            raise InputError(f"a correction takes no {key!r}{catalogue.suggest(key, needed)}")
    if missing := [key for key in needed if not spec.get(key)]:
        raise InputError(f"a correction needs {', '.join(needed)}; {missing[0]!r} is missing")
    return Correction(file=spec["file"], correction=spec["correction"], inputs=spec["inputs"], folder=folder)


def _positive(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise InputError(f"{name} must be a number above 0 (given: {value!r})")
    return float(value)


def _evaluated(part: float | Correction, events: Any, collection: str) -> Floats:
    return part(events, collection) if isinstance(part, Correction) else np.array(part)


def _there(shift: JetEnergyScale | JetEnergyResolution, events: Any) -> Sequence[str]:
    """The fields to multiply: those asked for, or of the usual ones those that are there."""
    found = [f for f in _JET_FIELDS if _has(events, shift.collection, f)]
    return shift.fields or found or ["pt"]  # of a collection that is not there, pt is what is missed


def _has(events: Any, collection: str, field: str) -> bool:
    try:
        branch(events, f"{collection}.{field}")
    except InputError:
        return False
    return True


def _candidates(events: Any) -> str:
    for name in _CANDIDATES:
        if _has(events, name, "pt"):
            return name
    there = {n.partition(".")[0] for n in names(events)}
    raise InputError(f"no candidates ({' or '.join(_CANDIDATES)}) among {', '.join(sorted(there))}")


def _dtype(values: Any) -> Any:
    layout = ak.to_layout(values)
    while not layout.is_numpy:
        layout = layout.content
    return layout.dtype
