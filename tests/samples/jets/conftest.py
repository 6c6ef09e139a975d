from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hepdecorr.errors import InputError
from hepdecorr.samples import jets
from hepdecorr.samples.jets.clustering import fastjet_module


@pytest.fixture(scope="session")
def fastjet() -> None:
    """Skips where FastJet is not installed."""
    try:
        # Not importorskip: FastJet's import warns on some versions of Python.
        fastjet_module()
    except InputError:
        pytest.skip("FastJet (extra `samples`) is not installed")


@pytest.fixture(scope="session")
def generators(pythia: None, fastjet: None) -> None:
    """Skips where the extra `samples` is not complete."""


QUICK = jets.Options(mpi=False)
SIZES = {"qcd": 800, "w": 250, "top": 300, "h4j": 60}


@pytest.fixture(scope="session")
def files(generators: None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A small file of each process, without multiparton interactions."""
    folder = tmp_path_factory.mktemp("jets")
    return {
        process: jets.generate(process, out=folder / f"{process}.root", jets=count, seed=5, options=QUICK).out
        for process, count in SIZES.items()
    }


@pytest.fixture
def quiet_schemas(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """coffea's schemas without the warnings of the collections that are not there."""
    from coffea.nanoevents import NanoAODSchema

    monkeypatch.setattr(NanoAODSchema, "warn_missing_crossrefs", False)
    return
