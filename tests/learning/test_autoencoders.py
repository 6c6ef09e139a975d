"""Networks of a variational autoencoder of jets."""

from __future__ import annotations

import io
import warnings
from itertools import permutations

import numpy as np
import onnxruntime
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from hepdecorr import catalogue
from hepdecorr.errors import InputError
from hepdecorr.learning.networks import autoencoders
from hepdecorr.learning.networks.autoencoders import Autoencoder, FullyConnected, Recurrent, SetVAE
from hepdecorr.learning.networks.autoencoders.matching import matched

HOME = "hepdecorr.learning.networks.autoencoders"
LENGTH, LATENTS = 6, 3
SMALL: dict[str, dict] = {
    "FullyConnected": {"type": "FullyConnected", "hidden": [12, 8]},
    "Recurrent": {"type": "Recurrent", "width": 8},
    "Recurrent, skip": {"type": "Recurrent", "width": 8, "padding": "skip"},
    "SetVAE": {"type": "SetVAE", "phi": [12, 8], "hidden": [8], "decoder": [12], "pools": 2},
    "SetVAE, energy": {
        "type": "SetVAE",
        "phi": [12, 8],
        "hidden": [8],
        "decoder": [12],
        "distance": "chamfer",
        "weigh": "energy",
    },
}


def build(name: str, **change: object) -> Autoencoder:
    torch.manual_seed(0)
    spec = {**SMALL[name], **change}
    return catalogue.build(spec, home=HOME, length=LENGTH, latents=LATENTS).eval()


def told(name: str, **change: object) -> Autoencoder:
    """One that is told two numbers beside."""
    return build(name, condition=2, **change)


def jets(n: int, *, seed: int = 1) -> tuple[Tensor, Tensor]:
    """Scaled four-vectors and mask; the first jet has one constituent, the second none, the third all."""
    draw = torch.Generator().manual_seed(seed)
    count = torch.randint(1, LENGTH + 1, (n,), generator=draw)
    count[:3] = torch.tensor([1, 0, LENGTH])[:n]
    mask = torch.arange(LENGTH) < count[:, None]
    x = torch.randn(n, LENGTH, 4, generator=draw)
    return torch.where(mask[..., None], x, 0.0), mask


@pytest.fixture(params=list(SMALL))
def name(request) -> str:
    return request.param


def test_every_network_is_tried() -> None:
    assert {spec["type"] for spec in SMALL.values()} == set(autoencoders.__all__)


def test_contract(name: str) -> None:
    net, (x, mask) = told(name), jets(50)
    given = torch.randn(50, 2, generator=torch.Generator().manual_seed(2))
    assert net.per in ("slot", "component")
    mean, log_var = net.encode(x, mask, given)
    assert mean.shape == log_var.shape == (50, LATENTS)
    decoded = net.decode(mean, given)
    assert decoded.shape == (50, LENGTH, 4)
    distance = net.distance(decoded, x, mask)
    assert distance.shape == (50,)
    assert (distance[2:] > 0).all()
    (distance.sum() + log_var.square().sum()).backward()
    for key, p in net.named_parameters():
        assert p.grad is not None, key
        assert p.grad.abs().max() > 0, key
    for n in (0, 1, 7):
        mean_n, log_var_n = net.encode(x[:n], mask[:n], given[:n])
        assert torch.allclose(mean_n, mean[:n], atol=1e-6)
        assert torch.allclose(log_var_n, log_var[:n], atol=1e-6)
        decoded_n = net.decode(mean_n, given[:n])
        assert torch.allclose(decoded_n, decoded[:n], atol=1e-6)
        assert torch.allclose(net.distance(decoded_n, x[:n], mask[:n]), distance[:n], atol=1e-6)


def test_what_is_alike_is_at_no_distance(name: str) -> None:
    net, (x, mask) = build(name), jets(50)
    for mode in (True, False):
        net.train(mode)
        assert net.distance(x, x, mask).tolist() == pytest.approx([0.0] * 50, abs=1e-6)
        farther = [float(net.distance(x + step, x, mask)[2]) for step in (0.01, 0.1, 0.3)]
        assert farther[0] < farther[1] < farther[2]


