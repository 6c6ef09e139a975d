"""Sample files: a TTree `Events` and, as a string beside it, how it was made."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import uproot
from numpy.typing import NDArray

from hepdecorr.errors import InputError
from hepdecorr.samples.columns import Chunk, join

TREE = "Events"
PROVENANCE = "hepdecorr_provenance"


class SampleWriter:
    """Collects chunks and writes them in big baskets."""

    def __init__(self, file: Any, tree: Any, *, basket: int) -> None:
        self._file, self._tree, self._basket = file, tree, basket
        self._waiting: list[Chunk] = []
        self.events = 0

    def extend(self, chunk: Chunk) -> None:
        """Append the events of a chunk."""
        if not len(chunk):
            return
        self._waiting.append(chunk)
        self.events += len(chunk)
        if sum(map(len, self._waiting)) >= self._basket:
            self.flush()

    def flush(self) -> None:
        """Write what has been collected."""
        if self._waiting:
            self._tree.extend(join(self._waiting).awkward())
            self._waiting.clear()

    def table(self, name: str, columns: Mapping[str, NDArray[Any]]) -> None:
        """Write a small tree beside the events, such as NanoAOD's `Runs`."""
        self._file.mktree(name, {key: values.dtype for key, values in columns.items()}).extend(dict(columns))

    def provenance(self, provenance: Mapping[str, Any]) -> None:
        """Store how the file was made; once, at the end."""
        self._file[PROVENANCE] = json.dumps(provenance, indent=1)


@contextmanager
def writing(
    path: Path,
    *,
    events: Mapping[str, str],
    collections: Mapping[str, Mapping[str, str]],
    compact: bool = False,
    basket: int | None = None,
) -> Iterator[SampleWriter]:
    """A writer of `path`, which appears when the block ends without an error and is whole.

    events, collections: branches and their dtypes; compact: small rather than fast; basket: events written
    at a time, 20,000 (all of them where compact).
    Raises InputError when the folder cannot be written to.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    compression = uproot.LZMA(9) if compact else uproot.ZSTD(5)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError(None, "is a folder", str(path))
        file = uproot.recreate(part, compression=compression)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror or error})") from error
    try:
        with file:
            branches: dict[str, Any] = {name: np.dtype(dtype) for name, dtype in events.items()}
            branches.update({name: _jagged(fields) for name, fields in collections.items()})
            # mktree, not assignment: that would write an RNTuple, which coffea's schemas do not read.
            tree = file.mktree(TREE, branches)
            writer = SampleWriter(file, tree, basket=basket or (1_000_000 if compact else 20_000))
            yield writer
            writer.flush()
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _jagged(fields: Mapping[str, str]) -> Any:
    inner = ", ".join(f'"{name}": {dtype}' for name, dtype in fields.items())
    return ak.types.from_datashape(f"var * {{{inner}}}", highlevel=False)


def read_provenance(path: Path | str) -> dict[str, Any]:
    """How a sample file was made: settings, seed, versions, cutflow, generated events.

    Raises InputError when the file cannot be read or was not written by hepdecorr.
    """
    try:
        with uproot.open(path) as file:
            text = str(file[PROVENANCE])
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except uproot.KeyInFileError as error:
        raise InputError(f"{path}: has no {PROVENANCE!r}; it was not made by `hepdecorr generate`") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not a readable ROOT file ({error})") from error
    content: dict[str, Any] = json.loads(text)
    return content
