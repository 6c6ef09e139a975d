"""Two classifiers as the axes of an ABCD plane, on the Gaussian toy of 2007.14400, made small."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from hepdecorr.columnar.tagger import OnnxTagger
from hepdecorr.errors import InputError
from hepdecorr.evaluation.metrics import Abcd, abcd, auc
from hepdecorr.model_card import Feature, ModelCard, ModelInput
from hepdecorr.training import DataSplits, EventDataset, Trainer, export_tagger
from hepdecorr.training.losses.disco import distance_correlation
from hepdecorr.training.methods import DoubleDisCo, Tagger
from hepdecorr.training.methods.double_disco import _symmetric_distance_correlation

FEATURES = ["x0", "x1", "x2"]
NET = {"type": "MLP", "hidden": [24, 24]}
SHORT = {"epochs": 12, "batch_size": 1024, "lr": 5e-3, "ema_decay": 0.9}
CUTS = (0.5, 0.7, 0.8)


def toy(rows: int, *, seed: int) -> EventDataset:
    """Background at 0, signal at (2.5, 2.5, 2), width 1.5; x0 and x1 of background have correlation -0.8."""
    draw = np.random.default_rng(seed)
    y = (np.arange(rows) % 2).astype(np.float32)
    x = draw.normal(size=(rows, 3))
    x[y == 0, 1] = -0.8 * x[y == 0, 0] + 0.6 * x[y == 0, 1]
    x = 1.5 * x + y[:, None] * np.array([2.5, 2.5, 2.0])
    x = torch.tensor(x, dtype=torch.float32)
    return EventDataset(x, torch.tensor(y), x[:, :1], features=FEATURES, nuisances=["x0"])


@cache
def data() -> DataSplits:
    return DataSplits(toy(8000, seed=1), toy(4000, seed=2))


@cache
def unseen() -> EventDataset:
    return toy(40_000, seed=3)


@cache
def double(strength: float = 20.0) -> tuple[DoubleDisCo, list]:
    torch.manual_seed(1)
    method = DoubleDisCo(features=FEATURES, strength=strength, network=NET, training=SHORT)
    trainer = Trainer(seed=1)
    method.fit(data(), trainer)
    return method.eval(), trainer.history


def closure(method: DoubleDisCo) -> Abcd:
    b = unseen().all
    with torch.no_grad():
        first, second = method.aux_outputs(b.x)
    return abcd(first.numpy(), second.numpy(), b.y.numpy(), rejections=CUTS)


def single() -> Abcd:
    """One classifier on x1 and x2, decorrelated from x0, which is the other axis."""
    torch.manual_seed(1)
    net = Tagger(
        features=FEATURES[1:],
        nuisances=["x0"],
        network=NET,
        training=SHORT,
        terms=[{"type": "DisCo", "nuisance": "x0", "strength": 20, "tail_weight": 0, "tail_sample": 0}],
    )

    def without(events: EventDataset) -> EventDataset:
        b = events.all
        return EventDataset(b.x[:, 1:], b.y, b.z, features=FEATURES[1:], nuisances=["x0"])

    net.fit(DataSplits(without(data().train), without(data().validation)), Trainer(seed=1))
    b = unseen().all
    with torch.no_grad():
        logit = net.eval().logit(b.x[:, 1:])
    return abcd(logit.numpy(), b.z[:, 0].numpy(), b.y.numpy(), rejections=CUTS)


def test_single_and_double_disco_close_and_two_plain_networks_do_not() -> None:
    plain, both, one = closure(double(0.0)[0]), closure(double()[0]), single()
    for scan in (both, one):
        for point in scan.regions:
            assert point.closure.value == pytest.approx(1, abs=0.1 + 2 * point.closure.std)
    assert plain.regions[-1].closure.value < 0.4
    # Both axes are classifiers: at the same background in A there is more signal.
    assert both.regions[-1].signal_efficiency > one.regions[-1].signal_efficiency


def test_each_of_the_two_separates() -> None:
    method, (record,) = double()
    b = unseen().all
    with torch.no_grad():
        logits = method.aux_outputs(b.x)
    for k, logit in enumerate(logits, 1):
        assert auc(logit.numpy(), b.y.numpy()).value > 0.75
        assert record["curves"][f"valid/auc_{k}"][record["selected_epoch"] - 1] > 0.75
    assert (record["converged"], len(record["curves"]["tagger/between"])) == (True, 12)
    assert record["curves"]["tagger/between"][0] == 0


def test_the_gradient_is_that_of_both_arguments() -> None:
    made = torch.Generator().manual_seed(1)
    first, second = torch.randn(2, 60, generator=made, dtype=torch.float64)
    second = (second + 0.5 * first).requires_grad_()
    first.requires_grad_()
    w = torch.rand(60, generator=made, dtype=torch.float64)
    _symmetric_distance_correlation(first, second, w).backward()
    for moved, other in ((first, second), (second, first)):
        step = torch.zeros(60, dtype=torch.float64)
        step[7] = 1e-5
        with torch.no_grad():
            ends = [distance_correlation(moved + s * step, other, w, unbiased=True) for s in (1, -1)]
        assert float(moved.grad[7]) == pytest.approx(float((ends[0] - ends[1]) / 2e-5), rel=1e-3)


def test_a_second_term_looks_at_the_tail_and_terms_at_either_network() -> None:
    term = {"type": "DisCo", "nuisance": "x0", "start": 0, "ramp": 0}
    method = DoubleDisCo(features=FEATURES, nuisances=["x0"], terms=[term], tail_strength=5.0, network=NET)
    b = data().train.all
    method.networks[0].fit(b.x)
    method.networks[1].fit(b.x)
    method.terms["disco_x0"].fit(b)
    bill = method._loss(b.take(slice(0, 800)), 1.0)
    assert bill.keys() == {
        "cross_entropy_1",
        "cross_entropy_2",
        "network_dcor",
        "network_dcor_tail",
        "disco_x0_1",
        "disco_x0_2",
    }
    few = method._loss(b.take(b.y == 1), 1.0)
    assert float(few["network_dcor"].detach()) == 0


def test_the_graph_gives_both_logits(tmp_path: Path, card: ModelCard) -> None:
    method, _ = double()
    inputs = (ModelInput(features=tuple(Feature(name=name) for name in FEATURES)),)
    own = card.model_copy(update={"inputs": inputs, "outputs": ("score", "logit", *method.aux_output_names)})
    x = unseen().all.x[:300]
    folder = export_tagger(method, card=own, folder=tmp_path / "double", sample=x)
    tagger = OnnxTagger(folder)
    with torch.no_grad():
        logits = torch.stack(method.aux_outputs(x), 1).numpy()
    plane = tagger.abcd_plane(x.numpy())
    assert np.allclose(plane, logits, rtol=1e-5, atol=1e-5)
    assert np.allclose(tagger.logits(x.numpy()), plane.min(1), atol=1e-5)
    assert tagger.abcd_plane(x[:0].numpy()).shape == (0, 2)
    with pytest.raises(InputError, match="has one score and no plane; train a DoubleDisCo"):
        OnnxTagger(export_tagger(method, card=card, folder=tmp_path / "one", sample=x)).abcd_plane(x.numpy())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"terms": [{"type": "GMM", "nuisance": "x0"}]}, "GMM is an adversary"),
        ({"terms": [{"type": "DisCo", "nuisance": "x0", "constraint": {}}]}, "a term has hold"),
        ({"strength": -1}, "strength and tail cannot be negative"),
    ],
)
def test_faults_are_named(change: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        DoubleDisCo(features=FEATURES, nuisances=["x0"], **change)
