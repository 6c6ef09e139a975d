"""Checkpoints: what goes in comes out, nothing old or damaged is used."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import hist
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hepdecorr.columnar import checkpoints
from hepdecorr.columnar.checkpoints import Checkpoints
from hepdecorr.errors import InputError

METADATA = {
    "dataset": "sig/nal",
    "filename": "a.root",
    "treename": "Events",
    "entrystart": 0,
    "entrystop": 10,
    "fileuuid": "12345678-1234-5678-1234-567812345678",
}
RESULT = {"chunks": [{"sumw": 0.1, "shard": None}], "n": {"sig": 10}}


class Willing:
    def __init__(self, *, holding: bool = True) -> None:
        self.holding = holding

    def holds(self, result: Any) -> bool:
        return self.holding


leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
keys = st.text() | st.integers() | st.tuples(st.text(), st.integers())
results = st.recursive(
    leaves | st.sets(st.integers()),
    lambda inner: st.lists(inner) | st.dictionaries(keys, inner) | st.tuples(inner, inner),
    max_leaves=12,
)


@given(results)
def test_plain_results_come_back(tmp_path_factory: pytest.TempPathFactory, result: Any) -> None:
    path = tmp_path_factory.getbasetemp() / "result.zip"
    checkpoints.write(result, path)
    found = checkpoints.read(path)
    assert found == result
    assert type(found) is type(result)


def test_histograms_and_numpy_numbers_come_back(tmp_path: Path) -> None:
    made = hist.Hist(hist.axis.StrCategory([], growth=True, name="d"), storage=hist.storage.Weight())
    made.fill(d=["x", "y"], weight=[1.0, 0.1])
    checkpoints.write({"h": {"deep": [made]}, "n": np.float32(0.5), "k": np.int64(3)}, tmp_path / "r.zip")
    found = checkpoints.read(tmp_path / "r.zip")
    assert found == {"h": {"deep": [made]}, "n": 0.5, "k": 3}
    assert found["h"]["deep"][0] + made == made * 2 or found["h"]["deep"][0] == made


@pytest.mark.parametrize("result", [np.zeros(3), {"a": object()}, b"raw"])
def test_what_cannot_be_held_is_refused(tmp_path: Path, result: Any) -> None:
    with pytest.raises(InputError, match=r"a checkpoint cannot hold a (ndarray|object|bytes)"):
        checkpoints.write(result, tmp_path / "r.zip")


def test_a_chunk_comes_back_as_coffea_wants_it(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path, fingerprint="one")
    assert kept.load(METADATA, Willing()) is None
    kept.save({"out": RESULT, "processed": set()}, METADATA, Willing())
    found = kept.load(METADATA, Willing())
    assert found is not None
    assert found["out"] == RESULT
    (item,) = found["processed"]
    assert (item.dataset, item.filename, item.entrystart, item.entrystop) == ("sig/nal", "a.root", 0, 10)
    assert len(item.fileuuid) == 16


@pytest.mark.parametrize("key", sorted(METADATA))
def test_another_chunk_is_another_result(tmp_path: Path, key: str) -> None:
    kept = Checkpoints(tmp_path, fingerprint="one")
    kept.save({"out": RESULT}, METADATA, Willing())
    changed = {
        **METADATA,
        key: METADATA[key] + 1 if isinstance(METADATA[key], int) else "9" + str(METADATA[key])[1:],
    }
    assert changed != METADATA
    assert kept.load(changed, Willing()) is None


def test_other_metadata_of_the_dataset_is_another_result(tmp_path: Path) -> None:
    def kept(**about: Any) -> Checkpoints:
        return Checkpoints(tmp_path, fingerprint="one", about={"sig/nal": about})

    kept(label=1).save({"out": RESULT}, {**METADATA, "version": "latest"}, Willing())
    assert kept(label=1).load(METADATA, Willing()) is not None
    assert kept(label=0).load(METADATA, Willing()) is None


def test_another_fingerprint_or_a_lost_shard_is_no_result(tmp_path: Path) -> None:
    Checkpoints(tmp_path, fingerprint="one").save({"out": RESULT}, METADATA, Willing())
    assert Checkpoints(tmp_path, fingerprint="two").load(METADATA, Willing()) is None
    assert Checkpoints(tmp_path, fingerprint="one").load(METADATA, Willing(holding=False)) is None
    with pytest.raises(ValueError, match="fingerprint"):
        Checkpoints(tmp_path, fingerprint="")


def test_a_damaged_checkpoint_is_computed_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    kept = Checkpoints(tmp_path, fingerprint="one")
    kept.save({"out": RESULT}, METADATA, Willing())
    path = kept.path(METADATA)
    content = path.read_bytes()
    for damaged in (b"", content[:-30], content[:40] + b"\xff" * 10 + content[50:]):
        path.write_bytes(damaged)
        assert kept.load(METADATA, Willing()) is None
        assert "is computed again" in caplog.text
        caplog.clear()


def test_a_pickle_in_its_place_is_never_loaded(tmp_path: Path) -> None:
    import pickle

    ran = tmp_path / "ran"

    class Bomb:
        def __reduce__(self) -> Any:
            return (ran.touch, ())

    kept = Checkpoints(tmp_path, fingerprint="one")
    kept.save({"out": RESULT}, METADATA, Willing())
    path = kept.path(METADATA)
    path.write_bytes(pickle.dumps(Bomb()))
    assert kept.load(METADATA, Willing()) is None
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("result.json", '{"<hist>": "0"}')
        archive.writestr("index.json", '{"0": "hist0"}')
        archive.writestr(
            "hist0.json", '{"uhi_schema": 1, "axes": [], "storage": {"type": "double", "values": "v.npy"}}'
        )
        archive.writestr(
            "v.npy",
            b"\x93NUMPY\x01\x00\x46\x00{'descr': '|O', 'fortran_order': False, 'shape': (1,), }".ljust(80)
            + pickle.dumps(Bomb()),
        )
    assert kept.load(METADATA, Willing()) is None
    assert not ran.exists()
