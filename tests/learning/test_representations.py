"""The published representations, what is cut out of them, and what is done with them besides."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from hepdecorr.card import Card, Nuisance
from hepdecorr.errors import InputError
from hepdecorr.learning import Batch, Data, Events, Play, finish, train
from hepdecorr.learning.latents import Capacity, Latent, published
from hepdecorr.learning.latents.discrete import Relaxed, Values, classes_kl
from hepdecorr.learning.latents.estimators import Ratio
from hepdecorr.learning.latents.term import Classes, Layout
from hepdecorr.learning.latents.traversal import observed, traverse, unscaled
from hepdecorr.learning.methods import Anomaly, Excised
from hepdecorr.learning.methods.judging import auc
from hepdecorr.learning.methods.representation import Representation, represent
from hepdecorr.learning.networks.inputs import Inputs
from hepdecorr.learning.terms.entropy import mutual_information
from hepdecorr.table import Split

FEATURES = ["leaky", "clean", "noise"]
NAMES = {"features": FEATURES, "nuisances": ["mass"]}
QUICK = {"epochs": 1, "batch": 300, "average": 0.0}
LEARN = {"epochs": 16, "batch": 512, "lr": 5e-3, "average": 0.9, "clip": 1.0}
CRITIC = {"type": "Conditional", "hidden": [24], "steps": 3, "batch": 512}


def events_of(rows: int, **nuisance: torch.Tensor) -> Batch:
    y = (torch.arange(rows) % 5 == 0).float()
    z = torch.stack(list(nuisance.values()), 1) if nuisance else torch.zeros(rows, 1)
    return Events(torch.zeros(rows, 1), y, z.float(), nuisances=list(nuisance) or ["mass"]).all


def test_capacity_is_the_distance_of_the_kl_from_a_rising_line() -> None:
    """Means of 2 and unit variances in three dimensions: a KL of 6 nats; classes of one value: ln 4."""
    sure = Classes(torch.tensor([[50.0, 0, 0, 0]]).expand(10, 4), torch.ones(10, 4) / 4, -torch.ones(4))
    sure = sure._replace(log_prior=torch.full((4,), -math.log(4)))
    plain = Latent(torch.full((10, 3), 2.0), torch.zeros(10, 3), torch.zeros(10, 3))
    b = events_of(10)
    term = Capacity(gamma=100, capacity=8, ramp=0.5)
    for passed, at in ((0.0, 0.0), (0.25, 4.0), (0.5, 8.0), (1.0, 8.0)):
        assert float(term.cost(plain, b, passed=passed)) == pytest.approx(100 * abs(6 - at), rel=1e-5)
        known = 100 * (abs(6 - at) + math.log(4) * (1 - at / 8))
        mixed = plain._replace(classes=(sure,))
        assert float(term.cost(mixed, b, passed=passed)) == pytest.approx(known, rel=1e-4, abs=1e-3)
    assert float(term.price(plain, b)) == pytest.approx(2.0, rel=1e-5)
    assert term.settled == 0.5
    with pytest.raises(InputError, match="cannot be negative"):
        Capacity(capacity=-1)


def test_relaxed_draws_have_the_probabilities_and_the_kl_that_of_torch() -> None:
    torch.manual_seed(3)
    logits = torch.tensor([[1.0, 0.0, -1.0, 0.5]]).expand(20_000, 4)
    latent = Relaxed(4, name="mode", temperature=0.3)
    drawn = latent(logits)
    assert torch.allclose(drawn.sample.sum(1), torch.ones(20_000), atol=1e-5)
    # The largest of a relaxed draw falls as the class does, at any temperature (Maddison et al., prop. 1b).
    shares = torch.bincount(drawn.sample.argmax(1), minlength=4) / 20_000
    assert torch.allclose(shares, logits[0].softmax(0), atol=0.015)
    cold = Relaxed(4, name="mode", temperature=0.01)(logits[:500]).sample
    assert float((cold.max(1)[0] > 0.99).float().mean()) > 0.95
    flat = torch.distributions.Categorical(logits=torch.zeros(4))
    known = torch.distributions.kl_divergence(torch.distributions.Categorical(logits=logits[0]), flat)
    assert float(classes_kl(drawn).mean()) == pytest.approx(float(known), rel=1e-5)
    z = torch.tensor([1.0, 1.0, 1.0, 2.0])
    found = Relaxed(2, name="mode", prior="found")
    found.fit(z, torch.ones(4))
    assert torch.allclose(found.log_prior.exp(), torch.tensor([0.75, 0.25]))
    assert found.values(torch.tensor([1.9, 0.0])).tolist() == [1, 0]
    with pytest.raises(InputError, match="'mode' has 3 different values, not 2"):
        Values(2, name="mode").fit(torch.tensor([0.0, 1.0, 5.0]))


def four_modes(rows: int, *, seed: int) -> Events:
    """`coded` carries the mode and the label, `clean` the label alone."""
    g = torch.Generator().manual_seed(seed)
    y = (torch.rand(rows, generator=g) < 0.4).float()
    mode = torch.randint(0, 4, (rows,), generator=g).float()
    noise = torch.randn(rows, 3, generator=g)
    x = torch.stack([mode + 0.6 * y + 0.15 * noise[:, 0], 1.2 * y + noise[:, 1], noise[:, 2]], 1)
    return Events(x, y, mode[:, None], features=FEATURES, nuisances=["mode"])


def test_a_discrete_nuisance_gets_a_discrete_latent_and_leaves_the_rest() -> None:
    torch.manual_seed(1)
    data = Data(four_modes(4000, seed=1), four_modes(3000, seed=2))
    terms = [
        {"type": "KL"},
        {"type": "SupervisedAlignment", "strength": 20},
        {"type": "TotalCorrelation", "beta": 30, "estimator": CRITIC},
    ]
    block = {"discrete": {"mode": 4}, "latents": 2, "hidden": [32], "terms": terms, "training": LEARN}
    network = {"type": "MLP", "hidden": [16]}
    training = {"epochs": 6, "batch": 512, "lr": 5e-3}
    method = Excised(
        features=FEATURES, nuisances=["mode"], representation=block, network=network, training=training
    )
    method.learn(data, Play(seed=1))
    method.eval()
    b = data.validation.all
    with torch.no_grad():
        latent = method.representation.encode(b.x)
        logit = method.logit(b.x)
    assert latent.mean.shape == (3000, 2)
    own = b.y == 0
    guessed = latent.classes[0].logits.argmax(1)
    assert float((guessed == b.z[:, 0])[own].float().mean()) > 0.9
    assert mutual_information(b.x[own, 0], b.z[own, 0], b.w[own]) > 1.0
    assert mutual_information(logit[own], b.z[own, 0], b.w[own]) < 0.03
    assert auc(logit, b) > 0.7


def test_an_anomaly_of_a_discrete_nuisance_is_the_kl_of_its_classes() -> None:
    torch.manual_seed(1)
    block = {"discrete": {"mode": 4}, "latents": 2, "hidden": [16], "terms": [{"type": "KL"}]}
    method = Anomaly(features=FEATURES, nuisances=["mode"], representation=block).eval()
    b = four_modes(200, seed=1).all
    nats = {}
    with torch.no_grad():
        for score in ("rest", "excised", "all"):
            method.score = score
            nats[score] = method.nats(b.x)
        (classes,) = method.representation.expected(method.representation.inputs(b.x)).classes
    assert float(nats["excised"].std()) > 1e-4
    torch.testing.assert_close(nats["excised"], classes_kl(classes))
    torch.testing.assert_close(nats["all"], nats["rest"] + nats["excised"])


def known_means(method: Excised) -> Excised:
    """A representation whose latents 0 and 3 know the mass; 3 knows more."""

    def mean(x: torch.Tensor) -> torch.Tensor:
        leak = x[:, :1]
        hidden = leak + 2 * x[:, 2:]
        return torch.cat([hidden, torch.zeros(len(x), 2), leak, torch.ones(len(x), 1)], 1)

    method.representation.mean = mean
    return method


@pytest.mark.parametrize(
    ("excise", "found", "keep"),
    [
        ("found", 0.0, [1, 1, 1, 0, 1]),
        ("found", 0.05, [0, 1, 1, 0, 1]),
        ("aligned", 0.0, [0, 1, 1, 1, 1]),
        ([1, 4], 0.05, [1, 0, 1, 1, 0]),
    ],
)
def test_what_is_cut_out(excise, found: float, keep: list[int], toy: Data) -> None:
    method = Excised(representation={"latents": 4, "hidden": [4]}, excise=excise, found=found, **NAMES)
    known_means(method).excision.fit(method.representation, toy.validation.all)
    assert method.excision.keep.tolist() == keep


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"excise": "founded"}, "must be aligned or found"),
        ({"excise": [0, 17]}, "latents 0 to 16"),
        ({"excise": []}, "latents 0 to 16"),
        ({"excise": "aligned", "representation": "BetaVAE"}, "no latent is aligned"),
        ({"representation": {"type": "BetaTCVEA"}}, "did you mean 'BetaTCVAE'"),
        ({"representation": {"type": "BetaVAE", "gama": 3}}, "BetaVAE takes no 'gama'"),
        ({"representation": {"type": "BetaVAE", "terms": []}}, "has its own terms"),
        ({"representation": {"discrete": {"mas": 4}}}, "did you mean 'mass'"),
        ({"representation": {"discrete": {"mass": 1}}}, "at least 2"),
    ],
)
def test_faults_in_the_yaml_are_named(block: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Excised(**NAMES, **block)
    with pytest.raises(InputError, match="no score 'mass'"):
        Anomaly(score="mass", **NAMES)


@pytest.mark.parametrize("name", published.__all__)
def test_every_published_representation_is_one_line(name: str, small: Data) -> None:
    torch.manual_seed(1)
    block = {"type": name, "latents": 3, "hidden": [16], "training": QUICK}
    network = {"type": "MLP", "hidden": [8]}
    method = Excised(representation=block, network=network, training=QUICK, found=0.0, **NAMES)
    play = Play(seed=1)
    method.learn(small, play)
    curves = play.history[0]["curves"]
    priced = {
        "BetaVAE": {"kl"},
        "AnnealedVAE": {"capacity"},
        "FactorVAE": {"kl", "totalcorrelation", "supervisedalignment"},
        "BetaTCVAE": {"decomposition", "supervisedalignment"},
        "BetaTCVAESensitive": {"decomposition", "supervisedalignment"},
    }[name]
    assert priced | {"reconstruct"} == {k.removeprefix("vae/") for k in curves if k.startswith("vae/")}
    assert method.excision.keep.sum() == 3
    assert all(p.grad is None or not p.requires_grad for p in method.representation.parameters())
    with torch.no_grad():
        assert method.logit(small.validation.all.x).isfinite().all()


def test_the_sensitive_one_takes_other_estimators() -> None:
    for estimator, beta in (("Conditional", 400), ("Ratio", 40), ({"type": "Distance"}, 40)):
        vae = represent({"type": "BetaTCVAESensitive", "estimator": estimator}, **NAMES)
        term = vae.terms["totalcorrelation"]
        assert type(term.estimator).__name__ == (estimator if isinstance(estimator, str) else "Distance")
        assert term.growth.strength == beta
        assert set(vae.terms) == {"kl", "totalcorrelation", "supervisedalignment"}
    whole = represent({"type": "FactorVAE", "latents": 3}, **NAMES).terms["totalcorrelation"]
    assert (whole.given, whole.estimator.sensitive) == ("all", 4)


def test_the_critic_of_factorvae_finds_the_total_correlation() -> None:
    """Two latents that correlate by 0.8 and one that is free: TC = -ln(1 - 0.64)/2 = 0.511 nats."""
    g = torch.Generator().manual_seed(1)
    z = torch.randn(6000, 3, generator=g)
    z[:, 2] = 0.8 * z[:, 0] + 0.6 * z[:, 2]
    latent, b = Latent(z, torch.zeros_like(z), z), events_of(6000)._replace(w=torch.ones(6000))
    torch.manual_seed(0)
    critic = represent({"type": "FactorVAE", "latents": 2}, **NAMES).terms["totalcorrelation"].estimator
    optimiser = torch.optim.Adam(critic.parameters(), 3e-3)
    for k in range(150):
        own = torch.arange(k % 3, 4000, 3)
        optimiser.zero_grad()
        critic.chase(latent.take(own), b.take(own)).backward()
        optimiser.step()
    rest = slice(4000, None)
    with torch.no_grad():
        found = float(critic.price(latent.take(rest), b.take(rest)))
    assert found == pytest.approx(-0.5 * math.log(1 - 0.64), abs=0.1)


class Linear:
    """Features (a, b) from latents (u, v): a = 3 u, b = v - u."""

    def __init__(self) -> None:
        self.inputs = Inputs(["a", "b"], clip=0.0)
        self.inputs.shift.copy_(torch.tensor([10.0, 20.0]))
        self.inputs.slope.copy_(torch.tensor([1 / 4, 1 / 5]))

    def expected(self, scaled: torch.Tensor) -> Latent:
        u = scaled[:, 0] / 3
        mean = torch.stack([u, scaled[:, 1] + u], 1)
        return Latent(mean, torch.zeros_like(mean), mean)

    def decode(self, latent: Latent) -> torch.Tensor:
        u, v = latent.sample.T
        return torch.stack([3 * u, v - u], 1)


@pytest.mark.parametrize("sensitive", [1, 8])
def test_the_critic_of_factorvae_shuffles_events_by_their_weights(sensitive: int) -> None:
    torch.manual_seed(1)
    made = Ratio(layout=Layout(8, sensitive, ["mass"]), start=0.1)
    sample = torch.randn(4000, 8)
    weight = torch.where(torch.rand(4000) < 0.1, -1.0, (0.5 * sample[:, 0]).exp())
    b = events_of(4000)._replace(w=weight)
    seen: list[torch.Tensor] = []
    made.net.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    loss = float(made.chase(Latent(sample, 0 * sample, sample), b).detach())
    assert loss == pytest.approx(math.log(2), abs=0.05)  # it was -10 to 1 with products of weights
    # Where the mean of an exponentially weighted Gaussian lies; negative weights count as nothing.
    assert float(seen[1][:, 0].mean()) == pytest.approx(0.5, abs=0.1)
    assert abs(float(seen[1][:, 1].mean())) < 0.1


def test_moving_a_latent_moves_what_hangs_on_it() -> None:
    g = torch.Generator().manual_seed(1)
    u = 2 * torch.randn(4000, generator=g)
    made = Linear()
    scaled = torch.stack([3 * u, torch.randn(4000, generator=g) - u], 1)
    b = events_of(4000, mass=u)._replace(x=scaled / made.inputs.slope + made.inputs.shift)
    b = b._replace(w=torch.ones(4000))
    shifts = torch.tensor([-1.0, 2.0])
    found = traverse(made, b, dim=0, shifts=shifts)
    sigma = float(u.std())
    known = sigma * shifts[:, None] * torch.tensor([3.0, -1.0])
    assert torch.allclose(found.change, known, rtol=1e-3)
    assert torch.allclose(found.raw, known * torch.tensor([4.0, 5.0]), rtol=1e-3)
    assert float(found.error.max()) < 1e-5
    # Events differ as the intervention says: here the latent is the nuisance.
    seen, error = observed(scaled, b.z[:, 0], b.w, shifts=shifts)
    assert torch.allclose(seen, known, rtol=0.08)  # fewer events on the far side of each window
    assert (error < 0.1 * known.abs()).all()


@pytest.mark.parametrize("scale", ["standard", "robust", "quantile"])
def test_features_come_back_from_the_preprocessing(scale: str) -> None:
    x = torch.rand(3000, 3, generator=torch.Generator().manual_seed(1)) ** 3 + 0.01
    log = {"b": 1e-3, "c": {"below": 1.2}}
    inputs = Inputs(["a", "b", "c"], scale=scale, log=log, clip=0.0)
    inputs.fit(x)
    assert torch.allclose(unscaled(inputs, inputs(x)), x, atol=2e-4, rtol=1e-3)


def test_anomalies_are_seen_without_the_mass() -> None:
    """Background lies on a plane through `leaky` and `clean`; signal lies off it.  Labels are not used."""

    def plane(rows: int, *, seed: int) -> Events:
        g = torch.Generator().manual_seed(seed)
        y = (torch.rand(rows, generator=g) < 0.3).float()
        mass, free, noise = torch.randn(3, rows, generator=g)
        x = torch.stack([mass + 0.1 * noise, free, free - mass + 1.5 * y], 1)
        return Events(x, y, mass[:, None], features=FEATURES, nuisances=["mass"])

    data = Data(plane(4000, seed=1), plane(4000, seed=2))
    terms = [{"type": "KL"}, {"type": "SupervisedAlignment", "strength": 20, "signal": 0.0}]
    block = {"latents": 1, "hidden": [24], "terms": terms, "variance": 0.1, "training": LEARN}
    found = {}
    torch.manual_seed(1)
    method = Anomaly(representation=block, **NAMES)
    method.learn(data, Play(seed=1))
    method.eval()
    b = data.validation.all
    own = b.y == 0
    for score in ("rest", "excised", "all"):
        method.score = score
        with torch.no_grad():
            nats = method.nats(b.x)
        found[score] = auc(nats, b), mutual_information(nats[own], b.z[own, 0], b.w[own])
        if score == "rest":
            with torch.no_grad():
                logit = method.logit(b.x)[own]
            assert float(logit.mean()) == pytest.approx(0, abs=1e-3)
            assert float(logit.std()) == pytest.approx(1, abs=1e-2)
    assert found["rest"][0] > max(0.95, found["all"][0])
    # What is left comes from events far out, which are reconstructed worse.
    assert found["rest"][1] < 0.15 < found["all"][1]
    assert found["excised"][1] > 0.8  # the mass alone


def test_what_a_representation_reveals_lies_beside_its_card(make_table, tmp_path: Path) -> None:
    block = {"type": "BetaTCVAESensitive", "latents": 2, "hidden": [16], "training": {**LEARN, "epochs": 10}}
    spec = {"type": "Excised", "representation": block, "network": {"type": "MLP", "hidden": [8]}}
    spec |= {"training": QUICK, "found": 0.0}
    table = make_table(4000)
    trained = train(spec, table=table, split=Split(10, (0, 1, 2), (3,)), seed=3, device="cpu")
    about = {"table": table, "nuisances": [Nuisance(name="mass", low=-3, high=3)], "config_hash": "abc"}
    folder = finish(trained, name="sensitive", folder=tmp_path / "sensitive", **about)
    assert sorted(p.name for p in folder.iterdir()) == ["card.yaml", "latents.npz", "tagger.onnx"]
    with np.load(folder / "latents.npz") as arrays:
        found = dict(arrays)
    assert found["keep"].tolist() == [0, 1, 1]
    assert found["nuisances"].tolist() == ["mass"]
    assert found["mean"].shape == (len(found["weight"]), 3)
    assert found["change"].shape == found["observed"].shape == (1, 4, 3)
    # The aligned latent goes up with the mass, and so does 'leaky'.
    assert np.corrcoef(found["mean"][:, 0], found["nuisance"][:, 0])[0, 1] > 0.6
    assert found["change"][0, -1, 0] > found["change_raw"][0, 0, 0] + 0.2
    import onnx

    model = onnx.load(folder / "tagger.onnx")
    card = Card.from_json({p.key: p.value for p in model.metadata_props}["hepdecorr.card"], source="x")
    assert 0 < card.measured["mig"]["low"] <= card.measured["mig"]["value"] <= card.measured["mig"]["high"]


def test_streamed_events_are_represented_batch_by_batch(make_table) -> None:
    block = {"type": "BetaVAE", "alignment": 20, "latents": 2, "hidden": [8], "training": QUICK}
    spec = {"type": "Excised", "representation": block, "network": {"type": "MLP", "hidden": [8]}}
    spec |= {"training": QUICK, "found": 0.0}
    table, split = make_table(), Split(10, (0, 1), (2,))
    trained = train(spec, table=table, split=split, seed=3, device="cpu", stream=True)
    assert [stage["stage"] for stage in trained.history] == ["representation", "tagger"]
    # The classifier was fitted on what is left of the latents: one without spread is only shifted.
    slope = trained.method.network.inputs.of_rows.slope
    assert slope[0] == 1
    assert (slope[1:] != 1).all()


def test_a_class_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from hepdecorr.learning.methods.representation import Representation\n"
        "def Wide(**given):\n"
        "    return Representation(latents=7, **given)\n"
    )
    made = represent({"type": "mine.py:Wide"}, base=tmp_path, **NAMES)
    assert isinstance(made, Representation)
    assert made.dims == 8
