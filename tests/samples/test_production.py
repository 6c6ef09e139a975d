"""Files: the same for any number of workers, whole or absent, and able to tell how they were made."""

from __future__ import annotations

import os
import signal as signals
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot

from hepdecorr.errors import InputError
from hepdecorr.samples import read_provenance
from hepdecorr.samples.bsgamma import Options, Summary, generate, luminosity_block, production, regenerate
from hepdecorr.samples.jobs import PYTHIA_SEEDS, ordered, seeds

pytestmark = pytest.mark.usefixtures("pythia")

Load = Callable[[Path], ak.Array]

EVENT_TYPES = {
    "uint32_t": ["run", "luminosityBlock"],
    "uint64_t": ["event"],
    "int32_t": [
        *["label", "genFlavour", "Bcand_mult", "Bcand_kIdx", "Bcand_piIdx", "Bcand_gIdx", "nTrack", "nPhoton"]
    ],
    "bool": ["Bcand_isMatched"],
    "float": [
        *["genWeight", "Beam_EStar", "Beam_sqrtS", "Beam_boostX", "Beam_boostY", "Beam_boostZ"],
        *["Bcand_pt", "Bcand_eta", "Bcand_phi", "Bcand_mass", "Bcand_mbc", "Bcand_mbcCorr", "Bcand_deltaE"],
        *["Bcand_pStar", "Bcand_mKst", "Bcand_EgStar", "Bcand_mPi0", "Bcand_mEta"],
    ],
    "float[]": [
        *["Track_pt", "Track_eta", "Track_phi", "Track_mass"],
        *["Photon_pt", "Photon_eta", "Photon_phi", "Photon_mass"],
    ],
    "int32_t[]": ["Track_charge", "Track_pdgId", "Track_genPdgId", "Track_genMother", "Photon_genMother"],
    "bool[]": ["Track_fromCand", "Photon_fromCand"],
}


def assert_equal(one: ak.Array, other: ak.Array) -> None:
    assert one.fields == other.fields
    assert len(one) == len(other)
    for name in one.fields:
        assert ak.array_equal(one[name], other[name], dtype_exact=True), name


def make(out: Path, process: str = "signal", **arguments: Any) -> Summary:
    return generate(process, out=out, **{"seed": 3, "job_events": 300, **arguments})


@pytest.mark.parametrize("process", ["signal", "continuum"])
def test_branches_and_types(process: str, request: pytest.FixtureRequest) -> None:
    with uproot.open(request.getfixturevalue(f"{process}_file")) as file:
        assert file.classnames()["Events;1"] == "TTree"
        found = {branch.name: branch.typename for branch in file["Events"].branches}
        counters = {branch.name: branch.title for branch in file["Events"].branches}
    assert found == {name: kind for kind, names in EVENT_TYPES.items() for name in names}
    assert counters["Track_pt"] == "Track_pt[nTrack]/F"
    assert counters["Photon_fromCand"] == "Photon_fromCand[nPhoton]/O"


@pytest.mark.parametrize(
    ("process", "asked"),
    [("signal", {"events": 1000}), ("signal", {"candidates": 700}), ("continuum", {"candidates": 8})],
)
def test_the_file_is_the_same_for_any_number_of_workers(
    process: str, asked: dict[str, int], tmp_path: Path, load: Load
) -> None:
    one = make(tmp_path / "one.root", process, workers=1, **asked)
    two = make(tmp_path / "two.root", process, workers=2, **asked)
    assert one.jobs == two.jobs > 2
    assert one.cutflow == two.cutflow
    assert_equal(load(one.out), load(two.out))
    assert read_provenance(one.out) == read_provenance(two.out)


def test_every_job_can_be_made_again_alone(tmp_path: Path, load: Load) -> None:
    made = make(tmp_path / "s.root", candidates=600)
    events = load(made.out)
    parts = [regenerate(made.out, job) for job in range(1, made.jobs + 1)]
    assert made.jobs >= 3
    assert_equal(ak.concatenate(parts), events)
    for job, part in enumerate(parts, start=1):
        assert set(part.luminosityBlock.tolist()) == {luminosity_block(3, job)}
    # Other events in each: no two candidates of a file are the same.
    assert len(set(events.Bcand_mbc.tolist())) > 0.99 * len(events)
    with pytest.raises(InputError, match=f"no job {made.jobs + 1}; it has jobs 1 to {made.jobs}"):
        regenerate(made.out, made.jobs + 1)
    with pytest.raises(InputError, match="no job 0"):
        regenerate(made.out, 0)


