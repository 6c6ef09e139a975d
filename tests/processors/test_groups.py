"""Groups in both tables: the column, folds of whole groups, and what the table says of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from hepdecorr.catalogue import load_file
from hepdecorr.cli.census import Census
from hepdecorr.columnar import group_ids, rows
from hepdecorr.columnar.filesets import Dataset, expand
from hepdecorr.columnar.running import run
from hepdecorr.columnar.schemas import BsgammaSchema
from hepdecorr.errors import InputError
from hepdecorr.table import Split, Table, fold

PROCESSORS = Path(__file__).parents[2] / "processors"
SPLIT = Split(10, (0,), (5, 6, 7, 8, 9))
NUISANCES = {"mass": {"feature": "Bcand.mbc", "low": 5.2, "high": 5.29, "unit": "GeV"}}
RUNS = {
    "s": np.random.default_rng(1).integers(1, 60, 300),
    "b": np.random.default_rng(2).integers(1, 60, 500),
}


@pytest.fixture
def datasets(making: ModuleType, tmp_path: Path) -> list[Dataset]:
    for k, (name, size) in enumerate({"s": 300, "b": 500}.items()):
        making.write_ntuple(tmp_path / f"{name}.root", size, seed=k + 1, run=RUNS[name].astype("u4"))
    spec = {"sig": {"files": "s.root", "label": "signal"}, "bkg": {"files": "b.root", "label": "background"}}
    return expand(spec, base=tmp_path)


def make(folder: Path, datasets: list[Dataset], *, chunksize: int = 90, **options: Any) -> tuple[Table, Any]:
    kind = load_file(PROCESSORS / "training_table.py").TrainingTable
    about = {"features": ["Bcand.deltaE"], "nuisances": NUISANCES, "grouped_by": ["run"], "folder": folder}
    made = kind(**{**about, **options})
    found = run(datasets, made, schema=BsgammaSchema, chunksize=chunksize)
    about = {"folder": folder, "columns": made.columns, "datasets": datasets, "provenance": {}}
    return rows.finish_table(found.out["chunks"], **about), found.out["chunks"]


def test_the_table_has_the_groups_and_whole_ones_share_a_fold(datasets: Any, tmp_path: Path) -> None:
    table, _ = make(tmp_path / "t", datasets)
    assert table.names("group") == ["group"]
    assert table.column("group").title == "run"
    found = table.read(["group", "run", "fold", "label"])
    assert found["group"].dtype == np.int64
    np.testing.assert_array_equal(found["group"], found["run"])
    np.testing.assert_array_equal(found["fold"], fold(found["run"]))
    for label, name in ((1, "s"), (0, "b")):
        np.testing.assert_array_equal(np.sort(found["group"][found["label"] == label]), np.sort(RUNS[name]))
    other, _ = make(tmp_path / "o", datasets, chunksize=1000)
    for name, values in found.items():
        np.testing.assert_array_equal(values, other.read([name])[name])


def test_scores_have_the_groups_and_the_same_parts(
    making: ModuleType, datasets: Any, tmp_path: Path, code: Path
) -> None:
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "tagger.onnx").write_bytes(making.model(of=making.card()))
    kind = load_file(PROCESSORS / "sculpting.py").Sculpting
    about = {"taggers": {"plain": tmp_path / "plain"}, "nuisances": NUISANCES, "base": code, "split": SPLIT}
    made = kind(**about, grouped_by=["run"], folder=tmp_path / "scores")
    out = run(datasets, made, schema=BsgammaSchema, chunksize=130).out
    kept = {"columns": made.columns, "datasets": datasets, "provenance": {}}
    scores = rows.finish_table(out["chunks"], folder=tmp_path / "scores", **kept)
    found = scores.read(["group", "run", "fold"])
    np.testing.assert_array_equal(found["group"], found["run"])
    every = np.concatenate(list(RUNS.values()))
    np.testing.assert_array_equal(np.sort(found["run"]), np.sort(every[np.isin(fold(every), SPLIT.test)]))
    np.testing.assert_array_equal(found["fold"], fold(found["run"]))


def test_a_row_without_a_group_stops_the_table(making: ModuleType, tmp_path: Path) -> None:
    period = np.arange(300.0)
    period[[5, 7]] = np.nan
    making.write_ntuple(tmp_path / "s.root", 300, period=period)
    datasets = expand({"sig": {"files": "s.root", "label": "signal"}}, base=tmp_path, labels=False)
    with pytest.raises(
        InputError, match=r"s\.root \(dataset 'sig'\).*'period': missing or NaN in 2 of 300 rows"
    ):
        make(tmp_path / "t", datasets, grouped_by=["period"], chunksize=300)
    (tmp_path / "cuts.py").write_text(
        "import numpy as np\ndef known(e):\n    return ~np.isnan(e['period'])\n"
    )
    cuts = {"selection": ["cuts.py:known"], "base": tmp_path}
    table, _ = make(tmp_path / "t", datasets, grouped_by=["period"], **cuts)
    assert table.rows == 298


def test_what_is_odd_about_groups_is_told(making: ModuleType, tmp_path: Path) -> None:
    # Run 1 in both classes, 2 of background alone, 3 of one signal event, 4 cut away, 5 in one chunk only.
    signal, background = np.array([1, 1, 1, 3, 4, 5]), np.array([1, 2, 2, 4, 4, 5])
    making.write_ntuple(tmp_path / "s.root", 6, run=signal, genWeight=(signal < 4) * 1.0)
    making.write_ntuple(tmp_path / "b.root", 6, run=background, genWeight=(background != 4) * 1.0)
    spec = {"sig": {"files": "s.root", "label": "signal"}, "bkg": {"files": "b.root", "label": "background"}}
    datasets = expand(spec, base=tmp_path)
    cut = [{"feature": "genWeight", "min": 0.5}]
    table, chunks = make(tmp_path / "t", datasets, selection=cut, chunksize=2)
    lost = group_ids.emptied(chunks, table)
    assert lost == 1
    folds = fold(np.array([1, 2, 3, 5]), folds=10)
    split = Split(10, (int(folds[0]),), (int(folds[1]),))
    first, *more = Census.of(table, split=split).told(lost=lost)
    assert first == (
        "4 groups of run, of 1 to 4 events (median 1.5); 2 of a single one; 2 of background alone; "
        "1 of signal alone; 1 more lose all events to the selection and are no groups; 2 to train, 1 to "
        "validate, 1 to test"
    )
    assert not more
    nobody = next(k for k in range(10) if k not in folds)
    _, *more = Census.of(table, split=Split(10, (nobody,), ())).told(noun="jets")
    assert len(more) == 1
    assert more[0].startswith("no group is left to validate with: whole groups share a fold")


def test_groups_on_both_sides_are_told_of(datasets: Any, tmp_path: Path) -> None:
    signal, background = datasets
    table, _ = make(tmp_path / "t", [replace(signal, use="train"), replace(background, use="test")])
    told = list(Census.of(table, split=SPLIT).told())
    assert "groups stand in several of the parts" in told[-1]
    assert "write 'use: all'" in told[-1]
