from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import integrate
from torch import distributions as D

from hepdecorr import catalogue
from hepdecorr.errors import InputError
from hepdecorr.learning import Batch, Data, Events, Play
from hepdecorr.learning.methods import Tagger
from hepdecorr.learning.methods.judging import Judge
from hepdecorr.learning.players import Player
from hepdecorr.learning.stage import Seat
from hepdecorr.learning.terms import Adversary
from hepdecorr.learning.terms.entropy import UNIT_GAUSSIAN, differential_entropy
from hepdecorr.learning.terms.gmm import mixture_loss
from hepdecorr.learning.terms.mine import strangers

NAMES = ["mass", "pt"]


def build(name: str, b: Batch, nuisance: str | list[str] = "mass", **options: object) -> Adversary:
    torch.manual_seed(0)
    spec = {"type": name, "nuisance": nuisance, "tail": 0.0, **options}
    term = catalogue.build(spec, home="hepdecorr.learning.terms", nuisances=NAMES)
    term.fit(b)
    return term


def trained(term: Adversary, logit: torch.Tensor, b: Batch, steps: int = 60) -> Adversary:
    optimiser = torch.optim.Adam(term.parameters(), 1e-2)
    for _ in range(steps):
        optimiser.zero_grad()
        term.chase(logit, b).backward()
        optimiser.step()
    return term.eval().requires_grad_(False)


def found(term: Adversary, logit: torch.Tensor, b: Batch) -> float:
    return term.found(float(term.chase(logit, b)), term.floor(term.look(logit, b)))


def gaussians(rows: int, *, rho: float, seed: int = 1) -> tuple[torch.Tensor, Batch]:
    g = torch.Generator().manual_seed(seed)
    z = torch.randn(rows, 2, generator=g)
    y = (torch.arange(rows) % 4 == 0).float()
    score = rho * z[:, 0] + math.sqrt(1 - rho**2) * torch.randn(rows, generator=g)
    return score, Events(torch.zeros(rows, 1), y, z, nuisances=NAMES).all


