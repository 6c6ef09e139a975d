"""The closure of the ABCD method."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from hepdecorr.errors import InputError
from hepdecorr.validation.measures import abcd, regions
from hepdecorr.validation.plots import abcd_closure


def plane(rows: int, *, rho: float, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    label = (np.arange(rows) % 5 == 0).astype(int)
    f, other = draw.normal(size=(2, rows))
    g = rho * f + np.sqrt(1 - rho**2) * other
    return f + 2 * label, g + 2 * label, label


def test_the_pull_of_independent_scores_is_that_of_a_unit_gaussian() -> None:
    pulls = [abcd(*plane(2000, rho=0.0, seed=seed), rejections=(0.7,)).regions[0].pull for seed in range(300)]
    assert np.mean(pulls) == pytest.approx(0, abs=0.2)
    # The cuts stand at quantiles of the same events, so that the table's margins are fixed: Fisher's case.
    assert np.std(pulls) == pytest.approx(1, abs=0.15)


def test_the_prediction_is_right_for_independent_scores_and_wrong_for_dependent_ones() -> None:
    scan = abcd(*plane(40_000, rho=0.0, seed=1))
    for rejection, one in zip(scan.rejections, scan.regions, strict=True):
        n = 32_000 * (1 - rejection) ** 2
        assert one.predicted.value == pytest.approx(n, rel=0.1)
        assert abs(one.pull) < 3.5
        a, b, c, d = one.background
        assert a + b + c + d == 32_000
        assert one.closure.value == pytest.approx(b * c / d / a)
        table = stats.contingency.odds_ratio(np.array([[a, b], [c, d]], int), kind="sample").statistic
        assert one.closure.value == pytest.approx(1 / table)
    dependent = abcd(*plane(40_000, rho=0.5, seed=1)).worst
    assert dependent.closure.value < 0.6
    assert dependent.pull > 10


def test_signal_in_the_control_regions() -> None:
    f, g, label = plane(40_000, rho=0.0, seed=2)
    one = regions(f, g, label, cuts=(1.0, 1.0))
    share = stats.norm.sf(1 - 2)
    assert one.signal_efficiency == pytest.approx(share**2, abs=0.02)
    assert one.background_efficiency == pytest.approx(stats.norm.sf(1) ** 2, rel=0.1)
    ratios = np.array(one.signal) / np.array(one.background)
    assert one.contamination == pytest.approx(ratios[1:].max() / ratios[0])
    assert 0 < one.contamination < 0.2
    assert one.with_signal > one.closure.value


def test_weights_are_events() -> None:
    f, g, label = plane(4000, rho=0.2, seed=3)
    weight = np.random.default_rng(1).integers(0, 3, 4000).astype(float)
    again = np.repeat(np.arange(4000), weight.astype(int))
    weighted = regions(f, g, label, cuts=(0.5, 0.5), weight=weight)
    repeated = regions(f[again], g[again], label[again], cuts=(0.5, 0.5))
    assert weighted.closure.value == pytest.approx(repeated.closure.value)
    assert weighted.background == repeated.background
    assert weighted.closure.std > repeated.closure.std
    assert weighted.to_dict()["observed"]["value"] == weighted.background[0]


def test_faults_are_named() -> None:
    f, g, label = plane(200, rho=0.0, seed=1)
    with pytest.raises(InputError, match="no background in region A at cuts 9 and 9"):
        regions(f, g, label, cuts=(9, 9))
    with pytest.raises(InputError, match=r"at no rejection of .*0.99.* is there background in all four"):
        abcd(f, -f * (label == 0), label, rejections=(0.99,))


def test_the_figure_draws_every_tagger() -> None:
    scans = {f"rho {rho}": abcd(*plane(4000, rho=rho, seed=1)) for rho in (0.0, 0.3)}
    figure = abcd_closure(scans)
    above, below = figure.axes
    assert [t.get_text() for t in above.get_legend().get_texts()] == list(scans)
    assert len(below.lines) == 2
    with pytest.raises(InputError, match="no tagger given"):
        abcd_closure({})
