"""The decoder of a method that learns from groups, as a graph of its own beside the tagger.

The decoder of a trained method as a graph of its own, beside the tagger: latents in, jets out.

The decoder of an autoencoder of jets, from latents to momenta.
"""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
import torch
from torch import Tensor, nn

from hepdecorr.errors import InputError
from hepdecorr.model_card import GENERATOR_KEY, GeneratorCard
from hepdecorr.training.export.onnx import assert_allclose, inference_session, to_onnx
from hepdecorr.training.networks.autoencoders import Autoencoder
from hepdecorr.training.vae.jet_inputs import JetPreprocessor

DECODER_FILE = "decoder.onnx"
_NUM_DECODER_TRIALS = 64


class GroupDecoderExport(nn.Module):
    """What a method returns from `decoder()`, to be exported beside it.

    group, instance: how many numbers the codes of a group and of an event have.
    """

    group_dim: int
    instance_dim: int

    @abstractmethod
    def forward(self, *inputs: Tensor) -> Tensor:
        """Features (n, f) in their own units, of codes (n, d_u) and (n, d_v)."""


def build_decoder_graph(decoder: GroupDecoderExport, *, tagger: str) -> bytes:
    """The graph: inputs `group` (events, d_u) and `instance` (events, d_v), output `features` (events, f).

    Which features they are, and the variance around them, tell `represents` and `variance` among the card's
    measured figures.  InputError where ONNX Runtime does not give what torch gives.
    """
    decoder, rows = decoder.cpu().eval(), torch.export.Dim("events", min=1)
    draw = torch.Generator().manual_seed(1)
    codes = {
        name: torch.randn(_NUM_DECODER_TRIALS, getattr(decoder, name), generator=draw)
        for name in ("group", "instance")
    }
    graph = to_onnx(decoder, codes, axes={key: {0: rows} for key in codes}, outputs=["features"], metadata={})
    if graph is None:
        raise InputError(f"tagger {tagger}: torch could not export its decoder")
    session = inference_session(graph)
    for size in (_NUM_DECODER_TRIALS, 1):
        parts = {name: code[:size] for name, code in codes.items()}
        (found,) = session.run(["features"], {name: part.numpy() for name, part in parts.items()})
        with torch.no_grad():
            known = decoder(*parts.values()).numpy()
        assert_allclose(found, known, label=f"tagger {tagger}: features of its decoder", num_rows=size)
    return graph


GENERATOR_FILE = "generator.onnx"
MOMENTUM_TOLERANCE = 1e-4  # of momenta, relative to the largest of a jet where that is above 1 GeV
_NUM_GENERATOR_TRIALS = 64


class JetGeneratorExport(nn.Module):
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


def build_generator_graph(generator: JetGeneratorExport, *, tagger: str, sha256: str) -> bytes:
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
        _ConditionalGenerator(generator) if told else _UnconditionalGenerator(generator),
        example,
        axes={name: {0: rows} for name in example},
        outputs=["momenta"],
        metadata={GENERATOR_KEY: GeneratorCard(tagger=tagger, sha256=sha256, **own).model_dump_json()},
    )
    if graph is None:
        raise InputError(f"tagger {tagger}: torch could not export its generator")
    _verify_generator(graph, generator, tagger=tagger)
    return graph


class _ConditionalGenerator(nn.Module):
    def __init__(self, generator: JetGeneratorExport) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.generator(*inputs)  # type: ignore[no-any-return]


class _UnconditionalGenerator(_ConditionalGenerator):
    def forward(self, *inputs: Tensor) -> Tensor:
        return self.generator(inputs[0], inputs[0][:, :0])  # type: ignore[no-any-return]


def _verify_generator(graph: bytes, generator: JetGeneratorExport, *, tagger: str) -> None:
    session = inference_session(graph)
    draw = torch.Generator().manual_seed(1)
    latent = torch.randn(_NUM_GENERATOR_TRIALS, generator.latents, generator=draw)
    condition = torch.randn(_NUM_GENERATOR_TRIALS, len(generator.condition), generator=draw)
    for size in (_NUM_GENERATOR_TRIALS, 1):
        parts = latent[:size], condition[:size]
        named = zip(("latent", "condition"), (part.numpy() for part in parts), strict=True)
        given = {name: part for name, part in named if name == "latent" or generator.condition}
        (found,) = session.run(["momenta"], given)
        with torch.no_grad():
            known = generator(*parts).numpy()
        scale = np.maximum(1.0, np.abs(known).max(axis=(1, 2), keepdims=True, initial=0.0))
        if found.shape != known.shape or not (np.abs(found - known) <= MOMENTUM_TOLERANCE * scale).all():
            raise InputError(
                f"tagger {tagger}: ONNX and torch differ in what its generator makes; nothing was written"
            )


class JetVAEGenerator(JetGeneratorExport):
    """What a network decodes, in GeV; a four-vector without energy is no constituent.

    No mask tells what is padding: a network whose slots answer slots says it by decoding nothing there.
    """

    def __init__(self, preprocessor: JetPreprocessor, network: Autoencoder, *, latents: int) -> None:
        super().__init__()
        self.preprocessor, self.network, self.latents = preprocessor, network, latents
        self.condition = tuple(preprocessor.condition_names)
        self.boost, self.length = preprocessor.frame.boost, preprocessor.length

    def forward(self, latent: Tensor, condition: Tensor) -> Tensor:
        """Momenta (n, L, 4) of latents (n, d), told raw values of `condition` (n, k)."""
        given = self.preprocessor.inputs(condition) if self.condition else None
        decoded = self.network.decode(latent, given)
        momenta = self.preprocessor.frame.unscale(decoded)
        every = torch.ones_like(decoded[..., 0], dtype=torch.bool)
        made = self.network.constituent_mask(decoded, every) & (momenta[..., 0] > 0)
        return torch.where(made[..., None], momenta, 0.0)