def test_any_jet_has_a_finite_posterior_and_gradient(name: str) -> None:
    net, (x, mask) = build(name), jets(20)
    mean, log_var = net.encode(1e12 * x, mask)
    assert mean.isfinite().all()
    (mean.abs().clamp_max(1) + log_var.exp() + (-log_var).exp()).sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in net.parameters())
    assert log_var.abs().max() <= 10


def test_conditions_are_heard_by_both_halves(name: str) -> None:
    net, (x, mask) = told(name), jets(30)
    one, other = torch.zeros(30, 2), torch.tensor([0.0, 1.0]).expand(30, 2)
    with torch.no_grad():
        mean = net.encode(x, mask, one)[0]
        change = (net.encode(x, mask, other)[0] - mean).abs().amax(1)
        assert change[mask.any(1)].min() > 1e-4
        assert (net.decode(mean, other) - net.decode(mean, one)).abs().amax((1, 2)).min() > 1e-4


def test_what_was_saved_is_what_was(name: str) -> None:
    net, (x, mask) = build(name), jets(20)
    file = io.BytesIO()
    torch.save(net.state_dict(), file)
    file.seek(0)
    twin = catalogue.build(SMALL[name], home=HOME, length=LENGTH, latents=LATENTS).eval()
    before = twin.encode(x, mask)[0]
    twin.load_state_dict(torch.load(file))
    assert not torch.equal(before, net.encode(x, mask)[0])
    assert torch.equal(twin.encode(x, mask)[0], net.encode(x, mask)[0])
    assert torch.equal(twin.decode(x[:, 0, :3]), net.decode(x[:, 0, :3]))


@pytest.mark.parametrize("mode", [True, False])
def test_it_stands_on_the_device_of_its_jets(name: str, mode: bool) -> None:
    """Within `meta` a tensor that is made without saying where has no data, and fails."""
    net, (x, mask) = told(name).train(mode), jets(20)
    with torch.device("meta"):
        mean, log_var = net.encode(x, mask, x[:, 0, :2])
        distance = net.distance(net.decode(mean, x[:, 0, :2]), x, mask)
        (distance.sum() + log_var.sum()).backward()
    assert distance.device == x.device
    assert distance.isfinite().all()


def test_half_precision_is_for_the_layers_alone(name: str) -> None:
    net, (x, mask) = build(name), jets(20)
    with torch.autocast("cpu", torch.bfloat16):
        mean, log_var = net.encode(x, mask)
        decoded = net.decode(mean)
        distance = net.distance(decoded, x, mask)
        near = net.distance(x + 1e-3, x, mask)
    assert {t.dtype for t in (mean, log_var, decoded, distance)} == {torch.float32}
    assert torch.allclose(distance, net.distance(decoded, x, mask))
    assert torch.allclose(near, net.distance(x + 1e-3, x, mask), rtol=1e-4)


class Whole(nn.Module):
    """What exported scores are made of, of all networks at once: an export costs seconds."""

    def __init__(self, nets: dict[str, Autoencoder]) -> None:
        super().__init__()
        self.nets = nn.ModuleList(nets.values())

    def forward(self, x: Tensor, mask: Tensor, given: Tensor) -> tuple[Tensor, ...]:
        answers: list[Tensor] = []
        for net in self.nets:
            mean, log_var = net.encode(x, mask > 0.5, given)
            decoded = net.decode(mean, given)
            there = net.made(decoded, mask > 0.5)
            answers += [mean, log_var, decoded, there.float(), net.distance(decoded, x, mask > 0.5)]
        return tuple(answers)


