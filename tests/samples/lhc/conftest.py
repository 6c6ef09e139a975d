from __future__ import annotations

from pathlib import Path

import pytest

from hepdecorr.errors import InputError
from hepdecorr.samples import find_sample
from hepdecorr.samples.jets.clustering import fastjet_module
from hepdecorr.samples.lhc.generation import Options

QUICK = Options(mpi=False)
EVENTS = {
    "hbb": {"zh": 700, "zbb": 2500, "zz": 1000},
    "hmumu": {"signal": 500, "dy": 1000},
}


@pytest.fixture(scope="session")
def generators(pythia: None) -> None:
    """Skips where the extra `samples` is not complete."""
    try:
        fastjet_module()
    except InputError:
        pytest.skip("FastJet (extra `samples`) is not installed")


@pytest.fixture(scope="session")
def collisions(generators: None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A small file of each process, without multiparton interactions."""
    folder = tmp_path_factory.mktemp("collisions")
    return {
        process: find_sample(sample)
        .generate(process, out=folder / f"{process}.root", events=count, seed=5, options=QUICK)
        .out
        for sample, processes in EVENTS.items()
        for process, count in processes.items()
    }
