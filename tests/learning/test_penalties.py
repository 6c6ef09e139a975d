from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from hepdecorr.errors import InputError
from hepdecorr.learning import Batch, Events
from hepdecorr.learning.terms import DisCo, Flatness, LinearCorrelation, MoDe
from hepdecorr.learning.terms.cumulative import cumulate

Array = NDArray[np.float64]
PLAIN = {"nuisances": ["mass"], "tail": 0.0}


def events(rows: int, *, seed: int = 1, bend: float = 0.0) -> tuple[Array, Array, Array]:
    """Scores, a uniform nuisance that they depend on, weights."""
    draw = np.random.default_rng(seed)
    z = draw.uniform(size=rows)
    return 0.7 * z + bend * z**2 + draw.uniform(size=rows), z, draw.uniform(0.2, 2.0, size=rows)


def batch(z: Array, w: Array) -> Batch:
    z = z[:, None] if z.ndim == 1 else z
    half = torch.zeros(len(z))
    names = ["mass", "pt"][: z.shape[1]]
    b = Events(torch.zeros(len(z) + 1, 1), torch.cat([half, torch.ones(1)]), torch.tensor(np.r_[z, z[:1]]),
               nuisances=names).all  # fmt: skip
    return b.take(slice(0, -1))._replace(w=torch.tensor(w, dtype=torch.float32))


def slowly(s: Array, cell: Array, w: Array, fit, *, power: float = 2.0) -> float:  # type: ignore[no-untyped-def]
    """Sum over bins of share x integral |F_bin - fit|^power ds, on a fine grid of s."""
    grid = np.linspace(s.min(), s.max(), 20_001)
    middles = 0.5 * (grid[1:] + grid[:-1])
    labels = np.unique(cell)
    share = np.array([w[cell == c].sum() for c in labels]) / w.sum()
    within = np.stack([((s[cell == c] <= middles[:, None]) * w[cell == c]).sum(1) for c in labels], 1)
    within = within / (share * w.sum())
    apart = np.abs(within - fit(within, share)) ** power
    return float(((apart * share).sum(1) * np.diff(grid)).sum())


def flat(within: Array, share: Array) -> Array:
    return (within * share).sum(1, keepdims=True)


@pytest.mark.parametrize("power", [1.0, 2.0, 3.0])
def test_flatness_is_its_definition(power: float) -> None:
    s, z, w = events(300)
    term = Flatness("mass", bins=6, power=power, relative=False, **PLAIN)
    b = batch(z, w)
    term.fit(b)
    cell = np.minimum((term.scalings[0].rank(b.z[:, 0]).numpy() * 6).astype(int), 5)
    ours = float(term.price(torch.tensor(s, dtype=torch.float32), b))
    assert ours == pytest.approx(slowly(s, cell, w, flat, power=power), rel=2e-3)


@pytest.mark.parametrize("order", [0, 1, 2])
def test_mode_is_its_definition(order: int) -> None:
    """A uniform nuisance and narrow bins, where the published Legendre moments are those of the fit."""
    s, z, _ = events(800, bend=0.6)
    bins, ones = 20, np.ones(800)
    z = (np.argsort(np.argsort(z)) + 0.5) / 800  # equal bins, whose middles are known
    b = batch(z, ones)
    term = MoDe("mass", order=order, bins=bins, relative=False, transform="rank", **PLAIN)
    term.fit(b)
    m = (np.arange(bins) + 0.5) / bins * 2 - 1
    legendre = np.polynomial.legendre.legvander(m, order)

    def fit(within: Array, share: Array) -> Array:
        moments = within @ legendre * (2 / bins) * (2 * np.arange(order + 1) + 1) / 2
        return moments @ legendre.T

    wanted = slowly(s, np.minimum((z * bins).astype(int), bins - 1), ones, fit)
    assert float(term.price(torch.tensor(s, dtype=torch.float32), b)) == pytest.approx(wanted, rel=0.02)


