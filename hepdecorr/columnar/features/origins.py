"""What features of jets are made of: branches of the file, or constituents.

A tagger that learnt from the one must not be given the other unawares: radius, axes and pile-up treatment may
differ.  Tables and cards keep it among their conventions, as {"tau21": "branch"}.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from hepdecorr import catalogue
from hepdecorr.columnar.features import jet_stored
from hepdecorr.columnar.features.computing import GROUPS, HOME, expand
from hepdecorr.columnar.features.sharing import Description
from hepdecorr.errors import InputError

CONSTITUENTS = "constituents"

_ALWAYS = {*GROUPS["jets_all"], CONSTITUENTS} - {*GROUPS["jet_kinematics"]} - jet_stored.EITHER


def used(names: Iterable[str] | str, *, base: Path | None = None) -> list[str]:
    """The names spelt out, and for functions of the user what they say they use.

    CONSTITUENTS stands for those of a function, and for one that does not say (`feature(uses=...)`).
    """
    found: dict[str, None] = {}
    for name in expand(names):
        made_of = _uses(name, base=base) if ":" in name else (name,)
        found.update(dict.fromkeys(made_of if ":" not in name else used(made_of, base=base)))
    return list(found)


def sources(rows: Any, names: Iterable[str] | str, *, base: Path | None = None) -> dict[str, str]:
    """Where each of the features gets its values from in this file: 'branch' or 'computed'.

    Only those that can have either, by the file and `substructure` of the objects.
    """
    return jet_stored.sources(rows, used(names, base=base))


def fallbacks(rows: Any, names: Iterable[str] | str, *, base: Path | None = None) -> dict[str, int]:
    """How many rows have a branch that is negative or not finite and was taken as 0, by branch."""
    return jet_stored.fallbacks(rows, used(names, base=base))


def of_constituents(
    names: Iterable[str] | str, sources: Mapping[str, str], *, base: Path | None = None
) -> bool:
    """Whether one of the features is made of constituents, with `sources` as `sources` gives them."""
    return any(n in _ALWAYS or sources.get(n) == jet_stored.COMPUTED for n in used(names, base=base))


def _uses(name: str, *, base: Path | None) -> tuple[str, ...]:
    try:
        found = getattr(catalogue.find(name, home=HOME, base=base), "description", None)
    except InputError:
        # Whoever computes it says so better; a card can be compared with a table without the user's code.
        found = None
    uses = found.uses if isinstance(found, Description) else None
    return (CONSTITUENTS,) if uses is None else uses
