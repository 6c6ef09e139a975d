from __future__ import annotations

import math

import dcor
import numpy as np
import pytest
import torch
from torch import distributions as D

from hepdecorr import catalogue
from hepdecorr.errors import InputError
from hepdecorr.learning import Batch, Data, Events, Play, terms
from hepdecorr.learning.methods import Tagger
from hepdecorr.learning.terms import Adversary, DisCo, Term
from hepdecorr.learning.terms.disco import distance_correlation
from hepdecorr.learning.terms.entropy import UNIT_GAUSSIAN, differential_entropy, mutual_information
from hepdecorr.learning.terms.gmm import mixture_loss
from hepdecorr.learning.terms.nuisance import Nuisance
from hepdecorr.learning.terms.term import soft_rank

OPTIONS = [{}, {"tail": 0.0}, {"top": 0.5}, {"given": "all"}, {"sees": "score"}, {"sees": "rank"}]
OPTIONS += [{"given": "signal"}, {"given": "label"}]
UNKNOWING = ["DisCo"]  # terms that cannot be told the label
EACH = [(n, o) for n in terms.__all__ for o in OPTIONS if o.get("given") != "label" or n not in UNKNOWING]
ADVERSARIES = [name for name in terms.__all__ if issubclass(getattr(terms, name), Adversary)]


def build(name: str, b: Batch, **options: object) -> Term:
    torch.manual_seed(0)
    if name == "DisCo":
        options = {"unbiased": False, "draw": 0} | options
    term = catalogue.build(
        {"type": name, "nuisance": "mass", **options}, home="hepdecorr.learning.terms", nuisances=["mass"]
    )
    term.fit(b)
    return term


def trained(term: Term, logit: torch.Tensor, b: Batch, steps: int = 150) -> Term:
    if isinstance(term, Adversary):
        optimiser = torch.optim.Adam(term.parameters(), 5e-3)
        for _ in range(steps):
            optimiser.zero_grad()
            term.chase(logit, b).backward()
            optimiser.step()
    return term.eval().requires_grad_(False)


def drawn(rows: int = 1500, *, seed: int = 91) -> Batch:
    g = torch.Generator().manual_seed(seed)
    z = torch.randn(rows, 1, generator=g)
    y = (torch.rand(rows, generator=g) < 0.3).float()
    return Events(torch.zeros(rows, 1), y, z, nuisances=["mass"]).all


