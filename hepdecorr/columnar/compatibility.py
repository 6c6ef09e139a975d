"""What a file's objects, features and constituents are, so far as they were used: kept, and compared.

Tables keep it as provenance, cards as `conventions`: {"collection": "FatJet", "tau21": "branch",
"candidates": "raw"}; where rows are events it is {"schema": "BsgammaSchema"}.

Whether events, or a table, are of the kind that a tagger was trained on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import awkward as ak

from hepdecorr.columnar import constituents, features, object_rows
from hepdecorr.columnar.features.registry import was_used
from hepdecorr.columnar.selection import Cuts
from hepdecorr.errors import InputError
from hepdecorr.model_card import ModelCard
from hepdecorr.table import Table

_ALWAYS_COMPARED = ("schema", "collection")
_ADVICE = {
    "candidates": (
        ": momenta are with Puppi weights in the one and without in the other (PFNano stores raw ones, "
        "NanoAOD v15 weighted ones); take files of the kind it was trained on, or train it on such files"
    ),
}
_SOURCE_ADVICE = (
    ": a branch of the file and what constituents give differ; say 'substructure: {}' in 'objects', or train "
    "it on such files"
)


class ConventionSummary(NamedTuple):
    """What rows of objects are, and what was odd about them and was mended, counted."""

    conventions: dict[str, str]
    data_quality_counts: dict[str, int]


def collect_conventions(
    rows: Any, names: Sequence[str], *, cuts: Cuts = (), base: Path | None = None
) -> ConventionSummary:
    """Conventions and notes of these rows, so far as it matters for these features; empty for rows of events.

    The conventions are the collection; for features that a file may have as branches, those of `cuts` too,
    {"tau21": "branch" or "computed"}; and "candidates" where constituents were looked at.  Call it within the
    same `features.shared(chosen)` as what it is about: that knows what was looked at.
    """
    spec = object_rows.get_spec(rows)
    if spec is None:
        return ConventionSummary({}, {})
    chosen_by = [cut["feature"] for cut in cuts if isinstance(cut, Mapping) and cut.get("feature")]
    found = constituents.constituent_conventions(rows, spec)
    sources = features.feature_sources(rows, [*names, *chosen_by], base=base)
    notes = features.feature_fallbacks(rows, names, base=base)
    if was_used(constituents.get_constituents, rows):
        notes |= constituents.data_quality_counts(rows)
    elif not features.uses_constituents(chosen_by, sources, base=base):
        found.pop("candidates", None)
    return ConventionSummary(found | sources, notes)


def merge_conventions(chunks: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """The conventions of the files of these records; InputError names two files that differ.

    A file says nothing of the convention of constituents that it has not, or that nothing uses.
    """
    found: dict[str, tuple[str, str]] = {}
    for chunk in sorted(chunks, key=lambda c: (c["dataset"], c["source"], c["start"])):
        for key, value in chunk.get("conventions", {}).items():
            known, source = found.setdefault(key, (value, chunk["source"]))
            if value != known:
                setting = {"candidates": "puppi"}.get(key, "substructure")
                raise InputError(
                    f"{source} and {chunk['source']} differ in their {key}: {known!r} and {value!r}; what "
                    f"learns from both learns nonsense, so leave one kind out, or make them alike with "
                    f"{setting!r} in 'objects'"
                )
    return {key: value for key, (value, _) in found.items()}


def describe_difference(
    card: ModelCard, actual: Mapping[str, Any], *, subject: str, base: Path | None = None
) -> str:
    """How the conventions `found` in `of` differ from the card's, and what to do; empty where they do not.

    Only those count that concern what the tagger reads.
    """
    concerned = {*_ALWAYS_COMPARED, *features.expand_dependencies(card.column_names, base=base)}
    if card.constituents or features.uses_constituents(card.column_names, actual, base=base):
        concerned.add("candidates")
    for key, value in card.conventions.items():
        if key in concerned and key in actual and str(actual[key]) != value:
            other = (
                ""
                if key in _ALWAYS_COMPARED
                else _SOURCE_ADVICE.format("stored" if value == "branch" else value)
            )
            remedy = _ADVICE.get(key, other)
            return f"trained with {key} {value!r}, {subject} came with {actual[key]!r}{remedy}"
    return ""


def check_table(card: ModelCard, table: Table, *, source: str, base: Path) -> None:
    """InputError unless the table's inputs are the card's: names, order, units and conventions."""
    for role, prefix, wanted in (
        ("feature", "", [i for i in card.inputs if i.name == "features"]),
        ("constituent", "constituents.", [i for i in card.inputs if i.name == "constituents"]),
    ):
        known = {prefix + f.name: f.unit for i in wanted for f in i.features}
        if (names := table.column_names(role)) != list(known):
            raise InputError(
                f"{source}: the {role}s of the tagger differ from those of the table: "
                f"{_describe_column_difference(list(known), names)}"
            )
        for name, unit in known.items():
            if (found := table.column(name).unit) != unit:
                raise InputError(
                    f"{source}: {role} {name!r} has the unit {unit!r} in the tagger and {found!r} in the "
                    "table"
                )
    _check_conventions(
        card, table.provenance.get("conventions") or {}, subject="the table", source=source, base=base
    )


def check_events(card: ModelCard, events: Any, *, source: str, base: Path) -> None:
    """InputError unless events were read under the schema of the training; arrays of no schema will do."""
    if (schema := get_schema_name(events)) is not None:
        _check_conventions(card, {"schema": schema}, subject="these events", source=source, base=base)


def check_objects(
    card: ModelCard, rows: Any, sources: Mapping[str, str], *, location: str, source: str, base: Path
) -> None:
    """InputError unless rows are objects as in training, their features and constituents made alike.

    sources: where their features come from (features.sources).  where: begins the message.
    """
    spec = object_rows.get_spec(rows) or {}
    for key in ("collection", "radius"):
        value = spec.get(key)
        if value != (trained := card.objects.get(key)):
            raise InputError(
                f"{location}{source}: the tagger was trained on objects with {key} {trained!r}, these have "
                f"{key} {value!r}; give 'objects' as in training"
            )
    found = constituents.constituent_conventions(rows, spec)
    if card.constituents is not None and "candidates" not in found:
        raise InputError(
            f"{location}tagger {card.name} needs the constituents of {found['collection']}, and there is no "
            "table of them in this file: take PFNano or NanoAOD v15, or a tagger on features of the jets "
            "alone"
        )
    _check_conventions(
        card, {**found, **sources}, subject=f"{location}these events", source=source, base=base
    )


def _check_conventions(
    card: ModelCard, actual: Mapping[str, Any], *, subject: str, source: str, base: Path
) -> None:
    if wrong := describe_difference(card, actual, subject=subject, base=base):
        raise InputError(f"{source}: the tagger was {wrong}")


def get_schema_name(events: Any) -> str | None:
    """Name of the coffea schema under which events were read; None for plain arrays."""
    factory = getattr(events, "attrs", {}).get("@events_factory") if isinstance(events, ak.Array) else None
    schema = getattr(factory, "_schema", None)
    return None if schema is None else type(schema).__name__


def _describe_column_difference(expected: Sequence[str], actual: Sequence[str]) -> str:
    if missing := [n for n in expected if n not in actual]:
        return f"{', '.join(missing)} missing in the table"
    if extra := [n for n in actual if n not in expected]:
        return f"{', '.join(extra)} unknown to the tagger"
    return f"their order is {', '.join(actual)} instead of {', '.join(expected)}"
