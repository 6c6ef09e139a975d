"""From names to numbers: what a name stands for, and one checked float32 column for each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from types import ModuleType
from typing import Any

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from hepdecorr import catalogue
from hepdecorr.columnar.features import (
    bb_pair,
    branches,
    candidate,
    cones,
    dimuon,
    fox_wolfram,
    jet_correlators,
    jet_kinematics,
    jet_prongs,
    jet_shapes,
    jet_splittings,
    ksfw,
    missing_momentum,
    recoil_jets,
    rest,
    tensors,
    thrusts,
)
from hepdecorr.columnar.features.sharing import Description, Feature, shared
from hepdecorr.errors import InputError

HOME = "hepdecorr.columnar.features"


def _features(module: ModuleType) -> dict[str, Feature]:
    return {
        name: value
        for name, value in vars(module).items()
        if isinstance(getattr(value, "description", None), Description)
    }


_OF_CANDIDATES: Mapping[str, ModuleType] = {
    "candidate": candidate,
    "thrusts": thrusts,
    "fox_wolfram": fox_wolfram,
    "sphericities": tensors,
    "cleo_cones": cones,
    "ksfw": ksfw,
    "rest_of_event": rest,
}

_OF_JETS: Mapping[str, ModuleType] = {
    "jet_kinematics": jet_kinematics,
    "jet_prongs": jet_prongs,
    "jet_correlators": jet_correlators,
    "jet_splittings": jet_splittings,
    "jet_shapes": jet_shapes,
}

_OF_COLLISIONS: Mapping[str, ModuleType] = {
    "missing_momentum": missing_momentum,
    "bb_pair": bb_pair,
    "dimuon": dimuon,
    "recoil_jets": recoil_jets,
}

_ROOMS = {**_OF_CANDIDATES, **_OF_JETS, **_OF_COLLISIONS}

FEATURES: Mapping[str, Feature] = {
    name: value for module in _ROOMS.values() for name, value in _features(module).items()
}

# M_bc as such is what the tagger must not know; the others are checks or belong to the selection.
_NOT_INPUTS = ("m_bc", "m_bc_corr", "m_bc_recomputed", "delta_e_recomputed", "n_candidates", "thrust_all")

_OF_A_CANDIDATE = tuple(name for module in _OF_CANDIDATES.values() for name in _features(module))

BSGAMMA: tuple[str, ...] = tuple(name for name in _OF_A_CANDIDATE if name not in _NOT_INPUTS)
"""The inputs of a B -> K* gamma continuum suppression: all but M_bc, the checks and the event's thrust.

p_star_b with the beam energy *is* M_bc, and the other kinematics rebuild it: a plain classifier on this set
makes a peak of the continuum.  It is the set to decorrelate on.
"""

# What gives p*_B away: the candidate's kinematics, and the rest of the event that it recoils against.
_TELLING = (
    *("delta_e", "p_star_b", "e_star_gamma", "m_kpi", "p_star_kst", "cos_kst_gamma", "thrust_b"),
    *("p_roe", "e_roe", "m_roe", "p_miss", "e_miss", "r1_roe", "r3_roe", "r1", "r3"),
)

BSGAMMA_SHAPES: tuple[str, ...] = tuple(name for name in BSGAMMA if name not in _TELLING)
"""BSGAMMA without what gives M_bc away.

Boosted trees that regress the rank of M_bc in continuum explain 4 % of its variance from this set, all of it
from BSGAMMA, and 27 % from p_roe or r1_roe alone, which balance the candidate's momentum.
"""

JETS_ATLAS: tuple[str, ...] = (
    *("tau21", "c2", "d2", "angularity", "jet_aplanarity"),
    *("jet_r2", "kt_dr", "planar_flow", "split12", "zcut12"),
)
"""The ten inputs of ATLAS's study of decorrelated W taggers (ATL-PHYS-PUB-2018-014)."""

HBB: tuple[str, ...] = ("met", "pt_b1", "pt_b2", "dr_bb", "deta_bb", "dphi_met_bb")
"""The inputs of M. Zgubic's practical (MLHEP 2019); the momenta and angles of the b jets give m_bb."""

_OF_MUMU = ("y_mumu", "cos_theta_star", "deta_mumu", "dphi_mumu")
_RECOIL = ("n_jets", "pt_jet1", "eta_jet1", "m_jj", "deta_jj", "met")

HMUMU: tuple[str, ...] = ("pt_mu1", "pt_mu2", "pt_mumu", *_OF_MUMU, *_RECOIL)
"""Muons, their pair, and what it recoils against, momenta in GeV: they give the mass."""

