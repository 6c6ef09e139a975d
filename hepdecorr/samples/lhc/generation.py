"""Pythia 8 at 13 TeV for whole events: every particle of the record, and a veto of hard processes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from hepdecorr.samples.jets.generation import CrossSection, Floats, Particles
from hepdecorr.samples.pythia import QUIET, batch, configured, initialise, pythia8

NEUTRINOS = (12, 14, 16)
HADRONS_BEGIN = 100  # PDG codes of hadrons are above


@dataclass(frozen=True)
class Options:
    """mpi: multiparton interactions; without them an event takes a tenth of the time."""

    mpi: bool = True


class Record(NamedTuple):
    """Generated events: all their particles, which of them are stable, the weight of each event."""

    particles: Particles
    stable: NDArray[np.bool_]
    weight: Floats

    @property
    def size(self) -> int:
        """Number of generated events."""
        return len(self.weight)

    def final(self, wanted: NDArray[np.bool_]) -> Particles:
        """The stable particles of the events of a mask."""
        return self.particles.take(self.stable & wanted[self.particles.event])


class Generator:
    """Pythia set up for a process; seed from 1 to 900,000,000; incoming: of `incoming_parton`, or none."""

    def __init__(
        self, lines: Iterable[str], *, process: str, options: Options, seed: int, incoming: int | None = None
    ) -> None:
        self._process = process
        common = [*QUIET, "Beams:eCM = 13000.", f"PartonLevel:MPI = {'on' if options.mpi else 'off'}"]
        self._pythia = configured([*common, *lines], seed=seed)
        if incoming is not None:
            # Kept here as well: Pythia holds no reference that Python counts.
            self._hook = incoming_parton(incoming)
            self._pythia.setUserHooksPtr(self._hook)
        initialise(self._pythia, process)

    def __call__(self, events: int) -> Record:
        """About so many events: Pythia leaves out those that it cannot finish."""
        return _unpack(batch(self._pythia, events, process=self._process))

    def cross_section(self) -> CrossSection:
        """Of what is generated, vetoed events left out, as the events so far tell."""
        info = self._pythia.infoPython()
        return CrossSection(info.sigmaGen() * 1e9, info.sigmaErr() * 1e9)


def incoming_parton(flavour: int) -> Any:
    """A Pythia hook that lets pass only hard processes with an incoming quark of this flavour.

    It acts before any shower, so what it turns away costs 50 microseconds.
    """

    class Incoming(pythia8().UserHooks):  # type: ignore[misc]
        def canVetoProcessLevel(self) -> bool:  # noqa: N802
            return True

        def doVetoProcessLevel(self, process: Any) -> bool:  # noqa: N802
            return all(process[row].idAbs() != flavour for row in (3, 4))

    return Incoming()


def hadrons(particles: Particles, quark: int, *, pt_min: float = 5.0) -> Particles:
    """Every hadron of the record with this quark (5 or 4) as its heaviest, above pt_min, GeV.

    A B* and the B that it decays to fly the same way and are both there.
    """
    code = np.abs(particles.id) % 10_000  # excited ones repeat the digits
    heaviest = np.where(code >= 1000, code // 1000, code // 100 % 10)
    # The proton's remnants are no particles of the collision, nuclei have no such code.
    is_hadron = (np.abs(particles.id) > HADRONS_BEGIN) & (np.abs(particles.id) < 1_000_000)
    pt = np.hypot(particles.p4[:, 0], particles.p4[:, 1])
    return particles.take(is_hadron & (heaviest == quark) & (pt > pt_min))


def _unpack(made: Any) -> Record:
    record = made.prt
    counts = np.asarray(ak.num(record), dtype=np.int64)
    rows = ak.flatten(record)
    status = np.asarray(rows.status)
    # Without the partons of the shower, two thirds of the record.
    code = np.abs(np.asarray(rows.id))
    kept = (status > 0) | ((code > HADRONS_BEGIN) & (np.abs(status) > 80))
    particles = Particles(
        event=np.repeat(np.arange(len(counts)), counts)[kept],
        id=np.asarray(rows.id)[kept],
        p4=np.column_stack([np.asarray(rows.p[name])[kept] for name in ("px", "py", "pz", "e")]),
    )
    return Record(particles, (status > 0)[kept], np.asarray(made.info.weights[:, 0], dtype=np.float64))
