"""Chunks of columns, and the rounding of compact files."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hepdecorr.samples.columns import Chunk, Collection, compacted, join, round_mantissa

finite = st.floats(-(2.0**100), 2.0**100, width=32).filter(lambda x: x == 0 or abs(x) > 2.0**-100)


def chunk(events: int, *, start: int = 0) -> Chunk:
    counts = (np.arange(start, start + events) * 7) % 4
    values = np.repeat(np.arange(start, start + events), counts) + 0.123456
    return Chunk(
        {"event": np.arange(start, start + events), "mass": np.full(events, 0.123456, np.float32)},
        {"Track": Collection(counts, {"pt": values.astype(np.float32)})},
    )


@given(values=arrays(np.float32, st.integers(0, 20), elements=finite), bits=st.integers(1, 23))
def test_rounding_is_to_nearest_and_leaves_zeros_behind(values: np.ndarray, bits: int) -> None:
    rounded = round_mantissa(values, bits)
    assert rounded.dtype == np.float32
    assert (np.abs(rounded.astype(float) - values) <= np.abs(values.astype(float)) * 2.0 ** -(bits + 1)).all()
    assert not (rounded.view(np.uint32) & ((1 << (23 - bits)) - 1)).any()
    np.testing.assert_array_equal(round_mantissa(rounded, bits), rounded)


def test_rounding_of_known_numbers() -> None:
    values = np.array([1.0, 1.0 + 2**-13, 1.0 + 2**-12, 1.0 + 0.75 * 2**-12, -1.0, 0.0], np.float32)
    expected = [1.0, 1.0 + 2**-12, 1.0 + 2**-12, 1.0 + 2**-12, -1.0, 0.0]
    assert round_mantissa(values, 12).tolist() == expected


def test_compacted_rounds_only_what_is_named() -> None:
    small = compacted(chunk(5), {"Track_pt": 4})
    np.testing.assert_array_equal(small.columns["mass"], chunk(5).columns["mass"])
    before = chunk(5).collections["Track"].columns["pt"]
    after = small.collections["Track"].columns["pt"]
    assert (after != before).all()
    np.testing.assert_allclose(after, before, rtol=2**-5)


@pytest.mark.parametrize("cut", [0, 1, 3, 9])
def test_head_and_join_are_the_whole(cut: int) -> None:
    whole = chunk(9)
    assert len(whole.head(cut)) == cut
    joined = join([whole.head(cut), chunk(9 - cut, start=cut)])
    assert joined.branches().tolist() == whole.branches().tolist()


def test_branches_are_jagged_with_their_counts() -> None:
    events = chunk(4).branches()
    assert events.fields == ["event", "mass", "nTrack", "Track_pt"]
    assert events.nTrack.tolist() == [0, 3, 2, 1] == [len(pt) for pt in events.Track_pt.tolist()]
    assert events.Track_pt[1].tolist() == pytest.approx([1.123456] * 3)
