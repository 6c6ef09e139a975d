"""What the steps rest on: stamps, renamed histograms, configs that ship."""

from __future__ import annotations

import io
import json
import math
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import hist
import numpy as np
import pytest
import uproot
from rich.console import Console

from hepdecorr import table as tables
from hepdecorr.cli import checks, measuring, proof, show, stamps, training
from hepdecorr.cli.steps import Analysis
from hepdecorr.columnar.filesets import Dataset
from hepdecorr.config import load
from hepdecorr.errors import InputError

CONFIGS = sorted((Path(__file__).parents[2] / "analysis_configs").rglob("*.yaml"))
BSGAMMA = next(path for path in CONFIGS if path.stem == "bsgamma")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_configs_that_ship_are_sound(path: Path, tmp_path: Path) -> None:
    config = load(path, overrides=[f"output={tmp_path}"])
    Analysis(config, console=Console(quiet=True), only=[]).check_methods()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("reweight={nuisances: [mas]}", "reweight: 'mas' is no nuisance .* did you mean 'mass'"),
        ("reweight={nuisances: 7}", "reweight: a value is of the wrong type or out of range"),
        ("reweight=7", "reweight must say in what, as {nuisances: .mass.}, not 7"),
        ("reweight={}", "reweight must say in what"),
        ("features=[] ; constituents=[]", "no features and no constituents to learn from"),
        ("features=jet_mass", "features must be a list of names, as .jet_mass., not 'jet_mass'"),
        ("length=900", "length must be a whole number from 1 to the config's 40, not 900"),
        ("length=ten", ".* not 'ten'"),
        ("network={type: MINE:Unscaled}", r"network: Unscaled has no fit\(x\)"),
    ],
)
def test_faults_in_what_is_learnt_from_are_told_before_anything_long(
    change: str, message: str, tmp_path: Path
) -> None:
    path = next(p for p in CONFIGS if p.stem == "wtag")
    (tmp_path / "my_net.py").write_text(
        "from torch.nn import Linear\nclass Unscaled(Linear):\n"
        "    def __init__(self, features, constituents, outputs):\n        super().__init__(3, outputs)\n"
    )
    change = change.replace("MINE", str(tmp_path / "my_net.py"))
    changes = [f"taggers.deepsets_disco.{one}" for one in change.split(" ; ")]
    config = load(path, overrides=[f"output={tmp_path}", *changes])
    with pytest.raises(InputError, match=rf"wtag\.yaml:\d+: taggers\.deepsets_disco: {message}"):
        checks.methods(config, ["deepsets", "deepsets_disco"])


def test_a_tagger_that_learns_from_signal_asks_for_some(tmp_path: Path) -> None:
    """Its line is named; one that says it needs none is built."""
    (tmp_path / "mine.py").write_text(
        "from hepdecorr.learning.methods.tagger import Tagger\n"
        "class Alone(Tagger):\n    needs_signal = False\n"
    )
    path = tmp_path / "own.yaml"
    path.write_text("""
name: own
samples:
  datasets:
    b: {files: b.root, label: background}
    s: {files: s.root, label: signal, use: test}
nuisances: {m_bc: {low: 0, high: 1}}
features: [r2]
taggers:
  alone: {type: "mine.py:Alone"}
  both: {type: Tagger}
""")
    checks.methods(load(path), ["alone"])
    with pytest.raises(InputError, match=r"own\.yaml:11: taggers\.both: Tagger learns from signal too"):
        checks.methods(load(path), ["alone", "both"])


def test_inspect_tells_outliers(tmp_path: Path) -> None:
    columns = [tables.Column("label", "label")]
    about = {"sig": {"label": 1}, "w": {"label": 1, "use": "train", "outlier": True}, "bkg": {"label": 0}}
    tables.write_manifest(tmp_path, [], columns=columns, datasets=about, provenance={})
    told = Console(file=io.StringIO(), width=100)
    show.inspect(told, tmp_path)
    rows = [line.split() for line in told.file.getvalue().splitlines()]  # type: ignore[attr-defined]
    assert [row[1] for row in rows if row and row[0] in about] == ["signal", "outlier", "background"]


