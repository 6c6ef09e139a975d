"""Codes of groups: what a tagger that is told of each event's group (run, era) has to know of all of them.

The events of a group may lie in many chunks and files.  A first pass adds up what `members.onnx` gives for
each (GroupSums, an accumulator), `group.onnx` makes a code of each sum (GroupCodes), and a second pass
applies the tagger.  The sums are exact, so that the codes do not depend on chunks, files or executor.

The first of two passes over events, for taggers that are told of each event's group: codes of groups.
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

from hepdecorr.columnar import onnx_graph, onnx_session
from hepdecorr.errors import InputError
from hepdecorr.exact_sums import ExactGroupSums
from hepdecorr.model_card import ModelCard

logger = logging.getLogger(__name__)

SUMMANDS_FILE, GROUP_FILE = "members.onnx", "group.onnx"
CODES_METADATA_KEY = b"hepdecorr.codes"  # where a file of codes says of which tagger they are
CODES_VERSION = 1

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class GroupCodes:
    """The codes of groups for one tagger, normal densities with independent dimensions.

    `codes.mean_for(ids)` gives the mean for each row, which is the tagger's input `context`, and
    `codes.log_var_for(ids)` the log of its variance.  A group that is not among them is an InputError; with
    `use_prior` it has the code of an unknown one, mean 0 and variance 1.
    """

    ids: Ints  # (g,), ascending
    counts: Ints  # (g,), events
    mean: Floats  # (g, d)
    log_var: Floats  # (g, d)
    tagger_sha256: str  # sha256 of the tagger's graph
    tagger_name: str = ""  # of the tagger
    group_features: tuple[str, ...] = ()  # features whose values name a group
    use_prior: bool = field(default=False)

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        return (
            f"GroupCodes({len(self)} groups of {'+'.join(self.group_features)}, tagger {self.tagger_name!r})"
        )

    def mean_for(self, ids: NDArray[Any]) -> Floats:
        """The mean of the code of each row's group, (n, d), for their ids (n,)."""
        return self._take_rows(self.mean, ids)

    def log_var_for(self, ids: NDArray[Any]) -> Floats:
        """The log of the variance of the code of each row's group, (n, d): its uncertainty."""
        return self._take_rows(self.log_var, ids)

    def contains(self, ids: NDArray[Any]) -> NDArray[np.bool_]:
        """Whether there is a code for each row's group, (n,)."""
        return self._locate_groups(ids)[1]

    def with_prior_fallback(self) -> GroupCodes:
        """The same, where a group that is not among them has mean 0 and variance 1, as before any event."""
        return replace(self, use_prior=True)

    def check_tagger(self, sha256: str) -> None:
        """InputError unless these are the codes of the tagger whose graph has this digest."""
        if self.tagger_sha256 != sha256:
            raise InputError(
                f"these are codes of another tagger ({self.tagger_name or 'without a name'}, sha256 "
                f"{self.tagger_sha256[:12]} and not {sha256[:12]}); "
                "a code means nothing to a tagger but its own: "
                "compute them again, with hepdecorr.columnar.compute_group_codes(fileset, tagger)"
            )

    def summary(self) -> str:
        """How many groups, of how many events, in a line."""
        named = "+".join(self.group_features)
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
        about = {
            "version": CODES_VERSION,
            "tagger_sha256": self.tagger_sha256,
            "tagger_name": self.tagger_name,
            "group_features": self.group_features,
        }
        table = pa.table(arrays).replace_schema_metadata({CODES_METADATA_KEY: json.dumps(about)})
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
            about = json.loads((table.schema.metadata or {})[CODES_METADATA_KEY])
            width = sum(name.startswith("code_") for name in table.column_names)
            if about["version"] != CODES_VERSION:
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
        return cls(
            ids,
            counts,
            mean,
            log_var,
            about["tagger_sha256"],
            about["tagger_name"],
            tuple(about["group_features"]),
        )

    def _locate_groups(self, ids: NDArray[Any]) -> tuple[Ints, NDArray[np.bool_]]:
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

    def _take_rows(self, values: Floats, ids: NDArray[Any]) -> Floats:
        at, known = self._locate_groups(ids)
        if known.all():
            return values[at] if len(self) else np.zeros((len(at), values.shape[1]), np.float32)
        if not self.use_prior:
            self._raise_missing(np.asarray(ids)[~known], num_rows=len(at))
        found = np.zeros((len(at), values.shape[1]), np.float32)
        found[known] = values[at[known]]
        return found

    def _raise_missing(self, missing_ids: NDArray[Any], *, num_rows: int) -> None:
        groups = np.unique(missing_ids)
        named = "+".join(self.group_features) or "group"
        more = f", and {len(groups) - 1} groups more" if len(groups) > 1 else ""
        raise InputError(
            f"no code of {named} {groups[0]}{more} ({len(missing_ids)} of {num_rows} rows), "
            f"but of {self.summary()}; "
            "codes come from all events that are scored: compute them from the same files, with the same "
            "selection (hepdecorr.columnar.compute_group_codes), or take codes.with_prior_fallback() to "
            "score such events as if nothing were known of their group"
        )


