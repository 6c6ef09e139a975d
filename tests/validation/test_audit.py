"""The fresh adversary finds what there is to find, and nothing else."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest
from scipy import stats
from scipy.special import entr

from hepdecorr.errors import InputError
from hepdecorr.validation.measures import audit, dcor2

module = sys.modules["hepdecorr.validation.measures.audit"]  # the function has taken the module's name


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


def correlated(seed, size, rho):
    random = np.random.default_rng(seed)
    z = random.normal(size=size)
    return rho * z + math.sqrt(1 - rho**2) * random.normal(size=size), z


def test_a_planted_correlation_of_five_per_cent_is_found_by_both():
    """Issue's figure: 20 thousand background events, rho = 0.05; a Gaussian's information is 0.00125 nats."""
    for seed in range(2):
        score, z = correlated(seed, 20_000, 0.05)
        assert audit(score, z, seed=seed).p_value < 0.01
        assert dcor2(score, z, permutations=60, tested=10_000, seed=seed).p_value < 0.05


def test_a_shift_of_the_highest_per_cent_alone_is_found_by_the_adversary_of_the_tail():
    score, z = correlated(0, 20_000, 0.0)
    z[score > np.quantile(score, 0.99)] += 1.0
    found = audit(score, z, nuisance_bins=5, folds=4)
    assert found.p_value < 1e-4
    assert found.p_tail < min(found.p_trend, 1e-4)


def independent(seed, *, weighted):
    """The test alone, without the gain: its tables of independent events."""
    random = np.random.default_rng(seed)
    size, shape = 1500, (5, 40, 4)
    places = tuple(random.integers(0, many, size) for many in shape)
    weight = random.exponential(size=size) if weighted else np.ones(size)
    tables = []
    for values in (weight, weight**2):
        table = np.zeros(shape)
        np.add.at(table, places, values)
        tables.append(table)
    return tables


@pytest.mark.parametrize("weighted", [False, True])
def test_p_values_of_independent_scores_are_uniform(weighted, monkeypatch):
    # Trees take their time and are exact by the same argument: few stages will do.
    monkeypatch.setattr(module, "STAGES", 2)
    found = np.array(
        [module._tested(*independent(seed, weighted=weighted), events=1500, seed=0) for seed in range(100)]
    )
    for column in found.T:
        assert stats.kstest(column, "uniform").pvalue > 0.002
    whole = 1 - (1 - found.min(axis=1)) ** 3
    # 5 % of 100 are 5, standard deviation 2.2.
    assert np.count_nonzero(whole <= 0.05) <= 12


def test_a_missing_heavy_event_is_no_agreement():
    """In units of all permutations' spread; forty events of a tail, one class in fifty weighs most."""
    random = np.random.default_rng(0)
    target = random.choice(5, size=2000, p=[0.4, 0.3, 0.2, 0.08, 0.02])
    tail, weight, ratio = np.arange(2000) < 40, np.exp(target), np.zeros((2, 5))
    ratio[1, 4] = -1
    found = []
    for _ in range(400):
        place = random.permutation(tail) * 5 + target
        tables = (np.bincount(place, values, 10).reshape(2, 5) for values in (weight, weight**2))
        found.append(module._agreement(ratio, *tables))
    assert np.std(found) == pytest.approx(1, abs=0.1)
    assert np.mean(np.array(found) > 3.1) < 0.01


def test_cross_fitted_folds_would_raise_too_many_alarms():
    """Why each fold is predicted from earlier ones alone: sums of a slope by fold, signs from the others."""
    sums = np.random.default_rng(0).normal(size=(20_000, 5))
    crossed = np.sum(np.sign(sums.sum(axis=1, keepdims=True) - sums) * sums, axis=1) / math.sqrt(5)
    before = np.cumsum(sums, axis=1)[:, :-1]
    ordered = np.sum(np.sign(before) * sums[:, 1:], axis=1) / 2
    assert np.mean(stats.norm.sf(crossed) <= 0.05) > 0.07
    assert np.mean(stats.norm.sf(ordered) <= 0.05) == pytest.approx(0.05, abs=0.006)


def test_too_few_events_and_constants_are_refused():
    with pytest.raises(InputError, match="at least 1000 events"):
        audit(*columns(0, 200))
    with pytest.raises(InputError, match="constant"):
        audit(np.zeros(3000), columns(0, 3000)[1])
