from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hepdecorr import catalogue
from hepdecorr.errors import InputError
from hepdecorr.learning import networks
from hepdecorr.learning.networks import Inputs

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