@pytest.mark.parametrize(
    "limits", [{}, {"max_slope": 0.2}, {"monotonic": True}, {"max_slope": 0.2, "monotonic": True}]
)
def test_the_fit_of_mode_is_least_squares_over_the_nuisance_within_its_limits(limits: dict) -> None:
    """A falling spectrum, whose bins are of unequal width; numpy's least squares judge."""
    z = np.random.default_rng(5).exponential(size=4000)
    term = MoDe("mass", order=2, bins=8, transform="none", **PLAIN, **limits)
    b = batch(z, np.ones(4000))
    term.fit(b)
    z, edges = b.z[:, 0].double().numpy(), np.quantile(z, np.arange(9) / 8)
    np.testing.assert_allclose(term.edges.numpy(), edges, rtol=1e-2)
    edges = term.edges.numpy()
    cell = np.digitize(z, edges[1:-1])
    legendre = np.polynomial.legendre.legvander(2 * (z - edges[0]) / (edges[-1] - edges[0]) - 1, 2)
    basis = np.stack([legendre[cell == c].mean(0) for c in range(8)])
    root = np.sqrt(np.diff(edges))[:, None]
    draw = np.random.default_rng(6)
    level, slope, bend, noise = (draw.normal(size=(5, n)) for n in (1, 1, 1, 8))
    within = 0.6 + 0.03 * (level + noise) + (0.15 + 0.03 * slope) * basis[:, 1] + 0.1 * bend * basis[:, 2]
    c = np.linalg.lstsq(root * basis, root * within.T, rcond=None)[0]
    if "max_slope" in limits:
        c[1] = 0.2 * c[0] * np.tanh(c[1] / (0.2 * c[0]))
    if "monotonic" in limits:
        c[2] = np.abs(c[1]) / 3 * np.tanh(3 * c[2] / np.abs(c[1]))
    found = term._smooth(torch.tensor(within), torch.ones(8, dtype=torch.bool))
    np.testing.assert_allclose(found.numpy(), (basis @ c).T, rtol=1e-5, atol=1e-6)


PENALTIES = [
    Flatness("mass", bins=5, **PLAIN),
    Flatness("mass", bins=5, power=1.0, relative=False, **PLAIN),
    LinearCorrelation("mass", **PLAIN),
    MoDe("mass", order=0, bins=5, relative=False, **PLAIN),
    MoDe("mass", order=1, bins=5, max_slope=0.3, **PLAIN),
    MoDe("mass", order=2, bins=6, monotonic=True, **PLAIN),
]


@pytest.mark.parametrize("term", PENALTIES)
def test_gradients_are_finite_differences(term: Flatness | MoDe | LinearCorrelation) -> None:
    s, z, w = events(40)
    term.fit(batch(z, w))
    scaled, weights = term._scaled(batch(z, w).z).double(), torch.tensor(w)
    at = torch.tensor(s, requires_grad=True)
    term.measure(at, scaled, weights).backward()
    for k in range(0, 40, 7):
        step, one = 1e-7, np.eye(40)[k]
        moved = [float(term.measure(torch.tensor(s + d * one), scaled, weights)) for d in (step, -step)]
        assert float(at.grad[k]) == pytest.approx((moved[0] - moved[1]) / (2 * step), rel=1e-4, abs=1e-7)


def test_mode_lets_a_line_pass_and_then_a_parabola() -> None:
    draw = np.random.default_rng(3)
    z = draw.uniform(size=6000)
    prices = {}
    for name, chance in (("line", 0.2 + 0.6 * z), ("parabola", 0.2 + 0.6 * z**2), ("wave", z * 4 % 1)):
        s = (draw.uniform(size=6000) < chance) + draw.uniform(size=6000)  # passes 1 with that chance
        for order in (0, 1, 2):
            term = MoDe("mass", order=order, transform="none", **PLAIN)
            b = batch(z, np.ones(6000))
            term.fit(b)
            prices[name, order] = float(term.price(torch.tensor(s, dtype=torch.float32), b))
    noise = 16 / 6000 * 2
    assert prices["line", 0] > 0.03
    assert prices["line", 1] < noise
    assert prices["parabola", 1] > 2 * prices["parabola", 2]
    assert prices["parabola", 2] < noise
    assert prices["wave", 2] > 0.05


