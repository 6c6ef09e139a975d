"""Pythia 8: found, set up, asked for whole batches of events."""

from __future__ import annotations

from collections.abc import Iterable
from types import ModuleType
from typing import Any

from hepdecorr.errors import InputError

QUIET = ("Print:quiet = on", "Random:setSeed = on", "Next:numberCount = 0", "Check:event = off")


def pythia8() -> ModuleType:
    """The module pythia8mc.  InputError where it is not installed, or older than `nextBatch`."""
    install = "pip install 'hepdecorr[samples]' (or 'pythia8mc>=8.314,<8.318')"
    try:
        import pythia8mc
    except ImportError as error:
        raise InputError(f"Pythia 8 is not installed: {install}") from error
    if not hasattr(pythia8mc.Pythia, "nextBatch"):
        raise InputError(f"this Pythia 8 is older than 8.314: {install}")
    return pythia8mc  # type: ignore[no-any-return]


def configured(settings: Iterable[str], *, seed: int) -> Any:
    """A Pythia with these settings and a seed from 1 to 900,000,000, not yet initialised."""
    pythia = pythia8().Pythia("", False)
    for line in [*settings, f"Random:seed = {seed}"]:
        if not pythia.readString(line):
            raise RuntimeError(f"Pythia refuses the setting {line!r}")
    return pythia


def initialise(pythia: Any, process: str) -> None:
    """Initialise a Pythia for a process, named for the error."""
    if not pythia.init():
        raise RuntimeError(f"Pythia could not be initialised for {process!r}")


def batch(pythia: Any, events: int, *, process: str) -> Any:
    """About `events` events of an initialised Pythia, as an awkward record (`prt`, `info`)."""
    made = pythia.nextBatch(events)
    # Pythia leaves out the odd event that it cannot finish; a whole batch of them is a fault.
    if len(made.prt) < 0.5 * events - 10:
        raise RuntimeError(f"Pythia failed in {events - len(made.prt)} of {events} events of {process!r}")
    return made