def test_a_job_of_a_compact_file_can_be_made_again(tmp_path: Path, load: Load) -> None:
    plain = make(tmp_path / "plain.root", events=500)
    small = make(tmp_path / "small.root", events=500, options=Options(compact=True))
    events, rounded = load(plain.out), load(small.out)
    assert_equal(regenerate(small.out, 2), rounded[rounded.luminosityBlock == luminosity_block(3, 2)])
    # Same events, fewer digits, fewer bytes; M_bc keeps every bit.
    assert_equal(
        events[["event", "Bcand_mbc", "Track_pdgId"]], rounded[["event", "Bcand_mbc", "Track_pdgId"]]
    )
    np.testing.assert_allclose(ak.flatten(rounded.Track_pt), ak.flatten(events.Track_pt), rtol=2**-13)
    assert not ak.all(rounded.Track_pt == events.Track_pt)
    assert small.out.stat().st_size < 0.85 * plain.out.stat().st_size


def test_candidates_stop_at_exactly_that_many(tmp_path: Path, load: Load) -> None:
    some = make(tmp_path / "some.root", candidates=250)
    all_of_it = make(tmp_path / "all.root", events=600)
    assert some.candidates == 250 == some.cutflow["M_bc"]
    events = load(some.out)
    assert_equal(events, load(all_of_it.out)[:250])
    # The events behind the file end with its last candidate: 250 per `events` is the efficiency.
    full_jobs = int(events.luminosityBlock[-1] - luminosity_block(3, 1))
    assert some.events == full_jobs * 300 + int(events.event[-1]) + 1
    assert read_provenance(some.out)["generated"] == some.events


def test_events_are_unique_and_seeds_do_not_overlap(signal_file: Path, tmp_path: Path, load: Load) -> None:
    def keys(path: Path) -> set[tuple[int, int, int]]:
        events = load(path)
        found = set(
            zip(*(events[name].tolist() for name in ("run", "luminosityBlock", "event")), strict=True)
        )
        assert len(found) == len(events)
        return found

    one = make(tmp_path / "one.root", events=600)
    other = make(tmp_path / "other.root", events=600, seed=4)
    background = make(tmp_path / "background.root", "continuum", events=2000, job_events=1000)
    assert not keys(one.out) & keys(other.out)
    assert not keys(one.out) & keys(background.out)
    assert not keys(one.out) & keys(signal_file)
    assert ak.sum(load(one.out).Bcand_mbc) != ak.sum(load(other.out).Bcand_mbc)


def test_seeds_of_jobs_differ() -> None:
    drawn = {seeds(s, stream=p, job=j)[0] for s in (1, 2) for p in (1, 2) for j in range(200)}
    assert len(drawn) == 800
    assert min(drawn) >= 1
    assert max(drawn) <= PYTHIA_SEEDS
    numbers = {seeds(s, stream=p, job=j)[1].random() for s in (1, 2) for p in (1, 2) for j in range(20)}
    assert len(numbers) == 80
    assert seeds(5, stream=1, job=7)[0] == seeds(5, stream=1, job=7)[0]


def test_summary_and_provenance_tell_the_same(tmp_path: Path, load: Load) -> None:
    seen: list[int] = []
    options = Options(de_max=0.3, mkst_window=0.2, kaon_id=True)
    made = make(tmp_path / "s.root", events=700, options=options, progress=seen.append)
    assert seen == [300, 600, 700]
    told = read_provenance(made.out)
    assert told["cutflow"] == made.cutflow
    assert told["generated"] == told["sumw"] == made.events == 700
    assert told["options"]["de_max"] == 0.3
    assert told["asked"] == {"events": 700, "candidates": None, "job_events": 300}
    assert (told["process"], told["seed"]) == ("signal", 3)
    assert {"hepdecorr", "pythia8mc", "numpy"} <= set(told["versions"])
    assert any("9000313" in line for line in told["pythia"])
    stages = list(made.cutflow.values())
    assert stages == sorted(stages, reverse=True)
    assert sum(told["candidates_per_job"]) == made.candidates == stages[-1] == len(load(made.out))
    assert made.seconds > 0


def test_options_act_on_the_sample(tmp_path: Path, load: Load) -> None:
    loose = load(make(tmp_path / "loose.root", "continuum", events=12_000, job_events=12_000).out)
    tight = load(
        make(
            tmp_path / "tight.root",
            "continuum",
            events=12_000,
            job_events=12_000,
            options=Options(de_max=0.2, mkst_window=0.3, mbc_min=5.22),
        ).out
    )
    assert 0 < len(tight) < 0.5 * len(loose)
    assert ak.max(abs(tight.Bcand_deltaE)) < 0.2
    assert ak.max(abs(tight.Bcand_mKst - 0.896)) < 0.3
    assert ak.min(tight.Bcand_mbc) > 5.22
    assert ak.min(loose.Bcand_mbc) > 5.2 > ak.min(loose.Bcand_mbcCorr)


