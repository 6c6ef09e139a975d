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
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from hepdecorr import catalogue
from hepdecorr.columnar.constituent_scale import ConstituentScale
from hepdecorr.columnar.corrections import Correction
from hepdecorr.columnar.features.branches import branch, counts, numbers
from hepdecorr.columnar.scaling import JET_FIELDS, has, multiplied, positive
from hepdecorr.errors import InputError
from hepdecorr.table import EVENT_IDS, splitmix64

__all__ = ["ConstituentScale", "JetEnergyResolution", "JetEnergyScale", "multiplied"]

Floats = NDArray[np.float64]
Shift = Callable[[Any], Any]

_SMALLEST = 1e-3  # of a resolution's factors: below it a jet would turn round


def build(
    specs: Mapping[str, Mapping[str, Any] | str],
    *,
    base: Path | None = None,
    collection: str | None = None,
    objects: Mapping[str, Any] | None = None,
) -> dict[str, Shift]:
    """The shifts by name, from {type: Name, **arguments} or 'my_shifts.py:shift'.

    A name stands for a class of this module, or for a class or function of the user's; arguments beside
    `type` are bound to a function.  `objects` are the analysis's: their collection, or `collection`, is the
    jets' where a block names none.  Files count from `base`.  Raises InputError that names the shift.
    """
    known: dict[str, Any] = {"folder": base or Path()}
    known |= {} if objects is None else {"objects": objects}
    if collection := collection or (objects or {}).get("collection"):
        known["collection"] = collection
    found: dict[str, Shift] = {}
    for name, spec in specs.items():
        try:
            found[name] = _Named(name, _shift(spec, base=base, known=known))
        except InputError as err:
            raise InputError(f"shift {name!r}: {err}") from None
    return found


def files(specs: Mapping[str, Mapping[str, Any] | str], base: Path | None = None) -> list[Path]:
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
        return positive(factor, "factor")
    return _correction({"file": file, "correction": correction, "inputs": inputs}, folder)


def _part(value: Any, name: str, folder: Path | str) -> float | Correction:
    return _correction(value, folder) if isinstance(value, Mapping) else positive(value, name)


def _correction(spec: Mapping[str, Any], folder: Path | str) -> Correction:
    needed = ("file", "correction", "inputs")
    for key in spec:
        if key not in needed:
            raise InputError(f"a correction takes no {key!r}{catalogue.suggest(key, needed)}")
    if missing := [key for key in needed if not spec.get(key)]:
        raise InputError(f"a correction needs {', '.join(needed)}; {missing[0]!r} is missing")
    return Correction(file=spec["file"], correction=spec["correction"], inputs=spec["inputs"], folder=folder)


def _evaluated(part: float | Correction, events: Any, collection: str) -> Floats:
    return part(events, collection) if isinstance(part, Correction) else np.array(part)


def _there(shift: JetEnergyScale | JetEnergyResolution, events: Any) -> Sequence[str]:
    """The fields to multiply: those asked for, or of the usual ones those that are there."""
    found = [f for f in JET_FIELDS if has(events, shift.collection, f)]
    return shift.fields or found or ["pt"]  # of a collection that is not there, pt is what is missed
