"""The jets' analysis through the command line, on small files in the layouts of CMS."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
from coffea.nanoevents import NanoAODSchema, NanoEventsFactory, PFNanoAODSchema
from sklearn.metrics import roc_auc_score

from hepdecorr import OnnxTagger, Table
from hepdecorr.catalogue import load_file
from hepdecorr.columnar import histograms
from hepdecorr.errors import InputError

ROOT = Path(__file__).parents[1]
making = load_file(ROOT / "tests" / "columnar" / "jets" / "making_jets.py")

CONFIG = f"""\
name: jets
output: out
models: models
samples:
  schema: PFNanoAODSchema
  datasets:
    w:
      files: w.root
      label: signal
      selection: [{{feature: FatJet.genFlavour, any_of: [24]}}]
    qcd: {{files: [qcd_0.root, qcd_1.root], label: background}}
objects: {{collection: FatJet, leading: 2}}
constituents:
  length: 16
  features: [log_pt, pt_rel, deta, dphi, dr, charge]
features: [jet_mass, n_constituents]
selection: [{{feature: jet_pt, min: 400}}]
weights: [genWeight]
nuisances:
  mass: {{feature: jet_mass, low: 0, high: 300, bins: 20}}
  pt: {{feature: jet_pt, low: 400, high: 1500, protected: false, slices: [400, 600, 1500]}}
working_points: [0.5, 0.9]
taggers:
  plain:
    type: Tagger
    network: {{type: DeepSets}}
    training: {{turns: 150, batch: 256}}
  disco:
    type: Tagger
    network: {{type: DeepSets}}
    terms: [{{type: DisCo, nuisance: mass, strength: 1, start: 0.5}}]
    reweight: {{nuisances: [mass], of: background, to: signal}}
    training: {{turns: 150, batch: 512}}
  high_level:
    type: Tagger
    constituents: []
    training: {{turns: 150, batch: 256}}
shifts:
  scale_up: {{type: JetEnergyScale, factor: 1.05}}
  candidates_up: {{type: ConstituentScale, factor: 1.05}}
report:
  series: {{DisCo: {{"0": plain, "1": disco}}}}
  mapped: [plain]
running: {{chunksize: 400}}
processors:
  table: {ROOT}/processors/training_table.py:TrainingTable
  evaluate: {ROOT}/processors/sculpting.py:Sculpting
