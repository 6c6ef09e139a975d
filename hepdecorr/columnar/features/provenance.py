"""What a file says of its jets itself: the branches of the collection that the rows are.

What features of jets are made of: branches of the file, or constituents.

A tagger that learnt from the one must not be given the other unawares: radius, axes and pile-up treatment may
differ.  Tables and cards keep it among their conventions, as {"tau21": "branch"}.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from hepdecorr import registry
from hepdecorr.columnar.features.compute import FEATURE_GROUPS, NAMESPACE, expand_names
from hepdecorr.columnar.features.registry import FeatureDescription
from hepdecorr.columnar.features.stored_substructure import (
    BRANCH_OR_COMPUTED,
    COMPUTED,
    substructure_fallbacks,
    substructure_sources,
)
from hepdecorr.errors import InputError

CONSTITUENTS = "constituents"

_ALWAYS_COMPUTED = (
    {*FEATURE_GROUPS["jets_all"], CONSTITUENTS} - {*FEATURE_GROUPS["jet_kinematics"]} - BRANCH_OR_COMPUTED
)


def expand_dependencies(names: Iterable[str] | str, *, base: Path | None = None) -> list[str]:
    """The names spelt out, and for functions of the user what they say they use.

    CONSTITUENTS stands for those of a function, and for one that does not say (`feature(uses=...)`).
    """
    found: dict[str, None] = {}
    for name in expand_names(names):
        made_of = _declared_dependencies(name, base=base) if ":" in name else (name,)
        found.update(dict.fromkeys(made_of if ":" not in name else expand_dependencies(made_of, base=base)))
    return list(found)


def feature_sources(rows: Any, names: Iterable[str] | str, *, base: Path | None = None) -> dict[str, str]:
    """Where each of the features gets its values from in this file: 'branch' or 'computed'.

    Only those that can have either, by the file and `substructure` of the objects.
    """
    return substructure_sources(rows, expand_dependencies(names, base=base))


def feature_fallbacks(rows: Any, names: Iterable[str] | str, *, base: Path | None = None) -> dict[str, int]:
    """How many rows have a branch that is negative or not finite and was taken as 0, by branch."""
    return substructure_fallbacks(rows, expand_dependencies(names, base=base))


def uses_constituents(
    names: Iterable[str] | str, sources: Mapping[str, str], *, base: Path | None = None
) -> bool:
    """Whether one of the features is made of constituents, with `sources` as `sources` gives them."""
    return any(
        n in _ALWAYS_COMPUTED or sources.get(n) == COMPUTED for n in expand_dependencies(names, base=base)
    )


def _declared_dependencies(name: str, *, base: Path | None) -> tuple[str, ...]:
    try:
        found = getattr(registry.find(name, namespace=NAMESPACE, base=base), "description", None)
    except InputError:
        # Whoever computes it says so better; a card can be compared with a table without the user's code.
        found = None
    uses = found.uses if isinstance(found, FeatureDescription) else None
    return (CONSTITUENTS,) if uses is None else uses
