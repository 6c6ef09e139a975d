"""Measures of codes: the verb on hand-made taggers of exam scores, known in closed form."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from hepdecorr import Table
from hepdecorr.catalogue import load_file
from hepdecorr.cli import coded
from hepdecorr.cli.coding import Events, inferred
from hepdecorr.cli.steps import Analysis
from hepdecorr.columnar.group_decoding import GroupDecoding
from hepdecorr.config import Config, load
from hepdecorr.errors import InputError
from hepdecorr.samples.exam_scores import generate
from hepdecorr.validation import plots
from hepdecorr.validation.measures.code_evaluation import FIGURES
from hepdecorr.validation.measures.processes import exam_scores
from hepdecorr.validation.plots.codes import Moved as translated

ROOT = Path(__file__).parents[2]
making = load_file(ROOT / "tests" / "cli" / "making_coders.py")
CONFIG = f"""\
name: made
output: out
models: models
groups:
  of: run
  truth: {{group: [mu, sigma], instance: [v], process: exam_scores}}
samples:
  schema: BaseSchema
  datasets:
    schools: {{files: scores.root, label: background}}
features: [x]
nuisances:
  mu: {{low: -4, high: 4}}
  sigma: {{low: -4, high: 4}}
  v: {{low: -4, high: 4, protected: false}}
split: {{folds: 4, validation: [0], test: [2, 3]}}
seeds: [1, 2]
taggers:
  told: {{title: Told, type: GroupVAE, latents: {{group: 2, instance: 1}}}}
  blind: {{type: GroupVAE, latents: {{group: 2, instance: 1}}}}
report:
  codes: {{Both: [told, blind]}}
running: {{executor: iterative}}
processors:
  table: {ROOT}/processors/training_table.py:TrainingTable
  evaluate: {ROOT}/processors/sculpting.py:Sculpting
