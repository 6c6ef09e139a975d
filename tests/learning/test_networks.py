from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hepdecorr import catalogue
from hepdecorr.card import Card
from hepdecorr.errors import InputError
from hepdecorr.learning import Data, Events, Play, export, networks
from hepdecorr.learning.methods import DoubleDisCo, Tagger
from hepdecorr.learning.networks import Inputs
from hepdecorr.learning.networks.building import network as build_network
from hepdecorr.learning.networks.inputs import read_inputs
from hepdecorr.learning.networks.principal import fitted_on

HOME = "hepdecorr.learning.networks"


def heavy(rows: int = 20_000) -> torch.Tensor:
    g = torch.Generator().manual_seed(1)
    normal = torch.randn(rows, 3, generator=g)
    return torch.stack([5 + 2 * normal[:, 0], normal[:, 1].exp(), torch.full((rows,), 3.0)], 1)


def test_contract() -> None:
    torch.manual_seed(0)
    name = "MLP"  # those over constituents have a contract of their own
    net = catalogue.build({"type": name}, home=HOME, features=["a", "b", "c"], outputs=2)
    x = heavy(100)
    net.fit(x)
    assert net(x).shape == (100, 2)
    assert net(x[:0]).shape == (0, 2)
    assert net(1e20 * x).isfinite().all()
    twin = catalogue.build({"type": name}, home=HOME, features=["a", "b", "c"], outputs=2)
    assert not torch.equal(twin(x), net(x))
    twin.load_state_dict(net.state_dict())
    assert torch.equal(twin(x), net(x))


@pytest.mark.parametrize("scale", ["standard", "robust", "quantile"])
def test_scales_give_numbers_of_order_one(scale: str) -> None:
    x = heavy()
    inputs = Inputs(["a", "b", "c"], scale=scale)
    inputs.fit(x)
    out = inputs(x)
    assert float(out[:, 0].mean()) == pytest.approx(0, abs=0.05)
    assert float(out[:, 0].std()) == pytest.approx(1, abs=0.08)
    assert out[:, 2].abs().max() < 1e-3 or scale == "quantile"
    assert out.isfinite().all()
    if scale == "quantile":
        assert float(out[:, 1].std()) == pytest.approx(1, abs=0.1)
        assert float(out[:, 1].median()) == pytest.approx(0, abs=0.05)


def test_quantile_scale_is_increasing() -> None:
    inputs = Inputs(["a", "b", "c"], scale="quantile", clip=0)
    inputs.fit(heavy())
    grid = torch.linspace(-10, 30, 500)[:, None].expand(-1, 3)
    assert (inputs(grid).diff(dim=0)[:, :2] > 0).all()


def test_logarithms() -> None:
    rules = {"a": 1e-4, "b": {"below": 1.002}, "c": {"shift": 0.005, "negative": -1}}
    inputs = Inputs(["a", "b", "c", "d"], log=rules, scale="none", clip=0)
    out = inputs(torch.tensor([[0.5, 0.9, 0.135, 7.0], [-1.0, 2.0, -1.0, -1.0]]))
    expected = [math.log(0.5001), math.log(0.102), math.log(0.14), 7.0]
    assert out[0].tolist() == pytest.approx(expected, rel=1e-4)
    assert out[1].tolist() == pytest.approx([math.log(1e-6), math.log(1e-6), -1.0, -1.0], rel=1e-4)


