"""Applies a trained tagger: one ONNX file with its card, on events (eager or virtual) or plain arrays."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from hepdecorr.card import METADATA_KEY, Card
from hepdecorr.columnar import features
from hepdecorr.columnar.rows import place
from hepdecorr.errors import InputError
from hepdecorr.table import Table

Floats = NDArray[np.float32]

MODEL = "tagger.onnx"
EMBED = 16 * 2**20  # bytes up to which a model travels inside the pickle; larger ones go by path
_OUTPUTS = ("score", "logit")
_BLOCK = 8192  # rows of a block of columns that a core's cache holds
_REGISTER = 16  # float32 values in the widest vector register

# coffea unpickles the processor for every chunk, so that what hangs on it is opened again each time: the
# sessions live in the process, under the digest of the model.
_SESSIONS: dict[str, ort.InferenceSession] = {}
_LOCK = threading.Lock()


class OnnxTagger:
    """A tagger as a function of events: `tagger(events)` gives a score for each.

    `model` is a folder with tagger.onnx, that file, or its bytes.  `base` is the folder from which the
    card's own feature files (my_features.py:rho) are found; default: the working directory.  It pickles,
    and each process opens the model once.

    Raises InputError for a file that is no ONNX model, that has no card or one of another version, and
    for a graph that does not fit its card.
    """

    def __init__(
        self, model: Path | str | bytes, *, base: Path | str | None = None, batch_size: int = 2048
    ) -> None:
        if batch_size < 1:
            raise InputError(f"batch_size {batch_size}: at least one event at a time")
        content, self.source = _read(model)
        self.sha256 = hashlib.sha256(content).hexdigest()
        self.base = Path(base or ".").resolve()
        self.batch_size = batch_size
        self._payload = content if isinstance(model, bytes) or len(content) <= EMBED else self.source
        session = _session(self.sha256, content, self.source)
        self.card = _card(session, self.source)
        _check_graph(session, self.card, self.source)

    def __repr__(self) -> str:
        return f"OnnxTagger({self.card.name!r}, sha256={self.sha256[:12]})"

    def __call__(self, events: Any) -> Any:
        """Score of each event, as an array of awkward; of each row, for a matrix (n, features) of numpy."""
        # Not built on coffea.ml_tools: importing that imports torch into every worker that has it.
        if isinstance(events, ak.Array):
            return ak.from_numpy(self.scores(self.inputs(events)))
        return self.scores(events)

    @property
    def feature_names(self) -> list[str]:
        """The features, in the order of the columns of `scores` and `logits`."""
        return self.card.feature_names

    @property
    def thresholds(self) -> dict[float, float]:
        """Threshold on the logit of each working point, by its background rejection."""
        return {point.rejection: point.threshold for point in self.card.working_points}

    def scores(self, x: Any) -> Floats:
        """Score in [0, 1] of each row of `x`, shape (n, features) -> (n,)."""
        return self._run(x, _OUTPUTS[:1])[0]

    def logits(self, x: Any) -> Floats:
        """Logit of each row of `x`, shape (n, features) -> (n,); it resolves what rounds to a score of 1."""
        return self._run(x, _OUTPUTS[1:])[0]

    def inputs(self, events: Any) -> Floats:
        """The card's features of `events` in its order, shape (n, features).

        Raises InputError that names a branch or feature that is missing, or not finite, and where.
        """
        self.check_conventions(events)
        try:
            return self.stack(features.compute(self.feature_names, events, base=self.base))
        except InputError as err:
            raise InputError(f"{place(events)}tagger {self.card.name}: {err}") from err

    def stack(self, columns: Mapping[str, NDArray[Any]]) -> Floats:
        """Columns by name -> the matrix the graph takes, shape (n, features); saves computing them twice."""
        if missing := [n for n in self.feature_names if n not in columns]:
            raise InputError(f"{self.source}: the tagger needs feature {missing[0]!r}, which is not there")
        return _side_by_side([columns[n] for n in self.feature_names])

    def logit(self, events: Any) -> Any:
        """Logit of each event, as an array of awkward."""
        return ak.from_numpy(self.logits(self.inputs(events)))

    def passes(self, events: Any, *, rejection: float = 0.95) -> Any:
        """Whether each event passes the card's working point of this background rejection."""
        return self.logit(events) > np.float32(self.card.working_point(rejection).threshold)

    def check_table(self, table: Table) -> None:
        """InputError unless the table's features are the card's: names, order, units and conventions."""
        names = table.names("feature")
        wanted = self.feature_names
        if names != wanted:
            raise InputError(
                f"{self.source}: the tagger's features are not the table's: {_difference(wanted, names)}"
            )
        for feature in (f for i in self.card.inputs for f in i.features):
            unit = table.column(feature.name).unit
            if unit != feature.unit:
                raise InputError(
                    f"{self.source}: feature {feature.name!r} has the unit {feature.unit!r} in the tagger "
                    f"and {unit!r} in the table"
                )
        self._compare(table.provenance.get("conventions") or {}, "the table")

    def check_conventions(self, events: Any) -> None:
        """InputError when the events were read under another schema than the tagger was trained on."""
        schema = schema_name(events)
        if schema is not None:
            self._compare({"schema": schema}, "these events")

    def _compare(self, found: Mapping[str, Any], of: str) -> None:
        for key, value in self.card.conventions.items():
            if key in found and str(found[key]) != value:
                wrong = f"trained with {key} {value!r}, {of} came with {found[key]!r}"
                raise InputError(f"{self.source}: the tagger was {wrong}")

    def _check_matrix(self, x: Any) -> None:
        if isinstance(x, np.ma.MaskedArray):
            # numpy would hand on what lies under the mask.
            raise InputError(f"{self.source}: masked array; fill what is masked first")
        width = len(self.feature_names)
        if np.ndim(x) != 2 or np.shape(x)[1] != width:
            raise InputError(f"{self.source}: shape {np.shape(x)}; the tagger takes (events, {width})")
        if np.asarray(x).dtype.kind not in "biuf":
            raise InputError(f"{self.source}: {np.asarray(x).dtype} are no numbers")

    def _run(self, x: Any, outputs: Sequence[str]) -> list[Floats]:
        self._check_matrix(x)
        x = np.ascontiguousarray(x, dtype=np.float32)
        if len(x) == 0:
            # ONNX Runtime aborts the process on an LSTM over no rows, and raises on a convolution.
            return [np.empty(0, dtype=np.float32) for _ in outputs]
        parts = [self._batch(x[i : i + self.batch_size], outputs) for i in range(0, len(x), self.batch_size)]
        return [np.concatenate(p) for p in zip(*parts, strict=True)]

    def _batch(self, x: Floats, outputs: Sequence[str]) -> list[Floats]:
        # Element-wise kernels (ELU, softplus) round the last few elements of an array, which do not fill a
        # vector register, differently.  With whole registers an event's score does not depend on its chunk.
        padding = -len(x) % _REGISTER
        padded = np.pad(x, ((0, padding), (0, 0)), mode="edge") if padding else x
        session = _session(self.sha256, self._payload, self.source)
        found = session.run(list(outputs), {self.card.inputs[0].name: padded})
        return [o.reshape(-1)[: len(x)] for o in found]


