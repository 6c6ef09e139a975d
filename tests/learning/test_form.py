"""Constituents in the one matrix: packing, tables, batches, streams."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hepdecorr.errors import InputError
from hepdecorr.learning import Events, Layout, Streamed
from hepdecorr.learning.form import Form
from hepdecorr.table import Selection, Split

NAMES = ["log_pt", "deta", "dphi", "charge"]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 5), st.integers(0, 3), st.integers(1, 3), st.integers(0, 6))
def test_what_is_packed_comes_out_again(rows: int, features: int, constituents: int, length: int) -> None:
    form = Form(tuple("abc"[:features]), tuple("uvw"[:constituents]), length)
    x, seen = torch.randn(rows, features), torch.randn(rows, length, constituents)
    mask = torch.rand(rows, length) < 0.5
    packed = form.pack(x, torch.where(mask[..., None], seen, torch.nan), mask.float())
    assert packed.shape == (rows, form.width)
    parts = form.unpack(packed)
    assert torch.equal(parts.features, x)
    assert torch.equal(parts.mask, mask)
    assert torch.equal(parts.constituents, seen * mask[..., None])


def test_padding_of_any_kind_comes_out_as_zero() -> None:
    form = Form(("a",), ("u", "v"), 2)
    x = torch.tensor([[1.0, 2, 3, 1, torch.nan, torch.inf, 0]])
    assert form.unpack(x).constituents.tolist() == [[[2, 3], [0, 0]]]
    form.clear(x)
    assert x.tolist() == [[1, 2, 3, 1, 0, 0, 0]]


def test_the_length_follows_the_width() -> None:
    form = Form(("a",), ("u",), 40)
    assert form.unpack(torch.ones(2, 1 + 3 * 2)).mask.shape == (2, 3)


def test_a_table_of_jets_becomes_events(jet_table) -> None:
    table = jet_table()
    layout = Layout.of(table)
    assert (layout.constituents, layout.length) == (tuple(NAMES), 6)
    data = Events.from_table(table, layout)
    arrays = table.read()
    parts = data.form.unpack(data.all.x)
    assert data.features == ["n_pt"]
    assert torch.equal(parts.mask.sum(1), torch.from_numpy(arrays["constituents.count"]).long())
    for k, name in enumerate(NAMES):
        np.testing.assert_array_equal(parts.constituents[..., k], arrays[f"constituents.{name}"])
    np.testing.assert_array_equal(parts.features[:, 0], arrays["n_pt"])
    np.testing.assert_array_equal(data.all.z[:, 0], arrays["mass"])
    assert data.all.r.tolist() == [1.0] * 1200


def test_a_choice_of_constituents(jet_table) -> None:
    table = jet_table()
    chosen = Layout.of(table, features=[], constituents=["dphi", "deta"], length=3)
    data = Events.from_table(table, chosen)
    parts = data.form.unpack(data.all.x)
    arrays = table.read()
    assert parts.features.shape[1] == 0
    assert torch.equal(parts.mask.sum(1), torch.from_numpy(arrays["constituents.count"].clip(0, 3)).long())
    np.testing.assert_array_equal(parts.constituents[..., 0], arrays["constituents.dphi"][:, :3])
    none = Layout.of(table, constituents=[])
    assert (none.form.width, none.length, none.count) == (1, 0, "")
    assert not [name for name in none.columns if name.startswith("constituents")]


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"constituents": ["deeta"]}, "no feature of constituents 'deeta'; did you mean 'deta'"),
        ({"length": 7}, "between 1 and the table's 6 constituents, not 7"),
        ({"length": 0}, "between 1 and the table's 6 constituents, not 0"),
        ({"features": ["constituents.deta"]}, "many numbers a row"),
        ({"nuisances": ["constituents.deta"]}, "many numbers a row"),
    ],
)
def test_faults_in_the_choice_are_named(jet_table, choice: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Layout.of(jet_table(), **choice)


@pytest.mark.parametrize("kind", [Events.from_table, lambda *a: list(Streamed(*a).batches(300))])
def test_nan_matters_inside_the_mask_only(jet_table, kind) -> None:
    count = jet_table().read(["constituents.count", "event"])
    filled = np.empty(1200, int)
    filled[count["event"]] = count["constituents.count"]
    full = int(np.flatnonzero(filled == 6)[0])
    short = int(np.flatnonzero((filled > 0) & (filled < 6))[0])
    for row, place, fails in ((short, filled[short], False), (full, 5, True)):
        values = np.zeros((1200, 6), np.float32)
        values[row, place] = np.nan
        table = jet_table(**{"constituents.charge": values})
        if fails:
            with pytest.raises(InputError, match="'charge' is not finite in 1 of"):
                kind(table, Layout.of(table))
        else:
            found = kind(table, Layout.of(table))
            batches = [found.all] if isinstance(found, Events) else found
            assert all(b.x.isfinite().all() for b in batches)


@pytest.mark.parametrize("buffer", [0, 200])
def test_streamed_jets_are_those_in_memory(jet_table, buffer: int) -> None:
    table = jet_table()
    layout, select = Layout.of(table), Selection("train", Split(10, (0,), (1,)))
    memory = Events.from_table(table, layout, select=select)
    stream = Streamed(table, layout, select=select, buffer=buffer)
    given = torch.cat([b.x for b in stream.batches(100, generator=torch.Generator().manual_seed(1))])
    ours, theirs = (x[x[:, 0].argsort()] for x in (given, memory.all.x))
    assert torch.equal(ours, theirs)
    assert stream.form == memory.form == layout.form


def test_shuffled_batches_keep_what_belongs_together(jets) -> None:
    data = jets(300, seed=1)
    whole = data.all
    for b in data.batches(64, generator=torch.Generator().manual_seed(1)):
        at = (b.x[:, :1] == whole.x[:, 0]).int().argmax(1)
        for ours, theirs in zip(b, whole.take(at), strict=True):
            assert torch.equal(ours, theirs)


def test_a_matrix_of_the_wrong_width_is_refused() -> None:
    with pytest.raises(InputError, match=r"12 columns for 1 names of features and 3 slots of 2 \+ 1"):
        Events(torch.zeros(4, 12), torch.tensor([0, 1, 0, 1]), features=["a"], constituents=["u", "v"])
