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

from hepdecorr.card import METADATA_KEY, Card
from hepdecorr.errors import InputError
from hepdecorr.learning import decoder as decoders
from hepdecorr.learning import graphs, group_graphs, weights
from hepdecorr.learning.coding import Codes
from hepdecorr.learning.form import Form
from hepdecorr.learning.generator import FILE as GENERATOR
from hepdecorr.learning.generator import to_graph
from hepdecorr.learning.graphs import agree, opened
from hepdecorr.learning.methods.method import Arrays, Method
from hepdecorr.learning.posthoc.chain import Chain

TOLERANCE = 1e-5  # of the logit, relative above 1
FILE = "tagger.onnx"
CONTEXT = "context"  # the input that takes the code of an event's group
LATENTS = "latents.npz"  # what a method reveals, beside it


class _Outputs(nn.Module):
    def __init__(self, method: Method, form: Form, posthoc: Chain | None, *, context: int) -> None:
        super().__init__()
        self.method, self.form, self.posthoc, self.context = method, form, posthoc, context

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        own = inputs if self.posthoc is None else inputs[:-1]
        logit, *further = self.method.answers(joined(self.form, own, context=self.context))
        if self.posthoc is not None:
            logit = self.posthoc(logit, inputs[-1])
        return logit.sigmoid(), logit, *further


def joined(form: Form, inputs: Sequence[Tensor], *, context: int = 0) -> Tensor:
    """The rows of a method, (n, width + context), from the inputs of its graph, in the order of the card."""
    if context:
        return torch.cat([joined(form, inputs[:-1]), inputs[-1]], 1)
    if not form.constituents:
        return inputs[0]
    *features, constituents, mask = inputs
    return form.pack(features[0] if features else mask[:, :0], constituents, mask)


def apart(form: Form, x: Tensor, *, context: int = 0) -> dict[str, Tensor]:
    """The inputs of the graph, in the order of the card, from rows (n, width + context)."""
    if context:
        return {**apart(form, x[:, :-context]), CONTEXT: x[:, -context:]}
    if not form.constituents:
        return {"features": x}
    features, constituents, mask = form.unpack(x)
    inputs = {"features": features} if form.features else {}
    return inputs | {"constituents": constituents, "mask": mask.float()}


