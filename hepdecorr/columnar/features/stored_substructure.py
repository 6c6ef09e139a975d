"""Substructure of jets that is read from branches of the file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from hepdecorr.columnar import constituents, object_rows
from hepdecorr.columnar.features.branches import Floats, read_scalars
from hepdecorr.columnar.features.registry import cached
from hepdecorr.errors import InputError

# What each feature reads where the file has it; n_constituents only where the constituents are not.
BRANCH, COMPUTED = "branch", "computed"

JET_FEATURE_BRANCHES: Mapping[str, tuple[str, ...]] = {
    "jet_mass": ("mass",),
    "rho": ("mass",),
    "rho_ddt": ("mass",),
    "softdrop_mass": ("msoftdrop",),
    "n_constituents": ("nConstituents",),
    **{f"tau{n}": (f"tau{n}",) for n in (1, 2, 3, 4)},
    **{f"tau{n + 1}{n}": (f"tau{n + 1}", f"tau{n}") for n in (1, 2, 3)},
}


# What is computed from constituents where there is no branch.
BRANCH_OR_COMPUTED = frozenset(
    {"softdrop_mass", *(name for name in JET_FEATURE_BRANCHES if name.startswith("tau"))}
)


def jet_collection(rows: Any) -> str:
    """The collection that the rows are objects of, such as 'FatJet'; InputError if they are events."""
    return str(_require_objects_spec(rows)["collection"])


def jet_radius(rows: Any) -> float:
    """The jet radius: `radius` of the objects, else what CMS clusters the collection with.

    Raises InputError for a collection that is neither FatJet nor Jet and comes without a radius.
    """
    given = _require_objects_spec(rows).get("radius")
    if given is not None:
        return float(given)
    try:
        return object_rows.JET_RADII[jet_collection(rows)]
    except KeyError:
        raise InputError(
            f"no jet radius is known for {jet_collection(rows)!r}; write it into the YAML "
            f"(objects: {{collection: {jet_collection(rows)}, radius: 0.8}})"
        ) from None


def uses_branches(rows: Any, *fields: str) -> bool:
    """Whether a feature takes these branches, rather than compute from constituents: see `substructure`.

    Raises InputError where they are asked for and not there.
    """
    asked = object_rows.get_substructure_source(_require_objects_spec(rows))
    missing = [field for field in fields if not _has_field(rows, field)]
    if missing and asked == object_rows.STORED:
        raise InputError(
            f"objects: 'substructure: stored' needs branch '{jet_collection(rows)}.{missing[0]}', "
            "which the file lacks; compute from constituents with 'computed', or take files that have it"
        )
    return asked != object_rows.COMPUTED and not missing


def counts_constituents(rows: Any) -> bool:
    """Whether n_constituents counts them, as it does where there are some, or takes the branch."""
    asked = object_rows.get_substructure_source(_require_objects_spec(rows))
    table = "candidates" in constituents.constituent_conventions(rows, _require_objects_spec(rows))
    return asked == object_rows.COMPUTED or (asked == object_rows.AUTO and table)


@cached
def read_nonnegative_branch(rows: Any, field: str) -> Floats:
    """A branch of the jet that cannot be negative; 0 where it is negative or not finite.

    CMS writes -1 where a quantity could not be computed, and a negative mass for a negative square.
    `fallbacks` counts them.
    """
    values = read_scalars(rows, f"{jet_collection(rows)}.{field}")
    return np.where(_is_invalid(values), 0.0, values)


def substructure_sources(rows: Any, names: Iterable[str]) -> dict[str, str]:
    """Where each of the features that can have either gets its values from: BRANCH or COMPUTED."""
    found = {}
    for name in names:
        if name == "n_constituents":
            found[name] = COMPUTED if counts_constituents(rows) else BRANCH
        elif name in BRANCH_OR_COMPUTED:
            found[name] = BRANCH if uses_branches(rows, *JET_FEATURE_BRANCHES[name]) else COMPUTED
    return found


def substructure_fallbacks(rows: Any, names: Iterable[str]) -> dict[str, int]:
    """How many rows have a branch, read by one of the features, that `stored` gave as 0; none is left out."""
    names = list(names)
    computed = {name for name, source in substructure_sources(rows, names).items() if source == COMPUTED}
    read = [field for name in names if name not in computed for field in JET_FEATURE_BRANCHES.get(name, ())]
    counted = {}
    for field in dict.fromkeys(read):
        bad = int(_is_invalid(read_scalars(rows, f"{jet_collection(rows)}.{field}")).sum())
        if bad:
            counted[f"{jet_collection(rows)}.{field} negative or not finite, 0 taken"] = bad
    return counted


def _has_field(rows: Any, field: str) -> bool:
    name = jet_collection(rows)
    inner = rows.layout[name].fields if name in rows.fields else []
    return field in inner or f"{name}_{field}" in rows.fields


def _is_invalid(values: Floats) -> Any:
    return ~(np.isfinite(values) & (values >= 0.0))


def _require_objects_spec(rows: Any) -> Mapping[str, Any]:
    spec = object_rows.get_spec(rows)
    if spec is None:
        raise InputError(
            "a feature of jets, but the rows are events; say which jets are meant "
            "(objects: {collection: FatJet})"
        )
    return spec