def test_no_candidates_make_an_empty_tree(tmp_path: Path, load: Load) -> None:
    made = make(tmp_path / "none.root", "continuum", events=5)
    events = load(made.out)
    assert made.candidates == len(events) == 0
    assert set(events.fields) == {name for names in EVENT_TYPES.values() for name in names}
    assert len(regenerate(made.out, 1)) == 0


@pytest.mark.parametrize(
    ("process", "arguments", "message"),
    [
        ("signal", {"events": 0}, "events must be above 0, not 0"),
        ("signal", {"candidates": -3}, "candidates must be above 0, not -3"),
        ("signal", {"events": 5, "workers": 0}, "workers must be above 0"),
        ("signal", {"events": 5, "job_events": 0}, "job_events must be above 0"),
        ("signal", {"events": 5, "seed": -1}, "seed must not be negative"),
        ("signal", {}, "either the events"),
        ("signal", {"events": 5, "candidates": 5}, "either the events"),
        ("signal", {"events": 10**9, "job_events": 10}, "give larger job_events"),
        ("continum", {"events": 5}, "no process 'continum'; did you mean 'continuum'"),
    ],
)
def test_bad_arguments_are_named(
    process: str, arguments: dict[str, int], message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        make(tmp_path / "x.root", process, **arguments)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(InputError, match=r"file.x\.root: cannot be written"):
        make(tmp_path / "file" / "x.root", events=5)
    with pytest.raises(InputError, match="is a folder"):
        make(tmp_path, events=5)


def test_without_pythia_the_message_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pythia8mc", None)
    with pytest.raises(InputError, match=r"pip install 'hepdecorr\[samples\]'"):
        make(tmp_path / "x.root", events=5)
    monkeypatch.setitem(sys.modules, "pythia8mc", SimpleNamespace(Pythia=object))
    with pytest.raises(InputError, match=r"older than 8\.314: pip install"):
        make(tmp_path / "x.root", events=5)
    assert not list(tmp_path.iterdir())


def test_a_failure_keeps_the_file_that_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "x.root"
    out.write_text("the earlier sample")

    def fails(*args: object, **kwargs: object) -> None:
        raise RuntimeError("no more events")

    monkeypatch.setattr(production, "find_candidates", fails)
    with pytest.raises(RuntimeError, match="no more events"):
        make(out, events=50)
    assert out.read_text() == "the earlier sample"
    assert [path.name for path in tmp_path.iterdir()] == ["x.root"]


def test_a_killed_run_leaves_no_file(tmp_path: Path) -> None:
    code = (
        "from hepdecorr.samples.bsgamma import generate\n"
        f"generate('signal', out={str(tmp_path / 'x.root')!r}, events=10**7, seed=1, job_events=200,"
        " progress=lambda n: print(n, flush=True))"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == "200\n"
        run.send_signal(signals.SIGKILL)
    assert not list(tmp_path.glob("*.root"))


def test_provenance_of_other_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_provenance(tmp_path / "absent.root")
    (tmp_path / "text.root").write_text("hello")
    with pytest.raises(InputError, match="not a readable ROOT file"):
        read_provenance(tmp_path / "text.root")
    (tmp_path / "empty.root").touch()
    with pytest.raises(InputError, match="not a readable ROOT file"):
        read_provenance(tmp_path / "empty.root")
    with uproot.recreate(tmp_path / "other.root") as file:
        file["Events"] = "something"
    with pytest.raises(InputError, match="not made by `hepdecorr generate`"):
        read_provenance(tmp_path / "other.root")
    with uproot.recreate(tmp_path / "jets.root") as file:
        file["hepdecorr_provenance"] = '{"sample": "jets", "version": 1}'
    with pytest.raises(InputError, match="not a bsgamma sample"):
        regenerate(tmp_path / "jets.root", 1)


def slow_square(number: int) -> int:
    time.sleep(0.3 if number == 0 else 0.0)
    return number * number


def dies(number: int) -> int:
    os._exit(1)


def test_results_come_in_order_and_lazily() -> None:
    started: list[int] = []

    def endless() -> Any:
        for number in range(10**9):
            started.append(number)
            yield number

    results = ordered(slow_square, endless(), workers=2)
    assert [next(results) for _ in range(4)] == [0, 1, 4, 9]
    results.close()
    assert len(started) < 10


def test_a_dead_worker_is_reported() -> None:
    with pytest.raises(InputError, match="a worker process died"):
        list(ordered(dies, range(3), workers=2))
