"""The exact posterior of exam scores against simulation and plain integration."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from hepdecorr.samples.exam_scores import Options
from hepdecorr.samples.exam_scores import process as generated
from hepdecorr.samples.exam_scores.distribution import draw
from hepdecorr.validation.measures.codes import partners
from hepdecorr.validation.measures.exam_scores import Exact, floors
from hepdecorr.validation.measures.processes import exam_scores

NOISE = 0.5


@pytest.fixture(scope="module")
def schools():
    return draw(1500, np.random.default_rng(11), Options(noise=NOISE))


@pytest.fixture(scope="module")
def exact(schools):
    return Exact.of(schools.x, schools.school, noise=NOISE)


def assert_same(squares, variances, *, sigmas=4.0):
    """Squared errors have the mean of the variances that were told."""
    assert np.mean(squares) == pytest.approx(
        np.mean(variances), abs=sigmas * np.std(squares - variances) / np.sqrt(len(squares))
    )


def test_it_is_the_process_of_the_sample(schools) -> None:
    group = np.stack([schools.mu, schools.sigma], axis=1)
    found = exam_scores(group, schools.v[:, None])
    np.testing.assert_allclose(found[:, 0], generated(schools.mu, schools.sigma, schools.v))


def test_likelihood_and_means_are_those_of_a_plain_integral() -> None:
    x = np.array([1.0, -0.5, 2.5])
    found = Exact.of(x, np.zeros(3, dtype=np.int64), noise=NOISE)
    mu, sigma = np.meshgrid(np.linspace(-6, 6, 481), np.linspace(-6, 6, 481), indexing="ij")
    slope = sigma**2 + 1
    spread = np.sqrt(slope**2 + NOISE**2)
    joint = stats.norm.pdf(mu) * stats.norm.pdf(sigma) * 0.025**2
    for one in x:
        joint = joint * stats.norm.pdf(one, 2 * mu, spread)
    assert found.log_likelihood[0] == pytest.approx(np.log(joint.sum()), abs=1e-5)
    share = joint / joint.sum()
    own = slope * (x[0] - 2 * mu) / spread**2  # E[v|x, mu, sigma]
    for value, told in ((mu, found.mu), (sigma**2, found.square), (own, found.v)):
        assert told[0] == pytest.approx((share * value).sum(), abs=1e-5)
    variance = (share * (own**2 + NOISE**2 / spread**2)).sum() - found.v[0] ** 2
    assert found.v_var[0] == pytest.approx(variance, abs=1e-5)


def test_errors_are_as_large_as_the_posterior_says(schools, exact) -> None:
    first = schools.student == 1
    assert_same(np.square(exact.mu - schools.mu[first]), exact.mu_var)
    assert_same(np.square(exact.square - schools.sigma[first] ** 2), exact.square_var)
    assert_same(np.square(exact.v - schools.v)[first], exact.v_var[first])


def test_the_floor_of_translation_is_the_error_of_the_best_guess(schools, exact) -> None:
    pairs = partners(1500)
    found = floors(exact, schools.school, pairs)
    first = schools.student == 1
    target = pairs.target[schools.school]
    best = 2 * exact.mu[target] + (exact.square[target] + 1) * exact.v
    true = generated(schools.mu[first][target], schools.sigma[first][target], schools.v)
    made = found["translation_means"]
    assert np.mean(np.square(best - true)) == pytest.approx(made.value, abs=5 * made.std)
    assert found["translation"].value == pytest.approx(2 * made.value)
    assert found["likelihood"].value == pytest.approx(exact.log_likelihood.sum() / len(schools.x))
    # Half of what is asked, the sign of sigma, nobody knows.
    assert 0.5 < found["u_probe"].value < 0.55
