"""Features: one function each, `events -> one number per event`, with unit, title and source.

    from hepdecorr.columnar import features

    columns = features.compute(["bsgamma", "Bcand.mbc", "my_features.py:rho"], events)
    features.describe("r2").title

`compute` takes the features of this room by name, groups of them (`GROUPS`; "bsgamma" is the set for
B -> K* gamma, "bsgamma_shapes" the part of it that hardly knows M_bc) and patterns ("cleo_*"), branches as
they are, and functions of the user, who may declare unit and title with `@feature(unit="GeV",
title=r"$p_T$")`.  Features of a B candidate are computed in the e+e- centre-of-mass frame.  Features of jets
("jets_atlas", "jet_shapes", "tau21", ...) take rows of `hepdecorr.columnar.objects` in the place of events;
`sources` says which of them come from a branch and which are computed, `of_constituents` whether one needs
constituents, `fallbacks` counts what was mended.
"hbb" and "hmumu" are sets for whole events of NanoAOD: pairs of b jets, pairs of muons.
Everything is computed in float64 and comes as float32.  Nothing is NaN: where a definition divides 0 by 0
the docstring says what stands there.

To add a feature to the room: write the function in the module it belongs to; it is found by its decorator.
"""

from __future__ import annotations

from hepdecorr.columnar.features.computing import (
    BSGAMMA,
    BSGAMMA_SHAPES,
    FEATURES,
    GROUPS,
    HBB,
    HMUMU,
    HMUMU_RATIOS,
    JETS_ATLAS,
    compute,
    describe,
    expand,
    raw,
)
from hepdecorr.columnar.features.origins import fallbacks, of_constituents, sources, used
from hepdecorr.columnar.features.sharing import Description, Feature, feature, shared

__all__ = [
    "BSGAMMA",
    "BSGAMMA_SHAPES",
    "FEATURES",
    "GROUPS",
    "HBB",
    "HMUMU",
    "HMUMU_RATIOS",
    "JETS_ATLAS",
    "Description",
    "compute",
    "describe",
    "expand",
    "fallbacks",
    "feature",
    "of_constituents",
    "raw",
    "shared",
    "sources",
    "used",
]


def __getattr__(name: str) -> Feature:
    # features.r2(events): each feature is also here under its name
    try:
        return FEATURES[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None


def __dir__() -> list[str]:
    return sorted({*globals(), *FEATURES})
