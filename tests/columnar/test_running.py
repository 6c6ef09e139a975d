"""Runs: every executor gives the same, every file and chunk is accounted for."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import uproot

from hepdecorr.columnar import attempts
from hepdecorr.columnar.running import Outcome, run
from hepdecorr.columnar.schemas import BsgammaSchema
from hepdecorr.errors import InputError

EXECUTORS = ("iterative", "futures", "dask")


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    from distributed import LocalCluster

    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": "127.0.0.1:0"}
    with LocalCluster(**options, silence_logs=40) as found:
        yield found.scheduler_address


@pytest.fixture
def files(tmp_path: Path, making: ModuleType) -> dict[str, Any]:
    for i in range(3):
        making.write_ntuple(tmp_path / f"f{i}.root", 700 + i, seed=i, start=1000 * i)
    return {
        "sig": {"files": [str(tmp_path / "f0.root")], "metadata": {"label": 1}},
        "bkg": [str(tmp_path / "f1.root"), str(tmp_path / "f2.root")],
    }


def launch(fileset: Any, processor: Any, **options: Any) -> Outcome:
    return run(fileset, processor, **{"schema": BsgammaSchema, "chunksize": 300, **options})


def same(one: Outcome, other: Outcome) -> None:
    assert one.out["n"] == other.out["n"]
    assert one.out["events"] == other.out["events"]
    for dataset in one.out["seen"].axes["dataset"]:
        assert one.out["seen"][dataset, :] == other.out["seen"][dataset, :]
    assert one.report == other.report


# ---- executors


@pytest.mark.parametrize("executor", ["futures", "dask"])
def test_executors_agree(
    files: Any, processors: ModuleType, cluster: str, executor: str, capfd: pytest.CaptureFixture[str]
) -> None:
    alone = launch(files, processors.Count())
    assert alone.out["n"] == {"sig": 700, "bkg": 1403}
    assert alone.report.complete
    assert alone.report.events == {"sig": 700, "bkg": 1403}
    capfd.readouterr()
    scheduler = cluster if executor == "dask" else None
    shared = launch(files, processors.Count(), executor=executor, workers=2, scheduler=scheduler)
    same(alone, shared)
    assert shared.out["processes"].isdisjoint({os.getpid()})
    assert capfd.readouterr().out == ""


def test_dask_makes_and_closes_its_own_cluster(files: Any, processors: ModuleType) -> None:
    import distributed

    found = launch(files, processors.Count(), executor="dask", workers=1)
    assert found.report.complete
    assert found.out["processes"].isdisjoint({os.getpid()})
    with pytest.raises(ValueError, match="No global client"):
        distributed.get_client()


@pytest.mark.parametrize("chunksize", [1, 7, 100, 10_000])
def test_chunking_changes_nothing(
    tmp_path: Path, making: ModuleType, processors: ModuleType, chunksize: int
) -> None:
    path = str(making.write_ntuple(tmp_path / "a.root", 30))
    whole, parts = (launch({"a": [path]}, processors.Count(), chunksize=c) for c in (30, chunksize))
    same(whole, parts)


def test_progress_is_shown_on_request(
    files: Any, processors: ModuleType, capfd: pytest.CaptureFixture[str]
) -> None:
    launch(files, processors.Count())
    assert capfd.readouterr().out == ""
    launch(files, processors.Count(), progress=True)
    assert "Processing" in capfd.readouterr().out


def test_unknown_executors_and_schedulers(files: Any, processors: ModuleType) -> None:
    with pytest.raises(InputError, match="no executor 'condor'; there are iterative, futures, dask"):
        launch(files, processors.Count(), executor="condor")
    with pytest.raises(InputError, match="no Dask scheduler answers at nonsense"):
        launch(files, processors.Count(), executor="dask", scheduler="nonsense://x")
    with pytest.raises(InputError, match="no files"):
        launch({"a": []}, processors.Count())


# ---- bad files


def damage(path: Path, making: ModuleType, kind: str) -> Path:
    """A file of 700 events that is bad in one way."""
    making.write_ntuple(
        path,
        700,
        without=("Bcand_mbc",) if kind == "branch" else (),
        tree="Other" if kind == "tree" else "Events",
    )
    content = bytearray(path.read_bytes())
    with uproot.open(path) as file:
        tree = file[file.keys()[0]]
        basket = tree["Bcand_deltaE" if kind == "branch" else "Bcand_mbc"].member("fBasketSeek")[1]
    changed: dict[str, Callable[[], bytes]] = {
        "empty": lambda: b"",
        "not ROOT": lambda: b"not a root file at all " * 50,
        "header": lambda: bytes(content[:60]),
        "directory": lambda: bytes(content[:300]),
        "cut": lambda: bytes(content[: basket + 100]),
        "basket": lambda: bytes(content[: basket + 70]) + b"\xa5" * 300 + bytes(content[basket + 370 :]),
        "zeros": lambda: bytes(content[:basket]) + b"\0" * 300 + bytes(content[basket + 300 :]),
    }
    if kind == "absent":
        path.unlink()
    elif kind in changed:
        path.write_bytes(changed[kind]())
    return path


# kind: what is said, events lost (None where nobody can know), in chunks of 350
BAD = {
    "absent": ("there is no such file", None),
    "empty": ("it is empty \\(0 bytes\\)", None),
    "not ROOT": ("it is not a ROOT file", None),
    "header": ("it is truncated or damaged", None),
    "directory": ("it is truncated or damaged", None),
    "cut": ("it is truncated or damaged", 700),
    "tree": ("it has no tree 'Events'; it has 'Other;1'", None),
    "basket": ("it is truncated or damaged", 700),
    "zeros": ("it is truncated or damaged", 700),
    "branch": ("a branch is missing: no field", 700),
}


@pytest.mark.parametrize("kind", sorted(BAD))
def test_a_bad_file_stops_the_run_by_name(
    tmp_path: Path, making: ModuleType, processors: ModuleType, kind: str
) -> None:
    bad = damage(tmp_path / "bad.root", making, kind)
    good = making.write_ntuple(tmp_path / "good.root")
    with pytest.raises(InputError, match=f"bad.root \\(dataset 'a'\\): {BAD[kind][0]}") as caught:
        launch({"a": [str(good), str(bad)]}, processors.Count())
    assert "skip_bad_files: true" in str(caught.value)
    assert "good.root" not in str(caught.value)


@pytest.mark.parametrize("executor", EXECUTORS)
def test_bad_files_are_skipped_and_listed(
    tmp_path: Path, making: ModuleType, processors: ModuleType, cluster: str, executor: str, caplog: Any
) -> None:
    good = making.write_ntuple(tmp_path / "good.root", 500)
    none = making.write_ntuple(tmp_path / "none.root", 0)
    paths = [str(damage(tmp_path / f"{k}.root", making, k)) for k in BAD]
    fileset = {"a": [*paths[:5], str(good), str(none), *paths[5:]]}
    options = {"scheduler": cluster} if executor == "dask" else {}
    found = launch(
        fileset, processors.Count(), executor=executor, skip_bad_files=True, chunksize=350, **options
    )
    report = found.report
    assert not report.complete
    assert found.out["events"] == sorted({*range(500)} | set(found.out["events"]))
    assert report.events_processed == len(found.out["events"]) == report.events["a"]
    listed = {Path(u["file"]).stem: u for u in report.unreadable}
    assert set(listed) == set(BAD)
    for kind, (reason, lost) in BAD.items():
        import re

        assert re.search(reason, listed[kind]["reason"]), kind
        assert listed[kind]["dataset"] == "a"
        # a file that opens loses the chunks that cannot be read, and only those
        assert listed[kind]["events"] == lost or (lost and listed[kind]["events"] in (350, lost))
        assert Path(listed[kind]["file"]).name in report.summary()
    lost = sum(u["events"] for u in report.unreadable if u["events"])
    assert report.events_expected == report.events_processed + lost
    assert sum(c["stop"] - c["start"] for c in report.missing_chunks) == lost
    assert json.loads(json.dumps(report.to_dict()))["complete"] is False
    assert "files are bad" in caplog.text


def test_when_no_file_is_left(tmp_path: Path, making: ModuleType, processors: ModuleType) -> None:
    for kinds in (["empty", "tree"], ["branch"]):
        paths = [str(damage(tmp_path / f"{k}.root", making, k)) for k in kinds]
        with pytest.raises(
            InputError, match=f"none of the {len(kinds)} files could be used(?s:.*){kinds[-1]}.root"
        ):
            launch({"a": paths}, processors.Count(), skip_bad_files=True)


def test_remote_files_are_tried_again(processors: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(attempts.time, "sleep", pauses.append)
    with pytest.raises(InputError, match=r"https://localhost:1/x.root .*: it cannot be reached or read"):
        launch({"a": ["https://localhost:1/x.root"]}, processors.Count())
    assert len(pauses) == 2


@pytest.mark.parametrize("skip", [True, False])
def test_what_is_not_installed_is_no_bad_file(
    tmp_path: Path, making: ModuleType, processors: ModuleType, monkeypatch: pytest.MonkeyPatch, skip: bool
) -> None:
    def absent(*args: Any, **options: Any) -> Any:
        raise ImportError("install fsspec-xrootd")

    good = making.write_ntuple(tmp_path / "good.root")
    monkeypatch.setattr(uproot, "open", absent)
    with pytest.raises(InputError, match=r"good.root \(dataset 'a'\): ImportError: install fsspec-xrootd$"):
        launch({"a": [str(good)]}, processors.Count(), skip_bad_files=skip)


def test_many_bad_files_are_named_in_short(tmp_path: Path, processors: ModuleType) -> None:
    paths = [str(tmp_path / f"absent{i}.root") for i in range(9)]
    with pytest.raises(InputError, match=r"(?s)absent0.root.*absent4.root.*and 4 more files") as caught:
        launch({"a": paths}, processors.Count())
    assert "absent5" not in str(caught.value)


def test_files_without_events_are_fine(tmp_path: Path, making: ModuleType, processors: ModuleType) -> None:
    path = making.write_ntuple(tmp_path / "none.root", 0)
    found = launch({"a": [str(path)]}, processors.Count())
    assert found.out["n"] == {"a": 0}
    assert found.report.complete
    assert found.report.events == {"a": 0}


def test_a_file_that_lacks_what_the_schema_needs(
    tmp_path: Path, making: ModuleType, processors: ModuleType
) -> None:
    path = making.write_ntuple(tmp_path / "bad.root", without=("event", "run"))
    with pytest.raises(
        InputError, match=r"bad.root \(dataset 'a'\): .*missing event ID fields: \['run', 'event'\]"
    ):
        launch({"a": [str(path)]}, processors.Count())


def test_a_changed_file_is_looked_at_again(
    tmp_path: Path, making: ModuleType, processors: ModuleType
) -> None:
    for n in (20, 30):
        path = making.write_ntuple(tmp_path / "a.root", n)
        assert launch({"a": [str(path)]}, processors.Count()).out["n"] == {"a": n}


# ---- failures that are not the file's


@pytest.mark.parametrize(
    ("executor", "how", "skip"),
    [
        *[("iterative", how, skip) for how in ("model", "bug", "input") for skip in (True, False)],
        *[("dask", how, True) for how in ("model", "bug", "input")],
        ("futures", "model", True),
    ],
)
def test_failures_of_the_processor_are_never_skipped(
    tmp_path: Path, files: Any, processors: ModuleType, cluster: str, executor: str, how: str, skip: bool
) -> None:
    options: dict[str, Any] = {"scheduler": cluster} if executor == "dask" else {}
    processor = processors.Failing(how, tmp_path / "log")
    expected, message = {
        "model": (
            RuntimeError,
            r"f\d.root \(dataset .*\), events \d+ to \d+: .*(?s:.*)No such file.*nowhere",
        ),
        "bug": (RuntimeError, r"the processor failed on .*f\d.root(?s:.*)in process(?s:.*)a slip of the pen"),
        "input": (InputError, r"f\d.root \(dataset .*\), events \d+ to \d+: feature 'x': 3 of 7 values"),
    }[how]
    with pytest.raises(expected, match=message):
        launch(files, processor, executor=executor, skip_bad_files=skip, **options)
    if executor == "iterative":
        # at once, and without trying again
        assert (tmp_path / "log").read_text() == "chunk\n"


@pytest.mark.parametrize("how", ["branch", "attribute"])
def test_a_branch_that_no_file_has(tmp_path: Path, files: Any, processors: ModuleType, how: str) -> None:
    with pytest.raises(InputError, match=r"f0.root \(dataset 'sig'\): a branch is missing: .*[nN]othing"):
        launch(files, processors.Failing(how, tmp_path / "log"))


# ---- checkpoints


SCRIPT = """
import sys
from pathlib import Path
from coffea.nanoevents import BaseSchema
from hepdecorr.catalogue import load_file
from hepdecorr.columnar import attempts
from hepdecorr.columnar.running import run
from hepdecorr.columnar.schemas import BsgammaSchema

