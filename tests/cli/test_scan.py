"""Scans and comparisons on a part of the built-in sample: resumed, complete, the same as the evaluation."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import uproot
from rich.console import Console

from hepdecorr import OnnxTagger, Table
from hepdecorr.cli import training
from hepdecorr.cli.steps import Analysis
from hepdecorr.columnar.scoring import table_logits
from hepdecorr.config import Config, load
from hepdecorr.errors import InputError
from hepdecorr.samples import builtin
from hepdecorr.table import Selection

PROCESSORS = Path(__file__).parents[2] / "processors"
CONFIG = f"""\
name: small
output: out
samples:
  schema: BsgammaSchema
  datasets:
    signal: {{files: signal.root, label: signal}}
    continuum: {{files: continuum.root, label: background}}
features: [Bcand.deltaE, Bcand.EgStar, Bcand.mKst, Bcand.pStar]
nuisances: {{m_bc: {{low: 5.2, high: 5.29, bins: 20}}}}
working_points: [0.5, 0.8]
taggers:
  plain: {{type: Tagger, network: {{type: MLP, hidden: [8]}}, training: {{epochs: 2, batch: 256}}}}
  disco:
    type: Tagger
    network: {{type: MLP, hidden: [8]}}
    terms: [{{type: DisCo, nuisance: m_bc, strength: 10}}]
    training: {{epochs: 2, batch: 512}}
running: {{executor: iterative}}
processors:
  table: {PROCESSORS}/training_table.py:TrainingTable
  evaluate: {PROCESSORS}/sculpting.py:Sculpting
"""


def cut_out(name: str, path: Path, stop: int) -> None:
    """Some entries of a built-in file, without tracks and photons."""
    with uproot.open(builtin()[name]) as file:
        tree = file["Events"]
        flat = [b for b in tree.keys() if not b.startswith(("Track_", "Photon_", "nTrack", "nPhoton"))]
        content = dict(tree.arrays(flat, entry_stop=stop, library="np"))
    with uproot.recreate(path) as out:
        out.mktree("Events", {k: v.dtype for k, v in content.items()})
        out["Events"].extend(content)


class Said:
    """A console that remembers."""

    def __init__(self) -> None:
        self.stream = io.StringIO()
        self.console = Console(file=self.stream, width=400)

    @property
    def text(self) -> str:
        return self.stream.getvalue()


def analysis(folder: Path, *changes: str, said: Said | None = None) -> Analysis:
    config = load(folder / "small.yaml", overrides=list(changes))
    return Analysis(config, console=said.console if said else Console(quiet=True), only=[])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An analysis that was trained and evaluated."""
    made = tmp_path_factory.mktemp("scan")
    cut_out("bsgamma_signal.root", made / "signal.root", 600)
    cut_out("bsgamma_continuum.root", made / "continuum.root", 1500)
    (made / "small.yaml").write_text(CONFIG)
    steps = analysis(made)
    steps.table()
    steps.train()
    steps.evaluate()
    return made


@pytest.fixture(scope="module")
def scanned(folder: Path) -> tuple[Path, str]:
    said = Said()
    page = analysis(folder, said=said).scan("disco", ["terms.0.strength=0.1,10"])
    return page, said.text


