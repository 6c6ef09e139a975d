"""Is a step's output still the one that its config, its inputs and this code would make?"""

from __future__ import annotations

import hashlib
import json
import platform
import re
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from hepdecorr import __version__

PACKAGE = Path(__file__).resolve().parents[1]
# What decides over the result of each step, below the package's folder.
CODE = {
    "table": ("table.py", "compiled.py", "columnar"),
    "train": ("table.py", "card.py", "emd.py", "sums.py", "learning", "validation/measures"),
    "evaluate": ("table.py", "card.py", "emd.py", "sums.py", "compiled.py", "columnar"),
    "measure": ("validation/measures",),
    "report": ("validation", "cli/proof.py", "cli/measuring.py", "cli/further.py", "cli/signals.py"),
    "groups": (
        "table.py",
        "card.py",
        "sums.py",
        "columnar",
        "validation/measures",
        "cli/coded.py",
        "cli/coding.py",
    ),
    "imagine": ("table.py", "card.py", "compiled.py", "columnar", "validation", "cli/imagining.py"),
}
LIBRARIES = "awkward coffea hist lightning-fabric numpy onnxruntime pyarrow scikit-learn scipy torch uproot"


def digest(*parts: Any) -> str:
    """Hex digest of plain data; a path stands for the content of its file."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=_content).encode()).hexdigest()


def _content(value: Any) -> str:
    if isinstance(value, Path):
        return hashlib.sha256(value.read_bytes()).hexdigest()
    raise TypeError(f"no digest of {type(value).__name__}")


def code(step: str) -> str:
    """Hex digest of the source files that decide over the result of `step`."""
    digests = []
    for name in CODE[step]:
        path = PACKAGE / name
        files = sorted(path.rglob("*.py")) if path.is_dir() else [path]
        digests += [(str(f.relative_to(PACKAGE)), _content(f)) for f in files]
    return digest(digests)


def own_code(content: Any, *, base: Path) -> list[Path]:
    """The user's files that plain data name, as 'my_term.py:Mine' does: what they say decides as well."""
    if isinstance(content, Mapping):
        content = list(content.values())
    if isinstance(content, list | tuple):
        return sorted({path for part in content for path in own_code(part, base=base)})
    found = re.fullmatch(r"(.+\.py):\w+", content) if isinstance(content, str) else None
    path = base / found[1] if found else None
    return [path] if path is not None and path.is_file() else []


def inputs(datasets: Iterable[Any]) -> list[list[Any]]:
    """What tells one state of the input files from another: name, size and time of change.

    Files behind a URL are known by name only: --redo reads them again.
    """
    found: list[list[Any]] = []
    for dataset in datasets:
        for file in dataset.files:
            path = Path(file)
            about = [path.stat().st_size, path.stat().st_mtime_ns] if path.is_file() else []
            found.append([dataset.name, file, *about])
    return found


def versions() -> dict[str, str]:
    """Versions of hepdecorr, Python and the libraries that decide over a result."""
    known = {"hepdecorr": __version__, "python": platform.python_version()}
    for name in LIBRARIES.split():
        try:
            known[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return known


def command() -> str:
    """The command line as it was given."""
    return " ".join(["hepdecorr", *sys.argv[1:]])


class Stamp:
    """A file beside an output that says what it was made from; written last, removed first."""

    def __init__(self, path: Path, key: str) -> None:
        self.path, self.key = path, key

    @staticmethod
    def read(path: Path) -> Mapping[str, Any] | None:
        """What a stamp says, None when there is none."""
        try:
            content = json.loads(path.read_text())
        except (OSError, ValueError):
            return None
        return content if isinstance(content, dict) and "key" in content else None

    def fits(self, *outputs: Path) -> bool:
        """Whether the outputs are there and made under the same key."""
        found = self.read(self.path)
        return found is not None and found["key"] == self.key and all(p.exists() for p in outputs)

    def remove(self, *outputs: Path) -> None:
        """Before the work: what lies there is from now on unfinished, and must not look like the whole."""
        for path in (self.path, *outputs):
            path.unlink(missing_ok=True)

    def write(self, **facts: Any) -> None:
        """After the work."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        made = datetime.now(UTC).isoformat(timespec="seconds")
        content = {"key": self.key, "made": made, "versions": versions(), **facts}
        part = self.path.with_name(self.path.name + ".part")
        part.write_text(json.dumps(content, indent=1))
        part.replace(self.path)
