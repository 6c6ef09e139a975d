"""The family of group autoencoders: closed forms of its pieces."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from hepdecorr.learning.grouping import Posterior
from hepdecorr.learning.groups import DeepSets, LeaveOneOut, Mean, Nemeth, Product
from hepdecorr.learning.groups.building import Latents, Making
from hepdecorr.learning.groups.loss import bill
from hepdecorr.learning.groups.members import Members
from hepdecorr.learning.groups.posteriors import LOG_VAR, ClassPrior, bounded, drawn, nats


def numbered(sizes: list[int]) -> torch.Tensor:
    return torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pooled(encoder: torch.nn.Module, mean: torch.Tensor, log_var: torch.Tensor) -> Posterior:
    """What an encoder makes of one group whose events say N(mean_k, var_k)."""
    answers = torch.cat([mean, log_var], 1)
    encoder.each = torch.nn.Identity()
    sums = encoder.members(answers).sum(0, keepdim=True)
    return encoder.pool(sums, torch.tensor([float(len(mean))]))


@pytest.mark.parametrize("prior", [False, True])
@pytest.mark.parametrize("precision", ["variance", "deviation"])
def test_product_of_normals_is_the_normalised_product_of_densities(prior: bool, precision: str) -> None:
    """Against densities multiplied on a grid; with deviations in place of variances against the formula."""
    torch.manual_seed(1)
    mean, log_var = torch.randn(4, 1), 0.7 * torch.randn(4, 1)
    found = pooled(Product(features=1, latents=1, prior=prior, precision=precision), mean, log_var)
    sigma = (0.5 * bounded(log_var)).exp().double().numpy()[:, 0]
    mu = mean.double().numpy()[:, 0]
    if prior:
        sigma, mu = np.append(sigma, 1.0), np.append(mu, 0.0)
    if precision == "variance":
        grid = np.linspace(-12, 12, 200_001)
        density = np.exp(sum(stats.norm.logpdf(grid, m, s) for m, s in zip(mu, sigma, strict=True)))
        density /= density.sum()
        known = (density * grid).sum()
        spread = math.sqrt((density * (grid - known) ** 2).sum())
    else:
        spread = 1 / (1 / sigma).sum()
        known = (mu / sigma).sum() * spread
    assert float(found.mean) == pytest.approx(known, rel=1e-4, abs=1e-5)
    assert float((0.5 * found.log_var).exp()) == pytest.approx(spread, rel=1e-4)


def test_the_mean_of_posteriors_has_the_mean_variance() -> None:
    torch.manual_seed(1)
    mean, log_var = torch.randn(5, 2), torch.randn(5, 2)
    found = pooled(Mean(features=1, latents=2), mean, log_var)
    torch.testing.assert_close(found.mean[0], mean.mean(0))
    torch.testing.assert_close(found.log_var[0].exp(), bounded(log_var).exp().mean(0))


@pytest.mark.parametrize("kind", [DeepSets, Mean, Product])
def test_codes_do_not_depend_on_order_or_on_parts(kind: type) -> None:
    torch.manual_seed(1)
    encoder, x = kind(features=2, latents=2), torch.randn(40, 2)
    counts = torch.tensor([40.0])
    whole = encoder.pool(encoder.members(x).sum(0, keepdim=True), counts)
    turned = encoder.members(x.flip(0))
    parts = encoder.pool((turned[:7].sum(0) + turned[7:].sum(0))[None], counts)
    torch.testing.assert_close(whole, parts)
    empty = encoder.pool(torch.zeros(1, encoder.summands), torch.zeros(1))
    assert all(torch.isfinite(part).all() for part in empty)


def test_deep_sets_by_mean_know_the_number_of_events() -> None:
    torch.manual_seed(1)
    encoder = DeepSets(features=1, latents=1, pool="mean")
    encoder.fit(torch.tensor([20.0, 30.0, 40.0]))
    each = encoder.members(torch.randn(10, 1))
    few = encoder.pool(each.sum(0, keepdim=True), torch.tensor([10.0]))
    many = encoder.pool(30 * each.sum(0, keepdim=True), torch.tensor([300.0]))
    assert not torch.allclose(few.log_var, many.log_var)
    known = encoder.all(torch.cat([each.mean(0), torch.tensor([10 / 30]).log()])[None])
    torch.testing.assert_close(few.mean, known[:, :1])


def test_posteriors_against_torch_distributions() -> None:
    torch.manual_seed(1)
    p = Posterior(torch.randn(50, 3), torch.randn(50, 3))
    normal = torch.distributions.Normal(p.mean, (0.5 * p.log_var).exp())
    unit = torch.distributions.Normal(0.0, 1.0)
    torch.testing.assert_close(nats(p), torch.distributions.kl_divergence(normal, unit))
    many = drawn(Posterior(torch.full((200_000, 1), 2.0), torch.full((200_000, 1), math.log(0.25))))
    assert float(many.mean()) == pytest.approx(2, abs=0.01)
    assert float(many.std()) == pytest.approx(0.5, abs=0.01)


def test_a_prior_for_each_class_against_torch_distributions() -> None:
    torch.manual_seed(1)
    p, y = Posterior(torch.randn(40, 2), torch.randn(40, 2)), (torch.arange(40) % 3 == 0).float()
    prior = ClassPrior(2)
    torch.testing.assert_close(
        prior.nats(p, y), nats(p)
    )  # both are unit Gaussians before anything is learned
    with torch.no_grad():
        prior.mean.copy_(torch.tensor([1.5, -0.5]))
        prior.log_var.copy_(torch.tensor([-1.0, 0.4]))
    own = torch.distributions.Normal(p.mean, (0.5 * p.log_var).exp())
    deviation = (0.5 * bounded(prior.log_var)).exp()
    signal = torch.distributions.kl_divergence(own, torch.distributions.Normal(prior.mean, deviation))
    torch.testing.assert_close(prior.nats(p, y), torch.where((y == 1)[:, None], signal, nats(p)))


def test_the_bound_of_a_variance_is_soft_and_starts_as_the_identity() -> None:
    at = torch.tensor([-1e4, 0.0, 1e4], requires_grad=True)
    found = bounded(at)
    low, zero, high = found.tolist()
    assert low == pytest.approx(LOG_VAR[0], abs=1e-3)
    assert high == pytest.approx(LOG_VAR[1], abs=1e-3)
    assert zero == pytest.approx(0, abs=1e-5)
    (slope,) = torch.autograd.grad(found[1], at)
    assert float(slope[1]) == pytest.approx(1, rel=1e-4)


def test_means_of_the_others_are_those_of_a_loop() -> None:
    torch.manual_seed(1)
    group = numbered([3, 5, 2])
    values = torch.randn(10, 4)
    members = Members.of(group)
    for by_group in (False, True):
        rows = torch.tensor([9, 0, 1, 2, 3, 4, 5, 6, 7, 8, 3])
        found = dict(zip(rows.tolist(), members.others(values, rows, by_group=by_group), strict=True))
        for k in range(10):
            others = [values[j] for j in range(10) if j != k and group[j] == group[k]]
            known = torch.stack(others).sum(0) / (len(others) + by_group)
            torch.testing.assert_close(found[k], known)


def test_partners_are_of_the_group_or_of_another() -> None:
    group = numbered([3, 2, 5, 4])
    members, own = Members.of(group), torch.arange(14)
    met, strange = set(), set()
    for seed in range(60):
        generator = seeded(seed)
        other = members.sibling(own, generator=generator)
        assert (group[other] == group).all()
        assert (other != own).all()
        met |= set(zip(own.tolist(), other.tolist(), strict=True))
        away = members.stranger(own, generator=generator)
        assert (group[away] != group).all()
        strange |= set(zip(own.tolist(), away.tolist(), strict=True))
    # All that may be met have been: 3 x 2 + 2 x 1 + 5 x 4 + 4 x 3 pairs; each has met most strangers.
    assert len(met) == 40
    assert len(strange) > 0.9 * sum(14 - n for n in (3, 3, 3, 2, 2, 5, 5, 5, 5, 5, 4, 4, 4, 4))
    some = [members.sibling(own, generator=seeded(s), itself=True) for s in range(20)]
    assert any((other == own).any() for other in some)


def correlated(
    groups: int, size: int, rho: float, *, seed: int
) -> tuple[torch.Tensor, torch.Tensor, Members]:
    """x is one number for all events of a group, v correlated with it: I = -ln(1 - rho^2) / 2."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(groups, 1, generator=g).repeat_interleave(size, 0)
    v = rho * x + math.sqrt(1 - rho**2) * torch.randn(groups * size, 1, generator=g)
    return x, v, Members.of(numbered([size] * groups))