def test_a_cut_of_one_dataset_is_looked_for_in_its_own_files(tmp_path: Path) -> None:
    for name, branch in (("b", "pt"), ("s", "truth")):
        with uproot.recreate(tmp_path / f"{name}.root") as file:
            file.mktree("Events", {branch: "f4"}).extend({branch: np.ones(3, "f4")})
    text = """
name: own
samples:
  datasets:
    b: {files: b.root, label: background}
    s:
      files: s.root
      label: signal
      selection: [{feature: CUT, min: 0}]
nuisances: {m_bc: {low: 0, high: 1}}
features: [r2]
taggers: {plain: {type: Tagger}}
"""
    datasets = [Dataset(name, (str(tmp_path / f"{name}.root"),)) for name in ("b", "s")]
    (tmp_path / "own.yaml").write_text(text.replace("CUT", "truth"))
    checks.branches(load(tmp_path / "own.yaml"), datasets)
    (tmp_path / "own.yaml").write_text(text.replace("CUT", "pt"))  # the other dataset has it
    with pytest.raises(InputError, match=r"own\.yaml:9: .*selection\.0: 'pt' is neither a feature nor"):
        checks.branches(load(tmp_path / "own.yaml"), datasets)


def test_a_measure_that_fails_names_its_tagger_and_its_key() -> None:
    config = load(next(p for p in CONFIGS if p.stem == "wtag"))
    assert measuring._place(config, ("deepsets-1", "mass", True)).endswith(": report.mapped: deepsets-1")
    assert measuring._place(config, ("deepsets-1", "mass", False)).endswith(": nuisances.mass: deepsets-1")


def test_only_a_tagger_that_there_is(tmp_path: Path) -> None:
    config = load(BSGAMMA, overrides=[f"output={tmp_path}"])
    with pytest.raises(InputError, match="did you mean 'plain'"):
        Analysis(config, console=Console(quiet=True), only=["plan"])


def test_a_stamp_fits_only_its_key_and_outputs_that_are_there(tmp_path: Path) -> None:
    output = tmp_path / "output"
    stamp = stamps.Stamp(tmp_path / "stamp.json", "key")
    assert not stamp.fits()
    stamp.write(fact=3)
    assert stamp.fits()
    assert not stamp.fits(output)
    output.touch()
    assert stamp.fits(output)
    assert not stamps.Stamp(stamp.path, "another").fits(output)
    content = json.loads(stamp.path.read_text())
    assert content["fact"] == 3
    assert content["versions"]["numpy"] == np.__version__
    stamp.path.write_text(stamp.path.read_text()[:20])
    assert not stamp.fits(output)
    stamp.remove()
    assert stamps.Stamp.read(stamp.path) is None


def test_digests_see_files_by_content_and_inputs_by_change(tmp_path: Path) -> None:
    file = tmp_path / "a.root"
    file.write_bytes(b"one")
    before = stamps.digest({"x": 1}, file)
    assert before == stamps.digest({"x": 1}, file)
    assert before != stamps.digest({"x": 2}, file)

    class Dataset:
        name = "d"
        files = (str(file), "root://server//b.root")

    old = stamps.inputs([Dataset])
    file.write_bytes(b"two")
    os.utime(file, ns=(1, 1))
    assert stamps.inputs([Dataset]) != old
    assert before != stamps.digest({"x": 1}, file)
    with pytest.raises(TypeError):
        stamps.digest(object())


def test_the_users_own_files_decide_as_well(tmp_path: Path) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text("def rho(events):\n    return events.Bcand_mbc\n")
    sets = [f"output={tmp_path}", f"features=[r2, {mine}:rho]", f"taggers={{t: {{terms: [{mine}:Term]}}}}"]
    config = load(BSGAMMA, overrides=sets)
    analysis = Analysis(config, console=Console(quiet=True), only=[])
    assert analysis._own_code() == [mine]
    assert stamps.own_code({"a": ["absent.py:X", "Photon.pt", 3, None]}, base=tmp_path) == []

    def key() -> str:
        table: Any = SimpleNamespace(fingerprint="f")
        return training.Job.of(config, table, tagger="t", seed=1).key

    before = key()
    assert key() == before
    mine.write_text("def rho(events):\n    return -events.Bcand_mbc\n")
    assert key() != before


def test_every_step_has_code_to_watch() -> None:
    digests = {step: stamps.code(step) for step in stamps.CODE}
    assert len(set(digests.values())) == len(digests)
    for names in stamps.CODE.values():
        assert all((stamps.PACKAGE / name).exists() for name in names)


