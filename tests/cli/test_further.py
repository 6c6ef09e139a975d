"""Further scores of taggers in a report, and scores against each signal dataset by itself."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from hepdecorr.catalogue import load_file
from hepdecorr.cli import further, signals
from hepdecorr.config import Config, load
from hepdecorr.errors import InputError
from hepdecorr.validation import measures

TEXT = """
name: own
output: out
samples:
  datasets:
    b: {files: b.root, label: background}
    s: {files: s.root, label: signal}
nuisances: {mass: {low: 0, high: 5}}
features: [r2]
working_points: [0.5, 0.9]
taggers:
  vae: {type: JetVAE}
  plain: {type: Tagger}
report: REPORT
"""
QUIET = Console(quiet=True)
NAMES = ("vae-1", "vae-1.kl", "vae-1.mse", "vae-2", "vae-2.kl", "vae-2.mse", "plain-1")


def config(folder: Path, report: str = "{}") -> Config:
    path = folder / "own.yaml"
    path.write_text(TEXT.replace("REPORT", report))
    return load(path)


def table(**datasets: dict[str, Any]) -> Any:
    return SimpleNamespace(datasets=datasets, names=lambda role: list(NAMES))


SAMPLES = table(
    qcd={"label": 0, "title": "QCD"},
    w={"label": 1, "title": "W, 80 GeV"},
    outliers={"label": 0},
    top={"label": 1, "title": "Top"},
)


@pytest.fixture(scope="module")
def events() -> dict[str, Any]:
    """The mass is in the first score, not in the second; dataset 2 is background too."""
    random = np.random.default_rng(1)
    dataset = np.repeat([0, 1, 2, 3], [400, 150, 100, 150])
    label = np.isin(dataset, (1, 3)).astype(np.int8)
    mass = random.exponential(size=len(label)).astype(np.float32)
    shift = np.array([0.0, 0.5, 0.0, 1.5])[dataset]
    logits = {"vae-1": mass + shift, "vae-1.kl": shift + random.normal(size=len(label))}
    logits |= {"vae-2": shift + random.normal(size=len(label)), "plain-1": np.zeros(len(label))}
    weight = np.ones(len(label), dtype=np.float32)
    return {"label": label, "mass": mass, "weight": weight, "dataset": dataset, **logits}


def test_names_of_further_scores(tmp_path: Path) -> None:
    """By tagger and score, over the seeds; a tagger's own name may hold points."""
    assert [further.tagger_of(name) for name in ("vae-1", "a.b-12", "vae-1.kl", "a.b-2.emd_plane")] == [
        "vae", "a.b", "vae.kl", "a.b.emd_plane",
    ]  # fmt: skip
    found = further.found(SAMPLES, ["vae-1", "vae-2", "plain-1"])
    assert found == {name: name[:5] for name in NAMES if "." in name}
    assert further.chosen(config(tmp_path), found) == []
    assert further.chosen(config(tmp_path, "{further: measured}"), found) == list(found)
    asked = config(tmp_path, "{spectra: {both: [vae, vae.kl]}}")
    assert further.chosen(asked, found) == ["vae-1.kl", "vae-2.kl"]


def test_a_further_score_has_its_own_working_points() -> None:
    making = load_file(Path(__file__).parents[1] / "columnar" / "jets" / "making_taggers.py")
    card = making.card()
    points = (card.working_points[0].model_copy(update={"threshold": 9.0}),)
    of = card.model_copy(update={"further_points": {"kl": points}})
    found = further.cards({"vae-1": of}, {"vae-1.kl": "vae-1", "vae-1.mse": "vae-1"})
    assert found["vae-1.kl"].working_points == points
    # Those of the tagger's own score would cut on another.
    assert found["vae-1.mse"].working_points == ()


