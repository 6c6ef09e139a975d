"""Samples that anyone can make again: shipped files, the Pythia 8 generators behind them, and toys.

The names are imported on first use: to ask for a shipped file costs neither Pythia nor uproot.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, cast

from hepdecorr.catalogue import suggest
from hepdecorr.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Protocol

    from hepdecorr.samples.data import builtin as builtin
    from hepdecorr.samples.data import builtin_path as builtin_path
    from hepdecorr.samples.rootfile import read_provenance as read_provenance

    class Made(Protocol):
        """What every generator reports."""

        @property
        def out(self) -> Path: ...
        @property
        def events(self) -> int: ...
        @property
        def stored(self) -> int: ...
        @property
        def noun(self) -> str: ...
        @property
        def unit(self) -> str: ...
        @property
        def cutflow(self) -> dict[str, int]: ...
        @property
        def seconds(self) -> float: ...

    class Sample(Protocol):
        """What a module in GENERATORS offers to `hepdecorr generate NAME`."""

        PROCESSES: tuple[str, ...]
        generate: Callable[..., Made]


# A new sample is a module with PROCESSES and generate(process, *, out, ...) and a line here.
GENERATORS = {
    "bsgamma": "hepdecorr.samples.bsgamma",
    "jets": "hepdecorr.samples.jets",
    "toys": "hepdecorr.samples.toys",
    "exam-scores": "hepdecorr.samples.exam_scores",
    "hbb": "hepdecorr.samples.hbb",
    "hmumu": "hepdecorr.samples.hmumu",
}

_HOMES = {
    "builtin": "hepdecorr.samples.data",
    "builtin_path": "hepdecorr.samples.data",
    "read_provenance": "hepdecorr.samples.rootfile",
}

__all__ = ["GENERATORS", "builtin", "builtin_path", "find_sample", "read_provenance"]


def find_sample(name: str) -> Sample:
    """The generator of a sample, such as "bsgamma".  InputError, with the nearest name, if there is none."""
    if name not in GENERATORS:
        raise InputError(f"no sample {name!r}{suggest(name, GENERATORS)}")
    return cast("Sample", importlib.import_module(GENERATORS[name]))


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'hepdecorr.samples' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