def test_a_scan_leaves_a_table_figures_and_what_made_them(folder: Path, scanned: tuple[Path, str]) -> None:
    page, said = scanned
    assert page == folder / "out" / "scans" / "disco_strength" / "scan.html"
    assert "2 of 2 trainings complete" in said
    # The analysis itself has trained the second point.
    assert "finished already: 1 of 2" in said
    told = json.loads((page.parent / "points.json").read_text())
    assert [point["values"] for point in told["points"]] == [
        {"terms.0.strength": 0.1},
        {"terms.0.strength": 10},
    ]
    assert told["versions"]["numpy"] == np.__version__
    assert "type: DisCo" in told["config"]
    assert told["command"].startswith("hepdecorr")
    figures = {one.name for one in (page.parent / "figures").iterdir()}
    assert {"scan_m_bc.pdf", "pareto_m_bc_auc.png", "pareto_m_bc_efficiency.pdf", "validation.png"} <= figures
    rows = list(csv.DictReader((page.parent / "points.csv").read_text().splitlines()))
    assert [(row["terms.0.strength"], row["rejection"]) for row in rows] == [
        ("0.1", "0.5"), ("0.1", "0.8"), ("10", "0.5"), ("10", "0.8"),
    ]  # fmt: skip
    measured = told["points"][0]["evaluations"][0]
    assert float(rows[0]["auc"]) == pytest.approx(measured["auc"]["value"], rel=1e-5)
    assert float(rows[1]["excess_nats"]) == pytest.approx(measured["sculpting"][1]["excess"], rel=1e-4)
    assert all(float(row["cpu_seconds"]) > 0 for row in rows)


def test_the_tables_events_get_the_scores_of_the_evaluation(folder: Path) -> None:
    """Features of the table, features computed again from the ROOT files: the same logits, event by event."""
    table = Table.open(folder / "out" / "table")
    scores = Table.open(folder / "out" / "evaluation" / "scores").read(["event", "label", "disco-1"])
    select = Selection("test", load(folder / "small.yaml").table_split)
    tagger = OnnxTagger(folder / "out" / "models" / "small-disco-1")
    own = table.read(["event", "label"], select=select) | {
        "logit": table_logits(tagger, table, select=select)
    }
    assert len(own["event"]) == len(scores["event"]) > 900
    ours, theirs = (np.lexsort((one["label"], one["event"])) for one in (own, scores))
    np.testing.assert_array_equal(own["event"][ours], scores["event"][theirs])
    np.testing.assert_allclose(own["logit"][ours], scores["disco-1"][theirs], rtol=1e-5, atol=1e-5)


def test_a_finished_scan_is_skipped_and_new_points_alone_are_trained(
    folder: Path, scanned: tuple[Path, str]
) -> None:
    page, _ = scanned
    models = page.parent / "models"
    before = {p: p.stat().st_mtime_ns for p in models.rglob("*.onnx")}
    said = Said()
    analysis(folder, said=said).scan("disco", ["terms.0.strength=0.1,10,2"])
    assert "finished already: 2 of 3" in said.text
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert len(list(models.rglob("*.onnx"))) == 2
    before_page = page.stat().st_mtime_ns
    analysis(folder).scan("disco", ["terms.0.strength=0.1,10,2"])
    assert page.stat().st_mtime_ns == before_page


