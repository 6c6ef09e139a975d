"""Runs with a hidden shift, from ROOT files to scores: two passes by command and by one's own hand."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uproot
from rich.console import Console

import hepdecorr.columnar
from hepdecorr import OnnxTagger, Table
from hepdecorr.cli import comparison, grouping, measuring, scan, show
from hepdecorr.cli.steps import Analysis
from hepdecorr.columnar.groups import GroupCodes
from hepdecorr.columnar.scoring import table_codes, table_logits
from hepdecorr.config import Config, load
from hepdecorr.errors import InputError
from hepdecorr.sums import GroupSums
from hepdecorr.table import Selection

HERE = Path(__file__).parent
YAML = """
name: runs
groups: {of: run}
samples:
  schema: BaseSchema
  datasets:
    b: {files: ["b_*.root"], label: background}
    s: {files: ["s_*.root"], label: signal}
nuisances:
  mass: {low: -3, high: 3}
  shift: {low: -6, high: 6, protected: false}
features: [x, y]
split: {folds: 6, validation: [0], test: [1, 2, 3]}
working_points: [0.5, 0.9]
running: {chunksize: 170}
training: {device: cpu}
shifts: {up: "shifts.py:up"}
processors:
  table: PROCESSORS/training_table.py:TrainingTable
  evaluate: PROCESSORS/sculpting.py:Sculpting
  groups: PROCESSORS/group_codes.py:FirstPass
taggers:
  told:
    type: Contextual
    representation:
      latents: {group: 1, instance: 2}
      group_encoder: {type: Mean, hidden: [16]}
      training: {epochs: 4, batch: 200}
    network: {type: MLP, hidden: [8]}
    training: {epochs: 4, batch: 200, average: 0.0}
