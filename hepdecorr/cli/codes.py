"""Codes of the test groups, for taggers that are told of each event's group: evaluation/groups/*.parquet."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hepdecorr.errors import InputError

FOLDER = "groups"


def told(models: Mapping[str, Path], *, base: Path) -> dict[str, Any]:
    """Those of the taggers (TAGGER-SEED -> folder) that take codes, opened."""
    from hepdecorr.columnar.tagger import OnnxTagger

    taggers = {name: OnnxTagger(path, base=base) for name, path in models.items()}
    return {name: tagger for name, tagger in taggers.items() if tagger.card.context is not None}


def files(names: Mapping[str, Any], *, folder: Path) -> dict[str, Path]:
    """Where the codes of each tagger stand, by TAGGER-SEED; folder: of the evaluation."""
    return {name: folder / FOLDER / f"{name}.parquet" for name in names}


def write(taggers: Mapping[str, Any], sums: Mapping[str, Any], *, folder: Path) -> str:
    """Write the codes that follow from each tagger's sums, and say in a line what they are."""
    said = ""
    for name, path in files(taggers, folder=folder).items():
        codes = taggers[name].pool(sums[name])
        codes.save(path)
        said = said or codes.summary()
    taggers_of = f"{len(taggers)} taggers" if len(taggers) > 1 else next(iter(taggers))
    return f"codes of {said}, for {taggers_of}"


def check_complete(first: Mapping[str, Any], second: Mapping[str, Any], *, again: str) -> None:
    """InputError unless both passes (their completeness, as plain data) have seen the same events.

    A file that could be read in the one and not in the other makes codes of other events than are scored.
    """
    for key in ("events", "missing_chunks"):
        if first.get(key) != second.get(key):
            raise InputError(
                f"the codes of groups come from {first.get('events_processed', 0):,} events and "
                f"{second.get('events_processed', 0):,} were scored: a file was readable for one of the "
                f"passes only; {again}"
            )