@pytest.mark.parametrize("kind", [LeaveOneOut, Nemeth])
def test_the_bound_finds_the_information_of_a_gaussian_pair(kind: type) -> None:
    torch.manual_seed(1)
    rho, known = 0.8, -0.5 * math.log(1 - 0.8**2)
    critic = kind(features=1, latents=1, pairs=0)
    optimiser = torch.optim.Adam(critic.parameters(), lr=5e-3)
    for step in range(250):
        loss = -critic(*correlated(1000, 2, rho, seed=step))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        found = float(critic(*correlated(20_000, 2, rho, seed=9999)))
        none = float(critic(*correlated(20_000, 2, 0.0, seed=9999)))
    assert known - 0.06 < found < known + 0.02  # 0.511 nats, of which a lower bound stays short
    assert none < 0.02


def test_a_bound_of_sums_and_a_squashed_critic_are_those_of_the_published_code() -> None:
    x, v, among = correlated(20, 3, 0.5, seed=1)
    torch.manual_seed(1)
    plain = LeaveOneOut(features=1, latents=1)
    other = LeaveOneOut(features=1, latents=1, bound="sum", squash=True, included=True)
    other.load_state_dict(plain.state_dict())
    found = other.eval()(x, v, among, generator=seeded(4)).item()
    means = plain.of_x(x).view(20, 3, -1).mean(1).repeat_interleave(3, 0)
    away = among.stranger(torch.arange(60), generator=seeded(4))
    joint = plain.of_both(torch.cat([v, means], 1))[:, 0].tanh()
    apart = plain.of_both(torch.cat([v[away], means], 1))[:, 0].tanh()
    assert found == pytest.approx((joint.sum() - apart.exp().sum().log()).item(), rel=1e-5)


