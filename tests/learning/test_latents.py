from __future__ import annotations

import math

import pytest
import torch

from hepdecorr import catalogue
from hepdecorr.errors import InputError
from hepdecorr.learning import Batch, Events, latents
from hepdecorr.learning.latents import Latent
from hepdecorr.learning.latents.decomposition import decompose, total_correlation
from hepdecorr.learning.latents.density import (
    aggregate_density,
    log_weights,
    own_density,
    prior_density,
    stratified_weights,
)

ESTIMATORS = ("Stratified", "Ratio", "Conditional", "Distance")
SPECS = [{"type": name} for name in latents.__all__ if name != "TotalCorrelation"] + [
    {"type": "TotalCorrelation", "estimator": e} for e in ESTIMATORS
]


def posterior(
    rows: int, dims: int, *, rho: float = 0.0, var: float = 0.1, seed: int = 1, dtype=torch.float64
):
    """Posteriors of variance var whose means correlate by rho in z_0 and z_1; the aggregate is Gaussian."""
    g = torch.Generator().manual_seed(seed)
    mean = torch.randn(rows, dims, generator=g, dtype=dtype)
    mean[:, 0] = rho * mean[:, 1] + math.sqrt(1 - rho**2) * mean[:, 0]
    mean = mean * math.sqrt(1 - var)
    spread = torch.full_like(mean, math.log(var))
    noise = torch.randn(rows, dims, generator=g, dtype=dtype)
    return Latent(mean, spread, mean + math.sqrt(var) * noise)


def with_nuisance(latent: Latent, z: torch.Tensor) -> Batch:
    rows = len(z)
    y = (torch.arange(rows) % 5 == 0).float()
    return Events(torch.zeros(rows, 1), y, z[:, None].float(), nuisances=["mass"]).all


def build(spec: dict[str, object], b: Batch, *, dims: int, sensitive: int = 1) -> latents.LatentTerm:
    torch.manual_seed(0)
    term = catalogue.build(
        spec, home="hepdecorr.learning.latents", latents=dims, sensitive=sensitive, nuisances=["mass"]
    )
    term.fit(b, rows=50_000)
    return term


def trained(term: latents.LatentTerm, latent: Latent, b: Batch, steps: int = 120) -> latents.LatentTerm:
    if term.chasing is not None:
        optimiser = torch.optim.Adam(term.parameters(), 5e-3)
        for _ in range(steps):
            optimiser.zero_grad()
            term.chase(latent, b).backward()
            optimiser.step()
    return term.requires_grad_(False)


@pytest.mark.parametrize("spec", SPECS, ids=lambda s: s.get("estimator", s["type"]))
def test_contract(spec: dict[str, object]) -> None:
    free = posterior(1200, 4, dtype=torch.float32)
    b = with_nuisance(free, free.mean[:, 0])
    term = trained(build(spec, b, dims=4), free, b)
    leaves = [t.clone().requires_grad_() for t in free[:2]]
    latent = Latent(*leaves, leaves[0] + (0.5 * leaves[1]).exp())
    price = term.price(latent, b)
    assert price.shape == ()
    price.backward()
    assert all(leaf.grad is None or leaf.grad.isfinite().all() for leaf in leaves)
    assert leaves[0].grad.abs().sum() > 0
    heavier = term.price(free, b._replace(w=3 * b.w))
    assert float(heavier) == pytest.approx(float(term.price(free, b)), rel=1e-4, abs=1e-5)
    w = b.w * torch.rand(len(b.w), generator=torch.Generator().manual_seed(2))
    assert float(term.price(free, b._replace(w=w))) != pytest.approx(float(heavier), abs=1e-9)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_dependence_costs_more_than_independence(estimator: str) -> None:
    spec = {"type": "TotalCorrelation", "estimator": estimator}
    free, bound = (posterior(2000, 3, rho=rho, dtype=torch.float32) for rho in (0.0, 0.8))
    prices = []
    for latent in (free, bound):
        b = with_nuisance(latent, latent.mean[:, 0])
        prices.append(float(trained(build(spec, b, dims=3), latent, b).price(latent, b)))
    assert prices[1] > prices[0] + 0.1


