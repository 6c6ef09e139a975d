"""From names to numbers: what a name stands for, and one checked float32 column for each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, cast

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from hepdecorr import registry
from hepdecorr.columnar.features import (
    b_candidate,
    bb_pair,
    branches,
    continuum_suppression,
    dimuon,
    event_shapes,
    jet_momenta,
    jet_shapes,
    jet_substructure,
)
from hepdecorr.columnar.features.registry import FeatureDescription, FeatureFunction, feature_cache
from hepdecorr.errors import InputError, suggest

NAMESPACE = "hepdecorr.columnar.features"


# Features by group, in the order in which they become columns of the training table.
_CANDIDATE_GROUPS: dict[str, tuple[str, ...]] = {
    "candidate": (
        "m_bc",
        "m_bc_corr",
        "m_bc_recomputed",
        "delta_e",
        "delta_e_recomputed",
        "p_star_b",
        "e_star_gamma",
        "m_kpi",
        "m_pi0",
        "m_eta",
        "n_candidates",
        "p_star_kst",
        "cos_kst_gamma",
        "cos_theta_b",
        "cos_hel",
        "kaon_id",
        "pion_id",
    ),
    "thrusts": (
        "thrust_b",
        "thrust_o",
        "thrust_all",
        "cos_tbto",
        "cos_tbz",
        "cos_toz",
    ),
    "fox_wolfram": (
        "r1",
        "r2",
        "r3",
        "r4",
        "r1_roe",
        "r2_roe",
        "r3_roe",
        "r4_roe",
    ),
    "sphericities": (
        "sphericity",
        "aplanarity",
        "sphericity_roe",
        "aplanarity_roe",
    ),
    "cleo_cones": (
        "cleo_1",
        "cleo_2",
        "cleo_3",
        "cleo_4",
        "cleo_5",
        "cleo_6",
        "cleo_7",
        "cleo_8",
        "cleo_9",
    ),
    "ksfw": (
        "ksfw_hso_c0",
        "ksfw_hso_c1",
        "ksfw_hso_c2",
        "ksfw_hso_c3",
        "ksfw_hso_c4",
        "ksfw_hso_n0",
        "ksfw_hso_n2",
        "ksfw_hso_n4",
        "ksfw_hso_m0",
        "ksfw_hso_m2",
        "ksfw_hso_m4",
        "ksfw_hoo_0",
        "ksfw_hoo_1",
        "ksfw_hoo_2",
        "ksfw_hoo_3",
        "ksfw_hoo_4",
        "ksfw_et",
        "ksfw_mm2",
    ),
    "rest_of_event": (
        "n_tracks_roe",
        "n_photons_roe",
        "n_kaons_roe",
        "n_leptons_roe",
        "charge_roe",
        "e_roe",
        "p_roe",
        "m_roe",
        "e_miss",
        "p_miss",
        "cos_miss",
    ),
}

_JET_GROUPS: dict[str, tuple[str, ...]] = {
    "jet_kinematics": (
        "jet_pt",
        "jet_eta",
        "jet_phi",
        "jet_mass",
        "rho",
        "rho_ddt",
        "n_constituents",
    ),
    "jet_prongs": (
        "tau1",
        "tau2",
        "tau3",
        "tau4",
        "tau21",
        "tau32",
        "tau43",
    ),
    "jet_correlators": (
        "c2",
        "d2",
        "n2",
    ),
    "jet_splittings": (
        "split12",
        "zcut12",
        "kt_dr",
        "softdrop_mass",
    ),
    "jet_shapes": (
        "planar_flow",
        "angularity",
        "jet_r2",
        "jet_aplanarity",
        "jet_sphericity",
    ),
}

_COLLISION_GROUPS: dict[str, tuple[str, ...]] = {
    "missing_momentum": ("met",),
    "bb_pair": (
        "n_btags",
        "m_bb",
        "pt_b1",
        "pt_b2",
        "dr_bb",
        "deta_bb",
        "dphi_met_bb",
    ),
    "dimuon": (
        "has_mumu",
        "m_mumu",
        "pt_mumu",
        "pt_mumu_over_m",
        "y_mumu",
        "cos_theta_star",
        "deta_mumu",
        "dphi_mumu",
        "dr_mumu",
        "pt_mu1",
        "pt_mu2",
        "pt_mu1_over_m",
        "pt_mu2_over_m",
        "iso_mumu",
        "medium_mumu",
    ),
    "recoil_jets": (
        "n_jets",
        "pt_jet1",
        "eta_jet1",
        "m_jj",
        "deta_jj",
    ),
}

_MODULES = (
    b_candidate,
    event_shapes,
    continuum_suppression,
    jet_momenta,
    jet_substructure,
    jet_shapes,
    bb_pair,
    dimuon,
)


def _feature_function(name: str) -> FeatureFunction:
    for module in _MODULES:
        function = vars(module).get(name)
        if isinstance(getattr(function, "description", None), FeatureDescription):
            return cast("FeatureFunction", function)
    raise LookupError(f"no feature function {name!r}")


FEATURES: Mapping[str, FeatureFunction] = {
    name: _feature_function(name)
    for names in (_CANDIDATE_GROUPS | _JET_GROUPS | _COLLISION_GROUPS).values()
    for name in names
}

# M_bc as such is what the tagger must not know; the others are checks or belong to the selection.
_EXCLUDED_INPUTS = (
    "m_bc",
    "m_bc_corr",
    "m_bc_recomputed",
    "delta_e_recomputed",
    "n_candidates",
    "thrust_all",
)

_CANDIDATE_FEATURES = tuple(name for names in _CANDIDATE_GROUPS.values() for name in names)

BSGAMMA: tuple[str, ...] = tuple(name for name in _CANDIDATE_FEATURES if name not in _EXCLUDED_INPUTS)
"""The inputs of a B -> K* gamma continuum suppression: all but M_bc, the checks and the event's thrust.