"""


def hepdecorr(*arguments: str | Path, cwd: Path, code: int = 0) -> str:
    """Run the command and return what it printed, whitespace folded."""
    command = [sys.executable, "-m", "hepdecorr.cli.main", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return re.sub(r"\s+", " ", done.stdout + done.stderr)


def write_files(folder: Path, *, layout: str) -> None:
    """w.root, qcd_0.root and qcd_1.root."""
    parts = {"w": ("w", 700, 1, 0), "qcd_0": ("qcd", 800, 2, 10_000), "qcd_1": ("qcd", 800, 3, 20_000)}
    for name, (process, events, seed, start) in parts.items():
        made = making.physics(events, process=process, seed=seed, start=start)
        making.write(folder / f"{name}.root", made, layout=layout)


def opened(path: Path, schema: Any = PFNanoAODSchema) -> Any:
    """The events of a file, as an analysis has them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Missing cross-reference|.*already exists")
        return NanoEventsFactory.from_root({str(path): "Events"}, schemaclass=schema, mode="virtual").events()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder after `hepdecorr run`."""
    folder = tmp_path_factory.mktemp("jets")
    write_files(folder, layout="pfnano")
    (folder / "jets.yaml").write_text(CONFIG)
    printed = hepdecorr("run", "jets.yaml", cwd=folder)
    assert "complete: 2,300 of 2,300 events from 3 files" in printed
    return folder


def test_a_row_is_a_jet(finished: Path) -> None:
    table = Table.open(finished / "out" / "table")
    read = table.read()
    events = [opened(finished / f"{name}.root") for name in ("w", "qcd_0", "qcd_1")]
    pt = [ak.sort(e.FatJet.pt, ascending=False)[:, :2] for e in events]
    assert table.rows == sum(int(ak.sum(one >= 400)) for one in pt)
    assert read["constituents.log_pt"].shape == (table.rows, 16)
    assert (read["constituents.count"] <= 16).all()
    # the two of highest pt, which corrections may have moved behind the third
    assert set(read["object"].tolist()) > {0, 1}
    each = np.stack([read[n].astype(np.int64) for n in ("run", "luminosityBlock", "event")], 1)
    assert np.unique(each, axis=0, return_counts=True)[1].max() == 2
    assert table.provenance["conventions"]["candidates"] == "weighted"
    # jets of one event share their fold
    keys = np.stack([read[n].astype(np.int64) for n in ("run", "luminosityBlock", "event", "fold")], 1)
    assert len(np.unique(keys, axis=0)) == len(np.unique(keys[:, :3], axis=0))


@pytest.mark.parametrize("name", ["plain", "high_level"])
def test_a_tagger_gives_every_jet_of_an_analysis_the_score_that_was_judged(finished: Path, name: str) -> None:
    tagger = OnnxTagger(finished / "models" / f"jets-{name}-1")
    scores = Table.open(finished / "out" / "evaluation" / "scores").read()
    events = opened(finished / "qcd_0.root")
    logit = tagger.logit(events)
    assert ak.all(ak.num(logit) == ak.num(events.FatJet))
    assert ak.all(tagger(events) >= 0)
    numbers = ak.to_numpy(events.event)
    judged = {
        (int(e), int(j)): s
        for e, j, s in zip(scores["event"], scores["object"], scores[f"{name}-1"], strict=True)
    }
    found = 0
    for event, jets in zip(numbers.tolist(), logit.to_list(), strict=True):
        for place, value in enumerate(jets):
            if (event, place) in judged:
                found += 1
                assert judged[event, place] == pytest.approx(value, abs=1e-4)
    assert found > 100


def test_the_figures_are_weighted(finished: Path) -> None:
    metrics = json.loads((finished / "out" / "report" / "metrics.json").read_text())
    scores = Table.open(finished / "out" / "evaluation" / "scores").read()
    assert set(scores["fold"].tolist()) <= {5, 6, 7, 8, 9}
    weight, y = scores["weight"].astype(float), scores["label"]
    assert len(set(weight.tolist())) > 3
    logit = scores["disco-1"].astype(float)
    (measured,) = metrics["taggers"]["disco"]
    assert measured["auc"]["value"] == pytest.approx(roc_auc_score(y, logit, sample_weight=weight), abs=1e-6)
    signal, background = y == 1, y == 0
    order = np.argsort(-logit[signal])
    reach = np.cumsum(weight[signal][order]) / weight[signal].sum()
    cut = logit[signal][order][np.searchsorted(reach, 0.5)]
    passed = weight[background & (logit >= cut)].sum() / weight[background].sum()
    assert measured["half_signal"]["r50"]["value"] == pytest.approx(1 / passed, rel=0.05)
    assert {one["nuisance"] for one in metrics["taggers"]["disco"]} == {"mass"}


def test_shifts_fill_an_axis_of_their_own(finished: Path) -> None:
    filled = histograms.load(finished / "out" / "evaluation" / "histograms.zip")["mass"]
    assert list(filled.axes["systematic"]) == ["nominal", "scale_up", "candidates_up"]
    before = {s: filled[{"systematic": s, "tagger": "plain-1", "category": "before"}] for s in filled.axes[1]}
    spectrum = {s: h[{"dataset": "qcd"}].values() for s, h in before.items()}
    assert not np.allclose(spectrum["nominal"], spectrum["scale_up"])
    # jets follow their candidates: the same factor on all of them is that factor on the jet
    moved = np.abs(spectrum["scale_up"] - spectrum["nominal"]).sum()
    assert np.abs(spectrum["scale_up"] - spectrum["candidates_up"]).sum() < 0.1 * moved
    cut = {s: filled[{"systematic": s, "tagger": "plain-1", "category": "pass 0.5"}] for s in spectrum}
    assert not np.allclose(
        cut["nominal"][{"dataset": "qcd"}].values(), cut["candidates_up"][{"dataset": "qcd"}].values()
    )


def test_the_report_shows_jets(finished: Path) -> None:
    report = finished / "out" / "report"
    html = (report / "report.html").read_text()
    drawn = {p.name for p in (report / "figures").glob("*.png")}
    assert drawn
    for word in ("quantile map", "candidates_up", "R50"):
        assert word in html


def test_another_convention_is_refused(finished: Path, tmp_path: Path) -> None:
    write_files(tmp_path, layout="pfnano_raw")
    tagger = OnnxTagger(finished / "models" / "jets-plain-1")
    with pytest.raises(InputError, match=r"candidates 'weighted'.*'raw'"):
        tagger(opened(tmp_path / "w.root"))
    write_files(tmp_path, layout="plain")
    with pytest.raises(InputError, match="constituent"):
        tagger(opened(tmp_path / "w.root"))


def test_files_of_two_conventions_do_not_make_one_table(finished: Path, tmp_path: Path) -> None:
    write_files(tmp_path, layout="pfnano")
    other = making.physics(100, process="qcd", seed=3, start=20_000)
    making.write(tmp_path / "qcd_1.root", other, layout="pfnano_raw")
    (tmp_path / "jets.yaml").write_text(CONFIG)
    printed = hepdecorr("table", "jets.yaml", cwd=tmp_path, code=2)
    assert "candidates" in printed
    assert "qcd_1.root" in printed


def test_v15_by_the_same_lines(tmp_path: Path) -> None:
    write_files(tmp_path, layout="v15")
    config = CONFIG.replace("schema: PFNanoAODSchema", "schema: NanoAODSchema")
    (tmp_path / "jets.yaml").write_text(config)
    hepdecorr("table", "jets.yaml", cwd=tmp_path)
    table = Table.open(tmp_path / "out" / "table")
    assert table.provenance["conventions"]["candidates"] == "weighted"
    hepdecorr("train", "jets.yaml", "--only", "plain", cwd=tmp_path)
    tagger = OnnxTagger(tmp_path / "models" / "jets-plain-1")
    scores = tagger(opened(tmp_path / "w.root", NanoAODSchema))
    assert ak.all((scores >= 0) & (scores <= 1))


def test_an_unknown_collection_is_told_with_its_line(tmp_path: Path) -> None:
    write_files(tmp_path, layout="pfnano")
    (tmp_path / "jets.yaml").write_text(CONFIG.replace("collection: FatJet", "collection: FatJets"))
    printed = hepdecorr("table", "jets.yaml", cwd=tmp_path, code=2)
    assert "jets.yaml:12: objects.collection: the files have no collection 'FatJets'" in printed
    assert "did you mean 'FatJet'" in printed


def test_no_constituents_where_a_network_wants_them(tmp_path: Path) -> None:
    write_files(tmp_path, layout="plain")
    config = CONFIG.replace("schema: PFNanoAODSchema", "schema: NanoAODSchema")
    (tmp_path / "jets.yaml").write_text(config)
    printed = hepdecorr("table", "jets.yaml", cwd=tmp_path, code=2)
    assert "w.root" in printed or "qcd_0.root" in printed
    assert "constituents" in printed