@settings(max_examples=50, deadline=None)
@given(hnp.arrays("float32", (4, 3), elements=st.floats(-(2.0**127), 2.0**127, width=32)))
def test_any_finite_event_gives_a_finite_number(values) -> None:
    for scale in ("standard", "robust", "quantile"):
        inputs = Inputs(["a", "b", "c"], scale=scale, log={"a": 1e-3})
        inputs.fit(heavy(200))
        assert inputs(torch.tensor(values)).isfinite().all()


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"activation": "rellu"}, "did you mean 'relu'"),
        ({"inputs": {"scale": "minmax"}}, "no scale 'minmax'"),
        ({"inputs": {"scales": "none"}}, "known are scale, clip, log, knots"),
        ({"inputs": {"log": {"aa": 1}}}, "log of 'aa', which is no feature"),
        ({"inputs": {"log": {"a": {"above": 1}}}}, "log of 'a' must be"),
        ({"inputs": {"log": {"a": "x"}}}, "log of 'a' must be"),
        ({"inputs": {"clip": -1}}, "clip cannot be negative"),
        ({"hiden": [3]}, "did you mean 'hidden'"),
    ],
)
def test_faults_in_the_yaml_are_named(spec: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        catalogue.build({"type": "MLP", **spec}, home=HOME, features=["a", "b", "c"])


def test_dropout_and_norm_stand_between_layers() -> None:
    net = networks.MLP(["a"], hidden=[4, 4], dropout=0.5, norm=True)
    kinds = [type(m).__name__ for m in net.net]
    assert kinds == ["Linear", "LayerNorm", "SiLU", "Dropout"] * 2 + ["Linear"]


def of_two_masses(n: int, *, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Features whose mean, spread and correlation all change with the last of them, and the label."""
    draw = torch.Generator().manual_seed(seed)
    m = torch.rand(n, generator=draw)
    a, b = torch.randn(2, n, generator=draw)
    x = torch.stack([(1 + m) * a + 3 * m, (1 - 0.5 * m) * (b + 2 * m * a) - m**2, 5 + m], 1)
    y = (torch.rand(n, generator=draw) < 0.3).float()
    return x + 2 * y[:, None] * torch.tensor([1.0, 0.0, 0.0]), y


@pytest.mark.parametrize("interpolate", [True, False])
def test_principal_components_say_nothing_of_what_they_are_taken_in(interpolate: bool) -> None:
    """Mean 0 and covariance 1 at every value, on events of their own; numpy's covariance judges."""
    names, spec = ["a", "b", "m"], {"scale": "pca", "within": "m", "bins": 25, "clip": 0}
    made = Inputs(names, **spec, interpolate=interpolate)
    x, y = of_two_masses(60_000, seed=1)
    made.fit(x[y == 0])
    x, y = of_two_masses(60_000, seed=2)
    raw, found, m = x[y == 0].numpy(), made(x[y == 0]).numpy(), x[y == 0][:, 2].numpy()
    assert (found[:, 2] == 0).all()
    for low in (5.05, 5.3, 5.6, 5.85):
        own = (m > low) & (m < low + 0.1)
        assert np.abs(raw[own, :2].mean(0)).max() > 0.1
        np.testing.assert_allclose(found[own, :2].mean(0), 0, atol=0.07)
        np.testing.assert_allclose(np.cov(found[own, :2].T), np.eye(2), atol=0.08)
    # Outside as at the ends; steps only where they were asked for.
    near = torch.tensor([[1.0, 1.0, v] for v in np.linspace(5.2, 5.8, 2001).tolist()])
    jumps = made(near).diff(dim=0).abs().max()
    assert (jumps < 0.02) == interpolate
    assert torch.isfinite(made(torch.tensor([[1.0, 1.0, -1e6], [1.0, 1.0, 1e6]]))).all()


def test_a_tagger_scales_principal_components_by_background(toy: Data, card: Card, tmp_path: Path) -> None:
    made = Tagger(
        features=["leaky", "clean", "noise"],
        nuisances=["mass"],
        network={"type": "MLP", "hidden": [8], "inputs": {"scale": "pca", "within": "leaky", "bins": 5}},
        training={"epochs": 1, "batch": 500},
    )
    made.learn(toy, Play(seed=1))
    b = toy.train.all
    with torch.no_grad():
        background, signal = (made.network.inputs.of_rows(b.x[b.y == k])[:, 1] for k in (0, 1))
    assert abs(background.mean()) < 0.03
    assert signal.mean() > 0.3
    export(made, card=card, folder=tmp_path / "made", sample=b.x[:300])  # compares with ONNX Runtime


def test_principal_components_count_events_by_their_weights() -> None:
    x, y = of_two_masses(60_000, seed=1)
    w = torch.exp(0.5 * x[:, 0])
    b = Events(x, y, x[:, 2:], w, features=["a", "b", "m"]).all
    made = build_network(
        {"type": "MLP", "hidden": [4], "inputs": {"scale": "pca", "within": "m", "bins": 10, "clip": 0}},
        features=["a", "b", "m"],
    )
    made.fit(fitted_on(made, b).x)
    own = (b.y == 0) & (b.x[:, 2] > 5.4) & (b.x[:, 2] < 5.6)
    found, weight = made.inputs.of_rows(b.x[own])[:, :2], b.w[own, None]
    assert ((weight * found).sum(0) / weight.sum()).abs().max() < 0.05
    assert found.mean(0).abs().max() > 0.2  # of the events themselves


def test_both_networks_of_double_disco_do_so_too(toy: Data) -> None:
    made = DoubleDisCo(
        features=["leaky", "clean", "noise"],
        network={"type": "MLP", "hidden": [8], "inputs": {"scale": "pca", "within": "leaky", "bins": 5}},
        training={"epochs": 1, "batch": 2000},
    )
    made.learn(toy, Play(seed=1))
    b = toy.train.all
    for network in made.networks:
        with torch.no_grad():
            assert abs(network.inputs.of_rows(b.x[b.y == 0])[:, 1].mean()) < 0.03


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"scale": "pca"}, "'scale: pca' needs 'within'"),
        ({"within": "m"}, "no other scale takes it"),
        ({"scale": "pca", "within": "mm"}, "within 'mm', which is no feature; did you mean 'm'"),
    ],
)
def test_principal_components_that_cannot_be(spec: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Inputs(["a", "m"], **spec)


def test_principal_components_of_too_few_events() -> None:
    made = Inputs(["a", "b", "m"], scale="pca", within="m", bins=25)
    x, _ = of_two_masses(300, seed=1)
    with pytest.raises(InputError, match="300 events for a covariance of 3 features in each of 25 bins"):
        made.fit(x)
    x = of_two_masses(900, seed=1)[0]
    x[:, 2] = x[:, 2].round()
    with pytest.raises(InputError, match="too few different values"):
        made.fit(x)
    with pytest.raises(InputError, match="for the features of a row alone"):
        read_inputs(["a", "m"], {"scale": "pca", "within": "m"}, where="constituent_inputs")