def test_stratified_weights() -> None:
    w = stratified_weights(5, rows=100)
    matrix = log_weights(w).exp()
    other = (100 - 4) / (100 * 4)
    assert torch.allclose(matrix.sum(1), torch.ones(5, dtype=torch.float64))
    assert torch.allclose(matrix.diagonal(), torch.full((5,), 0.01, dtype=torch.float64))
    assert torch.allclose(matrix.diagonal(1), torch.full((4,), other, dtype=torch.float64))
    assert float(matrix[4, 0]) == pytest.approx(other)
    assert float(matrix[0, 2]) == pytest.approx(0.25)
    weighted = log_weights(stratified_weights(5, rows=100, w=torch.rand(5) + 0.1)).exp()
    assert torch.allclose(weighted.sum(1), torch.ones(5))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dims", [[0], [0, 2], [0, 1, 2, 3]])
def test_aggregate_density_is_the_written_out_sum(dims: list[int], weighted: bool) -> None:
    latent = posterior(40, 4)
    g = torch.Generator().manual_seed(3)
    latent = latent._replace(log_var=torch.randn(40, 4, generator=g, dtype=torch.float64) - 1)
    w = torch.rand(40, generator=g, dtype=torch.float64) + 0.1 if weighted else None
    weights = stratified_weights(40, rows=1000, w=w)
    pairs = torch.distributions.Normal(latent.mean[None], (0.5 * latent.log_var).exp()[None])
    written = pairs.log_prob(latent.sample[:, None])[:, :, dims].sum(-1) + log_weights(weights)
    ours = aggregate_density(latent, weights, dims)
    assert torch.allclose(ours, torch.logsumexp(written, 1), atol=1e-9)
    single = aggregate_density(Latent(*(t.float() for t in latent[:3])), weights, dims)
    assert torch.allclose(single, ours.float(), atol=1e-3)


def test_aggregate_density_gradient() -> None:
    latent = posterior(7, 3)
    weights = stratified_weights(7, rows=70)

    def density(mean: torch.Tensor, log_var: torch.Tensor, sample: torch.Tensor) -> torch.Tensor:
        held = Latent(mean, log_var, sample)
        return torch.cat([aggregate_density(held, weights, [0]), aggregate_density(held, weights, [1, 2])])

    assert torch.autograd.gradcheck(density, tuple(t.clone().requires_grad_() for t in latent[:3]))


@pytest.mark.parametrize("sensitive", [1, 2, 5])
def test_the_pieces_add_up_to_the_kl(sensitive: int) -> None:
    latent = posterior(200, 5, rho=0.5)
    pieces = decompose(latent, sensitive=sensitive, rows=5000)
    kl = (own_density(latent) - prior_density(latent)).sum(1).mean()
    assert float(sum(pieces)) == pytest.approx(float(kl), abs=1e-6)
    tc = total_correlation(latent, sensitive=sensitive, rows=5000)
    assert float(tc) == pytest.approx(float(pieces.correlation), abs=1e-9)


def test_kl_is_that_of_torch() -> None:
    latent = posterior(100, 3)
    b = with_nuisance(latent, latent.mean[:, 0])._replace(w=torch.ones(100))
    q = torch.distributions.Normal(latent.mean, (0.5 * latent.log_var).exp())
    known = torch.distributions.kl_divergence(q, torch.distributions.Normal(0.0, 1.0)).sum(1).mean()
    assert float(build({"type": "KL"}, b, dims=3).price(latent, b)) == pytest.approx(float(known), rel=1e-6)


@pytest.mark.parametrize("rows", [2, 3])
def test_independent_latents_have_the_known_bias(rows: int) -> None:
    # d = 8, variance 0.1, N = 50,000, B = 512: about -0.3 for the correct weights, +3.5 for plain 1/B.
    latent = posterior(512, 8, seed=rows)
    assert -0.8 < float(total_correlation(latent, sensitive=8, rows=50_000)) < 0.3


