"""Which latents are cut out of a representation.

What a report shows of a representation: its latents, and what moving a protected one does.

Two stages: represent, cut out what knows the nuisance, classify what is left.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hepdecorr.errors import InputError
from hepdecorr.stats.mutual_information import mig
from hepdecorr.training.data.batches import Batch
from hepdecorr.training.data.chunks import score_chunks
from hepdecorr.training.data.mapped import map_features
from hepdecorr.training.data.splits import DataSplits
from hepdecorr.training.losses.information import mutual_information
from hepdecorr.training.methods.base import Method, NamedArrays
from hepdecorr.training.methods.tagger import Tagger
from hepdecorr.training.trainer import Trainer
from hepdecorr.training.vae.latent_terms import SupervisedAlignment
from hepdecorr.training.vae.tabular import TabularVAE, build_vae
from hepdecorr.training.vae.traversal import observed_change, traverse_latent

log = logging.getLogger(__name__)


EXCISION_RULES = ("aligned", "most_informative")


class LatentMask(nn.Module):
    """One for each latent that is kept, zero for the others, in `keep` of shape (dims,).

    rule: 'aligned' for the latents that were aligned with the nuisances; 'found' for the one that knows most
    of each nuisance, j = argmax I(z_j; v) as in the MIG (Chen et al. 1802.04942, eq. 6); or the numbers of
    some, [0, 3], and then no others.  None: aligned where there is an alignment, else found.  found: beside
    those of a rule, latents that know a nuisance by more than so many nats are cut out; 0 for none.
    Discrete latents are never kept.
    """

    mask: Tensor

    def __init__(
        self,
        rule: str | Sequence[int] | None,
        *,
        representation: TabularVAE,
        nuisances: Sequence[str],
        mi_threshold: float,
    ) -> None:
        super().__init__()
        self.rule = _parse_rule(rule, representation)
        self.nuisances, self.mi_threshold = list(nuisances), float(mi_threshold)
        self.register_buffer("mask", torch.ones(representation.latent_dim))

    @torch.no_grad()
    def fit(self, representation: TabularVAE, validation: Batch) -> None:
        """Decide, on background among these events; InputError where nothing would be left."""
        self.mask.fill_(1.0)
        if not isinstance(self.rule, str):
            self.mask[self.rule] = 0.0
            return
        knows = latent_information(representation, validation)
        cut = {int(column.argmax()) for column in knows.T} if self.rule == "most_informative" else set()
        aligned = range(representation.sensitive) if self.rule == "aligned" else ()
        for d, row in enumerate(knows.tolist()):
            nats = max(row)
            if d in aligned:
                self.mask[d] = 0.0
            elif d in cut or (self.mi_threshold and nats > self.mi_threshold):
                name = self.nuisances[row.index(nats)]
                log.warning("latent %d knows %.3f nats of %s and is cut out", d, nats, name)
                self.mask[d] = 0.0
        if not self.mask.any():
            raise InputError(
                "every latent knows the nuisance; raise the beta of TotalCorrelation, the latents or 'found'"
            )

    def forward(self, mean: Tensor) -> Tensor:
        """Latents (n, dims) with zeros for those that are cut out."""
        return self.mask * mean


@torch.no_grad()
def latent_information(representation: TabularVAE, events: Batch) -> Tensor:
    """I(mean of latent d; nuisance) on background, (dims, nuisances), in nats."""
    background = events.take(events.y == 0)
    means = torch.cat([representation.posterior_mean(part) for part in score_chunks(background.x)])
    w = background.w.clamp_min(0)
    nats = [[mutual_information(z, v, w, fine_tail=False) for v in background.z.T] for z in means.T]
    return torch.tensor(nats, device=means.device)


def _parse_rule(rule: str | Sequence[int] | None, representation: TabularVAE) -> str | list[int]:
    aligned = any(isinstance(term, SupervisedAlignment) for term in representation.terms.values())
    if rule is None:
        return "aligned" if aligned else "most_informative"
    if isinstance(rule, str):
        if rule not in EXCISION_RULES:
            raise InputError(
                f"excise must be {' or '.join(EXCISION_RULES)} or numbers of latents, not {rule!r}"
            )
        if rule == "aligned" and not aligned:
            raise InputError(
                "excise: no latent is aligned; add SupervisedAlignment, or write 'excise: found'"
            )
        return rule
    numbers, dims = list(rule), representation.latent_dim
    whole = all(type(k) is int and 0 <= k < dims for k in numbers)
    if not whole or not numbers or len(set(numbers)) >= dims:
        raise InputError(f"excise: {numbers}; give some of the latents 0 to {dims - 1}, not all")
    return numbers


MAX_DIAGNOSTIC_EVENTS = 20_000  # background events whose latents are kept
TRAVERSAL_SHIFTS = (-2.0, -1.0, 1.0, 2.0)


@torch.no_grad()
def latent_diagnostics(representation: TabularVAE, latent_mask: LatentMask, validation: Batch) -> NamedArrays:
    """Arrays of n background events for a report.

    mean (n, dims), weight (n,), keep (dims,); of the m continuous nuisances: nuisances (m,) their names,
    nuisance (n, m), moved (m,) the latent that was moved for each by shifts (s,), in deviations; change and
    change_error (m, s, f): what that does to the decoded features, in their own deviations; change_raw in
    their units; observed, observed_error: how the features of events differ whose nuisance is so far up.
    """
    background = validation.take(validation.y == 0)
    step = -(-len(background.y) // MAX_DIAGNOSTIC_EVENTS)
    b = background.take(slice(None, None, max(1, step)))
    names = [name for k, name in enumerate(latent_mask.nuisances) if k not in representation.discrete_columns]
    columns = [k for k in range(len(latent_mask.nuisances)) if k not in representation.discrete_columns]
    if not columns:
        return {}
    knows = latent_information(representation, b)
    aligned = latent_mask.rule == "aligned"
    moved = [i if aligned else int(knows[:, k].argmax()) for i, k in enumerate(columns)]
    shifts = torch.tensor(TRAVERSAL_SHIFTS)
    found = [traverse_latent(representation, b, latent_index=d, shifts=shifts) for d in moved]
    seen = [observed_change(representation.inputs(b.x), b.z[:, k], b.w, shifts=shifts) for k in columns]
    return {
        "mean": _to_numpy(representation.posterior_mean(b.x)),
        "nuisance": _to_numpy(b.z[:, columns]),
        "weight": _to_numpy(b.w.clamp_min(0)),
        "keep": _to_numpy(latent_mask.mask),
        "moved": _to_numpy(torch.tensor(moved)),
        "nuisances": np.array(names),
        "shifts": _to_numpy(shifts),
        "change": _stack_to_numpy([t.change for t in found]),
        "change_error": _stack_to_numpy([t.change_error for t in found]),
        "change_raw": _stack_to_numpy([t.raw_change for t in found]),
        "observed": _stack_to_numpy([mean for mean, _ in seen]),
        "observed_error": _stack_to_numpy([error for _, error in seen]),
    }


def mig_entry(arrays: NamedArrays) -> dict[str, Any]:
    """The mutual information gap of revealed latents, for a card; nothing where there are none."""
    if not arrays or arrays["mean"].shape[1] < 2:
        return {}
    found = mig(arrays["mean"], arrays["nuisance"], weight=arrays["weight"]).mig
    return {"mig": {"value": found.value, "low": found.low, "high": found.high}}


def _to_numpy(tensor: Tensor) -> np.ndarray[Any, Any]:
    return tensor.detach().cpu().numpy()


def _stack_to_numpy(tensors: Sequence[Tensor]) -> np.ndarray[Any, Any]:
    return _to_numpy(torch.stack(list(tensors)))


DEFAULT_TRAINING = {"epochs": 12, "batch_size": 2048, "ema_decay": 0.998, "tolerance": 0.05}


class LatentExcision(Method):
    """A classifier on the posterior means without some of the latents (Tan, Urquijo 2020, eq. 8).

    representation: arguments of Representation, or a published one: {type: BetaTCVAE, beta: 6}.  excise,
    found: which latents are cut out, see Excision.  network, terms, training: of the classifier, a Tagger on
    what is left.  weigh: what one nat of I(score; nuisance) costs when epochs of the classifier are
    compared.
    """

    def __init__(
        self,
        *,
        features: Sequence[str],
        nuisances: Sequence[str],
        constituents: Sequence[str] = (),
        representation: Mapping[str, Any] | str | None = None,
        excise: str | Sequence[int] | None = None,
        network: Mapping[str, Any] | str = "MLP",
        terms: Sequence[Mapping[str, Any]] = (),
        training: Mapping[str, Any] | None = None,
        mi_threshold: float = 0.05,
        mi_weight: float = 5.0,
        base: Path | None = None,
    ) -> None:
        super().__init__()
        check_representation_columns("LatentExcision", features, nuisances, constituents)
        self.representation = build_vae(representation, features=features, nuisances=nuisances, base=base)
        self.latent_mask = LatentMask(
            excise, representation=self.representation, nuisances=nuisances, mi_threshold=mi_threshold
        )
        self.latent_names = [f"latent_{k}" for k in range(self.representation.latent_dim)]
        self.classifier = Tagger(
            features=self.latent_names,
            nuisances=nuisances,
            terms=terms,
            network=network,
            training={**({} if terms else DEFAULT_TRAINING), **(training or {})},
            mi_weight=0.0 if terms else mi_weight,
            base=base,
        )

    @property
    def network(self) -> nn.Module:
        """The classifier's."""
        return self.classifier.network

    def fit(self, data: DataSplits, trainer: Trainer) -> None:
        """Stages 'representation' and 'tagger'."""
        self.to(trainer.device)
        self.representation.fit(data, trainer)
        self.representation.eval().requires_grad_(False)
        self.latent_mask.fit(self.representation, data.validation.all)
        self.classifier.fit(map_features(data, self.masked_means, names=self.latent_names), trainer)

    def logit(self, x: Tensor) -> Tensor:
        """Shape (n,)."""
        return self.classifier.logit(self.masked_means(x))

    def masked_means(self, x: Tensor) -> Tensor:
        """Posterior means, (n, dims), zero where they were cut out."""
        return self.latent_mask(self.representation.posterior_mean(x))  # type: ignore[no-any-return]

    def diagnostics(self, validation: Batch) -> NamedArrays:
        """Its latents on validation background, and what moving those that were cut out does."""
        return latent_diagnostics(self.representation, self.latent_mask, validation)


def check_representation_columns(
    method_name: str, features: Sequence[str], nuisances: Sequence[str], constituents: Sequence[str]
) -> None:
    """InputError where a representation could not be learned from these."""
    if not nuisances:
        raise InputError(f"{method_name} needs a nuisance to cut out; name one under 'nuisances'")
    if constituents or not features:
        raise InputError(
            f"{method_name} represents the features of a row, not constituents: write 'constituents: "
            "[]' in the "
            "tagger's block and give features"
        )