def test_mode_holds_the_slope_and_the_turn() -> None:
    z = np.linspace(0, 1, 2000)
    draw = np.random.default_rng(4)
    b = batch(z, np.ones(2000))

    def price(chance: Array, **options: object) -> float:
        s = (draw.uniform(size=2000) < chance) + draw.uniform(size=2000)
        term = MoDe("mass", transform="none", **PLAIN, **options)
        term.fit(b)
        return float(term.price(torch.tensor(s, dtype=torch.float32), b))

    assert price(0.1 + 0.8 * z, order=1, max_slope=0.1) > 3 * price(0.1 + 0.8 * z, order=1, max_slope=10.0)
    hill = 0.1 + 3.2 * z * (1 - z)
    assert price(hill, order=2, monotonic=True) > 3 * price(hill, order=2)


def test_a_narrow_score_is_not_a_better_one() -> None:
    s, z, w = events(500)
    b = batch(z, w)
    for kind in (Flatness, MoDe, LinearCorrelation):
        term = kind("mass", **PLAIN)
        term.fit(b)
        wide, narrow = (float(term.price(torch.tensor(f * s).float(), b)) for f in (1, 0.01))
        assert narrow == pytest.approx(wide, rel=1e-3)
    term = Flatness("mass", relative=False, **PLAIN)
    term.fit(b)
    assert float(term.price(torch.tensor(0.01 * s).float(), b)) < 0.02 * wide


def test_linear_correlation_is_that_of_numpy_and_blind_to_a_parabola() -> None:
    s, z, w = events(400)
    b = batch(z, w)
    term = LinearCorrelation("mass", transform="none", **PLAIN)
    term.fit(b)
    covariance = np.cov(s, z, aweights=w)
    wanted = covariance[0, 1] ** 2 / (covariance[0, 0] * covariance[1, 1])
    assert float(term.price(torch.tensor(s, dtype=torch.float32), b)) == pytest.approx(wanted, rel=1e-4)
    assert float(term.price((b.z[:, 0] - 0.5) ** 2, b)) < 0.02


def test_flatness_of_two_nuisances_is_joint() -> None:
    draw = np.random.default_rng(5)
    z = draw.normal(size=(2000, 2))
    s = torch.tensor(np.sign(z.prod(1)) + 0.5 * draw.normal(size=2000), dtype=torch.float32)
    b = batch(z, np.ones(2000))
    names = ["mass", "pt"]
    prices = []
    for nuisance in ("mass", "pt", names):
        term = Flatness(nuisance, bins=4, nuisances=names, tail=0.0)
        term.fit(b)
        prices.append(float(term.price(s, b)))
    assert max(prices[:2]) < 0.01
    assert prices[2] > 0.3


def test_bins_without_events_count_nothing() -> None:
    """More bins than events, and bins that weight zero has emptied."""
    s, z, w = events(12)
    b = batch(z, w)
    for term in (Flatness("mass", bins=30, **PLAIN), MoDe("mass", order=2, bins=30, **PLAIN)):
        term.fit(b)
        logit = torch.tensor(s, dtype=torch.float32, requires_grad=True)
        price = term.price(logit, b)
        price.backward()
        assert price.isfinite()
        assert logit.grad.isfinite().all()
    steps = cumulate(torch.tensor(s), torch.zeros(12, dtype=torch.int64), torch.ones(12), cells=3)
    assert steps.share.tolist() == [1, 0, 0]
    assert not steps.within[:, 1:].any()


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (MoDe, {"order": 3}, "order must be 0, 1 or 2"),
        (MoDe, {"order": 1, "top": 0.5}, "leave both out"),
        (MoDe, {"order": 2, "bins": 3}, "bins must be at least 4"),
        (MoDe, {"max_slope": 0.5}, "for order 1 or 2"),
        (MoDe, {"order": 1, "monotonic": True}, "monotonic is for order 2"),
        (MoDe, {"sees": ["logit", "rank"]}, "sees one form"),
        (Flatness, {"power": 0.5}, "power must be at least 1"),
        (Flatness, {"bins": 1}, "at least 2 bins"),
        (Flatness, {"nuisance": ["mass", "pt"], "bins": 60}, "make 3600 cells"),
        (LinearCorrelation, {"nuisance": ["mass", "pt"]}, "one term for each nuisance"),
        (DisCo, {"given": "signals"}, "did you mean 'signal'"),
    ],
)
def test_faults_in_the_yaml_are_named(kind: type, options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        kind(**({"nuisance": "mass", "nuisances": ["mass", "pt"]} | options))
