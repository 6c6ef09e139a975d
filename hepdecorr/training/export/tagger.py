"""A trained method becomes models/NAME/{tagger.onnx, card.yaml}, checked before anything is written."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.special import expit
from torch import Tensor, nn

from hepdecorr.errors import InputError
from hepdecorr.model_card import METADATA_KEY, ModelCard
from hepdecorr.training import checkpoints
from hepdecorr.training.data.layout import RowPacking
from hepdecorr.training.export import decoders, group_codes, onnx
from hepdecorr.training.export.decoders import GENERATOR_FILE as GENERATOR
from hepdecorr.training.export.decoders import build_generator_graph
from hepdecorr.training.export.group_codes import CodeLookup
from hepdecorr.training.export.onnx import assert_allclose, inference_session
from hepdecorr.training.methods.base import Method, NamedArrays
from hepdecorr.training.posthoc.chain import PosthocChain

LOGIT_TOLERANCE = 1e-5  # of the logit, relative above 1
TAGGER_FILE = "tagger.onnx"
CONTEXT_INPUT = "context"  # the input that takes the code of an event's group
LATENTS_FILE = "latents.npz"  # what a method reveals, beside it


class _TaggerGraph(nn.Module):
    def __init__(
        self, method: Method, packing: RowPacking, posthoc: PosthocChain | None, *, context_dim: int
    ) -> None:
        super().__init__()
        self.method, self.packing, self.posthoc, self.context_dim = method, packing, posthoc, context_dim

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        own = inputs if self.posthoc is None else inputs[:-1]
        logit, *further = self.method.outputs(join_inputs(self.packing, own, context_dim=self.context_dim))
        if self.posthoc is not None:
            logit = self.posthoc(logit, inputs[-1])
        return logit.sigmoid(), logit, *further


def join_inputs(packing: RowPacking, inputs: Sequence[Tensor], *, context_dim: int = 0) -> Tensor:
    """The rows of a method, (n, width + context), from the inputs of its graph, in the order of the card."""
    if context_dim:
        return torch.cat([join_inputs(packing, inputs[:-1]), inputs[-1]], 1)
    if not packing.constituents:
        return inputs[0]
    *features, constituents, mask = inputs
    return packing.pack(features[0] if features else mask[:, :0], constituents, mask)


def split_inputs(packing: RowPacking, x: Tensor, *, context_dim: int = 0) -> dict[str, Tensor]:
    """The inputs of the graph, in the order of the card, from rows (n, width + context)."""
    if context_dim:
        return {**split_inputs(packing, x[:, :-context_dim]), CONTEXT_INPUT: x[:, -context_dim:]}
    if not packing.constituents:
        return {"features": x}
    features, constituents, mask = packing.unpack(x)
    inputs = {"features": features} if packing.features else {}
    return inputs | {"constituents": constituents, "mask": mask.float()}


def export_tagger(
    method: Method,
    *,
    card: ModelCard,
    folder: Path,
    sample: Tensor,
    posthoc: PosthocChain | None = None,
    nuisances: Tensor | None = None,
    arrays: NamedArrays | None = None,
    files: Mapping[str, str] | None = None,
    group: Tensor | None = None,
    group_features: Sequence[str] = (),
) -> Path:
    """Write folder/{tagger.onnx, card.yaml} and return the folder; with `arrays` also latents.npz, and
    weights.npz for a method whose training may be gone on with; beside a method that decodes, generator.onnx.

    sample: some events, raw rows of shape (n, width) as Form packs them, n >= 1.  On them, on values far
    outside their range, for one event and many, and with constituents for any number of them, for none and
    whatever the padding holds, ONNX Runtime must give the logits that torch gives, to 1e-5.  Raises
    InputError if it does not; then nothing is written.

    posthoc: fitted transforms of the logit, which go into the graph; `nuisances` (n, k) are those of the
    sample, in the order of posthoc.nuisances, and the card has an input for them.  files: name -> text of
    what else belongs into the folder.

    A method with a context also leaves members.onnx and group.onnx.  `group` (n,) are then the groups of the
    sample, by any integers, and `of` names the features that name a group; both go into the card.
    """
    form = packing_from_card(card)
    if sample.ndim != 2 or sample.shape[1] != form.width or len(sample) == 0:
        raise InputError(
            f"tagger {card.name}: a sample of shape {tuple(sample.shape)} for {form.width} columns of "
            "features; give some events"
        )
    wanted = len(posthoc.nuisances) if posthoc is not None else 0
    given = torch.zeros(len(sample), 0) if nuisances is None else nuisances.cpu().float()
    if given.shape != (len(sample), wanted) or len(card.nuisance_names) != wanted:
        raise InputError(
            f"tagger {card.name}: nuisances of shape {tuple(given.shape)} and {len(card.nuisance_names)} on "
            f"the card, for {len(sample)} events and transforms that take {wanted}"
        )
    method, x = method.cpu().eval(), sample.cpu().float()
    made: dict[str, bytes] = {}
    if method.context_dim:
        numbers = torch.zeros(len(x), dtype=torch.int64) if group is None else group.cpu()
        card, made = _build_group_files(method, card, sample=x, group=numbers, group_features=group_features)
        x = CodeLookup.from_events(method, x, numbers).inputs_with_codes(x, numbers)
    graph = build_tagger_graph(method, card=card, posthoc=posthoc)
    about: dict[str, Any] = {"name": card.name, "context_dim": method.context_dim}
    verify_parity(graph, method, packing=form, sample=x, posthoc=posthoc, nuisances=given, **about)
    made[TAGGER_FILE] = graph
    if (generator := method.export_generator()) is not None:
        sha256 = hashlib.sha256(graph).hexdigest()
        made[GENERATOR] = build_generator_graph(generator, tagger=card.name, sha256=sha256)
    if (decoder := method.export_decoder()) is not None:
        made[decoders.DECODER_FILE] = decoders.build_decoder_graph(decoder, tagger=card.name)
    stored = {LATENTS_FILE: arrays or {}, checkpoints.WEIGHTS_FILE: method.state_arrays()}
    return _write_folder(made, card, folder, array_files=stored, files=files or {})


def _build_group_files(
    method: Method, card: ModelCard, *, sample: Tensor, group: Tensor, group_features: Sequence[str]
) -> tuple[ModelCard, dict[str, bytes]]:
    """The card with its context, and the graphs of groups by name, checked."""
    form, grouping = packing_from_card(card), method.export_group_encoder()
    if grouping is None or grouping.code_dim != method.context_dim:
        raise InputError(
            f"tagger {card.name}: a method with a context of {method.context_dim} must say in grouping() how "
            "codes of so many numbers come from events"
        )
    if form.constituents:
        raise InputError(
            f"tagger {card.name}: codes of groups come from features alone; write 'constituents: []' in the "
            "tagger's block"
        )
    grouping = grouping.cpu().eval()
    about: dict[str, Any] = {"name": card.name, "sample": sample, "group": group}
    group_codes.verify_group_encoder(method, grouping, **about)
    made = group_codes.build_group_graphs(grouping, width=form.width, name=card.name)
    group_codes.verify_group_graphs(made, grouping, extremes=_extreme_rows(form, sample), **about)
    return card.model_copy(
        update={"context": group_codes.build_context(grouping, made, group_features=group_features)}
    ), made


def packing_from_card(card: ModelCard) -> RowPacking:
    """How the inputs of the card stand in the rows of a method."""
    length = card.constituents.length if card.constituents else 0
    return RowPacking(tuple(card.feature_names), tuple(card.constituent_names), length)


def build_tagger_graph(method: Method, *, card: ModelCard, posthoc: PosthocChain | None = None) -> bytes:
    """The ONNX graph, from the inputs of the card to `score` and `logit` (rows,), card in its metadata.

    features (rows, f), constituents (rows, L, c), mask (rows, L), nuisances (rows, k), as far as the card has
    them.
    """
    form = packing_from_card(card)
    rows = torch.export.Dim("events", min=1)
    slots = torch.export.Dim("constituents", min=1)
    context = card.context.latents if card.context else 0
    example = split_inputs(
        form, torch.ones(3, len(form.features) + form.constituent_width(5) + context), context_dim=context
    )
    axes = {"features": {0: rows}, "constituents": {0: rows, 1: slots}, "mask": {0: rows, 1: slots}}
    axes |= {CONTEXT_INPUT: {0: rows}, "nuisances": {0: rows}}
    if posthoc is not None:
        example["nuisances"] = torch.ones(3, len(posthoc.nuisances))
    graph = onnx.to_onnx(
        _TaggerGraph(method, form, posthoc, context_dim=context),
        example,
        axes=axes,
        outputs=["score", "logit", *method.aux_output_names],
        metadata={METADATA_KEY: card.to_json()},
    )
    if graph is None:
        raise InputError(f"tagger {card.name}: torch could not export the method")
    return graph


def verify_parity(
    graph: bytes,
    method: Method,
    *,
    packing: RowPacking,
    name: str,
    sample: Tensor,
    context_dim: int = 0,
    posthoc: PosthocChain | None = None,
    nuisances: Tensor | None = None,
) -> None:
    """Compare ONNX Runtime with torch; InputError where they differ by more than the tolerance.

    sample (n, width + context): what the method's logit takes.
    Behind transforms the tolerance is what they make of that of the method's logit.
    """
    session = inference_session(graph)
    # Pairs of constituents take memory with their square.
    sample = sample[: max(64, len(sample) * 40**2 // max(40, packing.length) ** 2)]
    whole = torch.cat([sample, _extreme_rows(packing, sample)])
    beside = torch.zeros(0, 0) if nuisances is None else nuisances
    trials = [whole, whole[:1], whole[-1:], whole[: max(2, len(whole) // 2)]]
    for inputs in (
        *(split_inputs(packing, x, context_dim=context_dim) for x in trials),
        *_vary_padding(packing, whole[:64]),
    ):
        # Torch gets what an event is, with its padding cleared; the graph gets what may stand there.
        x = join_inputs(packing, list(inputs.values()), context_dim=context_dim)
        z = _trial_nuisances(beside, len(x))
        with torch.no_grad():
            raw, *further = method.outputs(x)
            logit, allowed = (v.numpy() for v in _apply_posthoc(raw, z, posthoc))
        score = expit(logit.astype(np.float64))
        given = {k: v.numpy() for k, v in inputs.items()} | ({"nuisances": z.numpy()} if posthoc else {})
        got_score, got_logit, *got = session.run(["score", "logit", *method.aux_output_names], given)
        if got_logit.shape != (len(x),) or got_score.shape != (len(x),):
            raise InputError(
                f"tagger {name}: the graph gives shapes {got_score.shape} and {got_logit.shape} for "
                f"{len(x)} events; logit(x) must have shape (n,)"
            )
        off = np.abs(got_logit - logit)
        for output, a, b in zip(method.aux_output_names, got, further, strict=True):
            assert_allclose(a, b.numpy(), label=f"tagger {name}: output {output!r}", num_rows=len(x))
        worst = float(np.max(off / np.maximum(1, np.abs(logit))))
        if not (off <= allowed).all() or not (np.abs(got_score - score) <= allowed).all():
            raise InputError(
                f"tagger {name}: ONNX and torch differ by {worst:.1e} in the logit, more than "
                f"{LOGIT_TOLERANCE:g}; nothing was written. Bound the inputs (network: inputs: clip) "
                "or look for operations without "
                "an ONNX counterpart"
            )


def _apply_posthoc(raw_logit: Tensor, z: Tensor, posthoc: PosthocChain | None) -> tuple[Tensor, Tensor]:
    """The logit behind the transforms, and how far the graph's may be from it."""
    allowed = LOGIT_TOLERANCE * raw_logit.abs().clamp_min(1)
    if posthoc is None:
        return raw_logit, allowed
    logit = posthoc(raw_logit, z)
    reach = (posthoc(raw_logit + allowed, z) - posthoc(raw_logit - allowed, z)).abs()
    return logit, reach + LOGIT_TOLERANCE * logit.abs().clamp_min(1)


