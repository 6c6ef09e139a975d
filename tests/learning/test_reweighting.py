"""Spectra of the classes brought together in the loss of the classification."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from hepdecorr.errors import InputError
from hepdecorr.learning import Layout, train
from hepdecorr.learning.fitting import load
from hepdecorr.learning.methods.method import cross_entropy
from hepdecorr.learning.reweighting import Reweighting
from hepdecorr.learning.terms import DisCo
from hepdecorr.table import Split

KNOWN = ["mass", "pt"]


def spectra(rows: int = 30_000, *, seed: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A falling background, drawn flatter than it is, and a resonance on a tail; the mass grows with pt."""
    draw = np.random.default_rng(seed)
    label = (np.arange(rows) % 3 == 0).astype(int)
    pt = 450 + draw.exponential(np.where(label == 1, 260, 300))
    falling = 50 + draw.exponential(60, rows) * (pt / 500) ** 0.5
    mass = np.where((label == 1) & (draw.random(rows) < 0.6), draw.normal(85, 10, rows), falling)
    w = np.where(label == 1, 1.0, np.exp(-(pt - 450) / 400))
    return np.stack([mass, pt], 1), label, w


def distance(a: np.ndarray, wa: np.ndarray, b: np.ndarray, wb: np.ndarray) -> float:
    """Kolmogorov's, of two weighted spectra."""
    values = np.concatenate([a, b])
    order = values.argsort()
    steps = [np.concatenate([wa / wa.sum(), 0 * wb]), np.concatenate([0 * wa, wb / wb.sum()])]
    return float(np.abs(steps[0][order].cumsum() - steps[1][order].cumsum()).max())


@pytest.mark.parametrize("names", [["mass"], ["pt"], ["mass", "pt"]])
@pytest.mark.parametrize(("of", "to"), [("background", "signal"), ("signal", "background")])
def test_the_spectra_close(names: list[str], of: str, to: str) -> None:
    columns = [KNOWN.index(name) for name in names]
    z, label, w = spectra()
    rule = Reweighting.read({"nuisances": names, "of": of, "to": to, "cap": 1000}, known=KNOWN).fit(
        z[:, columns], label, w
    )
    fresh, label, w = spectra(seed=2)
    r = rule(fresh[:, columns], label, w)
    own = label == (of == "signal")
    assert (r[~own] == 1).all()
    for column in columns:
        values = fresh[:, column]
        before = distance(values[own], w[own], values[~own], w[~own])
        after = distance(values[own], (w * r)[own], values[~own], w[~own])
        assert after < 0.03, column
        assert before > 3 * after


@pytest.mark.parametrize("names", [["mass"], ["mass", "pt"]])
def test_flat_is_flat_between_the_ends(names: list[str]) -> None:
    columns = [KNOWN.index(name) for name in names]
    z, label, w = spectra(90_000)
    rule = Reweighting.read(
        {"nuisances": names, "of": "both", "to": "flat", "cap": 1e4, "bins": 60}, known=KNOWN
    ).fit(z[:, columns], label, w)
    weight = w * rule(z[:, columns], label, w)
    for k in (0, 1):
        own, low, high = label == k, *np.quantile(z[label == k, 0], [0.1, 0.8])
        counts = np.histogram(z[own, 0], np.linspace(low, high, 9), weights=weight[own])[0]
        assert counts.std() / counts.mean() < 0.15, k


def test_joint_spectra_close_cell_by_cell() -> None:
    z, label, w = spectra(60_000)
    rule = Reweighting(("mass", "pt"), of="background", to="signal", cap=1e4).fit(z, label, w)
    weight = w * rule(z, label, w)
    high = z[:, 1] > 600
    for part in (high, ~high):
        own, other = part & (label == 0), part & (label == 1)
        assert distance(z[own, 0], weight[own], z[other, 0], w[other]) < 0.05
    shares = [(weight * high)[label == k].sum() / weight[label == k].sum() for k in (0, 1)]
    assert shares[0] == pytest.approx(shares[1], abs=0.01)


def test_the_mean_is_kept_and_the_cap_holds() -> None:
    z, label, w = spectra()
    for cap in (2.0, 10.0):
        rule = Reweighting(("mass",), of="both", to="flat", cap=cap).fit(z[:, :1], label, w)
        r = rule(z[:, :1], label, w)
        for k in (0, 1):
            own = label == k
            assert np.average(r[own], weights=w[own]) == pytest.approx(1)
            capped = (w * r)[own]
            # Before the mean is brought back to one.
            assert capped.max() / capped.mean() < 2.5 * cap
    outside = np.array([[-1e6], [1e6]])
    assert np.isfinite(rule(outside, np.array([0, 1]), np.ones(2))).all()