p_star_b with the beam energy *is* M_bc, and the other kinematics rebuild it: a plain classifier on this set
makes a peak of the continuum.  It is the set to decorrelate on.
"""

# What gives p*_B away: the candidate's kinematics, and the rest of the event that it recoils against.
_MBC_SENSITIVE = (
    *("delta_e", "p_star_b", "e_star_gamma", "m_kpi", "p_star_kst", "cos_kst_gamma", "thrust_b"),
    *("p_roe", "e_roe", "m_roe", "p_miss", "e_miss", "r1_roe", "r3_roe", "r1", "r3"),
)

BSGAMMA_SHAPES: tuple[str, ...] = tuple(name for name in BSGAMMA if name not in _MBC_SENSITIVE)
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

_MUON_PAIR_FEATURES = ("y_mumu", "cos_theta_star", "deta_mumu", "dphi_mumu")
_RECOIL_FEATURES = ("n_jets", "pt_jet1", "eta_jet1", "m_jj", "deta_jj", "met")

HMUMU: tuple[str, ...] = ("pt_mu1", "pt_mu2", "pt_mumu", *_MUON_PAIR_FEATURES, *_RECOIL_FEATURES)
"""Muons, their pair, and what it recoils against, momenta in GeV: they give the mass."""

HMUMU_RATIOS: tuple[str, ...] = (
    "pt_mu1_over_m",
    "pt_mu2_over_m",
    "pt_mumu_over_m",
    *_MUON_PAIR_FEATURES,
    *_RECOIL_FEATURES,
)
"""HMUMU with the muons' momenta over the mass, which do not give it."""

FEATURE_GROUPS: Mapping[str, tuple[str, ...]] = {
    **_CANDIDATE_GROUPS,
    **_JET_GROUPS,
    **_COLLISION_GROUPS,
    "bsgamma": BSGAMMA,
    "bsgamma_shapes": BSGAMMA_SHAPES,
    "bsgamma_all": _CANDIDATE_FEATURES,
    "jets_atlas": JETS_ATLAS,
    "hbb": HBB,
    "hmumu": HMUMU,
    "hmumu_ratios": HMUMU_RATIOS,
    "jets_all": tuple(name for names in _JET_GROUPS.values() for name in names),
}


def expand_names(names: Iterable[str] | str) -> list[str]:
    """The names with groups ('bsgamma', 'ksfw') and patterns ('cleo_*') spelt out, each name once.

    Patterns run over the features of this room.  Raises InputError for one that matches nothing.
    """
    found: dict[str, None] = {}
    for name in [names] if isinstance(names, str) else names:
        if name in FEATURE_GROUPS:
            found.update(dict.fromkeys(FEATURE_GROUPS[name]))
        elif ":" not in name and set(name) & set("*?["):
            matching = [known for known in FEATURES if fnmatchcase(known, name)]
            if not matching:
                raise InputError(f"no feature matches {name!r}{suggest(name, _known_names())}")
            found.update(dict.fromkeys(matching))
        else:
            found[name] = None
    return list(found)


def compute_features(
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
    with feature_cache(events):
        for name in expand_names(names):
            columns[name] = _compute_column(name, events, base=base)
    return columns


def describe_feature(name: str, *, base: Path | None = None) -> FeatureDescription:
    """Name, unit and title of a feature; a branch has its name as title and no unit.

    Without events a flat branch cannot be told from a misspelt feature: `compute` tells.
    """
    if ":" not in name and name not in FEATURES:
        return FeatureDescription(name, title=name)
    function = _find_function(name, base=base)
    found = getattr(function, "description", None)
    unit, title = (found.unit, found.title) if isinstance(found, FeatureDescription) else ("", "")
    return FeatureDescription(name, unit, title or name)


def _compute_column(name: str, events: Any, *, base: Path | None) -> NDArray[np.float32]:
    try:
        exact = branches.validate_scalars(compute_raw(name, events, base=base), length=len(events))
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


def compute_raw(name: str, events: Any, *, base: Path | None = None) -> Any:
    """What one feature, branch or function gives, unchecked and as it is stored, for `events`.

    Raises InputError for an unknown name and for a branch that a function does not find.
    """
    if ":" in name or name in FEATURES:
        try:
            return _find_function(name, base=base)(events)
        except (AttributeError, ak.errors.FieldNotFoundError) as err:
            if isinstance(err, AttributeError) and "no field named" not in str(err):
                raise
            raise InputError(str(err).splitlines()[0]) from err
    try:
        return branches.get_branch(events, name)
    except branches.OutdatedBranchError:
        raise
    except InputError:
        known = [*_known_names(), *branches.branch_names(events)]
        raise InputError(f"neither a feature nor a branch{suggest(name, known)}") from None


def _find_function(name: str, *, base: Path | None) -> Callable[[Any], Any]:
    function = FEATURES[name] if name in FEATURES else registry.find(name, namespace=NAMESPACE, base=base)
    if not callable(function):
        raise InputError(f"{name!r} is not a function of the events")
    return function


def _known_names() -> list[str]:
    return [*FEATURES, *FEATURE_GROUPS]
