"""Networks over constituents."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
import torch.nn.functional as F

from hepdecorr import catalogue
from hepdecorr.card import METADATA_KEY, Card, Feature, Input, Nuisance
from hepdecorr.errors import InputError
from hepdecorr.learning import Form, export, finish, networks, train
from hepdecorr.learning.methods import Method
from hepdecorr.learning.methods.judging import auc
from hepdecorr.learning.networks.coordinates import turned
from hepdecorr.learning.networks.lstm import closed
from hepdecorr.learning.networks.particle_net import FAR, nearest, squares
from hepdecorr.learning.networks.particle_transformer import Pairs
from hepdecorr.table import Split

HOME = "hepdecorr.learning.networks"
NAMES = ["log_pt", "deta", "dphi", "charge"]
SMALL: dict[str, dict] = {
    "MLP": {"hidden": [12], "first": 4},
    "DeepSets": {"phi": [12, 8], "hidden": [12], "pools": 2},
    "LSTM": {"width": 8, "hidden": [8]},
    "ParticleNet": {"blocks": [[8, 8, 8], [8, 8]], "hidden": [8], "neighbours": 3, "pools": 2},
    "ParticleTransformer": {"width": 8, "heads": 2, "blocks": 1, "hidden": [8], "pair_hidden": [4]},
}
ORDERED = ("MLP", "LSTM")


def build(name: str, *, features: tuple[str, ...] = ("n_pt",), length: int = 6, **change: object):
    torch.manual_seed(0)
    spec = {"type": name, **SMALL[name], **change}
    return catalogue.build(spec, home=HOME, features=list(features), constituents=NAMES, length=length)


@pytest.fixture(params=list(SMALL))
def name(request) -> str:
    return request.param


def fitted(name: str, x: torch.Tensor, **change: object):
    net = build(name, **change)
    net.fit(x)
    return net.eval()


def test_every_network_is_tried() -> None:
    assert set(SMALL) == set(networks.__all__)


@pytest.mark.parametrize("features", [(), ("n_pt",)])
def test_contract(name: str, features: tuple[str, ...], jets) -> None:
    b = jets(200, seed=1, features=features).all
    net = fitted(name, b.x, features=features)
    out = net(b.x)
    assert out.shape == (200, 1)
    assert net(b.x[:0]).shape == (0, 1)
    assert out.isfinite().all()
    assert net(torch.where(b.x == 1, 1.0, 1e20 * b.x)).isfinite().all()
    (out[:, 0] * b.y).sum().backward()
    for key, p in net.named_parameters():
        assert p.grad is not None, key
        # A shift of all scores is no change for a softmax.
        if not key.endswith(("keys.bias", "scores.bias")):
            assert p.grad.abs().max() > 0, key
    twin = build(name, features=features)
    assert not torch.equal(twin(b.x), net(b.x))
    twin.load_state_dict(net.state_dict())
    assert torch.equal(twin(b.x), net(b.x))


def test_padding_has_no_say(name: str, jets) -> None:
    x = jets(120, seed=1).all.x
    net = fitted(name, x)
    form = Form(("n_pt",), tuple(NAMES), 6)
    features, constituents, mask = form.unpack(x)
    with torch.no_grad():
        plain = net(x)
        for bad in (torch.nan, torch.inf, 1e30):
            spoilt = x.clone()
            slots = spoilt[:, 1:].view(120, 6, 5)
            slots[..., :4] = torch.where(mask[..., None], slots[..., :4], bad)
            assert torch.equal(net(spoilt), plain)
        longer = torch.full((120, 9, 4), torch.nan)
        longer[:, :6] = constituents
        there = torch.zeros(120, 9, dtype=torch.bool)
        there[:, :6] = mask
        there[0, 8], longer[0, 8] = mask[0, 5], constituents[0, 5]  # one that keeps the slots from being cut
        there[0, 5] = False
        assert torch.allclose(net(form.pack(features, longer, there))[1:], plain[1:], atol=2e-6)
        for k in (1, 7, 50):  # alone, an event has other neighbours in memory and another longest jet
            assert torch.allclose(net(x[k : k + 1]), plain[k : k + 1], atol=2e-6)


@pytest.mark.parametrize("name", [n for n in SMALL if n not in ORDERED])
def test_the_order_of_constituents_has_no_say(name: str, jets) -> None:
    x = jets(120, seed=1).all.x
    net = fitted(name, x)
    form = Form(("n_pt",), tuple(NAMES), 6)
    features, constituents, mask = form.unpack(x)
    order = torch.rand(120, 6, generator=torch.Generator().manual_seed(1)).argsort(1)
    mixed = constituents.gather(1, order[..., None].expand(-1, -1, 4))
    with torch.no_grad():
        other = net(form.pack(features, mixed, mask.gather(1, order)))
        assert torch.allclose(other, net(x), atol=5e-6)
        assert net(x).std() > 1e-3


@pytest.mark.parametrize("name", ORDERED)
def test_the_order_of_constituents_is_that_of_the_rows(name: str, jets) -> None:
    x = jets(120, seed=1).all.x
    net = fitted(name, x)
    slots = x[:, 1:].view(120, 6, 5)
    full = slots[..., -1].sum(1) == 6
    turned_round = torch.cat([x[:, :1], slots.flip(1).flatten(1)], 1)
    assert not torch.allclose(net(turned_round[full]), net(x[full]), atol=1e-3)


def test_holes_are_closed_in_order() -> None:
    constituents = torch.arange(8.0).view(1, 8, 1)
    mask = torch.tensor([[False, True, True, False, True, False, False, True]])
    moved, there = closed(constituents, mask)
    assert moved[0, :4, 0].tolist() == [1, 2, 4, 7]
    assert there.tolist() == [[True] * 4 + [False] * 4]


def test_jets_without_constituents_have_a_score(name: str, jets) -> None:
    x = jets(100, seed=1).all.x
    net = fitted(name, x)
    empty = torch.zeros(3, x.shape[1])
    empty[:, 0] = torch.tensor([-1.0, 0.0, 1.0])
    out = net(empty)
    assert out.isfinite().all()
    out.sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in net.parameters())
    assert len(out.unique()) == 3  # the features of the row still tell them apart


def test_networks_learn_what_constituents_tell(name: str, jets) -> None:
    data = jets(1500, seed=1)
    net = build(name)
    net.fit(data.all.x)
    optimiser = torch.optim.Adam(net.parameters(), 1e-2)
    generator = torch.Generator().manual_seed(1)
    for _ in range(6):
        for b in data.batches(150, generator=generator):
            optimiser.zero_grad()
            torch.nn.functional.binary_cross_entropy_with_logits(net(b.x)[:, 0], b.y).backward()
            optimiser.step()
    test = jets(1500, seed=2).all
    with torch.no_grad():
        found = auc(net.eval()(test.x)[:, 0], test)
    assert found > 0.9


def test_scalings_are_fitted_on_what_the_mask_lets_in(jets) -> None:
    b = jets(2000, seed=1).all
    net = fitted("DeepSets", b.x)
    _, constituents, mask = net.inputs(b.x)
    inside = constituents[mask]
    assert inside.mean(0).tolist() == pytest.approx([0, 0, 0, 0], abs=0.02)
    assert inside.std(0).tolist() == pytest.approx([1, 1, 1, 1], abs=0.02)
    rules = {"log": {"charge": {"shift": 2}}, "scale": "quantile"}
    assert fitted("DeepSets", b.x, constituent_inputs=rules)(b.x).isfinite().all()


def test_nearest_neighbours_are_those_of_a_plain_search() -> None:
    generator = torch.Generator().manual_seed(1)
    nodes = torch.randn(4, 12, 3, generator=generator, dtype=torch.float64)
    mask = torch.rand(4, 12, generator=generator) < 0.8
    index, share = nearest(squares(nodes), mask, count=3)
    for n in range(4):
        there = mask[n].nonzero()[:, 0].tolist()
        for i in there:
            distance = {j: float(((nodes[n, i] - nodes[n, j]) ** 2).sum()) for j in there if j != i}
            *near, next_one = sorted(distance, key=distance.__getitem__)[:4]
            assert index[n, i].tolist() == near
            wanted = torch.tensor([1 - distance[j] / distance[next_one] for j in near])
            assert share[n, i].tolist() == pytest.approx((wanted / wanted.sum()).tolist(), rel=1e-6)


def test_fewer_neighbours_than_wanted_share_alike() -> None:
    mask = torch.tensor([[True, True, True, False], [True, False, False, False]])
    _, share = nearest(squares(torch.randn(2, 4, 2)), mask, count=3)
    assert share[0, 0].tolist() == pytest.approx([0.5, 0.5, 0.0], abs=1e-6)
    assert share[1, 0].abs().max() == 0
    assert float(FAR) > 1e6


def test_an_exchange_of_neighbours_is_no_jump() -> None:
    """The output is continuous where the third neighbour and the fourth change places."""
    place = torch.tensor([0.0, 0.1, 0.2, 0.3, 0.3])[None, :, None].repeat(2, 1, 1)
    place[0, 3], place[1, 4] = 0.3 - 1e-6, 0.3 - 1e-6
    value = torch.tensor([0.0, 1.0, 2.0, 30.0, -40.0])
    means = []
    for n in range(2):
        index, share = nearest(squares(place[n : n + 1]), torch.ones(1, 5, dtype=torch.bool), count=3)
        means.append(float((value[index[0, 0]] * share[0, 0]).sum()))
    assert means[0] == pytest.approx(means[1], abs=2e-3)


def test_features_of_pairs_are_those_of_their_four_vectors() -> None:
    draw = torch.Generator().manual_seed(1)
    pt = torch.rand(1, 5, generator=draw, dtype=torch.float64) * 50 + 1
    eta = torch.randn(1, 5, generator=draw, dtype=torch.float64)
    phi = (torch.rand(1, 5, generator=draw, dtype=torch.float64) - 0.5) * 2 * torch.pi
    pairs = Pairs(["eta", "phi", "pt"], heads=2, hidden=[4]).double()
    first, second = torch.triu_indices(5, 5, 1)
    found = pairs._features(torch.stack([eta, phi, pt], 2), first, second)[0]
    e, px, py, pz = pt * eta.cosh(), pt * phi.cos(), pt * phi.sin(), pt * eta.sinh()
    for row, (i, j) in zip(found, zip(first.tolist(), second.tolist(), strict=True), strict=True):
        turn = (phi[0, i] - phi[0, j] + torch.pi) % (2 * torch.pi) - torch.pi
        delta = torch.hypot(eta[0, i] - eta[0, j], turn)
        soft = min(pt[0, i], pt[0, j])
        mass2 = (e[0, i] + e[0, j]) ** 2 - sum((p[0, i] + p[0, j]) ** 2 for p in (px, py, pz))
        wanted = torch.stack([soft * delta, soft / (pt[0, i] + pt[0, j]), delta, mass2]).log()
        assert row.tolist() == pytest.approx(wanted.tolist(), rel=1e-6, abs=1e-6)


def test_pairs_are_alike_in_training_and_in_the_graph(monkeypatch) -> None:
    torch.manual_seed(0)
    pairs, constituents = Pairs(NAMES, heads=2, hidden=[4]), torch.randn(3, 7, 4)
    half = pairs(constituents)
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    assert torch.allclose(pairs(constituents), half, atol=1e-6)
    assert torch.allclose(half, half.transpose(2, 3))
    assert turned(torch.tensor([6.2, -6.2, 1.0])).tolist() == pytest.approx([-0.0832, 0.0832, 1], abs=1e-4)


@pytest.mark.parametrize(
    ("spec", "names", "message"),
    [
        ({"type": "DeepSets"}, [], "DeepSets works on constituents"),
        ({"type": "LSTM"}, [], "LSTM works on constituents"),
        ({"type": "ParticleNet"}, ["log_pt", "deta"], "ParticleNet needs the directions .* deta and dphi"),
        ({"type": "ParticleTransformer"}, ["deta", "dphi"], "needs the momenta .* one of log_pt, pt"),
        ({"type": "ParticleTransformer", "width": 10}, NAMES, "width must be a multiple of heads"),
        ({"type": "ParticleNet", "neighbours": 0}, NAMES, "at least one neighbour"),
        ({"type": "MLP"}, NAMES, "MLP: first is 0 where there are 6 constituents"),
        ({"type": "MLP", "first": 3}, [], "MLP: first is 3 where there are 0 constituents"),
        ({"type": "MLP", "first": 9}, NAMES, "MLP: first is 9 where there are 6"),
        ({"type": "DeepSets", "constituent_inputs": {"scal": 1}}, NAMES, "constituent_inputs: .*scal"),
        ({"type": "DeepSets", "constituent_inputs": {"log": {"pt": 1}}}, NAMES, "log of 'pt', which is no"),
    ],
)
def test_faults_in_the_yaml_are_named(spec: dict, names: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        catalogue.build(spec, home=HOME, features=["a"], constituents=names, length=6 if names else 0)


SPEC = {
    "type": "Tagger",
    "network": {"type": "DeepSets", **SMALL["DeepSets"]},
    "training": {"epochs": 2, "batch": 300},
    "terms": [{"type": "DisCo", "nuisance": "mass", "draw": 100}],
}


def exported(name: str, table, folder: Path, **change: object):
    spec = {**SPEC, "network": {"type": name, **SMALL[name]}, **change}
    trained = train(spec, table=table, split=Split(10, (0, 1), (2,)), seed=1, device="cpu")
    about = {"nuisances": [Nuisance(name="mass", low=-3, high=3)], "config_hash": "", "rejections": [0.5]}
    objects = {"collection": "FatJet", "radius": 1.0}
    finish(trained, name=name, folder=folder / name, table=table, objects=objects, **about)
    session = onnxruntime.InferenceSession(folder / name / "tagger.onnx", providers=["CPUExecutionProvider"])
    known = session.get_modelmeta().custom_metadata_map[METADATA_KEY]
    return trained, session, Card.from_json(known, source=name)


def test_from_table_to_tagger(jet_table, tmp_path: Path) -> None:
    trained, session, card = exported("DeepSets", jet_table(), tmp_path)
    assert card.objects == {"collection": "FatJet", "radius": 1.0}
    assert card.feature_names == ["n_pt"]
    assert card.constituent_names == NAMES
    assert [i.name for i in card.inputs] == ["features", "constituents", "mask"]
    assert [i.axes for i in card.inputs] == [
        ("rows", "features"),
        ("rows", "constituents", "features"),
        ("rows", "constituents"),
    ]
    for kept in card.inputs[1:]:
        assert (kept.length, kept.order) == (6, "pt descending")
    assert [i.name for i in session.get_inputs()] == ["features", "constituents", "mask"]
    rows, slots, width = session.get_inputs()[1].shape
    assert isinstance(rows, str)
    assert isinstance(slots, str)
    assert width == 4
    assert len(card.working_points) == 1
    graph_is_method(session, trained.method, trained.data.validation)


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in SMALL if n != "DeepSets"])
def test_every_network_is_exported(name: str, jet_table, tmp_path: Path) -> None:
    change = {"features": [], "constituents": ["dphi", "deta", "log_pt"], "length": 5}
    trained, session, card = exported(name, jet_table(), tmp_path, **change)
    assert [i.name for i in session.get_inputs()] == ["constituents", "mask"]
    assert card.constituent_names == ["dphi", "deta", "log_pt"]
    assert card.constituents.length == 5
    graph_is_method(session, trained.method, trained.data.validation)


def graph_is_method(session, method, events) -> None:
    """For any number of rows and of constituents, whatever the padding holds."""
    form = events.form
    features, constituents, mask = form.unpack(events.all.x[:40])
    for rows, length in ((1, 1), (1, form.length), (40, 2), (40, 17)):
        seen = F.pad(constituents, (0, 0, 0, 20))[:rows, :length]
        there = F.pad(mask, (0, 20))[:rows, :length]
        with torch.no_grad():
            logit = method.logit(form.pack(features[:rows], seen, there)).numpy()
        for nonsense in (torch.nan, torch.inf, -1e30):
            feed = {"constituents": torch.where(there[..., None], seen, nonsense), "mask": there.float()}
            feed |= {"features": features[:rows]} if form.features else {}
            score, got = session.run(["score", "logit"], {k: v.numpy() for k, v in feed.items()})
            np.testing.assert_allclose(got, logit, rtol=2e-5, atol=1e-5)
            assert score.shape == got.shape == (rows,)
    feed["mask"] = torch.zeros_like(feed["mask"])
    assert np.isfinite(session.run(["logit"], {k: v.numpy() for k, v in feed.items()})[0]).all()


def test_a_sample_of_the_wrong_width_is_refused(card: Card, jets, tmp_path: Path) -> None:
    inputs = (
        Input(name="constituents", features=(Feature(name="u"), Feature(name="v")), length=4),
        Input(name="mask", features=(), length=4),
    )
    card = card.model_copy(update={"inputs": inputs})
    with pytest.raises(InputError, match=r"a sample of shape \(9, 11\) for 12 columns"):
        export(Method(), card=card, folder=tmp_path / "wrong", sample=torch.zeros(9, 11))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"type": "Excised"}, "Excised represents the features of a row, not constituents"),
        ({"features": [], "constituents": []}, "no features and no constituents to learn from"),
        ({"constituents": []}, "DeepSets works on constituents"),
        ({"length": 9}, "between 1 and the table's 6"),
        ({"network": "my_net.py:Mine"}, "my_net.py:Mine takes no constituents"),
        ({"type": "my_net.py:Blind"}, "my_net.py:Blind takes no constituents"),
    ],
)
def test_faults_in_a_taggers_block_are_named(spec: dict, message: str, jet_table, tmp_path: Path) -> None:
    (tmp_path / "my_net.py").write_text(
        "import torch\nfrom hepdecorr.learning.methods import Method\n"
        "class Mine(torch.nn.Linear):\n"
        "    def __init__(self, features, outputs):\n        super().__init__(len(features), outputs)\n"
        "class Blind(Method):\n"
        "    def __init__(self, features):\n        super().__init__()\n"
        "    def learn(self, data, play): ...\n"
        "    def logit(self, x): return x[:, 0]\n"
    )
    block = {"type": "Excised"} if spec.get("type") == "Excised" else {**SPEC, **spec}
    if spec.get("type") == "my_net.py:Blind":
        block = {"type": "my_net.py:Blind"}
    with pytest.raises(InputError, match=message):
        train(block, table=jet_table(), split=Split(10, (0,), (1,)), seed=1, device="cpu", base=tmp_path)
