"""Pythia 8 at 13 TeV: QCD dijets, W' -> WZ, Z' -> t tbar, H -> hh -> 4 quarks, all of them hadronic."""

from __future__ import annotations

from typing import Any, NamedTuple, Self

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from hepdecorr.samples.jets.options import Options
from hepdecorr.samples.pythia import QUIET, batch, configured, initialise

Floats = NDArray[np.float64]

# Powers of pT-hat by which events are preferred: without and with flat_pt.  The smaller one leaves a falling
# spectrum with enough events in its tail; the other makes the jets' spectrum flat.
BIAS = {"qcd": (4.5, 6.5), "h4j": (None, 5.5)}
# What one looks for near a jet; of QCD, the outgoing partons themselves.
RESONANCES: dict[str, tuple[int, ...]] = {"qcd": (), "w": (23, 24), "top": (6,), "h4j": (35,)}
# Of the W in a top of another mass, as in Pythia: 80.385 and 173 GeV.
W_TO_TOP = 80.385 / 173.0
# W' and Z' are generated from this fraction of their mass on.
MASS_CUT = 0.6

_QUARKS = "1 2 3 4 5"
# A W has one of u and c, or it goes to t b, for which a heavy one has the mass.
_HADRONIC_W = ("24:onMode = off", "24:onIfAny = 2 4")
_HADRONIC_Z = ("23:onMode = off", f"23:onIfAny = {_QUARKS}")


class Particles(NamedTuple):
    """Particles of many events, one row each, events in order; p4 (n, 4): px, py, pz, E in GeV."""

    event: NDArray[np.int64]
    id: NDArray[np.int32]
    p4: Floats

    def take(self, rows: NDArray[Any]) -> Self:
        """The rows of an index or a mask."""
        return type(self)(*(column[rows] for column in self))


class Batch(NamedTuple):
    """Generated events.

    final: their stable particles; resonances: what a jet may come from, as it decays (QCD: the two
    outgoing partons); quarks: what they decay to, and in `parent` the row of the resonance each comes from;
    weight, pthat: of each event (pthat is 0 where one resonance is made, GeV).
    """

    final: Particles
    resonances: Particles
    quarks: Particles
    parent: NDArray[np.int64]
    weight: Floats
    pthat: Floats

    @property
    def size(self) -> int:
        """Number of generated events."""
        return len(self.weight)


class CrossSection(NamedTuple):
    """Of the generated phase space, with its statistical error, in pb."""

    value: float
    error: float


def settings(process: str, options: Options) -> list[str]:
    """The Pythia settings of a process with settled options."""
    hard = {"qcd": _qcd, "w": _wprime, "top": _zprime, "h4j": _higgs}[process](options)
    return [*QUIET, "Beams:eCM = 13000.", f"PartonLevel:MPI = {'on' if options.mpi else 'off'}", *hard]


def _qcd(options: Options) -> list[str]:
    return ["HardQCD:all = on", *_scattering("qcd", options)]


def _heavy(code: int, options: Options) -> list[str]:
    """A resonance without its low tail, which parton densities swell: half the events of a W' of 6 TeV."""
    assert options.mass is not None
    return [f"{code}:m0 = {options.mass}", f"PhaseSpace:mHatMin = {MASS_CUT * options.mass}"]


def _wprime(options: Options) -> list[str]:
    return [
        "NewGaugeBoson:ffbar2Wprime = on",
        *_heavy(34, options),
        "Wprime:coup2WZ = 1.",
        "34:onMode = off",
        "34:onIfAll = 24 23",
        *_unlike(24, options.boson_mass),
        *_unlike(23, options.boson_mass),
        *_HADRONIC_W,
        *_HADRONIC_Z,
    ]


def _zprime(options: Options) -> list[str]:
    return [
        "NewGaugeBoson:ffbar2gmZZprime = on",
        # Without gamma and Z, whose mass peaks are of no use here.
        "Zprime:gmZmode = 3",
        *_heavy(32, options),
        "32:onMode = off",
        "32:onIfAny = 6",
        *_unlike(6, options.top_mass),
        *_unlike(24, options.top_mass and W_TO_TOP * options.top_mass),
        *_HADRONIC_W,
    ]


def _unlike(particle: int, mass: float | None) -> list[str]:
    """A particle of the standard model with another mass; Pythia computes the width that goes with it.

    Between half and twice this mass, as Pythia has a top from half of its mass on.
    """
    if mass is None:
        return []
    ends = {"m0": mass, "mMin": mass / 2, "mMax": 2 * mass}
    return [f"{particle}:{name} = {value:g}" for name, value in ends.items()]


