"""Samples that anyone can make again: shipped files, the Pythia 8 generators behind them, and toys.

The names are imported on first use: to ask for a shipped file costs neither Pythia nor uproot.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, cast

from hepdecorr.errors import InputError, suggest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Protocol

    from hepdecorr.samples.data import builtin_files as builtin_files
    from hepdecorr.samples.data import builtin_path as builtin_path
    from hepdecorr.samples.root_file import read_provenance as read_provenance

    class GenerationResult(Protocol):
        """What every generator reports."""

        @property
        def out(self) -> Path: ...
        @property
        def num_events(self) -> int: ...
        @property
        def num_stored(self) -> int: ...
        @property
        def object_name(self) -> str: ...
        @property
        def event_unit(self) -> str: ...
        @property
        def cutflow(self) -> dict[str, int]: ...
        @property
        def seconds(self) -> float: ...

    class SampleGenerator(Protocol):
        """What a module in GENERATORS offers to `hepdecorr generate NAME`."""

        PROCESSES: tuple[str, ...]
        generate: Callable[..., GenerationResult]


# A new sample is a module with PROCESSES and generate(process, *, out, ...) and a line here.
GENERATORS = {
    "bsgamma": "hepdecorr.samples.bsgamma",
    "jets": "hepdecorr.samples.jets",
    "toys": "hepdecorr.samples.toys",
    "exam-scores": "hepdecorr.samples.exam_scores",
    "hbb": "hepdecorr.samples.hbb",
    "hmumu": "hepdecorr.samples.hmumu",
}

_LAZY_IMPORTS = {
    "builtin_files": "hepdecorr.samples.data",
    "builtin_path": "hepdecorr.samples.data",
    "read_provenance": "hepdecorr.samples.root_file",
}

__all__ = ["GENERATORS", "builtin_files", "builtin_path", "find_generator", "read_provenance"]


def find_generator(name: str) -> SampleGenerator:
    """The generator of a sample, such as "bsgamma".  InputError, with the nearest name, if there is none."""
    if name not in GENERATORS:
        raise InputError(f"no sample {name!r}{suggest(name, GENERATORS)}")
    return cast("SampleGenerator", importlib.import_module(GENERATORS[name]))


def __getattr__(name: str) -> Any:
    if name in _LAZY_IMPORTS:
        return getattr(importlib.import_module(_LAZY_IMPORTS[name]), name)
    raise AttributeError(f"module 'hepdecorr.samples' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY_IMPORTS})