def _trial_nuisances(nuisances: Tensor, num_rows: int) -> Tensor:
    """So many nuisances: those of events, and for the last rows ones far outside their range."""
    if not nuisances.numel():
        return nuisances.new_zeros(num_rows, nuisances.shape[1])
    low, high = nuisances.amin(0), nuisances.amax(0)
    span = high - low + 1
    far = torch.stack([low, high, low - 10 * span, high + 10 * span, low - 1e6, high + 1e6])[:num_rows]
    own = nuisances[torch.arange(num_rows - len(far)) % len(nuisances)]
    return torch.cat([own, far])


def _extreme_rows(packing: RowPacking, sample: Tensor) -> Tensor:
    """Rows far outside the range of the sample; all their slots are filled."""
    low, high = sample.amin(0), sample.amax(0)
    span = high - low + 1
    rows = torch.stack([low - 10 * span, high + 10 * span, 0 * low, low, high, 0 * low - 1e6, 0 * low + 1e6])
    if packing.constituents:
        rows[:, len(packing.features) :].unflatten(1, (packing.length, -1))[..., -1] = 1.0
    # A code is no raw number: how far it can go is the encoder's to say.
    rows[-2:, packing.width :] = rows[:2, packing.width :]
    return rows


def _vary_padding(packing: RowPacking, x: Tensor) -> Iterator[dict[str, Tensor]]:
    """The same rows with fewer slots, with more of them, and with none filled; nonsense in the padding."""
    if not packing.constituents:
        return
    for length in {1, packing.length // 2 + 1, 2 * packing.length + 3}:
        inputs = split_inputs(packing, x)
        mask = F.pad(inputs["mask"], (0, packing.length + 3))[:, :length]
        padded = F.pad(inputs["constituents"], (0, 0, 0, packing.length + 3))[:, :length]
        for nonsense in (torch.nan, torch.inf):
            seen = torch.where(mask[..., None] > 0, padded, nonsense)
            yield inputs | {"constituents": seen, "mask": mask}
        yield inputs | {"constituents": seen, "mask": 0 * mask}


def _write_folder(
    graph_files: Mapping[str, bytes],
    card: ModelCard,
    folder: Path,
    *,
    array_files: Mapping[str, NamedArrays],
    files: Mapping[str, str],
) -> Path:
    part = folder.with_name(folder.name + ".part")
    old = folder.with_name(folder.name + ".old")
    for leftover in (part, old):
        shutil.rmtree(leftover, ignore_errors=True)
    part.mkdir(parents=True)
    for name, graph in graph_files.items():
        (part / name).write_bytes(graph)
    card.write_yaml(part / "card.yaml")
    for name, arrays in array_files.items():
        if arrays:
            np.savez_compressed(part / name, allow_pickle=False, **arrays)
    for name, text in files.items():
        (part / name).write_text(text)
    # A folder cannot be replaced in one step; the old one steps aside until the new one stands.
    if folder.exists():
        folder.rename(old)
    part.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
    return folder
