"""Two classifiers as the axes of an ABCD plane, on the Gaussian toy of 2007.14400, made small."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from hepdecorr.card import Card, Feature, Input
from hepdecorr.columnar.tagger import OnnxTagger
from hepdecorr.errors import InputError
from hepdecorr.learning import Data, Events, Play, export
from hepdecorr.learning.methods import DoubleDisCo, Tagger
from hepdecorr.learning.methods.double_disco import _dependence
from hepdecorr.learning.terms.disco import distance_correlation
from hepdecorr.validation.measures import Abcd, abcd, auc

FEATURES = ["x0", "x1", "x2"]
NET = {"type": "MLP", "hidden": [24, 24]}
SHORT = {"epochs": 12, "batch": 1024, "lr": 5e-3, "average": 0.9}
CUTS = (0.5, 0.7, 0.8)


def toy(rows: int, *, seed: int) -> Events:
    """Background at 0, signal at (2.5, 2.5, 2), width 1.5; x0 and x1 of background have correlation -0.8."""
    draw = np.random.default_rng(seed)
    y = (np.arange(rows) % 2).astype(np.float32)
    x = draw.normal(size=(rows, 3))
    x[y == 0, 1] = -0.8 * x[y == 0, 0] + 0.6 * x[y == 0, 1]
    x = 1.5 * x + y[:, None] * np.array([2.5, 2.5, 2.0])
    x = torch.tensor(x, dtype=torch.float32)
    return Events(x, torch.tensor(y), x[:, :1], features=FEATURES, nuisances=["x0"])


@cache
def data() -> Data:
    return Data(toy(8000, seed=1), toy(4000, seed=2))


@cache
def unseen() -> Events:
    return toy(40_000, seed=3)


@cache
def double(strength: float = 20.0) -> tuple[DoubleDisCo, list]:
    torch.manual_seed(1)
    method = DoubleDisCo(features=FEATURES, strength=strength, network=NET, training=SHORT)
    play = Play(seed=1)
    method.learn(data(), play)
    return method.eval(), play.history


def closure(method: DoubleDisCo) -> Abcd:
    b = unseen().all
    with torch.no_grad():
        first, second = method.further(b.x)
    return abcd(first.numpy(), second.numpy(), b.y.numpy(), rejections=CUTS)


def single() -> Abcd:
    """One classifier on x1 and x2, decorrelated from x0, which is the other axis."""
    torch.manual_seed(1)
    net = Tagger(
        features=FEATURES[1:],
        nuisances=["x0"],
        network=NET,
        training=SHORT,
        terms=[{"type": "DisCo", "nuisance": "x0", "strength": 20, "tail": 0, "draw": 0}],
    )

    def without(events: Events) -> Events:
        b = events.all
        return Events(b.x[:, 1:], b.y, b.z, features=FEATURES[1:], nuisances=["x0"])

    net.learn(Data(without(data().train), without(data().validation)), Play(seed=1))
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
        logits = method.further(b.x)
    for k, logit in enumerate(logits, 1):
        assert auc(logit.numpy(), b.y.numpy()).value > 0.75
        assert record["curves"][f"valid/auc_{k}"][record["kept"] - 1] > 0.75
    assert (record["stable"], len(record["curves"]["tagger/between"])) == (True, 12)
    assert record["curves"]["tagger/between"][0] == 0


def test_the_gradient_is_that_of_both_arguments() -> None:
    made = torch.Generator().manual_seed(1)
    first, second = torch.randn(2, 60, generator=made, dtype=torch.float64)
    second = (second + 0.5 * first).requires_grad_()
    first.requires_grad_()
    w = torch.rand(60, generator=made, dtype=torch.float64)
    _dependence(first, second, w).backward()
    for moved, other in ((first, second), (second, first)):
        step = torch.zeros(60, dtype=torch.float64)
        step[7] = 1e-5
        with torch.no_grad():
            ends = [distance_correlation(moved + s * step, other, w, unbiased=True) for s in (1, -1)]
        assert float(moved.grad[7]) == pytest.approx(float((ends[0] - ends[1]) / 2e-5), rel=1e-3)


def test_a_second_term_looks_at_the_tail_and_terms_at_either_network() -> None:
    term = {"type": "DisCo", "nuisance": "x0", "start": 0, "ramp": 0}
    method = DoubleDisCo(features=FEATURES, nuisances=["x0"], terms=[term], tail=5.0, network=NET)
    b = data().train.all
    method.networks[0].fit(b.x)
    method.networks[1].fit(b.x)
    method.terms["disco_x0"].fit(b)
    bill = method._pay(b.take(slice(0, 800)), 1.0)
    assert bill.keys() == {"classify_1", "classify_2", "between", "between_tail", "disco_x0_1", "disco_x0_2"}
    few = method._pay(b.take(b.y == 1), 1.0)
    assert float(few["between"].detach()) == 0


def test_the_graph_gives_both_logits(tmp_path: Path, card: Card) -> None:
    method, _ = double()
    inputs = (Input(features=tuple(Feature(name=name) for name in FEATURES)),)
    own = card.model_copy(update={"inputs": inputs, "outputs": ("score", "logit", *method.beside)})
    x = unseen().all.x[:300]
    folder = export(method, card=own, folder=tmp_path / "double", sample=x)
    tagger = OnnxTagger(folder)
    with torch.no_grad():
        logits = torch.stack(method.further(x), 1).numpy()
    plane = tagger.plane(x.numpy())
    assert np.allclose(plane, logits, rtol=1e-5, atol=1e-5)
    assert np.allclose(tagger.logits(x.numpy()), plane.min(1), atol=1e-5)
    assert tagger.plane(x[:0].numpy()).shape == (0, 2)
    with pytest.raises(InputError, match="has one score and no plane; train a DoubleDisCo"):
        OnnxTagger(export(method, card=card, folder=tmp_path / "one", sample=x)).plane(x.numpy())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"terms": [{"type": "GMM", "nuisance": "x0"}]}, "GMM is an adversary"),
        ({"terms": [{"type": "DisCo", "nuisance": "x0", "hold": {}}]}, "a term has hold"),
        ({"strength": -1}, "strength and tail cannot be negative"),
    ],
)
def test_faults_are_named(change: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        DoubleDisCo(features=FEATURES, nuisances=["x0"], **change)