def test_the_graph_gives_what_torch_gives() -> None:
    (x, mask), rows = jets(3), torch.export.Dim("rows", min=1)
    inputs = (x, mask.float(), torch.zeros(3, 2))
    shapes = {"x": {0: rows}, "mask": {0: rows}, "given": {0: rows}}
    whole = Whole({name: told(name) for name in SMALL}).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's, of its own affairs
        made = torch.onnx.export(
            whole, inputs, dynamo=True, external_data=False, dynamic_shapes=shapes, verbose=False
        )
    session = onnxruntime.InferenceSession(made.model_proto.SerializeToString())
    names = [i.name for i in session.get_inputs()]
    labels = [f"{name}: {k}" for name in SMALL for k in ("mean", "log_var", "decoded", "made", "distance")]
    for n in (1, 2, 40):
        (x, mask), given = jets(n, seed=n), torch.randn(n, 2, generator=torch.Generator().manual_seed(n))
        feed = zip(names, (x, mask.float(), given), strict=True)
        found = session.run(None, {key: value.numpy() for key, value in feed})
        with torch.no_grad():
            wanted = whole(x, mask.float(), given)
        for label, a, b in zip(labels, found, wanted, strict=True):
            np.testing.assert_allclose(a, b.numpy(), rtol=2e-5, atol=1e-5, err_msg=f"{label}, n = {n}")


def test_the_fully_connected_one_is_the_papers() -> None:
    """80-256-128-64-10-64-128-256-80, ReLU between, nothing behind the last; counted and computed by hand."""
    net = FullyConnected(length=20, latents=10)
    widths = [m.out_features for m in net.modules() if isinstance(m, nn.Linear)]
    assert widths == [256, 128, 64, 20, 64, 128, 256, 80]
    counts = [sum(p.numel() for p in half.parameters()) for half in (net.encoder, net.decoder)]
    assert counts == [81 * 256 + 257 * 128 + 129 * 64 + 65 * 20, 11 * 64 + 65 * 128 + 129 * 256 + 257 * 80]
    x, mask = torch.randn(5, 20, 4), torch.ones(5, 20, dtype=torch.bool)
    value = x.numpy().reshape(5, 80)
    weights = [p.detach().numpy() for p in net.encoder.parameters()]
    for k in range(0, 8, 2):
        value = (np.maximum(value, 0) if k else value) @ weights[k].T + weights[k + 1]
    with torch.no_grad():
        mean, log_var = net.encode(x, mask)
    np.testing.assert_allclose(mean, value[:, :10], atol=1e-5)
    np.testing.assert_allclose(log_var, value[:, 10:], atol=2e-3)  # bounded at 10, which is far away


def long_short_term(recurrent: nn.LSTM, x: np.ndarray) -> np.ndarray:
    """The steps of an LSTM on one jet (L, c), by Hochreiter's equations with a forget gate."""
    for k in range(recurrent.num_layers):
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        of_input, of_state, bias, more = (getattr(recurrent, f"{n}_l{k}").detach().numpy() for n in names)
        state = cell = np.zeros(recurrent.hidden_size)
        steps = []
        for row in x:
            enter, forget, new, leave = np.split(of_input @ row + of_state @ state + bias + more, 4)
            cell = cell / (1 + np.exp(-forget)) + np.tanh(new) / (1 + np.exp(-enter))
            state = np.tanh(cell) / (1 + np.exp(-leave))
            steps.append(state)
        x = np.array(steps)
    return x


@pytest.mark.parametrize("padding", ["read", "skip"])
def test_the_recurrent_one_is_the_papers(padding: str) -> None:
    """Two layers of 50, the latents repeated through one of 50; what is read last depends on the padding."""
    net = Recurrent(padding=padding).eval()
    sizes = [(m.input_size, m.hidden_size, m.num_layers) for m in (net.encoder, net.decoder)]
    assert sizes == [(4, 50, 2), (10, 50, 1)]
    x = torch.randn(2, 20, 4)
    mask = torch.arange(20) < torch.tensor([[20], [7]])
    with torch.no_grad():
        mean = net.encode(x, mask)[0]
        decoded = net.decode(mean)
    for k, last in enumerate((20, 20 if padding == "read" else 7)):
        known = long_short_term(net.encoder, x[k, :last].numpy())[-1]
        weight, bias = (p.detach().numpy() for p in net.to_latents.parameters())
        np.testing.assert_allclose(mean[k], (weight @ known + bias)[:10], atol=1e-5)
        steps = long_short_term(net.decoder, mean[k].numpy()[None].repeat(20, 0))
        weight, bias = (p.detach().numpy() for p in net.to_momenta.parameters())
        np.testing.assert_allclose(decoded[k], steps @ weight.T + bias, atol=1e-5)


