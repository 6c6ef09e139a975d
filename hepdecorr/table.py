"""Contract 1: a table of events in Parquet, one atomic file a chunk, columns with roles, manifest beside.

Training tables (features in, labels, weights) and score tables (logits of taggers) have the same form.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from hepdecorr.errors import InputError

VERSION = 1
MANIFEST = "manifest.json"
ROLES = ("feature", "nuisance", "label", "weight", "group", "id", "score", "constituent", "count")
EVENT_IDS = ("run", "luminosityBlock", "event")

Arrays = dict[str, NDArray[Any]]
Part = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class Column:
    """A column, what it is for (one of ROLES), its unit, and its title for plots.

    length: of the list that stands in each row, as an array (n, length); 0 for one number a row.
    """

    name: str
    role: str
    unit: str = ""
    title: str = ""
    length: int = 0

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise InputError(f"column {self.name!r}: no role {self.role!r}; roles are {', '.join(ROLES)}")


@dataclass(frozen=True)
class Shard:
    """One Parquet file of a table: the events [start, stop) of one source file that passed the selection."""

    file: str
    rows: int
    sha256: str
    dataset: str
    source: str
    start: int
    stop: int


@dataclass(frozen=True)
class Split:
    """Which folds validate and which test; the rest trains."""

    folds: int = 10
    validation: tuple[int, ...] = (0,)
    test: tuple[int, ...] = ()

    def part(self, fold: NDArray[Any], *, use: str) -> NDArray[np.str_]:
        """'train', 'validation' or 'test' for each event, shape (n,), given its fold and its dataset's use.

        Datasets of use 'all' are split three ways, those of use 'train' give their test folds to
        training, those of use 'test' are all for testing.
        """
        part = np.full(len(fold), "train", dtype="<U10")
        if use == "test":
            part[:] = "test"
            return part
        part[np.isin(fold, self.validation)] = "validation"
        if use == "all":
            part[np.isin(fold, self.test)] = "test"
        return part


@dataclass(frozen=True)
class Selection:
    """Rows of one part (train, validation, test; None for all), and of one label if given."""

    part: Part | None
    split: Split
    label: int | None = None


def fold(*ids: NDArray[Any], folds: int = 10, salt: int = 0) -> NDArray[np.uint8]:
    """Fold of each event, shape (n,) in [0, folds): a hash of its ids alone, (n,) each.

    They are run, lumi and event; where events come in groups, the group and nothing else.  It is the same
    for any chunking, executor or machine, so that no event changes sides.  The mixing is SplitMix64's
    (Steele, Lea, Flood, OOPSLA 2014, figure 15), chained over the numbers.
    """
    return (_mixed(*ids, salt=salt) % np.uint64(folds)).astype(np.uint8)


def combined(names: Sequence[NDArray[Any]]) -> NDArray[np.int64]:
    """One whole number for each event, shape (n,), from others, (n,) each: a hash where they are several."""
    if len(names) == 1:
        return names[0].astype(np.int64)
    return _mixed(*names).astype(np.int64)


def _mixed(*ids: NDArray[Any], salt: int = 0) -> NDArray[np.uint64]:
    state = np.full(len(ids[0]), salt, dtype=np.uint64)
    with np.errstate(over="ignore"):
        for part in ids:
            state = splitmix64(state ^ np.asarray(part).astype(np.uint64))
    return state


def splitmix64(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64's finalised step of each of `x`: 64 bits that look random; numpy warns of the overflow."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def write_shard(
    folder: Path,
    relative: str,
    *,
    arrays: Mapping[str, NDArray[Any]],
    columns: Sequence[Column],
    dataset: str,
    source: str,
    start: int,
    stop: int,
) -> Shard:
    """Write one chunk's rows to folder/relative, atomically, and return its entry for the manifest.

    `arrays` has one array of shape (n,), or (n, length), for each of `columns`.  A chunk that is written
    twice, after a retry or a resume, overwrites itself with the same bytes.
    """
    names = [c.name for c in columns]
    if set(names) != set(arrays):
        raise InputError(f"{relative}: arrays {sorted(arrays)} do not fit the columns {sorted(names)}")
    stored = [_stored(arrays[c.name], c, relative) for c in columns]
    fields = [
        pa.field(c.name, values.type, metadata={"role": c.role, "unit": c.unit})
        for c, values in zip(columns, stored, strict=True)
    ]
    rows = pa.Table.from_arrays(stored, schema=pa.schema(fields))
    path = folder / relative
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    pq.write_table(rows, part, compression="zstd")
    digest = hashlib.sha256(part.read_bytes()).hexdigest()
    part.replace(path)
    return Shard(relative, rows.num_rows, digest, dataset, source, int(start), int(stop))


def write_manifest(
    folder: Path,
    shards: Sequence[Shard],
    *,
    columns: Sequence[Column],
    datasets: Mapping[str, Mapping[str, Any]],
    provenance: Mapping[str, Any],
) -> Table:
    """Write manifest.json, atomically and last: a folder without one is not a table."""
    content = {
        "version": VERSION,
        "columns": [asdict(c) for c in columns],
        "datasets": {k: dict(v) for k, v in datasets.items()},
        # sorted, so that the order in which workers finish leaves no trace
        "shards": [asdict(s) for s in sorted(shards, key=lambda s: (s.dataset, s.source, s.start))],
        "provenance": dict(provenance),
    }
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f"{MANIFEST}.part"
    part.write_text(json.dumps(content, indent=1))
    part.replace(folder / MANIFEST)
    return Table.open(folder)


@dataclass(frozen=True)
class Table:
    """A table on disk.  Nothing is read before it is asked for."""

    folder: Path
    columns: tuple[Column, ...]
    shards: tuple[Shard, ...]
    datasets: dict[str, dict[str, Any]]
    provenance: dict[str, Any]

    @classmethod
    def open(cls, folder: Path | str) -> Self:
        """The table in `folder`; InputError names the file that is missing, cut or of another version."""
        folder = Path(folder)
        content = _read_manifest(folder / MANIFEST)
        try:
            table = cls(
                folder,
                tuple(Column(**c) for c in content["columns"]),
                tuple(Shard(**s) for s in content["shards"]),
                content["datasets"],
                content["provenance"],
            )
        except (KeyError, TypeError) as err:
            raise InputError(
                f"{folder / MANIFEST}: not a manifest of a table ({err}); make it again with --redo"
            ) from None
        for shard in table.shards:
            if not (folder / shard.file).is_file():
                raise InputError(
                    f"{folder / shard.file}: named by the manifest but missing; make it again with --redo"
                )
        return table

    @property
    def rows(self) -> int:
        """Number of rows in all shards."""
        return sum(s.rows for s in self.shards)

    @cached_property
    def fingerprint(self) -> str:
        """Hex digest of the columns, the shards' contents and the datasets' labels and uses."""
        rules = {k: [v.get("label"), v.get("use", "all")] for k, v in sorted(self.datasets.items())}
        content = [[asdict(c) for c in self.columns], sorted(s.sha256 for s in self.shards), rules]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def names(self, role: str) -> list[str]:
        """Names of the columns of this role, in order."""
        return [c.name for c in self.columns if c.role == role]

    def column(self, name: str) -> Column:
        """The column of this name; InputError lists those there are."""
        for c in self.columns:
            if c.name == name:
                return c
        raise InputError(
            f"{self.folder}: no column {name!r}; it has {', '.join(c.name for c in self.columns)}"
        )

    def read(self, names: Sequence[str] | None = None, *, select: Selection | None = None) -> Arrays:
        """The columns `names` (default: all) of the selected rows of all shards, (n,) or (n, length).

        The name 'dataset' gives the index of each row's dataset in `datasets`.
        """
        parts = list(self.iterate(names, select=select))
        wanted = list(names) if names is not None else [c.name for c in self.columns]
        if not parts:
            return {n: np.empty(self._shape(n, 0), np.float32) for n in wanted}
        return {n: np.concatenate([p[n] for p in parts]) for n in wanted}

    def iterate(
        self, names: Sequence[str] | None = None, *, select: Selection | None = None
    ) -> Iterator[Arrays]:
        """Like `read`, one shard at a time, for tables larger than memory."""
        wanted = list(names) if names is not None else [c.name for c in self.columns]
        stored = [n for n in wanted if n != "dataset"]
        for name in stored:
            self.column(name)
        for shard in self.shards:
            yield self._read_shard(shard, wanted, select=select)

    def _read_shard(self, shard: Shard, wanted: Sequence[str], *, select: Selection | None) -> Arrays:
        needed = {n for n in wanted if n != "dataset"}
        if select is not None:
            needed |= {"fold", *(["label"] if select.label is not None else [])}
        path = self.folder / shard.file
        try:
            rows = pq.read_table(path, columns=sorted(needed), partitioning=None)
        except (pa.ArrowException, OSError) as err:
            raise InputError(f"{path}: cannot be read ({err}); make it again with --redo") from None
        if rows.num_rows != shard.rows:
            raise InputError(
                f"{path}: {rows.num_rows} rows, the manifest says {shard.rows}; make it again with --redo"
            )
        arrays: Arrays = {n: self._plain(rows.column(n), n) for n in needed}
        if "dataset" in wanted:
            arrays["dataset"] = np.full(shard.rows, list(self.datasets).index(shard.dataset), dtype=np.int32)
        if select is not None:
            keep = self._selected(arrays, shard, select)
            arrays = {n: a[keep] for n, a in arrays.items()}
        return {n: arrays[n] for n in wanted}

    def _plain(self, values: pa.ChunkedArray, name: str) -> NDArray[Any]:
        if not self.column(name).length:
            return np.asarray(values.to_numpy())
        flat = [np.empty(0, np.float32), *(part.flatten().to_numpy() for part in values.chunks)]
        return np.concatenate(flat[1:] or flat).reshape(self._shape(name, len(values)))

    def _shape(self, name: str, rows: int) -> tuple[int, ...]:
        length = 0 if name == "dataset" else self.column(name).length
        return (rows, length) if length else (rows,)

    def _selected(self, arrays: Arrays, shard: Shard, select: Selection) -> NDArray[np.bool_]:
        keep = np.ones(shard.rows, dtype=bool)
        if select.part is not None:
            use = self.datasets[shard.dataset].get("use", "all")
            keep &= select.split.part(arrays["fold"], use=use) == select.part
        if select.label is not None:
            keep &= arrays["label"] == select.label
        return keep


def _stored(values: NDArray[Any], column: Column, relative: str) -> pa.Array:
    """The array as Parquet takes it: rows of `length` numbers as lists of that size."""
    width = values.shape[1:]
    if width != ((column.length,) if column.length else ()):
        wanted = f"(rows, {column.length})" if column.length else "(rows,)"
        raise InputError(f"{relative}: column {column.name!r} has shape {values.shape}, not {wanted}")
    if not column.length:
        return pa.array(values)
    flat = pa.array(np.ascontiguousarray(values).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, column.length)


def _read_manifest(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise InputError(
            f"{path}: missing, so this is no finished table; make it with 'hepdecorr table CONFIG'"
        )
    try:
        content = json.loads(path.read_text())
    except ValueError as err:
        raise InputError(f"{path}: not JSON ({err}); make it again with --redo") from None
    if not isinstance(content, dict) or content.get("version") != VERSION:
        found = content.get("version") if isinstance(content, dict) else None
        raise InputError(
            f"{path}: version {found}, this hepdecorr reads {VERSION}; make it again with --redo"
        )
    return content
