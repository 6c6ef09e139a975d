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
from hepdecorr.sums import GroupSums

logger = logging.getLogger(__name__)

_CHUNK = ("dataset", "filename", "treename", "entrystart", "entrystop", "fileuuid")
_RESULT = "result.json"
_DICT, _SET, _TUPLE, _HIST, _SUMS = "<dict>", "<set>", "<tuple>", "<hist>", "<sums>"


class Checkpoints(CheckpointerABC):
    """A file per chunk, as JSON and plain arrays: unlike coffea's own, nothing is ever unpickled.

    coffea's checkpoints are keyed on the file and the entry range alone, so that after a change of a cut
    or a model they give the old result.  These are keyed on the caller's fingerprint, the dataset's
    metadata (`about`, by dataset), the file's name and UUID, and the range.  A result that a processor no
    longer stands for (its method `holds(result)` says False, as when a shard was deleted) counts as absent.
    """

    def __init__(self, folder: Path, *, fingerprint: str, about: Mapping[str, Any] | None = None) -> None:
        if not fingerprint:
            raise ValueError("checkpoints need the fingerprint of what is run, or they return old results")
        self.folder = folder.resolve()
        self.fingerprint = hashlib.sha256(fingerprint.encode()).hexdigest()[:16]
        self.about = dict(about or {})

    def path(self, metadata: Mapping[str, Any]) -> Path:
        """Where the result of the chunk with these `events.metadata` stands."""
        # Only these: between load and save schemas add to the metadata.
        chunk = {k: metadata[k] for k in _CHUNK} | {"about": self.about.get(metadata["dataset"])}
        key = hashlib.sha256(json.dumps(chunk, sort_keys=True, default=str).encode()).hexdigest()[:24]
        dataset = re.sub(r"[^\w.-]", "_", str(metadata["dataset"]))
        return self.folder / self.fingerprint / dataset / f"{key}.zip"

    def load(self, metadata: Mapping[str, Any], processor_instance: Any) -> dict[str, Any] | None:
        """The chunk's result as coffea wants it, or None when it must be computed."""
        path = self.path(metadata)
        if not path.is_file():
            return None
        try:
            result = read(path)
        except Exception as err:  # damage shows itself in many ways, and each has the same cure
            logger.warning("checkpoint %s cannot be read (%s); the chunk is computed again", path, err)
            return None
        if not processor_instance.holds(result):
            return None
        return {"out": result, "processed": {_item(metadata)}}

    def save(self, output: Mapping[str, Any], metadata: Mapping[str, Any], processor_instance: Any) -> None:
        """Keep a chunk's result, atomically."""
        del processor_instance
        write(output["out"], self.path(metadata))


def write(result: Any, path: Path) -> None:
    """Write a result of dicts, lists, sets, tuples, numbers, strings, Hists and GroupSums; InputError for
    others."""
    found: dict[str, Any] = {}
    content = json.dumps(_plain(result, found))
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(_RESULT, content)
        histograms.write(archive, {k: v for k, v in found.items() if isinstance(v, hist.Hist)})
        for key, sums in found.items():
            if isinstance(sums, GroupSums):
                _write_sums(archive, key, sums)
    part.replace(path)


def read(path: Path) -> Any:
    """What `write` wrote."""
    with zipfile.ZipFile(path) as archive:
        return _rebuilt(json.loads(archive.read(_RESULT)), histograms.read(archive), archive)


def _write_sums(archive: zipfile.ZipFile, key: str, sums: GroupSums) -> None:
    held = io.BytesIO()
    np.savez(held, allow_pickle=False, **sums.arrays())
    archive.writestr(f"{key}.npz", held.getvalue())


def _read_sums(archive: zipfile.ZipFile, key: str, tagger: str) -> GroupSums:
    with np.load(io.BytesIO(archive.read(f"{key}.npz")), allow_pickle=False) as arrays:
        return GroupSums.from_arrays(dict(arrays), tagger=tagger)


def _plain(value: Any, found: dict[str, Any]) -> Any:
    # JSON knows lists and string keys only: what is more becomes {mark: [...]}, a dict a list of pairs.
    if isinstance(value, hist.Hist):
        found[str(len(found))] = value
        return {_HIST: str(len(found) - 1)}
    if isinstance(value, GroupSums):
        found[str(len(found))] = value
        return {_SUMS: [str(len(found) - 1), value.tagger]}
    if isinstance(value, Mapping):
        return {_DICT: [[_plain(k, found), _plain(v, found)] for k, v in value.items()]}
    if isinstance(value, set | frozenset):
        return {_SET: [_plain(v, found) for v in value]}
    if isinstance(value, tuple):
        return {_TUPLE: [_plain(v, found) for v in value]}
    if isinstance(value, list):
        return [_plain(v, found) for v in value]
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise InputError(
        f"a checkpoint cannot hold a {type(value).__name__}: let the processor return dicts, lists, sets, "
        "numbers, strings, Hists and GroupSums, or run it without checkpoints"
    )


def _rebuilt(value: Any, found: Mapping[str, hist.Hist[Any]], archive: zipfile.ZipFile) -> Any:
    if isinstance(value, list):
        return [_rebuilt(v, found, archive) for v in value]
    if not isinstance(value, dict):
        return value
    ((mark, content),) = value.items()
    if mark == _HIST:
        return found[content]
    if mark == _SUMS:
        return _read_sums(archive, *content)
    items = [_rebuilt(v, found, archive) for v in content]
    return {_SET: set, _TUPLE: tuple, _DICT: dict}[mark](items)


def _item(metadata: Mapping[str, Any]) -> WorkItem:
    given = metadata["fileuuid"]
    return WorkItem(
        metadata["dataset"],
        metadata["filename"],
        metadata["treename"],
        metadata["entrystart"],
        metadata["entrystop"],
        uuid.UUID(given).bytes if given else b"",
    )