HMUMU_RATIOS: tuple[str, ...] = ("pt_mu1_over_m", "pt_mu2_over_m", "pt_mumu_over_m", *_OF_MUMU, *_RECOIL)
"""HMUMU with the muons' momenta over the mass, which do not give it."""

GROUPS: Mapping[str, tuple[str, ...]] = {
    **{group: tuple(_features(module)) for group, module in _ROOMS.items()},
    "bsgamma": BSGAMMA,
    "bsgamma_shapes": BSGAMMA_SHAPES,
    "bsgamma_all": _OF_A_CANDIDATE,
    "jets_atlas": JETS_ATLAS,
    "hbb": HBB,
    "hmumu": HMUMU,
    "hmumu_ratios": HMUMU_RATIOS,
    "jets_all": tuple(name for module in _OF_JETS.values() for name in _features(module)),
}


def expand(names: Iterable[str] | str) -> list[str]:
    """The names with groups ('bsgamma', 'ksfw') and patterns ('cleo_*') spelt out, each name once.

    Patterns run over the features of this room.  Raises InputError for one that matches nothing.
    """
    found: dict[str, None] = {}
    for name in [names] if isinstance(names, str) else names:
        if name in GROUPS:
            found.update(dict.fromkeys(GROUPS[name]))
        elif ":" not in name and set(name) & set("*?["):
            matching = [known for known in FEATURES if fnmatchcase(known, name)]
            if not matching:
                raise InputError(f"no feature matches {name!r}{catalogue.suggest(name, _known())}")
            found.update(dict.fromkeys(matching))
        else:
            found[name] = None
    return list(found)


def compute(
    names: Iterable[str] | str, events: Any, *, base: Path | None = None
) -> dict[str, NDArray[np.float32]]:
    """One float32 array of shape (events,) for each name, in the order of `expand(names)`.

    A name is a feature of this room, a group or pattern of them, a branch ('Collection.field' or a flat
    'field'), or a user's function of the events ('my_features.py:rho', relative to `base`, or
    'module:function').  `events` are NanoEvents, virtual or not, or any awkward record array with the same
    collections; only the branches that the names need are read, and what features have in common is
    computed once.  Raises InputError that names the feature and the branch: unknown name, missing branch, a
    result that is not one finite number per event.
    """
    if not isinstance(events, ak.Array):
        raise InputError(f"events must be an awkward array of records, not {type(events).__name__}")
    columns = {}
    with shared(events):
        for name in expand(names):
            columns[name] = _column(name, events, base=base)
    return columns


def describe(name: str, *, base: Path | None = None) -> Description:
    """Name, unit and title of a feature; a branch has its name as title and no unit.

    Without events a flat branch cannot be told from a misspelt feature: `compute` tells.
    """
    if ":" not in name and name not in FEATURES:
        return Description(name, title=name)
    function = _function(name, base=base)
    found = getattr(function, "description", None)
    unit, title = (found.unit, found.title) if isinstance(found, Description) else ("", "")
    return Description(name, unit, title or name)


def _column(name: str, events: Any, *, base: Path | None) -> NDArray[np.float32]:
    try:
        exact = branches.numbers(raw(name, events, base=base), length=len(events))
    except InputError as err:
        raise InputError(f"feature {name!r}: {err}") from None
    with np.errstate(over="ignore"):
        column = np.array(exact, dtype=np.float32)
    bad = np.flatnonzero(~np.isfinite(column))
    if bad.size:
        raise InputError(
            f"feature {name!r}: {bad.size} of {len(column)} values are not finite in float32, the first "
            f"({exact[bad[0]]}) in row {bad[0]}; write a function that gives such events a value"
        )
    return column


def raw(name: str, events: Any, *, base: Path | None = None) -> Any:
    """What one feature, branch or function gives, unchecked and as it is stored, for `events`.

    Raises InputError for an unknown name and for a branch that a function does not find.
    """
    if ":" in name or name in FEATURES:
        try:
            return _function(name, base=base)(events)
        except (AttributeError, ak.errors.FieldNotFoundError) as err:
            if isinstance(err, AttributeError) and "no field named" not in str(err):
                raise
            raise InputError(str(err).splitlines()[0]) from err
    try:
        return branches.branch(events, name)
    except branches.OutdatedError:
        raise
    except InputError:
        known = [*_known(), *branches.names(events)]
        raise InputError(f"neither a feature nor a branch{catalogue.suggest(name, known)}") from None


def _function(name: str, *, base: Path | None) -> Callable[[Any], Any]:
    function = FEATURES[name] if name in FEATURES else catalogue.find(name, home=HOME, base=base)
    if not callable(function):
        raise InputError(f"{name!r} is not a function of the events")
    return function


def _known() -> list[str]:
    return [*FEATURES, *GROUPS]
