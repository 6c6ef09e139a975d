"""Differences between trainings against known tests."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from hepdecorr.validation.measures.code_differences import code_differences


def test_a_shift_of_all_seeds_is_resolved_and_chance_is_not() -> None:
    random = np.random.default_rng(1)
    noise = random.standard_normal(20)
    values = {
        "one": dict(enumerate(noise)),
        "higher": dict(enumerate(noise + 1 + 0.1 * random.standard_normal(20))),
        "other": dict(enumerate(random.permutation(noise) + 0.01 * random.standard_normal(20))),
    }
    found = {(d.first, d.second): d for d in code_differences(values, figure="u_probe")}
    assert len(found) == 3
    clear = found["one", "higher"]
    assert clear.resolved
    assert clear.value.low < -1 < clear.value.high < -0.9
    # By hand: all twenty differences have one sign.
    assert clear.p_value == pytest.approx(2 * 0.5**20)
    assert clear.p_holm == pytest.approx(3 * clear.p_value)
    assert not found["one", "other"].resolved
    apart = np.array(list(values["one"].values())) - np.array(list(values["other"].values()))
    assert found["one", "other"].p_value == pytest.approx(stats.wilcoxon(apart, mode="exact").pvalue)
    interval = stats.t.interval(0.95, 19, apart.mean(), stats.sem(apart))
    assert (found["one", "other"].value.low, found["one", "other"].value.high) == pytest.approx(interval)


def test_few_seeds_resolve_nothing_however_far_apart() -> None:
    values = {"a": {1: 0.0, 2: 0.1, 3: 0.2, 9: 5.0}, "b": {1: 10.0, 2: 11.0, 3: 12.5, 4: 0.0}}
    (found,) = code_differences(values, figure="translation")
    assert found.seeds == 3
    assert found.p_value == pytest.approx(0.25)
    assert not found.resolved
    assert code_differences({"a": {1: 0.0}, "b": {2: 0.0}}, figure="translation") == []
    (same,) = code_differences({"a": {1: 2.0}, "b": {1: 2.0}}, figure="translation")
    assert same.p_value == 1
    assert np.isnan(same.value.low)
