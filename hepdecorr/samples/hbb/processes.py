"""The hard processes, with a Z to neutrinos and pT-hat above 100 GeV.

zh: f fbar -> ZH with H -> b b.
zbb: b g -> Z b.  The b of the proton comes from a gluon that splits into b and anti-b, and the shower adds
    the other one: this is g g -> Z b b with one b nearly collinear to the beam or, in the tail that is
    selected here, not.  Pythia has no matrix element for Z b b.  Of all of Pythia's Z + jet, this is
    86 +- 2 % of the events with two b hadrons above 20 GeV, |eta| < 2.5, of mass 50 to 250 GeV, and a Z above
    120 GeV; what lacks are gluons of the final state that split, at small Delta R and mass (below 50 GeV
    they are most of it).  To make these as well would take ten times as long.
zz: f fbar -> ZZ (and gamma*) -> nu nu b b: rarer, but with a peak of its own at the mass of the Z.
"""

from __future__ import annotations

RUN = {"zh": 21, "zbb": 22, "zz": 23}
BOTTOM = 5
# zbb: what to look for before the shower, since one event in twenty of `qg2gmZq` has it.
INCOMING = {"zbb": BOTTOM}
PT_HAT_MIN = 100.0

_INVISIBLE = ("23:onMode = off", "23:onIfAny = 12 14 16")
_HARD = {
    "zh": ("HiggsSM:ffbar2HZ = on", "25:onMode = off", "25:onIfAny = 5", *_INVISIBLE),
    # Without the photon, which does not go to neutrinos.
    "zbb": ("WeakBosonAndParton:qg2gmZq = on", "WeakZ0:gmZmode = 2", *_INVISIBLE),
    # Either boson may go either way: what is not nu nu b b falls at the first cut.
    "zz": (
        "WeakDoubleBoson:ffbar2gmZgmZ = on",
        "WeakZ0:gmZmode = 0",
        "23:onMode = off",
        "23:onIfAny = 5 12 14 16",
    ),
}


def settings(process: str) -> list[str]:
    """What makes Pythia generate the process."""
    return [*_HARD[process], f"PhaseSpace:pTHatMin = {PT_HAT_MIN}"]
