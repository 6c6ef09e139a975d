"""Events with some of a collection's branches multiplied."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from hepdecorr.columnar.features.branches import branch, columns
from hepdecorr.errors import InputError

Floats = NDArray[np.float64]

JET_FIELDS = ("pt", "mass", "msoftdrop")  # what the energy scale of a jet moves


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


def has(events: Any, collection: str, field: str) -> bool:
    """Whether the events have this branch."""
    try:
        branch(events, f"{collection}.{field}")
    except InputError:
        return False
    return True


def positive(value: Any, name: str) -> float:
    """The value; InputError that names it where it is no number above 0."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise InputError(f"{name} must be a number above 0 (given: {value!r})")
    return float(value)


def _dtype(values: Any) -> Any:
    layout = ak.to_layout(values)
    while not layout.is_numpy:
        layout = layout.content
    return layout.dtype
