"""The other networks in JetVAE."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from hepdecorr.card import Card, Feature, Input
from hepdecorr.errors import InputError
from hepdecorr.learning import Play, export
from hepdecorr.learning.methods import JetVAE
from hepdecorr.learning.methods.judging import auc
from hepdecorr.learning.networks import autoencoders

sys.path.insert(0, str(Path(__file__).parent))
from framed_jets import LENGTH, NAMES, data

SMALL = {
    "Recurrent": {"type": "Recurrent", "width": 12},
    "SetVAE": {"type": "SetVAE", "phi": [16, 16], "hidden": [16], "decoder": [16, 32]},
}


def made(network: dict, **change: object) -> JetVAE:
    torch.manual_seed(3)
    about = {"constituents": NAMES, "length": LENGTH, "nuisances": ["jet_mass"], "latents": 3, "beta": 0.05}
    return JetVAE(**about, network=network, training={"epochs": 4, "batch": 50, "lr": 5e-3}, **change)


def test_the_others_are_tried_elsewhere() -> None:
    assert {*SMALL, "FullyConnected"} == set(autoencoders.__all__)


@pytest.mark.parametrize("name", list(SMALL))
def test_they_learn_what_background_is(name: str) -> None:
    events, method, play = data(rows=1000), made(SMALL[name]), Play(seed=5)
    method.learn(events, play)
    method.eval()
    curves, b = play.history[0]["curves"], events.validation.all
    assert curves["valid/mse"][-1] < 0.98 * curves["valid/mse"][0]
    told = play.history[0]["measured"]
    assert told.get("distance") == ("chamfer, trained by matching" if name == "SetVAE" else None)
    assert method.framing.frame.per == autoencoders.__dict__[name].per
    with torch.no_grad():
        assert auc(method.logit(b.x), b) > 0.55


def test_the_graph_of_a_set_has_no_order(tmp_path: Path) -> None:
    events, method = data(rows=200), made(SMALL["SetVAE"])
    method.learn(events, Play(seed=5))
    method.eval()
    b, name = events.validation.all, "set"
    seen = [
        Input(name="constituents", features=tuple(Feature(name=n) for n in NAMES), length=LENGTH),
        Input(name="mask", features=(), length=LENGTH),
    ]
    empty = {"nuisances": (), "table_fingerprint": "", "config_hash": "", "versions": {}, "created": ""}
    outputs = ("score", "logit", *method.beside)
    card = Card(name=name, method={}, seed=1, inputs=tuple(seen), outputs=outputs, **empty)
    export(method, card=card, folder=tmp_path / name, sample=b.x)  # compares with ONNX Runtime
    session = onnxruntime.InferenceSession(tmp_path / name / "tagger.onnx")
    _, constituents, mask = events.train.form.unpack(b.x)

    def given(order: torch.Tensor) -> dict[str, np.ndarray]:
        there = mask.gather(1, order).float().numpy()
        return {
            "constituents": constituents.gather(1, order[..., None].expand_as(constituents)).numpy(),
            "mask": there,
        }

    plain = torch.arange(LENGTH).expand(len(b.x), -1)
    logit, momenta = session.run(["logit", "output_momenta"], given(plain))
    other, moved = session.run(["logit", "output_momenta"], given(plain.flip(1)))
    np.testing.assert_allclose(other, logit, atol=1e-3)
    np.testing.assert_allclose(moved, momenta, atol=1e-2)
    assert logit.std() > 0.1
    # What is made is nothing where it has no energy.
    assert ((momenta[..., 0] > 0) | (momenta == 0).all(2)).all()


def test_a_set_is_not_scaled_by_slot() -> None:
    with pytest.raises(InputError, match="give the frame 'per: component'"):
        made(SMALL["SetVAE"], frame={"per": "slot"}).learn(data(rows=200), Play(seed=1))