def _side_by_side(columns: Sequence[NDArray[Any]]) -> Floats:
    """Columns (n,) -> float32 matrix (n, columns), in blocks that fit the cache."""
    if len({np.shape(c) for c in columns}) > 1:
        raise InputError(f"columns of different lengths: {sorted({len(c) for c in columns})}")
    matrix = np.empty((len(columns[0]), len(columns)), dtype=np.float32)
    for start in range(0, len(matrix), _BLOCK):
        rows = slice(start, start + _BLOCK)
        np.stack([c[rows] for c in columns], axis=1, out=matrix[rows], casting="unsafe")
    return matrix


def schema_name(events: Any) -> str | None:
    """Name of the coffea schema under which events were read; None for plain arrays."""
    factory = getattr(events, "attrs", {}).get("@events_factory") if isinstance(events, ak.Array) else None
    schema = getattr(factory, "_schema", None)
    return None if schema is None else type(schema).__name__


def _read(model: Path | str | bytes) -> tuple[bytes, str]:
    if isinstance(model, bytes):
        return model, "the model"
    path = Path(model)
    if path.is_dir():
        path /= MODEL
    try:
        return path.read_bytes(), str(path.resolve())
    except OSError as err:
        raise InputError(
            f"{path}: no such tagger ({err.strerror}); give a model's folder or its .onnx file"
        ) from None


def _session(sha256: str, payload: bytes | str, source: str) -> ort.InferenceSession:
    """The session of this model in this process, opened on first use."""
    with _LOCK:
        if sha256 not in _SESSIONS:
            _SESSIONS[sha256] = _open(_verified(sha256, payload), source)
        return _SESSIONS[sha256]


def _verified(sha256: str, payload: bytes | str) -> bytes:
    if isinstance(payload, bytes):
        return payload
    try:
        content = Path(payload).read_bytes()
    except OSError as err:
        # Not an OSError, and without one in its chain: a run that skips bad files would take the missing
        # model for a bad file and drop the events.
        raise InputError(f"{payload}: this worker cannot read the model ({err.strerror})") from None
    if hashlib.sha256(content).hexdigest() != sha256:
        raise InputError(f"{payload}: the model on this worker is not the one that was configured")
    return content


def _open(content: bytes, source: str) -> ort.InferenceSession:
    options = ort.SessionOptions()
    # More threads slow a job of several processes down; counts that are given avoid affinity errors in Slurm.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    try:
        return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as err:  # ONNX Runtime's own types derive from Exception alone
        raise InputError(f"{source}: no model that ONNX Runtime can open: {err}") from None


def _card(session: ort.InferenceSession, source: str) -> Card:
    text = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
    if text is None:
        raise InputError(
            f"{source}: this ONNX model has no card, so its inputs are unknown; export it with hepdecorr"
        )
    return Card.from_json(text, source=source)


def _check_graph(session: ort.InferenceSession, card: Card, source: str) -> None:
    graph = [(i.name, i.type) for i in session.get_inputs()]
    if graph != [(i.name, "tensor(float)") for i in card.inputs] or len(graph) != 1:
        raise InputError(f"{source}: the graph's inputs {graph} are not those of its card")
    shape = session.get_inputs()[0].shape
    width = len(card.feature_names)
    if len(shape) != 2 or (isinstance(shape[1], int) and shape[1] != width):
        raise InputError(f"{source}: the graph takes shape {shape}, its card has {width} features")
    if missing := set(_OUTPUTS) - {o.name for o in session.get_outputs()}:
        raise InputError(f"{source}: the graph has no output {min(missing)!r}")


def _difference(wanted: Sequence[str], found: Sequence[str]) -> str:
    if missing := [n for n in wanted if n not in found]:
        return f"{', '.join(missing)} missing in the table"
    if extra := [n for n in found if n not in wanted]:
        return f"{', '.join(extra)} unknown to the tagger"
    return f"their order is {', '.join(found)} instead of {', '.join(wanted)}"
