"""The training table that the shipped processor makes."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from hepdecorr.catalogue import build
from hepdecorr.columnar import rows
from hepdecorr.columnar.filesets import Dataset, expand
from hepdecorr.columnar.running import Outcome, run
from hepdecorr.columnar.schemas import BsgammaSchema
from hepdecorr.errors import InputError
from hepdecorr.table import Table, fold

ROOT = Path(__file__).parents[2]
FEATURES = ["Bcand.deltaE", "my_features.py:rho"]
NUISANCES = {"mass": {"feature": "Bcand.mbc", "low": 5.2, "high": 5.29, "unit": "GeV", "title": "$M$"}}
CUT = {"feature": "Bcand.deltaE", "min": -0.5}
SIZES = {"sig": 300, "bkg": 500}


@pytest.fixture
def datasets(making: ModuleType, tmp_path: Path) -> list[Dataset]:
    making.write_ntuple(tmp_path / "s.root", 300, seed=1, start=0)
    making.write_ntuple(tmp_path / "b1.root", 200, seed=2, start=1000)
    making.write_ntuple(tmp_path / "b2.root", 300, seed=3, start=2000)
    spec = {
        "sig": {"files": "s.root", "label": "signal", "use": "train", "metadata": {"year": 1}},
        "bkg": {"files": "b*.root", "label": "background", "xsec": 4.0, "sumw": 1000.0},
    }
    return expand(spec, base=tmp_path)


def processor(folder: Path, code: Path, **options: Any) -> Any:
    spec = {
        "type": "processors/training_table.py:TrainingTable",
        "features": FEATURES,
        "nuisances": NUISANCES,
    }
    context = {"base": str(code), "folder": str(folder)}
    return build({**spec, **options, **context}, home="hepdecorr.columnar.features", base=ROOT)


def make(folder: Path, code: Path, datasets: list[Dataset], *, chunksize: int = 120, **options: Any) -> Table:
    running = {k: options.pop(k) for k in ("executor", "workers") if k in options}
    made = processor(folder, code, **options)
    found: Outcome = run(datasets, made, schema=BsgammaSchema, chunksize=chunksize, **running)
    assert found.report.complete
    return rows.finish_table(
        found.out["chunks"],
        folder=folder,
        columns=made.columns,
        datasets=datasets,
        provenance={"config": "x"},
    )


def test_the_table_holds_what_the_files_hold(
    making: ModuleType, tmp_path: Path, code: Path, datasets: Any
) -> None:
    table = make(tmp_path / "t", code, datasets, weights=["genWeight"], folds=7)
    assert table.rows == 800
    assert {r: table.names(r) for r in ("feature", "nuisance", "label", "weight", "id")} == {
        "feature": FEATURES,
        "nuisance": ["mass"],
        "label": ["label"],
        "weight": ["weight"],
        "id": ["run", "luminosityBlock", "event", "fold"],
    }
    assert (table.column("mass").unit, table.column("mass").title) == ("GeV", "$M$")
    assert (table.column("my_features.py:rho").unit, table.column("my_features.py:rho").title) == (
        "GeV",
        r"$\rho$",
    )
    found = table.read()
    order = np.argsort(found["event"])
    parts = [making.columns(n, seed=s, start=b) for n, s, b in ((300, 1, 0), (200, 2, 1000), (300, 3, 2000))]
    raw = {k: np.concatenate([p[k] for p in parts]) for k in parts[0]}
    for name, values in {
        "Bcand.deltaE": raw["Bcand_deltaE"],
        "my_features.py:rho": raw["Bcand_mbc"] * raw["Bcand_pStar"],
        "mass": raw["Bcand_mbc"],
        "event": raw["event"],
        "label": np.repeat([1, 0], [300, 500]),
        "weight": raw["genWeight"] * np.repeat(np.float32([1, 0.004]), [300, 500]),
        "fold": fold(raw["run"], raw["luminosityBlock"], raw["event"], folds=7),
    }.items():
        np.testing.assert_allclose(found[name][order], values, rtol=1e-6, err_msg=name)
    for name in (*FEATURES, "mass", "weight"):
        assert found[name].dtype == np.float32
    assert found["label"].dtype == np.int8
    sums = {"sig": raw["genWeight"][:300].sum(), "bkg": raw["genWeight"][300:].sum()}
    sig, bkg = table.datasets["sig"], table.datasets["bkg"]
    assert (sig["label"], sig["use"], sig["year"], sig["events"], sig["rows"]) == (1, "train", 1, 300, 300)
    assert sig["sumw"] == pytest.approx(sums["sig"])
    assert (bkg["xsec"], bkg["sumw"]) == (4.0, 1000.0)
    assert bkg["read_sumw"] == pytest.approx(sums["bkg"])
    assert table.provenance == {"config": "x"}


@pytest.mark.parametrize("chunksize", [37, 1000])
def test_chunks_change_nothing(tmp_path: Path, code: Path, datasets: Any, chunksize: int) -> None:
    one = make(tmp_path / "one", code, datasets, selection=[CUT])
    other = make(tmp_path / "other", code, datasets, selection=[CUT], chunksize=chunksize)
    assert one.datasets == other.datasets
    assert 0 < one.rows < 800
    for name, values in one.read().items():
        np.testing.assert_array_equal(values, other.read()[name], err_msg=name)


def test_processes_change_nothing(tmp_path: Path, code: Path, datasets: Any) -> None:
    one = make(tmp_path / "one", code, datasets, selection=[CUT])
    other = make(tmp_path / "other", code, datasets, selection=[CUT], executor="futures", workers=2)
    assert one.fingerprint == other.fingerprint
    assert one.datasets == other.datasets
    assert [s.sha256 for s in one.shards] == [s.sha256 for s in other.shards]


def test_chunks_without_rows_count_in_the_sums(
    tmp_path: Path, code: Path, datasets: Any, making: ModuleType
) -> None:
    cut = {"feature": "event", "max": 10}
    table = make(tmp_path / "t", code, datasets[:1], selection=[cut], chunksize=50, weights=["genWeight"])
    assert len(table.shards) == 1
    about = table.datasets["sig"]
    assert about["cutflow"] == {"all": 300, "event < 10": 10}
    assert about["sumw"] == pytest.approx(float(making.columns(300)["genWeight"].sum()))


def test_labels_from_a_branch(making: ModuleType, tmp_path: Path, code: Path, datasets: Any) -> None:
    table = make(tmp_path / "t", code, datasets[:1], label="label")
    found = table.read(["label", "event"])
    np.testing.assert_array_equal(found["label"][np.argsort(found["event"])], making.columns(300)["label"])


def test_a_dataset_that_is_cut_away_is_named(tmp_path: Path, code: Path, datasets: Any) -> None:
    cut = {"feature": "event", "min": 500}
    with pytest.raises(InputError, match=r"dataset 'sig': no event is left \(all: 300, 500 <= event: 0\)"):
        make(tmp_path / "t", code, datasets, selection=[cut])
    assert not (tmp_path / "t" / "manifest.json").exists()


def test_values_that_are_not_finite_are_named(
    making: ModuleType, tmp_path: Path, code: Path, datasets: Any
) -> None:
    for branch, where in (
        ("Bcand_deltaE", "Bcand.deltaE"),
        ("Bcand_mbc", "Bcand.mbc"),
        ("genWeight", "genWeight"),
    ):
        values = making.columns(300)[branch]
        values[[3, 200]] = np.nan, np.inf
        making.write_ntuple(tmp_path / "s.root", 300, **{branch: values})
        message = (
            rf"s.root \(dataset 'sig'\), events 0 to 300: feature '{where}': 2 of 300 values are not finite"
        )
        with pytest.raises(InputError, match=message):
            make(tmp_path / "t", code, datasets, features=FEATURES[:1], weights=["genWeight"], chunksize=1000)


def test_a_name_has_one_role(tmp_path: Path, code: Path) -> None:
    with pytest.raises(InputError, match="'mass' is feature and nuisance at once"):
        processor(tmp_path, code, features=["mass"])


def test_a_checkpoint_stands_only_for_shards_that_are_there(
    tmp_path: Path, code: Path, datasets: Any
) -> None:
    made = processor(tmp_path / "t", code)
    options = {"schema": BsgammaSchema, "chunksize": 100, "checkpoints": tmp_path / "c", "fingerprint": "f"}
    first = run(datasets, made, **options)
    shards = sorted((tmp_path / "t").rglob("*.parquet"))
    assert len(shards) == 8
    times = {p: p.stat().st_mtime_ns for p in shards}
    shards[2].unlink()
    second = run(datasets, made, **options)
    assert {p for p in shards if p.stat().st_mtime_ns != times[p]} == {shards[2]}
    assert second.out == first.out


def test_a_file_without_the_branch_of_a_feature(
    making: ModuleType, tmp_path: Path, code: Path, datasets: Any
) -> None:
    for branch in ("Bcand_deltaE", "Bcand_pStar", "genWeight"):
        making.write_ntuple(tmp_path / "b2.root", 300, seed=3, without=(branch,))
        options = {"weights": ["genWeight"]}
        with pytest.raises(InputError, match=r"b2.root \(dataset 'bkg'\): feature '.*"):
            run(datasets, processor(tmp_path / "t", code, **options), schema=BsgammaSchema)
        made = processor(tmp_path / "t", code, **options)
        found = run(datasets, made, schema=BsgammaSchema, chunksize=120, skip_bad_files=True)
        assert [Path(u["file"]).name for u in found.report.unreadable] == ["b2.root"]
        assert found.report.unreadable[0]["events"] == 300
        assert found.report.events == {"sig": 300, "bkg": 200}
        assert {Path(c["source"]).name for c in found.out["chunks"]} == {"s.root", "b1.root"}