def test_the_published_estimate_is_blind_in_many_dimensions_and_the_critic_is_not() -> None:
    """Draws at rho = 0.8 correlate by 0.72, so that TC between z_0 and the rest is -ln(1 - 0.72^2)/2."""
    true = -0.5 * math.log(1 - (0.8 * 0.9) ** 2)
    limit = 0.5 * math.log(1 + 1 / 0.1)  # I(x; z_S), to which the published estimate tends
    found: dict[tuple[int, float], tuple[float, float]] = {}
    for dims in (2, 16):
        for rho in (0.0, 0.8):
            latent = posterior(1024, dims, rho=rho, dtype=torch.float32)
            b = with_nuisance(latent, latent.mean[:, 0])
            published = float(total_correlation(latent, sensitive=1, rows=50_000))
            critic = build({"type": "TotalCorrelation", "given": "all"}, b, dims=dims)
            train, test = (slice(0, 512), slice(512, None))
            fitted = trained(critic, latent.take(train), b.take(train), steps=60)
            found[dims, rho] = published, float(fitted.price(latent.take(test), b.take(test)))
    assert found[2, 0.0][0] == pytest.approx(0, abs=0.1)
    assert found[2, 0.8][0] == pytest.approx(true, abs=0.1)
    for rho in (0.0, 0.8):
        assert found[16, rho][0] == pytest.approx(limit, abs=0.12)
    assert abs(found[16, 0.8][0] - found[16, 0.0][0]) < 0.05  # blind
    assert found[16, 0.8][1] > found[16, 0.0][1] + 0.15  # not blind


def test_a_class_that_a_batch_lacks_moves_nothing() -> None:
    term = latents.SupervisedAlignment(20.0, nuisances=["mass"], sensitive=1, signal=0.2)
    g = torch.Generator().manual_seed(1)
    z, mean = torch.randn(64, 1, generator=g), torch.randn(64, 2, generator=g).requires_grad_()
    w, none = torch.rand(64, generator=g), torch.zeros(64)
    b = Batch(z, none, z, w, none.int(), torch.ones(64))
    term.fit(b, rows=64)
    term.cost(Latent(mean, torch.zeros(64, 2), mean), b, passed=1.0).backward()
    wanted = 2 * 20 * w / w.sum() * (mean.detach()[:, 0] - term.scalings[0](z[:, 0]))
    assert mean.grad is not None
    torch.testing.assert_close(mean.grad[:, 0], wanted)


def test_alignment_forms() -> None:
    z = torch.randn(4000, generator=torch.Generator().manual_seed(1))
    flat = torch.zeros(4000, 2)
    b = with_nuisance(Latent(flat, flat, flat), z)
    probit = build({"type": "SupervisedAlignment", "signal": 0.0}, b, dims=2)
    perfect = Latent(torch.stack([z, flat[:, 0]], 1), flat, flat)
    assert float(probit.price(perfect, b)) < 0.01
    assert float(probit.price(Latent(flat, flat, flat), b)) == pytest.approx(1, abs=0.05)
    published = build({"type": "SupervisedAlignment", "form": "bernoulli", "signal": 0.0}, b, dims=2)
    # At r = logit(v) the cross-entropy is the mean binary entropy of a uniform v: 1/2.
    background = b.y == 0
    rank = torch.empty(int(background.sum()))
    rank[z[background].argsort()] = (torch.arange(len(rank)) + 0.5) / len(rank)
    best = flat.clone()
    best[background, 0] = rank.logit()
    assert float(published.price(Latent(best, flat, flat), b)) == pytest.approx(0.5, abs=0.02)
    assert float(published.price(Latent(flat, flat, flat), b)) == pytest.approx(math.log(2), abs=1e-4)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"type": "TotalCorrelation", "estimator": "mss"}, "no 'mss'"),
        ({"type": "TotalCorrelation", "of": "some"}, "sensitive or all"),
        ({"type": "Decomposition", "of": "some"}, "sensitive or all"),
        ({"type": "SupervisedAlignment", "form": "logit"}, "no form 'logit'"),
        ({"type": "TotalCorrelation", "estimator": {"type": "Conditional", "density": "flow"}}, "no 'flow'"),
        ({"type": "KL", "given": "signal"}, "no 'signal'"),
    ],
)
def test_faults_in_the_yaml_are_named(spec: dict[str, object], message: str) -> None:
    latent = posterior(50, 3)
    with pytest.raises(InputError, match=message):
        build(spec, with_nuisance(latent, latent.mean[:, 0]), dims=3)