if __name__ == "__main__":
    code, data, log, kept, executor = sys.argv[1:6]
    processors = load_file(code)
    processor = {made}
    run({{"a": [data]}}, processor, schema=BsgammaSchema, chunksize=100, executor=executor, workers=2,
        checkpoints=Path(kept), fingerprint="one")
"""


def test_a_killed_run_goes_on_where_it_stood(
    tmp_path: Path, making: ModuleType, processors: ModuleType, code: Path
) -> None:
    data = making.write_ntuple(tmp_path / "a.root", 1000)
    script, log, kept = tmp_path / "killed.py", tmp_path / "log", tmp_path / "kept"
    script.write_text(SCRIPT.format(made="processors.Logging(log, killed_at=400)"))
    command = [
        sys.executable,
        str(script),
        str(code / "my_processors.py"),
        str(data),
        str(log),
        str(kept),
        "iterative",
    ]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert log.read_text().split() == ["0", "100", "200", "300", "400"]

    log.unlink()
    options = {"chunksize": 100, "checkpoints": kept, "fingerprint": "one"}
    resumed = launch({"a": [str(data)]}, processors.Logging(log), **options)
    assert log.read_text().split() == ["400", "500", "600", "700", "800", "900"]
    same(resumed, launch({"a": [str(data)]}, processors.Count(), chunksize=100))

    log.unlink()
    damaged = min(kept.rglob("*.zip"))
    damaged.write_bytes(damaged.read_bytes()[:50])
    same(resumed, launch({"a": [str(data)]}, processors.Logging(log), **options))
    assert len(log.read_text().split()) == 1

    log.unlink()
    launch({"a": [str(data)]}, processors.Logging(log), **{**options, "fingerprint": "two"})
    assert len(log.read_text().split()) == 10


def test_interrupting_a_run_does_not_wait_for_its_chunks(
    tmp_path: Path, making: ModuleType, code: Path
) -> None:
    data = making.write_ntuple(tmp_path / "a.root", 1000)
    script, log = tmp_path / "slow.py", tmp_path / "log"
    script.write_text(SCRIPT.format(made="processors.Failing('sleep', log)"))
    command = [
        sys.executable,
        str(script),
        str(code / "my_processors.py"),
        str(data),
        str(log),
        str(tmp_path / "kept"),
        "futures",
    ]
    said = tmp_path / "stderr"
    with said.open("w") as stderr:
        # Tests that run in the background of a shell ignore interrupts, and so would what they start.
        process = subprocess.Popen(
            command,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
        )
        deadline = time.monotonic() + 60
        while not log.exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        begin = time.monotonic()
        # Python drops an interrupt that arrives within a finaliser: one presses Ctrl-C again.
        while process.poll() is None and time.monotonic() < begin + 30:
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=5)
        process.kill()
        process.wait()
    assert log.exists()
    assert "KeyboardInterrupt" in said.read_text()
    assert process.returncode != 0
    assert time.monotonic() - begin < 20  # ten chunks would sleep for five minutes


def test_checkpoints_want_a_fingerprint(files: Any, processors: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="fingerprint"):
        launch(files, processors.Count(), checkpoints=tmp_path)