@pytest.mark.parametrize(("name", "options"), EACH)
def test_contract(name: str, options: dict[str, object]) -> None:
    b = drawn()
    noise = torch.randn(len(b.y), generator=torch.Generator().manual_seed(2))
    bound = 0.5 * noise + b.z[:, 0]
    term = trained(build(name, b, **options), bound, b, steps=60)
    price = term.price(bound, b)
    assert price.shape == ()
    logit = bound.clone().requires_grad_()
    term.price(logit, b).backward()
    assert logit.grad is not None
    assert logit.grad.isfinite().all()
    assert logit.grad.abs().sum() > 0
    unseen = {"background": b.y == 1, "signal": b.y == 0}.get(str(options.get("given", "background")))
    assert unseen is None or logit.grad[unseen].abs().sum() == 0
    free = trained(build(name, b, **options), noise, b, steps=60)
    assert float(price) > float(free.price(noise, b)) + 0.02
    order = torch.randperm(len(b.y), generator=torch.Generator().manual_seed(3))
    assert float(term.price(bound[order], b.take(order))) == pytest.approx(float(price), rel=1e-4, abs=1e-5)
    assert float(term.price(bound, b._replace(w=7 * b.w))) == pytest.approx(float(price), rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("name", terms.__all__)
def test_weights_stand_for_repeated_events(name: str) -> None:
    b = drawn(600)
    repeats = torch.randint(1, 4, (600,), generator=torch.Generator().manual_seed(4))
    logit = b.z[:, 0] + torch.randn(600, generator=torch.Generator().manual_seed(5))
    term = trained(build(name, b, tail=0.0), logit, b, steps=50)
    rows = torch.arange(600).repeat_interleave(repeats)
    weighted = term.price(logit, b._replace(w=repeats.float()))
    repeated = term.price(logit[rows], b.take(rows)._replace(w=torch.ones(len(rows))))
    assert float(weighted) == pytest.approx(float(repeated), rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("name", terms.__all__)
def test_nothing_to_look_at_costs_nothing(name: str) -> None:
    b = drawn(100)
    term = build(name, b)
    only_signal = b.take(b.y == 1)
    logit = torch.randn(len(only_signal.y), requires_grad=True)
    price = term.price(logit, only_signal)
    price.backward()
    assert float(price.detach()) == 0
    assert logit.grad is not None


@pytest.mark.parametrize("name", terms.__all__)
def test_without_any_weight_nothing_is_looked_at(name: str) -> None:
    b = drawn(100)
    logit = torch.randn(100, requires_grad=True)
    price = build(name, b).price(logit, b._replace(w=0 * b.w))
    price.backward()
    assert float(price.detach()) == 0
    assert not logit.grad.any()


@pytest.mark.parametrize("name", terms.__all__)
def test_a_constant_nuisance_is_told(name: str) -> None:
    b = drawn(100)
    with pytest.raises(InputError, match=r"nuisance 'mass' is 3 in all \d+ background events"):
        build(name, b._replace(z=0 * b.z + 3))


@pytest.mark.parametrize("name", terms.__all__)
def test_weight_zero_removes_events(name: str) -> None:
    b = drawn(800)
    keep = torch.rand(800, generator=torch.Generator().manual_seed(4)) < 0.7
    logit = b.z[:, 0] + torch.randn(800, generator=torch.Generator().manual_seed(5))
    term = trained(build(name, b, tail=0.0), logit, b, steps=50)
    weighted = term.price(logit, b._replace(w=keep.float()))
    assert float(weighted) == pytest.approx(float(term.price(logit[keep], b.take(keep))), rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("name", terms.__all__)
@pytest.mark.parametrize("given", ["background", "label"])
def test_fewer_events_than_bins_are_harmless(name: str, given: str) -> None:
    """Also where a batch has background only, and one class is told nothing."""
    b = drawn(40)
    b = b.take((b.y == 0).nonzero()[:12, 0])
    logit = torch.randn(len(b.y), generator=torch.Generator().manual_seed(1)).requires_grad_()
    if given == "label" and name in UNKNOWING:
        given = "all"
    price = build(name, b, given=given).price(logit, b)
    price.backward()
    assert price.isfinite()
    assert logit.grad.isfinite().all()


def test_a_discrete_nuisance_has_no_density() -> None:
    b = drawn(400)
    b = b._replace(z=b.z.round())
    with pytest.raises(InputError, match=r"'mass' has \d different values in \d+ events"):
        build("GMM", b)
    build("Softmax", b)


@pytest.mark.parametrize("name", terms.__all__)
def test_a_constant_score_gives_no_nan(name: str) -> None:
    b = drawn(300)
    logit = torch.zeros(300, requires_grad=True)
    price = build(name, b).price(logit, b)
    price.backward()
    assert price.isfinite()
    assert logit.grad.isfinite().all()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("slope", [0.0, 0.4, 2.0])
def test_distance_correlation_is_that_of_dcor(seed: int, slope: float) -> None:
    draw = np.random.default_rng(seed)
    z = draw.normal(size=400)
    s = slope * z**2 + draw.normal(size=400)
    ours = distance_correlation(torch.tensor(s), torch.tensor(z), torch.ones(400, dtype=torch.float64))
    assert float(ours) == pytest.approx(dcor.distance_correlation_sqr(s, z), abs=1e-7)
    single = distance_correlation(*(torch.tensor(t, dtype=torch.float32) for t in (s, z)), torch.ones(400))
    assert float(single) == pytest.approx(float(ours), rel=1e-3, abs=1e-5)
    ones = torch.ones(400, dtype=torch.float64)
    unbiased = distance_correlation(torch.tensor(s), torch.tensor(z), ones, unbiased=True)
    assert float(unbiased) == pytest.approx(dcor.u_distance_correlation_sqr(s, z), abs=0.004)


def test_disco_is_unbiased_under_steep_weights() -> None:
    """Independent variables give zero on average, whatever the weights and their link with the score."""
    generator = torch.Generator().manual_seed(3)
    found = []
    for _ in range(200):
        s, z = torch.randn(2, 400, generator=generator, dtype=torch.float64)
        rank = (s.argsort().argsort().double() + 0.5) / len(s)
        found.append(distance_correlation(s, z, 1 / (1 - rank + 0.01), unbiased=True))
    mean, error = torch.stack(found).mean(), torch.stack(found).std() / len(found) ** 0.5
    assert abs(float(mean)) < 3.5 * float(error)
    assert float(error) < 0.003


def test_distance_correlation_gradient() -> None:
    g = torch.Generator().manual_seed(1)
    s, z, w = (torch.rand(12, dtype=torch.float64, generator=g) + 0.1 for _ in range(3))
    assert torch.autograd.gradcheck(lambda t: distance_correlation(t, z, w), s.requires_grad_(), atol=1e-6)


@pytest.mark.parametrize("dims", [1, 2])
def test_distance_correlation_has_the_slope_of_the_full_matrices(dims: int) -> None:
    """Also where scores are equal, and over more rows than are taken at once."""
    g = torch.Generator().manual_seed(1)
    z, w = torch.randn(700, dims, generator=g).double(), torch.rand(700, generator=g).double()
    start = ((torch.randn(700, generator=g) + z[:, 0]) * 4).round()
    slopes, values = [], []
    for whole in (True, False):
        s = start.clone().requires_grad_()
        if whole:
            p = w / w.sum()
            a, b = (s[:, None] - s[None]).abs(), torch.cdist(z, z)
            a, b = (t - (t @ p)[:, None] - (t @ p)[None] + p @ t @ p for t in (a, b))
            value = (p @ (a * b) @ p) / ((p @ a**2 @ p) * (p @ b**2 @ p)).sqrt()
        else:
            value = distance_correlation(s, z[:, 0] if dims == 1 else z, w)
        value.backward()
        values.append(float(value.detach()))
        slopes.append(s.grad)
    assert values[1] == pytest.approx(values[0], rel=1e-6)
    assert torch.allclose(slopes[0], slopes[1], rtol=1e-5, atol=1e-9)


def test_mixture_is_that_of_torch() -> None:
    torch.manual_seed(1)
    answer, z = torch.randn(50, 12), torch.randn(50)
    weight, mean, width = answer.chunk(3, -1)
    mixture = D.MixtureSameFamily(
        D.Categorical(logits=weight), D.Normal(mean, torch.nn.functional.softplus(width) + 1e-3)
    )
    assert torch.allclose(mixture_loss(answer, z), -mixture.log_prob(z), atol=1e-5)


def test_an_adversary_reaches_its_floor_and_the_known_information() -> None:
    b = drawn(8000)
    floor = 0.5 * math.log(2 * math.pi * math.e)
    assert floor == pytest.approx(1.4189, abs=1e-4)
    noise = torch.randn(8000, generator=torch.Generator().manual_seed(2))
    blind = trained(build("GMM", b, tail=0.0), noise, b)
    assert float(blind.chase(noise, b)) == pytest.approx(floor, abs=0.02)
    look = blind.look(noise, b, even=True)
    assert blind.floor(look) == pytest.approx(floor)
    # correlation 0.8: I = -ln(1 - 0.64) / 2
    seeing = trained(build("GMM", b, tail=0.0), 0.8 * b.z[:, 0] + 0.6 * noise, b)
    found = floor - float(seeing.chase(0.8 * b.z[:, 0] + 0.6 * noise, b))
    assert found == pytest.approx(-0.5 * math.log(0.36), abs=0.04)


@pytest.mark.parametrize("name", ADVERSARIES)
def test_label_given_protects_each_class_by_itself(name: str) -> None:
    b = drawn(1500)
    z = b.z + 3 * b.y[:, None]  # the nuisance differs between classes, the score knows only the class
    b = b._replace(z=z)
    logit = 2 * b.y - 1 + 0.1 * torch.randn(1500, generator=torch.Generator().manual_seed(1))
    options = {} if name == "Softmax" else {"transform": "standard"}
    for given, leaks in (("label", False), ("all", True), ("signal", False), ("background", False)):
        term = trained(build(name, b, given=given, tail=0.0, **options), logit, b, steps=60)
        found = term.found(float(term.chase(logit, b)), term.floor(term.look(logit, b, even=True)))
        assert (found > 0.2) == leaks, (given, found)


def test_least_squares_are_those_of_the_regression() -> None:
    """The best guess leaves 1 - R^2 of the variance, whatever the scale of the score."""
    b = drawn(8000)
    noise = torch.randn(8000, generator=torch.Generator().manual_seed(2))
    logit = 7 * (0.8 * b.z[:, 0] + 0.6 * noise) + 3
    term = trained(build("MSE", b, tail=0.0, given="all", transform="standard"), logit, b)
    look = term.look(logit, b, even=True)
    assert term.floor(look) == pytest.approx(1, abs=0.05)
    fit = np.polyfit(logit.double(), look.z.double(), 1)
    left = float(np.mean((np.polyval(fit, logit.double()) - look.z.double().numpy()) ** 2))
    assert float(term.chase(logit, b)) == pytest.approx(left, abs=0.01)
    assert term.found(left, term.floor(look)) == pytest.approx(-0.5 * math.log(1 - 0.64), abs=0.02)
    assert float(term.price(logit, b)) == pytest.approx(-left, abs=0.01)


def test_tail_weight_asks_more_of_the_tail() -> None:
    b = drawn(4000)
    logit = torch.randn(4000, generator=torch.Generator().manual_seed(1))
    background = b.y == 0
    tail = background & (logit > logit[background].quantile(0.97))
    z = torch.where(tail[:, None], b.z.abs() + 2, b.z)
    b = b._replace(z=z)
    even, tailed = (build("DisCo", b, tail=eta).price(logit, b) for eta in (0.0, 0.01))
    assert float(tailed) > 3 * float(even)


def test_top_looks_at_the_highest_scores_only() -> None:
    b = drawn(1000)
    logit = torch.linspace(-1, 1, 1000)
    look = build("DisCo", b, top=0.25).look(logit, b)
    background = logit[b.y == 0]
    assert look.seen.min() >= background.quantile(0.74)
    assert len(look.y) == pytest.approx(len(background) / 4, abs=2)


def test_nuisance_transforms() -> None:
    z = torch.randn(50_000, generator=torch.Generator().manual_seed(1)).exp()
    w = torch.ones(50_000)
    rank, probit, standard = (Nuisance(t) for t in ("rank", "probit", "standard"))
    for scaling in (rank, probit, standard):
        scaling.fit(z, w)
    assert float(rank(z).mean()) == pytest.approx(0.5, abs=1e-3)
    assert float(rank(z).std()) == pytest.approx(12**-0.5, abs=1e-3)
    assert float(probit(z).std()) == pytest.approx(1, abs=0.01)
    assert float(standard(z).mean()) == pytest.approx(0, abs=1e-3)
    assert probit(torch.tensor([-1e9, 1e9])).isfinite().all()
    few = torch.tensor([0.0, 1.0, 1.0, 1.0]).repeat(100)
    rank.fit(few, torch.ones(400))
    assert rank(torch.tensor([0.0, 1.0])).tolist() == pytest.approx([0.125, 0.625], abs=0.01)


def test_soft_rank_follows_small_moves() -> None:
    t = torch.randn(2000, generator=torch.Generator().manual_seed(1)).requires_grad_()
    soft_rank(t).sum().backward()
    density = torch.distributions.Normal(0, 1).log_prob(t.detach()).exp()
    assert float((t.grad - density).abs().mean()) < 0.05


def test_entropy_and_information_of_gaussians() -> None:
    g = torch.Generator().manual_seed(1)
    z, e = (torch.randn(40_000, generator=g) for _ in range(2))
    w = torch.ones(40_000)
    assert differential_entropy(z) == pytest.approx(UNIT_GAUSSIAN, abs=0.02)
    assert differential_entropy(3 * z) == pytest.approx(UNIT_GAUSSIAN + math.log(3), abs=0.02)
    assert mutual_information(e, z, w) == pytest.approx(0, abs=0.002)
    assert mutual_information(0.8 * z + 0.6 * e, z, w) == pytest.approx(-0.5 * math.log(0.36), abs=0.04)


def test_strength_grows() -> None:
    term = build("DisCo", drawn(100), strength=8, start=0.25, ramp=0.5)
    assert [term.growth.at(t) for t in (0, 0.2, 0.5, 0.75, 1)] == [0, 0, 4, 8, 8]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"nuisance": "mas"}, "no nuisance 'mas'; did you mean 'mass'"),
        ({"sees": "odds"}, "no 'odds'"),
        ({"top": 0}, r"top must lie in \(0, 1\]"),
        ({"start": 0.8, "ramp": 0.4}, "together at most 1"),
        ({"transform": "rnk"}, "did you mean 'rank'"),
        ({"strenght": 3}, "did you mean 'strength'"),
        ({"tail": -1}, "tail cannot be negative"),
        ({"given": "label"}, "given background, signal or all"),
    ],
)
def test_faults_in_the_yaml_are_named(spec: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build("DisCo", drawn(50), **spec)


def test_a_negative_strength_is_refused() -> None:
    with pytest.raises(InputError, match="strength is -3; it must not be negative"):
        build("DisCo", drawn(50), strength=-3)


def test_faults_in_an_adversarys_moves_are_named() -> None:
    with pytest.raises(InputError, match="GMM moves: there is no 'learning_rate'"):
        build("GMM", drawn(50), moves={"learning_rate": 1})
    with pytest.raises(InputError, match="steps and batch"):
        build("GMM", drawn(50), steps=0)


@pytest.mark.parametrize("slope", [0.0, 0.5])
def test_distance_correlation_of_several_nuisances_is_that_of_dcor(slope: float) -> None:
    draw = np.random.default_rng(1)
    z = draw.normal(size=(300, 2))
    s = slope * z[:, 0] * z[:, 1] + draw.normal(size=300)
    ones = torch.ones(300, dtype=torch.float64)
    ours = distance_correlation(torch.tensor(s), torch.tensor(z), ones)
    assert float(ours) == pytest.approx(dcor.distance_correlation_sqr(s, z), abs=1e-7)
    unbiased = distance_correlation(torch.tensor(s), torch.tensor(z), ones, unbiased=True)
    assert float(unbiased) == pytest.approx(dcor.u_distance_correlation_sqr(s, z), abs=0.006)
    column = distance_correlation(torch.tensor(s), torch.tensor(z[:, :1]), ones)
    alone = distance_correlation(torch.tensor(s), torch.tensor(z[:, 0]), ones)
    assert float(column) == pytest.approx(float(alone), abs=1e-9)


def joint(rows: int = 4000) -> tuple[torch.Tensor, Batch]:
    """A score that knows neither nuisance, but whether they are on the same side."""
    g = torch.Generator().manual_seed(1)
    z = torch.randn(rows, 2, generator=g)
    score = z.prod(1).sign() + 0.5 * torch.randn(rows, generator=g)
    y = (torch.rand(rows, generator=g) < 0.3).float()
    return score, Events(torch.zeros(rows, 1), y, z, nuisances=["mass", "pt"]).all


def test_several_nuisances_are_protected_jointly() -> None:
    score, b = joint()
    single, other, both = (
        DisCo(names, nuisances=["mass", "pt"], draw=0, tail=0.0) for names in ("mass", "pt", ["mass", "pt"])
    )
    for term in (single, other, both):
        term.fit(b)
    assert float(single.price(score, b)) < 0.005
    assert float(other.price(score, b)) < 0.005
    assert float(both.price(score, b)) > 0.04
    logit = score.clone().requires_grad_()
    both.price(logit, b).backward()
    assert logit.grad.abs().sum() > 0
    turned = DisCo(["pt", "mass"], nuisances=["mass", "pt"], draw=0, tail=0.0)
    turned.fit(b)
    assert float(turned.price(score, b)) == pytest.approx(float(both.price(score, b)), rel=1e-4)


def test_a_tagger_with_a_joint_term_is_trained_and_judged() -> None:
    score, b = joint(1200)
    x = torch.stack([score, b.y + torch.randn(len(score))], 1)
    data = Data(*(Events(x, b.y, b.z, nuisances=["mass", "pt"]) for _ in range(2)))
    terms = [{"type": "DisCo", "nuisance": ["mass", "pt"]}, {"type": "GMM", "nuisance": "pt", "steps": 1}]
    method = Tagger(
        features=["score", "clean"],
        nuisances=["mass", "pt"],
        terms=terms,
        training={"epochs": 2, "batch": 300},
        network={"type": "MLP", "hidden": [8]},
    )
    assert list(method.terms) == ["disco_mass_pt", "gmm_pt"]
    play = Play(seed=1)
    method.learn(data, play)
    curves = play.history[0]["curves"]
    for name in ("valid/disco_mass_pt", "valid/gmm_pt", "valid/information/mass", "valid/information/pt"):
        assert len(curves[name]) == 2


@pytest.mark.parametrize(
    ("name", "nuisance", "message"),
    [
        ("MSE", ["mass", "pt"], "MSE: nuisance is mass, pt; it must be one name"),
        ("DisCo", [], "DisCo: nuisance is empty"),
        ("DisCo", ["mass", "mass"], "DisCo: nuisance is mass, mass"),
        ("DisCo", ["mass", "ptt"], "no nuisance 'ptt'; did you mean 'pt'"),
    ],
)
def test_faults_in_lists_of_nuisances_are_named(name: str, nuisance: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        catalogue.build(
            {"type": name, "nuisance": nuisance}, home="hepdecorr.learning.terms", nuisances=["mass", "pt"]
        )
