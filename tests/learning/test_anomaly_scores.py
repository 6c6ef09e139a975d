"""Parts of an autoencoder's loss and its scores, against closed forms and scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from hepdecorr.errors import InputError
from hepdecorr.learning.anomaly import SCORES, Annealing, Beta, Mixture, Standard
from hepdecorr.learning.anomaly.mixture import Density


def test_beta_of_a_true_elbo() -> None:
    # methods.md 3.7: the author's 0.1, a mean over 10 latents, is 0.01 of the slide and 0.4 of an ELBO.
    assert Beta(0.1, "mean", 10).elbo(20) == pytest.approx(0.4)
    assert Beta(0.01, "sum", 10).elbo(20) == pytest.approx(0.4)
    assert Beta(0.025, "sum", 6).elbo(20) == pytest.approx(1)  # the true one
    # Against the definition: 2n times the loss is -log N(x; xhat, 1), but for its constant, plus beta' KL.
    generator = torch.Generator().manual_seed(1)
    x, decoded, kl = (torch.randn(5, *shape, generator=generator) for shape in ((7, 4), (7, 4), (3,)))
    for reduction in ("sum", "mean"):
        beta = Beta(0.3, reduction, 3)
        loss = (x - decoded).square().mean((1, 2)) + beta.value * beta.reduced(kl)
        normal = -stats.norm.logpdf(x.numpy(), decoded.numpy()).sum((1, 2)) - 14 * math.log(2 * math.pi)
        np.testing.assert_allclose(14 * loss, normal + beta.elbo(7) * kl.sum(1).numpy(), rtol=1e-5)
    assert "is beta 0.4 in the ELBO" in Beta(0.1, "mean", 10).told(20)


@pytest.mark.parametrize("value", [0.0, -0.1, math.inf, math.nan])
def test_a_beta_out_of_range(value: float) -> None:
    with pytest.raises(InputError, match="must be above 0 and finite"):
        Beta(value, "sum", 10)


def test_annealing_over_the_epochs() -> None:
    cyclic = Annealing()  # the author's: 0 -> 1 in 5 epochs, 5 at full, back, three times
    at = [cyclic.at(epoch / 40, epochs=40) for epoch in range(41)]
    period = [0, 0.2, 0.4, 0.6, 0.8, 1, 1, 1, 1, 1]
    assert at == pytest.approx([*period, *period, *period, *[1] * 11], abs=1e-6)
    assert [cyclic.full(epoch, epochs=40) for epoch in range(1, 12)] == [False] * 5 + [True] * 5 + [False]
    assert cyclic.full(26, epochs=40)
    assert cyclic.first(epochs=40) == pytest.approx(5 / 40)
    later = Annealing("cyclic", start=10)
    assert [later.at(epoch / 50, epochs=50) for epoch in (0, 9, 10, 12, 17, 20, 50)] == pytest.approx(
        [0, 0, 0, 0.4, 1, 0, 1], abs=1e-6
    )
    linear = Annealing("linear", rise=30)
    assert [linear.at(epoch / 60, epochs=60) for epoch in (0, 15, 30, 45)] == pytest.approx([0, 0.5, 1, 1])
    share = Annealing("linear", start=0.2, rise=0.5, unit="stage")
    assert [share.at(passed, epochs=7) for passed in (0.1, 0.45, 0.7, 1)] == pytest.approx([0, 0.5, 1, 1])
    assert share.first(epochs=7) == pytest.approx(0.7)
    assert Annealing("constant").at(0.0, epochs=3) == 1
    assert Annealing("constant", start=2).first(epochs=3) == pytest.approx(2 / 3)
    assert Annealing.read("linear", where="x") == Annealing("linear")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"shape": "cyclical"}, "no shape 'cyclical'; did you mean 'cyclic'"),
        ({"rise": 0}, "rise is above 0"),
        ({"shape": "linear", "rise": 2, "unit": "stage"}, "full for good only after 2 of the stage"),
        ({"up": 3}, "anneal: there is no 'up'"),
        (3, "must be one of constant, linear, cyclic"),
    ],
)
def test_faults_of_annealing_are_told(spec: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Annealing.read(spec, where="anneal")  # type: ignore[arg-type]


def test_an_epoch_that_begins_without_the_weight_is_not_full() -> None:
    late = Annealing("constant", start=2.3)
    assert [late.full(epoch, epochs=7) for epoch in (2, 3, 4)] == [False, False, True]


def test_a_stage_that_is_over_before_the_weight_is_full() -> None:
    with pytest.raises(InputError, match="full for good after 25 epochs and the stage has 25 epochs"):
        Annealing().first(epochs=25)
    assert Annealing().first(epochs=26) == pytest.approx(5 / 26)


def points(rows: int, *, seed: int) -> np.ndarray:
    draw = np.random.default_rng(seed)
    first, second = (
        draw.normal(size=(rows, 3)),
        draw.normal(size=(rows, 3)) @ np.diag([0.2, 1, 2]) + [4, 0, -3],
    )
    return np.where(draw.random((rows, 1)) < 0.3, first, second)


def test_the_mixture_is_a_density() -> None:
    where = points(4000, seed=1)
    mixture = Mixture(2, 3)
    assert torch.allclose(  # before it is fitted, a unit Gaussian
        mixture(torch.zeros(1, 3)), torch.tensor([1.5 * math.log(2 * math.pi)])
    )
    mixture.fit(where, np.ones(4000), seed=3, most=3000)
    new = points(20_000, seed=2)
    found = mixture(torch.as_tensor(new, dtype=torch.float32)).numpy()
    truth = -np.logaddexp(
        math.log(0.3) + stats.multivariate_normal(np.zeros(3), np.eye(3)).logpdf(new),
        math.log(0.7) + stats.multivariate_normal([4, 0, -3], np.diag([0.04, 1, 4])).logpdf(new),
    )
    assert np.corrcoef(found, truth)[0, 1] > 0.99
    assert (found - truth).mean() == pytest.approx(0, abs=0.03)  # a KL, of second order in the misfit
    assert np.isfinite(mixture(1e6 * torch.randn(5, 3)).numpy()).all()


def test_the_mixture_respects_weights() -> None:
    where = points(4000, seed=1)
    first = where[:, 0] < 2
    mixture = Mixture(1, 3)
    mixture.fit(where, np.where(first, 1.0, -1.0), seed=3, most=4000)
    np.testing.assert_allclose(mixture.means[0], where[first].mean(0), atol=0.02)
    with pytest.raises(InputError, match="0 background events for 1 Gaussians"):
        mixture.fit(where, np.zeros(4000), seed=3, most=4000)
    with pytest.raises(InputError, match="components must be at least 1"):
        Density.read({"components": 0})


@pytest.mark.parametrize("score", list(SCORES))
def test_the_logit_keeps_the_order_and_is_standard_on_background(score: str) -> None:
    generator = torch.Generator().manual_seed(1)
    w = torch.rand(5000, generator=generator)
    values = torch.rand(5000, generator=generator) * 3 + 0.1
    standard = Standard(score)
    standard.fit(values, w)
    logit = standard(values)
    assert torch.equal(values.argsort(), logit.argsort())
    mean = float((w * logit).sum() / w.sum())
    assert mean == pytest.approx(0, abs=1e-4)
    assert float((w * logit**2).sum() / w.sum()) == pytest.approx(1, abs=1e-3)
    running = Standard(score)
    for shift in (0.0, 1.0):
        running.follow(values + shift, w)
    assert torch.allclose(running(values), logit, atol=0.2)
    assert not torch.allclose(running(values), logit, atol=1e-3)
    assert standard(torch.zeros(1)).isfinite().all()
    assert torch.allclose(standard.logarithm(values), values if score == "density" else values.log())
    with pytest.raises(InputError, match="did you mean 'kl'"):
        Standard("kll")
