"""The other networks in JetVAE."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from hepdecorr.errors import InputError
from hepdecorr.model_card import Feature, ModelCard, ModelInput
from hepdecorr.training import Trainer, export_tagger
from hepdecorr.training.methods import JetVAE
from hepdecorr.training.vae import networks
from hepdecorr.training.validation import auc

sys.path.insert(0, str(Path(__file__).parent))
from jet_frame_data import LENGTH, NAMES, data

SMALL = {
    "Recurrent": {"type": "Recurrent", "width": 12},
    "SetVAE": {"type": "SetVAE", "phi": [16, 16], "hidden": [16], "decoder": [16, 32]},
}


def made(network: dict, **change: object) -> JetVAE:
    torch.manual_seed(3)
    about = {"constituents": NAMES, "length": LENGTH, "nuisances": ["jet_mass"], "latents": 3, "beta": 0.05}
    return JetVAE(**about, network=network, training={"epochs": 4, "batch_size": 50, "lr": 5e-3}, **change)


def test_the_others_are_tried_elsewhere() -> None:
    assert {*SMALL, "FullyConnected"} == set(networks.__all__)


@pytest.mark.parametrize("name", list(SMALL))
def test_they_learn_what_background_is(name: str) -> None:
    events, method, trainer = data(rows=1000), made(SMALL[name]), Trainer(seed=5)
    method.fit(events, trainer)
    method.eval()
    curves, b = trainer.history[0]["curves"], events.validation.all
    assert curves["valid/mse"][-1] < 0.98 * curves["valid/mse"][0]
    told = trainer.history[0]["metrics"]
    assert told.get("distance") == ("chamfer, trained by matching" if name == "SetVAE" else None)
    assert method.preprocessor.frame.scale_per == getattr(networks, name).scale_per
    with torch.no_grad():
        assert auc(method.logit(b.x), b) > 0.55


def test_the_graph_of_a_set_has_no_order(tmp_path: Path) -> None:
    events, method = data(rows=200), made(SMALL["SetVAE"])
    method.fit(events, Trainer(seed=5))
    method.eval()
    b, name = events.validation.all, "set"
    seen = [
        ModelInput(name="constituents", features=tuple(Feature(name=n) for n in NAMES), length=LENGTH),
        ModelInput(name="mask", features=(), length=LENGTH),
    ]
    empty = {"nuisances": (), "table_fingerprint": "", "config_hash": "", "versions": {}, "created": ""}
    outputs = ("score", "logit", *method.aux_output_names)
    card = ModelCard(name=name, method={}, seed=1, inputs=tuple(seen), outputs=outputs, **empty)
    export_tagger(method, card=card, folder=tmp_path / name, sample=b.x)  # compares with ONNX Runtime
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
        made(SMALL["SetVAE"], frame={"scale_per": "slot"}).fit(data(rows=200), Trainer(seed=1))
