"""Codes of groups: what a tagger that is told of each event's group (run, era) has to know of all of them.

The events of a group may lie in many chunks and files.  A first pass adds up what `members.onnx` gives for
each (GroupSums, an accumulator), `group.onnx` makes a code of each sum (GroupCodes), and a second pass
applies the tagger.  The sums are exact, so that the codes do not depend on chunks, files or executor.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from hepdecorr.card import Card
from hepdecorr.columnar import inputs, sessions
from hepdecorr.errors import InputError
from hepdecorr.sums import GroupSums

logger = logging.getLogger(__name__)

MEMBERS, GROUP = "members.onnx", "group.onnx"
KEY = b"hepdecorr.codes"  # where a file of codes says of which tagger they are
VERSION = 1

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class GroupCodes:
    """The codes of groups for one tagger, normal densities with independent dimensions.

    `codes.of(ids)` gives the mean for each row, which is the tagger's input `context`, and
    `codes.log_var_of(ids)` the log of its variance.  A group that is not among them is an InputError; with
    `prior` it has the code of an unknown one, mean 0 and variance 1.
    """

    ids: Ints  # (g,), ascending
    counts: Ints  # (g,), events
    mean: Floats  # (g, d)
    log_var: Floats  # (g, d)
    tagger: str  # sha256 of the tagger's graph
    name: str = ""  # of the tagger
    named_by: tuple[str, ...] = ()  # features whose values name a group
    prior: bool = field(default=False)

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        return f"GroupCodes({len(self)} groups of {'+'.join(self.named_by)}, tagger {self.name!r})"

    def of(self, ids: NDArray[Any]) -> Floats:
        """The mean of the code of each row's group, (n, d), for their ids (n,)."""
        return self._rows(self.mean, ids)

    def log_var_of(self, ids: NDArray[Any]) -> Floats:
        """The log of the variance of the code of each row's group, (n, d): its uncertainty."""
        return self._rows(self.log_var, ids)

    def known(self, ids: NDArray[Any]) -> NDArray[np.bool_]:
        """Whether there is a code for each row's group, (n,)."""
        return self._found(ids)[1]

    def with_prior(self) -> GroupCodes:
        """The same, where a group that is not among them has mean 0 and variance 1, as before any event."""
        return replace(self, prior=True)

    def check(self, sha256: str) -> None:
        """InputError unless these are the codes of the tagger whose graph has this digest."""
        if self.tagger != sha256:
            raise InputError(
                f"these are codes of another tagger ({self.name or 'without a name'}, sha256 "
                f"{self.tagger[:12]} and not {sha256[:12]}); a code means nothing to a tagger but its own: "
                "compute them again, with hepdecorr.columnar.group_codes(fileset, tagger)"
            )

    def summary(self) -> str:
        """How many groups, of how many events, in a line."""
        named = "+".join(self.named_by)
        if not len(self):
            return f"no groups of {named}"
        low, middle, high = self.counts.min(), int(np.median(self.counts)), self.counts.max()
        return f"{len(self):,} groups of {named}, of {low:,} to {high:,} events (median {middle:,})"

    def save(self, path: Path | str) -> Path:
        """Write them to a Parquet file, atomically: group, events, code_0, ..., log_var_0, ..."""
        path = Path(path)
        arrays: dict[str, NDArray[Any]] = {"group": self.ids, "events": self.counts}
        for name, values in (("code", self.mean), ("log_var", self.log_var)):
            arrays |= {f"{name}_{k}": column for k, column in enumerate(values.T)}
        about = {"version": VERSION, "tagger": self.tagger, "name": self.name, "of": self.named_by}
        table = pa.table(arrays).replace_schema_metadata({KEY: json.dumps(about)})
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.{os.getpid()}.part")
        pq.write_table(table, part, compression="zstd")
        part.replace(path)
        return path

    @classmethod
    def open(cls, path: Path | str) -> Self:
        """What `save` wrote; InputError where there is nothing of the kind."""
        try:
            table = pq.read_table(path, partitioning=None)
            about = json.loads((table.schema.metadata or {})[KEY])
            width = sum(name.startswith("code_") for name in table.column_names)
            if about["version"] != VERSION:
                raise ValueError(about["version"])
            mean, log_var = (
                np.stack([table[f"{name}_{k}"].to_numpy() for k in range(width)], 1)
                for name in ("code", "log_var")
            )
            ids, counts = (table[name].to_numpy() for name in ("group", "events"))
        except FileNotFoundError:
            raise InputError(
                f"{path}: no such file of codes; 'hepdecorr evaluate' and GroupCodes.save write them"
            ) from None
        except (pa.ArrowException, OSError, KeyError, ValueError, TypeError) as err:
            raise InputError(f"{path}: no file of codes of this version of hepdecorr ({err})") from None
        return cls(ids, counts, mean, log_var, about["tagger"], about["name"], tuple(about["of"]))

    def _found(self, ids: NDArray[Any]) -> tuple[Ints, NDArray[np.bool_]]:
        """Where the group of each row stands, and whether it is there at all."""
        own = np.asarray(ids)
        if own.ndim != 1 or not np.issubdtype(own.dtype, np.integer):
            raise InputError(
                f"ids of groups are integers of shape (n,), not {own.dtype} of shape {own.shape}"
            )
        own = own.astype(np.int64)
        if not len(self):
            return np.zeros(len(own), np.int64), np.zeros(len(own), bool)
        at = np.minimum(np.searchsorted(self.ids, own), len(self) - 1)
        return at, self.ids[at] == own

    def _rows(self, values: Floats, ids: NDArray[Any]) -> Floats:
        at, known = self._found(ids)
        if known.all():
            return values[at] if len(self) else np.zeros((len(at), values.shape[1]), np.float32)
        if not self.prior:
            self._refuse(np.asarray(ids)[~known], rows=len(at))
        found = np.zeros((len(at), values.shape[1]), np.float32)
        found[known] = values[at[known]]
        return found

    def _refuse(self, unknown: NDArray[Any], *, rows: int) -> None:
        groups = np.unique(unknown)
        named = "+".join(self.named_by) or "group"
        more = f", and {len(groups) - 1} groups more" if len(groups) > 1 else ""
        raise InputError(
            f"no code of {named} {groups[0]}{more} ({len(unknown)} of {rows} rows), but of {self.summary()}; "
            "codes come from all events that are scored: compute them from the same files, with the same "
            "selection (hepdecorr.columnar.group_codes), or take codes.with_prior() to score such events as "
            "if nothing were known of their group"
        )