class OnnxGroupEncoder:
    """The two graphs beside a tagger with a context: features -> summands, and sums -> codes.

    They travel inside the pickle up to 16 MB each.  What is missing is told when it is needed: to apply a
    tagger with codes that are there takes none of them.
    """

    def __init__(self, model: Path | str | bytes, card: ModelCard, *, sha256: str, batch_size: int) -> None:
        assert card.context is not None
        self.card, self.context, self.sha256, self.batch_size = card, card.context, sha256, batch_size
        self._models: dict[str, tuple[str, bytes | str, str]] = {}
        self._load_errors: dict[str, str] = {}
        for file, wanted in (
            (SUMMANDS_FILE, self.context.summands_sha256),
            (GROUP_FILE, self.context.encoder_sha256),
        ):
            self._load_model(model, file, wanted)

    def compute_summands(self, x: Any) -> Floats:
        """What each event adds, (n, m), of its features (n, f)."""
        values = onnx_graph.to_float32(x, source=f"tagger {self.card.name}")
        width = len(self.card.feature_names)
        if values.ndim != 2 or values.shape[1] != width:
            raise InputError(
                f"tagger {self.card.name}: shape {values.shape}; codes come from (events, {width})"
            )
        (found,) = self._run_batches(
            SUMMANDS_FILE, {"features": values}, ["summands"], [self.context.num_summands]
        )
        return found

    def sum_member_rows(self, x: Any, ids: NDArray[Any]) -> ExactGroupSums:
        """Sums by group, of features (n, f) and the groups' ids (n,)."""
        return ExactGroupSums.from_rows(ids, self.compute_summands(x), tagger=self.sha256)

    def pool_sums(self, sums: ExactGroupSums) -> GroupCodes:
        """The codes of groups whose events are all in `sums`."""
        if sums.tagger != self.sha256:
            raise InputError(f"tagger {self.card.name}: these are sums of another tagger; sum again")
        width = self.context.latents
        given = {"sums": sums.sums.astype(np.float32), "counts": sums.counts.astype(np.float32)}
        mean, log_var = self._run_batches(GROUP_FILE, given, ["mean", "log_var"], [width, width])
        for values in (mean, log_var):
            if len(bad := np.flatnonzero(~np.isfinite(values).all(axis=1))):
                raise InputError(
                    f"tagger {self.card.name}: the code of group {sums.ids[bad[0]]} is not finite "
                    f"({len(bad)} of {len(sums)} groups); look at the features of its events"
                )
        self._warn_about_sizes(sums.counts)
        about = (self.sha256, self.card.name, self.context.group_features)
        return GroupCodes(sums.ids, sums.counts, mean, log_var, *about)

    def _warn_about_sizes(self, counts: Ints) -> None:
        low, _, high = self.context.group_sizes
        if len(counts) and not low <= (middle := float(np.median(counts))) <= high:
            logger.warning(
                "tagger %s: codes were learnt of groups of %d to %d events, and these groups have %g at the "
                "median: how good a code of so many is has not been tried",
                self.card.name, low, high, middle,
            )  # fmt: skip

    def _run_batches(
        self, file: str, arrays: Mapping[str, Floats], outputs: list[str], widths: list[int]
    ) -> list[Floats]:
        if file in self._load_errors:
            raise InputError(self._load_errors[file])
        session = onnx_session.get_session(*self._models[file])
        rows, size = len(next(iter(arrays.values()))), self.batch_size
        found = [np.empty((rows, width), np.float32) for width in widths]
        for start in range(0, rows, size):
            part = {name: values[start : start + size] for name, values in arrays.items()}
            here = slice(start, min(start + size, rows))
            # Full registers, so that what an event adds does not depend on its chunk.
            for whole, some in zip(
                found, session.run(outputs, onnx_graph.pad_to_registers(part)), strict=True
            ):
                whole[here] = some[: here.stop - start]
        return found

    def _load_model(self, model: Path | str | bytes, file: str, expected_sha256: str) -> None:
        if isinstance(model, bytes):
            self._load_errors[file] = (
                f"tagger {self.card.name}: to compute codes of groups takes {file}, which lies beside the "
                "graph; give the tagger's folder instead of bytes"
            )
            return
        path = Path(model)
        path = (path if path.is_dir() else path.parent) / file
        copied = f"copy the whole folder of tagger {self.card.name}, not {onnx_session.TAGGER_FILE} alone"
        try:
            content = path.read_bytes()
        except OSError as err:
            self._load_errors[file] = (
                f"{path}: cannot be read ({err.strerror}), and codes of groups are computed with it; {copied}"
            )
            return
        if hashlib.sha256(content).hexdigest() != expected_sha256:
            self._load_errors[file] = f"{path}: not of the {onnx_session.TAGGER_FILE} beside it; {copied}"
            return
        source = str(path.resolve())
        self._models[file] = (
            expected_sha256,
            content if len(content) <= onnx_session.MAX_EMBEDDED_BYTES else source,
            source,
        )
