"""Files of collisions: the same for any number of workers, read by coffea, errors that help."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot

from hepdecorr.cli.main import main
from hepdecorr.errors import InputError
from hepdecorr.samples import find_sample, hbb, hmumu, read_provenance
from hepdecorr.samples.lhc.generation import Options

Load = Callable[[Path], ak.Array]

EVENT = {"run": "uint32_t", "luminosityBlock": "uint32_t", "event": "uint64_t", "genWeight": "float"}
EVENT |= {"PuppiMET_pt": "float", "PuppiMET_phi": "float", "nJet": "int32_t"}
FLOATS = dict.fromkeys(("pt", "eta", "phi", "mass"), "float[]")
JET = FLOATS | {"nConstituents": "int32_t[]", "hadronFlavour": "int32_t[]"}
MUON = FLOATS | {"pfRelIso04_all": "float[]", "charge": "int32_t[]", "mediumId": "bool[]"}


def make(sample: Any, process: str, out: Path, **arguments: Any) -> Any:
    given = {"seed": 3, "job_events": 40, "options": Options(mpi=False), **arguments}
    return sample.generate(process, out=out, **given)


def assert_equal(one: ak.Array, other: ak.Array) -> None:
    assert one.fields == other.fields
    for name in one.fields:
        assert ak.array_equal(one[name], other[name], dtype_exact=True), name


def test_branches_of_nanoaod(collisions: dict[str, Path]) -> None:
    for process, jet, more in (
        ("zh", JET | {"btagged": "bool[]"}, {}),
        ("signal", JET, {"nMuon": "int32_t"} | {f"Muon_{k}": v for k, v in MUON.items()}),
    ):
        with uproot.open(collisions[process]) as file:
            found = {branch.name: branch.typename for branch in file["Events"].branches}
        assert found == EVENT | {f"Jet_{k}": v for k, v in jet.items()} | more


def test_coffea_reads_them_as_nanoaod(collisions: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    from coffea.nanoevents import NanoAODSchema, NanoEventsFactory

    monkeypatch.setattr(NanoAODSchema, "warn_missing_crossrefs", False)
    events = NanoEventsFactory.from_root(
        {str(collisions["signal"]): "Events"}, schemaclass=NanoAODSchema, mode="virtual"
    ).events()
    pair = events.Muon[:, 0] + events.Muon[:, 1]
    assert np.median(pair.mass) == pytest.approx(125, abs=1)
    assert ak.all(events.Muon.charge[:, 0] * events.Muon.charge[:, 1] != 0)


# zbb: with the hook that looks for a b before the shower.
@pytest.mark.usefixtures("generators")
@pytest.mark.parametrize(("sample", "process"), [(hbb, "zbb"), (hmumu, "dy")], ids=["hbb", "hmumu"])
def test_the_file_is_the_same_for_any_number_of_workers(
    sample: Any, process: str, tmp_path: Path, load: Load
) -> None:
    one = make(sample, process, tmp_path / "one.root", candidates=20, workers=1, job_events=150)
    two = make(sample, process, tmp_path / "two.root", candidates=20, workers=2, job_events=150)
    assert one.cutflow == two.cutflow
    assert one.stored == two.stored == 20
    assert_equal(load(one.out), load(two.out))
    assert read_provenance(one.out) == read_provenance(two.out)


@pytest.mark.usefixtures("generators")
def test_jobs_can_be_made_again_and_seeds_are_apart(tmp_path: Path, load: Load) -> None:
    made = make(hmumu, "signal", tmp_path / "one.root", candidates=40)
    assert made.jobs >= 2
    events = load(made.out)
    again = ak.concatenate([hmumu.regenerate(made.out, job) for job in range(1, made.jobs + 1)])
    assert_equal(again, events)
    assert set(events.luminosityBlock.tolist()) == {
        hmumu.luminosity_block(3, job) for job in range(1, made.jobs + 1)
    }
    other = load(make(hmumu, "signal", tmp_path / "other.root", candidates=10, seed=4).out)
    assert not set(events.Muon_pt[:, 0].tolist()) & set(other.Muon_pt[:, 0].tolist())
    assert not set(events.luminosityBlock.tolist()) & set(other.luminosityBlock.tolist())
    with pytest.raises(InputError, match=f"no job {made.jobs + 1}; it has jobs 1 to {made.jobs}"):
        hmumu.regenerate(made.out, made.jobs + 1)
    with pytest.raises(InputError, match="not a sample of hbb"):
        hbb.regenerate(made.out, 1)


@pytest.mark.usefixtures("generators")
def test_an_interrupted_generation_goes_on(tmp_path: Path, load: Load) -> None:
    whole = make(hmumu, "signal", tmp_path / "whole.root", events=90, job_events=30)

    def interrupt(done: int) -> None:
        if done >= 60:
            raise KeyboardInterrupt

    out = tmp_path / "again.root"
    with pytest.raises(KeyboardInterrupt):
        make(hmumu, "signal", out, events=90, job_events=30, progress=interrupt)
    assert not out.exists()
    (folder,) = tmp_path.glob(".again.root.*.jobs")
    kept = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert sorted(kept) == ["1.npz", "2.npz"]
    damaged = folder / "1.npz"
    sound = damaged.read_bytes()
    damaged.write_bytes(sound[:200])
    with pytest.raises(InputError, match=r"1\.npz: not a readable job .*; delete it to generate it anew"):
        make(hmumu, "signal", out, events=90, job_events=30)
    damaged.write_bytes(sound)
    seen: list[int] = []
    # Another request does not take them for its own.
    other = make(hmumu, "signal", tmp_path / "other.root", events=60, job_events=30, seed=9)
    again = make(hmumu, "signal", out, events=90, job_events=30, progress=seen.append)
    assert again.cutflow == whole.cutflow
    assert_equal(load(out), load(whole.out))
    assert not ak.array_equal(load(out)[: other.stored].Muon_pt, load(other.out).Muon_pt)
    assert not list(tmp_path.glob(".*"))


@pytest.mark.usefixtures("generators")
def test_multiparton_interactions_can_be_had(tmp_path: Path, load: Load) -> None:
    made = make(hmumu, "dy", tmp_path / "mpi.root", events=12, options=None)
    told = read_provenance(made.out)
    assert told["options"] == {"mpi": True}
    assert made.cutflow["generated"] == 12
    assert len(load(made.out)) == made.stored


@pytest.mark.usefixtures("generators")
@pytest.mark.parametrize(
    ("sample", "process", "arguments", "message"),
    [
        ("hbb", "zbbb", {"events": 5}, "hbb has no process 'zbbb'; did you mean 'zbb'"),
        ("hmumu", "signal", {}, "either the events to generate or the candidates to store"),
        ("hmumu", "dy", {"candidates": 0}, "candidates must be above 0, not 0"),
        ("hbb", "zz", {"events": 5, "workers": 0}, "workers must be above 0"),
        ("hbb", "zh", {"events": 5, "seed": -1}, "seed must not be negative"),
    ],
)
def test_arguments_out_of_range(
    sample: str, process: str, arguments: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        make(find_sample(sample), process, tmp_path / "x.root", **arguments)
    assert not list(tmp_path.iterdir())


def command(*words: str, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["hepdecorr", "generate", *words])
    with pytest.raises(SystemExit) as left:
        main()
    return int(left.value.code or 0)


@pytest.mark.usefixtures("generators")
def test_the_commands_make_files_and_say_what_is_in_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], load: Load
) -> None:
    words = ["hmumu", "--events", "25", "--no-mpi", "--seed", "7", "--out", str(tmp_path)]
    assert command(*words, monkeypatch=monkeypatch) == 0
    told = capfd.readouterr().out
    for process in ("signal", "dy"):
        assert len(load(tmp_path / f"hmumu_{process}.root")) > 0
    assert "two opposite muons" in told
    one = str(tmp_path / "zh.root")
    words = ["hbb", "--process", "zh", "--candidates", "3", "--no-mpi", "--out", one]
    assert command(*words, monkeypatch=monkeypatch) == 0
    assert "3 candidates from" in capfd.readouterr().out


@pytest.mark.usefixtures("generators")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["hbb", "--process", "z", "--events", "5"], "hbb has no process 'z'"),
        (["hmumu", "--events", "5", "--out", "x.root"], "one file holds one process"),
        (["hmumu", "--process", "dy"], "give either the events to generate or the candidates to store"),
    ],
)
def test_the_commands_explain_errors(
    words: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert command(*words, monkeypatch=monkeypatch) == 2
    told = capfd.readouterr().err
    assert message in " ".join(told.split())
    assert "Traceback" not in told
    assert not list(tmp_path.rglob("*.root"))
