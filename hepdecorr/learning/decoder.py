"""The decoder of a method that learns from groups, as a graph of its own beside the tagger."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
import torch
from torch import Tensor, nn

from hepdecorr.errors import InputError
from hepdecorr.learning.graphs import quiet, strip

FILE = "decoder.onnx"
TOLERANCE = 1e-4  # of features, relative where they are above 1
_TRIALS = 64


class GroupDecoder(nn.Module):
    """What a method returns from `decoder()`, to be exported beside it.

    group, instance: how many numbers the codes of a group and of an event have.
    """

    group: int
    instance: int

    @abstractmethod
    def forward(self, group: Tensor, instance: Tensor) -> Tensor:
        """Features (n, f) in their own units, of codes (n, d_u) and (n, d_v)."""


def to_graph(decoder: GroupDecoder, *, tagger: str) -> bytes:
    """The graph: inputs `group` (events, d_u) and `instance` (events, d_v), output `features` (events, f).

    Which features they are, and the variance around them, tell `represents` and `variance` among the card's
    measured figures.  InputError where ONNX Runtime does not give what torch gives.
    """
    decoder = decoder.cpu().eval()
    rows = torch.export.Dim("events", min=1)
    with quiet():
        program = torch.onnx.export(
            decoder,
            (torch.zeros(3, decoder.group), torch.zeros(3, decoder.instance)),
            dynamo=True,
            external_data=False,
            dynamic_shapes={"group": {0: rows}, "instance": {0: rows}},
            input_names=["group", "instance"],
            output_names=["features"],
            verbose=False,
        )
    if program is None:
        raise InputError(f"tagger {tagger}: torch could not export its decoder")
    model = program.model_proto
    strip(model)
    graph: bytes = model.SerializeToString()
    _check(graph, decoder, tagger=tagger)
    return graph


def _check(graph: bytes, decoder: GroupDecoder, *, tagger: str) -> None:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    draw = torch.Generator().manual_seed(1)
    u = torch.randn(_TRIALS, decoder.group, generator=draw)
    v = torch.randn(_TRIALS, decoder.instance, generator=draw)
    for size in (_TRIALS, 1):
        (found,) = session.run(["features"], {"group": u[:size].numpy(), "instance": v[:size].numpy()})
        with torch.no_grad():
            known = decoder(u[:size], v[:size]).numpy()
        allowed = TOLERANCE * np.maximum(1.0, np.abs(known))
        if found.shape != known.shape or not (np.abs(found - known) <= allowed).all():
            raise InputError(
                f"tagger {tagger}: ONNX and torch differ in what its decoder gives; nothing was written"
            )
