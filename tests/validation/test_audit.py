"""The fresh adversary finds what there is to find, and nothing else."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import entr

from hepdecorr.errors import InputError
from hepdecorr.validation.measures import audit


def columns(seed, size):
    random = np.random.default_rng(seed)
    return random.normal(size=size), random.random(size)


def test_a_sculpting_score_is_found_with_the_information_it_holds():
    logit, z = columns(0, 8000)
    logit = logit + 4 * (z > 0.5)
    found = audit(logit, z, nuisance_bins=2, folds=3)
    assert found.p_value < 1e-10
    assert found.floor == pytest.approx(math.log(2), rel=1e-3)
    assert found.loss == pytest.approx(found.floor - found.gain.value)
    # Mutual information of a fair bit and two unit Gaussians four sigma apart.
    x = np.linspace(-8, 12, 4001)
    low, high = np.exp(-0.5 * x**2), np.exp(-0.5 * (x - 4) ** 2)
    share = high / (low + high)
    conditional = np.trapezoid((low + high) * (entr(share) + entr(1 - share)), x)
    truth = math.log(2) - conditional / np.trapezoid(low + high, x)
    # Learned from a third of the events: below the truth, and not by much.
    assert truth - 0.06 < found.gain.value < truth + 0.01


def test_dependence_in_the_tail_alone_is_found():
    logit, z = columns(1, 20_000)
    top = np.argsort(logit)[-300:]
    z[top] = 0.8 + 0.2 * z[top]
    assert audit(logit, z, nuisance_bins=5, folds=3).p_value < 1e-3


def test_a_weak_trend_is_found():
    logit, z = columns(2, 20_000)
    assert audit(logit + 0.3 * z, z, folds=3).p_value < 1e-3


def test_no_false_alarms_for_an_independent_score():
    found = [
        audit(
            *columns(seed, 2000),
            weight=np.random.default_rng(seed).exponential(size=2000),
            nuisance_bins=4,
            folds=3,
        )
        for seed in range(12)
    ]
    # Overfitting shows as a loss on held-out events: the test errs on the quiet side.
    assert sum(one.p_value <= 0.05 for one in found) <= 2
    assert abs(np.mean([one.gain.value for one in found])) < 0.002


def test_too_few_events_and_constants_are_refused():
    with pytest.raises(InputError, match="at least 1000 events"):
        audit(*columns(0, 200))
    with pytest.raises(InputError, match="constant"):
        audit(np.zeros(3000), columns(0, 3000)[1])
