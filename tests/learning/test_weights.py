"""Event weights: a steeply weighted sample must give what its resampled twin gives, or the closed form."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from hepdecorr.learning import Batch, Events
from hepdecorr.learning.fitting import working_points
from hepdecorr.learning.methods.drawing import Drawing
from hepdecorr.learning.methods.judging import Judge
from hepdecorr.learning.terms import GMM, DisCo, Softmax
from hepdecorr.learning.terms.disco import distance_correlation
from hepdecorr.learning.terms.entropy import (
    UNIT_GAUSSIAN,
    conditional_entropy,
    differential_entropy,
    mutual_information,
)
from hepdecorr.learning.terms.term import _tail_weight, middles, ranks, soft_rank


def normal(rows: int, *, seed: int) -> torch.Tensor:
    return torch.randn(rows, generator=torch.Generator().manual_seed(seed))


MEAN, SPREAD = -0.5, 0.5  # of the weighted nuisance


def steep(rows: int = 20_000, *, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """Numbers drawn from N(0, 1), and weights that make N(-0.5, 0.5^2) of them: half as many events count."""
    z = normal(rows, seed=seed)
    return z, (-1.5 * z**2 - 2 * z).exp()


def correlation(link: float) -> float:
    """Of the weighted nuisance and link x nuisance + noise."""
    return float(link * SPREAD / (link**2 * SPREAD**2 + 1 - link**2) ** 0.5)


def test_the_sample_is_as_steep_as_it_should_be() -> None:
    _, w = steep()
    assert 0.5 < float(w.sum() ** 2 / (w**2).sum()) / len(w) < 0.65


def falling(rows: int, *, link: float, seed: int = 1) -> tuple[torch.Tensor, Batch]:
    """Background with weights that depend on the nuisance, as in a falling spectrum; score of known link."""
    return linked(*steep(rows, seed=seed), link=link, seed=seed + 100)


def twin(rows: int, *, link: float, seed: int = 1) -> tuple[torch.Tensor, Batch]:
    """The same spectrum from events of weight one."""
    z = MEAN + SPREAD * normal(rows, seed=seed + 200)
    return linked(z, torch.ones(rows), link=link, seed=seed + 300)


def linked(z: torch.Tensor, w: torch.Tensor, *, link: float, seed: int) -> tuple[torch.Tensor, Batch]:
    s = link * z + (1 - link**2) ** 0.5 * normal(len(z), seed=seed)
    y = torch.zeros(len(z))
    y[::10] = 1
    return s, Events(torch.zeros(len(z), 1), y, z[:, None], w, nuisances=["mass"]).all


def test_equal_weights_change_nothing() -> None:
    t, ones = normal(501, seed=1), torch.ones(501)
    plain = (torch.arange(501) + 0.5) / 501
    assert torch.equal(ranks(t, ones), plain[t.argsort().argsort()])
    assert torch.equal(soft_rank(t), soft_rank(t, ones))
    u = plain[t.argsort().argsort()]
    assert torch.equal(_tail_weight(t, 0 * t, ones, eta=0.01), 1 / (1 - u + 0.01))
    assert torch.allclose(ranks(t, 0.3 * ones), plain[t.argsort().argsort()])
    assert differential_entropy(t) == pytest.approx(differential_entropy(t, 0.3 * ones), abs=1e-9)


def test_ranks_are_quantiles_of_the_weighted_sample() -> None:
    z, w = steep()
    exact = torch.distributions.Normal(MEAN, SPREAD).cdf(z)
    assert float((ranks(z, w) - exact).abs().max()) < 0.02
    soft = z.clone().requires_grad_()
    soft_rank(soft, w).sum().backward()
    density = torch.distributions.Normal(MEAN, SPREAD).log_prob(z).exp()
    assert float(((soft.grad - density).abs() * w).sum() / w.sum()) < 0.05
    assert middles(torch.tensor([1.0, 3.0])).tolist() == [0.125, 0.625]
    assert middles(torch.tensor([-1.0, 0.0])).tolist() == [0.25, 0.75]  # nothing to weigh by


def test_an_event_of_weight_three_stands_for_three_in_the_tail() -> None:
    t = normal(200, seed=1)
    times = torch.randint(1, 4, (200,), generator=torch.Generator().manual_seed(2))
    weighted = _tail_weight(t, 0 * t, times.float(), eta=0.1)
    u = ranks(t.repeat_interleave(times), torch.ones(int(times.sum())))
    parts = torch.stack([part.mean() for part in u.split(times.tolist())])
    assert torch.allclose(weighted, 1 / (1 - parts + 0.1), atol=1e-5)


def test_entropy_of_a_weighted_sample() -> None:
    z, w = steep()
    known = UNIT_GAUSSIAN + math.log(SPREAD)
    assert differential_entropy(z, w) == pytest.approx(known, abs=0.02)
    y = (torch.arange(len(z)) % 2).float()
    assert conditional_entropy(torch.where(y == 1, 3 * z, z), y, w) == pytest.approx(
        known + 0.5 * math.log(3), abs=0.03
    )
    most_are_nothing = w * (torch.rand(len(z), generator=torch.Generator().manual_seed(3)) < 0.1)
    assert differential_entropy(z, most_are_nothing) == pytest.approx(known, abs=0.06)


@pytest.mark.parametrize("link", [0.0, 0.5])
def test_information_of_a_weighted_sample(link: float) -> None:
    s, b = falling(20_000, link=link)
    own = b.y == 0
    found = mutual_information(s[own], b.z[own, 0], b.w[own])
    assert found == pytest.approx(-0.5 * math.log(1 - correlation(link) ** 2), abs=0.015)


def gaussian_distance_correlation(rho: float) -> float:
    """Squared, of two unit Gaussians (Szekely, Rizzo, Bakirov 2007, theorem 7)."""

    def part(r: float) -> float:
        return r * math.asin(r) + (1 - r**2) ** 0.5 - r * math.asin(r / 2) - (4 - r**2) ** 0.5 + 1

    return part(rho) / part(1.0)


@pytest.mark.parametrize("link", [0.0, 0.3, 0.7])
def test_distance_correlation_of_a_weighted_sample_is_the_closed_form(link: float) -> None:
    found = []
    for seed in range(6):
        s, b = falling(3000, link=link, seed=seed)
        found.append(float(distance_correlation(s.double(), b.z[:, 0].double(), b.w.double(), unbiased=True)))
    error = np.std(found) / len(found) ** 0.5
    assert np.mean(found) == pytest.approx(
        gaussian_distance_correlation(correlation(link)), abs=3.5 * error + 0.004
    )


@pytest.mark.parametrize("options", [{"tail": 0.0}, {"tail": 0.02}, {"sees": "rank"}, {"top": 0.3}])
@pytest.mark.parametrize("link", [0.0, 0.8])
def test_disco_of_a_weighted_sample_is_that_of_its_twin(options: dict, link: float) -> None:
    term = DisCo("mass", nuisances=["mass"], draw=0, **options)
    ours, theirs = [], []
    for seed in range(0, 12_000, 1000):
        for make, found in ((falling, ours), (twin, theirs)):
            s, b = make(1000, link=link, seed=seed)
            term.fit(b)
            found.append(float(term.price(s, b)))
    error = np.hypot(np.std(ours), np.std(theirs)) / len(ours) ** 0.5
    assert np.mean(ours) == pytest.approx(np.mean(theirs), abs=3.5 * error)
    if link:
        bare = []  # without its weights it is another sample
        for seed in range(0, 12_000, 1000):
            s, b = falling(1000, link=link, seed=seed)
            b = b._replace(w=torch.ones(1000))
            term.fit(b)
            bare.append(float(term.price(s, b)))
        assert abs(np.mean(bare) - np.mean(theirs)) > 4 * error


@pytest.mark.parametrize("kind", [GMM, Softmax])
def test_an_adversary_on_a_weighted_sample_finds_the_known_information(kind: type) -> None:
    link = 0.8
    s, b = falling(16_000, link=link)
    torch.manual_seed(0)
    term = kind("mass", nuisances=["mass"], tail=0.0)
    term.fit(b)
    optimiser = torch.optim.Adam(term.parameters(), 1e-2)
    for _ in range(120):
        optimiser.zero_grad()
        term.chase(s, b).backward()
        optimiser.step()
    look = term.look(s, b, even=True)
    floor = term.floor(look)
    assert floor == pytest.approx(UNIT_GAUSSIAN if kind is GMM else math.log(20), abs=0.01)
    found = floor - float(term.chase(s, b).detach())
    known = -0.5 * math.log(1 - correlation(link) ** 2)
    assert found == pytest.approx(known, abs=0.03)


def test_background_is_drawn_by_weighted_rank() -> None:
    s, b = falling(8000, link=0.0)
    x = torch.stack([s, b.z[:, 0]], 1)
    events = Events(x, b.y, b.z, b.w).all
    generator = torch.Generator().manual_seed(1)
    drawing = Drawing(
        events.take(events.y == 0), lambda x: x[:, 1], rows=4000, tail=0.01, refresh=99, generator=generator
    )
    drawn = drawing.batch(0)
    # The score is the nuisance: each decade of rejection has the same share.
    edge = MEAN + 1.2816 * SPREAD
    above = float(((drawn.x[:, 1] > edge) * drawn.w).sum() / drawn.w.sum())
    assert above == pytest.approx(math.log(0.11 / 0.01) / math.log(1.01 / 0.01), abs=0.03)


def test_the_judge_sees_what_it_sees_in_the_twin() -> None:
    term = DisCo("mass", nuisances=["mass"], draw=0, strength=3)
    verdicts = []
    for make in (twin, falling):
        score, events = make(12_000, link=0.5)
        score = score + events.y
        term.fit(events)
        held = Events(score[:, None], events.y, events.z, events.w, nuisances=["mass"])
        verdicts.append(Judge(lambda x: x[:, 0], held, terms={"disco": term})({}))
    theirs, ours = verdicts
    assert ours.figures.keys() == theirs.figures.keys()
    for name, value in ours.figures.items():
        assert value == pytest.approx(theirs.figures[name], abs=0.025), name
    plain = Judge(
        lambda x: x[:, 0], Events(score[:, None], events.y, events.z, nuisances=["mass"]), terms={}
    )({})
    assert abs(plain.figures["classify"] - ours.figures["classify"]) > 0.02  # the weights do matter


def test_working_points_of_a_weighted_sample() -> None:
    s, b = falling(20_000, link=0.5)
    s = s + b.y
    logit, label, weight = s.numpy(), b.y.numpy(), b.w.numpy().astype(float)
    (point,) = working_points(logit, label, weight, rejections=[0.9])
    assert point.threshold == pytest.approx(0.5 * MEAN + 1.2816 * (0.25 * SPREAD**2 + 0.75) ** 0.5, abs=0.05)
    assert point.background_efficiency == pytest.approx(0.1, abs=1e-3)
    # A few heavy events must not fix a threshold, however many light ones stand beside them.
    heavy = np.where(label == 0, np.where(np.arange(len(label)) % 4001 == 1, 1000.0, 1e-3), 1.0)
    assert working_points(logit, label, heavy, rejections=[0.5, 0.9]) == ()
