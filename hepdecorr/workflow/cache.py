"""Is a step's output still the one that its config, its inputs and this code would make?"""

from __future__ import annotations

import ast
import hashlib
import json
import platform
import re
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

from hepdecorr import __version__

PACKAGE_FOLDER = Path(__file__).resolve().parents[1]
# Modules and packages in which the computation of a step starts; all that they import decides its result.
STEP_ENTRY_POINTS = {
    "table": ("hepdecorr.columnar",),
    "train": ("hepdecorr.training",),
    "evaluate": ("hepdecorr.columnar",),
    "metrics": ("hepdecorr.evaluation.metrics",),
    "report": (
        "hepdecorr.evaluation",
        "hepdecorr.workflow.report",
        "hepdecorr.workflow.groups",
        "hepdecorr.workflow.scan",
        "hepdecorr.workflow.comparison",
    ),
    "group-codes": ("hepdecorr.workflow.group_codes",),
    "sample-jets": ("hepdecorr.workflow.jet_generation",),
}
RECORDED_LIBRARIES = (
    "awkward coffea hist lightning-fabric numpy onnxruntime pyarrow scikit-learn scipy torch uproot"
)


def digest(*parts: Any) -> str:
    """Hex digest of plain data; a path stands for the content of its file."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=_file_digest).encode()).hexdigest()


def _file_digest(value: Any) -> str:
    if isinstance(value, Path):
        return hashlib.sha256(value.read_bytes()).hexdigest()
    raise TypeError(f"no digest of {type(value).__name__}")


def source_digest(step: str) -> str:
    """Hash the package version and every source file that the computation of a step imports.

    Args:
        step: Key of STEP_ENTRY_POINTS.

    Returns:
        Hex digest, which changes if any of these files changes.
    """
    files = sorted(import_closure(STEP_ENTRY_POINTS[step]))
    digests = [(str(file.relative_to(PACKAGE_FOLDER)), _hash_file(file)) for file in files]
    return digest(__version__, digests)


def import_closure(entry_points: Iterable[str]) -> set[Path]:
    """Find the source files of this package that some modules import, directly or through others.

    Imports inside functions count as well.

    Args:
        entry_points: Full names of modules; a package stands for all of its modules.

    Returns:
        The files, those of the entry points included.
    """
    waiting = [file for name in entry_points for file in _module_files(name, with_submodules=True)]
    closure: set[Path] = set()
    while waiting:
        file = waiting.pop()
        if file not in closure:
            closure.add(file)
            waiting += _imported_files(file)
    return closure


@lru_cache(maxsize=1024)
def _imported_files(file: Path) -> tuple[Path, ...]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            # An imported name may be a submodule.
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return tuple(found for name in sorted(names) for found in _module_files(name))


def _module_files(name: str, *, with_submodules: bool = False) -> list[Path]:
    package, _, rest = name.partition(".")
    if package != "hepdecorr":
        return []
    path = PACKAGE_FOLDER.joinpath(*rest.split(".")) if rest else PACKAGE_FOLDER
    if path.is_dir():
        return sorted(path.rglob("*.py")) if with_submodules else [path / "__init__.py"]
    module = path.with_suffix(".py")
    return [module] if module.is_file() else []


@lru_cache(maxsize=1024)
def _hash_file(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def user_code_files(spec: Any, *, base: Path) -> list[Path]:
    """The user's files that plain data name, as 'my_term.py:Mine' does: what they say decides as well."""
    if isinstance(spec, Mapping):
        spec = list(spec.values())
    if isinstance(spec, list | tuple):
        return sorted({path for part in spec for path in user_code_files(part, base=base)})
    found = re.fullmatch(r"(.+\.py):\w+", spec) if isinstance(spec, str) else None
    path = base / found[1] if found else None
    return [path] if path is not None and path.is_file() else []


def input_file_states(datasets: Iterable[Any]) -> list[list[Any]]:
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


def library_versions() -> dict[str, str]:
    """Versions of hepdecorr, Python and the libraries that decide over a result."""
    known = {"hepdecorr": __version__, "python": platform.python_version()}
    for name in RECORDED_LIBRARIES.split():
        try:
            known[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return known


def command_line() -> str:
    """The command line as it was given."""
    return " ".join(["hepdecorr", *sys.argv[1:]])


class CacheStamp:
    """A file beside an output that says what it was made from; written last, removed first."""

    def __init__(self, path: Path, key: str) -> None:
        self.path, self.key = path, key

    @staticmethod
    def read_content(path: Path) -> Mapping[str, Any] | None:
        """What a stamp says, None when there is none."""
        try:
            content = json.loads(path.read_text())
        except (OSError, ValueError):
            return None
        return content if isinstance(content, dict) and "key" in content else None

    def is_valid(self, *outputs: Path) -> bool:
        """Whether the outputs are there and made under the same key."""
        found = self.read_content(self.path)
        return found is not None and found["key"] == self.key and all(p.exists() for p in outputs)

    def invalidate(self, *outputs: Path) -> None:
        """Before the work: what lies there is from now on unfinished, and must not look like the whole."""
        for path in (self.path, *outputs):
            path.unlink(missing_ok=True)

    def write(self, **facts: Any) -> None:
        """After the work."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        made = datetime.now(UTC).isoformat(timespec="seconds")
        content = {"key": self.key, "made": made, "versions": library_versions(), **facts}
        part = self.path.with_name(self.path.name + ".part")
        part.write_text(json.dumps(content, indent=1))
        part.replace(self.path)
