"""Networks of a variational autoencoder of jets."""

from __future__ import annotations

import io
import warnings

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from hepdecorr import catalogue
from hepdecorr.errors import InputError
from hepdecorr.learning.networks import autoencoders
from hepdecorr.learning.networks.autoencoders import Autoencoder, FullyConnected, Recurrent

HOME = "hepdecorr.learning.networks.autoencoders"
LENGTH, LATENTS = 6, 3
SMALL: dict[str, dict] = {
    "FullyConnected": {"type": "FullyConnected", "hidden": [12, 8]},
    "Recurrent": {"type": "Recurrent", "width": 8},
    "Recurrent, skip": {"type": "Recurrent", "width": 8, "padding": "skip"},
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
    """What an exported score is made of."""

    def __init__(self, net: Autoencoder) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor, mask: Tensor, given: Tensor) -> tuple[Tensor, ...]:
        mean, log_var = self.net.encode(x, mask > 0.5, given)
        decoded = self.net.decode(mean, given)
        return mean, log_var, decoded, self.net.distance(decoded, x, mask > 0.5)


def graph(net: Autoencoder) -> onnxruntime.InferenceSession:
    (x, mask), rows = jets(3), torch.export.Dim("rows", min=1)
    inputs = (x, mask.float(), torch.zeros(3, 2))
    shapes = {"x": {0: rows}, "mask": {0: rows}, "given": {0: rows}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's, of its own affairs
        made = torch.onnx.export(
            Whole(net).eval(), inputs, dynamo=True, external_data=False, dynamic_shapes=shapes, verbose=False
        )
    return onnxruntime.InferenceSession(
        made.model_proto.SerializeToString(), providers=["CPUExecutionProvider"]
    )


def test_the_graph_gives_what_torch_gives(name: str) -> None:
    net = told(name)
    session = graph(net)
    names = [i.name for i in session.get_inputs()]
    for n in (1, 2, 40):
        (x, mask), given = jets(n, seed=n), torch.randn(n, 2, generator=torch.Generator().manual_seed(n))
        feed = zip(names, (x, mask.float(), given), strict=True)
        found = session.run(None, {key: value.numpy() for key, value in feed})
        with torch.no_grad():
            wanted = Whole(net)(x, mask.float(), given)
        for a, b in zip(found, wanted, strict=True):
            np.testing.assert_allclose(a, b.numpy(), rtol=2e-5, atol=1e-5)


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


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"latents": 0}, "FullyConnected: length and latents must be at least 1"),
        ({"length": 0}, "length and latents must be at least 1"),
        ({"condition": -1}, "condition not negative"),
        ({"activation": "relo"}, "did you mean 'relu'"),
        ({"hiden": [4]}, "did you mean 'hidden'"),
        ({"type": "Recurrent", "width": 0}, "Recurrent: width and depth must be at least 1"),
        ({"type": "Recurrent", "padding": "reed"}, "Recurrent: no padding 'reed'; did you mean 'read'"),
    ],
)
def test_faults_in_the_yaml_are_named(spec: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        catalogue.build({"type": "FullyConnected", **spec}, home=HOME)
