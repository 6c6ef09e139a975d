"""What a file says of its jets itself: the branches of the collection that the rows are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from hepdecorr.columnar import constituents, objects
from hepdecorr.columnar.features.branches import Floats, per_event
from hepdecorr.columnar.features.sharing import intermediate
from hepdecorr.errors import InputError

# What each feature reads where the file has it; n_constituents only where the constituents are not.
BRANCHES: Mapping[str, tuple[str, ...]] = {
    "jet_mass": ("mass",),
    "rho": ("mass",),
    "rho_ddt": ("mass",),
    "softdrop_mass": ("msoftdrop",),
    "n_constituents": ("nConstituents",),
    **{f"tau{n}": (f"tau{n}",) for n in (1, 2, 3, 4)},
    **{f"tau{n + 1}{n}": (f"tau{n + 1}", f"tau{n}") for n in (1, 2, 3)},
}

# What is computed from constituents where there is no branch.
EITHER = frozenset({"softdrop_mass", *(name for name in BRANCHES if name.startswith("tau"))})

BRANCH, COMPUTED = "branch", "computed"


def collection(rows: Any) -> str:
    """The collection that the rows are objects of, such as 'FatJet'; InputError if they are events."""
    return str(_spec(rows)["collection"])


def radius(rows: Any) -> float:
    """The jet radius: `radius` of the objects, else what CMS clusters the collection with.

    Raises InputError for a collection that is neither FatJet nor Jet and comes without a radius.
    """
    given = _spec(rows).get("radius")
    if given is not None:
        return float(given)
    try:
        return objects.RADII[collection(rows)]
    except KeyError:
        raise InputError(
            f"no jet radius is known for {collection(rows)!r}; write it into the YAML "
            f"(objects: {{collection: {collection(rows)}, radius: 0.8}})"
        ) from None


def takes(rows: Any, *fields: str) -> bool:
    """Whether a feature takes these branches, rather than compute from constituents: see `substructure`.

    Raises InputError where they are asked for and not there.
    """
    asked = objects.substructure(_spec(rows))
    missing = [field for field in fields if not _has(rows, field)]
    if missing and asked == objects.STORED:
        raise InputError(
            f"objects: 'substructure: stored' wants branch '{collection(rows)}.{missing[0]}', which is not "
            f"there; compute from constituents with 'computed', or take files that have it"
        )
    return asked != objects.COMPUTED and not missing


def counts_constituents(rows: Any) -> bool:
    """Whether n_constituents counts them, as it does where there are some, or takes the branch."""
    asked = objects.substructure(_spec(rows))
    table = "candidates" in constituents.conventions(rows, _spec(rows))
    return asked == objects.COMPUTED or (asked == objects.AUTO and table)


@intermediate
def stored(rows: Any, field: str) -> Floats:
    """A branch of the jet that cannot be negative; 0 where it is negative or not finite.

    CMS writes -1 where a quantity could not be computed, and a negative mass for a negative square.
    `fallbacks` counts them.
    """
    values = per_event(rows, f"{collection(rows)}.{field}")
    return np.where(_invalid(values), 0.0, values)


def sources(rows: Any, names: Iterable[str]) -> dict[str, str]:
    """Where each of the features that can have either gets its values from: BRANCH or COMPUTED."""
    found = {}
    for name in names:
        if name == "n_constituents":
            found[name] = COMPUTED if counts_constituents(rows) else BRANCH
        elif name in EITHER:
            found[name] = BRANCH if takes(rows, *BRANCHES[name]) else COMPUTED
    return found


def fallbacks(rows: Any, names: Iterable[str]) -> dict[str, int]:
    """How many rows have a branch, read by one of the features, that `stored` gave as 0; none is left out."""
    names = list(names)
    computed = {name for name, source in sources(rows, names).items() if source == COMPUTED}
    read = [field for name in names if name not in computed for field in BRANCHES.get(name, ())]
    counted = {}
    for field in dict.fromkeys(read):
        bad = int(_invalid(per_event(rows, f"{collection(rows)}.{field}")).sum())
        if bad:
            counted[f"{collection(rows)}.{field} negative or not finite, 0 taken"] = bad
    return counted


def _has(rows: Any, field: str) -> bool:
    name = collection(rows)
    inner = rows.layout[name].fields if name in rows.fields else []
    return field in inner or f"{name}_{field}" in rows.fields


def _invalid(values: Floats) -> Any:
    return ~(np.isfinite(values) & (values >= 0.0))


def _spec(rows: Any) -> Mapping[str, Any]:
    spec = objects.spec(rows)
    if spec is None:
        raise InputError(
            "a feature of jets, but the rows are events; say which jets are meant "
            "(objects: {collection: FatJet})"
        )
    return spec
