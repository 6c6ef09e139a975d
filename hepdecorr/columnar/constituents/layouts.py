"""Where a file keeps the constituents of its jets, and whether their pt and mass carry Puppi weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from hepdecorr.errors import InputError

RAW, WEIGHTED = "raw", "weighted"
PUPPI_CHOICES = ("auto", RAW, WEIGHTED)
WEIGHT_FIELD = "puppiWeight"


class ConstituentLayout(NamedTuple):
    """The links of a collection, link.jetIdx -> jet and link.pointer -> table, both within the event.

    `stored` says that pt and mass of the table are weighted as they stand.
    """

    collection: str
    link: str
    pointer: str
    table: str
    stored_weighted: bool


# PFNano and BTVNano, then central NanoAOD from v15 on
_KNOWN_LAYOUTS = (("PFCands", "pFCandsIdx", False), ("PFCand", "pfCandIdx", True))


def has_branch(events: Any, collection: str, field: str) -> bool:
    """Whether the events have this branch, under a schema with collections or as a flat one."""
    if f"{collection}_{field}" in events.fields:
        return True
    return collection in events.fields and field in events.layout[collection].fields


def find_layout(events: Any, collection: str) -> ConstituentLayout | None:
    """How the events link `collection` to its constituents; None where they do not."""
    for table, index, stored in _KNOWN_LAYOUTS:
        link = f"{collection}{table}"
        if all(has_branch(events, *b) for b in ((link, "jetIdx"), (link, index), (table, "pt"))):
            return ConstituentLayout(collection, link, index, table, stored)
    return None


def require_layout(events: Any, collection: str) -> ConstituentLayout:
    """As `find`; InputError where there is nothing."""
    layout = find_layout(events, collection)
    if layout is None:
        looked = " or ".join(
            f"{collection}{t}_jetIdx, {collection}{t}_{i}, {t}_pt" for t, i, _ in _KNOWN_LAYOUTS
        )
        raise InputError(
            f"no constituents of {collection!r} in these events: neither branches {looked}; take PFNano "
            f"files, or NanoAOD v15 with FatJet, or a tagger and features that need no constituents"
        )
    return layout


def resolve_convention(events: Any, layout: ConstituentLayout, spec: Mapping[str, Any]) -> tuple[str, bool]:
    """What the constituents' pt and mass are, RAW or WEIGHTED, and whether the weight is yet to be applied.

    v15 stores weighted ones; PFNano stores raw ones, to be multiplied for jets that were clustered from
    weighted candidates.  `auto` takes all to be such but `Jet` and ...CHS: say `puppi: weighted` for AK4
    Puppi jets in PFNano.  InputError where `spec["puppi"]` asks for what the file has not.
    """
    asked = spec.get("puppi", "auto")
    if asked not in PUPPI_CHOICES:
        raise InputError(f"objects: puppi {asked!r}; it is {', '.join(PUPPI_CHOICES)}")
    there = has_branch(events, layout.table, WEIGHT_FIELD)
    if layout.stored_weighted:
        if asked == RAW:
            raise InputError(
                f"objects: 'puppi: raw' is not in these files: pt and mass in {layout.table} are weighted "
                f"as stored (NanoAOD v15); use 'puppi: auto', or PFNano files"
            )
        return WEIGHTED, False
    if asked == WEIGHTED and not there:
        raise InputError(
            f"objects: 'puppi: weighted' wants branch '{layout.table}.{WEIGHT_FIELD}', which is not there; "
            f"use 'puppi: auto' or 'raw', or files that have it"
        )
    unweighted = layout.collection == "Jet" or layout.collection.endswith("CHS")
    multiply = asked == WEIGHTED or (asked == "auto" and there and not unweighted)
    return (WEIGHTED if multiply else RAW), multiply
