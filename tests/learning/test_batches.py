from __future__ import annotations

import numpy as np
import pytest
import torch

from hepdecorr.errors import InputError
from hepdecorr.learning import Events, Layout, Streamed
from hepdecorr.table import Selection, Split

SPLIT = Split(10, (0,), (1,))


def events(rows: int = 10, **change: torch.Tensor) -> Events:
    made = {"x": torch.arange(rows)[:, None].float(), "y": (torch.arange(rows) % 3 == 0).float()} | change
    return Events(**made)


def test_batches_hold_every_event_once_in_equal_sizes() -> None:
    data = events(1000)
    batches = list(data.batches(300, generator=torch.Generator().manual_seed(1)))
    assert [len(b.y) for b in batches] == [250] * 4
    assert len(batches) == data.turns(300)
    assert sorted(torch.cat([b.x[:, 0] for b in batches]).tolist()) == list(range(1000))


def test_shuffled_batches_have_the_same_share_of_signal() -> None:
    counts = [int(b.y.sum()) for b in events(1000).batches(100, generator=torch.Generator().manual_seed(1))]
    assert max(counts) - min(counts) <= 1


def test_the_generator_alone_decides_the_order() -> None:
    def order(seed: int) -> list[float]:
        generator = torch.Generator().manual_seed(seed)
        return [v for b in events(100).batches(30, generator=generator) for v in b.x[:, 0].tolist()]

    assert order(1) == order(1)
    assert order(1) != order(2)
    assert [v for b in events(9).batches(4, shuffle=False) for v in b.x[:, 0].tolist()] == list(range(9))


def test_weights_have_mean_one_in_each_class() -> None:
    w = events(30, w=torch.rand(30) + 0.1).all
    for label in (0, 1):
        assert w.w[w.y == label].mean() == pytest.approx(1)


def test_balance_equalises_the_classes() -> None:
    data = Events(torch.rand(30, 1), (torch.arange(30) < 5).float(), balance=True).all
    assert data.w[data.y == 1].sum() == pytest.approx(15)
    assert data.w[data.y == 0].sum() == pytest.approx(15)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y": torch.zeros(10)}, r"no signal .* needs both classes"),
        ({"y": torch.ones(10)}, "no background"),
        ({"y": torch.full((10,), 2.0)}, "labels must be 0 or 1"),
        ({"x": torch.full((10, 1), torch.nan)}, "feature 'x0' is not finite in 10 of 10 events"),
        ({"z": torch.full((10, 1), torch.inf)}, "nuisance 'z0' is not finite"),
        ({"w": torch.zeros(10)}, "sum to 0"),
    ],
)
def test_unusable_events_are_refused(change: dict[str, torch.Tensor], message: str) -> None:
    with pytest.raises(InputError, match=message):
        events(10, **change)


def test_no_events_are_refused() -> None:
    with pytest.raises(InputError, match="no events are left"):
        Events(torch.zeros(0, 2), torch.zeros(0))


def test_table_to_events_by_role(make_table) -> None:
    table = make_table()
    data = Events.from_table(table, Layout.of(table), select=Selection("train", SPLIT))
    assert data.features == ["leaky", "clean", "noise"]
    assert data.nuisances == ["mass"]
    assert 1700 < len(data) < 2100
    chosen = Layout.of(table, features=["mass", "clean"])
    again = Events.from_table(table, chosen, select=Selection("train", SPLIT)).all
    assert torch.equal(again.x[:, 0], again.z[:, 0])
    with pytest.raises(InputError, match="no column 'tau'"):
        Layout.of(table, features=["tau"])


def test_faults_name_the_table_and_its_part(make_table) -> None:
    mass = np.zeros(2400)
    mass[7] = np.nan
    table = make_table(mass=mass)
    with pytest.raises(InputError, match=r"table.*nuisance 'mass' is not finite in 1 of"):
        Events.from_table(table, Layout.of(table))
    with pytest.raises(InputError, match=r"part 'test'.*no events"):
        Events.from_table(make_table(), Layout.of(table), select=Selection("test", Split(10, (0,), ())))


@pytest.mark.parametrize("buffer", [10, 500, 100_000])
def test_streamed_events_are_those_in_memory(make_table, buffer: int) -> None:
    table = make_table()
    layout, select = Layout.of(table, balance=True), Selection("train", SPLIT)
    memory = Events.from_table(table, layout, select=select)
    stream = Streamed(table, layout, select=select, buffer=buffer)
    assert len(stream) == len(memory)
    given = list(stream.batches(256, generator=torch.Generator().manual_seed(3)))
    assert len(given) == stream.turns(256) == memory.turns(256)
    assert max(len(b.y) for b in given) - min(len(b.y) for b in given) <= 1
    for k in (0, 3):  # x[:, 0] tells the events apart; the weights follow them
        ours = torch.cat([b[k] if k else b.x[:, 0] for b in given])
        theirs = memory.all[k] if k else memory.all.x[:, 0]
        assert torch.allclose(ours.sort()[0], theirs.sort()[0])


def test_a_stream_mixes_classes_and_epochs(make_table) -> None:
    table = make_table()
    stream = Streamed(table, Layout.of(table), buffer=900)
    generator = torch.Generator().manual_seed(3)
    first, second = (list(stream.batches(200, generator=generator)) for _ in range(2))
    assert all(0.15 < float(b.y.mean()) < 0.7 for b in first)
    assert not torch.equal(first[0].x, second[0].x)
    repeated = next(stream.batches(200, generator=torch.Generator().manual_seed(3)))
    assert torch.equal(repeated.x, first[0].x)


def test_two_feeds_of_one_stream_do_not_disturb_each_other(make_table) -> None:
    table = make_table()
    stream = Streamed(table, Layout.of(table), buffer=300)
    one = stream.batches(200, shuffle=False)
    alone = torch.cat([b.x for b in stream.batches(200, shuffle=False)])
    mixed = []
    for b, _ in zip(one, stream.batches(150, shuffle=False), strict=False):
        mixed.append(b.x)
    assert torch.equal(torch.cat(mixed), alone[: sum(len(m) for m in mixed)])


def test_a_sample_is_drawn_from_both_classes(make_table) -> None:
    table = make_table()
    for data in (Events.from_table(table, Layout.of(table)), Streamed(table, Layout.of(table))):
        part = data.sample(400, generator=torch.Generator().manual_seed(1))
        assert len(part.y) == 400
        assert 0.2 < float(part.y.mean()) < 0.6
