"""What a method gives beside its logit gets cuts of its own on the card, the distance of its jets as well."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from hepdecorr.card import Nuisance
from hepdecorr.columnar.scoring import table_logits, table_outputs
from hepdecorr.columnar.tagger import OnnxTagger
from hepdecorr.learning import finish, train
from hepdecorr.table import Selection, Split

SPLIT = Split(10, (0, 1, 2, 3), (4,))
OWN = """
import torch
from hepdecorr.learning.form import Form
from hepdecorr.learning.methods.method import Method

class Mirror(Method):
    '''Takes the four numbers of a constituent for a momentum, and gives it back in another direction.'''

    beside = ("kl", "dead", "means", "input_momenta", "output_momenta")

    def __init__(self, *, features=(), constituents=(), length=0, nuisances=(), frame=None):
        super().__init__()
        self.form = Form(tuple(features), tuple(constituents), length)
        self.register_buffer("turn", torch.tensor([1.0, -0.5, 2.0, 1.0]))

    def learn(self, data, play):
        pass

    def logit(self, x):
        return self.form.unpack(x)[1].sum((1, 2))

    def further(self, x):
        seen = self.form.unpack(x)[1]
        kl = seen.square().sum((1, 2))
        return kl, torch.zeros_like(kl), seen[:, 0], seen, seen * self.turn
"""


@pytest.fixture
def tagger(jet_table, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    (tmp_path / "own.py").write_text(OWN)

    def make(boost: str):
        table = jet_table()
        spec = {"type": "own.py:Mirror", "features": [], "frame": {"boost": boost}}
        trained = train(spec, table=table, split=SPLIT, seed=1, device="cpu", base=tmp_path)
        with caplog.at_level(logging.WARNING):
            folder = finish(
                trained,
                name="mirror",
                folder=tmp_path / boost,
                table=table,
                nuisances=[Nuisance(name="mass", unit="GeV", low=-3, high=3)],
                config_hash="",
                rejections=(0.5, 0.9, 0.9999),
            )
        return OnnxTagger(folder), table

    return make


def test_cuts_are_fixed_on_background_of_the_validation(tagger, caplog: pytest.LogCaptureFixture) -> None:
    made, table = tagger("rest")
    scores = made.further_scores
    assert scores == ["kl", "dead", "emd", "emd_plane", "emd_sphere"]
    select = Selection("validation", SPLIT)
    found = table_outputs(made, table, ["logit", *scores], select=select)
    np.testing.assert_array_equal(found["logit"], table_logits(made, table, select=select))
    background = table.read(["label"], select=select)["label"] == 0
    cuts = made.card.further_points
    assert set(cuts) == {"kl", "emd", "emd_plane", "emd_sphere"}
    assert "score dead gets no working points" in caplog.text
    assert caplog.text.count("0.9999") == 1  # said of the logit, and not of each score again
    for name, points in {"logit": made.card.working_points, **cuts}.items():
        assert [p.rejection for p in points] == [0.5, 0.9]
        for p in points:
            passed = found[name] > np.float32(p.threshold)
            assert passed[background].mean() == pytest.approx(1 - p.rejection, abs=1 / background.sum())
            assert passed[background].mean() == pytest.approx(p.background_efficiency)
            assert passed[~background].mean() == pytest.approx(p.signal_efficiency)
    assert cuts["emd"] == cuts["emd_sphere"] != cuts["emd_plane"]


def test_the_frame_decides_on_the_distance(tagger) -> None:
    cuts = tagger("beam")[0].card.further_points
    assert cuts["emd"] == cuts["emd_plane"] != cuts["emd_sphere"]


def test_a_card_of_a_further_score(tagger) -> None:
    card = tagger("rest")[0].card
    other = card.of_score("kl")
    assert other.working_points == card.further_points["kl"] != card.working_points
    assert (other.title, other.inputs, card.of_score("")) == ("mirror: kl", card.inputs, card)
    assert type(card).from_json(card.to_json(), source="x") == card
