"""What exporting to ONNX takes, whatever the graph."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def quiet() -> Iterator[None]:
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


def strip(model: Any) -> None:
    """Take out what the exporter notes of the source: stack traces, with paths of this machine."""
    graphs = [model.graph, *model.functions]
    for graph in graphs:
        entries = [graph, *graph.node, *graph.value_info]
        if graph is model.graph:
            entries += [*graph.input, *graph.output, *graph.initializer]
        for entry in entries:
            entry.doc_string = ""
            del entry.metadata_props[:]