def test_what_is_made_for_a_jet_with_holes_comes_first() -> None:
    """Where padding is skipped, what is decoded answers the constituents there are, one after the other."""
    mask = torch.tensor([[True, False, True, False, True, False]])
    decoded = torch.zeros(1, LENGTH, 4)
    skip, read = (build(name).made(decoded, mask) for name in ("Recurrent, skip", "Recurrent"))
    assert skip.tolist() == [[True] * 3 + [False] * 3]
    assert torch.equal(read, mask)


def test_padding_that_is_skipped_has_no_say() -> None:
    net, (x, mask) = build("Recurrent, skip"), jets(40)
    spoilt = torch.where(mask[..., None], x, 77.0)
    decoded = torch.randn(40, LENGTH, 4)
    with torch.no_grad():
        assert torch.allclose(net.encode(spoilt, mask)[0], net.encode(x, mask)[0], atol=1e-6)
        read = build("Recurrent")
        assert not torch.allclose(read.encode(spoilt, mask)[0], read.encode(x, mask)[0], atol=1e-2)
    found = net.distance(decoded, spoilt, mask)
    for k, own in enumerate(mask):
        wanted = float(((decoded[k][own] - x[k][own]) ** 2).mean()) if own.any() else 0.0
        assert float(found[k]) == pytest.approx(wanted, rel=1e-5)
    # A hole in the middle is closed.
    holes = torch.ones(1, LENGTH, dtype=torch.bool)
    holes[0, 1] = False
    jet = torch.randn(1, LENGTH, 4)
    shut = torch.cat([jet[:, :1], jet[:, 2:], jet[:, 1:2]], 1)
    behind = torch.arange(LENGTH)[None] < LENGTH - 1
    with torch.no_grad():
        assert torch.allclose(net.encode(jet, holes)[0], net.encode(shut, behind)[0], atol=1e-6)
    assert torch.allclose(net.distance(shut, jet, holes), torch.zeros(1))


@pytest.mark.parametrize("padded", [False, True])
def test_the_distance_is_that_of_the_slides(padded: bool) -> None:
    """1/4n times the sum over i of |xhat_i - x_i|^2 with n = 20: the mean over 80, padding counted."""
    draw = np.random.default_rng(1)
    x, decoded = draw.normal(size=(2, 7, 20, 4)).astype(np.float32)
    mask = np.ones((7, 20), bool)
    if padded:
        mask[:, 12:], x[:, 12:] = False, -0.7  # a zero momentum, scaled
    wanted = []
    for jet, other in zip(x, decoded, strict=True):
        total = 0.0
        for a, b in zip(jet, other, strict=True):
            total += sum((float(a[k]) - float(b[k])) ** 2 for k in range(4))
        wanted.append(total / (4 * 20))
    found = FullyConnected().distance(torch.tensor(decoded), torch.tensor(x), torch.tensor(mask))
    assert found.tolist() == pytest.approx(wanted, rel=1e-5)
    assert found.tolist() == pytest.approx(((x - decoded) ** 2).reshape(7, 80).mean(1).tolist(), rel=1e-5)


def sets(n: int, *, length: int, seed: int = 3) -> tuple[Tensor, Tensor]:
    """Two of each: random, near one another in another order, and with many equal distances."""
    draw = torch.Generator().manual_seed(seed)
    x, other = torch.randn(2, n, length, 4, generator=draw)
    order = torch.rand(n, length, generator=draw).argsort(1)
    near = x.gather(1, order[..., None].expand_as(x)) + 0.1 * other
    return torch.cat([x, x, x.round()]), torch.cat([other, near, other.round()])


