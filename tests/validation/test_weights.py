"""Strongly varying weights, as QCD generated flat in pT has them, against closed forms and repeated samples.

x, the pT above threshold, falls as exp(-x) by weight but is generated with a far longer tail: weights spread
over two decades and half the events count. Mass and score depend on pT, hence on the weight, and yet, by
weight, the score is Gaussian about `slope` times the mass, whatever `pull` it has towards high pT.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import integrate, stats

from hepdecorr.validation.measures import (
    auc,
    audit,
    closure,
    dcor2,
    effective,
    jsd,
    profile,
    rejection_factor,
    sculpting,
    signal_efficiency,
)

EXCESS = np.sqrt(0.5)  # n_eff = n (1 - EXCESS^2)
CORRELATION = 0.6  # of mass and pT
SHIFT = 1.5
RANGE, BINS = (-3.0, 3.0), 20
QUICK = {"range": RANGE, "bins": BINS, "permutations": 199, "replicas": 150}
PULLS = (-0.8, 0.0, 0.8)


def qcd(seed, size=3000, *, pull=0.0, slope=0.0):
    """Score, mass and weight of background."""
    random = np.random.default_rng(seed)
    x = random.exponential(1 / (1 - EXCESS), size)
    weight = np.exp(-EXCESS * x) / (1 - EXCESS)
    normal = stats.norm.isf(np.exp(-x))
    mass = CORRELATION * normal + np.sqrt(1 - CORRELATION**2) * random.normal(size=size)
    rest = (normal - CORRELATION * mass) / np.sqrt(1 - CORRELATION**2)
    score = pull * rest + np.sqrt(1 - pull**2) * random.normal(size=size)
    return score + slope * mass, mass, weight


def both(seed, size=3000, *, pull=0.0):
    """Score, label and weight of background and of a signal without weights."""
    score, _, weight = qcd(seed, size, pull=pull)
    signal = np.random.default_rng([seed, 1]).normal(SHIFT, 1, size // 2)
    return (
        np.concatenate([score, signal]),
        np.repeat([0, 1], [size, size // 2]),
        np.concatenate([weight, np.ones(size // 2)]),
    )


def test_the_sample_is_what_it_claims():
    score, mass, weight = qcd(0, 200_000, pull=0.8)
    assert effective(weight) / len(weight) == pytest.approx(0.5, abs=0.01)
    assert weight.max() / np.quantile(weight, 0.01) > 100
    for values in (score, mass):
        assert np.average(values, weights=weight) == pytest.approx(0, abs=0.02)
        assert np.average(values**2, weights=weight) == pytest.approx(1, abs=0.03)
    assert np.average(score * mass, weights=weight) == pytest.approx(0, abs=0.02)
    assert abs(np.corrcoef(score, np.log(weight))[0, 1]) > 0.4


@pytest.mark.parametrize("pull", PULLS)
@pytest.mark.parametrize("rejection", [0.5, 0.9])
def test_p_values_are_uniform_and_the_floor_is_the_mean(pull, rejection):
    found = [
        sculpting(score, mass, weight=weight, rejection=rejection, **QUICK)
        for score, mass, weight in (qcd(seed, pull=pull) for seed in range(100))
    ]
    p_values = np.array([one.p_value for one in found])
    assert 0.39 < p_values.mean() < 0.61
    assert np.mean(p_values <= 0.05) < 0.13
    assert np.mean([one.jsd.value for one in found]) == pytest.approx(
        np.mean([one.floor for one in found]), rel=0.12
    )
    # The floor's own spread is that of the JSDs found.
    low, high = np.quantile([one.jsd.value for one in found], [0.16, 0.84])
    ends = np.mean([one.floor_interval for one in found], axis=0)
    assert ends == pytest.approx([low, high], rel=0.25)


def truth(cut, slope):
    """JSD of the spectra for infinitely many events, by integration."""
    edges = np.linspace(*RANGE, BINS + 1)
    passing = np.array(
        [
            integrate.quad(lambda m: stats.norm.pdf(m) * stats.norm.sf(cut - slope * m), low, high)[0]
            for low, high in itertools.pairwise(edges)
        ]
    )
    return jsd(passing, np.diff(stats.norm.cdf(edges)) - passing)


@pytest.mark.parametrize(("pull", "slope"), [(0.8, 0.15), (-0.8, 0.15), (-0.8, 0.5)])
def test_upper_limit_covers_the_truth(pull, slope):
    """95 % asked; 100 toys see 87 % with a chance below 1/1000."""
    cut = 1.2
    expected, covered, limits = truth(cut, slope), 0, []
    for seed in range(100):
        score, mass, weight = qcd(seed, pull=pull, slope=slope)
        found = sculpting(score, mass, weight=weight, threshold=cut, **QUICK)
        limits.append(found.excess_upper)
        covered += found.excess_upper >= expected
    assert covered / 100 > 0.87
    # Not bought by limits that say nothing.
    assert np.median(limits) < expected + 3 * found.floor


def test_sculpting_is_found():
    score, mass, weight = qcd(3, 20_000, pull=0.5, slope=0.5)
    found = sculpting(score, mass, weight=weight, rejection=0.9, **QUICK)
    assert found.p_value == pytest.approx(1 / 200)
    assert found.jsd.low < truth(found.threshold, 0.5) + found.floor < found.jsd.high


@pytest.mark.parametrize("pull", PULLS)
def test_auc_and_its_error(pull):
    found = [
        auc(score, label, weight=weight)
        for score, label, weight in (both(seed, pull=pull) for seed in range(150))
    ]
    values = np.array([one.value for one in found])
    assert values.mean() == pytest.approx(stats.norm.cdf(SHIFT / np.sqrt(2)), abs=0.003)
    assert np.mean([one.std for one in found]) == pytest.approx(values.std(), rel=0.2)


@pytest.mark.parametrize("pull", PULLS)
def test_efficiencies_cover(pull):
    """68.3 % asked; 100 toys leave 54 to 82 %."""
    inside = np.zeros(3)
    expected = (
        1 / stats.norm.sf(SHIFT),
        stats.norm.sf(stats.norm.isf(0.1) - SHIFT),
        stats.norm.cdf(1.2),
    )
    for seed in range(100):
        score, label, weight = both(seed, pull=pull)
        background = label == 0
        found = (
            rejection_factor(score, label, weight=weight, seed=seed),
            signal_efficiency(score, label, rejection=0.9, weight=weight, seed=seed).efficiency,
            closure(score[background], threshold=1.2, rejection=0.9, weight=weight[background]).found,
        )
        inside += [one.low <= value <= one.high for one, value in zip(found, expected, strict=True)]
    assert np.all(inside / 100 > 0.54)
    assert np.all(inside / 100 < 0.84)


@pytest.mark.parametrize("pull", PULLS)
def test_profiles_cover(pull):
    inside, bins = 0.0, 8
    edges = np.linspace(-2, 2, bins + 1)
    for seed in range(40):
        score, mass, weight = qcd(seed, pull=pull)
        found = profile(
            score, mass, threshold=1.0, rejection=0.84, bins=bins, range=(-2.0, 2.0), weight=weight
        )
        assert found.edges == pytest.approx(edges)
        inside += np.mean((found.low <= stats.norm.sf(1.0)) & (stats.norm.sf(1.0) <= found.high))
    assert 0.6 < inside / 40 < 0.85


def test_dependence_tests_do_not_raise_alarms():
    p_values = []
    for seed in range(50):
        score, mass, weight = qcd(seed, 400, pull=0.8)
        p_values.append(dcor2(score, mass, weight=weight, permutations=39, seed=seed).p_value)
    assert 0.37 < np.mean(p_values) < 0.63
    assert np.mean(np.array(p_values) <= 0.05) < 0.17
    score, mass, weight = qcd(0, 2000, pull=0.8)
    assert audit(score, mass, weight=weight, nuisance_bins=5, folds=3).p_value > 0.05
    score, mass, weight = qcd(0, 2000, pull=0.8, slope=0.5)
    assert audit(score, mass, weight=weight, nuisance_bins=5, folds=3).p_value < 0.01
