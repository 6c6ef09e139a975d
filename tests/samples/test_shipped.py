"""The files that come with the package, and the registry of generators."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import uproot

from hepdecorr import samples
from hepdecorr.errors import InputError
from hepdecorr.samples import GENERATORS, builtin, builtin_path, find_sample, read_provenance
from hepdecorr.samples.bsgamma import PROCESSES, luminosity_block, regenerate
from hepdecorr.samples.bsgamma.layout import COMPACT_BITS

NAMES = [f"bsgamma_{process}.root" for process in PROCESSES]


def test_the_shipped_files_are_small_and_many() -> None:
    assert sorted(builtin()) == sorted(NAMES)
    assert sum(path.stat().st_size for path in builtin().values()) <= 8_000_000
    events = {}
    for name in NAMES:
        with uproot.open(builtin_path(name)) as file:
            events[name] = file["Events"].num_entries
    assert events["bsgamma_signal.root"] >= 10_000
    assert 4 <= events["bsgamma_continuum.root"] / events["bsgamma_signal.root"] <= 5


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_file_has_the_layout_and_tells_how_it_was_made(
    name: str, request: pytest.FixtureRequest
) -> None:
    process = name.removeprefix("bsgamma_").removesuffix(".root")
    told = read_provenance(builtin_path(name))
    assert told["process"] == process
    assert told["options"]["compact"]
    assert told["mantissa_bits"] == COMPACT_BITS
    with (
        uproot.open(builtin_path(name)) as file,
        uproot.open(request.getfixturevalue(f"{process}_file")) as fresh,
    ):
        tree, other = file["Events"], fresh["Events"]
        assert [(b.name, b.title) for b in tree.branches] == [(b.name, b.title) for b in other.branches]
        assert tree.num_entries == sum(told["candidates_per_job"]) == told["cutflow"]["M_bc"]
        ids = tree.arrays(["run", "luminosityBlock", "event"], library="np")
        floats = tree.arrays(["Track_pt", "Bcand_pt"])
    assert len(set(zip(*(column.tolist() for column in ids.values()), strict=True))) == tree.num_entries
    track = ak.to_numpy(ak.flatten(floats.Track_pt)).astype(np.float32).view(np.uint32)
    assert not (track & 0x7FF).any()
    assert (ak.to_numpy(floats.Bcand_pt).astype(np.float32).view(np.uint32) & 0x7F).any()


@pytest.mark.usefixtures("pythia")
@pytest.mark.parametrize(("name", "job"), [("bsgamma_signal.root", 1), ("bsgamma_continuum.root", -1)])
def test_a_job_of_a_shipped_file_can_be_made_again(
    name: str, job: int, load: Callable[[Path], ak.Array]
) -> None:
    path = builtin_path(name)
    told = read_provenance(path)
    made_with, here = told["versions"]["pythia8mc"], importlib.metadata.version("pythia8mc")
    if made_with != here:
        pytest.skip(f"{name} was made with pythia8mc {made_with}; {here} is installed")
    jobs = len(told["candidates_per_job"])
    number = job if job > 0 else jobs + 1 + job
    shipped = load(path)
    shipped = shipped[shipped.luminosityBlock == luminosity_block(told["seed"], number)]
    again = regenerate(path, number)
    assert len(shipped) == told["candidates_per_job"][number - 1] == len(again)
    assert again.fields == shipped.fields
    for branch in again.fields:
        one, other = ak.flatten(again[branch], axis=None), ak.flatten(shipped[branch], axis=None)
        if np.asarray(one).dtype.kind == "f":
            # The last bit of a sine depends on the processor; rarely does it show after the rounding.
            equal = np.asarray(one) == np.asarray(other)
            assert equal.mean() > 0.999, branch
            np.testing.assert_allclose(one, other, rtol=2**-10, err_msg=branch)
        else:
            np.testing.assert_array_equal(one, other, err_msg=branch)


def test_unknown_names_get_the_nearest() -> None:
    with pytest.raises(InputError, match=r"did you mean 'bsgamma_signal\.root'"):
        builtin_path("bsgamma_sginal.root")
    with pytest.raises(InputError, match="did you mean 'bsgamma'"):
        find_sample("bsgama")
    with pytest.raises(AttributeError, match="no attribute 'tracks'"):
        samples.tracks  # noqa: B018


@pytest.mark.usefixtures("pythia")
@pytest.mark.parametrize("name", sorted(GENERATORS))
def test_every_registered_sample_can_generate(name: str, tmp_path: Path) -> None:
    if name == "jets" and importlib.util.find_spec("fastjet") is None:
        pytest.skip("FastJet (extra `samples`) is not installed")
    sample = find_sample(name)
    for process in sample.PROCESSES:
        # What exam scores are counted in are schools.
        size = {"groups" if name == "exam-scores" else "events": 10}
        made = sample.generate(process, out=tmp_path / f"{process}.root", seed=1, **size)
        assert made.events == 10
        assert made.out.exists()
        assert made.cutflow
        assert read_provenance(made.out)["process"] == process


def test_public_names_cost_neither_pythia_nor_the_halves() -> None:
    code = (
        "import sys, hepdecorr.samples as s\n"
        "assert s.builtin() and s.GENERATORS\n"
        "print(*{m.split('.')[0] for m in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"pythia8mc", "torch", "coffea", "uproot"} & set(done.stdout.split())
    for name in samples.__all__:
        assert getattr(samples, name) is not None
