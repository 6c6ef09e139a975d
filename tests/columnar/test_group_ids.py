"""The group of each row: exact whole numbers, faults told, folds of whole groups."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hepdecorr.columnar import group_ids, objects, rows
from hepdecorr.errors import InputError
from hepdecorr.table import EVENT_IDS, Split, fold

HERE = Path(__file__).parent
SPLIT = Split(10, (0,), (5, 6, 7, 8, 9))
whole_numbers = st.integers(-(2**63), 2**63 - 1)


def events(**columns: Any) -> ak.Array:
    size = len(next(iter(columns.values()), np.arange(3)))
    made = {"run": np.ones(size, "u4"), "luminosityBlock": np.ones(size, "u4"), "event": np.arange(size)}
    return ak.Array(
        {k: ak.from_numpy(v) if isinstance(v, np.ndarray) else v for k, v in (made | columns).items()}
    )


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(whole_numbers, st.integers(0, 3)), min_size=1, max_size=30))
def test_groups_are_told_apart_and_share_a_fold(pairs: list[tuple[int, int]]) -> None:
    run, region = np.array([a for a, _ in pairs]), np.array([b for _, b in pairs])
    chunk = events(run=run, region=region)
    np.testing.assert_array_equal(group_ids.of(chunk, ["run"], base=HERE), run)
    both = group_ids.of(chunk, ["run", "region"], base=HERE)
    assert both.dtype == np.int64
    assert len(set(both.tolist())) == len(set(pairs)) == len(set(zip(both.tolist(), pairs, strict=True)))
    ids = rows.identifiers(chunk, folds=7, grouped_by=["run", "region"], base=HERE)
    np.testing.assert_array_equal(ids["group"], both)
    np.testing.assert_array_equal(ids["fold"], fold(both, folds=7))
    # Whatever else the chunk holds, a row's group and fold are its own.
    again = rows.identifiers(chunk[::-1][:5], folds=7, grouped_by=["run", "region"], base=HERE)
    np.testing.assert_array_equal(again["fold"], ids["fold"][::-1][:5])


def test_the_order_of_names_counts() -> None:
    chunk = events(a=np.arange(5), b=np.arange(5)[::-1].copy())
    ours, theirs = (group_ids.of(chunk, names, base=HERE) for names in (["a", "b"], ["b", "a"]))
    assert (ours != theirs).sum() == 4


def test_parts_hold_whole_groups() -> None:
    run = np.random.default_rng(1).integers(0, 200, 5000)
    chunk = events(run=run)
    test = rows.of_part(chunk, split=SPLIT, part="test", grouped_by=["run"], base=HERE)
    assert not set(run[test]) & set(run[~test])
    assert 60 < len(set(run[test])) < 140
    without = rows.of_part(chunk, split=SPLIT, part="test")
    assert set(run[without]) & set(run[~without])


def test_large_event_numbers_keep_every_digit() -> None:
    event = np.array([2**63 + 1, 2**63 + 3, 2**53 + 1], dtype="u8")
    found = group_ids.of(events(event=event), ["event"], base=HERE)
    assert len(set(found.tolist())) == 3
    assert found[2] == 2**53 + 1
    triple = group_ids.of(events(event=event), list(EVENT_IDS), base=HERE)
    np.testing.assert_array_equal(
        fold(triple), rows.identifiers(events(event=event), grouped_by=EVENT_IDS)["fold"]
    )


FAULTS = [
    (np.array([1, np.nan, np.nan, 2]), r"'era': missing or NaN in 2 of 4 rows.*cut them away"),
    (ak.Array([1, None, 3, 4]), r"'era': missing or NaN in 1 of 4 rows"),
    (np.array([1, 2.5, 3, 4.5]), r"'era': 2 of 4 values are no whole numbers, the first 2\.5.*'my_features"),
    (np.array([1, 2**24, 3, 4], "f4"), r"'era': 1 of 4 values are 16777216 or more.*store it as an integer"),
    (np.array([1, np.inf, 3, 4]), r"'era': 1 of 4 values are 9007199254740992 or more"),
    (ak.Array([[1], [], [2], [3]]), r"'era': not one number per event"),
]


@pytest.mark.parametrize(("values", "message"), FAULTS)
def test_rows_without_a_group_are_told_of(values: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        group_ids.of(events(era=values), ["era"], base=HERE)


@pytest.mark.parametrize("values", [v for v, _ in FAULTS[:5]])
def test_faults_of_rows_that_are_cut_away_do_not_count(values: Any) -> None:
    keep = np.array([True, False, False, False])
    chunk = events(era=values)
    found = group_ids.of(chunk, ["era"], base=HERE, among=keep)
    assert found[0] == 1
    test = rows.of_part(chunk, split=SPLIT, part="test", grouped_by=["era"], base=HERE, among=keep)
    assert test[0] == np.isin(fold(np.array([1])), SPLIT.test)[0]
    # Only sound numbers are groups that are lost.
    known = {
        int(v) for v in ak.to_list(ak.drop_none(ak.Array(values))) if v == v and v % 1 == 0 and v < 2**24
    }
    assert set(group_ids.lost(chunk, ["era"], keep, base=HERE)) == known - {1}


def test_a_branch_that_is_not_there_is_named() -> None:
    with pytest.raises(InputError, match=r"groups: 'rn': neither a feature nor a branch; did you mean 'run'"):
        group_ids.of(events(), ["rn"], base=HERE)


def test_whole_numbers_in_floats_are_taken() -> None:
    found = group_ids.of(events(era=np.array([3.0, -1.0, 0.0], "f4")), ["era"], base=HERE)
    assert found.tolist() == [3, -1, 0]


def test_groups_that_a_cut_empties() -> None:
    chunk = events(run=np.array([1, 1, 2, 2, 3]))
    keep = np.array([True, False, False, False, True])
    assert group_ids.lost(chunk, ["run"], keep, base=HERE) == [2]
    assert group_ids.lost(chunk, [], keep, base=HERE) == []
    assert group_ids.lost(chunk, EVENT_IDS, keep, base=HERE) == []


def test_the_objects_of_an_event_are_a_group_of_thousands() -> None:
    """Jets in an event: the group is the event's, also behind a selection."""
    count = np.random.default_rng(3).integers(0, 5, 4000)
    pt = ak.unflatten(np.arange(count.sum(), dtype="f8"), count)
    chunk = ak.Array(
        {**{name: events(run=np.ones(4000, "u4"))[name] for name in EVENT_IDS}, "Jet": ak.zip({"pt": pt})}
    )
    jets = objects.rows(chunk, {"collection": "Jet"})
    jets = jets[np.asarray(jets["Jet"]["pt"]) % 2 == 0]
    ids = rows.identifiers(jets, grouped_by=EVENT_IDS, base=HERE)
    assert len(set(ids["group"].tolist())) == len(set(ids["event"].tolist())) > 2000
    assert len(set(zip(ids["group"].tolist(), ids["event"].tolist(), strict=True))) == len(
        set(ids["event"].tolist())
    )
    single = group_ids.of(jets, ["event"], base=HERE)
    np.testing.assert_array_equal(single, ids["event"].astype("i8"))
    np.testing.assert_array_equal(
        rows.identifiers(jets, grouped_by=["event"], base=HERE)["fold"], fold(single)
    )