def _higgs(options: Options) -> list[str]:
    """H recoils against a Z that decays to neutrinos, so that a jet is an H or radiation."""
    heavy, light = options.mass, options.light_mass
    assert heavy is not None
    assert light is not None
    return [
        # Without it the initialisation fails, and under Print:quiet it does not say why.
        "Higgs:useBSM = on",
        "HiggsBSM:ffbar2H2Z = on",
        *_narrow(35, heavy, width=0.5, window=4.0),
        "35:onMode = off",
        "35:onIfAll = 25 25",
        *_narrow(25, light, width=0.1, window=1.0),
        "25:onMode = off",
        f"25:onIfAny = {_QUARKS}",
        "23:onMode = off",
        "23:onIfAny = 12 14 16",
        *_scattering("h4j", options),
    ]


def _narrow(particle: int, mass: float, *, width: float, window: float) -> list[str]:
    return [
        f"{particle}:m0 = {mass}",
        f"{particle}:doForceWidth = on",
        f"{particle}:mWidth = {width}",
        f"{particle}:mMin = {mass - window}",
        f"{particle}:mMax = {mass + window}",
    ]


def _scattering(process: str, options: Options) -> list[str]:
    """The range of pT-hat, and a bias by its power with which the weights fall as it rises."""
    lines = [f"PhaseSpace:pTHatMin = {options.pthat_min}"]
    if options.pthat_max is not None:
        lines.append(f"PhaseSpace:pTHatMax = {options.pthat_max}")
    power = BIAS[process][options.flat_pt]
    if power is not None:
        lines += [
            "PhaseSpace:bias2Selection = on",
            f"PhaseSpace:bias2SelectionPow = {power}",
            f"PhaseSpace:bias2SelectionRef = {options.pt_min}",
        ]
    return lines


class Generator:
    """Pythia set up for a process; seed from 1 to 900,000,000."""

    def __init__(self, process: str, options: Options, *, seed: int) -> None:
        self._process = process
        self._pythia = configured(settings(process, options), seed=seed)
        initialise(self._pythia, process)

    def __call__(self, events: int) -> Batch:
        """About so many events: Pythia leaves out those that it cannot finish."""
        return _unpack(batch(self._pythia, events, process=self._process), self._process)

    def cross_section(self) -> CrossSection:
        """As the events so far tell."""
        info = self._pythia.infoPython()
        return CrossSection(info.sigmaGen() * 1e9, info.sigmaErr() * 1e9)


def _unpack(made: Any, process: str) -> Batch:
    record = made.prt
    counts = np.asarray(ak.num(record), dtype=np.int64)
    rows = ak.flatten(record)
    status, mother = np.asarray(rows.status), np.asarray(rows.mother1)
    start = np.cumsum(counts) - counts
    everything = Particles(
        event=np.repeat(np.arange(len(counts)), counts),
        id=np.asarray(rows.id),
        p4=np.column_stack([np.asarray(rows.p[name]) for name in ("px", "py", "pz", "e")]),
    )
    hard = np.flatnonzero(status == -23)
    if process == "qcd":
        resonance, quark = hard, hard[:0]
        parent = quark
    else:
        quark, ancestor = _decays(hard, everything, start[everything.event] + mother, process=process)
        resonance, parent = np.unique(ancestor, return_inverse=True)
    return Batch(
        final=everything.take(status > 0),
        resonances=everything.take(resonance),
        quarks=everything.take(quark),
        parent=parent,
        weight=np.asarray(made.info.weights[:, 0], dtype=np.float64),
        pthat=np.sqrt(np.asarray(made.info.pT2Hat, dtype=np.float64)),
    )


def _decays(
    hard: NDArray[np.int64], particles: Particles, mother: NDArray[np.int64], *, process: str
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of the quarks that come from a resonance, and of the resonance as it decays, after its recoils.

    A quark of top -> b W -> b q q' comes from the top.
    """
    species = np.abs(particles.id)
    wanted = np.isin(species, RESONANCES[process])
    quark = hard[species[hard] <= 5]
    at = quark.copy()
    # Up the tree, until each stands on a resonance or, at row 0 of its event, above all particles.
    while (climbing := ~wanted[at] & (species[at] != 90)).any():
        at[climbing] = mother[at[climbing]]
    found = wanted[at]
    return quark[found], at[found]