"""
SHIFTS = "import awkward as ak\ndef up(events):\n    return ak.with_field(events, events['x'] + 0.5, 'x')\n"


def made(rows: int, *, seed: int, signal: bool) -> dict[str, np.ndarray]:
    """Events of 60 runs; a run shifts x and y of all its events together, and signal differs in x by one."""
    draw = np.random.default_rng(seed)
    run = draw.integers(0, 60, rows)
    shift = np.random.default_rng(0).normal(size=60)[run] * 2
    mass = draw.normal(size=rows)
    x = shift + signal + 0.5 * draw.normal(size=rows) + 0.2 * mass
    found = {"run": (run * 1000 + 300_001).astype("u4"), "luminosityBlock": np.ones(rows, "u4")}
    found |= {"event": np.arange(rows, dtype="u8") + (10**6 if signal else 0), "x": x.astype("f4")}
    return found | {
        "y": (shift + 0.5 * draw.normal(size=rows)).astype("f4"),
        "mass": mass.astype("f4"),
        "shift": shift.astype("f4"),
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("analysis")
    for k, (name, signal) in enumerate((("b", False), ("s", True))):
        arrays = made(1200, seed=k + 1, signal=signal)
        for part in range(2):  # in no order: each run lies in all four files
            own = {key: values[part::2] for key, values in arrays.items()}
            with uproot.recreate(where / f"{name}_{part}.root") as file:
                file.mktree("Events", {key: v.dtype for key, v in own.items()}).extend(own)
    (where / "shifts.py").write_text(SHIFTS)
    return where


def config(folder: Path, *overrides: str) -> Config:
    text = YAML.replace("PROCESSORS", str(HERE.parent / "processors"))
    (folder / "runs.yaml").write_text(text)
    return load(folder / "runs.yaml", overrides=[f"output={folder / 'out'}", *overrides])


@pytest.fixture(scope="module")
def done(folder: Path) -> tuple[Analysis, str]:
    said = io.StringIO()
    steps = Analysis(config(folder), console=Console(file=said, width=400), only=[])
    steps.check_methods()
    steps.table()
    steps.train()
    steps.evaluate()
    return steps, said.getvalue()


def codes_of(steps: Analysis, name: str = "told-1") -> GroupCodes:
    return GroupCodes.open(steps.output / "evaluation" / "groups" / f"{name}.parquet")


def test_the_first_pass_is_told_of_and_kept(done: Any) -> None:
    steps, said = done
    codes = codes_of(steps)
    table = Table.open(steps.output / "table")
    groups = table.read(["group"], select=Selection("test", steps.config.table_split))["group"]
    ids, counts = np.unique(groups, return_counts=True)
    np.testing.assert_array_equal(codes.ids, ids)
    np.testing.assert_array_equal(codes.counts, counts)
    assert (
        f"evaluate first pass complete: 2,400 of 2,400 events from 4 files; codes of {len(ids)} groups"
        in said
    )
    stamp = json.loads((steps.output / "evaluation" / "groups" / "stamp.json").read_text())
    assert stamp["completeness"]["complete"]
    before = {p: p.stat().st_mtime_ns for p in (steps.output / "evaluation").rglob("*") if p.is_file()}
    steps.evaluate()
    assert before == {p: p.stat().st_mtime_ns for p in before}


def test_codes_of_files_and_of_the_table_are_the_same(done: Any, folder: Path) -> None:
    steps, _ = done
    model, split = steps._models()["told-1"], steps.config.table_split
    tagger, codes = OnnxTagger(model), codes_of(steps)
    table = Table.open(steps.output / "table")
    of_table = table_codes(tagger, table, select=Selection("test", split))
    np.testing.assert_array_equal(codes.mean, of_table.mean)
    np.testing.assert_array_equal(codes.log_var, of_table.log_var)
    scores = Table.open(steps.output / "evaluation" / "scores").read(["told-1", "event"])
    logits = table_logits(tagger, table, select=Selection("test", split))
    events = table.read(["event"], select=Selection("test", split))["event"]
    np.testing.assert_array_equal(scores["told-1"][np.argsort(scores["event"])], logits[np.argsort(events)])
    # By one's own hand, over all events and not those of the test alone.
    fileset = {"all": sorted(str(path) for path in folder.glob("?_*.root"))}
    from coffea.nanoevents import BaseSchema, NanoEventsFactory

    every = hepdecorr.columnar.group_codes(fileset, tagger, schema=BaseSchema, chunksize=333)
    assert len(every) == 60
    test = np.isin(every.ids, codes.ids)  # a fold holds whole runs
    np.testing.assert_array_equal(every.mean[test], codes.mean)
    events = NanoEventsFactory.from_root({fileset["all"][0]: "Events"}, schemaclass=BaseSchema).events()
    logit = dict(zip(scores["event"].tolist(), scores["told-1"].tolist(), strict=True))
    found = zip(np.asarray(events.event).tolist(), tagger.logit(events, groups=every).tolist(), strict=True)
    known = [(logit[event], value) for event, value in found if event in logit]
    assert len(known) > 200
    np.testing.assert_array_equal(*np.array(known).T)


def test_a_shift_leaves_the_codes_as_they_are(done: Any) -> None:
    from hepdecorr.columnar import histograms

    steps, _ = done
    found = histograms.load(steps.output / "evaluation" / "histograms.zip")["mass"]
    passed = [
        found[{"systematic": s, "tagger": "told-1", "category": "pass 0.9", "dataset": "b"}]
        .sum(flow=True)
        .value
        for s in ("nominal", "up")
    ]
    assert passed[1] != passed[0]


def test_groups_are_inspected(done: Any) -> None:
    steps, _ = done
    said = io.StringIO()
    console = Console(file=said, width=200)
    show.inspect(console, steps._models()["told-1"])
    assert "members.onnx, group.onnx" in said.getvalue()
    assert "run; in training " in said.getvalue()
    show.inspect(console, steps.output / "evaluation" / "groups" / "told-1.parquet")
    assert f"{len(codes_of(steps))} groups of run" in said.getvalue()
    assert "code_0" in said.getvalue()


def test_passes_over_different_events_are_refused(
    done: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hepdecorr.cli import codes

    first = {"events": {"b": 10}, "missing_chunks": [], "events_processed": 10}
    codes.check_complete(first, dict(first), again="x")
    with pytest.raises(InputError, match=r"codes of groups come from 10 events and 9 were scored.*; again"):
        codes.check_complete(first, {**first, "events": {"b": 9}, "events_processed": 9}, again="again")


def between(steps: Analysis, config: Config) -> Any:
    scores = Table.open(steps.output / "evaluation" / "scores")
    models = steps._models()
    wanted = [*models, *config.nuisances, "label", "weight", "group"]
    about: dict[str, Any] = {"scores": scores, "console": Console(file=io.StringIO())}
    return grouping.between(config, scores.read(wanted), models, **about)


def test_the_report_sets_codes_against_what_was_hidden(done: Any) -> None:
    steps, _ = done
    found = between(steps, steps.config)
    codes = codes_of(steps)
    # A nuisance that is not protected and the same in each run is taken for what was hidden.
    assert list(found.events.conditions) == ["shift"]
    np.testing.assert_array_equal(found.events.names, codes.ids)
    assert found.notes == []
    assert found.named == "run"
    assert found.titles["shift"] == ("shift", "")
    (one,) = found.recovered["told"]["shift"]
    assert one.fitted_on > 25  # so few validate that those of training join
    assert one.groups == len(codes)
    truth = found.events.conditions["shift"]
    correlation = abs(np.corrcoef(codes.mean[:, 0], truth)[0, 1])
    assert one.correlation.value == pytest.approx(correlation, abs=1e-6)
    assert correlation > 0.8
    np.testing.assert_allclose(found.mapped["told"]["shift"].counts, codes.counts)
    thinned = found.thinned["told"]["shift"]
    assert [round(one.events / thinned[-1].events, 1) for one in thinned[-3:]] == [0.2, 0.5, 1.0]
    assert thinned[-1].correlation.value == pytest.approx(one.correlation.value)
    assert thinned[0].correlation.value < thinned[-1].correlation.value
    (told,) = found.measured["told"]
    assert [one.rejection for one in told.efficiencies] == [0.5, 0.9]
    assert told.sizes.median == np.median(codes.counts)
    # Kept, as all that is measured.
    assert between(steps, steps.config).measured["told"][0].to_dict() == told.to_dict()


def test_without_what_was_hidden_slices_are_those_of_the_code(done: Any, folder: Path) -> None:
    steps, _ = done
    codes = codes_of(steps)
    found = between(steps, config(folder, "nuisances.shift.protected=true"))
    np.testing.assert_allclose(found.events.conditions["code 0 of told"], codes.mean[:, 0])
    assert found.recovered == {}
    # What changes within a group is none of its conditions.
    found = between(steps, config(folder, "groups.truth.group=[mass]"))
    assert list(found.events.conditions) == ["code 0 of told"]
    assert "mass: its events differ within the groups" in found.notes[0]


def test_what_was_scored_with_other_codes_is_scored_again(
    done: Any, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hepdecorr.cli import codes

    known, _ = done
    shutil.copytree(known.output, tmp_path / "out")
    shutil.rmtree(tmp_path / "out" / "evaluation")
    again = Analysis(
        config(folder, f"output={tmp_path / 'out'}"), console=Console(file=io.StringIO()), only=[]
    )
    write = codes.write

    def of_others(taggers: Any, sums: Any, *, folder: Path) -> str:
        moved = {
            name: {**one.arrays(), "coarse": one.arrays()["coarse"] + 1000} for name, one in sums.items()
        }
        own = {name: GroupSums.from_arrays(one, tagger=sums[name].tagger) for name, one in moved.items()}
        return write(taggers, own, folder=folder)

    def missed(*_: Any, **__: Any) -> None:
        raise InputError("a file was readable for one of the passes only")

    with monkeypatch.context() as patch:
        patch.setattr(codes, "write", of_others)
        patch.setattr(codes, "check_complete", missed)
        with pytest.raises(InputError, match="one of the passes"):
            again.evaluate()
    again.evaluate(redo=True)
    both = [
        Table.open(one.output / "evaluation" / "scores").read(["told-1", "event"]) for one in (known, again)
    ]
    first, second = (one["told-1"][np.argsort(one["event"])] for one in both)
    np.testing.assert_array_equal(first, second)


def test_comparisons_and_scans_halve_whole_groups_as_the_report_does(
    done: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps, _ = done
    table, seen = Table.open(steps.output / "table"), []
    console = Console(file=io.StringIO())
    seen.append(scan.scored(steps.config, {}, table, console=console))

    def kept(_: Any, events: Any, *__: Any, **___: Any) -> None:
        seen.append(events)
        raise InputError("enough")

    monkeypatch.setattr(measuring, "one_by_one", kept)
    with pytest.raises(InputError, match="enough"):
        comparison.write(steps.config, models=steps._models(), scans=[], table=table, console=console)
    for events in seen:
        half = measuring._halves(events)
        assert not set(events["group"][half]) & set(events["group"][~half])