@pytest.mark.parametrize("length", [1, 2, 20])
def test_matching_costs_what_scipys_costs(length: int) -> None:
    first, second = sets(40, length=length)
    share = torch.rand(120, length, generator=torch.Generator().manual_seed(4))
    share[::2] = 1.0
    found = matched(first, second, share).numpy()
    assert (np.sort(found, 1) == np.arange(length)).all()
    arrays = (t.double().numpy() for t in (first, second, share))
    for a, b, w, order in zip(*arrays, found, strict=True):
        cost = w * ((a[:, None] - b[None]) ** 2).sum(2)
        best = cost[linear_sum_assignment(cost)].sum()
        assert cost[np.arange(length), order].sum() == pytest.approx(best, rel=1e-12, abs=1e-12)


def test_what_is_not_finite_is_not_matched() -> None:
    first, second = sets(1, length=5)
    first[1, 2, 0] = torch.nan
    second[2, 0, 3] = torch.inf
    found = matched(first, second, torch.ones(3, 5))
    assert found[1:].tolist() == [list(range(5))] * 2
    assert found[0].tolist() != list(range(5))


@pytest.mark.parametrize("weigh", ["even", "energy"])
def test_distances_of_sets_are_those_of_a_plain_search(weigh: str) -> None:
    """Over all permutations, and from each constituent to its nearest; energies count from zero on."""
    net = SetVAE(length=4, latents=2, weigh=weigh)
    net.fit(torch.tensor([[-2.0, 0.1, 0.2, 0.3]]))
    first, second = sets(6, length=4)
    mask = torch.ones(18, 4, dtype=torch.bool)
    exact, nearest = net.train().distance(first, second, mask), net.eval().distance(first, second, mask)
    for k, (a, b) in enumerate(zip(first.double(), second.double(), strict=True)):
        shares = [torch.full((4,), 0.25, dtype=torch.float64)] * 2
        if weigh == "energy":
            shares = [(e := (jet[:, 0] + 2).clamp_min(0)) / e.sum() for jet in (a, b)]
        cost = (a[:, None] - b[None]).square().mean(2)
        paid = shares[1] * cost
        best = min(float(sum(paid[i, j] for i, j in enumerate(p))) for p in permutations(range(4)))
        assert float(exact[k]) == pytest.approx(best, rel=1e-5)
        there, back = (float((s * cost.min(d).values).sum()) for s, d in zip(shares, (1, 0), strict=True))
        assert float(nearest[k]) == pytest.approx((there + back) / 2, rel=1e-5)
    assert torch.allclose(nearest, net.distance(second, first, mask))
    if weigh == "even":
        assert (nearest <= exact + 1e-6).all()
        assert (exact <= (first - second).square().mean((1, 2)) + 1e-6).all()


@pytest.mark.parametrize("weigh", ["even", "energy"])
@pytest.mark.parametrize("mode", [True, False])
def test_sets_have_no_order(mode: bool, weigh: str) -> None:
    net, (x, mask) = build("SetVAE", weigh=weigh), jets(60)
    net.fit(torch.tensor([-3.0, 0.0, 0.0, 0.0]))
    decoded = torch.randn(60, LENGTH, 4, generator=torch.Generator().manual_seed(5))
    order = torch.rand(60, LENGTH, generator=torch.Generator().manual_seed(6)).argsort(1)
    mixed, there = x.gather(1, order[..., None].expand_as(x)), mask.gather(1, order)
    net.train(mode)
    with torch.no_grad():
        assert torch.allclose(net.encode(mixed, there)[0], net.encode(x, mask)[0], atol=1e-6)
        assert net.encode(x, mask)[0].std(0).min() > 1e-3
        found = net.distance(decoded, x, mask)
        assert torch.allclose(net.distance(decoded, mixed, there), found, rtol=1e-5)
        turned = decoded.gather(1, order[..., None].expand_as(x))
        assert torch.allclose(net.distance(turned, x, mask), found, rtol=1e-5)


