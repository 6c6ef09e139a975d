"""Results of single chunks on disk, so that a run that was killed goes on where it stood."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import re
import uuid
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import hist
import numpy as np
from coffea.processor import CheckpointerABC
from coffea.processor.executor import WorkItem

from hepdecorr.columnar import histograms
from hepdecorr.errors import InputError
from hepdecorr.exact_sums import ExactGroupSums

logger = logging.getLogger(__name__)

_CHUNK_KEYS = ("dataset", "filename", "treename", "entrystart", "entrystop", "fileuuid")
_RESULT_FILE = "result.json"
_DICT_TAG, _SET_TAG, _TUPLE_TAG, _HIST_TAG, _SUMS_TAG = "<dict>", "<set>", "<tuple>", "<hist>", "<sums>"


class ChunkCheckpoints(CheckpointerABC):
    """A file per chunk, as JSON and plain arrays: unlike coffea's own, nothing is ever unpickled.

    coffea's checkpoints are keyed on the file and the entry range alone, so that after a change of a cut
    or a model they give the old result.  These are keyed on the caller's fingerprint, the dataset's
    metadata (`about`, by dataset), the file's name and UUID, and the range.  A result that a processor no
    longer stands for (its method `holds(result)` says False, as when a shard was deleted) counts as absent.
    """

    def __init__(
        self, folder: Path, *, fingerprint: str, dataset_metadata: Mapping[str, Any] | None = None
    ) -> None:
        if not fingerprint:
            raise ValueError("checkpoints need the fingerprint of what is run, or they return old results")
        self.folder = folder.resolve()
        self.fingerprint = hashlib.sha256(fingerprint.encode()).hexdigest()[:16]
        self.dataset_metadata = dict(dataset_metadata or {})

    def chunk_path(self, metadata: Mapping[str, Any]) -> Path:
        """Where the result of the chunk with these `events.metadata` stands."""
        # Only these: between load and save schemas add to the metadata.
        chunk = {k: metadata[k] for k in _CHUNK_KEYS} | {
            "dataset_metadata": self.dataset_metadata.get(metadata["dataset"])
        }
        key = hashlib.sha256(json.dumps(chunk, sort_keys=True, default=str).encode()).hexdigest()[:24]
        dataset = re.sub(r"[^\w.-]", "_", str(metadata["dataset"]))
        return self.folder / self.fingerprint / dataset / f"{key}.zip"

    def load(self, metadata: Mapping[str, Any], processor_instance: Any) -> dict[str, Any] | None:
        """The chunk's result as coffea wants it, or None when it must be computed."""
        path = self.chunk_path(metadata)
        if not path.is_file():
            return None
        try:
            result = read_result(path)
        except Exception as err:  # damage shows itself in many ways, and each has the same cure
            logger.warning("checkpoint %s cannot be read (%s); the chunk is computed again", path, err)
            return None
        if not processor_instance.is_valid_result(result):
            return None
        return {"out": result, "processed": {_make_work_item(metadata)}}

    def save(self, output: Mapping[str, Any], metadata: Mapping[str, Any], processor_instance: Any) -> None:
        """Keep a chunk's result, atomically."""
        del processor_instance
        write_result(output["out"], self.chunk_path(metadata))


def write_result(result: Any, path: Path) -> None:
    """Write a result of dicts, lists, sets, tuples, numbers, strings, Hists and GroupSums; InputError for
    others."""
    found: dict[str, Any] = {}
    content = json.dumps(_to_json(result, found))
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(_RESULT_FILE, content)
        histograms.write_to_archive(archive, {k: v for k, v in found.items() if isinstance(v, hist.Hist)})
        for key, sums in found.items():
            if isinstance(sums, ExactGroupSums):
                _write_sums(archive, key, sums)
    part.replace(path)


def read_result(path: Path) -> Any:
    """What `write` wrote."""
    with zipfile.ZipFile(path) as archive:
        return _from_json(
            json.loads(archive.read(_RESULT_FILE)), histograms.read_from_archive(archive), archive
        )


def _write_sums(archive: zipfile.ZipFile, key: str, sums: ExactGroupSums) -> None:
    held = io.BytesIO()
    np.savez(held, allow_pickle=False, **sums.to_arrays())
    archive.writestr(f"{key}.npz", held.getvalue())


def _read_sums(archive: zipfile.ZipFile, key: str, tagger: str) -> ExactGroupSums:
    with np.load(io.BytesIO(archive.read(f"{key}.npz")), allow_pickle=False) as arrays:
        return ExactGroupSums.from_arrays(dict(arrays), tagger=tagger)


def _to_json(value: Any, large_objects: dict[str, Any]) -> Any:
    # JSON knows lists and string keys only: what is more becomes {mark: [...]}, a dict a list of pairs.
    if isinstance(value, hist.Hist):
        large_objects[str(len(large_objects))] = value
        return {_HIST_TAG: str(len(large_objects) - 1)}
    if isinstance(value, ExactGroupSums):
        large_objects[str(len(large_objects))] = value
        return {_SUMS_TAG: [str(len(large_objects) - 1), value.tagger]}
    if isinstance(value, Mapping):
        return {
            _DICT_TAG: [[_to_json(k, large_objects), _to_json(v, large_objects)] for k, v in value.items()]
        }
    if isinstance(value, set | frozenset):
        return {_SET_TAG: [_to_json(v, large_objects) for v in value]}
    if isinstance(value, tuple):
        return {_TUPLE_TAG: [_to_json(v, large_objects) for v in value]}
    if isinstance(value, list):
        return [_to_json(v, large_objects) for v in value]
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise InputError(
        f"a checkpoint cannot hold a {type(value).__name__}: let the processor return dicts, lists, sets, "
        "numbers, strings, Hists and GroupSums, or run it without checkpoints"
    )


def _from_json(value: Any, hists: Mapping[str, hist.Hist[Any]], archive: zipfile.ZipFile) -> Any:
    if isinstance(value, list):
        return [_from_json(v, hists, archive) for v in value]
    if not isinstance(value, dict):
        return value
    ((mark, content),) = value.items()
    if mark == _HIST_TAG:
        return hists[content]
    if mark == _SUMS_TAG:
        return _read_sums(archive, *content)
    items = [_from_json(v, hists, archive) for v in content]
    return {_SET_TAG: set, _TUPLE_TAG: tuple, _DICT_TAG: dict}[mark](items)


def _make_work_item(metadata: Mapping[str, Any]) -> WorkItem:
    given = metadata["fileuuid"]
    return WorkItem(
        metadata["dataset"],
        metadata["filename"],
        metadata["treename"],
        metadata["entrystart"],
        metadata["entrystop"],
        uuid.UUID(given).bytes if given else b"",
    )
