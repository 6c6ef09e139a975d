"""What a file's objects, features and constituents are, so far as they were used: kept, and compared.

Tables keep it as provenance, cards as `conventions`: {"collection": "FatJet", "tau21": "branch",
"candidates": "raw"}; where rows are events it is {"schema": "BsgammaSchema"}.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hepdecorr.card import Card
from hepdecorr.columnar import constituents, features, objects
from hepdecorr.columnar.cuts import Cuts
from hepdecorr.columnar.features.sharing import asked_for
from hepdecorr.errors import InputError

_ALWAYS = ("schema", "collection")
_REMEDIES = {
    "candidates": (
        ": momenta are with Puppi weights in the one and without in the other (PFNano stores raw ones, "
        "NanoAOD v15 weighted ones); take files of the kind it was trained on, or train it on such files"
    ),
}
_OTHER_SOURCE = (
    ": a branch of the file and what constituents give differ; say 'substructure: {}' in 'objects', or train "
    "it on such files"
)


class About(NamedTuple):
    """What rows of objects are, and what was odd about them and was mended, counted."""

    conventions: dict[str, str]
    notes: dict[str, int]


def about(chosen: Any, names: Sequence[str], *, cuts: Cuts = (), base: Path | None = None) -> About:
    """Conventions and notes of these rows, so far as it matters for these features; empty for rows of events.

    The conventions are the collection; for features that a file may have as branches, those of `cuts` too,
    {"tau21": "branch" or "computed"}; and "candidates" where constituents were looked at.  Call it within the
    same `features.shared(chosen)` as what it is about: that knows what was looked at.
    """
    spec = objects.spec(chosen)
    if spec is None:
        return About({}, {})
    chosen_by = [cut["feature"] for cut in cuts if isinstance(cut, Mapping) and cut.get("feature")]
    found = constituents.conventions(chosen, spec)
    sources = features.sources(chosen, [*names, *chosen_by], base=base)
    notes = features.fallbacks(chosen, names, base=base)
    if asked_for(constituents.of, chosen):
        notes |= constituents.notes(chosen)
    elif not features.of_constituents(chosen_by, sources, base=base):
        found.pop("candidates", None)
    return About(found | sources, notes)


def agreed(chunks: Iterable[Mapping[str, Any]]) -> dict[str, str]:
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


def difference(card: Card, found: Mapping[str, Any], *, of: str, base: Path | None = None) -> str:
    """How the conventions `found` in `of` differ from the card's, and what to do; empty where they do not.

    Only those count that concern what the tagger reads.
    """
    concerned = {*_ALWAYS, *features.used(card.column_names, base=base)}
    if card.constituents or features.of_constituents(card.column_names, found, base=base):
        concerned.add("candidates")
    for key, value in card.conventions.items():
        if key in concerned and key in found and str(found[key]) != value:
            other = "" if key in _ALWAYS else _OTHER_SOURCE.format("stored" if value == "branch" else value)
            remedy = _REMEDIES.get(key, other)
            return f"trained with {key} {value!r}, {of} came with {found[key]!r}{remedy}"
    return ""