def test_groups_of_one_event_are_left_out_and_one_group_costs_nothing(caplog) -> None:
    torch.manual_seed(1)
    critic = LeaveOneOut(features=1, latents=1)
    x, v = torch.randn(8, 1), torch.randn(8, 1, requires_grad=True)
    mixed = Members.of(numbered([3, 1, 4]))
    found = critic(x, v, mixed, generator=seeded(2))
    kept = [0, 1, 2, 4, 5, 6, 7]
    known = critic(x[kept], v[kept], Members.of(numbered([3, 4])), generator=seeded(2))
    torch.testing.assert_close(found, known)
    (gradient,) = torch.autograd.grad(found, v)
    assert float(gradient[3]) == 0
    for sizes in ([8], [7, 1], [1] * 8):
        cost = critic(x, v, Members.of(numbered(sizes)))
        assert cost.item() == 0
        assert float(torch.autograd.grad(cost, v)[0].abs().sum()) == 0
    assert caplog.text.count("costs nothing") == 1


def test_one_backward_pass_moves_critic_and_codes_apart() -> None:
    """The critic by the gradient of its own loss, the codes by `strength` times that of the bound."""
    torch.manual_seed(1)
    critic = LeaveOneOut(features=1, latents=1, update="reversal")
    x, v, among = correlated(50, 4, 0.5, seed=1)
    weight, v = critic.of_both[0].weight, v.requires_grad_()
    torch.manual_seed(2)
    cost = critic.reverse(x, v, among, strength=3.0)
    together = torch.autograd.grad(cost, [weight, v])
    torch.manual_seed(2)
    bound = critic(x, v, among)
    alone = torch.autograd.grad(bound, [weight, v])
    assert cost.item() == pytest.approx(3 * bound.item(), rel=1e-5)
    assert critic.latest.item() == pytest.approx(-bound.item(), rel=1e-5)
    torch.testing.assert_close(together, (-alone[0], 3 * alone[1]))


def test_some_pairs_of_a_batch_say_what_all_do() -> None:
    """Some of the pairs, from all x of their groups: their bound scatters around that of all."""
    torch.manual_seed(1)
    some, every = (LeaveOneOut(features=1, latents=1, pairs=pairs) for pairs in (200, 0))
    every.load_state_dict(some.state_dict())
    x, v, among = correlated(300, 4, 0.9, seed=1)
    with torch.no_grad():
        for parameter in some.parameters():
            parameter.mul_(2)
        every.load_state_dict(some.state_dict())
        scattered = torch.stack([some(x, v, among, generator=seeded(s)) for s in range(200)])
        known = torch.stack([every(x, v, among, generator=seeded(s)) for s in range(50)]).mean()
    assert 0 < float(scattered.std())
    assert abs(float(scattered.mean() - known)) < 5 * float(scattered.std()) / math.sqrt(200)
    rows = among.some(200, generator=seeded(1))
    assert len(set(rows.tolist())) == 200
    torch.testing.assert_close(among.some(0), torch.arange(1200))


@torch.no_grad()
@pytest.mark.parametrize("of", ["all", "none"])
def test_the_bill_of_weighted_groups_is_that_of_a_loop(of: str) -> None:
    """Events count by their weights, negative ones as nothing; a group's divergence counts once."""
    torch.manual_seed(1)
    making = Making(2, Latents(1, 2), None)
    net = making.net("Product", None, "Network", 0.3)
    among = Members.of(numbered([3, 1, 4]))
    x, w = torch.randn(8, 2), torch.tensor([0.5, 2.0, -1.0, 1.5, 0.0, 1.0, 3.0, -0.2])
    w = w if of == "all" else -w.abs()
    inferred = net.infer(x, among, generator=seeded(2))
    found = {
        name: float(value) for name, value in bill(net, inferred, x, among, w=w, y=torch.ones(8)).items()
    }
    normal, unit = torch.distributions.Normal, torch.distributions.Normal(0.0, 1.0)
    known, kept = {"reconstruct": 0.0, "kl_group": 0.0, "kl_instance": 0.0}, w.clamp_min(0)
    density = [normal(p.mean, (0.5 * p.log_var).exp()) for p in (inferred.group, inferred.instance)]
    apart = [torch.distributions.kl_divergence(one, unit).sum(1) for one in density]
    for k, group in enumerate(among.group.tolist()):
        mean = net.decoder(inferred.u[group][None], inferred.v[k][None])[0]
        known["reconstruct"] -= float(kept[k] * normal(mean, math.sqrt(0.3)).log_prob(x[k]).sum())
        known["kl_instance"] += float(kept[k] * apart[1][k])
    known["kl_group"] = float(apart[0].sum())
    total = float(kept.sum())
    wanted = {name: value / total if total else 0.0 for name, value in known.items()}
    assert found == pytest.approx(wanted, rel=1e-4, abs=1e-6)
