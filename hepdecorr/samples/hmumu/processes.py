"""The hard processes.

signal: g g -> H and weak boson fusion q q' -> H q q', mixed by their cross-sections, with H -> mu mu.
dy: f fbar -> Z/gamma* -> mu mu with a mass of 105 to 170 GeV before photons are radiated, for a window of
    110 to 150 GeV whose lower end is four times the resolution (1.1 %) above 105.
"""

from __future__ import annotations

RUN = {"signal": 31, "dy": 32}
MASS_MIN, MASS_MAX = 105.0, 170.0

_HARD = {
    "signal": (
        "HiggsSM:gg2H = on",
        "HiggsSM:ff2Hff(t:ZZ) = on",
        "HiggsSM:ff2Hff(t:WW) = on",
        "25:onMode = off",
        "25:onIfAny = 13",
    ),
    "dy": (
        "WeakSingleBoson:ffbar2gmZ = on",
        "23:onMode = off",
        "23:onIfAny = 13",
        f"PhaseSpace:mHatMin = {MASS_MIN}",
        f"PhaseSpace:mHatMax = {MASS_MAX}",
    ),
}


def settings(process: str) -> list[str]:
    """What makes Pythia generate the process."""
    return list(_HARD[process])
