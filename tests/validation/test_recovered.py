"""Codes against true conditions: a map, its errors and pulls, from codes whose posterior is known."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from hepdecorr.errors import InputError
from hepdecorr.validation.measures.recovered import Codes, Recovered, recovered, told, under

WIDTH = 0.01  # of the true condition
HALF = 20.0  # events that know as much as the prior


def codes(random, *, groups=200, factor=1.0, few=50, many=600):
    """Codes of a normal condition seen through normal noise: the posterior in closed form.

    The second number of the code tells nothing. factor: stated over true deviation.
    """
    counts = random.integers(few, many, groups)
    truth = WIDTH * random.normal(size=groups)
    shrink = counts / (counts + HALF)
    seen = truth + WIDTH * np.sqrt(HALF / counts) * random.normal(size=groups)
    deviation = WIDTH * np.sqrt(1 - shrink)
    # The other tells groups apart, but not by the condition.
    mean = np.stack([3 - 200 * shrink * seen, random.normal(size=groups)], axis=1)
    log_var = np.stack([2 * np.log(200 * factor * deviation), np.full(groups, -9.0)], axis=1)
    return Codes.of(mean, log_var, truth, counts)


def test_the_map_is_least_squares_and_the_figures_are_their_formulas():
    random = np.random.default_rng(0)
    fit, test = codes(random), codes(random)
    found = recovered(fit, test, replicas=50)
    design = [np.column_stack([np.ones(len(one.truth)), one.mean]) for one in (fit, test)]
    beta = np.linalg.lstsq(design[0], fit.truth, rcond=None)[0]
    assert (found.offset, *found.slopes) == pytest.approx(tuple(beta))
    value = design[1] @ beta
    assert found.correlation.value == pytest.approx(np.corrcoef(value, test.truth)[0, 1])
    assert found.resolution.value == pytest.approx(np.sqrt(np.mean((value - test.truth) ** 2)))
    assert found.bias.value == pytest.approx(np.mean(value - test.truth))
    deviation = np.sqrt((beta[1:] ** 2 * test.variance).sum(axis=1))
    pull = (value - test.truth) / deviation
    assert found.pull_mean.value == pytest.approx(pull.mean())
    assert found.pull_width.value == pytest.approx(pull.std())
    assert found.coverage["68.3"].value == pytest.approx(np.mean(np.abs(pull) < 1))
    alone = []
    for one in range(200):
        others = np.arange(200) != one
        left = np.linalg.lstsq(design[0][others], fit.truth[others], rcond=None)[0]
        alone.append(design[0][one] @ left - fit.truth[one])
    own = np.array(alone) / np.sqrt((beta[1:] ** 2 * fit.variance).sum(axis=1))
    assert found.calibration.value == pytest.approx(np.sqrt(np.mean(own**2)))
    assert found.calibrated_width.value == pytest.approx(pull.std() / found.calibration.value)
    np.testing.assert_allclose(under(fit, test).pull, pull / found.calibration.value)
    assert (found.groups, found.fitted_on) == (200, 200)
    assert Recovered.from_json(found.to_json()) == found


def test_a_true_posterior_has_pulls_of_width_one():
    random = np.random.default_rng(1)
    found = recovered(codes(random, groups=3000), codes(random, groups=3000), replicas=100)
    assert found.pull_width.value == pytest.approx(1, abs=0.05)
    assert found.calibration.value == pytest.approx(1, abs=0.05)
    assert found.coverage["68.3"].value == pytest.approx(0.683, abs=0.03)
    assert found.coverage["95.4"].value == pytest.approx(0.954, abs=0.015)
    # Of the code's numbers one tells, with the slope that undoes its scale.
    assert found.slopes[0] == pytest.approx(-1 / 200, rel=0.03)
    assert found.slopes[1] == pytest.approx(0, abs=2e-4)


def test_a_posterior_that_is_too_narrow_is_calibrated():
    random = np.random.default_rng(2)
    found = recovered(
        codes(random, groups=1000, factor=0.5), codes(random, groups=1000, factor=0.5), replicas=100
    )
    assert found.pull_width.value == pytest.approx(2, abs=0.15)
    assert found.calibrated_width.value == pytest.approx(1, abs=0.06)
    assert found.coverage["68.3"].value < 0.45
    assert found.calibrated_coverage["68.3"].value == pytest.approx(0.683, abs=0.05)


def test_errors_are_those_of_repeated_samples():
    random = np.random.default_rng(3)
    many = [recovered(codes(random), codes(random), replicas=100, seed=k) for k in range(120)]
    names = (
        "correlation",
        "resolution",
        "bias",
        "calibration",
        "pull_mean",
        "pull_width",
        "calibrated_width",
    )
    for name in names:
        found = [getattr(one, name) for one in many]
        spread = np.std([one.value for one in found])
        assert np.mean([one.std for one in found]) == pytest.approx(spread, rel=0.25), name


def test_larger_groups_are_known_better_and_are_said_to_be():
    random = np.random.default_rng(4)
    found = recovered(codes(random, groups=800), codes(random, groups=800), replicas=50).by_size
    assert [one.groups for one in found] == pytest.approx([200] * 4, abs=12)
    assert all(one.high < other.low for one, other in itertools.pairwise(found))
    resolutions = [one.resolution.value for one in found]
    assert resolutions == sorted(resolutions, reverse=True)
    for one in found:
        assert one.stated == pytest.approx(one.resolution.value, rel=0.2)
        assert one.pull_width.value == pytest.approx(1, abs=0.2)
    # All of one size are one slice.
    (only,) = recovered(codes(random), codes(random, few=99, many=100), replicas=20).by_size
    assert (only.low, only.high, only.groups) == (99, 99, 200)


def test_a_code_that_tells_nothing_leaves_the_spread_of_the_truth():
    random = np.random.default_rng(5)
    fit, test = codes(random), codes(random)
    blind = [
        Codes.of(one.mean[:, 1:], np.log(one.variance[:, 1:]), one.truth, one.counts) for one in (fit, test)
    ]
    found = recovered(*blind, replicas=200)
    assert abs(found.correlation.value) < 4 * found.correlation.std
    assert found.resolution.value == pytest.approx(found.truth_spread, rel=0.05)


def test_a_latent_that_has_vanished_states_no_error():
    """Its mean is all but 0 and its variance 1, that of the prior: the slope that noise gives it is steep."""
    random = np.random.default_rng(8)
    pair = []
    for _ in range(2):
        one = codes(random)
        mean = np.column_stack([one.mean[:, 0], 0.01 * random.normal(size=200)])
        log_var = np.column_stack([np.log(one.variance[:, 0]), np.full(200, -0.05)])
        pair.append(Codes.of(mean, log_var, one.truth, one.counts))
    found = recovered(*pair, replicas=50)
    assert list(told(pair[0])) == [True, False]
    assert found.slopes[1] ** 2 > 2 * WIDTH**2 * HALF / 300  # what it would add to the variance
    assert found.calibration.value == pytest.approx(1, abs=0.15)
    assert found.pull_width.value == pytest.approx(1, abs=0.15)
    # Of several that tell nothing the best does.
    none = [Codes.of(one.mean[:, 1:], np.log(one.variance[:, 1:]), one.truth, one.counts) for one in pair]
    assert recovered(*none, replicas=20).calibration.value > 0


def test_bad_codes_are_named():
    good = codes(np.random.default_rng(6))
    with pytest.raises(InputError, match="5 groups to fit a map of 3 numbers"):
        recovered(codes(np.random.default_rng(7), groups=5), good)
    flat = Codes.of(good.mean, np.log(good.variance), np.ones(200), good.counts)
    with pytest.raises(InputError, match="the same in all groups; there is nothing to recover"):
        recovered(good, flat)
    still = Codes.of(np.ones_like(good.mean), np.log(good.variance), good.truth, good.counts)
    with pytest.raises(InputError, match="it tells nothing of any condition"):
        recovered(still, good)
    with pytest.raises(InputError, match="of two taggers"):
        recovered(good, Codes.of(good.mean[:, :1], np.log(good.variance[:, :1]), good.truth, good.counts))
    with pytest.raises(InputError, match=r"\(groups, d\) twice"):
        Codes.of(good.mean, good.variance, good.truth[:-1], good.counts)
    with pytest.raises(InputError, match="1 values of truth are not finite"):
        Codes.of(good.mean, good.variance, np.where(np.arange(200) == 3, np.nan, good.truth), good.counts)
