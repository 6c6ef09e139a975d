"""The quantile map against a closed form: a Gaussian score whose mean runs with the mass."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from hepdecorr.errors import InputError
from hepdecorr.validation.measures import quantile_map, rejection_factor, sculpting

SHIFT = 2.0


def toy(seed=0, background=20_000, signal=5_000):
    """Score, mass, label and weight, and the score as it would be without the mass."""
    random = np.random.default_rng(seed)
    mass = np.concatenate(
        [50 + 250 * random.beta(1.2, 3, background), np.clip(random.normal(80, 8, signal), 50, 300)]
    )
    label = np.repeat([0, 1], [background, signal])
    weight = np.where(label == 0, random.uniform(0.05, 2.7, len(label)), 1.0)
    free = random.normal(size=len(label)) + SHIFT * label
    return free * (1 + 0.002 * mass) - 0.03 * (mass - 80), mass, label, weight, free


def test_the_map_is_the_closed_form():
    score, mass, label, weight, free = toy()
    mapped = quantile_map(score, mass, label, weight=weight)
    bulk = np.abs(free) < 2.5
    expected = stats.norm.logcdf(free) - stats.norm.logsf(free)
    assert np.std((mapped - expected)[bulk]) < 0.3
    # The tail keeps its order, beyond the last background event too.
    assert np.corrcoef(mapped, expected)[0, 1] > 0.98
    far = quantile_map(
        np.append(score, [40.0, 50.0]), np.append(mass, [80.0, 80.0]), np.append(label, [1, 1])
    )
    assert far[-2] > np.quantile(far[:-2], 0.999)
    assert np.all(np.isfinite(far))


def test_mapped_scores_do_not_sculpt_and_keep_their_rejection():
    score, mass, label, weight, free = toy(1)
    mapped = quantile_map(score, mass, label, weight=weight)
    factors, measured = [], []
    for logit in (score, mapped, free):
        factors.append(rejection_factor(logit, label, weight=weight))
        cut = np.median(logit[label == 1])
        b = label == 0
        measured.append(
            sculpting(
                logit[b],
                mass[b],
                weight=weight[b],
                threshold=cut,
                range=(50, 300),
                permutations=300,
                replicas=100,
            )
        )
    assert measured[0].p_value < 0.01
    assert measured[1].jsd.value < 1.6 * measured[1].floor
    assert measured[1].jsd.value < measured[0].jsd.value / 10
    assert factors[1].value == pytest.approx(1 / stats.norm.sf(SHIFT), rel=0.2)
    assert factors[1].value == pytest.approx(factors[2].value, rel=0.12)


def test_no_event_has_a_part_in_its_own_map():
    score, mass, label, weight, _ = toy(2, 2000, 500)
    half = np.arange(len(score)) % 2 == 0
    first = quantile_map(score, mass, label, weight=weight, half=half)
    moved = np.where(half, score + 3.0, score)
    second = quantile_map(moved, mass, label, weight=weight, half=half)
    # The first half's map comes from the second, which has not moved: 3 higher everywhere, so ever higher.
    assert np.all(second[half] > first[half])
    # A half mapped by background that lies 3 higher falls.
    assert np.all(second[~half] < first[~half])
    again = quantile_map(score, mass, label, weight=weight, half=half)
    np.testing.assert_array_equal(again, first)
    weighted = quantile_map(score, mass, label, weight=2 * weight, half=half)
    np.testing.assert_allclose(weighted, first, rtol=1e-6, atol=1e-6)


def test_a_map_is_monotone_at_fixed_mass():
    score, mass, label, weight, _ = toy(3, 3000, 500)
    grid = np.linspace(-8, 12, 200)
    logit = np.concatenate([score, grid])
    z, y = np.concatenate([mass, np.full(200, 120.0)]), np.concatenate([label, np.ones(200)])
    half = np.concatenate([np.arange(len(score)) % 2 == 0, np.zeros(200, dtype=bool)])
    mapped = quantile_map(logit, z, y, weight=np.concatenate([weight, np.ones(200)]), half=half)[-200:]
    assert np.all(np.diff(mapped) > 0)


def test_scores_of_two_values_are_mapped_too():
    random = np.random.default_rng(0)
    score, mass = np.repeat([0.0, 1.0], 500), np.full(1000, 90.0)
    mass[:] = random.permutation(np.linspace(50, 300, 1000))
    label = (random.random(1000) < 0.2).astype(float)
    mapped = quantile_map(score, mass, label)
    assert np.all(np.isfinite(mapped))
    assert np.mean(mapped[score == 1]) > np.mean(mapped[score == 0]) + 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"half": np.zeros(900, dtype=bool)}, "0 background events in one half"),
        ({"half": np.zeros(900)}, "a boolean for each"),
        ({"nuisance": np.ones(900)}, "nuisance is constant"),
        ({"label": np.ones(900)}, "no background"),
        ({"logit": np.full(900, np.nan)}, "logit: 900 of 900"),
    ],
)
def test_unusable_input_is_explained(change, message):
    score, mass, label, _, _ = toy(4, 600, 300)
    with pytest.raises(InputError, match=message):
        quantile_map(**{"logit": score, "nuisance": mass, "label": label} | change)