class Pooling:
    """The two graphs beside a tagger with a context: features -> summands, and sums -> codes.

    They travel inside the pickle up to 16 MB each.  What is missing is told when it is needed: to apply a
    tagger with codes that are there takes none of them.
    """

    def __init__(self, model: Path | str | bytes, card: Card, *, sha256: str, batch_size: int) -> None:
        assert card.context is not None
        self.card, self.context, self.sha256, self.batch_size = card, card.context, sha256, batch_size
        self._graphs: dict[str, tuple[str, bytes | str, str]] = {}
        self._faults: dict[str, str] = {}
        for file, wanted in ((MEMBERS, self.context.members), (GROUP, self.context.group)):
            self._read(model, file, wanted)

    def summands(self, x: Any) -> Floats:
        """What each event adds, (n, m), of its features (n, f)."""
        values = inputs.plain(x, source=f"tagger {self.card.name}")
        width = len(self.card.feature_names)
        if values.ndim != 2 or values.shape[1] != width:
            raise InputError(
                f"tagger {self.card.name}: shape {values.shape}; codes come from (events, {width})"
            )
        (found,) = self._run(MEMBERS, {"features": values}, ["summands"], [self.context.summands])
        return found

    def summed(self, x: Any, ids: NDArray[Any]) -> GroupSums:
        """Sums by group, of features (n, f) and the groups' ids (n,)."""
        return GroupSums.of(ids, self.summands(x), tagger=self.sha256)

    def pool(self, sums: GroupSums) -> GroupCodes:
        """The codes of groups whose events are all in `sums`."""
        if sums.tagger != self.sha256:
            raise InputError(f"tagger {self.card.name}: these are sums of another tagger; sum again")
        width = self.context.latents
        given = {"sums": sums.sums.astype(np.float32), "counts": sums.counts.astype(np.float32)}
        mean, log_var = self._run(GROUP, given, ["mean", "log_var"], [width, width])
        for values in (mean, log_var):
            if len(bad := np.flatnonzero(~np.isfinite(values).all(axis=1))):
                raise InputError(
                    f"tagger {self.card.name}: the code of group {sums.ids[bad[0]]} is not finite "
                    f"({len(bad)} of {len(sums)} groups); look at the features of its events"
                )
        self._tell_of_sizes(sums.counts)
        about = (self.sha256, self.card.name, self.context.of)
        return GroupCodes(sums.ids, sums.counts, mean, log_var, *about)

    def _tell_of_sizes(self, counts: Ints) -> None:
        low, _, high = self.context.counts
        if len(counts) and not low <= (middle := float(np.median(counts))) <= high:
            logger.warning(
                "tagger %s: codes were learnt of groups of %d to %d events, and these groups have %g at the "
                "median: how good a code of so many is has not been tried",
                self.card.name, low, high, middle,
            )  # fmt: skip

    def _run(
        self, file: str, given: Mapping[str, Floats], outputs: list[str], widths: list[int]
    ) -> list[Floats]:
        if file in self._faults:
            raise InputError(self._faults[file])
        session = sessions.session(*self._graphs[file])
        rows, size = len(next(iter(given.values()))), self.batch_size
        found = [np.empty((rows, width), np.float32) for width in widths]
        for start in range(0, rows, size):
            part = {name: values[start : start + size] for name, values in given.items()}
            here = slice(start, min(start + size, rows))
            # Full registers, so that what an event adds does not depend on its chunk.
            for whole, some in zip(found, session.run(outputs, inputs.whole_registers(part)), strict=True):
                whole[here] = some[: here.stop - start]
        return found

    def _read(self, model: Path | str | bytes, file: str, wanted: str) -> None:
        if isinstance(model, bytes):
            self._faults[file] = (
                f"tagger {self.card.name}: to compute codes of groups takes {file}, which lies beside the "
                "graph; give the tagger's folder instead of bytes"
            )
            return
        path = Path(model)
        path = (path if path.is_dir() else path.parent) / file
        copied = f"copy the whole folder of tagger {self.card.name}, not {sessions.MODEL} alone"
        try:
            content = path.read_bytes()
        except OSError as err:
            self._faults[file] = (
                f"{path}: cannot be read ({err.strerror}), and codes of groups are computed with it; {copied}"
            )
            return
        if hashlib.sha256(content).hexdigest() != wanted:
            self._faults[file] = f"{path}: not of the {sessions.MODEL} beside it; {copied}"
            return
        source = str(path.resolve())
        self._graphs[file] = (wanted, content if len(content) <= sessions.EMBED else source, source)
