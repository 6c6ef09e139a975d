"""Whether events, or a table, are of the kind that a tagger was trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import awkward as ak

from hepdecorr.card import Card
from hepdecorr.columnar import constituents, conventions, objects
from hepdecorr.errors import InputError
from hepdecorr.table import Table


def check_table(card: Card, table: Table, *, source: str, base: Path) -> None:
    """InputError unless the table's inputs are the card's: names, order, units and conventions."""
    for role, prefix, wanted in (
        ("feature", "", [i for i in card.inputs if i.name == "features"]),
        ("constituent", "constituents.", [i for i in card.inputs if i.name == "constituents"]),
    ):
        known = {prefix + f.name: f.unit for i in wanted for f in i.features}
        if (names := table.names(role)) != list(known):
            raise InputError(
                f"{source}: the tagger's {role}s are not the table's: {_difference(list(known), names)}"
            )
        for name, unit in known.items():
            if (found := table.column(name).unit) != unit:
                raise InputError(
                    f"{source}: {role} {name!r} has the unit {unit!r} in the tagger and {found!r} in the "
                    "table"
                )
    _compare(card, table.provenance.get("conventions") or {}, of="the table", source=source, base=base)


def check_events(card: Card, events: Any, *, source: str, base: Path) -> None:
    """InputError unless events were read under the schema of the training; arrays of no schema will do."""
    if (schema := schema_name(events)) is not None:
        _compare(card, {"schema": schema}, of="these events", source=source, base=base)


def check_objects(
    card: Card, rows: Any, sources: Mapping[str, str], *, where: str, source: str, base: Path
) -> None:
    """InputError unless rows are objects as in training, their features and constituents made alike.

    sources: where their features come from (features.sources).  where: begins the message.
    """
    spec = objects.spec(rows) or {}
    for key in ("collection", "radius"):
        value = spec.get(key)
        if value != (trained := card.objects.get(key)):
            raise InputError(
                f"{where}{source}: the tagger was trained on objects with {key} {trained!r}, these have "
                f"{key} {value!r}; give 'objects' as in training"
            )
    found = constituents.conventions(rows, spec)
    if card.constituents is not None and "candidates" not in found:
        raise InputError(
            f"{where}tagger {card.name} needs the constituents of {found['collection']}, and there is no "
            "table of them in this file: take PFNano or NanoAOD v15, or a tagger on features of the jets "
            "alone"
        )
    _compare(card, {**found, **sources}, of=f"{where}these events", source=source, base=base)


def _compare(card: Card, found: Mapping[str, Any], *, of: str, source: str, base: Path) -> None:
    if wrong := conventions.difference(card, found, of=of, base=base):
        raise InputError(f"{source}: the tagger was {wrong}")


def schema_name(events: Any) -> str | None:
    """Name of the coffea schema under which events were read; None for plain arrays."""
    factory = getattr(events, "attrs", {}).get("@events_factory") if isinstance(events, ak.Array) else None
    schema = getattr(factory, "_schema", None)
    return None if schema is None else type(schema).__name__


def _difference(wanted: Sequence[str], found: Sequence[str]) -> str:
    if missing := [n for n in wanted if n not in found]:
        return f"{', '.join(missing)} missing in the table"
    if extra := [n for n in found if n not in wanted]:
        return f"{', '.join(extra)} unknown to the tagger"
    return f"their order is {', '.join(found)} instead of {', '.join(wanted)}"