def test_a_variable_of_few_values() -> None:
    draw = np.random.default_rng(1)
    label = np.arange(4000) % 2
    z = np.where(label == 1, draw.integers(0, 3, 4000), draw.integers(0, 5, 4000))[:, None].astype(float)
    rule = Reweighting(("n",), of="signal", to="background").fit(z, label, np.ones(4000))
    r = rule(z, label, np.ones(4000))
    assert np.isfinite(r).all()
    assert r[label == 1].mean() == pytest.approx(1)


def test_the_factor_acts_on_the_classification_alone(batch) -> None:
    half = batch._replace(r=0.5 * batch.r)
    logit = batch.x[:, 0]
    assert float(cross_entropy(logit, half)) == pytest.approx(0.5 * float(cross_entropy(logit, batch)))
    term = DisCo("mass", nuisances=["mass"], draw=0)
    assert torch.equal(term.price(logit, half), term.price(logit, batch))


@pytest.mark.parametrize("stream", [False, True])
def test_a_table_is_weighed_by_its_training_events(make_table, stream: bool) -> None:
    table, split = make_table(), Split(10, (0, 1), (2,))
    layout = Layout.of(table, nuisances=[])
    reweight = Reweighting(("leaky",), of="signal", to="background", bins=10)
    data = load(table, layout, split=split, stream=stream, reweight=reweight)
    for events, limit in ((data.train, 0.05), (data.validation, 0.18)):
        parts = list(events.batches(500, shuffle=False))
        x, y, w, r = (torch.cat([getattr(b, k) for b in parts]).numpy() for k in "xywr")
        own = y == 1
        assert (r[~own] == 1).all()
        assert distance(x[own, 0], (w * r)[own], x[~own, 0], w[~own]) < limit
        assert stats.ks_2samp(x[own, 0], x[~own, 0]).statistic > 0.3
    plain = load(table, layout, split=split, stream=stream)
    assert float(plain.validation.all.r.std()) == 0


def test_a_tagger_learns_with_weights_of_the_loss(make_table) -> None:
    spec = {
        "type": "Tagger",
        "network": {"type": "MLP", "hidden": [8]},
        "training": {"epochs": 2, "batch": 400},
        "nuisances": [],
        "reweight": {"nuisances": "mass", "of": "both", "to": "flat", "bins": 8},
    }
    table, split = make_table(), Split(10, (0, 1), (2,))
    trained = train(spec, table=table, split=split, seed=1, device="cpu")
    assert float(trained.data.train.all.r.std()) > 0.1
    plain = train({**spec, "reweight": None}, table=table, split=split, seed=1, device="cpu")
    weights = [t.method.network.net[0].weight for t in (trained, plain)]
    assert not torch.equal(*weights)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"nuisances": ["tau21"]}, "'tau21' is no nuisance of the table; known are mass, pt"),
        ({"nuisances": ["mas"]}, "did you mean 'mass'"),
        ({"nuisances": []}, "one or two variables, not 0"),
        ({"of": "signal"}, "one or two variables, not 0"),
        ({"nuisances": ["mass"], "off": "signal"}, "there is no 'off'"),
        ({"nuisances": ["mass"], "of": "signals"}, "no 'signals'; did you mean 'signal'"),
        ({"nuisances": ["mass"], "to": "level"}, "to: no 'level'"),
        ({"nuisances": ["mass"], "of": "signal", "to": "signal"}, "changes nothing"),
        ({"nuisances": ["mass"], "bins": 1}, "bins must be"),
        ({"nuisances": ["mass"], "bins": 4.5}, "bins must be"),
        ({"nuisances": ["mass"], "cap": 1}, "cap must be"),
        ({"nuisances": ["mass"], "cap": "ten"}, "cap must be"),
    ],
)
def test_faults_in_the_yaml_are_named(spec: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Reweighting.read(spec, known=KNOWN)


def test_a_class_without_weight_is_refused() -> None:
    z, label, w = spectra(300)
    with pytest.raises(InputError, match="the weights of signal in the training events sum to nothing"):
        Reweighting(("mass",)).fit(z[:, :1], label, np.where(label == 1, 0, w))


def test_fewer_events_than_bins_are_refused() -> None:
    z, label, w = spectra(300)
    few = int((label == 1).sum())
    with pytest.raises(InputError, match=f"{few} signal events to train on for 5000 bins; lower 'bins'"):
        Reweighting(("mass",), bins=5000).fit(z[:, :1], label, w)