training: {{device: cpu}}
"""


def config(folder: Path, *overrides: str) -> Config:
    return load(folder / "made.yaml", overrides=list(overrides))


def measured(folder: Path, *names: str, redo: bool = False, changed: tuple[str, ...] = ()) -> bool:
    """Whether it was finished already."""
    models = {name: folder / "models" / f"made-{name}" for name in names}
    table, console = Table.open(folder / "out" / "table"), Console(quiet=True)
    about = {"table": table, "folder": folder / "out" / "groups", "console": console, "redo": redo}
    return coded.write(config(folder, *changed), models=models, **about)[1]


ALL = ("told-1", "told-2", "blind-1", "blind-2")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("codes")
    generate(out=made / "scores.root", groups=700)
    (made / "made.yaml").write_text(CONFIG)
    Analysis(config(made), console=Console(quiet=True), only=[]).table()
    for name in ALL:
        body = making.BLIND if name.startswith("blind") else making.TAGGER
        making.write(made / "models" / f"made-{name}", tagger=body)
    return made


@pytest.fixture(scope="module")
def told(folder: Path) -> dict:
    assert not measured(folder, *ALL)
    return json.loads((folder / "out" / "groups" / "groups.json").read_text())


def test_the_page_says_how_all_taggers_and_seeds_compare(folder: Path, told: dict) -> None:
    assert set(told["taggers"]) == {"told", "blind"}
    for tagger in told["taggers"].values():
        assert set(tagger["seeds"]) == {"1", "2"}
        for one in tagger["seeds"].values():
            assert set(one["figures"]) == set(FIGURES)
            assert one["left_out"] == {}
            assert 300 < one["groups"] < 400
        assert tagger["over_seeds"]["translation"]["n"] == 2
    means = {name: one["over_seeds"]["translation_means"]["mean"] for name, one in told["taggers"].items()}
    # Who knows the school is near the best there is; who does not moves a score by what is not in it.
    assert told["floors"]["translation_means"]["value"] < means["told"] < 0.5 * means["blind"]
    likely = {name: one["over_seeds"]["likelihood"]["mean"] for name, one in told["taggers"].items()}
    assert likely["blind"] < likely["told"] < told["floors"]["likelihood"]["value"] + 0.05
    (pair,) = told["differences"]["translation_means"]
    assert (pair["first"], pair["second"], pair["seeds"]) == ("told", "blind", 2)
    assert pair["value"]["value"] == pytest.approx(means["told"] - means["blind"])
    home = folder / "out" / "groups"
    text = (home / "groups.html").read_text()
    for words in ("Told", "exact posterior", "Numbers of the authors", "not resolved", "Both"):
        assert words in text
    for stem in ("codes_Both", "translations"):
        for kind in ("pdf", "png"):
            assert (home / "figures" / f"{stem}.{kind}").stat().st_size > 5000


def test_the_figure_of_translations_names_taggers_by_their_titles() -> None:
    some = np.arange(3.0)
    found = {name: [translated(some, some + 1, some + 2, some + 3)] for name in ("told", "blind")}
    drawn = plots.translations(found, feature="x", titles={"told": "Told"})
    assert [ax.get_title(loc="left") for ax in drawn.axes] == ["Told", "blind"]


def test_a_figure_is_that_of_the_arrays(folder: Path, told: dict) -> None:
    events = Events.of(config(folder), Table.open(folder / "out" / "table"), ["x"])
    x, group = events.columns["x"].astype(float), events.group
    counts = np.bincount(group)
    mean = np.bincount(group, x) / counts
    deviation = np.sqrt(np.bincount(group, x**2) / counts - mean**2)
    slope = 1 + np.maximum(deviation - 1, 0)
    v = (x - mean[group]) / slope[group]
    found = told["taggers"]["told"]["seeds"]["1"]["figures"]
    assert found["reconstruction_means"]["value"] < 1e-6  # its encoder undoes its decoder
    from hepdecorr.validation.measures.codes import partners

    target = partners(len(counts)).target[group]
    assert events.truth.group is not None
    assert events.truth.instance is not None
    true = exam_scores(events.truth.group[target], events.truth.instance)[:, 0]
    error = np.mean(np.square(mean[target] + slope[target] * v - true))
    assert found["translation_means"]["value"] == pytest.approx(error, rel=1e-4)


def test_what_is_finished_is_not_done_again(
    folder: Path, told: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert measured(folder, *ALL)

    def refused(*_: object) -> None:
        raise AssertionError("measured again")

    # With fewer taggers the page is new, and the measures are there.
    monkeypatch.setattr(coded, "_evaluated", refused)
    assert not measured(folder, "told-1")
    page = json.loads((folder / "out" / "groups" / "groups.json").read_text())
    assert page["taggers"]["told"]["seeds"]["1"] == told["taggers"]["told"]["seeds"]["1"]
    with pytest.raises(AssertionError, match="measured again"):
        measured(folder, "told-1", redo=True)


def test_graphs_give_what_the_measures_take(folder: Path) -> None:
    events = Events.of(config(folder), Table.open(folder / "out" / "table"), ["x"])
    one = inferred(folder / "models" / "made-told-1", events)
    assert one.variance is not None
    np.testing.assert_allclose(one.variance, making.NOISE**2)
    assert one.scale is None
    u, v = np.array([[0.3, -1.5], [1.0, 0.5]]), np.array([[0.7], [-2.0]])
    np.testing.assert_allclose(one.decoded(u, v), exam_scores(u, v), rtol=1e-5)
    # Codes come from whole groups, whatever the order of their events.
    tagger = GroupDecoding(folder / "models" / "made-told-1")
    order = np.random.default_rng(1).permutation(len(events.group))
    found = tagger.codes(one.x.astype(np.float32)[order], events.ids[events.group][order])
    np.testing.assert_allclose(found.mean, one.code.mean, rtol=1e-5, atol=1e-5)
    # The instance encoder is told the code that it is given, event by event.
    rows, codes_of = np.array([5, 3, 5]), np.array([[0.0, 0.0], [1.0, 1.0], [2.0, 0.0]])
    x = one.x[rows, 0]
    expected = (x - 2 * codes_of[:, 0]) / (1 + codes_of[:, 1] ** 2)
    np.testing.assert_allclose(one.encoded(rows, codes_of).mean[:, 0], expected, rtol=1e-4, atol=1e-5)
    assert tagger.decode(u[:0], v[:0]).shape == (0, 1)


def test_without_truth_what_is_left_out_is_said(folder: Path) -> None:
    assert not measured(folder, "told-1", changed=("groups.truth={}",))
    home = folder / "out" / "groups"
    page = json.loads((home / "groups.json").read_text())
    one = page["taggers"]["told"]["seeds"]["1"]
    assert {"reconstruction", "likelihood", "elbo"} <= set(one["figures"])
    assert "groups.truth.group" in one["left_out"]["u_probe"]
    assert "translation" not in one["figures"]
    assert page["floors"] == {}
    assert "Left out" in (home / "groups.html").read_text()


def test_a_tagger_without_a_decoder_or_without_groups_is_told(folder: Path, tmp_path: Path) -> None:
    making.write(folder / "models" / "made-told-7", decodes=False)
    bare = ROOT / "models" / "builtin" / "bsgamma-disco-1"
    table, console = Table.open(folder / "out" / "table"), Console(quiet=True)
    models = {"told-7": folder / "models" / "made-told-7", "disco-1": bare}
    page, _ = coded.write(config(folder), models=models, table=table, folder=tmp_path, console=console)
    text = page.read_text()
    assert "disco: it is told of no groups" in text
    assert "no decoder" in text
    with pytest.raises(InputError, match="makes no features of codes"):
        GroupDecoding(models["told-7"]).decode(np.zeros((1, 2)), np.zeros((1, 1)))
    with pytest.raises(InputError, match="has no codes of them"):
        GroupDecoding(bare)
    with pytest.raises(InputError, match="none is told of groups"):
        coded.write(config(folder), models={"disco-1": bare}, table=table, folder=tmp_path, console=console)


def test_what_cannot_be_measured_is_refused(folder: Path, tmp_path: Path) -> None:
    wrong = config(folder, "groups.truth.process=exam_score")
    with pytest.raises(InputError, match=r"groups.truth.process.*no 'exam_score'.*exam_scores"):
        Analysis(wrong, console=Console(quiet=True), only=[])
    with pytest.raises(InputError, match="differ within"):
        measured(folder, "told-1", changed=("groups.truth.group=[v]", "groups.truth.instance=[mu]"))
    with pytest.raises(InputError, match="no tagger 'bllnd'"):
        config(folder, "report.codes={Both: [bllnd]}")
    with pytest.raises(InputError, match="no test events"):
        measured(folder, "told-1", changed=("split.test=[]",))
    lonely = tmp_path / "alone.yaml"
    lonely.write_text((folder / "made.yaml").read_text().replace("groups:\n", "x_groups:\n", 1))
    with pytest.raises(InputError, match="x_groups"):
        load(lonely)


def test_the_verb_asks_for_trained_taggers_first(folder: Path) -> None:
    stream = io.StringIO()
    steps = Analysis(config(folder, "seeds=[9]"), console=Console(file=stream, width=400), only=["told"])
    with pytest.raises(InputError, match=r"run 'hepdecorr train made\.yaml' first"):
        steps.groups()
    # Hand-made taggers are of no config.
    with pytest.raises(InputError, match="trained from another table or config"):
        Analysis(config(folder), console=Console(quiet=True), only=["told"]).groups()