@pytest.mark.parametrize("bound", ["dv", "js"])
def test_mine_finds_the_information_of_gaussians(bound: str) -> None:
    score, b = gaussians(2500, rho=0.7)
    known = -0.5 * math.log(1 - 0.49)
    term = trained(build("MINE", b, given="all", bound=bound, hidden=[32, 32]), score, b, steps=120)
    term.pairs = 20_000
    fresh, other = gaussians(6000, rho=0.7, seed=2)
    if bound == "dv":
        assert known - 0.06 < found(term, fresh, other) < known + 0.02  # a lower bound
    else:  # four times the Jensen-Shannon divergence, by the closed form of the densities
        z = torch.randn(200_000, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
        both = D.MultivariateNormal(torch.zeros(2).double(), torch.tensor([[1.0, 0.7], [0.7, 1.0]]).double())
        pairs = torch.stack([z[:, 0], 0.7 * z[:, 0] + math.sqrt(0.51) * z[:, 1]], 1)
        ratio = [both.log_prob(p) - D.Normal(0, 1).log_prob(p).sum(1) for p in (pairs, z[:, :2])]
        soft = torch.nn.functional.softplus
        divergence = math.log(4) - float(soft(-ratio[0]).mean() + soft(ratio[1]).mean())
        assert found(term, fresh, other) == pytest.approx(2 * divergence, abs=0.05)
    noise = torch.randn(6000, generator=torch.Generator().manual_seed(4))
    assert found(term, noise, other) < 0.02


def test_the_gradient_of_mine_divides_by_the_moving_average() -> None:
    score, b = gaussians(400, rho=0.5)
    term = build("MINE", b, given="all").eval()
    gradients = {}
    for partition in (1.0, 4.0):
        term.partition.fill_(partition)
        term.zero_grad()
        loss = term.chase(score, b)
        loss.backward()
        gradients[partition] = term.net[-1].bias.grad.clone()
        assert float(loss.detach()) == pytest.approx(float(term.chase(score, b).detach()))
    # d/dbias of (mean T - mean e^T / p): T is the bias plus something, so the gradient is e^T / p - 1.
    mean = 1 + float(gradients[1.0])
    assert float(gradients[4.0]) == pytest.approx(mean / 4 - 1, abs=0.02)
    term.train()
    term.chase(score, b)
    assert float(term.partition) == pytest.approx(mean, abs=0.05)  # the first batch counts fully


def test_mine_finds_nothing_in_weights_that_are_negative_where_the_nuisance_is_high() -> None:
    score, b = gaussians(4000, rho=0.0)
    high = b.z[:, 0] > 0.5
    b = b._replace(w=torch.where(high & (torch.arange(4000) % 3 == 0), -1.0, 1.0))
    term = build("MINE", b, given="all").eval()
    term.net = Nuisances()  # a critic that looks at the nuisance alone: its bound is at most 0
    assert -0.5 < found(term, score, b) < 1e-3


class Nuisances(torch.nn.Module):
    def forward(self, pairs: torch.Tensor) -> torch.Tensor:
        return -0.7 * (pairs[:, 1:2] > 0.5)


def test_to_ask_an_adversary_for_its_price_moves_none_of_its_statistics() -> None:
    score, b = gaussians(400, rho=0.5)
    for name in ("GMM", "MINE"):
        term = build(name, b, given="all")
        before = {k: v.clone() for k, v in term.state_dict().items()}
        with torch.no_grad():
            term.price(score, b)
        assert all(torch.equal(before[k], v) for k, v in term.state_dict().items())
        term.chase(score, b)
        assert term.looks == 1


def test_strangers_are_independent_weighted_and_of_one_class() -> None:
    g = torch.Generator().manual_seed(1)
    s, w = torch.randn(2000, generator=g), torch.rand(2000, generator=g)
    groups = (torch.arange(2000) < 800).float()
    shift = torch.full((2,), 0.5)
    first, second = strangers(s, w, torch.zeros(2000), count=5000, shift=shift)
    assert abs(float(np.corrcoef(s[first], s[second])[0, 1])) < 0.01
    for drawn in (first, second):
        assert float(s[drawn].mean()) == pytest.approx(float((w * s).sum() / w.sum()), abs=0.01)
    first, second = strangers(s, w, groups, count=5000, shift=shift)
    assert torch.equal(groups[first], groups[second])
    assert float(groups[first].mean()) == pytest.approx(float((w * groups).sum() / w.sum()), abs=0.01)
    own = groups[first] == 1
    assert abs(float(np.corrcoef(s[first][own], s[second][own])[0, 1])) < 0.02
    first, second = strangers(s, w * (s > 0), groups, count=500, shift=shift)
    assert (s[first] > 0).all()
    assert (s[second] > 0).all()


def test_a_truncated_mixture_integrates_to_one() -> None:
    torch.manual_seed(2)
    for scale in (0.5, 1.0, 3.0):
        answer = (scale * torch.randn(1, 9)).double()

        def density(z: float, answer: torch.Tensor = answer) -> float:
            return float((-mixture_loss(answer, torch.tensor([z]).double(), edge=1.5)).exp())

        assert integrate.quad(density, -1.5, 1.5)[0] == pytest.approx(1, abs=1e-4)
    answer = (20 * torch.randn(500, 24)).requires_grad_()
    mixture_loss(answer, 3 * torch.rand(500) - 1.5, edge=1.5).sum().backward()
    assert answer.grad.isfinite().all()


def test_a_truncated_mixture_has_its_floor_at_the_edges_too() -> None:
    g = torch.Generator().manual_seed(1)
    z = 5.2 + 0.09 * torch.rand(3000, 2, generator=g)
    y = (torch.arange(3000) % 4 == 0).float()
    b = Events(torch.zeros(3000, 1), y, z, nuisances=NAMES).all
    noise = torch.randn(3000, generator=g)
    term = trained(build("GMM", b, truncated=[5.2, 5.29], transform="none"), noise, b, steps=80)
    look = term.look(noise, b)
    assert term.floor(look) == pytest.approx(math.log(0.09), abs=0.03)  # of a uniform nuisance
    assert float(term.chase(noise, b)) == pytest.approx(math.log(0.09), abs=0.03)
    with pytest.raises(InputError, match=r"values of mass are outside truncated: \[5.21, 5.29\]"):
        build("GMM", b, truncated=[5.21, 5.29], transform="none")
    with pytest.raises(InputError, match="low < high"):
        build("GMM", b, truncated=[1, 0])


def test_a_mixture_of_two_dimensions_is_that_of_torch() -> None:
    torch.manual_seed(1)
    answer, z = torch.randn(50, 5 * 4), torch.randn(50, 2)
    weight, mean, width = answer[:, :4], answer[:, 4:12], answer[:, 12:]
    width = torch.nn.functional.softplus(width) + 1e-3
    parts = D.Independent(D.Normal(*(t.view(50, 2, 4).transpose(1, 2) for t in (mean, width))), 1)
    mixture = D.MixtureSameFamily(D.Categorical(logits=weight), parts)
    assert torch.allclose(mixture_loss(answer, z), -mixture.log_prob(z), atol=1e-5)


def test_joint_entropy_of_gaussians() -> None:
    g = torch.Generator().manual_seed(1)
    z = torch.randn(8000, 2, generator=g)
    z[:, 1] = 0.6 * z[:, 0] + 0.8 * z[:, 1]
    wanted = 2 * UNIT_GAUSSIAN + 0.5 * math.log(0.64)
    assert differential_entropy(z) == pytest.approx(wanted, abs=0.04)
    # Weights that turn a wider Gaussian into this one.
    wide = D.MultivariateNormal(torch.zeros(2), 2 * torch.eye(2))
    points = 2**0.5 * torch.randn(16_000, 2, generator=g)
    w = (D.MultivariateNormal(torch.zeros(2), torch.eye(2)).log_prob(points) - wide.log_prob(points)).exp()
    assert differential_entropy(points, w) == pytest.approx(2 * UNIT_GAUSSIAN, abs=0.05)


JOINT = [("Softmax", {"bins": 4}), ("GMM", {}), ("MINE", {"bound": "dv"}), ("MINE", {"bound": "js"})]


@pytest.mark.parametrize(("name", "options"), JOINT)
def test_joint_dependence_that_no_single_adversary_sees(name: str, options: dict[str, object]) -> None:
    """The score knows neither nuisance, but whether they are on the same side: I = ln 2 at most."""
    g = torch.Generator().manual_seed(1)
    z = torch.randn(1200, 2, generator=g)
    score = z.prod(1).sign() + 0.3 * torch.randn(1200, generator=g)
    b = Events(torch.zeros(1200, 1), (torch.arange(1200) % 6 == 0).float(), z, nuisances=NAMES).all
    nats = []
    for nuisance in ("mass", "pt", NAMES):
        term = build(name, b, nuisance, given="all", hidden=[32, 32], **options)
        nats.append(found(trained(term, score, b, steps=40 if isinstance(nuisance, str) else 120), score, b))
    assert max(nats[:2]) < 0.06
    assert 0.3 < nats[2] < 0.8


def tagger(data: Data, **options: object) -> Tagger:
    torch.manual_seed(2)
    term = {"type": "GMM", "nuisance": "mass", "start": 0.0, "ramp": 0.0, "hidden": [8]} | options
    return Tagger(
        features=data.train.features,
        nuisances=NAMES,
        terms=[term],
        network={"type": "MLP", "hidden": [8]},
        training={"epochs": 50, "batch": 200, "keep": "last", "lr": 5e-3, "average": 0.9},
    )


@pytest.fixture(scope="module")
def leaky() -> Data:
    score, b = gaussians(600, rho=0.8)
    x = torch.stack([score + b.y, b.y + torch.randn(600, generator=torch.Generator().manual_seed(9))], 1)
    return Data(*(Events(x, b.y, b.z, nuisances=NAMES) for _ in range(2)))


@pytest.mark.parametrize("name", ["GMM", "MSE", "MINE"])
def test_reversal_is_one_alternating_step_from_the_same_weights(name: str, leaky: Data) -> None:
    b, play = leaky.train.all, Play()
    moved, values = {}, {}
    for update in ("alternating", "reversal"):
        method = tagger(leaky, type=name, strength=3.0, update=update)
        method.network.fit(b.x)
        (term,) = (t for _, t in method.dues.each())
        term.fit(b)
        torch.manual_seed(6)
        if update == "alternating":
            # Statistics are brought up to date on the batch, as the reversed pass does it.
            with torch.no_grad():
                logit = method.logit(b.x)
            torch.manual_seed(6)
            chase = term.chase(logit, b)
            chase.backward()
            torch.manual_seed(6)
            bill = method._pay(b, play)
            sum(bill.values()).backward(inputs=list(method.network.parameters()))
        else:
            bill = method._pay(b, play)
            inputs = [*method.network.parameters(), *term.parameters()]
            sum(bill.values()).backward(inputs=inputs)
            assert float(term.latest) == pytest.approx(float(chase.detach()), rel=1e-5)
        moved[update] = [p.grad.clone() for p in method.parameters() if p.requires_grad]
        values[update] = {k: float(v.detach()) for k, v in bill.items()}
    assert values["reversal"] == pytest.approx(values["alternating"], rel=1e-5)
    for one, other in zip(moved["alternating"], moved["reversal"], strict=True):
        assert torch.allclose(one, other, rtol=1e-3, atol=1e-6)
    assert any(p.abs().sum() > 0 for p in moved["reversal"])


def test_a_player_without_a_loss_of_its_own_moves_on_what_another_left() -> None:
    torch.manual_seed(1)
    first, second = torch.nn.Linear(2, 1), torch.nn.Linear(1, 1)
    x = torch.randn(8, 2)
    pay = Player(first, lambda _: {"loss": second(first(x)).mean()}, leaves=(second,))
    fabric = Play().fabric
    lead, follow = (
        Seat("lead", pay, fabric),
        Seat("follow", Player(second, lambda _: {"told": torch.ones(())}), fabric),
    )
    before = second.weight.detach().clone()
    with torch.no_grad():
        wanted = first(x).mean()
    lead.move(None)  # type: ignore[arg-type]
    assert torch.equal(second.weight, before)
    assert float(second.weight.grad) == pytest.approx(float(wanted), rel=1e-5)
    follow.move(None)  # type: ignore[arg-type]
    assert not torch.equal(second.weight, before)


def test_reversal_decorrelates_and_is_judged(leaky: Data) -> None:
    curves = {}
    for strength in (0.0, 1.0):
        options = {"strength": strength, "start": 0.2, "ramp": 0.1, "hidden": [16], "moves": {"lr": 0.02}}
        method = tagger(leaky, type="Softmax", bins=6, update="reversal", **options)
        play = Play(seed=1)
        method.learn(leaky, play)
        curves[strength] = play.history[0]["curves"]
    chase = curves[1.0]["softmax_mass/chase"]
    assert chase[:5] == [None] * 5  # it rests until half of the start
    assert all(loss > 0 for loss in chase[5:])
    leaks = [math.log(6) - float(np.mean(curves[s]["softmax_mass/chase"][-5:])) for s in (0.0, 1.0)]
    assert leaks[0] > 0.3
    assert leaks[1] < 0.5 * leaks[0]
    assert curves[1.0]["valid/auc"][-1] > 0.6
    assert curves[1.0]["tagger/softmax_mass"][-1] == pytest.approx(-chase[-1], rel=1e-3)


def test_reversal_takes_no_steps() -> None:
    _, b = gaussians(50, rho=0.0)
    with pytest.raises(InputError, match="leave steps out"):
        build("GMM", b, update="reversal", steps=3)
    with pytest.raises(InputError, match="no update 'reverse'; did you mean 'reversal'"):
        build("MSE", b, update="reverse")
    with pytest.raises(InputError, match="known are dv, js"):
        build("MINE", b, bound="kl")
    with pytest.raises(InputError, match="make 1600 cells"):
        build("Softmax", b, NAMES, bins=40)


def test_the_judge_reads_least_squares_as_nats() -> None:
    score, b = gaussians(2000, rho=0.8)
    events = Events(score[:, None], b.y, b.z, nuisances=NAMES)
    term = build("MSE", b, strength=1.0)
    judge = Judge(lambda x: x[:, 0], events, terms={"mse_mass": term})
    with torch.no_grad():
        verdict = judge({"mse_mass/chase": 0.36})
        assert verdict.figures["mse_mass"] == pytest.approx(-0.5 * math.log(0.36), abs=0.06)
        assert "blind guess" in judge({"mse_mass/chase": 1.3}).complaint
        assert "sees the mean of the nuisance alone" in judge({"mse_mass/chase": 1.0}).complaint
