"""The compact samples that come with the package: what `builtin:NAME.root` means in an analysis YAML."""

from __future__ import annotations

from pathlib import Path

from hepdecorr.catalogue import suggest
from hepdecorr.errors import InputError

_FOLDER = Path(__file__).parent


def builtin() -> dict[str, Path]:
    """The shipped files by name, such as "bsgamma_signal.root"."""
    return {path.name: path for path in sorted(_FOLDER.glob("*.root"))}


def builtin_path(name: str) -> Path:
    """The path of a shipped file.  InputError, with the nearest name, where there is none."""
    files = builtin()
    if name not in files:
        raise InputError(f"builtin:{name}: hepdecorr ships no such sample{suggest(name, files)}")
    return files[name]
