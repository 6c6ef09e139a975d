"""AUC, efficiencies and rejection against scikit-learn, brute force and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import roc_auc_score

from hepdecorr.errors import InputError
from hepdecorr.validation.measures import (
    auc,
    clopper_pearson,
    closure,
    effective,
    profile,
    rejection_factor,
    roc,
    signal_efficiency,
)


def toy(seed=0, background=2000, signal=800, shift=1.5):
    random = np.random.default_rng(seed)
    label = np.repeat([0, 1], [background, signal])
    return random.normal(size=len(label)) + shift * label, label


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.integers(0, 3))
def test_auc_agrees_with_scikit_learn_for_weights_and_ties(seed, decimals):
    logit, label = toy(seed, 60, 40)
    logit = np.round(logit, decimals)
    weight = np.random.default_rng(seed + 1).exponential(size=100)
    assert auc(logit, label).value == pytest.approx(roc_auc_score(label, logit))
    assert auc(logit, label, weight=weight).value == pytest.approx(
        roc_auc_score(label, logit, sample_weight=weight)
    )


def test_auc_depends_on_ranks_alone_and_turns_over_with_the_sign():
    logit, label = toy()
    first = auc(logit, label)
    assert auc(np.exp(logit), label) == first
    assert auc(-logit, label).value == pytest.approx(1 - first.value)


def test_delong_error_is_the_spread_over_samples():
    found = [auc(*toy(seed, 300, 120)) for seed in range(300)]
    values = np.array([one.value for one in found])
    truth = stats.norm.cdf(1.5 / math.sqrt(2))
    assert values.mean() == pytest.approx(truth, abs=0.004)
    assert np.mean([one.std for one in found]) == pytest.approx(values.std(), rel=0.12)
    covered = np.mean([one.low <= truth <= one.high for one in found])
    assert 0.6 < covered < 0.76


def test_weighted_auc_error_is_the_spread_over_samples():
    values, errors = [], []
    for seed in range(200):
        weight = np.random.default_rng(seed + 1000).exponential(size=420)
        one = auc(*toy(seed, 300, 120), weight=weight)
        values.append(one.value)
        errors.append(one.std)
    assert np.mean(errors) == pytest.approx(np.std(values), rel=0.15)


def test_perfect_separation_still_has_an_uncertainty():
    found = auc([0.0, 1.0, 2.0, 3.0], [0, 0, 1, 1])
    assert found.value == 1.0
    assert found.low < 0.7
    assert found.high == 1.0


def test_signal_efficiency_by_counting():
    logit, label = toy()
    background = np.sort(logit[label == 0])
    found = signal_efficiency(logit, label, rejection=0.95)
    assert background[1899] < found.threshold < background[1900]
    assert found.background_events == 100
    assert found.rejection_found == pytest.approx(0.95)
    assert found.efficiency.value == np.mean(logit[label == 1] > found.threshold)


def test_tied_scores_fall_below_the_threshold_together():
    logit = np.repeat([0.0, 1.0, 2.0], [50, 30, 20])
    found = signal_efficiency(np.append(logit, [1.0, 2.0]), np.append(np.zeros(100), [1, 1]), rejection=0.7)
    assert found.rejection_found == pytest.approx(0.8)
    assert found.threshold == 1.5
    assert found.efficiency.value == 0.5


def test_weighted_threshold_counts_weight():
    logit, weight = np.arange(10.0), np.array([1.0] * 9 + [9.0])
    label = np.append(np.zeros(10), 1.0)
    found = signal_efficiency(np.append(logit, 20.0), label, rejection=0.5, weight=np.append(weight, 1.0))
    assert found.threshold == 8.5
    assert found.rejection_found == pytest.approx(0.5)


def test_signal_efficiency_interval_covers_and_counts_both_classes():
    truth = stats.norm.sf(stats.norm.ppf(0.9) - 1.5)
    found = [
        signal_efficiency(*toy(seed, 400, 4000), rejection=0.9, seed=seed).efficiency for seed in range(200)
    ]
    assert 0.58 < np.mean([one.low <= truth <= one.high for one in found]) < 0.78
    # The few background events dominate: the signal's binomial alone would be a quarter of it.
    assert np.mean([one.std for one in found]) == pytest.approx(np.std([one.value for one in found]), rel=0.2)


def test_rejection_factor_by_counting_and_without_survivors():
    logit, label = toy(shift=1.0)
    cut = np.median(logit[label == 1])
    found = rejection_factor(logit, label)
    assert found.value == pytest.approx(1 / np.mean(logit[label == 0] > cut), rel=0.01)
    assert found.low < found.value < found.high
    alone = rejection_factor([0.0, 0.1, 5.0, 6.0], [0, 0, 1, 1])
    assert alone.value == 2.0
    assert math.isinf(alone.high)


def test_roc_passes_through_the_counted_points_and_integrates_to_the_auc():
    logit, label = toy()
    curve = roc(logit, label)
    assert curve.background_efficiency[0] == 0
    assert curve.background_efficiency[-1] == curve.signal_efficiency[-1] == 1
    assert np.all(np.diff(curve.background_efficiency) > 0)
    assert np.all(np.diff(curve.signal_efficiency) >= 0)
    assert np.all((curve.low <= curve.signal_efficiency) & (curve.signal_efficiency <= curve.high))
    area = np.trapezoid(curve.signal_efficiency, curve.background_efficiency)
    assert area == pytest.approx(auc(logit, label).value, abs=0.005)


def test_closure_of_a_frozen_threshold():
    logit, _ = toy(1, 10_000, 0)
    found = closure(logit, threshold=stats.norm.ppf(0.95), rejection=0.95)
    assert abs(found.pull) < 3
    assert found.found.low < found.found.value < found.found.high
    assert found.background_events == round((1 - found.found.value) * 10_000)
    assert closure(logit, threshold=0.0, rejection=0.95).pull < -50


def test_clopper_pearson_reference_values():
    low, high = clopper_pearson(np.array([0, 5, 10, 0]), np.array([10, 10, 10, 0]), level=0.95)
    assert low == pytest.approx([0.0, 0.1871, 0.6915, 0.0], abs=1e-4)
    assert high == pytest.approx([0.3085, 0.8129, 1.0, 1.0], abs=1e-4)


def test_profile_counts_bins_and_leaves_empty_ones_open():
    logit, nuisance = np.array([0, 1, 0, 1, 1, 0, 5.0]), np.array([0.1, 0.2, 0.3, 1.1, 1.2, 3.0, 9.0])
    found = profile(logit, nuisance, threshold=0.5, rejection=0.5, bins=3, range=(0.0, 3.0))
    assert found.efficiency[:2] == pytest.approx([1 / 3, 1.0])
    assert found.events.tolist() == [3, 2, 1]
    assert found.efficiency[2] == 0
    assert found.high[2] > 0.8
    assert found.outside == 1
    empty = profile(logit, nuisance, threshold=0.5, rejection=0.5, bins=3, range=(0.0, 6.0))
    assert math.isnan(empty.efficiency[2])
    assert empty.to_dict()["efficiency"][2] is None


def test_weighted_profile_has_wider_intervals():
    random = np.random.default_rng(0)
    logit, z = random.normal(size=5000), random.random(5000)
    same, spread = (
        profile(logit, z, threshold=0.0, rejection=0.5, bins=5, range=(0, 1), weight=weight)
        for weight in (np.full(5000, 3.0), random.exponential(size=5000))
    )
    ratio = np.mean(spread.high - spread.low) / np.mean(same.high - same.low)
    assert ratio == pytest.approx(math.sqrt(2), rel=0.1)


def test_effective_counts():
    assert effective(np.full(7, 0.3)) == pytest.approx(7)
    assert effective(np.array([1.0, 0.0, 0.0])) == pytest.approx(1)


@pytest.mark.parametrize(
    ("label", "message"),
    [([0, 0, 0], "no signal events"), ([1, 1, 1], "no background events"), ([0, 1, 2], r"values \[2.0\]")],
)
def test_labels_are_checked(label, message):
    with pytest.raises(InputError, match=message):
        auc([0.1, 0.2, 0.3], label)
