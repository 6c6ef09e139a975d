"""The decoder of a method that learns from groups, as a graph of its own beside the tagger."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn

from hepdecorr.errors import InputError
from hepdecorr.learning.graphs import agree, opened, to_onnx

FILE = "decoder.onnx"
_TRIALS = 64


class GroupDecoder(nn.Module):
    """What a method returns from `decoder()`, to be exported beside it.

    group, instance: how many numbers the codes of a group and of an event have.
    """

    group: int
    instance: int

    @abstractmethod
    def forward(self, *inputs: Tensor) -> Tensor:
        """Features (n, f) in their own units, of codes (n, d_u) and (n, d_v)."""


def to_graph(decoder: GroupDecoder, *, tagger: str) -> bytes:
    """The graph: inputs `group` (events, d_u) and `instance` (events, d_v), output `features` (events, f).

    Which features they are, and the variance around them, tell `represents` and `variance` among the card's
    measured figures.  InputError where ONNX Runtime does not give what torch gives.
    """
    decoder, rows = decoder.cpu().eval(), torch.export.Dim("events", min=1)
    draw = torch.Generator().manual_seed(1)
    codes = {
        name: torch.randn(_TRIALS, getattr(decoder, name), generator=draw) for name in ("group", "instance")
    }
    graph = to_onnx(decoder, codes, axes={key: {0: rows} for key in codes}, outputs=["features"], metadata={})
    if graph is None:
        raise InputError(f"tagger {tagger}: torch could not export its decoder")
    session = opened(graph)
    for size in (_TRIALS, 1):
        parts = {name: code[:size] for name, code in codes.items()}
        (found,) = session.run(["features"], {name: part.numpy() for name, part in parts.items()})
        with torch.no_grad():
            known = decoder(*parts.values()).numpy()
        agree(found, known, about=f"tagger {tagger}: features of its decoder", rows=size)
    return graph