def test_an_interrupted_scan_goes_on_where_it_was(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped in its second training: the first stands, and what follows is that of a scan that was not."""
    train, begun = training._train, []

    def stopped(job: training.Job, config: Config, put: object) -> dict[str, object]:
        begun.append(job.folder.name)
        if len(begun) == 2:
            raise KeyboardInterrupt
        return train(job, config, put)

    monkeypatch.setattr(training, "_train", stopped)
    arguments = ("disco", ["terms.0.strength=3,4"])
    with pytest.raises(KeyboardInterrupt):
        analysis(folder).scan(*arguments, name="stopped")
    home = folder / "out" / "scans" / "stopped"
    assert len(list(home.rglob("tagger.onnx"))) == 1
    assert not (home / "points.json").exists()
    monkeypatch.undo()
    said = Said()
    analysis(folder, said=said).scan(*arguments, name="stopped")
    assert "finished already: 1 of 2" in said.text
    assert "2 of 2 trainings complete" in said.text
    assert len(json.loads((home / "points.json").read_text())["points"]) == 2


def test_a_point_that_fails_is_told_and_the_others_go_on(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = training._train

    def fails(job: training.Job, config: Config, put: object) -> dict[str, object]:
        if "strength-6" in job.folder.name:
            raise InputError("the tagger collapsed; lower the strength")
        return train(job, config, put)

    monkeypatch.setattr(training, "_train", fails)
    said = Said()
    page = analysis(folder, said=said).scan("disco", ["terms.0.strength=0.1,6"], name="failing")
    assert "1 of 2 trainings complete" in said.text
    assert "the tagger collapsed" in said.text
    assert "Incomplete. strength = 6: the tagger collapsed" in page.read_text()
    points = json.loads((page.parent / "points.json").read_text())["points"]
    assert [bool(point["evaluations"]) for point in points] == [True, False]
    with pytest.raises(InputError, match="no point could be trained; the tagger collapsed"):
        analysis(folder).scan("disco", ["terms.0.strength=6"], name="nothing")


@pytest.mark.parametrize(
    ("over", "message"),
    [
        ("terms.0.strenth=1,2", r"--over terms\.0\.strenth=1: .*no 'strenth'; did you mean 'strength'"),
        ("trainin.epochs=1", "no 'trainin'; did you mean 'training'"),
        ("training.epoch=1", "'epoch'; did you mean 'epochs'"),
        ("terms.7.strength=1", "there is no '7' there"),
        ("network.hidden=wide", "widths of layers must be a list of whole numbers above 0, not 'wide'"),
        ("terms.0.strength=log:0:1:3", "both ends above zero"),
    ],
)
def test_wrong_keys_are_named_before_anything_is_trained(folder: Path, over: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        analysis(folder).scan("disco", [over], name="wrong")
    with pytest.raises(InputError, match="no such tagger; did you mean 'disco'"):
        analysis(folder).scan("disko", ["terms.0.strength=1"])
    assert not (folder / "out" / "scans" / "wrong").exists()


def test_compare_says_what_differs_and_counts_the_cost(folder: Path, scanned: tuple[Path, str]) -> None:
    said = Said()
    page = analysis(folder, said=said).compare(["disco_strength"])
    told = json.loads((page.parent / "compare.json").read_text())
    assert list(told["taggers"])[:3] == ["plain", "disco", "disco strength = 0.1"]
    rows = list(csv.reader((page.parent / "compare.csv").read_text().splitlines()))
    assert rows[0][:4] == ["nuisance", "Tagger", "seeds", "AUC"]
    assert len(rows) == 1 + len(told["taggers"])
    auc = {
        (one["first"], one["second"]): one
        for one in told["differences"]["differences"]
        if one["figure"] == "auc"
    }
    # The same tagger, once from the evaluation and once from the training table.
    same = auc["disco", "disco strength = 10"]
    assert abs(same["value"]["value"]) < 1e-6
    assert not same["separable"]
    assert auc["plain", "disco"]["separable"]
    assert auc["plain", "disco"]["value"]["low"] > 0
    assert "not separable" in said.text
    assert "plain is better" in said.text
    assert "command: hepdecorr" in said.text
    assert all(one["cpu_seconds"][0] > 0 for one in told["taggers"].values())
    assert told["taggers"]["plain"]["audit"]["m_bc"].startswith("finds dependence")
    assert (page.parent / "figures" / "pareto_m_bc_auc.pdf").is_file()
    with pytest.raises(InputError, match="no finished scan; did you mean 'disco_strength'"):
        analysis(folder).compare(["disco_strenth"])


def test_compare_wants_an_evaluation_and_cards_without_cost_are_unknown(folder: Path, tmp_path: Path) -> None:
    from hepdecorr.validation.scanned import cost, cpu_seconds

    with pytest.raises(InputError, match="not evaluated yet"):
        analysis(folder, f"output={tmp_path}").compare()
    assert cpu_seconds([{"training": {"seconds": 3.0}}, {"training": {"cpu_seconds": None}}]) == []
    assert cost([]) == "unknown"
    shutil.rmtree(tmp_path)
