"""Rows that are objects: each jet of each event as a row of its own, beside everything of its event.

    rows = objects.rows(events, {"collection": "FatJet", "leading": 2})
    rows["FatJet"]["msoftdrop"], rows["genWeight"], rows["rowEvent"]

What takes events takes rows: features, cuts, weights, identifiers.  Nothing is read but the number of
objects, and their pt where `leading` has to choose: everything else stays virtual until it is asked for.

Write `rows["FatJet"]["tau2"]`, never `rows.FatJet.tau2`: on a Lorentz vector that is the squared mass.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import awkward as ak
import numpy as np

from hepdecorr.catalogue import suggest
from hepdecorr.columnar.features import branches
from hepdecorr.columnar.features.branches import Ints
from hepdecorr.errors import InputError

ROW_EVENT, ROW_OBJECT = "rowEvent", "rowObject"

# Jet radii of CMS's collections: AK8 and AK4.
RADII: Mapping[str, float] = {"FatJet": 0.8, "Jet": 0.4}

AUTO, STORED, COMPUTED = SUBSTRUCTURE = ("auto", "stored", "computed")

# Attributes that begin with @ travel with slices and are left out of pickles.
_SPEC, _EVENTS = "@hepdecorr_objects", "@hepdecorr_events"


def rows(events: Any, spec: Mapping[str, Any] | None) -> Any:
    """One row for each object of `spec["collection"]`, in the order of the file; without spec, the events.

    Field `<collection>` is the object's own record, other fields are those of its event, and two are new:
    rowEvent, the place of the event in `events`, and rowObject, that of the object in its event (int64).
    Branches FatJet_* that coffea's BaseSchema leaves flat hold one value a row too.  With `leading`, only
    the so many objects of highest pt in each event.

    Raises InputError for an unknown collection, one without a list for each event, and a bad `leading` or
    `substructure`.
    """
    if spec is None:
        return events
    if not isinstance(events, ak.Array):
        raise InputError(f"events must be an awkward array of records, not {type(events).__name__}")
    collection, most = _collection(events, spec), _leading(spec)
    substructure(spec)
    start = np.concatenate([[0], np.cumsum(branches.counts(events, collection))])
    event = np.repeat(np.arange(len(events)), np.diff(start))
    place = np.arange(start[-1])
    if most is not None and (np.diff(start) > most).any():
        place = _hardest(events, collection, event, start, most)
    event = event[place]
    contents = {name: _of_event(events, name, event) for name in events.fields}
    contents |= _of_object(events, collection, start, place)
    contents[ROW_EVENT] = ak.contents.NumpyArray(event)
    contents[ROW_OBJECT] = ak.contents.NumpyArray(place - start[event])
    layout = ak.contents.RecordArray(
        list(contents.values()), list(contents), length=len(event), parameters=_parameters(events)
    )
    attrs = {**events.attrs, _SPEC: dict(spec), _EVENTS: events}
    return ak.Array(layout, behavior=events.behavior, attrs=attrs)


def spec(rows: Any) -> Mapping[str, Any] | None:
    """What `rows` were made with, also after a selection; None for events."""
    found = rows.attrs.get(_SPEC) if isinstance(rows, ak.Array) else None
    return found if isinstance(found, Mapping) else None


def substructure(spec: Mapping[str, Any]) -> str:
    """Where tau_N, softdrop mass and the like come from, `spec["substructure"]`.

    AUTO: the file's branch where there is one, else computed from constituents; STORED: the branch, or an
    error; COMPUTED: never the branch.  Raises InputError for another word.
    """
    asked = spec.get("substructure", AUTO)
    if asked not in SUBSTRUCTURE:
        raise InputError(f"objects: substructure {asked!r}; it is {', '.join(SUBSTRUCTURE)}")
    return str(asked)


def source(rows: Any) -> Any:
    """The events that `rows` were made of; rows["rowEvent"] counts in them."""
    if spec(rows) is None:
        raise InputError("these are events, not rows of objects; make them with objects.rows")
    return rows.attrs[_EVENTS]


def _collection(events: Any, spec: Mapping[str, Any]) -> str:
    name = spec.get("collection")
    if not isinstance(name, str):
        raise InputError(f"objects: {dict(spec)} names no collection; add 'collection: FatJet'")
    if name in events.fields:
        kind = ak.type(events.layout[name])
        if branches.strip(events.layout[name], name).is_list and events.layout[name].fields:
            return name
        raise InputError(f"objects: collection {name!r} is not a list of records per event but {kind}")
    if any(field.startswith(f"{name}_") for field in events.fields):
        return name
    known = {field.partition("_")[0] for field in events.fields}
    known -= {k for k in known if k[:1] == "n" and k[1:] in known}
    raise InputError(f"objects: no collection {name!r}{suggest(name, known)}")


def _leading(spec: Mapping[str, Any]) -> int | None:
    most = spec.get("leading")
    if most is None:
        return None
    if isinstance(most, bool) or not isinstance(most, int) or most < 1:
        raise InputError(f"objects: leading {most!r}; it is how many objects of an event, 1 or more")
    return most


def _hardest(events: Any, collection: str, event: Ints, start: Ints, most: int) -> Ints:
    """Places of the `most` objects of highest pt of each event, ascending; the first of equal ones."""
    _, (pt,) = branches.columns(events, collection, "pt")
    order = np.lexsort((-pt, event))
    return np.sort(order[np.arange(len(order)) - start[event] < most])


def _of_event(events: Any, name: str, event: Ints) -> Any:
    return ak.contents.IndexedArray.simplified(ak.index.Index64(event), events.layout[name])


def _of_object(events: Any, collection: str, start: Ints, place: Ints) -> dict[str, Any]:
    """The object's record and, where the branches are flat, each of them too."""
    if collection in events.fields:
        lists = branches.strip(events.layout[collection], collection).to_ListOffsetArray64(True)
        return {collection: ak.contents.IndexedArray.simplified(ak.index.Index64(place), lists.content)}
    columns: dict[str, Any] = {}
    for name in events.fields:
        if name.startswith(f"{collection}_"):
            column = _deferred(events, name, start, place)
            columns |= {} if column is None else {name: column}
    fields = [name.removeprefix(f"{collection}_") for name in columns]
    record = ak.contents.RecordArray(list(columns.values()), fields, length=len(place))
    return {**columns, collection: record}


def _deferred(events: Any, name: str, start: Ints, place: Ints) -> Any:
    """A flat branch with one value a row, read when it is asked for; None if it is no list of numbers."""
    layout = events.layout[name]
    while layout.is_indexed and not layout.is_option:
        layout = layout.content
    if not layout.is_list or not layout.content.is_numpy:
        return None

    def read() -> Any:
        own, values = branches.flat(events, name)
        if not np.array_equal(own, start):
            raise InputError(f"branch {name!r} has other lengths than its collection")
        return values[place]

    form = {"class": "NumpyArray", "primitive": str(layout.content.dtype), "form_key": "node"}
    return ak.from_buffers(form, len(place), {"node-data": read}, highlevel=False)


def _parameters(events: Any) -> dict[str, Any]:
    """What makes the events what they are: their class, and coffea's metadata."""
    layout = events.layout
    while layout.is_indexed and not layout.parameters:
        layout = layout.content
    return dict(layout.parameters)
