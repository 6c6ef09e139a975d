"""Outlier exposure against the formulas of the slides, written out with loops."""

from __future__ import annotations

import logging
import math

import numpy as np
import pytest
import torch

from hepdecorr import catalogue
from hepdecorr.errors import InputError
from hepdecorr.learning import Batch, exposure
from hepdecorr.learning.anomaly.vetting import told_of
from hepdecorr.learning.exposure import KLOE, MSEOE, Seen
from hepdecorr.learning.exposure.exposure import paid
from hepdecorr.learning.exposure.matching import Matched, Matching
from hepdecorr.learning.latents.term import weighted_mean

HOME = "hepdecorr.learning.exposure"


def seen(rows: int, *, seed: int, shift: float = 0.0) -> Seen:
    generator = torch.Generator().manual_seed(seed)
    mse, kl = torch.rand(rows, generator=generator), torch.rand(rows, 3, generator=generator)
    return Seen(mse + shift, kl + shift, torch.rand(rows, generator=generator) + 0.1)


def by_hand(name: str, form: str, outside: Seen, inside: Seen, *, margin: float = 0.8) -> float:
    """-L_OE of the slides; pairs meet in turn."""

    def mean(values: list[float], w: list[float]) -> float:
        return sum(v * u for v, u in zip(values, w, strict=True)) / sum(w)

    def cost(out: float, into: float) -> float:
        if name == "MSEOE":
            return -1 / (1 + math.exp(into - out))
        return -min(0.0, out - into - margin)

    parts = []
    for one in (outside, inside):
        summed = one.mse if name == "MSEOE" else one.kl.sum(1)
        parts.append((summed.tolist(), one.kl.tolist(), one.w.tolist()))
    (out, out_each, out_w), (into, into_each, into_w) = parts
    if form == "batch":
        return cost(mean(out, out_w), mean(into, into_w))
    pairs = [(k % len(out), k % len(into)) for k in range(max(len(out), len(into)))]
    w = [out_w[i] * into_w[j] for i, j in pairs]
    if form == "pair":
        return mean([cost(out[i], into[j]) for i, j in pairs], w)
    each = [[cost(a, b) for a, b in zip(out_each[i], into_each[j], strict=True)] for i, j in pairs]
    return mean([sum(one) / len(one) for one in each], w)


@pytest.mark.parametrize(
    ("name", "form"), [(n, f) for n in exposure.__all__ for f in getattr(exposure, n).forms]
)
@pytest.mark.parametrize("rows", [(7, 7), (3, 8), (8, 3)])
def test_contract(name: str, form: str, rows: tuple[int, int]) -> None:
    margin = {"margin": 0.8} if name == "KLOE" else {}
    made = catalogue.build({"type": name, "form": form, **margin}, home=HOME)
    outside, inside = seen(rows[0], seed=1), seen(rows[1], seed=2)
    for one in (outside, inside):
        one.mse.requires_grad_()
        one.kl.requires_grad_()
    price = paid(made, outside, inside)
    assert price.shape == ()
    assert float(price.detach()) == pytest.approx(by_hand(name, form, outside, inside), rel=1e-5)
    price.backward()
    # Outliers are pushed away, background is drawn in.
    pushed, drawn = ((one.mse if made.decodes else one.kl).grad for one in (outside, inside))
    assert float(pushed.sum()) < 0 < float(drawn.sum())
    # The more they are apart the less it costs, and twice the weight is the same mean.
    with torch.no_grad():
        apart = paid(made, outside._replace(mse=outside.mse + 2, kl=outside.kl + 2), inside)
        assert apart < price
        assert torch.allclose(paid(made, outside._replace(w=2 * outside.w), inside), price)
        alone = outside._replace(w=torch.where(torch.arange(rows[0]) == 0, outside.w, 0.0))
        first = paid(made, outside.take(slice(0, 1)), inside.take(slice(0, 1)))
        assert torch.allclose(paid(made, alone, inside.take(slice(0, 1))), first)


def test_a_batch_whose_weights_sum_to_less_than_nothing_has_no_mean() -> None:
    """Else what is bad would be paid for."""
    values = torch.tensor([1.0, 4.0], requires_grad=True)
    mean = weighted_mean(values, torch.tensor([0.5, -1.0]))
    mean.backward()
    assert float(mean.detach()) == 0
    assert values.grad is not None
    assert not values.grad.any()
    assert float(weighted_mean(values, torch.tensor([3.0, -1.0])).detach()) == pytest.approx(-0.5)


@pytest.mark.parametrize("name", exposure.__all__)
def test_batches_without_outliers_or_background_cost_nothing(name: str) -> None:
    made = catalogue.build({"type": name}, home=HOME)
    whole, none = seen(5, seed=1), seen(5, seed=2).take(slice(0, 0))
    weightless = whole._replace(w=torch.zeros(5))
    for outside, inside in ((none, whole), (whole, none), (weightless, whole), (whole, weightless)):
        kl = inside.kl.clone().requires_grad_()
        price = paid(made, outside, inside._replace(kl=kl))
        price.backward()
        assert float(price.detach()) == 0
        assert kl.grad is not None
        assert not kl.grad.any()


