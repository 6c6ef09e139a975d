"""Sculpting: p-values that are uniform without it, limits that cover, and nothing lost in silence."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hepdecorr.errors import InputError
from hepdecorr.validation.measures import expected_jsd, floor, jsd, sculpting, upper_limit
from hepdecorr.validation.measures.spectra import Spectra

RANGE = (5.2, 5.29)
BINS = 30
QUICK = {"range": RANGE, "bins": BINS, "permutations": 199, "replicas": 200}


def independent(seed, size=3000):
    random = np.random.default_rng(seed)
    return random.normal(size=size), RANGE[0] + (RANGE[1] - RANGE[0]) * random.beta(1.0, 1.3, size)


def shapes(strength):
    """A smooth background shape, and the same with a peak of that strength."""
    x = (np.arange(BINS) + 0.5) / BINS
    fail = np.sqrt(1.05 - x)
    peak = np.exp(-0.5 * np.square((x - 0.8) / 0.06))
    fail, peak = fail / fail.sum(), peak / peak.sum()
    return (1 - strength) * fail + strength * peak, fail


def test_without_sculpting_p_values_are_uniform_and_the_floor_is_the_mean():
    found = [sculpting(*independent(seed), rejection=0.9, **QUICK) for seed in range(120)]
    p_values = np.array([one.p_value for one in found])
    assert 0.4 < p_values.mean() < 0.6
    assert np.mean(p_values <= 0.1) < 0.2
    assert np.mean([one.jsd.value for one in found]) == pytest.approx(
        np.mean([one.floor for one in found]), rel=0.06
    )
    assert all(one.excess_upper > 0 for one in found)


def test_a_peak_is_found_and_measured():
    logit, z = independent(5, 20_000)
    found = sculpting(logit + 2 * np.exp(-0.5 * np.square((z - 5.28) / 0.004)), z, rejection=0.95, **QUICK)
    assert found.p_value == pytest.approx(1 / 200)
    assert found.excess > 5 * found.floor
    assert found.excess < found.excess_upper < 2 * found.excess
    assert found.jsd.low < found.jsd.value < found.jsd.high
    assert found.in_floors > 5


@pytest.mark.parametrize("strength", [0.03, 0.12, 0.4])
def test_upper_limit_covers_the_truth(strength):
    """95 % asked; 120 toys see 88 % with a chance below 1/1000."""
    random = np.random.default_rng(17)
    passing, failing = shapes(strength)
    truth, covered, limits = jsd(passing, failing), 0, []
    for seed in range(120):
        n_pass, n_fail = random.poisson(500), random.poisson(20_000)
        place = np.concatenate(
            [random.choice(BINS, n_pass, p=passing), random.choice(BINS, n_fail, p=failing)]
        )
        spectra = Spectra.fill(place, np.ones(len(place)), passing=np.arange(len(place)) < n_pass, bins=BINS)
        observed, level = jsd(spectra.passing, spectra.failing), expected_jsd(spectra.counts, n_pass)
        draws, shrunk = spectra.replicas(observed, floor=level, size=150, seed=seed)
        bias = max(draws.mean() - shrunk, level / 2)
        limits.append(upper_limit(observed, bias=bias, variance=draws.var(), shrunk=shrunk))
        covered += limits[-1] >= truth
    assert covered / 120 > 0.88
    # Not bought by limits that say nothing.
    assert np.median(limits) < truth + 3 * floor(500, 20_000, bins=BINS)


def test_weights_that_follow_the_cut_do_not_raise_alarms():
    """Passing events light, failing ones heavy: shapes equal, effective counts not."""
    alarms, levels, values = 0, [], []
    for seed in range(60):
        random = np.random.default_rng(seed)
        logit, z = independent(seed)
        heavy = random.random(len(z)) < np.where(logit > np.quantile(logit, 0.9), 0.2, 0.8)
        found = sculpting(logit, z, rejection=0.85, weight=np.where(heavy, 1.0, 0.1), **QUICK)
        alarms += found.p_value <= 0.05
        levels.append(found.floor)
        values.append(found.jsd.value)
        assert found.n_pass_effective < found.n_pass
    assert alarms <= 8
    assert np.mean(values) == pytest.approx(np.mean(levels), rel=0.08)


def test_equal_weights_change_nothing_and_unequal_ones_agree_with_effective_counts():
    logit, z = independent(1, 20_000)
    bare, scaled = (
        sculpting(logit, z, rejection=0.9, weight=weight, **QUICK) for weight in (None, np.full(20_000, 2.5))
    )
    assert scaled.jsd.value == pytest.approx(bare.jsd.value)
    assert scaled.floor == pytest.approx(bare.floor)
    assert scaled.p_value == bare.p_value
    weighted = sculpting(
        logit, z, rejection=0.9, weight=np.random.default_rng(0).exponential(size=20_000), **QUICK
    )
    dense = floor(weighted.n_pass_effective, weighted.n_fail_effective, bins=BINS)
    assert weighted.floor == pytest.approx(dense, rel=0.06)
    assert weighted.floor > 1.7 * bare.floor


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.5, 0.8]))
def test_order_of_events_and_monotone_scores_do_not_matter(seed, rejection):
    logit, z = independent(seed, 400)
    first = sculpting(logit, z, rejection=rejection, **QUICK)
    shuffled = np.random.default_rng(seed).permutation(400)
    second = sculpting(np.exp(logit[shuffled]), z[shuffled], rejection=rejection, **QUICK)
    assert (second.jsd.value, second.floor, second.p_value) == pytest.approx(
        (first.jsd.value, first.floor, first.p_value)
    )


def test_events_outside_the_range_are_counted_and_the_upper_edge_is_inside():
    logit = np.arange(10.0)
    z = np.array([5.2, 5.29, 5.29, 5.1, 5.3, 5.25, 5.21, 5.29, 5.4, 5.25])
    found = sculpting(logit, z, rejection=0.5, **QUICK)
    assert (found.n_pass, found.n_fail) == (4, 3)
    assert (found.outside_pass, found.outside_fail) == (1, 2)
    assert found.rejection_found == pytest.approx(0.5)
    kept = sculpting(logit, z, rejection=0.5, outside="bins", **QUICK)
    assert (kept.n_pass, kept.n_fail) == (5, 5)
    assert (kept.outside_pass, kept.outside_fail) == (1, 2)


def test_many_events_outside_are_logged(caplog):
    logit, z = independent(1)
    sculpting(logit, z + 0.03, rejection=0.5, **QUICK)
    assert "outside the range" in caplog.text


def test_both_bases_and_a_json_round_trip():
    logit, z = independent(3)
    nats, bits = (sculpting(logit, z, rejection=0.9, log_base=base, **QUICK) for base in ("e", "2"))
    for name in ("floor", "excess", "excess_upper"):
        assert getattr(bits, name) == pytest.approx(getattr(nats, name) / math.log(2))
    assert bits.jsd.high == pytest.approx(nats.jsd.high / math.log(2))
    written = json.loads(json.dumps(nats.to_dict()))
    assert written["log_base"] == "e"
    assert written["bins"] == BINS
    assert {"jsd", "floor", "p_value", "n_pass", "n_fail", "range", "threshold", "weighted"} <= set(written)


def test_threshold_and_rejection_agree():
    logit, z = independent(4)
    asked = sculpting(logit, z, rejection=0.9, **QUICK)
    given_cut = sculpting(logit, z, threshold=asked.threshold, **QUICK)
    assert given_cut.jsd.value == asked.jsd.value
    assert math.isnan(given_cut.rejection)
    assert given_cut.to_dict()["rejection"] is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rejection": None}, "give a background rejection"),
        ({"rejection": 0.9999}, "no event passes"),
        ({"rejection": 1.2}, "must lie between 0 and 1"),
        ({"threshold": 99.0}, "no background events .* pass"),
        ({"threshold": -99.0}, "no background events .* fail"),
        ({"range": (6.0, 7.0)}, "nuisance's range"),
        ({"range": (6.0, 5.0)}, "at least two bins"),
        ({"outside": "ignore"}, "outside='ignore'"),
        ({"weight": np.full(3000, -1.0)}, "negative weights"),
        ({"weight": np.zeros(3000)}, "all weights are zero"),
        ({"nuisance": np.full(3000, np.nan)}, "nuisance: 3000 of 3000 values are not finite"),
        ({"logit": np.zeros(2999)}, "one value per event"),
    ],
)
def test_bad_input_says_what_to_do(change, message):
    logit, z = independent(0)
    arguments = {"logit": logit, "nuisance": z, "rejection": 0.9} | QUICK | change
    with pytest.raises(InputError, match=message):
        sculpting(**arguments)


def test_tied_scores_at_the_top_are_explained():
    with pytest.raises(InputError, match=r"shared by 100\.00% of the weight"):
        sculpting(np.zeros(100), np.linspace(*RANGE, 100), rejection=0.5, **QUICK)


@pytest.mark.parametrize("unit", [0.0, 1e-4])
def test_a_nuisance_in_one_bin_is_an_input_error(unit):
    logit, z = independent(0)
    with pytest.raises(InputError, match=r"in one bin of the nuisance.* check the nuisance's range"):
        sculpting(logit, RANGE[0] + unit * (z - RANGE[0]), rejection=0.9, **QUICK)


def test_no_events_is_an_input_error():
    with pytest.raises(InputError, match="no events"):
        sculpting([], [], rejection=0.5, **QUICK)
