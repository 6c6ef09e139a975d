"""The toys' known ends, with small networks and samples; docs/toys.md has them with large ones."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from hepdecorr.learning import Data, Events, Play
from hepdecorr.learning.methods import Tagger
from hepdecorr.samples.toys import TOYS
from hepdecorr.validation.measures import Slices, auc, in_slices

H_Z = 0.5 * math.log(2 * math.pi * math.e)  # 1.4189 nats: Louppe et al., 1611.01046, figure 1
NETWORK = {"type": "MLP", "hidden": [20, 20]}
LONG = {"batch": 512, "epochs": 20, "keep": "last", "lr": 5e-3, "average": 0.98}
SHORT = {**LONG, "epochs": 8}
SOFTMAX = {"type": "Softmax", "nuisance": "z", "tail": 0, "steps": 3, "batch": 512, "hidden": [32, 32]}
MIXTURE = {"type": "GMM", "nuisance": "z", "tail": 0, "steps": 3, "batch": 512, "hidden": [20, 20]}
WIDE = (-3, -1, 1, 3)


def made(process: str, events: int, *, seed: int) -> Any:
    return TOYS[process](events, np.random.default_rng(seed))


@cache
def learned(process: str, name: str) -> tuple[Tagger, list[dict[str, Any]]]:
    """A tagger of a toy, trained on 8000 events."""
    terms: dict[str, list[dict[str, Any]]] = {
        "plain": [],
        "pivot": [
            MIXTURE
            | {
                "given": "all",
                "transform": "none",
                "components": 5,
                "strength": 50,
                "start": 0.4,
                "ramp": 0.1,
            }
        ],
        "least squares": [
            {"type": "MSE", "nuisance": "z", "given": "all", "transform": "none", "tail": 0, "hidden": [32]}
            | {
                "steps": 3,
                "batch": 512,
                "start": 0.4,
                "ramp": 0.1,
                "strength": 20 if process != "unused" else 1,
            }
        ],
        "unconditional": [SOFTMAX | {"given": "all", "sees": ["logit", "rank"]}],
        "conditional": [SOFTMAX | {"given": "label", "sees": ["logit", "rank"]}],
    }
    torch.manual_seed(3)
    data = Data(*(as_events(made(process, size, seed=seed)) for seed, size in ((1, 8000), (2, 2000))))
    method = Tagger(
        features=["x1", "x2"],
        nuisances=["z"],
        network=NETWORK,
        terms=terms[name],
        training=LONG if terms[name] else SHORT,
    )
    play = Play(seed=3)
    method.learn(data, play)
    return method.eval(), play.history


def as_events(toy: Any) -> Events:
    x = torch.tensor(np.stack([toy.x1, toy.x2], 1), dtype=torch.float32)
    z = torch.tensor(toy.z[:, None], dtype=torch.float32)
    return Events(x, torch.tensor(toy.label), z, features=["x1", "x2"], nuisances=["z"])


@torch.no_grad()
def logit(method: Tagger, *features: np.ndarray) -> np.ndarray:
    return method.logit(torch.tensor(np.stack(features, 1), dtype=torch.float32)).numpy()


def judged(process: str, name: str, edges: Any = None) -> tuple[float, dict[str, float]]:
    """AUC on other events, and what the score tells of z in nats."""
    toy = made(process, 20_000, seed=9)
    score = logit(learned(process, name)[0], toy.x1, toy.x2)
    found = in_slices(score, toy.label, toy.z, slices=Slices.of(toy.z, edges)).information
    return auc(score, toy.label).value, {kind: one.nats.value for kind, one in found.items() if one}


def chase(process: str, name: str) -> list[float]:
    (curve,) = (c for k, c in learned(process, name)[1][0]["curves"].items() if k.endswith("/chase"))
    return [value for value in curve if value is not None]


def test_louppe_the_adversary_learns_what_there_is_and_ends_at_the_entropy_of_z() -> None:
    toy = made("louppe", 200_000, seed=4)
    # The best plain score, in closed form: z widens x2 of the signal to variance 2.
    signal = stats.norm.logpdf(toy.x1, 1) + stats.norm.logpdf(toy.x2, 1, math.sqrt(2))
    background = stats.multivariate_normal([0, 0], [[1, -0.5], [-0.5, 1]])
    best = signal - background.logpdf(np.stack([toy.x1, toy.x2], 1))
    fine = Slices.of([], np.quantile(toy.z, np.linspace(0, 1, 31)))
    told = in_slices(best, toy.label, toy.z, slices=fine).information["all"].nats.value
    assert 0.04 < told < 0.08  # the paper's adversary stands at 1.365, 0.054 below H(z)
    curve = chase("louppe", "pivot")
    # A blind guess on these 8000 events, whose entropy is only about that of z.
    z = made("louppe", 8000, seed=1).z
    blind = -stats.norm.logpdf(z).mean()
    assert blind == pytest.approx(H_Z, abs=0.03)
    assert min(curve) == pytest.approx(blind - told, abs=0.02)
    assert curve[-1] == pytest.approx(blind, abs=0.008)


def test_louppe_the_pivot_is_independent_and_pays_with_separation() -> None:
    plain, pivot = judged("louppe", "plain", WIDE), judged("louppe", "pivot", WIDE)
    assert plain[1]["all"] > 0.03
    assert pivot[1]["all"] < 0.1 * plain[1]["all"]
    # Without x2 what separates is x1 given the correlation: well below the plain score, well above chance.
    assert plain[0] > 0.83
    assert 0.72 < pivot[0] < plain[0] - 0.03
    # The signal alone depends on z.
    assert abs(plain[1]["background"]) < 0.003 < plain[1]["signal"]


def test_regression_least_squares_ends_at_the_variance_of_z() -> None:
    curve = chase("regression", "least squares")
    variance = np.var(made("regression", 8000, seed=1).z)
    assert min(curve) < 0.95 * variance
    assert curve[-1] == pytest.approx(variance, rel=0.01)


def best_independent_auc(share: np.ndarray) -> float:
    """The largest AUC of a score that is independent of z, share = P(label = 1 | z) for equally frequent z.

    Such a score is uniform at every z, after a common map, and at best separates perfectly there: signal is
    what lies above 1 - share.
    """
    u = (np.arange(20_000) + 0.5) / 20_000
    signal = (u[:, None] > 1 - share).mean(1)
    background = 1 - signal
    below = np.cumsum(background) - background / 2
    return float((signal * below).sum() / (signal.sum() * background.sum()))


def test_discrete_conditional_pivoting_keeps_what_unconditional_loses() -> None:
    toy = made("discrete", 200_000, seed=5)
    share = np.array([toy.label[toy.z == value].mean() for value in range(5)])
    bound = best_independent_auc(share)
    assert bound == pytest.approx(0.757, abs=0.01)
    assert best_independent_auc(np.full(5, 0.5)) == pytest.approx(1, abs=1e-3)
    plain, unconditional, conditional = (
        judged("discrete", name) for name in ("plain", "unconditional", "conditional")
    )
    assert plain[0] > 0.995
    assert conditional[0] > 0.98
    assert unconditional[0] < bound + 0.1
    # The one is independent over all events, the other cannot be, and is more so within the classes.
    assert unconditional[1]["all"] < 0.1 * plain[1]["all"]
    assert conditional[1]["all"] > 0.15
    within = [one[1]["background"] + one[1]["signal"] for one in (plain, conditional)]
    assert within[1] < within[0]


def test_unused_the_score_is_independent_of_an_input_that_it_uses() -> None:
    toy = made("unused", 20_000, seed=9)
    method = learned("unused", "least squares")[0]
    score = logit(method, toy.x1, toy.x2)
    assert auc(score, toy.label).value > 0.99
    slices = Slices.of([], (0, 0.2, 0.4, 0.6, 0.8, 1))
    found = in_slices(score, toy.label, toy.z, slices=slices)
    # As a probability; the logit, in quantile bins, tells how far from the crossing an event is.
    assert found.equal["all"].nats.value < 0.02 < 0.1 < found.information["all"].nats.value
    # With the x1 of other events the score is worthless.
    dealt = logit(method, np.random.default_rng(0).permutation(toy.x1), toy.x2)
    assert auc(dealt, toy.label).value == pytest.approx(0.5, abs=0.05)
