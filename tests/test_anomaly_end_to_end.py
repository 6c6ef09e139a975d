"""The shipped config of anomalous jets: what it takes of small samples, and a tagger trained on them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from hepdecorr import Table
from hepdecorr.cli.main import main
from hepdecorr.samples import jets

ROOT = Path(__file__).parents[1]
# As the head of the config has it, with fewer jets: process, jets, options.
SIGNALS = {
    "w59": ("w", 60, {"boson_mass": 59.0, "mass": 1250.0}),
    "w80": ("w", 60, {"boson_mass": 80.0, "mass": 1250.0}),
    "w120": ("w", 60, {"boson_mass": 120.0, "mass": 1250.0}),
    "top80": ("top", 80, {"top_mass": 80.0, "mass": 1250.0}),
    "top174": ("top", 100, {"top_mass": 174.0, "mass": 1250.0}),
    "h4j20": ("h4j", 80, {"light_mass": 20.0, "pthat_min": 540.0, "pthat_max": 700.0}),
    "h4j80": ("h4j", 80, {"light_mass": 80.0, "pthat_min": 540.0, "pthat_max": 700.0}),
}
FILES = {
    name: (process, count, {**given, "pt_min": 550.0}) for name, (process, count, given) in SIGNALS.items()
}
FILES |= {
    "qcd": ("qcd", 600, {}),
    "qcd_test": ("qcd", 150, {"pt_min": 550.0, "pthat_min": 500.0, "pthat_max": 800.0}),
    "outliers": ("w", 320, {"boson_mass": 20.0, "boson_mass_max": 280.0, "mass": 1200.0}),
}


@pytest.fixture(autouse=True)
def quiet_schemas(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """coffea's schemas without the warnings of the collections that are not there."""
    from coffea.nanoevents import NanoAODSchema

    monkeypatch.setattr(NanoAODSchema, "warn_missing_crossrefs", False)
    return


@pytest.fixture(scope="module")
def changes(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """`--set` of the config to small files of each sample, made here."""
    for extra in ("pythia8mc", "fastjet"):
        pytest.importorskip(extra, reason="the extra `samples` is not installed")
    folder = tmp_path_factory.mktemp("data")
    for number, (name, (process, count, given)) in enumerate(FILES.items()):
        out, options = folder / f"{name}.root", jets.Options(mpi=False, **given)
        size = 40 if name == "outliers" else None
        jets.generate(process, out=out, jets=count, seed=50 + number, options=options, job_events=size)
    return [
        *(f"samples.datasets.{name}.files={folder / name}.root" for name in FILES),
        f"output={folder / 'out'}",
        f"models={folder / 'models'}",
        "running.executor=iterative",
        "training.jobs=1",
        "taggers.kl_oe.training={epochs: 2, batch: 250, lr: 1.e-3}",
        "taggers.kl_oe.exposure.anneal={shape: linear, rise: 1}",
    ]


def hepdecorr(verb: str, *words: str, changes: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    config = str(ROOT / "analysis_configs" / "anomaly.yaml")
    sets = (word for change in changes for word in ("--set", change))
    monkeypatch.setattr(sys, "argv", ["hepdecorr", verb, config, *words, *sets])
    with pytest.raises(SystemExit) as left:
        main()
    assert not left.value.code


def folder(changes: list[str]) -> Path:
    return Path(next(one for one in changes if one.startswith("output=")).removeprefix("output="))


def test_the_table_holds_whole_jets_of_every_signal(
    changes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    hepdecorr("table", changes=changes, monkeypatch=monkeypatch)
    table = Table.open(folder(changes) / "table")
    rows = table.read(["mass", "pt", "label", "dataset"])
    names = list(table.datasets)
    assert set(names) == set(FILES)
    mass = {name: rows["mass"][rows["dataset"] == names.index(name)] for name in names}
    # With what else flies into a jet of R = 1, and h -> b b without its neutrinos.
    expected = {"w59": 59, "w80": 80, "w120": 119, "top174": 172, "h4j20": 164, "h4j80": 163}
    for name, nominal in expected.items():
        assert len(mass[name]) > 20
        assert np.median(mass[name]) == pytest.approx(nominal, rel=0.06), name
    # A light top radiates: half of the jets are heavier than it by a tenth and more.
    assert 78 < np.quantile(mass["top80"], 0.2) < np.median(mass["top80"]) < 105
    low, high = np.quantile(mass["outliers"], [0.1, 0.9])
    assert low < 60 < 190 < high
    tested = np.isin(rows["dataset"], [names.index(k) for k in names if table.datasets[k]["use"] == "test"])
    assert np.all((rows["pt"][tested] >= 550) & (rows["pt"][tested] < 650))
    assert rows["pt"][~tested].max() > 800
    assert {k for k, v in table.datasets.items() if v["label"] == 0} == {"qcd", "qcd_test"}
    assert table.datasets["outliers"]["use"] == "train"


def test_a_tagger_is_trained_and_judged(changes: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    hepdecorr("table", changes=changes, monkeypatch=monkeypatch)
    hepdecorr("train", "--only", "kl_oe", changes=changes, monkeypatch=monkeypatch)
    hepdecorr("evaluate", "--only", "kl_oe", changes=changes, monkeypatch=monkeypatch)
    scores = Table.open(folder(changes) / "evaluation" / "scores")
    assert set(scores.datasets) == {"qcd_test", *SIGNALS}
    further = [f"kl_oe-1.{name}" for name in ("mse", "kl", "nll", "density", "emd")]
    assert scores.names("score") == ["kl_oe-1", *further]
    rows = scores.read()
    assert all(np.isfinite(rows[name]).all() for name in scores.names("score"))
    assert set(rows["label"].tolist()) == {0, 1}
    # The tagger's own score is the KL, as a logit.
    assert np.array_equal(
        np.argsort(rows["kl_oe-1"], kind="stable"), np.argsort(rows[further[1]], kind="stable")
    )
    assert (rows[further[-1]] > 0).all()
