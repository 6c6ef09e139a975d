"""Branches of the events as flat numpy arrays, each checked and named in what is said about it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from hepdecorr.catalogue import suggest
from hepdecorr.columnar.features.sharing import intermediate
from hepdecorr.errors import InputError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# Attributes that begin with @ travel with slices and are left out of pickles.
_OUTDATED = "@hepdecorr_outdated"


class OutdatedError(InputError):
    """A branch that no longer fits the events, as a shift has changed what it was made of."""


def branch(events: Any, name: str) -> Any:
    """The branch 'Collection.field', or a flat 'field', as it is in the events.

    Without the collection a flat 'Collection_field' is taken, as uproot and coffea's BaseSchema give it.
    Raises InputError that names the branch and the nearest one there is, and for one that a shift has left
    behind (`outdated`).
    """
    collection, _, field = name.partition(".")
    if why := events.attrs.get(_OUTDATED, {}).get(name if field else name.replace("_", ".", 1)):
        raise OutdatedError(f"branch {name!r} {why}")
    if not field and name in events.fields:
        return events[name]
    if field and f"{collection}_{field}" in events.fields:
        return events[f"{collection}_{field}"]
    # Never as an attribute: events.FatJet.tau2 is the square of the vector's proper time, not the branch.
    if field and collection in events.fields and field in events.layout[collection].fields:
        return events[collection, field]
    raise InputError(f"no branch {name!r}{suggest(name, names(events))}")


def outdated(events: Any, why: Mapping[str, str]) -> Any:
    """The events, with branches 'Collection.field' that no longer fit the rest; `branch` refuses them."""
    attrs = {**events.attrs, _OUTDATED: {**events.attrs.get(_OUTDATED, {}), **why}}
    return ak.Array(events.layout, behavior=events.behavior, attrs=attrs)


def names(events: Any) -> list[str]:
    """Every branch of the events, as 'Collection.field' or 'field'."""
    found = []
    for name in events.fields:
        inner = events.layout[name].fields
        found += [f"{name}.{field}" for field in inner] or [name]
    return found


def numbers(values: Any, *, length: int) -> NDArray[Any]:
    """`values` as a numpy array with one number for each of `length` events.

    Raises InputError for missing values (also where none happens to be missing: the next chunk may have
    one), more than one number per event, another length, and what is not a number.
    """
    if isinstance(values, np.ma.MaskedArray):
        raise InputError("masked values; say what a missing one is with numpy.ma.filled")
    try:
        layout = ak.to_layout(values, primitive_policy="error", string_policy="error")
    except (TypeError, ValueError):
        raise InputError(f"not an array but {type(values).__name__}") from None
    kind = ak.type(layout)
    if ak.types.OptionType in {type(t) for t in _nest(kind.content)}:
        raise InputError(f"values may be missing (type {kind}); say what a missing one is with ak.fill_none")
    if layout.purelist_depth != 1 or layout.is_record or ak.fields(layout):
        raise InputError(f"not one number per event but {kind}; pick or reduce to one")
    array = ak.to_numpy(layout, allow_missing=False)
    if array.dtype.kind not in "biuf":
        raise InputError(f"not numbers but {kind}")
    if len(array) != length:
        raise InputError(f"{len(array)} values for {length} events")
    return np.asarray(array)


@intermediate
def per_event(events: Any, name: str) -> Floats:
    """A branch with one number per event, float64."""
    try:
        return numbers(branch(events, name), length=len(events)).astype(np.float64)
    except InputError as err:
        raise _about(name, err) from None


@intermediate
def jagged(events: Any, name: str) -> tuple[Ints, Floats]:
    """A branch with a list per event: offsets (events + 1, from 0) and the flat finite values, float64."""
    start, content = flat(events, name)
    values = content.astype(np.float64)
    if not np.isfinite(values).all():
        row = int(np.searchsorted(start, np.flatnonzero(~np.isfinite(values))[0], side="right")) - 1
        raise InputError(f"branch {name!r}: a value in row {row} is not finite")
    return start, values


def flat(events: Any, name: str) -> tuple[Ints, NDArray[Any]]:
    """A branch with a list per event: offsets (events + 1, from 0) and the flat numbers as they are stored.

    They are not looked at: they may be NaN.
    """
    layout = strip(ak.to_layout(branch(events, name)), name)
    if not layout.is_list:
        raise InputError(f"branch {name!r}: not a list per event but {ak.type(layout)}")
    lists = layout.to_ListOffsetArray64(start_at_zero=True)
    start = np.asarray(lists.offsets.data, dtype=np.int64)
    content = ak.to_numpy(strip(lists.content, name)[: start[-1]], allow_missing=False)
    if content.dtype.kind not in "biuf" or content.ndim != 1:
        raise InputError(f"branch {name!r}: not a list of numbers per event but {ak.type(layout)}")
    return start, content


def columns(events: Any, collection: str, *fields: str) -> tuple[Ints, list[Floats]]:
    """Offsets of a collection (events + 1, from 0) and the flat values of some of its fields."""
    start = np.concatenate([[0], np.cumsum(counts(events, collection))])
    values = []
    for field in fields:
        own, flat = jagged(events, f"{collection}.{field}")
        # Flat branches need not agree with each other or with the counter, and compiled loops do not look.
        if not np.array_equal(own, start):
            raise InputError(f"branch {collection + '.' + field!r} has other lengths than the collection")
        values.append(flat)
    return start, values


@intermediate
def counts(events: Any, collection: str) -> Ints:
    """How many entries the collection has in each event; reads the counter alone where there is one."""
    if collection in events.fields:
        return numbers(ak.num(events[collection], axis=1), length=len(events)).astype(np.int64)
    if f"n{collection}" in events.fields:
        return per_event(events, f"n{collection}").astype(np.int64)
    flat = [field for field in events.fields if field.startswith(f"{collection}_")]
    if not flat:
        raise InputError(f"no collection {collection!r}{suggest(collection, events.fields)}")
    return np.diff(jagged(events, flat[0])[0])


@intermediate
def index(events: Any, name: str, collection: str) -> Ints:
    """A branch that points into the collection of the same event; InputError if it points outside."""
    found = numbers(branch(events, name), length=len(events)).astype(np.int64)
    outside = (found < 0) | (found >= counts(events, collection))
    if outside.any():
        row = int(np.flatnonzero(outside)[0])
        there = int(counts(events, collection)[row])
        raise InputError(
            f"branch {name!r} points at {collection} {found[row]} in row {row}, which has {there}; "
            f"drop such events or mend the branch"
        )
    return found


def strip(layout: Any, name: str) -> Any:
    """The layout without indirection; InputError that names the branch where values may be missing."""
    while layout.is_indexed and not layout.is_option:
        layout = layout.project()
    if layout.is_option:
        raise InputError(f"branch {name!r}: values may be missing (type {ak.type(layout)}); drop them first")
    return layout


def _nest(kind: Any) -> Any:
    yield kind
    if hasattr(kind, "content"):
        yield from _nest(kind.content)


def _about(name: str, err: InputError) -> InputError:
    return err if repr(name) in str(err) else InputError(f"branch {name!r}: {err}")
