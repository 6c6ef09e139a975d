"""Batches of whole groups: each group once, together, numbered from 0, whatever the sizes."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hepdecorr.card import Nuisance
from hepdecorr.columnar.tagger import OnnxTagger
from hepdecorr.errors import InputError
from hepdecorr.learning import Batch, Data, Events, Layout, Play, Streamed, Trained, finish, load, train
from hepdecorr.learning.seen import beside, seen_whole
from hepdecorr.learning.whole import Whole, shared_out
from hepdecorr.table import Selection, Split, Table

SPLIT = Split(10, (0,), (1,))


def grouped(group: list[int], *, both: bool = True) -> Events:
    """Events whose feature is their place among those given."""
    rows = torch.arange(len(group))
    y = (rows % 2).float() if both else torch.zeros(len(group))
    return Events(rows[:, None].float(), y, group=torch.tensor(group), whole=True, alone=True)


def seeded(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


groups = st.lists(st.integers(-(2**62), 2**62) | st.integers(0, 5), min_size=2, max_size=60)


@settings(deadline=None, max_examples=60)
@given(group=groups, size=st.integers(1, 70), shuffle=st.booleans(), seed=st.integers(0, 5))
def test_every_group_comes_once_and_whole(group: list[int], size: int, shuffle: bool, seed: int) -> None:
    data, ids = grouped(group), np.array(group)
    batches = list(data.batches(size, generator=seeded(seed), shuffle=shuffle))
    assert data.groups == len(set(group))
    assert len(batches) == data.turns(size) == min(data.groups, -(-len(group) // size))
    assert sorted(int(v) for b in batches for v in b.x[:, 0]) == list(range(len(group)))
    counts = [int(b.group[-1]) + 1 for b in batches]
    assert max(counts) - min(counts) <= 1
    met: list[int] = []
    for b in batches:
        assert b.group.dtype == torch.int64
        own = ids[b.x[:, 0].int().numpy()]
        # Side by side and numbered in order: the number grows by one where the group changes.
        steps = np.flatnonzero(np.diff(own)) + 1
        assert b.group.tolist() == np.searchsorted(steps, np.arange(len(own)), side="right").tolist()
        met += [int(own[0]), *own[steps].tolist()]
        assert torch.equal(b.y, b.x[:, 0] % 2)
    assert sorted(met) == sorted(set(group))


@settings(deadline=None, max_examples=40)
@given(group=groups, rows=st.integers(1, 70))
def test_a_sample_is_of_whole_groups(group: list[int], rows: int) -> None:
    data, ids = grouped(group), np.array(group)
    part = data.sample(rows, generator=seeded())
    own = ids[part.x[:, 0].int().numpy()]
    for one in set(own.tolist()):
        assert (own == one).sum() == (ids == one).sum()
    assert part.group[0] == 0
    assert len(part.y) <= rows or len(set(own.tolist())) == 1
    assert len(set(zip(own.tolist(), part.group.tolist(), strict=True))) == len(set(own.tolist()))


def test_all_events_are_in_the_order_of_their_groups() -> None:
    data = grouped([7, -3, 7, 9, -3])
    assert data.all.group.tolist() == [0, 0, 1, 1, 2]
    assert data.all.x[:, 0].tolist() == [1, 4, 0, 2, 3]
    assert data.order is not None
    assert data.order.tolist() == [1, 4, 0, 2, 3]
    assert data.whole is not None
    assert data.whole.ids.tolist() == [-3, 7, 9]
    assert data.whole.counts.tolist() == [2, 2, 1]
    unshuffled = torch.cat([b.x for b in data.batches(2, shuffle=False)])
    assert torch.equal(unshuffled, data.all.x)


def test_the_generator_alone_decides_the_order_of_groups() -> None:
    data = grouped([k // 3 for k in range(60)])

    def order(seed: int) -> list[float]:
        return [v for b in data.batches(9, generator=seeded(seed)) for v in b.x[:, 0].tolist()]

    assert order(1) == order(1)
    assert order(1) != order(2)


def test_a_group_larger_than_the_batch_comes_alone() -> None:
    data = grouped([0] * 50 + [1] + [2] * 3, both=False)
    assert [len(b.y) for b in data.batches(10, shuffle=False)] == [50, 1, 3]
    assert sorted(len(b.y) for b in data.batches(10, generator=seeded())) == [1, 3, 50]


def test_events_seen_otherwise_stay_whole() -> None:
    data = grouped([5, 1, 5, 1, 2])
    seen = data.seen_as(10 * data.all.x, features=["ten"])
    for b, own in zip(seen.batches(2, generator=seeded()), data.batches(2, generator=seeded()), strict=True):
        assert torch.equal(b.x, 10 * own.x)
        assert torch.equal(b.group, own.group)
    assert torch.equal(data.to("cpu").all.group, data.all.group)


def test_loose_events_have_batches_of_one_size_and_of_one_share_of_signal() -> None:
    data = grouped([7] * 10 + [3] * 20 + [1] * 10)
    data = data.seen_as(data.all.x, features=["same"]).loose()
    batches = list(data.batches(10, generator=seeded()))
    assert [len(b.y) for b in batches] == [10, 10, 10, 10]
    assert all(b.y.sum() == 5 for b in batches)
    assert torch.cat([b.x for b in batches]).sort(0)[0].flatten().tolist() == list(range(40))
    # Of a group that is torn apart each event still says which it is.
    names = {(int(x), int(g)) for b in batches for x, g in zip(b.x[:, 0], b.group, strict=True)}
    assert names == {(k, 2 if k < 10 else 1 if k < 30 else 0) for k in range(40)}


def test_whole_groups_need_groups() -> None:
    with pytest.raises(InputError, match="whole groups are asked for, and the events name none"):
        Events(torch.zeros(4, 1), torch.tensor([0, 1, 0, 1]), whole=True)


def test_a_table_with_groups(make_table) -> None:
    run = np.random.default_rng(2).integers(0, 40, 2400) + 2**40
    table = make_table(group=run)
    layout = Layout.of(table)
    assert layout.group == "group"
    assert not layout.whole
    select = Selection("train", SPLIT)
    data = Events.from_table(table, layout.with_whole("GroupVAE"), select=select)
    assert data.whole is not None
    assert set(data.whole.ids.tolist()) == set(table.read(["group"], select=select)["group"].tolist())
    ours = table.read(["leaky", "group"], select=select)
    for k, one in enumerate(data.whole.ids.tolist()):
        own = data.all.x[data.all.group == k, 0].numpy()
        np.testing.assert_array_equal(own, ours["leaky"][ours["group"] == one])


def test_a_table_without_groups_is_told_of(make_table) -> None:
    with pytest.raises(InputError, match=r"GroupVAE learns from groups.*'groups: \{of: run\}'"):
        Layout.of(make_table()).with_whole("GroupVAE")


def test_a_batch_of_thousands_of_groups_is_quick() -> None:
    draw = np.random.default_rng(3)
    counts = draw.poisson(16, 32_768) + 8
    whole = Whole(torch.arange(len(counts)), torch.from_numpy(counts))
    data = grouped(np.repeat(np.arange(len(counts)), counts).tolist())
    assert whole.rows == len(data)
    began = time.perf_counter()
    batches = sum(1 for _ in data.batches(2048, generator=seeded()))
    spent = time.perf_counter() - began
    # Less than a tenth of a millisecond on an idle core; a loop over the groups takes milliseconds.
    assert spent / batches < 0.002


def straddling(make_table) -> tuple[Events, Streamed]:
    """A table whose groups straddle shards and datasets: in memory and streamed."""
    run = np.random.default_rng(2).integers(0, 300, 2400) + 2**40
    table = make_table(group=run)
    layout = Layout.of(table, balance=True).with_whole("GroupVAE")
    select = Selection("train", SPLIT)
    return Events.from_table(table, layout, select=select), Streamed(table, layout, select=select)


def same(ours: Iterable[Batch], theirs: Iterable[Batch]) -> int:
    pairs = list(zip(ours, theirs, strict=True))
    for a, b in pairs:
        assert torch.equal(a.w.isclose(b.w), torch.ones(len(a.y), dtype=torch.bool))
        assert all(torch.equal(getattr(a, key), getattr(b, key)) for key in ("x", "y", "z", "group", "r"))
    return len(pairs)


@pytest.mark.parametrize("shuffle", [True, False])
def test_streamed_groups_are_those_in_memory(make_table, shuffle: bool) -> None:
    memory, stream = straddling(make_table)
    assert len(stream) == len(memory)
    ours, theirs = (d.batches(200, generator=seeded(), shuffle=shuffle) for d in (stream, memory))
    assert same(ours, theirs) == stream.turns(200) == memory.turns(200) > 5
    same([stream.sample(150, generator=seeded())], [memory.sample(150, generator=seeded())])
    same([stream.to("cpu").sample()], [next(memory.batches(10_000, generator=seeded(), shuffle=False))])


def test_streamed_groups_are_seen_as_those_in_memory(make_table) -> None:
    memory, stream = straddling(make_table)

    def view(b: Batch) -> torch.Tensor:
        # Each row beside the mean of its group: right for whole groups alone.
        count = torch.bincount(b.group)[:, None]
        mean = torch.zeros(len(count), b.x.shape[1]).index_add(0, b.group, b.x) / count
        return torch.cat([b.x[:, :1], mean[b.group]], 1)

    options = {"names": ["a", "b", "c", "d"], "factor": lambda x: x[:, 0].exp()}
    ours, theirs = (seen_whole(Data(train, memory), view, **options) for train in (stream, memory))
    assert ours.train.whole is not None
    pairs = zip(
        ours.train.batches(200, generator=seeded()),
        theirs.train.batches(200, generator=seeded()),
        strict=True,
    )
    for a, b in pairs:
        torch.testing.assert_close(a.x, b.x)
        torch.testing.assert_close(a.w, b.w)
        assert torch.equal(a.group, b.group)
    own = theirs.train.all
    torch.testing.assert_close(own.x, view(memory.all))
    with pytest.raises(AssertionError):
        torch.testing.assert_close(own.x[:40], view(memory.all.take(slice(0, 40))))


def test_values_that_are_not_finite_are_named_before_groups_are_sorted(make_table) -> None:
    mass = np.zeros(2400)
    mass[7] = np.nan
    table = make_table(mass=mass, group=np.arange(2400) // 5)
    with pytest.raises(InputError, match=r"parquet: nuisance 'mass' is not finite in 1 of"):
        Streamed(table, Layout.of(table).with_whole("GroupVAE"))


def test_streamed_groups_get_the_further_nuisances_of_those_in_memory(make_table) -> None:
    """What a view of whole groups makes of them: here how many rows each has."""
    memory, stream = straddling(make_table)

    def view(b: Batch) -> torch.Tensor:
        return torch.bincount(b.group)[b.group].float()[:, None]

    ours, theirs = (beside(Data(train, memory), view, names=["size"]).train for train in (stream, memory))
    assert list(ours.nuisances) == list(theirs.nuisances) == [*memory.nuisances, "size"]
    parts = zip(ours.batches(200, generator=seeded()), theirs.batches(200, generator=seeded()), strict=True)
    for a, b in parts:
        torch.testing.assert_close(a.z, b.z)
        torch.testing.assert_close(a.z[:, -1:], view(a))
    torch.testing.assert_close(ours.sample(50, generator=seeded()).z, theirs.sample(50, generator=seeded()).z)


def test_a_full_disk_is_told_of(make_table, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(InputError, match=r"no room for .* GB.*No space left.*set TMPDIR"):
        straddling(make_table)


def whole_and_plain(table: Table, folder: Path, *, stream: bool) -> list[Trained]:
    (folder / "mine.py").write_text(
        "from hepdecorr.learning.methods.tagger import Tagger\nclass Whole(Tagger):\n    whole = True\n"
    )
    spec = {"network": {"type": "MLP", "hidden": [4]}, "training": {"epochs": 1, "batch": 300}}
    spec |= {"posthoc": [{"type": "DDT", "nuisance": "mass"}], "features": ["leaky"]}
    about = {"table": table, "split": Split(10, (0, 1), (2,)), "seed": 1, "device": "cpu"}
    kinds = ("mine.py:Whole", "Tagger")
    return [train({"type": kind, **spec}, base=folder, stream=stream, **about) for kind in kinds]


def test_a_method_says_that_it_wants_whole_groups(make_table, tmp_path: Path) -> None:
    table = make_table(group=np.random.default_rng(2).integers(0, 200, 2400))
    whole, plain = whole_and_plain(table, tmp_path, stream=True)
    assert whole.layout.whole
    assert not plain.layout.whole
    assert isinstance(whole.data.train, Streamed)
    assert whole.data.train.whole is not None
    assert plain.data.train.whole is None


def test_what_is_known_of_events_keeps_to_the_order_of_their_groups(make_table, tmp_path: Path) -> None:
    """Working points behind a map: its nuisances come in the order of the table."""
    table = make_table(group=np.random.default_rng(2).integers(0, 200, 2400))
    whole, plain = whole_and_plain(table, tmp_path, stream=False)
    # One network and one map, so that they differ in nothing but the order of the events.
    whole.method.load_state_dict(plain.method.state_dict())
    cuts = []
    for name, one in {"whole": whole._replace(posthoc=plain.posthoc), "plain": plain}.items():
        about = {"table": table, "nuisances": [Nuisance(name="mass", low=-3, high=3)], "config_hash": ""}
        cuts.append(OnnxTagger(finish(one, name=name, folder=tmp_path / name, **about)).thresholds)
    assert cuts[0] == pytest.approx(cuts[1], abs=1e-4)


def test_groups_on_both_sides_are_refused(make_table) -> None:
    table = make_table(group=np.arange(2400) % 30, folded_by=np.arange(2400))
    with pytest.raises(InputError, match=r"30 groups, as 0, stand in training and in validation"):
        load(table, Layout.of(table).with_whole("GroupVAE"), split=SPLIT)


@settings(deadline=None, max_examples=40)
@given(group=groups, parts=st.integers(1, 4))
def test_processes_share_out_whole_groups(group: list[int], parts: int) -> None:
    b = grouped(group).all
    shares = [shared_out(b.group, part, parts) for part in range(parts)]
    for own in shares:
        assert sorted(set(own.number.tolist())) == list(range(int(own.number[-1]) + 1))
        pairs = set(zip(b.group[own.place].tolist(), own.number.tolist(), strict=True))
        assert len(pairs) == len(set(own.number.tolist()))
    places = torch.cat([own.place for own in shares]).tolist()
    if len(set(group)) >= parts:
        assert sorted(places) == list(range(len(group)))
    else:
        assert places == list(range(len(group))) * parts


def test_a_process_plays_with_its_share_of_the_groups() -> None:
    play = Play(seed=1)
    play.fabric = SimpleNamespace(world_size=2, global_rank=1)  # type: ignore[assignment]
    b = grouped([1, 1, 2, 3, 3, 3, 4]).all
    own = play._share(b, whole=True)
    assert own.group.tolist() == [0, 1]
    assert own.x[:, 0].tolist() == [2, 6]
    assert play._share(b, whole=False).x[:, 0].tolist() == [1, 3, 5]


def test_too_few_groups_for_a_part_are_told_of(make_table) -> None:
    table = make_table(group=np.full(2400, 7))
    empty = "validation" if table.read(["fold"])["fold"][0] != 0 else "train"
    with pytest.raises(InputError, match=rf"part '{empty}'.*no events are left.*whole groups share one"):
        load(table, Layout.of(table).with_whole("GroupVAE"), split=SPLIT)
