"""The card: what a tagger says of itself is read back whole, or refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from hepdecorr.card import Card, Feature, Input, Nuisance, WorkingPoint
from hepdecorr.errors import InputError


@pytest.fixture
def card() -> Card:
    return Card(
        name="bsgamma-disco-1",
        method={"type": "Tagger", "terms": [{"type": "DisCo", "strength": 10.0}]},
        seed=1,
        inputs=(Input(features=(Feature(name="r2"), Feature(name="delta_e", unit="GeV"))),),
        nuisances=(Nuisance(name="mbc", unit="GeV", low=5.2, high=5.29),),
        table_fingerprint="ab",
        config_hash="cd",
        versions={"torch": "2"},
        working_points=(
            WorkingPoint(
                rejection=0.95,
                threshold=1.25,
                background_efficiency=0.0501,
                signal_efficiency=0.97,
                background_events=1000,
            ),
        ),
        created="2026-01-01T00:00:00+00:00",
    )


def test_round_trip(card: Card) -> None:
    assert Card.from_json(card.to_json(), source="x") == card
    assert card.feature_names == ["r2", "delta_e"]


def test_yaml_says_the_same(card: Card, tmp_path: Path) -> None:
    card.write_yaml(tmp_path / "card.yaml")
    assert yaml.safe_load((tmp_path / "card.yaml").read_text()) == json.loads(card.to_json())
    assert [p.name for p in tmp_path.iterdir()] == ["card.yaml"]


def test_working_points(card: Card) -> None:
    assert card.working_point(0.95).threshold == 1.25
    with pytest.raises(InputError, match=r"no working point at rejection 0.9; it has 0.95"):
        card.working_point(0.9)


@pytest.mark.parametrize(
    "change", [{"version": 2}, {"seed": None}, {"news": 1}, {"inputs": [{"features": [{"name": 3}]}]}]
)
def test_another_card_is_refused_by_name(card: Card, change: dict[str, object]) -> None:
    text = json.dumps(json.loads(card.to_json()) | change)
    with pytest.raises(InputError, match=r"tagger\.onnx: its card does not fit .*" + next(iter(change))):
        Card.from_json(text, source="tagger.onnx")
    with pytest.raises(InputError, match="does not fit"):
        Card.from_json("{", source="tagger.onnx")


def test_a_tagger_over_constituents(card: Card) -> None:
    inputs = (
        *card.inputs,
        Input(
            name="constituents",
            axes=("rows", "constituents", "features"),
            features=(Feature(name="deta"), Feature(name="log_pt")),
            length=40,
            order="pt descending",
        ),
        Input(name="mask", axes=("rows", "constituents"), features=()),
    )
    jets = card.model_copy(update={"inputs": inputs, "objects": {"collection": "FatJet"}})
    assert Card.from_json(jets.to_json(), source="x") == jets
    assert jets.feature_names == ["r2", "delta_e"]
    assert jets.constituent_names == ["deta", "log_pt"]
    assert jets.constituents is not None
    assert jets.constituents.length == 40
    assert card.constituents is None
    assert card.constituent_names == []
