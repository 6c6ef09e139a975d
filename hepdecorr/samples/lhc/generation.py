"""Pythia 8 at 13 TeV for whole events: every particle of the record, and a veto of hard processes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from hepdecorr.samples.jets.generation import CrossSection, Floats, GenParticles
from hepdecorr.samples.pythia import (
    QUIET_SETTINGS,
    configure_pythia,
    generate_batch,
    import_pythia8,
    initialise_pythia,
)

NEUTRINOS = (12, 14, 16)
MIN_HADRON_ID = 100  # PDG codes of hadrons are above


@dataclass(frozen=True)
class CollisionOptions:
    """mpi: multiparton interactions; without them an event takes a tenth of the time."""

    mpi: bool = True


class EventRecord(NamedTuple):
    """Generated events: all their particles, which of them are stable, the weight of each event."""

    particles: GenParticles
    stable: NDArray[np.bool_]
    weight: Floats

    @property
    def num_events(self) -> int:
        """Number of generated events."""
        return len(self.weight)

    def stable_particles(self, mask: NDArray[np.bool_]) -> GenParticles:
        """The stable particles of the events of a mask."""
        return self.particles.take(self.stable & mask[self.particles.event])


class CollisionGenerator:
    """Pythia set up for a process; seed from 1 to 900,000,000; incoming: of `incoming_parton`, or none."""

    def __init__(
        self,
        settings: Iterable[str],
        *,
        process: str,
        options: CollisionOptions,
        seed: int,
        incoming_flavour: int | None = None,
    ) -> None:
        self._process = process
        common = [
            *QUIET_SETTINGS,
            "Beams:eCM = 13000.",
            f"PartonLevel:MPI = {'on' if options.mpi else 'off'}",
        ]
        self._pythia = configure_pythia([*common, *settings], seed=seed)
        if incoming_flavour is not None:
            # Kept here as well: Pythia holds no reference that Python counts.
            self._user_hook = make_parton_filter(incoming_flavour)
            self._pythia.setUserHooksPtr(self._user_hook)
        initialise_pythia(self._pythia, process)

    def __call__(self, num_events: int) -> EventRecord:
        """About so many events: Pythia leaves out those that it cannot finish."""
        return _unpack_record(generate_batch(self._pythia, num_events, process=self._process))

    def cross_section(self) -> CrossSection:
        """Of what is generated, vetoed events left out, as the events so far tell."""
        info = self._pythia.infoPython()
        return CrossSection(info.sigmaGen() * 1e9, info.sigmaErr() * 1e9)


def make_parton_filter(flavour: int) -> Any:
    """A Pythia hook that lets pass only hard processes with an incoming quark of this flavour.

    It acts before any shower, so what it turns away costs 50 microseconds.
    """

    class Incoming(import_pythia8().UserHooks):  # type: ignore[misc]
        def canVetoProcessLevel(self) -> bool:  # noqa: N802
            return True

        def doVetoProcessLevel(self, process: Any) -> bool:  # noqa: N802
            return all(process[row].idAbs() != flavour for row in (3, 4))

    return Incoming()


def select_hadrons(particles: GenParticles, quark: int, *, pt_min: float = 5.0) -> GenParticles:
    """Every hadron of the record with this quark (5 or 4) as its heaviest, above pt_min, GeV.

    A B* and the B that it decays to fly the same way and are both there.
    """
    code = np.abs(particles.id) % 10_000  # excited ones repeat the digits
    heaviest = np.where(code >= 1000, code // 1000, code // 100 % 10)
    # The proton's remnants are no particles of the collision, nuclei have no such code.
    is_hadron = (np.abs(particles.id) > MIN_HADRON_ID) & (np.abs(particles.id) < 1_000_000)
    pt = np.hypot(particles.p4[:, 0], particles.p4[:, 1])
    return particles.take(is_hadron & (heaviest == quark) & (pt > pt_min))


def _unpack_record(batch: Any) -> EventRecord:
    record = batch.prt
    counts = np.asarray(ak.num(record), dtype=np.int64)
    rows = ak.flatten(record)
    status = np.asarray(rows.status)
    # Without the partons of the shower, two thirds of the record.
    code = np.abs(np.asarray(rows.id))
    kept = (status > 0) | ((code > MIN_HADRON_ID) & (np.abs(status) > 80))
    particles = GenParticles(
        event=np.repeat(np.arange(len(counts)), counts)[kept],
        id=np.asarray(rows.id)[kept],
        p4=np.column_stack([np.asarray(rows.p[name])[kept] for name in ("px", "py", "pz", "e")]),
    )
    return EventRecord(particles, (status > 0)[kept], np.asarray(batch.info.weights[:, 0], dtype=np.float64))
