"""Where a file keeps the constituents of its jets, and whether their pt and mass carry Puppi weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from hepdecorr.errors import InputError

RAW, WEIGHTED = "raw", "weighted"
PUPPI = ("auto", RAW, WEIGHTED)
WEIGHT = "puppiWeight"


class Layout(NamedTuple):
    """The links of a collection, link.jetIdx -> jet and link.pointer -> table, both within the event.

    `stored` says that pt and mass of the table are weighted as they stand.
    """

    collection: str
    link: str
    pointer: str
    table: str
    stored: bool


# PFNano and BTVNano, then central NanoAOD from v15 on
_KNOWN = (("PFCands", "pFCandsIdx", False), ("PFCand", "pfCandIdx", True))


def has(events: Any, collection: str, field: str) -> bool:
    """Whether the events have this branch, under a schema with collections or as a flat one."""
    if f"{collection}_{field}" in events.fields:
        return True
    return collection in events.fields and field in events.layout[collection].fields


def find(events: Any, collection: str) -> Layout | None:
    """How the events link `collection` to its constituents; None where they do not."""
    for table, index, stored in _KNOWN:
        link = f"{collection}{table}"
        if all(has(events, *b) for b in ((link, "jetIdx"), (link, index), (table, "pt"))):
            return Layout(collection, link, index, table, stored)
    return None


def need(events: Any, collection: str) -> Layout:
    """As `find`; InputError where there is nothing."""
    layout = find(events, collection)
    if layout is None:
        looked = " or ".join(f"{collection}{t}_jetIdx, {collection}{t}_{i}, {t}_pt" for t, i, _ in _KNOWN)
        raise InputError(
            f"no constituents of {collection!r} in these events: neither branches {looked}; take PFNano "
            f"files, or NanoAOD v15 with FatJet, or a tagger and features that need no constituents"
        )
    return layout


def convention(events: Any, layout: Layout, spec: Mapping[str, Any]) -> tuple[str, bool]:
    """What the constituents' pt and mass are, RAW or WEIGHTED, and whether the weight is yet to be applied.

    v15 stores weighted ones; PFNano stores raw ones, to be multiplied for jets that were clustered from
    weighted candidates.  `auto` takes all to be such but `Jet` and ...CHS: say `puppi: weighted` for AK4
    Puppi jets in PFNano.  InputError where `spec["puppi"]` asks for what the file has not.
    """
    asked = spec.get("puppi", "auto")
    if asked not in PUPPI:
        raise InputError(f"objects: puppi {asked!r}; it is {', '.join(PUPPI)}")
    there = has(events, layout.table, WEIGHT)
    if layout.stored:
        if asked == RAW:
            raise InputError(
                f"objects: 'puppi: raw' is not in these files: pt and mass in {layout.table} are weighted "
                f"as stored (NanoAOD v15); use 'puppi: auto', or PFNano files"
            )
        return WEIGHTED, False
    if asked == WEIGHTED and not there:
        raise InputError(
            f"objects: 'puppi: weighted' wants branch '{layout.table}.{WEIGHT}', which is not there; "
            f"use 'puppi: auto' or 'raw', or files that have it"
        )
    unweighted = layout.collection == "Jet" or layout.collection.endswith("CHS")
    multiply = asked == WEIGHTED or (asked == "auto" and there and not unweighted)
    return (WEIGHTED if multiply else RAW), multiply