def test_a_margin_that_is_kept_costs_nothing_more() -> None:
    outside, inside = seen(6, seed=1, shift=5.0), seen(6, seed=2)
    for form in KLOE.forms:
        assert float(KLOE(margin=1, form=form).price(outside, inside)) == 0
    # The bounded reward for bad reconstruction.
    assert -1 <= float(MSEOE().price(outside, inside)) < -0.98


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"type": "KLOE", "margin": -1}, "margin is -1 and must be finite and not negative"),
        ({"type": "KLOE", "margin": math.nan}, "margin is nan"),
        ({"type": "MSEOE", "strength": -2}, "strength is -2; it must be finite and not negative"),
        ({"type": "MSEOE", "form": "latent"}, "MSEOE: no form 'latent'; known are batch, pair"),
        (
            {"type": "KLOE", "match": {"nuisance": "mass", "how": "reweight"}},
            "write, beside 'exposure', reweight",
        ),
        ({"type": "KLOE", "match": {"nuisance": "mass", "often": 3}}, "match: there is no 'often'"),
        ({"type": "KLOE", "match": "mass"}, "match must say in what"),
        ({"type": "KLOE", "anneal": {"rise": -1}}, "KLOE: anneal: .*rise is above 0"),
    ],
)
def test_faults_in_the_yaml_are_named(spec: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        catalogue.build(spec, home=HOME)


def test_an_exposure_that_teaches_nothing_is_told() -> None:
    record = {
        "measured": {"excluded": {"background": 3, "outliers": 0}},
        "curves": {"valid/kloe": [0.0, 0.0]},
    }
    told = told_of(record, {"kloe": KLOE()})
    assert told[0] == "left out of the training, fewer than two constituents: 3 of background"
    assert told[1].startswith("kloe: the outliers kept the margin by themselves in every epoch")
    record = {"measured": {"excluded": {"background": 0}}, "curves": {"valid/kloe": [0.5, 0.0]}}
    assert told_of(record, {"kloe": KLOE()}) == []


def two_spectra(rows: int, *, low: float = 40.0) -> Batch:
    draw = np.random.default_rng(1)
    mass = np.concatenate([50 + 40 * draw.exponential(size=rows), draw.uniform(low, low + 210, rows)])
    label = np.repeat([0.0, 1.0], rows)
    columns = (mass[:, None], label, mass[:, None], np.ones(2 * rows))
    x, y, z, w = (torch.as_tensor(c, dtype=torch.float32) for c in columns)
    return Batch(x, y, z, w, torch.zeros(2 * rows, dtype=torch.int64), 3 * w)


def test_matched_outliers_have_the_spectrum_of_background() -> None:
    b = two_spectra(4000)
    matching = Matching.read({"nuisance": "mass"}, where="match")
    matched = Matched(matching, b, nuisances=["mass"], seed=5)
    drawn = torch.cat([matched.take(400, epoch=0, turn=turn).x[:, 0] for turn in range(10)])
    background = b.x[b.y == 0, 0]
    at = torch.linspace(0.05, 0.95, 10)
    assert torch.allclose(drawn.quantile(at), background.quantile(at), rtol=0.06)
    assert not torch.allclose(b.x[b.y == 1, 0].quantile(at), background.quantile(at), rtol=0.2)
    first = matched.take(400, epoch=0, turn=3)
    assert first.y.eq(1).all()
    assert first.w.eq(1).all()
    assert first.r.eq(1).all()
    # A training that goes on draws what it would have drawn; another epoch others, unless it is once for all.
    again = Matched(matching, b, nuisances=["mass"], seed=5)
    assert torch.equal(again.take(400, epoch=1, turn=0).x, matched.take(400, epoch=1, turn=0).x)
    assert torch.equal(again.take(400, epoch=0, turn=3).x, first.x)
    assert not torch.equal(again.take(400, epoch=1, turn=3).x, first.x)
    once = Matched(Matching(("mass",), refresh="once"), b, nuisances=["mass"], seed=5)
    assert torch.equal(once.take(400, epoch=0, turn=3).x, once.take(400, epoch=7, turn=3).x)


def test_outliers_without_weight_are_not_drawn() -> None:
    b = two_spectra(1000)
    place = torch.arange(2000)
    b = b._replace(x=place[:, None].float(), w=torch.where(place % 2 == 0, 0.0, 1.0))
    drawn = Matched(Matching(("mass",)), b, nuisances=["mass"], seed=5).take(900, epoch=0, turn=0)
    assert drawn.x.remainder(2).eq(1).all()
    assert drawn.x.ge(1000).all()


def test_outliers_without_overlap_are_refused_and_few_of_them_told(caplog: pytest.LogCaptureFixture) -> None:
    matching = Matching.read({"nuisance": "mass", "bins": 5}, where="match")
    with pytest.raises(InputError, match="'mass' of signal and of background have no overlap"):
        Matched(matching, two_spectra(500, low=900.0), nuisances=["mass"], seed=1)
    with caplog.at_level(logging.WARNING):
        Matched(matching, two_spectra(100), nuisances=["mass"], seed=1)
    assert "outliers matched in mass: 100 of them count as" in caplog.text
    with pytest.raises(InputError, match="'jet' is no nuisance of the table"):
        Matched(Matching(("jet",)), two_spectra(100), nuisances=["mass"], seed=1)
