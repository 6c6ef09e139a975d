from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import awkward as ak
import pytest
import uproot

from hepdecorr.samples.bsgamma import generate


def _load(path: Path) -> ak.Array:
    with uproot.open(path) as file:
        return file["Events"].arrays()


@pytest.fixture(scope="session")
def load() -> Callable[[Path], ak.Array]:
    """Reads all events of a file."""
    return _load


@pytest.fixture(scope="session")
def pythia() -> None:
    """Skips where the extra `samples` is not installed."""
    pytest.importorskip("pythia8mc", reason="Pythia 8 (extra `samples`) is not installed")


@pytest.fixture(scope="session")
def signal_file(pythia: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("bsgamma") / "signal.root"
    generate("signal", out=out, events=8000, seed=31)
    return out


@pytest.fixture(scope="session")
def continuum_file(pythia: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("bsgamma") / "continuum.root"
    generate("continuum", out=out, events=60_000, seed=31)
    return out


@pytest.fixture(scope="session")
def signal(signal_file: Path) -> ak.Array:
    return _load(signal_file)


@pytest.fixture(scope="session")
def continuum(continuum_file: Path) -> ak.Array:
    return _load(continuum_file)