def export(
    method: Method,
    *,
    card: Card,
    folder: Path,
    sample: Tensor,
    posthoc: Chain | None = None,
    nuisances: Tensor | None = None,
    arrays: Arrays | None = None,
    files: Mapping[str, str] | None = None,
    group: Tensor | None = None,
    of: Sequence[str] = (),
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
    form = form_of(card)
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
    if method.context:
        numbers = torch.zeros(len(x), dtype=torch.int64) if group is None else group.cpu()
        card, made = _grouped(method, card, sample=x, group=numbers, of=of)
        x = Codes.of(method, x, numbers).rows(x, numbers)
    graph = to_onnx(method, card=card, posthoc=posthoc)
    about: dict[str, Any] = {"name": card.name, "context": method.context}
    check(graph, method, form=form, sample=x, posthoc=posthoc, nuisances=given, **about)
    made[FILE] = graph
    if (generator := method.generator()) is not None:
        sha256 = hashlib.sha256(graph).hexdigest()
        made[GENERATOR] = to_graph(generator, tagger=card.name, sha256=sha256)
    if (decoder := method.decoder()) is not None:
        made[decoders.FILE] = decoders.to_graph(decoder, tagger=card.name)
    stored = {LATENTS: arrays or {}, weights.FILE: method.weights()}
    return _write(made, card, folder, stored=stored, files=files or {})


def _grouped(
    method: Method, card: Card, *, sample: Tensor, group: Tensor, of: Sequence[str]
) -> tuple[Card, dict[str, bytes]]:
    """The card with its context, and the graphs of groups by name, checked."""
    form, grouping = form_of(card), method.grouping()
    if grouping is None or grouping.latents != method.context:
        raise InputError(
            f"tagger {card.name}: a method with a context of {method.context} must say in grouping() how "
            "codes of so many numbers come from events"
        )
    if form.constituents:
        raise InputError(
            f"tagger {card.name}: codes of groups come from features alone; write 'constituents: []' in the "
            "tagger's block"
        )
    grouping = grouping.cpu().eval()
    about: dict[str, Any] = {"name": card.name, "sample": sample, "group": group}
    group_graphs.vet(method, grouping, **about)
    made = group_graphs.to_graphs(grouping, width=form.width, name=card.name)
    group_graphs.check(made, grouping, extremes=_extremes(form, sample), **about)
    return card.model_copy(update={"context": group_graphs.context(grouping, made, of=of)}), made


def form_of(card: Card) -> Form:
    """How the inputs of the card stand in the rows of a method."""
    length = card.constituents.length if card.constituents else 0
    return Form(tuple(card.feature_names), tuple(card.constituent_names), length)


def to_onnx(method: Method, *, card: Card, posthoc: Chain | None = None) -> bytes:
    """The ONNX graph, from the inputs of the card to `score` and `logit` (rows,), card in its metadata.

    features (rows, f), constituents (rows, L, c), mask (rows, L), nuisances (rows, k), as far as the card has
    them.
    """
    form = form_of(card)
    rows = torch.export.Dim("events", min=1)
    slots = torch.export.Dim("constituents", min=1)
    context = card.context.latents if card.context else 0
    example = apart(form, torch.ones(3, len(form.features) + form.slots(5) + context), context=context)
    axes = {"features": {0: rows}, "constituents": {0: rows, 1: slots}, "mask": {0: rows, 1: slots}}
    axes |= {CONTEXT: {0: rows}, "nuisances": {0: rows}}
    if posthoc is not None:
        example["nuisances"] = torch.ones(3, len(posthoc.nuisances))
    graph = graphs.to_onnx(
        _Outputs(method, form, posthoc, context=context),
        example,
        axes=axes,
        outputs=["score", "logit", *method.beside],
        metadata={METADATA_KEY: card.to_json()},
    )
    if graph is None:
        raise InputError(f"tagger {card.name}: torch could not export the method")
    return graph


def check(
    graph: bytes,
    method: Method,
    *,
    form: Form,
    name: str,
    sample: Tensor,
    context: int = 0,
    posthoc: Chain | None = None,
    nuisances: Tensor | None = None,
) -> None:
    """Compare ONNX Runtime with torch; InputError where they differ by more than the tolerance.

    sample (n, width + context): what the method's logit takes.
    Behind transforms the tolerance is what they make of that of the method's logit.
    """
    session = opened(graph)
    # Pairs of constituents take memory with their square.
    sample = sample[: max(64, len(sample) * 40**2 // max(40, form.length) ** 2)]
    whole = torch.cat([sample, _extremes(form, sample)])
    beside = torch.zeros(0, 0) if nuisances is None else nuisances
    trials = [whole, whole[:1], whole[-1:], whole[: max(2, len(whole) // 2)]]
    for inputs in (*(apart(form, x, context=context) for x in trials), *_lengths(form, whole[:64])):
        # Torch gets what an event is, with its padding cleared; the graph gets what may stand there.
        x = joined(form, list(inputs.values()), context=context)
        z = _around(beside, len(x))
        with torch.no_grad():
            raw, *further = method.answers(x)
            logit, allowed = (v.numpy() for v in _mapped(raw, z, posthoc))
        score = expit(logit.astype(np.float64))
        given = {k: v.numpy() for k, v in inputs.items()} | ({"nuisances": z.numpy()} if posthoc else {})
        got_score, got_logit, *got = session.run(["score", "logit", *method.beside], given)
        if got_logit.shape != (len(x),) or got_score.shape != (len(x),):
            raise InputError(
                f"tagger {name}: the graph gives shapes {got_score.shape} and {got_logit.shape} for "
                f"{len(x)} events; logit(x) must have shape (n,)"
            )
        off = np.abs(got_logit - logit)
        for output, a, b in zip(method.beside, got, further, strict=True):
            agree(a, b.numpy(), about=f"tagger {name}: output {output!r}", rows=len(x))
        worst = float(np.max(off / np.maximum(1, np.abs(logit))))
        if not (off <= allowed).all() or not (np.abs(got_score - score) <= allowed).all():
            raise InputError(
                f"tagger {name}: ONNX and torch differ by {worst:.1e} in the logit, more than "
                f"{TOLERANCE:g}; nothing was written. Bound the inputs (network: inputs: clip) "
                "or look for operations without "
                "an ONNX counterpart"
            )


def _mapped(raw: Tensor, z: Tensor, posthoc: Chain | None) -> tuple[Tensor, Tensor]:
    """The logit behind the transforms, and how far the graph's may be from it."""
    allowed = TOLERANCE * raw.abs().clamp_min(1)
    if posthoc is None:
        return raw, allowed
    logit = posthoc(raw, z)
    reach = (posthoc(raw + allowed, z) - posthoc(raw - allowed, z)).abs()
    return logit, reach + TOLERANCE * logit.abs().clamp_min(1)


def _around(nuisances: Tensor, rows: int) -> Tensor:
    """So many nuisances: those of events, and for the last rows ones far outside their range."""
    if not nuisances.numel():
        return nuisances.new_zeros(rows, nuisances.shape[1])
    low, high = nuisances.amin(0), nuisances.amax(0)
    span = high - low + 1
    far = torch.stack([low, high, low - 10 * span, high + 10 * span, low - 1e6, high + 1e6])[:rows]
    own = nuisances[torch.arange(rows - len(far)) % len(nuisances)]
    return torch.cat([own, far])


def _extremes(form: Form, sample: Tensor) -> Tensor:
    """Rows far outside the range of the sample; all their slots are filled."""
    low, high = sample.amin(0), sample.amax(0)
    span = high - low + 1
    rows = torch.stack([low - 10 * span, high + 10 * span, 0 * low, low, high, 0 * low - 1e6, 0 * low + 1e6])
    if form.constituents:
        rows[:, len(form.features) :].unflatten(1, (form.length, -1))[..., -1] = 1.0
    # A code is no raw number: how far it can go is the encoder's to say.
    rows[-2:, form.width :] = rows[:2, form.width :]
    return rows


def _lengths(form: Form, x: Tensor) -> Iterator[dict[str, Tensor]]:
    """The same rows with fewer slots, with more of them, and with none filled; nonsense in the padding."""
    if not form.constituents:
        return
    for length in {1, form.length // 2 + 1, 2 * form.length + 3}:
        inputs = apart(form, x)
        mask = F.pad(inputs["mask"], (0, form.length + 3))[:, :length]
        padded = F.pad(inputs["constituents"], (0, 0, 0, form.length + 3))[:, :length]
        for nonsense in (torch.nan, torch.inf):
            seen = torch.where(mask[..., None] > 0, padded, nonsense)
            yield inputs | {"constituents": seen, "mask": mask}
        yield inputs | {"constituents": seen, "mask": 0 * mask}


def _write(
    graphs: Mapping[str, bytes],
    card: Card,
    folder: Path,
    *,
    stored: Mapping[str, Arrays],
    files: Mapping[str, str],
) -> Path:
    part = folder.with_name(folder.name + ".part")
    old = folder.with_name(folder.name + ".old")
    for leftover in (part, old):
        shutil.rmtree(leftover, ignore_errors=True)
    part.mkdir(parents=True)
    for name, graph in graphs.items():
        (part / name).write_bytes(graph)
    card.write_yaml(part / "card.yaml")
    for name, arrays in stored.items():
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
