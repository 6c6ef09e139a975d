"""The built-in sample through both processors: a tagger mapped in its graph, one cut by correctionlib."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from coffea.nanoevents import NanoEventsFactory

from hepdecorr.card import Nuisance
from hepdecorr.catalogue import load_file
from hepdecorr.columnar import rows
from hepdecorr.columnar.filesets import expand
from hepdecorr.columnar.running import run
from hepdecorr.columnar.schemas import BsgammaSchema
from hepdecorr.columnar.tagger import OnnxTagger
from hepdecorr.columnar.thresholds import Thresholds
from hepdecorr.errors import InputError
from hepdecorr.learning import finish, train
from hepdecorr.learning.posthoc import Chain, fitted
from hepdecorr.samples import builtin
from hepdecorr.table import Split, Table
from hepdecorr.validation.measures import sculpting

SPLIT = Split(10, (0,), (5, 6, 7, 8, 9))
FEATURES = ["delta_e", "e_star_gamma", "p_star_kst", "cos_kst_gamma"]  # they give m_bc away
NUISANCES = {"mass": {"feature": "m_bc", "low": 5.2, "high": 5.29, "bins": 30}}
SPEC = {
    "type": "Tagger",
    "network": {"type": "MLP", "hidden": [16]},
    "training": {"epochs": 4, "batch": 1024, "lr": 0.01},
    "posthoc": [{"type": "QuantileMap", "nuisance": "mass"}],
}


def processor(name: str) -> Any:
    return load_file(Path(__file__).parents[2] / "processors" / f"{name}.py")


@pytest.fixture(scope="module")
def datasets() -> Any:
    spec = {
        name: {"files": f"builtin:bsgamma_{name}.root", "label": label}
        for name, label in (("signal", "signal"), ("continuum", "background"))
    }
    return expand(spec, base=Path())


@pytest.fixture(scope="module")
def models(datasets: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("mapped")
    maker = processor("training_table").TrainingTable(
        folder=folder / "table", features=FEATURES, nuisances=NUISANCES
    )
    out = run(datasets, maker, schema=BsgammaSchema, chunksize=30_000).out
    about = {"conventions": {"schema": "BsgammaSchema"}}
    table = rows.finish_table(
        out["chunks"], folder=folder / "table", columns=maker.columns, datasets=datasets, provenance=about
    )
    trained = train(SPEC, table=table, split=SPLIT, seed=1, device="cpu")
    cuts = Chain.read({"maps": SPEC["posthoc"], "into": "corrections"}, known=["mass"])
    fitted.fit(cuts, trained.method, table=table, layout=trained.layout, split=SPLIT)
    made = {}
    for name, chain in (("graph", trained.posthoc), ("cuts", cuts), ("raw", None)):
        made[name] = finish(
            trained._replace(posthoc=chain),
            name=name,
            folder=folder / name,
            table=table,
            nuisances=[Nuisance(name="mass", low=5.2, high=5.29, feature="m_bc")],
            config_hash="",
            rejections=(0.5, 0.9, 0.95),
            **about,
        )
    return made


@pytest.fixture(scope="module")
def evaluated(
    models: dict[str, Path], datasets: Any, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Any, Table]:
    made = processor("sculpting").Sculpting(
        taggers=models, nuisances=NUISANCES, split=SPLIT, folder=tmp_path_factory.mktemp("scores")
    )
    found = run(datasets, pickle.loads(pickle.dumps(made)), schema=BsgammaSchema, chunksize=20_000)
    assert found.report.complete
    out = found.out
    table = rows.finish_table(
        out["chunks"], folder=made.folder, columns=made.columns, datasets=datasets, provenance={}
    )
    return out["histograms"]["mass"], table


def test_what_lies_in_the_folders(models: dict[str, Path]) -> None:
    assert sorted(p.name for p in models["graph"].iterdir()) == ["card.yaml", "tagger.onnx"]
    assert sorted(p.name for p in models["cuts"].iterdir()) == [
        "card.yaml",
        "corrections.json",
        "tagger.onnx",
    ]
    mapped, cut = (OnnxTagger(models[n]) for n in ("graph", "cuts"))
    assert mapped.column_names == [*FEATURES, "m_bc"]
    assert cut.column_names == FEATURES
    assert Thresholds.beside(models["graph"]) is None
    cuts = Thresholds.beside(models["cuts"])
    assert cuts is not None
    assert cuts.column_names == ["m_bc"]


@pytest.mark.parametrize("rejection", [0.5, 0.9, 0.95])
def test_both_kinds_leave_the_spectrum_as_it_is(evaluated: tuple[Any, Table], rejection: float) -> None:
    """On test events, through coffea: the raw score sculpts, and neither of the two does."""
    histogram, _ = evaluated
    before = histogram["continuum", "nominal", "raw", "before", :].values()

    def chi2(tagger: str) -> float:
        passing = histogram["continuum", "nominal", tagger, f"pass {rejection}", :].values()
        share = passing.sum() / before.sum()
        assert share == pytest.approx(1 - rejection, rel=0.15)
        expected = share * before
        return float(((passing - expected) ** 2 / (expected * (1 - share)))[before > 0].sum())

    bins = np.count_nonzero(before)
    assert chi2("raw") > 5 * bins
    for tagger in ("graph", "cuts"):
        assert chi2(tagger) < bins + 4 * np.sqrt(2 * bins)


def test_the_same_events_pass_either_way(evaluated: tuple[Any, Table], models: dict[str, Path]) -> None:
    histogram, _ = evaluated
    for rejection in (0.5, 0.9):
        one, other = (
            histogram["continuum", "nominal", name, f"pass {rejection}", :].values()
            for name in ("graph", "cuts")
        )
        assert np.abs(one - other).sum() < 0.02 * one.sum()


def test_scores_of_events_are_those_of_the_table(
    evaluated: tuple[Any, Table], models: dict[str, Path]
) -> None:
    _, table = evaluated
    scores = table.read(["event", "graph", "raw", "mass", "label"])
    tagger = OnnxTagger(models["graph"])
    own = scores["label"] == 1
    for mode in ("virtual", "eager"):
        events = NanoEventsFactory.from_root(
            {str(builtin()["bsgamma_signal.root"]): "Events"},
            schemaclass=BsgammaSchema,
            mode=mode,
            entry_stop=900,
        ).events()
        found = dict(
            zip(np.asarray(events["event"]).tolist(), np.asarray(tagger.logit(events)).tolist(), strict=True)
        )
        common = own & np.isin(scores["event"], list(found))
        assert common.sum() > 300
        wanted = [found[e] for e in scores["event"][common].tolist()]
        np.testing.assert_allclose(scores["graph"][common], wanted, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(tagger.logits(tagger.inputs(events)), tagger.logit(events), atol=1e-6)
    assert np.abs(scores["graph"] - scores["raw"]).max() > 0.5
    background = ~own
    flat = sculpting(
        scores["graph"][background],
        scores["mass"][background],
        range=(5.2, 5.29),
        rejection=0.9,
        permutations=200,
    )
    assert flat.p_value > 0.01


def test_nuisances_that_are_missing_or_no_number(models: dict[str, Path]) -> None:
    tagger = OnnxTagger(models["graph"])
    events = NanoEventsFactory.from_root(
        {str(builtin()["bsgamma_signal.root"]): "Events"}, schemaclass=BsgammaSchema, entry_stop=5
    ).events()
    columns = {name: np.ones(5) for name in FEATURES}
    with pytest.raises(InputError, match="needs feature 'm_bc', which is not there"):
        tagger.logit(events, columns=columns)
    broken = {**columns, "m_bc": np.array([5.2, 5.2, np.nan, 5.2, 5.2])}
    with pytest.raises(InputError, match=r"nuisances is not finite in row 2 \(m_bc\)"):
        tagger.logit(events, columns=broken)
    cuts = Thresholds(models["cuts"])
    with pytest.raises(InputError, match="m_bc is not finite in 1 of 5 rows"):
        cuts.at(0.9, broken)
    with pytest.raises(InputError, match="the cuts need feature 'm_bc'"):
        cuts.at(0.9, columns)
    with pytest.raises(InputError, match=r"no cut at rejection 0\.7"):
        cuts.at(0.7, {"m_bc": np.ones(2)})


def test_files_that_are_no_cuts(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file of cuts"):
        Thresholds(tmp_path)
    (tmp_path / "corrections.json").write_text("{}")
    with pytest.raises(InputError, match="no file of correctionlib"):
        Thresholds(tmp_path)
