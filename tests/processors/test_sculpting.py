"""What the shipped processor says a cut on a tagger does to a nuisance."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from hepdecorr.catalogue import load_file
from hepdecorr.columnar import histograms, rows
from hepdecorr.columnar.filesets import Dataset, expand
from hepdecorr.columnar.running import run
from hepdecorr.columnar.schemas import BsgammaSchema
from hepdecorr.columnar.tagger import OnnxTagger
from hepdecorr.errors import InputError
from hepdecorr.table import Split, fold

NUISANCES = {"mass": {"feature": "Bcand.mbc", "low": 5.2, "high": 5.29, "bins": 6, "unit": "GeV"}}
SPLIT = Split(10, (0,), (5, 6, 7, 8, 9))


@pytest.fixture(scope="module")
def sculpting() -> Any:
    return load_file(Path(__file__).parents[2] / "processors" / "sculpting.py").Sculpting


@pytest.fixture
def datasets(making: ModuleType, tmp_path: Path) -> list[Dataset]:
    making.write_ntuple(tmp_path / "s.root", 300, seed=1, start=0)
    making.write_ntuple(tmp_path / "b.root", 500, seed=2, start=1000)
    spec = {"sig": {"files": "s.root", "label": "signal"}, "bkg": {"files": "b.root", "label": "background"}}
    return expand(spec, base=tmp_path)


@pytest.fixture
def models(making: ModuleType, tmp_path: Path) -> dict[str, Path]:
    found = {}
    points = [making.card().working_points[0].model_dump() | {"rejection": 0.9, "threshold": 0.3}]
    for name, card in (
        ("plain", making.card()),
        ("disco", making.card(title="DisCo", working_points=points)),
    ):
        found[name] = tmp_path / "models" / name
        found[name].mkdir(parents=True)
        (found[name] / "tagger.onnx").write_bytes(making.model(seed=len(found), of=card))
    return found


def apply(processor: Any, datasets: list[Dataset], *, chunksize: int = 130, **options: Any) -> dict[str, Any]:
    found = run(datasets, processor, schema=BsgammaSchema, chunksize=chunksize, **options)
    assert found.report.complete
    return found.out  # type: ignore[no-any-return]


def test_histograms_and_scores_hold_what_the_files_hold(
    making: ModuleType, sculpting: Any, models: Any, datasets: Any, tmp_path: Path, code: Path
) -> None:
    options = {"nuisances": NUISANCES, "weights": ["genWeight"], "base": code}
    made = sculpting(taggers=models, folder=tmp_path / "scores", split=SPLIT, **options)
    out = apply(made, datasets)
    histogram = out["histograms"]["mass"]
    assert list(histogram.axes["dataset"]) == ["bkg", "sig"]
    assert list(histogram.axes["category"]) == [
        "before",
        *(f"{k} {r}" for r in (0.5, 0.9, 0.95) for k in ("pass", "fail")),
    ]
    assert "[GeV]" in histogram.axes["mass"].label

    raw = making.columns(500, seed=2, start=1000)
    test = np.isin(fold(raw["run"], raw["luminosityBlock"], raw["event"]), SPLIT.test)
    x = np.stack([raw["Bcand_deltaE"], raw["Bcand_pStar"], raw["Bcand_mbc"] * raw["Bcand_pStar"]], axis=1)
    for name, thresholds in (("plain", {0.5: 0.0, 0.95: 1.0}), ("disco", {0.9: 0.3})):
        logit = OnnxTagger(models[name]).logits(x)
        masks = {"before": test}
        for rejection, threshold in thresholds.items():
            masks |= {
                f"pass {rejection}": test & (logit > threshold),
                f"fail {rejection}": test & (logit <= threshold),
            }
        for category, mask in masks.items():
            values, weights = raw["Bcand_mbc"][mask].astype("f8"), raw["genWeight"][mask]
            expected, _ = np.histogram(values, bins=histogram.axes["mass"].edges, weights=weights)
            np.testing.assert_allclose(
                histogram["bkg", "nominal", name, category, :].values(), expected, err_msg=category
            )
            assert expected.sum() > 0

    table = rows.finish_table(
        out["chunks"], folder=tmp_path / "scores", columns=made.columns, datasets=datasets, provenance={}
    )
    assert table.names("score") == ["plain", "disco"]
    assert table.column("disco").title == "DisCo"
    found = table.read(["plain", "event", "mass", "label", "weight", "dataset"])
    background = found["label"] == 0
    order = np.argsort(found["event"][background])
    np.testing.assert_array_equal(
        found["plain"][background][order], OnnxTagger(models["plain"]).logits(x)[test]
    )
    np.testing.assert_array_equal(found["mass"][background][order], raw["Bcand_mbc"][test])
    assert table.datasets["bkg"]["cutflow"] == {"all": 500, "test": int(test.sum())}
    assert table.datasets["bkg"]["sumw"] == pytest.approx(float(raw["genWeight"].sum()))


@pytest.mark.parametrize(
    "options", [{"chunksize": 41}, {"chunksize": 9999}, {"executor": "futures", "workers": 2}]
)
def test_chunks_and_processes_change_nothing(
    sculpting: Any, models: Any, datasets: Any, tmp_path: Path, code: Path, options: Any
) -> None:
    cut = {"feature": "Bcand.deltaE", "max": 1.5}
    results = []
    for name, how in (("one", {}), ("other", options)):
        made = sculpting(
            taggers=models, nuisances=NUISANCES, selection=[cut], folder=tmp_path / name, base=code
        )
        out = apply(made, datasets, **how)
        table = rows.finish_table(
            out["chunks"], folder=tmp_path / name, columns=made.columns, datasets=datasets, provenance={}
        )
        results.append((out["histograms"], table))
    (histogram, table), (other_histogram, other_table) = results
    assert histogram == other_histogram
    assert table.datasets == other_table.datasets
    for name, values in table.read().items():
        np.testing.assert_array_equal(values, other_table.read()[name], err_msg=name)


def test_features_are_computed_once_for_all_taggers(
    sculpting: Any, models: Any, datasets: Any, code: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    features = load_file(code / "my_features.py")
    original = features.rho
    monkeypatch.setattr(features, "rho", lambda events: calls.append(1) or original(events))
    apply(sculpting(taggers=models, nuisances=NUISANCES, base=code), datasets[:1], chunksize=9999)
    assert len(calls) == 1


def test_data_without_labels_fill_histograms_but_no_table(
    sculpting: Any, models: Any, making: ModuleType, tmp_path: Path, code: Path
) -> None:
    making.write_ntuple(tmp_path / "d.root", 100)
    data = expand({"data": ["d.root"]}, base=tmp_path, labels=False)
    out = apply(sculpting(taggers=models, nuisances=NUISANCES, base=code), data)
    assert out["histograms"]["mass"]["data", "nominal", "plain", "before", :].sum(flow=True).value == 100
    with pytest.raises(InputError, match="dataset 'data' has no label"):
        apply(sculpting(taggers=models, nuisances=NUISANCES, base=code, folder=tmp_path / "t"), data)


def test_histograms_survive_the_disk(
    sculpting: Any, models: Any, datasets: Any, tmp_path: Path, code: Path
) -> None:
    out = apply(sculpting(taggers=models, nuisances=NUISANCES, base=code), datasets)
    histograms.save(out["histograms"], tmp_path / "h.zip")
    assert histograms.load(tmp_path / "h.zip") == out["histograms"]


def test_events_of_another_schema_are_refused(
    making: ModuleType, sculpting: Any, datasets: Any, tmp_path: Path, code: Path
) -> None:
    (tmp_path / "tagger.onnx").write_bytes(
        making.model(of=making.card(conventions={"schema": "PFNanoAODSchema"}))
    )
    with pytest.raises(
        InputError, match="trained with schema 'PFNanoAODSchema', these events came with 'BsgammaSchema'"
    ):
        apply(sculpting(taggers={"t": tmp_path}, nuisances=NUISANCES, base=code), datasets)