def test_spectra_stand_side_by_side_as_far_as_they_are_reported(tmp_path: Path) -> None:
    asked = config(tmp_path, "{spectra: {both: [vae, vae.kl], other: [plain]}}")
    assert further.spectra(asked, ["vae", "vae.kl", "plain"]) == {
        "both": ["vae", "vae.kl"],
        "other": ["plain"],
    }
    assert further.spectra(asked, ["plain"]) == {"other": ["plain"]}
    with pytest.raises(InputError, match=r"own\.yaml:14: report\.spectra\.both: no score 'vae\.kl' was eval"):
        further.spectra(asked, ["vae", "vae.mse"])
    with pytest.raises(InputError, match=r"own\.yaml:14: report: no tagger 'vea\.kl'"):
        config(tmp_path, "{spectra: {both: [vea.kl]}}")


def test_signals_have_titles_or_where_these_repeat_names() -> None:
    assert signals.signals(SAMPLES) == {"W, 80 GeV": 1, "Top": 3}
    twice = table(a={"label": 1, "title": "W"}, b={"label": 1, "title": "W"}, q={"label": 0})
    assert signals.signals(twice) == {"a": 0, "b": 1}


def test_each_signal_is_measured_against_all_background(events: dict[str, Any], tmp_path: Path) -> None:
    asked, own = config(tmp_path), signals.signals(SAMPLES)
    names = ["vae-1", "vae-1.kl", "vae-2"]
    found = signals.measured(asked, events, names, signals=own, console=QUIET)
    assert {name: len(seeds) for name, seeds in found.items()} == {"vae": 2, "vae.kl": 1}
    top = (events["label"] == 0) | (events["dataset"] == 3)
    expected = measures.auc(events["vae-1.kl"][top], events["label"][top])
    assert found["vae.kl"][0].of("Top").auc == expected
    assert found["vae.kl"][0].background_events == 500
    assert [one.rejection for one in found["vae"][0].samples[0].signal_efficiency] == [0.5, 0.9]
    # What was measured is read back, and it is that which is read.
    kept = sorted((asked.output_folder / "measured").iterdir())
    assert len(kept) == 3
    for path in kept:
        content = json.loads(path.read_text())
        path.write_text(json.dumps(content | {"background_events": 7}))
    again = signals.measured(asked, events, names, signals=own, console=QUIET)
    assert [one.background_events for one in again["vae"]] == [7, 7]
    np.testing.assert_array_equal(again["vae"][0].covariance, found["vae"][0].covariance)
    assert signals.measured(asked, events, names, signals={"Top": 3}, console=QUIET) == {}
    # One that the selection has left nothing of is named, also where it is the last of the table.
    with pytest.raises(InputError, match="signal 'Higgs': no events of it"):
        signals.measured(asked, events, names, signals={"Top": 3, "Higgs": 5}, console=QUIET)


def test_scores_are_compared_with_the_best_seed_by_seed(events: dict[str, Any], tmp_path: Path) -> None:
    asked, about = config(tmp_path), {"signals": signals.signals(SAMPLES)}
    names = ["vae-1", "vae-1.kl", "plain-1"]
    found = signals.measured(asked, events, names, console=QUIET, **about)
    told = signals.behind(asked, events, names, found, **about)
    means = {name: seeds[0].mean_auc.value for name, seeds in found.items()}
    best = max(means, key=lambda name: means[name])
    assert set(told) == set(means) - {best}
    assert told["plain"][0].value == pytest.approx(means[best] - 0.5)
    assert signals.behind(asked, events, names, {}, **about) == {}
    # Of other seeds there is no pair.
    other = {**events, "plain-2": events["plain-1"]}
    names = ["vae-1", "vae-1.kl", "plain-2"]
    found = signals.measured(asked, other, names, console=QUIET, **about)
    assert "plain" not in signals.behind(asked, other, names, found, **about)


def test_ranks_are_correlated_in_background_alone(events: dict[str, Any], tmp_path: Path) -> None:
    found = signals.correlations(config(tmp_path), events, ["vae-1", "vae-1.kl", "plain-1"], console=QUIET)
    # The score of background is the mass itself; in all events it is not.
    assert found["mass"]["vae"][0].value == pytest.approx(1.0)
    assert abs(found["mass"]["vae.kl"][0].value) < 4 * found["mass"]["vae.kl"][0].std
    assert "plain" not in found["mass"]
