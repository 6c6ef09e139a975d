from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import wasserstein_distance

from hepdecorr.errors import InputError
from hepdecorr.validation.measures import expected_jsd, jsd
from hepdecorr.validation.measures.likeness import Likeness, Sample, likeness

EDGES = np.linspace(-4, 4, 41)


def gaussian(n: int, *, shift: float = 0.0, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(shift, 1, n)


def test_distances_are_those_of_scipy_and_of_histograms() -> None:
    draw = np.random.default_rng(2)
    x, y, v, w = gaussian(500), gaussian(300, shift=0.4, seed=3), draw.random(500), draw.random(300)
    found = likeness(Sample.of_jets(x, v), Sample.of_jets(y, w), edges=EDGES, replicas=5)
    assert found.w1 is not None
    assert found.w1.value == pytest.approx(wasserstein_distance(x, y, v, w), rel=1e-12)
    spectra = (np.histogram(a, EDGES, weights=b)[0] for a, b in ((x, v), (y, w)))
    assert found.jsd.value == pytest.approx(jsd(*spectra), rel=1e-12)
    assert found.jets == (500, 300)


def test_the_floors_are_those_of_samples_of_one_population() -> None:
    x, y = gaussian(800), gaussian(400, seed=4)
    found = likeness(Sample.of_jets(x), Sample.of_jets(y), edges=EDGES)
    counts = sum(np.histogram(np.clip(a, -3.99, 3.99), EDGES)[0] for a in (x, y))
    # the exact mean over permutations
    assert found.jsd_floor == pytest.approx(expected_jsd(counts, 800), rel=0.03)
    pairs = [(gaussian(800, seed=100 + k), gaussian(400, seed=900 + k)) for k in range(200)]
    assert found.w1_floor == pytest.approx(np.mean([wasserstein_distance(*p) for p in pairs]), rel=0.12)
    assert not found.resolved
    assert found.w1_p > 0.03
    assert likeness(Sample.of_jets(x), Sample.of_jets(y + 0.3), edges=EDGES).resolved


def test_the_error_is_that_of_samples_drawn_anew() -> None:
    values = [
        wasserstein_distance(gaussian(600, seed=k), gaussian(600, shift=1, seed=5000 + k)) for k in range(200)
    ]
    found = likeness(
        Sample.of_jets(gaussian(600)), Sample.of_jets(gaussian(600, shift=1, seed=9)), edges=EDGES
    )
    assert found.w1 is not None
    assert found.w1.std == pytest.approx(np.std(values), rel=0.25)


def test_constituents_of_a_jet_go_together_and_pairs_too() -> None:
    jets, each = 300, 20
    own = gaussian(jets)
    owner, share = np.repeat(np.arange(jets), each), np.full(jets * each, 1 / each)
    one = Sample.of_parts(np.repeat(own, each), owner, np.ones(jets), share)
    alone = Sample.of_jets(own)
    other = Sample.of_jets(gaussian(jets, seed=6))
    many = likeness(one, other, edges=EDGES, replicas=50)
    few = likeness(alone, other, edges=EDGES, replicas=50)
    # twenty copies of a number in one jet are no more information than one
    assert many.w1_floor == pytest.approx(few.w1_floor, rel=1e-9)
    assert many.w1 is not None
    assert few.w1 is not None
    assert (many.w1.value, many.w1.std) == pytest.approx((few.w1.value, few.w1.std))
    # what is paired moves together: a shift by 1 is 1 in every bootstrap sample
    shifted = likeness(alone, Sample.of_jets(own + 1), edges=EDGES, paired=True, replicas=20)
    assert shifted.w1 is not None
    assert (shifted.w1.value, shifted.w1.std) == (pytest.approx(1), pytest.approx(0, abs=1e-12))
    free = likeness(alone, Sample.of_jets(own + 1), edges=EDGES, replicas=20)
    assert free.w1 is not None
    assert free.w1.std > 0.02


def test_places_have_a_divergence_and_no_distance() -> None:
    place = np.array([0.0, 1, 2, 2])
    share = np.array([0.5, 0.5, 0.25, 0.75])
    one = Sample.of_parts(place, [0, 0, 1, 1], np.ones(2), share)
    found = likeness(one, one, edges=np.arange(5) - 0.5, metric=False, replicas=5)
    assert found.w1 is None
    assert found.jsd.value == 0
    again = Likeness.from_json(found.to_json())
    assert (again.jsd, again.bins, again.w1) == (found.jsd, 4, None)


def test_faults_are_named() -> None:
    one, two = Sample.of_jets(gaussian(5)), Sample.of_jets(gaussian(4))
    with pytest.raises(InputError, match="5 and 4 jets cannot be pairs"):
        likeness(one, two, edges=EDGES, paired=True)
    with pytest.raises(InputError, match="edges must rise"):
        likeness(one, two, edges=[1, 0, 2])
    with pytest.raises(InputError, match="values: 1 of 2 values are not finite"):
        Sample.of_jets([1.0, np.nan])
