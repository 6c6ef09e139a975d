"""The decoder of a trained method as a graph of its own, beside the tagger: latents in, jets out."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
import torch
from torch import Tensor, nn

from hepdecorr.card import GENERATOR_KEY, GeneratorCard
from hepdecorr.errors import InputError
from hepdecorr.learning.graphs import opened, to_onnx

FILE = "generator.onnx"
TOLERANCE = 1e-4  # of momenta, relative to the largest of a jet where that is above 1 GeV
_TRIALS = 64


class Generator(nn.Module):
    """What a method returns from `generator()`, to be exported beside it.

    latents: how many numbers it starts from, which are to be drawn from unit Gaussians.  condition: names of
    the features of a row that it is told.  boost: of the frame (JetFrame).  length: constituents of a jet.
    """

    latents: int
    condition: tuple[str, ...]
    boost: str
    length: int

    @abstractmethod
    def forward(self, latent: Tensor, condition: Tensor) -> Tensor:
        """E, px, py, pz in GeV, in the frame of the jet, (n, L, 4), zero where no constituent is made.

        latent (n, latents); condition (n, k), raw, without columns where nothing is told.
        """


def to_graph(generator: Generator, *, tagger: str, sha256: str) -> bytes:
    """The graph, with a GeneratorCard in its metadata.

    Inputs `latent` (jets, d) and, where something is told, `condition` (jets, k); output `momenta` (jets, L,
    4).  sha256: of the tagger's graph.  InputError where ONNX Runtime does not give what torch gives.
    """
    told = bool(generator.condition)
    generator = generator.cpu().eval()
    example = {"latent": torch.zeros(3, generator.latents)}
    if told:
        example["condition"] = torch.zeros(3, len(generator.condition))
    own = {name: getattr(generator, name) for name in ("latents", "condition", "boost", "length")}
    rows = torch.export.Dim("jets", min=1)
    graph = to_onnx(
        _Told(generator) if told else _Alone(generator),
        example,
        axes={name: {0: rows} for name in example},
        outputs=["momenta"],
        metadata={GENERATOR_KEY: GeneratorCard(tagger=tagger, sha256=sha256, **own).model_dump_json()},
    )
    if graph is None:
        raise InputError(f"tagger {tagger}: torch could not export its generator")
    _check(graph, generator, tagger=tagger)
    return graph


class _Told(nn.Module):
    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.generator(*inputs)  # type: ignore[no-any-return]


class _Alone(_Told):
    def forward(self, *inputs: Tensor) -> Tensor:
        return self.generator(inputs[0], inputs[0][:, :0])  # type: ignore[no-any-return]


def _check(graph: bytes, generator: Generator, *, tagger: str) -> None:
    session = opened(graph)
    draw = torch.Generator().manual_seed(1)
    latent = torch.randn(_TRIALS, generator.latents, generator=draw)
    condition = torch.randn(_TRIALS, len(generator.condition), generator=draw)
    for size in (_TRIALS, 1):
        parts = latent[:size], condition[:size]
        named = zip(("latent", "condition"), (part.numpy() for part in parts), strict=True)
        given = {name: part for name, part in named if name == "latent" or generator.condition}
        (found,) = session.run(["momenta"], given)
        with torch.no_grad():
            known = generator(*parts).numpy()
        scale = np.maximum(1.0, np.abs(known).max(axis=(1, 2), keepdims=True, initial=0.0))
        if found.shape != known.shape or not (np.abs(found - known) <= TOLERANCE * scale).all():
            raise InputError(
                f"tagger {tagger}: ONNX and torch differ in what its generator makes; nothing was written"
            )
