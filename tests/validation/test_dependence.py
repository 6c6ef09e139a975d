"""Distance correlation against the dcor package, brute force and the Gaussian closed form."""

from __future__ import annotations

import math

import dcor
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from hepdecorr.errors import InputError
from hepdecorr.validation.measures import dcor2, mig, rank_correlation
from hepdecorr.validation.measures.distances import distances, products, squared_distances


def pair(seed, size, rho=0.0):
    random = np.random.default_rng(seed)
    x = random.normal(size=size)
    return x, rho * x + math.sqrt(1 - rho**2) * random.normal(size=size)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10_000), st.integers(4, 60), st.sampled_from([None, 0, 1]))
def test_fast_sums_agree_with_brute_force(seed, size, decimals):
    x, z = pair(seed, size, 0.4)
    if decimals is not None:
        x, z = np.round(x, decimals), np.round(z, decimals)
    v = np.random.default_rng(seed).random(size)
    a, b = np.abs(x[:, None] - x), np.abs(z[:, None] - z)
    np.testing.assert_allclose(distances(x, v), a @ v, atol=1e-10)
    np.testing.assert_allclose(squared_distances(x, v), a**2 @ v, atol=1e-10)
    np.testing.assert_allclose(products(x, z, v), (a * b) @ v, atol=1e-10)


@pytest.mark.parametrize(("seed", "size", "rho"), [(0, 50, 0.0), (1, 400, 0.5), (2, 1000, -0.9)])
def test_value_agrees_with_dcor(seed, size, rho):
    x, z = pair(seed, size, rho)
    expected = dcor.u_distance_correlation_sqr(x, z)
    assert dcor2(x, z, permutations=1).dcor2.value == pytest.approx(expected, abs=1e-10)
    assert dcor2(5 * x - 3, -2 * z, permutations=1).dcor2.value == pytest.approx(expected, abs=1e-10)


def test_ties_agree_with_dcor():
    x, z = (np.round(one) for one in pair(3, 300, 0.6))
    assert dcor2(x, z, permutations=1).dcor2.value == pytest.approx(
        dcor.u_distance_correlation_sqr(x, z), abs=1e-10
    )


def test_weighted_value_by_brute_force_over_distinct_events():
    x, z = pair(4, 7, 0.7)
    w = np.random.default_rng(0).random(7)

    def covariance(x, z):
        a, b = np.abs(x[:, None] - x), np.abs(z[:, None] - z)
        sums = np.zeros((3, 2))
        for i in range(7):
            for j in set(range(7)) - {i}:
                sums[0] += w[i] * w[j] * np.array([a[i, j] * b[i, j], 1])
                for k in set(range(7)) - {i, j}:
                    sums[1] += w[i] * w[j] * w[k] * np.array([a[i, j] * b[i, k], 1])
                    for m in set(range(7)) - {i, j, k}:
                        sums[2] += w[i] * w[j] * w[k] * w[m] * np.array([a[i, j] * b[k, m], 1])
        one, two, three = sums[:, 0] / sums[:, 1]
        return one - 2 * two + three

    expected = covariance(x, z) / math.sqrt(covariance(x, x) * covariance(z, z))
    assert dcor2(x, z, weight=w, permutations=1).dcor2.value == pytest.approx(expected, rel=1e-9)


def test_gaussian_closed_form():
    rho = 0.5
    expected = (
        rho * math.asin(rho) + math.sqrt(1 - rho**2) - rho * math.asin(rho / 2) - math.sqrt(4 - rho**2) + 1
    )
    expected /= 1 + math.pi / 3 - math.sqrt(3)
    found = dcor2(*pair(7, 40_000, rho), permutations=2)
    assert abs(found.dcor2.value - expected) < 3.5 * found.dcor2.std
    assert found.dcor2.std < 0.005


