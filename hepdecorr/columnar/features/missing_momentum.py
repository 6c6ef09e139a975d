"""Missing transverse momentum of NanoAOD events."""

from __future__ import annotations

from typing import Any

from hepdecorr.columnar.features.branches import Floats, names, per_event
from hepdecorr.columnar.features.sharing import feature

# In this order: every NanoAOD file has the first; the others are for older private ones.
SOURCES = ("PuppiMET", "MET", "PFMET")


@feature(unit="GeV", title=r"$E_T^\mathrm{miss}$")
def met(events: Any) -> Floats:
    """Missing transverse momentum, as stored: PuppiMET, in files without it MET or PFMET."""
    return per_event(events, f"{_source(events)}.pt")


def met_phi(events: Any) -> Floats:
    """Its azimuth."""
    return per_event(events, f"{_source(events)}.phi")


def _source(events: Any) -> str:
    there = {name.replace("_", ".", 1) for name in names(events)}
    # If there is none, the error names the first.
    return next((source for source in SOURCES if f"{source}.pt" in there), SOURCES[0])