def test_renamed_keeps_the_contents_of_the_chosen() -> None:
    axes = [hist.axis.StrCategory([], growth=True, name=n) for n in ("dataset", "tagger", "category")]
    filled = hist.Hist(*axes, hist.axis.Regular(4, 0, 1, name="mass"), storage=hist.storage.Weight())
    for tagger, weight in (("a-1", 1.0), ("b-1", 2.0), ("a-2", 4.0)):
        filled.fill(dataset="d", tagger=tagger, category="before", mass=[0.1, 0.6, 7.0], weight=weight)
    found = proof.renamed(filled, {"b": "b-1", "a": "a-1"})
    assert list(found.axes["tagger"]) == ["b", "a"]
    values = found.values(flow=True)
    assert found["d", "b", "before", 0].value == 2.0
    assert found["d", "a", "before", 2].value == 1.0
    # the overflow comes along, the tagger that was not chosen does not
    assert values.sum() == 9.0


def test_curves_of_one_stage_and_of_several() -> None:
    one = {"stage": "tagger", "curves": {"tagger/classify": [0.5, None]}}
    (name, values), *rest = proof.curves([one]).items()
    assert (name, values[0], rest) == ("tagger/classify", 0.5, [])
    assert math.isnan(values[1])
    assert set(proof.curves([one, {"stage": "two", "curves": {"valid/auc": [1.0]}}])) == {
        "tagger: tagger/classify",
        "two: valid/auc",
    }


def test_what_is_odd_about_the_events_is_told_with_the_line_of_the_tagger(tmp_path: Path) -> None:
    draw, rows = np.random.default_rng(1), 400
    mass = draw.normal(size=rows)
    made = {"mass": mass, "double": 2 * mass, "other": draw.normal(size=rows)}
    made |= {"label": np.arange(rows) % 2, "fold": np.arange(rows) % 10}
    roles = {"mass": "nuisance", "double": "feature", "other": "feature", "label": "label", "fold": "id"}
    columns = [tables.Column(name, role) for name, role in roles.items()]
    shard = tables.write_shard(
        tmp_path / "table", "all.parquet", arrays=made, columns=columns, dataset="all", source="made.root",
        start=0, stop=rows,
    )  # fmt: skip
    table = tables.write_manifest(
        tmp_path / "table", [shard], columns=columns, datasets={"all": {"use": "all"}}, provenance={}
    )
    path = tmp_path / "odd.yaml"
    path.write_text(
        "name: odd\nsamples: {datasets: {s: {files: s.root, label: signal}, "
        "b: {files: b.root, label: background}}}\n"
        "nuisances: {mass: {low: -3, high: 3}}\nfeatures: [double, other]\ntaggers:\n"
        "  sound: {type: Tagger, features: [other]}\n  leaky: {type: Tagger}\n"
    )
    config = load(path)
    ((place, text),) = checks.odd(config, table, {"sound", "leaky"})
    assert place.endswith("odd.yaml:7: taggers.leaky")
    assert "feature 'double' is the protected variable 'mass' in other words" in text
    assert list(checks.odd(config, table, {"sound"})) == []


def test_a_report_finds_the_latents_that_lie_beside_a_tagger(tmp_path: Path) -> None:
    arrays = {name: np.zeros((1, 4, 2)) for name in ("change", "change_error", "change_raw", "observed")}
    arrays |= {"observed_error": np.zeros((1, 4, 2)), "mean": np.ones((5, 3)), "nuisance": np.ones((5, 1))}
    arrays |= {"weight": np.ones(5), "keep": np.array([0, 1, 1]), "moved": np.array([0])}
    arrays |= {"nuisances": np.array(["m_bc"]), "shifts": np.array([-2.0, -1, 1, 2])}
    models = {name: tmp_path / name for name in ("plain-1", "cut-1", "cut-2")}
    for name, folder in models.items():
        folder.mkdir()
        if name.startswith("cut"):
            np.savez_compressed(folder / "latents.npz", **arrays)
    cards: Any = dict.fromkeys(models, SimpleNamespace(feature_names=["a", "b"]))
    found = proof._latents(models, cards)
    assert {name: len(seeds) for name, seeds in found.items()} == {"cut": 2}
    assert found["cut"][0].features == ("a", "b")
    assert found["cut"][1].nuisances == ("m_bc",)


def test_of_cuts_that_follow_a_nuisance_is_told_that_measures_do_without_them(tmp_path: Path) -> None:
    console = Console(record=True, width=300, file=io.StringIO())
    for name in ("plain-1", "cut-1"):
        (tmp_path / name).mkdir()
    (tmp_path / "cut-1" / "corrections.json").write_text("{}")
    analysis = Analysis(load(BSGAMMA), console=console, only=[])
    analysis._check_evaluated({}, {name: tmp_path / name for name in ("plain-1", "cut-1")})
    (line,) = console.export_text().splitlines()
    assert "cut-1: cuts of its corrections.json fill the histograms" in line
    assert "into: graph" in line
