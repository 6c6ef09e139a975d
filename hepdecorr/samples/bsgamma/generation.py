"""Pythia 8: e+e- to light quarks, and Upsilon(4S) -> B0 anti-B0 with one B0 -> K*0 gamma.

Upsilon(4S) is not in Pythia.  Its decay is two B mesons of known momentum, so they are handed over as
a Les Houches event, and Pythia decays them; that way signal, too, comes as whole batches of columns
(`Pythia.nextBatch`), which is several times faster than to walk through events in Python.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Self

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from hepdecorr.samples.bsgamma import kinematics as kin
from hepdecorr.samples.pythia import QUIET, batch, configured, initialise, pythia8

PROCESSES = ("signal", "continuum")

# Aliases of B0 and K*0 with one decay each, so that the other B keeps every mode of Pythia's table.
SIGNAL_B = 9000511
SIGNAL_KSTAR = 9000313
ENERGY_SPREAD = 0.005
# Behind the event itself, two beams and what collides.
_FIRST_B = 5
_COLUMNS = ("id", "status", "mother1", "daughter1", "daughter2", "pol")

_SETTINGS = {
    "continuum": (
        *QUIET,
        "Beams:idA = 11",
        "Beams:idB = -11",
        f"Beams:eCM = {kin.SQRT_S}",
        "WeakSingleBoson:ffbar2gmZ = on",
        "23:onMode = off",
        "23:onIfAny = 1 2 3 4",
        "23:mMin = 3.5",
        # Below, a photon from the initial state took more than 3.3 GeV: too hard for a candidate.
        "PhaseSpace:mHatMin = 6.5",
    ),
    "signal": (
        *QUIET,
        "Beams:frameType = 5",
        "PDF:lepton = off",
        "PartonLevel:ISR = off",
        "PartonLevel:FSR = off",
        "PartonLevel:MPI = off",
        "LesHouches:setLeptonMass = 0",
        f"{SIGNAL_KSTAR}:new = Kst0sig Kst0sigbar 3 0 0 0.89594 0.0487 0.70 1.30",
        f"{SIGNAL_KSTAR}:addChannel = 1 1.0 0 321 -211",
        f"{SIGNAL_KSTAR}:mayDecay = on",
        f"{SIGNAL_B}:new = B0sig B0sigbar 1 0 0 {kin.B0_MASS}",
        f"{SIGNAL_B}:tau0 = 0.4587",
        f"{SIGNAL_B}:addChannel = 1 1.0 0 {SIGNAL_KSTAR} 22",
        f"{SIGNAL_B}:mayDecay = on",
    ),
}


class Particles(NamedTuple):
    """Stable particles of many events, one row each, events in order; momenta in the CM frame, GeV."""

    event: NDArray[np.int64]
    id: NDArray[np.int32]
    mother: NDArray[np.int32]
    signal: NDArray[np.bool_]
    p4: kin.Floats

    def take(self, rows: NDArray[Any]) -> Self:
        """The rows of an index or a mask."""
        return type(self)(*(column[rows] for column in self))


class Batch(NamedTuple):
    """Generated events: their stable particles, and of each event

    the flavour (1-4: quarks, 5: B pair) and the run, counted from 0.
    """

    particles: Particles
    flavour: NDArray[np.int32]
    run: NDArray[np.int64]

    @property
    def size(self) -> int:
        """Number of generated events."""
        return len(self.flavour)


Generator = Callable[[int], Batch]


def settings(process: str, *, isr: bool = False) -> list[str]:
    """The Pythia settings of a process; with `isr`, photons from the initial state of the continuum."""
    lines = list(_SETTINGS[process])
    if process == "continuum":
        lines.append(f"PDF:lepton = {'on' if isr else 'off'}")
    return lines


def make_generator(
    process: str,
    *,
    seed: int,
    rng: np.random.Generator,
    isr: bool = False,
    beam_shifts: kin.Floats | None = None,
) -> Generator:
    """A function from a number of events to a Batch.

    seed: Pythia's, 1 to 900,000,000; rng: for what Pythia does not decide (beam spread, direction of the
    B mesons, angle of the K*0 decay, run).  beam_shifts: of the energy of a beam in each run, GeV; None: all
    events are of one run without a shift.
    """
    pythia = configured(settings(process, isr=isr), seed=seed)
    source = None
    if process == "signal":
        pairs_rng, rng = rng.spawn(2)
        source = _pair_source(pythia8(), pairs_rng, beam_shifts)
        pythia.setLHAupPtr(source)
    initialise(pythia, process)

    def generate(events: int) -> Batch:
        record = batch(pythia, events, process=process).prt
        # To name `source` here keeps it alive: Pythia calls back into it but holds no reference.
        if source is not None:
            return _signal_batch(record, rng)
        made = _continuum_batch(record)
        return made if beam_shifts is None else rescaled(made, beam_shifts, rng=rng)

    return generate


def _flat(record: Any) -> tuple[dict[str, NDArray[Any]], NDArray[np.int64], NDArray[np.int64]]:
    """Columns of all particles of a batch, the event of each particle, the first particle of each event."""
    counts = np.asarray(ak.num(record), dtype=np.int64)
    rows = ak.flatten(record)
    columns = {name: np.asarray(rows[name]) for name in _COLUMNS}
    columns["p4"] = np.column_stack([np.asarray(rows.p[name]) for name in ("px", "py", "pz", "e")])
    return columns, np.repeat(np.arange(len(counts)), counts), np.cumsum(counts) - counts


def _stable(
    columns: dict[str, NDArray[Any]], event: NDArray[np.int64], first: NDArray[np.int64]
) -> Particles:
    final = np.flatnonzero(columns["status"] > 0)
    mother = columns["id"][first[event[final]] + columns["mother1"][final]]
    return Particles(
        event=event[final],
        id=columns["id"][final],
        mother=mother,
        signal=np.isin(np.abs(mother), (SIGNAL_B, SIGNAL_KSTAR)),
        p4=columns["p4"][final],
    )


def _continuum_batch(record: Any) -> Batch:
    columns, event, first = _flat(record)
    outgoing = np.flatnonzero((columns["status"] == -23) & (np.abs(columns["id"]) <= 5))
    events, leading = np.unique(event[outgoing], return_index=True)
    flavour = np.zeros(len(first), dtype=np.int32)
    flavour[events] = np.abs(columns["id"][outgoing[leading]])
    return Batch(_stable(columns, event, first), flavour, np.zeros(len(first), dtype=np.int64))


def rescaled(batch: Batch, beam_shifts: kin.Floats, *, rng: np.random.Generator) -> Batch:
    """Continuum events in runs drawn at random, their momenta scaled with the energy of the beams.

    To scale momenta instead of generating at each energy is good to a thousandth: multiplicities, which grow
    with the logarithm of the energy, stay, and masses do not scale, so that a tenth of a shift is missing.
    """
    run = rng.integers(len(beam_shifts), size=batch.size)
    particles = batch.particles
    factor = (1.0 + beam_shifts / kin.BEAM_STAR)[run[particles.event]]
    mass = kin.invariant_mass(particles.p4)
    p4 = kin.with_mass(np.column_stack([factor[:, None] * particles.p4[:, :3], mass]), mass)
    return Batch(particles._replace(p4=p4), batch.flavour, run)


def _signal_batch(record: Any, rng: np.random.Generator) -> Batch:
    columns, event, first = _flat(record)
    _polarise(columns, first, rng=rng)
    # The spin of a spinless meson, which Pythia hands on unused, says the run.
    run = np.rint(columns["pol"][first + _FIRST_B]).astype(np.int64)
    return Batch(_stable(columns, event, first), np.full(len(first), 5, dtype=np.int32), run)


def _polarise(
    columns: dict[str, NDArray[Any]], first: NDArray[np.int64], *, rng: np.random.Generator
) -> None:
    """Turn the decay of every signal K*0, in place, to the angles of a transverse one.

    Pythia decays the alias isotropically.  A K*0 recoiling against a real photon has helicity +-1, hence
    dN/dcos(theta_K) ~ sin^2 in its rest frame, theta_K against its flight in the frame of the B.  To
    redraw the direction, rather than to reject events, costs no statistics.
    """
    p4 = columns["p4"]
    kstar = np.flatnonzero(np.abs(columns["id"]) == SIGNAL_KSTAR)
    daughters = first[:, None] + np.column_stack([columns["daughter1"][kstar], columns["daughter2"][kstar]])
    is_kaon = np.abs(columns["id"][daughters]) == 321
    kaon, pion = daughters[is_kaon], daughters[~is_kaon]
    b = p4[first + columns["mother1"][kstar]]
    kstar_in_b = kin.boost(p4[kstar], -kin.velocity(b))
    in_b = kin.boost(p4[kaon], -kin.velocity(b))
    break_up = kin.momentum(kin.boost(in_b, -kin.velocity(kstar_in_b)))

    axis = kstar_in_b[:, :3] / kin.momentum(kstar_in_b)[:, None]
    direction = _around(
        axis, kin.sin2_cosine(rng.random(len(kstar))), phi=rng.uniform(0, 2 * np.pi, len(kstar))
    )
    for rows, sign, mass in ((kaon, 1.0, p4[kaon]), (pion, -1.0, p4[pion])):
        rest = kin.with_mass(sign * break_up[:, None] * direction, kin.invariant_mass(mass))
        p4[rows] = kin.boost(kin.boost(rest, kin.velocity(kstar_in_b)), kin.velocity(b))


def _around(axis: kin.Floats, cosine: kin.Floats, *, phi: kin.Floats) -> kin.Floats:
    """Unit vectors (n, 3) at the polar angle arccos(cosine) and the azimuth phi around unit vectors."""
    # Any vector that is not parallel to the axis spans the plane: the unit vector of the smallest component.
    other = np.eye(3)[np.argmin(np.abs(axis), axis=1)]
    first = np.cross(axis, other)
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    second = np.cross(axis, first)
    sine = kin.root(1.0 - cosine**2)
    return np.asarray(
        cosine[:, None] * axis
        + sine[:, None] * (np.cos(phi)[:, None] * first + np.sin(phi)[:, None] * second)
    )


def draw_pairs(
    count: int, rng: np.random.Generator, *, beam_shift: kin.Floats | None = None
) -> tuple[kin.Floats, NDArray[np.int64]]:
    """Momenta (count, 4) of the signal B in the CM frame, and +1 where it is a B0, -1 where an anti-B0.

    sqrt(s) has the spread of the beams; Upsilon(4S) -> B anti-B from e+e- goes as sin^2 of the polar angle.
    beam_shift: of each pair (count,), GeV by which a beam's energy is off.
    """
    energy = rng.normal(kin.SQRT_S, ENERGY_SPREAD, count) / 2
    if beam_shift is not None:
        energy += beam_shift
        # There are no pairs below the threshold, which beams that are off come near.
        while (below := energy < kin.B0_MASS).any():
            again = rng.normal(kin.SQRT_S, ENERGY_SPREAD, int(below.sum())) / 2
            energy[below] = again + beam_shift[below]
    size = kin.root(np.maximum(energy**2 - kin.B0_MASS**2, 1e-6))
    cosine = kin.sin2_cosine(rng.random(count))
    beam = np.broadcast_to([0.0, 0.0, 1.0], (count, 3))
    direction = _around(beam, cosine, phi=rng.uniform(0, 2 * np.pi, count))
    sign = np.where(rng.random(count) < 0.5, 1, -1)
    return kin.with_mass(size[:, None] * direction, kin.B0_MASS), sign


def _pair_source(module: Any, rng: np.random.Generator, beam_shifts: kin.Floats | None) -> Any:
    """A Les Houches source of B meson pairs for Pythia.setLHAupPtr, in runs drawn at random."""
    # Apart from `rng`, so that events without runs stay what they were.
    run_rng = rng.spawn(1)[0]

    class Pairs(module.LHAup):
        block = 5000

        def __init__(self) -> None:
            super().__init__()
            self.waiting: list[tuple[list[float], int, int]] = []

        def setInit(self) -> bool:  # noqa: N802 (Pythia's name)
            # A little above sqrt(s): the spread of the beams must not ask for more than there is.
            self.setBeamA(11, kin.BEAM_STAR + 0.06)
            self.setBeamB(-11, kin.BEAM_STAR + 0.06)
            self.setStrategy(3)
            self.addProcess(1, 1.0, 0.0, 1.0)
            return True

        def setEvent(self, process: int = 0) -> bool:  # noqa: N802, ARG002 (Pythia's signature)
            if not self.waiting:
                run = run_rng.integers(1 if beam_shifts is None else len(beam_shifts), size=self.block)
                shift = None if beam_shifts is None else beam_shifts[run]
                p4, sign = draw_pairs(self.block, rng, beam_shift=shift)
                self.waiting = list(zip(p4.tolist(), sign.tolist(), run.tolist(), strict=True))
            (x, y, z, e), b0, of_run = self.waiting.pop()
            self.setProcess(1, 1.0, 2.0 * e)
            self.addParticle(11, -1, 0, 0, 0, 0, 0.0, 0.0, e, e, kin.TRACK_MASS[11])
            self.addParticle(-11, -1, 0, 0, 0, 0, 0.0, 0.0, -e, e, kin.TRACK_MASS[11])
            self.addParticle(b0 * SIGNAL_B, 1, 1, 2, 0, 0, x, y, z, e, kin.B0_MASS, 0.0, float(of_run))
            self.addParticle(-b0 * 511, 1, 1, 2, 0, 0, -x, -y, -z, e, kin.B0_MASS)
            return True

    return Pairs()
