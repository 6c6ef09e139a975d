"""A trained method becomes models/NAME/{tagger.onnx, card.yaml}, checked before anything is written."""

from __future__ import annotations

import contextlib
import io
import logging
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hepdecorr.card import METADATA_KEY, Card
from hepdecorr.errors import InputError
from hepdecorr.learning.methods.method import Method

TOLERANCE = 1e-5  # of the logit, relative above 1
FILE = "tagger.onnx"


class _Outputs(nn.Module):
    def __init__(self, method: Method) -> None:
        super().__init__()
        self.method = method

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        logit = self.method.logit(features)
        return logit.sigmoid(), logit


def export(method: Method, *, card: Card, folder: Path, sample: Tensor) -> Path:
    """Write folder/{tagger.onnx, card.yaml} and return the folder.

    sample: some events, raw features of shape (n, features), n >= 1.  On them, on values far outside
    their range, and for one event and many, ONNX Runtime must give the logits that torch gives, to 1e-5.
    Raises InputError if it does not; then nothing is written.
    """
    features = len(card.feature_names)
    if sample.ndim != 2 or sample.shape[1] != features or len(sample) == 0:
        raise InputError(
            f"tagger {card.name}: a sample of shape {tuple(sample.shape)} for {features} features; "
            "give some events"
        )
    method = method.cpu().eval()
    graph = to_onnx(method, card=card)
    check(graph, method, name=card.name, sample=sample.cpu().float())
    return _write(graph, card, folder)


def to_onnx(method: Method, *, card: Card) -> bytes:
    """The ONNX graph, from `features` (events, f) to `score` and `logit` (events,), card in its metadata."""
    import onnx

    example = torch.zeros(3, len(card.feature_names))
    events = torch.export.Dim("events", min=1)
    with _quiet():
        program = torch.onnx.export(
            _Outputs(method).eval(),
            (example,),
            dynamo=True,
            external_data=False,
            dynamic_shapes={"features": {0: events}},
            input_names=["features"],
            output_names=["score", "logit"],
            verbose=False,
        )
    if program is None:
        raise InputError(f"tagger {card.name}: torch could not export the method")
    model = program.model_proto
    _strip(model)
    onnx.helper.set_model_props(model, {METADATA_KEY: card.to_json()})
    graph: bytes = model.SerializeToString()
    return graph


def _strip(model: Any) -> None:
    """Take out what the exporter notes of the source: stack traces, with paths of this machine."""
    graphs = [model.graph, *model.functions]
    for graph in graphs:
        entries = [graph, *graph.node, *graph.value_info]
        if graph is model.graph:
            entries += [*graph.input, *graph.output, *graph.initializer]
        for entry in entries:
            entry.doc_string = ""
            del entry.metadata_props[:]


def check(graph: bytes, method: Method, *, name: str, sample: Tensor) -> None:
    """Compare ONNX Runtime with torch; InputError where they differ by more than the tolerance."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    low, high = sample.amin(0), sample.amax(0)
    span = high - low + 1
    extremes = [low - 10 * span, high + 10 * span, 0 * low, low, high, 0 * low - 1e6, 0 * low + 1e6]
    whole = torch.cat([sample, torch.stack(extremes)])
    for x in (whole, whole[:1], whole[-1:], whole[: max(2, len(whole) // 2)]):
        with torch.no_grad():
            logit = method.logit(x).numpy()
            score = method(x).numpy()
        got_score, got_logit = session.run(["score", "logit"], {"features": x.numpy()})
        if got_logit.shape != (len(x),) or got_score.shape != (len(x),):
            raise InputError(
                f"tagger {name}: the graph gives shapes {got_score.shape} and {got_logit.shape} for "
                f"{len(x)} events; logit(x) must have shape (n,)"
            )
        worst = float(np.max(np.abs(got_logit - logit) / np.maximum(1, np.abs(logit))))
        if not worst <= TOLERANCE or not np.allclose(got_score, score, rtol=0, atol=TOLERANCE):
            raise InputError(
                f"tagger {name}: ONNX and torch differ by {worst:.1e} in the logit, more than "
                f"{TOLERANCE:g}; nothing was written. Bound the inputs (network: inputs: clip) "
                "or look for operations without "
                "an ONNX counterpart"
            )


def _write(graph: bytes, card: Card, folder: Path) -> Path:
    part = folder.with_name(folder.name + ".part")
    old = folder.with_name(folder.name + ".old")
    for leftover in (part, old):
        shutil.rmtree(leftover, ignore_errors=True)
    part.mkdir(parents=True)
    (part / FILE).write_bytes(graph)
    card.write_yaml(part / "card.yaml")
    # A folder cannot be replaced in one step; the old one steps aside until the new one stands.
    if folder.exists():
        folder.rename(old)
    part.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
    return folder


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter talks on three channels about its own affairs."""
    loggers = [logging.getLogger(n) for n in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels: list[Any] = [one.level for one in loggers]
    try:
        for one in loggers:
            one.setLevel(logging.ERROR)
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for one, level in zip(loggers, levels, strict=True):
            one.setLevel(level)
