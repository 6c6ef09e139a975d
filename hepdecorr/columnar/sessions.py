"""Sessions of ONNX Runtime: one for each model in each process, opened on first use and checked."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path

import onnxruntime as ort

from hepdecorr.card import METADATA_KEY, Card
from hepdecorr.errors import InputError

MODEL = "tagger.onnx"
EMBED = 16 * 2**20  # bytes up to which a model travels inside the pickle; larger ones go by path
OUTPUTS = ("score", "logit")
_CLOUDS = ("constituents", "mask")

# coffea unpickles the processor for every chunk, so that what hangs on it is opened again each time: the
# sessions live in the process, under the digest of the model.
_SESSIONS: dict[str, ort.InferenceSession] = {}
_LOCK = threading.Lock()


def read(model: Path | str | bytes) -> tuple[bytes, str]:
    """The model's bytes, and what to call it; InputError where there is none."""
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


def session(sha256: str, payload: bytes | str, source: str) -> ort.InferenceSession:
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


def card(opened: ort.InferenceSession, source: str) -> Card:
    """The card that the model carries; InputError without one."""
    text = opened.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
    if text is None:
        raise InputError(
            f"{source}: this ONNX model has no card, so its inputs are unknown; export it with hepdecorr"
        )
    return Card.from_json(text, source=source)


def check(opened: ort.InferenceSession, card: Card, source: str) -> None:
    """InputError unless the graph takes and gives what its card says."""
    graph = {i.name: i for i in opened.get_inputs()}
    names = [i.name for i in card.inputs]
    own = {n for n in names if n not in ("context", "nuisances")}
    known = len(own) == 1 or own in ({*_CLOUDS}, {"features", *_CLOUDS})
    types = {i.type for i in graph.values()}
    if set(graph) != set(names) or types != {"tensor(float)"} or not known:
        found = [(name, i.type) for name, i in graph.items()]
        raise InputError(f"{source}: the graph's inputs {found} are not those of its card")
    for given in card.inputs:
        shape = graph[given.name].shape
        if given.name in _CLOUDS:
            width = [len(given.features)] if given.name == "constituents" else []
            fits = len(shape) == 2 + len(width) and not isinstance(shape[1], int)
        else:
            width, fits = [len(given.features)], len(shape) == 2
        if not fits or any(isinstance(n, int) and n != w for n, w in zip(shape[-1:], width, strict=False)):
            raise InputError(
                f"{source}: the graph takes shape {shape}, its card has {len(given.features)} features"
                + (f" in {given.name!r}, for any number of constituents" if given.name in _CLOUDS else "")
            )
    if missing := {*OUTPUTS, *card.outputs} - {o.name for o in opened.get_outputs()}:
        raise InputError(f"{source}: the graph has no output {min(missing)!r}")
