"""The training table: what is written is read back, and a folder that is not whole is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hepdecorr.errors import InputError
from hepdecorr.table import Column, Selection, Split, Table, fold, write_manifest, write_shard

COLUMNS = (
    Column("thrust", "feature"),
    Column("mbc", "nuisance", "GeV", r"$M_{bc}$"),
    Column("label", "label"),
    Column("weight", "weight"),
    Column("event", "id"),
    Column("fold", "id"),
)


def chunk(n: int, *, seed: int, label: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    event = np.arange(n, dtype=np.uint64) + np.uint64(1000 * seed)
    return {
        "thrust": rng.random(n, dtype=np.float32),
        "mbc": rng.random(n, dtype=np.float32),
        "label": np.full(n, label, dtype=np.int8),
        "weight": np.ones(n, dtype=np.float32),
        "event": event,
        "fold": fold(np.ones(n), np.ones(n), event),
    }


def write(folder: Path, *, order: int = 1) -> tuple[Table, list[dict[str, np.ndarray]]]:
    chunks = [chunk(40, seed=1, label=0), chunk(0, seed=2, label=0), chunk(30, seed=3, label=1)]
    datasets = ["continuum", "continuum", "signal"]
    shards = [
        write_shard(
            folder,
            f"{d}/{i}.parquet",
            arrays=c,
            columns=COLUMNS,
            dataset=d,
            source="a.root",
            start=100 * i,
            stop=100 * i + 100,
        )
        for i, (c, d) in enumerate(zip(chunks, datasets, strict=True))
    ]
    meta = {"continuum": {"label": 0, "use": "all"}, "signal": {"label": 1, "use": "train"}}
    table = write_manifest(
        folder, shards[::order], columns=COLUMNS, datasets=meta, provenance={"config": "abc"}
    )
    return table, chunks


def test_what_is_written_is_read(tmp_path: Path) -> None:
    _, chunks = write(tmp_path)
    table = Table.open(tmp_path)
    assert table.rows == 70
    assert table.names("feature") == ["thrust"]
    assert table.column("mbc").unit == "GeV"
    arrays = table.read(["mbc", "event", "dataset"])
    np.testing.assert_array_equal(arrays["mbc"], np.concatenate([c["mbc"] for c in chunks]))
    np.testing.assert_array_equal(arrays["event"], np.concatenate([c["event"] for c in chunks]))
    np.testing.assert_array_equal(arrays["dataset"], [0] * 40 + [1] * 30)
    assert arrays["event"].dtype == np.uint64


def test_shards_one_by_one_are_the_whole(tmp_path: Path) -> None:
    table, _ = write(tmp_path)
    pieces = list(table.iterate(["thrust"]))
    assert len(pieces) == 3
    np.testing.assert_array_equal(
        np.concatenate([p["thrust"] for p in pieces]), table.read(["thrust"])["thrust"]
    )


def test_roles_stand_in_the_file_too(tmp_path: Path) -> None:
    write(tmp_path)
    field = pq.read_schema(tmp_path / "signal" / "2.parquet").field("mbc")
    assert field.metadata == {b"role": b"nuisance", b"unit": b"GeV"}


def test_fingerprint_knows_contents_and_not_order(tmp_path: Path) -> None:
    one, _ = write(tmp_path / "one")
    two, _ = write(tmp_path / "two", order=-1)
    assert one.fingerprint == two.fingerprint
    changed = chunk(40, seed=9, label=0)
    shard = write_shard(
        tmp_path / "two",
        "x.parquet",
        arrays=changed,
        columns=COLUMNS,
        dataset="signal",
        source="b",
        start=0,
        stop=40,
    )
    three = write_manifest(
        tmp_path / "two", [*two.shards, shard], columns=COLUMNS, datasets=two.datasets, provenance={}
    )
    assert three.fingerprint != one.fingerprint


def test_every_row_has_one_part(tmp_path: Path) -> None:
    table, _ = write(tmp_path)
    split = Split(folds=10, validation=(0,), test=(5, 6, 7, 8, 9))
    parts = {
        p: table.read(["event"], select=Selection(p, split))["event"] for p in ("train", "validation", "test")
    }
    everything = np.concatenate(list(parts.values()))
    assert sorted(everything) == sorted(table.read(["event"])["event"])
    # The signal is for training alone, so no row of it may test.
    signal = set(table.read(["event"], select=Selection(None, split, label=1))["event"].tolist())
    assert not signal & set(parts["test"].tolist())
    assert set(parts["test"].tolist())


def test_use_test_is_all_test() -> None:
    part = Split(validation=(0,), test=(1,)).part(np.arange(10), use="test")
    assert set(part) == {"test"}


@given(
    st.lists(st.tuples(*[st.integers(0, 2**32 - 1)] * 2, st.integers(0, 2**63)), max_size=50),
    st.integers(0, 50),
)
def test_fold_does_not_depend_on_chunking(ids: list[tuple[int, int, int]], cut: int) -> None:
    run, lumi, event = (np.array([i[k] for i in ids], dtype=np.uint64) for k in range(3))
    whole = fold(run, lumi, event)
    parts = [fold(run[s], lumi[s], event[s]) for s in (slice(cut), slice(cut, None))]
    np.testing.assert_array_equal(whole, np.concatenate(parts))


def test_folds_are_even_and_differ_by_every_id() -> None:
    event = np.arange(100_000)
    one = np.ones_like(event)
    counts = np.bincount(fold(one, one, event), minlength=10)
    assert abs(counts - 10_000).max() < 5 * np.sqrt(9_000)
    # 2^20 events apart would collide with the next lumi section if ids were packed into one number.
    assert (fold(one, one, event + 2**20) != fold(one, 2 * one, event)).mean() > 0.85
    assert (fold(one, one, event) != fold(2 * one, one, event)).mean() > 0.85
    assert (fold(one, one, event, salt=1) != fold(one, one, event)).mean() > 0.85


def test_fold_by_an_independent_splitmix() -> None:
    def mix(x: int) -> int:
        mask = 2**64 - 1
        x = (x + 0x9E3779B97F4A7C15) & mask
        x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & mask
        x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & mask
        return x ^ (x >> 31)

    # First output of SplitMix64 seeded with 0, as published with the generator.
    assert mix(0) == 0xE220A8397B1DCDAF
    expected = mix(mix(mix(7) ^ 3) ^ 123456789012) % 10
    assert fold(np.array([7]), np.array([3]), np.array([123456789012]))[0] == expected


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("no manifest", "no finished table"),
        ("cut manifest", "not JSON"),
        ("version", "version 99"),
        ("no shard", r"0\.parquet: named by the manifest but missing"),
        ("cut shard", r"0\.parquet: cannot be read"),
        ("other shard", r"0\.parquet: 30 rows, the manifest says 40"),
    ],
)
def test_a_broken_table_is_named(tmp_path: Path, fault: str, message: str) -> None:
    write(tmp_path)
    manifest, shard = tmp_path / "manifest.json", tmp_path / "continuum" / "0.parquet"
    match fault:
        case "no manifest":
            manifest.unlink()
        case "cut manifest":
            manifest.write_text(manifest.read_text()[:100])
        case "version":
            manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"version": 99}))
        case "no shard":
            shard.unlink()
        case "cut shard":
            shard.write_bytes(shard.read_bytes()[:200])
        case "other shard":
            shard.write_bytes((tmp_path / "signal" / "2.parquet").read_bytes())
    with pytest.raises(InputError, match=message):
        Table.open(tmp_path).read()


def test_unknown_column_and_role_are_named(tmp_path: Path) -> None:
    table, _ = write(tmp_path)
    with pytest.raises(InputError, match=r"no column 'tau21'; it has thrust"):
        table.read(["tau21"])
    with pytest.raises(InputError, match="no role 'features'"):
        Column("a", "features")


def test_arrays_must_fit_the_columns(tmp_path: Path) -> None:
    arrays = chunk(5, seed=1, label=0)
    del arrays["mbc"]
    with pytest.raises(InputError, match="do not fit"):
        write_shard(
            tmp_path, "a.parquet", arrays=arrays, columns=COLUMNS, dataset="d", source="s", start=0, stop=5
        )
    assert not list(tmp_path.iterdir())


def test_lists_of_fixed_length_come_back_as_matrices(tmp_path: Path) -> None:
    columns = [
        Column("constituents.pt", "constituent", "GeV", length=3),
        Column("constituents.count", "count"),
        Column("label", "label"),
        Column("fold", "id"),
    ]
    shards = []
    for k in range(2):
        arrays = {
            "constituents.pt": np.arange(12, dtype=np.float32).reshape(4, 3) + 100 * k,
            "constituents.count": np.array([3, 0, 1, 2], dtype=np.int16),
            "label": np.array([0, 1, 0, 1], dtype=np.int8),
            "fold": np.array([1, 2, 5, 6], dtype=np.uint8),
        }
        shards.append(
            write_shard(
                tmp_path,
                f"{k}.parquet",
                arrays=arrays,
                columns=columns,
                dataset="d",
                source="s",
                start=4 * k,
                stop=4 * k + 4,
            )
        )
    table = write_manifest(tmp_path, shards, columns=columns, datasets={"d": {"label": 0}}, provenance={})
    read = table.read(["constituents.pt", "constituents.count"])
    assert table.column("constituents.pt").length == 3
    np.testing.assert_array_equal(read["constituents.pt"][:4], np.arange(12).reshape(4, 3))
    np.testing.assert_array_equal(read["constituents.pt"][4:], np.arange(12).reshape(4, 3) + 100)
    chosen = table.read(["constituents.pt"], select=Selection(None, Split(), label=1))["constituents.pt"]
    np.testing.assert_array_equal(chosen[:, 0], [3, 9, 103, 109])
    empty = replace(table, shards=()).read(["constituents.pt", "label"])
    assert empty["constituents.pt"].shape == (0, 3)
    assert empty["label"].shape == (0,)


def test_a_list_of_another_length_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'constituents.pt' has shape \(4, 2\), not \(rows, 3\)"):
        write_shard(
            tmp_path,
            "0.parquet",
            arrays={"constituents.pt": np.zeros((4, 2), np.float32)},
            columns=[Column("constituents.pt", "constituent", length=3)],
            dataset="d",
            source="s",
            start=0,
            stop=4,
        )