def test_error_is_the_spread_and_the_mean_is_unbiased_under_weights():
    values, errors = [], []
    for seed in range(80):
        x, z = pair(seed, 300)
        weight = np.where(z > 0, 1.0, 0.2) * np.random.default_rng(seed).exponential(size=300)
        found = dcor2(x, z, weight=weight, permutations=10, seed=seed).dcor2
        values.append(found.value)
        errors.append(found.std)
    assert abs(np.mean(values)) < 3.5 * np.std(values) / math.sqrt(80)
    dependent = [dcor2(*pair(seed, 300, 0.5), permutations=5).dcor2 for seed in range(80)]
    assert np.mean([one.std for one in dependent]) == pytest.approx(
        np.std([one.value for one in dependent]), rel=0.25
    )


def test_permutation_p_value():
    p_values = [dcor2(*pair(seed, 150), permutations=39, seed=seed).p_value for seed in range(60)]
    assert 0.4 < np.mean(p_values) < 0.6
    assert np.mean(np.array(p_values) <= 0.05) < 0.2
    # Not linear: a correlation coefficient would see nothing.
    x, _ = pair(0, 500)
    found = dcor2(x, x**2, permutations=99, tested=300)
    assert found.p_value == pytest.approx(0.01)
    assert (found.events, found.tested) == (500, 300)


def test_constant_and_few_values_are_refused():
    with pytest.raises(InputError, match="z is constant"):
        dcor2(np.arange(9.0), np.ones(9))
    with pytest.raises(InputError, match="fewer than four"):
        dcor2([1.0, 2.0], [2.0, 1.0])


def test_mig_of_an_informative_and_of_a_useless_latent():
    random = np.random.default_rng(0)
    v = random.normal(size=20_000)
    rho = 0.9
    latent = np.stack(
        [random.normal(size=20_000), rho * v + math.sqrt(1 - rho**2) * random.normal(size=20_000)], axis=1
    )
    found = mig(latent, v, replicas=10)
    assert found.entropy == pytest.approx([math.log(20)], rel=1e-3)
    # Binning loses a little of -1/2 ln(1 - rho^2).
    assert found.information[1, 0] == pytest.approx(-0.5 * math.log(1 - rho**2), rel=0.08)
    assert found.information[0, 0] == pytest.approx(0.0, abs=0.003)
    expected = (found.information[1, 0] - found.information[0, 0]) / math.log(20)
    assert found.mig.value == pytest.approx(expected, rel=1e-6)
    assert found.mig.low <= found.mig.value <= found.mig.high
    useless = mig(random.normal(size=(20_000, 2)), v, replicas=5)
    assert useless.mig.value < 0.003


def test_mig_needs_two_latents():
    with pytest.raises(InputError, match="at least two"):
        mig(np.ones((10, 1)), np.arange(10.0))


def test_rank_correlation_is_scipys_and_that_of_a_gaussian() -> None:
    """Ties included; of a Gaussian 6/pi asin(rho/2) (Pearson 1907), its error 1/root n at independence."""
    x, z = pair(5, 20_000, 0.6)
    found = rank_correlation(np.exp(x), z)
    assert found.value == pytest.approx(6 / math.pi * math.asin(0.3), abs=4 * found.std)
    assert 0.5 / math.sqrt(20_000) < found.std < 1 / math.sqrt(20_000)
    tied = np.round(x)
    assert rank_correlation(tied, z, replicas=2).value == pytest.approx(
        stats.spearmanr(tied, z)[0], abs=1e-12
    )
    x, z = pair(6, 4000)
    assert rank_correlation(x, z).std == pytest.approx(1 / math.sqrt(4000), rel=0.2)


def test_weights_of_a_rank_correlation_repeat_events() -> None:
    x, z = pair(7, 300, 0.4)
    times = np.random.default_rng(1).integers(0, 4, 300)
    weighted = rank_correlation(x, z, weight=times, replicas=2).value
    # Against the formula for ties, in which repeated events share their rank.
    assert weighted == pytest.approx(stats.spearmanr(np.repeat(x, times), np.repeat(z, times))[0], abs=1e-12)
    with pytest.raises(InputError, match="x is constant"):
        rank_correlation(np.ones(5), np.arange(5))
