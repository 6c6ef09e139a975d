"""JSD against scipy, its floor against enumeration and simulation."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon

from hepdecorr.errors import InputError
from hepdecorr.validation.measures import expected_jsd, floor, jsd

contents = st.lists(st.integers(0, 1000), min_size=6, max_size=6).filter(any)


@given(contents, contents)
def test_jsd_agrees_with_scipy_and_is_a_symmetric_bounded_divergence(p, f):
    value = jsd(p, f)
    assert value == pytest.approx(jensenshannon(p, f) ** 2, abs=1e-12)
    assert value == pytest.approx(jsd(f, p), abs=1e-14)
    assert 0 <= value <= math.log(2) + 1e-12
    assert jsd(p, f, log_base="2") == pytest.approx(value / math.log(2))
    assert jsd(np.multiply(p, 7.5), f) == pytest.approx(value, abs=1e-12)


def test_jsd_of_disjoint_spectra_is_one_bit():
    assert jsd([1, 0], [0, 3], log_base="2") == pytest.approx(1.0)


def test_jsd_works_on_many_spectra_at_once():
    p, f = np.array([[1, 2, 3], [5, 0, 1]]), np.array([[3, 2, 1], [1, 1, 4]])
    assert jsd(p, f) == pytest.approx([jsd(p[0], f[0]), jsd(p[1], f[1])])


@pytest.mark.parametrize(
    ("bins", "n_pass", "n_fail", "published"), [(32, 900, 180_000, 0.00433), (50, 1000, 20_000, 0.0064)]
)
def test_floor_has_its_closed_form(bins, n_pass, n_fail, published):
    assert floor(n_pass, n_fail, bins=bins) == pytest.approx(published, rel=0.01)
    assert floor(n_pass, n_fail, bins=bins, log_base="2") == pytest.approx(published / math.log(2), rel=0.01)


def test_expected_jsd_is_the_mean_over_all_permutations():
    counts, n_pass = np.array([3, 2, 0, 2]), 3
    events = np.repeat(np.arange(4), counts)
    every = [
        jsd(
            np.bincount(events[list(passing)], minlength=4),
            counts - np.bincount(events[list(passing)], minlength=4),
        )
        for passing in itertools.combinations(range(len(events)), n_pass)
    ]
    assert expected_jsd(counts, n_pass) == pytest.approx(np.mean(every), rel=1e-9)


@pytest.mark.parametrize(("events", "n_pass"), [(100_000, 5000), (20_000, 1000), (20_000, 60), (1500, 300)])
def test_expected_jsd_agrees_with_simulation_however_sparse(events, n_pass):
    random = np.random.default_rng(1)
    counts = np.histogram(random.beta(2, 1.2, events), bins=50, range=(0, 1))[0]
    drawn = random.multivariate_hypergeometric(counts, n_pass, size=4000, method="marginals")
    simulated = np.mean(jsd(drawn, counts - drawn))
    assert expected_jsd(counts, n_pass) == pytest.approx(simulated, rel=0.02)
    if n_pass >= 1000:
        assert floor(n_pass, events - n_pass, bins=50) == pytest.approx(simulated, rel=0.05)


def test_bad_input_is_named():
    with pytest.raises(InputError, match="empty"):
        jsd([0, 0], [1, 2])
    with pytest.raises(InputError, match="'e' \\(nats\\) or '2'"):
        jsd([1, 2], [1, 2], log_base="10")
    with pytest.raises(InputError, match="both spectra need events"):
        expected_jsd([3, 4], 7)
