"""What exporting to ONNX takes, whatever the graph."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hepdecorr.errors import InputError

FURTHER = 1e-4  # of all but the logit, relative to the largest number of the row where that is above 1


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


def opened(graph: bytes) -> Any:
    """A session of ONNX Runtime on one thread, to compare the graph with torch."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def to_onnx(
    module: nn.Module,
    example: Mapping[str, Tensor],
    *,
    axes: Mapping[str, Mapping[int, Any]],
    outputs: Sequence[str],
    metadata: Mapping[str, str],
) -> bytes | None:
    """The graph of a module, its inputs and outputs named, with metadata; None where torch cannot export it.

    The module's forward takes `*inputs`.  example: its inputs, in order; axes: by input, the axes that may
    have any length, as torch.export.Dim.
    """
    import onnx

    with quiet():
        program = torch.onnx.export(
            module.eval(),
            tuple(example.values()),
            dynamo=True,
            external_data=False,
            dynamic_shapes={"inputs": tuple(axes[name] for name in example)},
            input_names=list(example),
            output_names=list(outputs),
            verbose=False,
        )
    if program is None:
        return None
    model = program.model_proto
    strip(model)
    onnx.helper.set_model_props(model, dict(metadata))
    graph: bytes = model.SerializeToString()
    return graph


def agree(got: Any, known: np.ndarray[Any, Any], *, about: str, rows: int) -> None:
    """InputError unless they agree, row by row, on the scale of the row's largest number."""
    if got.shape != known.shape or len(known) != rows:
        raise InputError(
            f"{about} has shape {got.shape} in the graph and {known.shape} in torch, for {rows} rows"
        )
    off = np.abs(got - known).reshape(rows, -1).max(1, initial=0.0)
    scale = np.maximum(1, np.abs(known).reshape(rows, -1).max(1, initial=0.0))
    if not (off <= FURTHER * scale).all():
        raise InputError(
            f"{about} differs by {np.max(off / scale):.1e} between ONNX and torch, relative above 1, more "
            f"than {FURTHER:g}; nothing was written"
        )
