"""Bad input, told in words before a training begins."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from hepdecorr.errors import InputError
from hepdecorr.learning import Data, Events, fitting, vetting
from hepdecorr.learning.layout import Layout
from hepdecorr.learning.methods import Tagger
from hepdecorr.learning.methods.judging import Judge
from hepdecorr.table import Split

FEATURES = ["leaky", "clean", "noise"]
SPLIT = Split(10, (0,), (1,))
SHORT = {"epochs": 1, "batch": 300}


def train(table, *terms: dict, **training: object):
    spec = {"type": "Tagger", "network": {"type": "MLP", "hidden": [4]}, "training": SHORT | training}
    return fitting.train(spec | {"terms": list(terms)}, table=table, split=SPLIT, seed=1, device="cpu")


def told(table, **layout: object) -> list[str]:
    return list(vetting.odd(table, Layout.of(table, **layout), split=SPLIT))


def test_nothing_is_odd_about_sound_events(make_table) -> None:
    assert told(make_table()) == []


def test_a_protected_variable_among_the_features_is_told(make_table) -> None:
    (text,) = told(make_table(), features=["leaky", "mass"])
    assert "protected variable 'mass' is among the features" in text


def test_a_feature_that_is_the_protected_variable_in_other_words_is_told(make_table) -> None:
    made = np.random.default_rng(7)
    label = (made.random(2400) < 0.4).astype(np.int8)
    z = made.normal(size=2400)
    (text,) = told(make_table(label=label, mass=z, noise=np.exp(3 - 0.5 * z)))
    assert re.search(r"feature 'noise' is the protected variable 'mass' in other words .*-1\.0000", text)


def test_a_constant_protected_variable(make_table) -> None:
    with pytest.raises(
        InputError, match=r"nuisance 'mass' is 5.28 in all .* events; a constant tells nothing"
    ):
        train(make_table(mass=np.full(2400, 5.28)), {"type": "DisCo", "nuisance": "mass"})


def test_a_constant_protected_variable_that_no_term_asks_for(make_table) -> None:
    with pytest.raises(
        InputError, match=r"'mass' is 5.28 in all \d+ background .* leave it out of 'nuisances'"
    ):
        train(make_table(mass=np.full(2400, 5.28)))


@pytest.mark.parametrize("terms", [{"type": "DisCo", "nuisance": "mass"}, "DisCo", ["DisCo"]])
def test_terms_that_are_no_list(terms: object) -> None:
    with pytest.raises(InputError, match=r"terms must list terms, as \[{type: DisCo, nuisance: NAME}\]"):
        Tagger(features=FEATURES, nuisances=["mass"], terms=terms)


def test_a_density_of_a_discrete_protected_variable(make_table) -> None:
    table = make_table(mass=np.random.default_rng(1).integers(0, 3, 2400).astype(float))
    message = (
        "GMM: nuisance 'mass' takes 3 values only.* use {type: Softmax, nuisance: mass, bins: 3}, or DisCo"
    )
    with pytest.raises(InputError, match=message):
        train(table, {"type": "GMM", "nuisance": "mass"})
    few = {"nuisance": "mass", "start": 0, "ramp": 0}
    hidden = {"hidden": [4], "batch": 200, "steps": 1}
    for term in ({"type": "Softmax", "bins": 3} | hidden, {"type": "DisCo"}):
        trained = train(table, few | term)
        assert all(np.isfinite(v) for c in trained.history[0]["curves"].values() for v in c)


def test_ties_of_a_discrete_protected_variable_share_their_rank() -> None:
    term = Tagger(
        features=FEATURES, nuisances=["mass"], terms=[{"type": "Softmax", "nuisance": "mass", "bins": 3}]
    ).terms["softmax_mass"]
    z = torch.arange(3.0).repeat(50)
    x, y = torch.randn(150, 3), torch.zeros(150)
    b = Events(torch.cat([x, x]), torch.cat([y, y + 1]), torch.cat([z, z])[:, None]).all
    term.fit(b)
    look = term.look(x[:, 0], b.take(slice(0, 150)), even=True)
    assert [float(look.z[z == k].unique()) for k in range(3)] == pytest.approx(
        [1 / 6, 1 / 2, 5 / 6], abs=0.01
    )
    assert term.floor(look) == pytest.approx(np.log(3), abs=1e-3)


def test_fewer_background_events_than_bins(make_table) -> None:
    label = np.ones(2400, dtype=np.int8)
    label[:40] = 0
    message = r"Softmax: nuisance 'mass': \d\d background events to train on for 50 bins of it; lower 'bins'"
    with pytest.raises(InputError, match=message):
        train(make_table(label=label), {"type": "Softmax", "nuisance": "mass", "bins": 50})


def test_batches_without_background(make_table) -> None:
    label = np.ones(2400, dtype=np.int8)
    label[:60] = 0
    term = {"type": "DisCo", "nuisance": "mass", "draw": 0}
    message = (
        r"DisCo: a batch of 100 events holds 2\.\d background events .* write training: batch: \d+ or more"
    )
    with pytest.raises(InputError, match=message) as told:
        train(make_table(label=label), term, batch=100)
    enough = int(re.search(r"batch: (\d+)", str(told.value))[1])
    train(make_table(label=label), term, batch=enough)


def test_negative_and_zero_weights_are_told_and_trained_with(make_table) -> None:
    weight = np.full(2400, 0.5)
    weight[::20], weight[1::20] = -0.1, 0.0
    table = make_table(weight=weight)
    texts = told(table)
    assert sum("have negative weights" in t and "subtract in the cross-entropy" in t for t in texts) == 2
    assert sum("have weight zero" in t for t in texts) == 2
    trained = train(table, {"type": "DisCo", "nuisance": "mass", "draw": 200, "start": 0, "ramp": 0})
    assert all(torch.isfinite(p).all() for p in trained.method.parameters())


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (0.0, "the weights of background .* sum to 0; they must be positive"),
        (np.nan, "'weight' is not finite"),
    ],
)
def test_weights_that_are_all_zero_or_not_numbers(make_table, value: float, message: str) -> None:
    with pytest.raises(InputError, match=message):
        train(make_table(weight=np.full(2400, value)))


def test_a_collapsed_tagger_is_told_what_to_do(toy: Data) -> None:
    terms = [{"type": "DisCo", "nuisance": "mass", "strength": 500}]
    method = Tagger(features=FEATURES, nuisances=["mass"], terms=terms)
    term = method.terms["disco_mass"]
    term.fit(toy.train.all)
    with torch.no_grad():
        verdict = Judge(lambda x: x[:, 2], toy.validation, terms={"disco_mass": term})({})
        plain = Judge(lambda x: x[:, 2], toy.validation, terms={})({})
    assert "separates no more (AUC 0.5" in verdict.complaint
    assert "lower the strength (disco_mass 500), or let it be found (hold:" in verdict.complaint
    assert "strength" not in plain.complaint


def test_a_tagger_whose_training_diverged_is_exported_and_says_so(make_table, tmp_path: Path) -> None:
    (tmp_path / "breaking.py").write_text(
        "from hepdecorr.learning.terms import Term\n"
        "class Breaking(Term):\n"
        "    looks = 0\n"
        "    def price(self, logit, b):\n"
        "        self.looks += self.training and logit.requires_grad\n"
        "        return logit.mean() * (float('nan') if self.looks > 14 else 0.0)\n"
    )
    spec = {
        "type": "Tagger",
        "network": {"type": "MLP", "hidden": [4]},
        "training": {"epochs": 9, "batch": 300},
    }
    spec["terms"] = [{"type": "breaking.py:Breaking", "nuisance": "mass"}]
    table = make_table()
    trained = fitting.train(spec, table=table, split=SPLIT, seed=1, device="cpu", base=tmp_path)
    folder = fitting.finish(
        trained, name="made", folder=tmp_path / "made", table=table, nuisances=(), config_hash="",
        rejections=(0.5,),
    )  # fmt: skip
    about = yaml.safe_load((folder / "card.yaml").read_text())["training"]
    assert about["stable"] is False
    assert re.search(r"diverged in epoch 3: tagger/\w+ is nan, and epoch \d was kept", about["reasons"][0])
    assert all(torch.isfinite(p).all() for p in trained.method.parameters())