def test_a_missing_constituent_is_one_of_no_momentum() -> None:
    zero = torch.tensor([-1.5, 0.1, 0.0, -0.2])
    net, (x, mask) = build("SetVAE"), jets(40)
    net.fit(zero[None])
    decoded = torch.where(mask[..., None], x, zero).flip(1)
    for mode in (True, False):
        assert net.train(mode).distance(decoded, x, mask).tolist() == pytest.approx([0.0] * 40, abs=1e-12)
        # One that was made of nothing costs as much as its momentum.
        more = decoded.clone()
        more[mask.sum(1) < LENGTH, 0] += torch.tensor([0.0, 0.2, 0.0, 0.0])
        short = net.distance(more, x, mask)[mask.sum(1) < LENGTH]
        assert (short > 0).all()
        assert short.max() <= 0.04 / (4 * LENGTH) + 1e-7
    # What is made is told by the energy, and not by where the jet has its own.
    assert torch.equal(net.made(decoded, mask), decoded[..., 0] > -1.5)
    assert not torch.equal(net.made(decoded, mask), mask)
    assert torch.equal(build("FullyConnected").made(decoded, mask), mask)
    assert "zero" in net.state_dict()
    with pytest.raises(InputError, match="give the frame 'per: component'"):
        net.fit(torch.zeros(20, 4))


def test_the_gradient_of_a_matching_is_that_of_its_pairs() -> None:
    net = SetVAE(length=5, latents=2).train()
    first, second = (t[:8] for t in sets(8, length=5))
    first.requires_grad_()
    net.distance(first, second, torch.ones(8, 5, dtype=torch.bool)).sum().backward()
    own = second.gather(1, matched(first, second, torch.ones(8, 5))[..., None].expand_as(second))
    assert torch.allclose(first.grad, 2 * (first.detach() - own) / 20, atol=1e-7)


def test_it_learns(name: str) -> None:
    """Jets that one hidden number tells all about: little is left to reconstruct."""
    torch.manual_seed(1)
    net, hidden = build(name).train(), torch.rand(256, 1, 1)
    x = torch.linspace(-1, 1, LENGTH)[:, None] * torch.tensor([1.0, -0.5, 0.3, 0.8]) + hidden
    mask = torch.ones(256, LENGTH, dtype=torch.bool)
    optimizer = torch.optim.Adam(net.parameters(), 2e-2)
    losses = []
    for _ in range(150):
        mean, log_var = net.encode(x, mask)
        loss = net.distance(net.decode(mean), x, mask).mean()
        optimizer.zero_grad()
        (loss + 1e-4 * (mean.square() + log_var.square()).mean()).backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.1 * losses[0]
    assert losses[-1] < 0.3 * float(x.var(0).mean())


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"latents": 0}, "FullyConnected: length and latents must be at least 1"),
        ({"length": 0}, "length and latents must be at least 1"),
        ({"condition": -1}, "condition not negative"),
        ({"activation": "relo"}, "did you mean 'relu'"),
        ({"hiden": [4]}, "did you mean 'hidden'"),
        ({"type": "SetVAE", "distance": "emd"}, "SetVAE: no distance 'emd'; known are chamfer, matching"),
        ({"type": "SetVAE", "weigh": "energi"}, "no weigh 'energi'; did you mean 'energy'"),
        ({"type": "SetVAE", "phi": []}, "phi needs a width at least"),
        ({"type": "Recurrent", "width": 0}, "Recurrent: width and depth must be at least 1"),
        ({"type": "Recurrent", "padding": "reed"}, "Recurrent: no padding 'reed'; did you mean 'read'"),
    ],
)
def test_faults_in_the_yaml_are_named(spec: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        catalogue.build({"type": "FullyConnected", **spec}, home=HOME)
