"""Groups from the YAML to the table, and what the steps say of them."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import uproot
from rich.console import Console

from hepdecorr.cli import checks, measuring
from hepdecorr.cli.steps import Analysis
from hepdecorr.config import Config, load
from hepdecorr.errors import InputError
from hepdecorr.table import fold

YAML = """
name: own
output: out
groups: {of: run, truth: {group: [scale]}}
samples:
  schema: BaseSchema
  datasets:
    b: {files: b.root, label: background}
nuisances: {scale: {low: 0, high: 1}}
features: [x]
split: {folds: 10, validation: [0, 1], test: [2, 3]}
processors: {table: PROCESSORS/training_table.py:TrainingTable, evaluate: PROCESSORS/sculpting.py:Sculpting}
taggers:
  plain: {type: Tagger, network: {type: MLP, hidden: [4]}}
"""
SIGNAL = "\n    s: {files: s.root, label: signal}\nnuisances"


def write(folder: Path, *, name: str = "b", rows: int = 400, seed: int = 1) -> np.ndarray:
    draw = np.random.default_rng(seed)
    run = draw.integers(1, 40, rows).astype("u4")
    made = {"run": run, "luminosityBlock": np.ones(rows, "u4"), "event": np.arange(rows, dtype="u8")}
    made |= {"x": draw.normal(size=rows), "scale": draw.random(rows), "era": (run % 4).astype("i4")}
    with uproot.recreate(folder / f"{name}.root") as file:
        file.mktree("Events", {name: values.dtype for name, values in made.items()}).extend(made)
    return run


def config(folder: Path, *overrides: str, signal: bool = False) -> Config:
    text = YAML.replace("PROCESSORS", str(Path(__file__).parents[2] / "processors"))
    (folder / "own.yaml").write_text(text.replace("\nnuisances", SIGNAL, 1) if signal else text)
    return load(folder / "own.yaml", overrides=list(overrides))


def test_a_table_without_signal_tells_of_its_groups(tmp_path: Path) -> None:
    run = write(tmp_path)
    said = io.StringIO()
    steps = Analysis(config(tmp_path), console=Console(file=said, width=400), only=[])
    table = steps.table()
    found = table.read(["group", "fold"])
    np.testing.assert_array_equal(np.sort(found["group"]), np.sort(run))
    np.testing.assert_array_equal(found["fold"], fold(found["group"]))
    sizes = np.bincount(run)[1:]
    told = f"table {len(sizes)} groups of run, of {sizes.min()} to {sizes.max()} events"
    assert told in said.getvalue()
    with pytest.raises(
        InputError, match=r"own\.yaml:5: samples: taggers are evaluated on both classes.*'hepdecorr groups"
    ):
        steps.evaluate()
    other = Analysis(config(tmp_path, "groups.of=era"), console=Console(quiet=True), only=[])
    with pytest.raises(InputError, match="made with groups of run, and the config has era"):
        other._ready_table()
    assert set(other.table().read(["group"])["group"].tolist()) == {0, 1, 2, 3}
    without = config(tmp_path)
    with pytest.raises(InputError, match="made with other groups than the config now has"):
        Analysis(
            without.model_copy(update={"groups": None}), console=Console(quiet=True), only=[]
        )._ready_table()


def test_names_of_groups_are_looked_for_before_anything_long(tmp_path: Path) -> None:
    write(tmp_path)
    steps = Analysis(config(tmp_path, "groups.of=erra"), console=Console(quiet=True), only=[])
    with pytest.raises(InputError, match=r"own\.yaml:4: groups\.of: 'erra' is neither .* did you mean 'era'"):
        steps.table()
    with pytest.raises(InputError, match=r"own\.yaml:4: groups\.truth\.group.*no nuisance 'scal'"):
        Analysis(config(tmp_path, "groups.truth.group=[scal]"), console=Console(quiet=True), only=[])


def test_a_method_of_whole_groups_asks_for_them(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from hepdecorr.learning.methods.tagger import Tagger\nclass Whole(Tagger):\n    whole = True\n"
    )
    whole = config(tmp_path, "taggers.plain.type=mine.py:Whole", signal=True)
    checks.methods(whole, ["plain"])
    with pytest.raises(
        InputError, match=r"own\.yaml:15: taggers\.plain: Whole learns from groups.*'groups: \{of: run\}'"
    ):
        checks.methods(
            config(tmp_path, "taggers.plain.type=mine.py:Whole", "groups=null", signal=True), ["plain"]
        )


def test_a_map_is_fitted_on_other_groups_than_it_is_applied_to() -> None:
    run = np.random.default_rng(1).integers(0, 50, 1000)
    events = {"run": run, "luminosityBlock": np.ones(1000), "event": np.arange(1000), "group": run}
    half = measuring._halves(events)
    assert not set(run[half]) & set(run[~half])
    assert 300 < half.sum() < 700
    by_event = measuring._halves({k: v for k, v in events.items() if k != "group"})
    np.testing.assert_array_equal(by_event, fold(run, np.ones(1000), np.arange(1000), folds=2, salt=1) == 0)
