"""Sums over groups are those of exact arithmetic, however the events are divided."""

from __future__ import annotations

import math
import pickle
import time
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from coffea.processor import accumulate
from hypothesis import given, settings
from hypothesis import strategies as st

from hepdecorr.errors import InputError
from hepdecorr.sums import GroupSums

values = st.floats(-(2.0**31), 2.0**31, width=32)
events = st.lists(st.tuples(st.integers(-(2**63), 2**63 - 1) | st.integers(0, 3), values), max_size=40)


def summed(rows: list[tuple[int, float]]) -> GroupSums:
    ids, x = np.array([r[0] for r in rows], np.int64), np.array([[r[1], -1.0] for r in rows], np.float32)
    return GroupSums.of(ids, x.reshape(len(rows), 2))


@settings(deadline=None, max_examples=80)
@given(rows=events, cuts=st.lists(st.integers(0, 40), max_size=4), seed=st.integers(0, 100))
def test_any_division_and_order_gives_the_same(
    rows: list[tuple[int, float]], cuts: list[int], seed: int
) -> None:
    whole = summed(rows)
    mixed = [rows[i] for i in np.random.default_rng(seed).permutation(len(rows))]
    edges = [0, *sorted(min(c, len(rows)) for c in cuts), len(rows)]
    parts = [summed(mixed[a:b]) for a, b in pairwise(edges)]
    assert accumulate(parts) == whole
    assert accumulate(parts[::-1]) == whole
    nested = parts[0]
    for part in parts[1:]:
        nested = part + nested
    assert nested == whole
    np.testing.assert_array_equal(nested.sums, whole.sums)
    assert nested.ids.tolist() == sorted({r[0] for r in rows})


@settings(deadline=None, max_examples=80)
@given(rows=events)
def test_a_sum_is_that_of_fractions(rows: list[tuple[int, float]]) -> None:
    found = summed(rows)
    for k, group in enumerate(found.ids.tolist()):
        own = [np.float32(r[1]) for r in rows if r[0] == group]
        exact = float(sum((Fraction(float(v)) for v in own), Fraction(0)))
        # Each is rounded to 2^-40 where it is smaller than 2^-16, and the sum once to a float64.
        assert found.sums[k, 0] == pytest.approx(exact, rel=2**-52, abs=len(own) * 2**-41)
        assert found.counts[k] == len(own) == -found.sums[k, 1]


def test_what_a_float64_would_lose_is_there() -> None:
    big, small = np.float32(2.0**30), np.float32(2.0**-35)
    x = np.array([[big], [small], [-big]], np.float32)
    assert float(x[:, 0].astype("f8").sum()) == 0  # 65 digits
    assert GroupSums.of(np.zeros(3, np.int64), x).sums[0, 0] == small


def test_order_matters_to_floats_and_not_here() -> None:
    draw = np.random.default_rng(1)
    x = (draw.choice([-1, 1], (4000, 1)) * 10 ** draw.uniform(-3, 6, (4000, 1))).astype(np.float32)
    ids = np.zeros(4000, np.int64)
    parts = [x[:1500], x[1500:1501], x[1501:]]
    plain = {sum(float(p.astype("f8").sum()) for p in order) for order in (parts, parts[::-1])}
    plain |= {float(x.astype("f8")[::-1].sum()), float(x.astype("f8").cumsum()[-1])}
    assert len(plain) > 1
    assert GroupSums.of(ids, x).sums[0, 0] == math.fsum(x[:, 0].astype("f8"))


def test_what_cannot_be_summed_is_refused() -> None:
    ids, x = np.arange(3), np.ones((3, 2), np.float32)
    for bad in (np.nan, np.inf, 2.0**32):
        wrong = x.copy()
        wrong[1, 1] = bad
        with pytest.raises(InputError, match=r"summand 1 is .* in row 1"):
            GroupSums.of(ids, wrong)
    with pytest.raises(InputError, match="named by integers, not by float64"):
        GroupSums.of(ids.astype(float), x)
    with pytest.raises(InputError, match=r"ids of shape \(2,\)"):
        GroupSums.of(ids[:2], x)
    with pytest.raises(InputError, match="of different taggers"):
        GroupSums.of(ids, x, tagger="a") + GroupSums.of(ids, x, tagger="b")
    with pytest.raises(InputError, match="with 1 and 2 summands"):
        _ = (GroupSums.of(ids, x) + GroupSums.of(ids, x[:, :1])).sums


def test_it_travels_and_is_kept() -> None:
    parts = [GroupSums.of(np.arange(k, k + 4), np.full((4, 3), k, np.float32), tagger="t") for k in range(3)]
    whole = accumulate(parts)
    assert pickle.loads(pickle.dumps(whole)) == whole == GroupSums.from_arrays(whole.arrays(), tagger="t")
    assert len(whole) == 6
    assert whole != parts[0]
    assert [len(p) for p in parts] == [4, 4, 4]  # merging leaves what is merged as it was


def test_many_groups_in_many_chunks_cost_little() -> None:
    draw = np.random.default_rng(1)
    ids, x = draw.integers(0, 50_000, 200_000), draw.normal(size=(200_000, 8)).astype(np.float32)
    start = time.process_time()
    parts = [GroupSums.of(ids[k : k + 2000], x[k : k + 2000]) for k in range(0, len(ids), 2000)]
    whole = accumulate(parts)
    assert len(whole) == len(np.unique(ids))
    assert time.process_time() - start < 5
    one = ids == ids[0]
    np.testing.assert_allclose(whole.sums[whole.ids == ids[0]][0], x[one].astype("f8").sum(0), rtol=1e-9)
