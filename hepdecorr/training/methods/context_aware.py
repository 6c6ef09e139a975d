"""A classifier that knows each event's group, through what the event is apart from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hepdecorr import registry
from hepdecorr.errors import InputError, located
from hepdecorr.training.data.batches import Batch, EventDataset
from hepdecorr.training.data.mapped import append_nuisances, map_features_by_group
from hepdecorr.training.data.splits import DataSplits
from hepdecorr.training.export.decoders import GroupDecoderExport
from hepdecorr.training.export.group_encoder import GroupEncoderExport, GroupPosterior
from hepdecorr.training.group_vae.model import GroupVAEDecoderExport, GroupVAEEncoderExport, GroupVAEModel
from hepdecorr.training.methods.base import Method
from hepdecorr.training.methods.group_vae import check_group_vae_columns
from hepdecorr.training.methods.tagger import Tagger
from hepdecorr.training.trainer import Trainer


class ContextAwareTagger(Method):
    """Two stages: codes of groups and events, then a classifier on the codes of events.

    When to use it: where something unknown changes from group to group (run, era) and shifts the features of
    all its events; the classifier sees what is left when that is taken out, and does not drift with it.

    representation: arguments of GroupRepresentation; `of` names the features that the unknown acts on, the
    others go to the classifier as they are.  So that nothing is lost on the way, give the instance as many
    latents as `of` has features and the decoder a small variance.  network, terms, training, weigh: of the
    classifier, a Tagger on the means of the instance codes, given the mean of the group's code, and the
    features that are left.  told: the classifier is told the group's code itself, too.

    Terms may also name the group's code as nuisances, group_0, group_1, ...: with
    {type: DisCo, nuisance: [group_0, group_1], given: signal} signal is not to depend on its group.
    """

    needs_groups = True
    aux_output_names = ("instance", "instance_log_var")
    unencoded_indices: Tensor

    def __init__(
        self,
        *,
        features: Sequence[str],
        constituents: Sequence[str] = (),
        nuisances: Sequence[str] = (),
        representation: Mapping[str, Any] | None = None,
        network: Mapping[str, Any] | str = "MLP",
        terms: Sequence[Mapping[str, Any]] = (),
        training: Mapping[str, Any] | None = None,
        mi_weight: float = 0.0,
        use_group_code: bool = False,
        base: Path | None = None,
    ) -> None:
        super().__init__()
        check_group_vae_columns("ContextAwareTagger", features, constituents)
        self.num_features = len(features)
        self.representation = _build_group_vae_model(representation, features=features, base=base)
        self.context_dim = self.representation.latent_dims.group
        codes = [f"instance_{k}" for k in range(self.representation.latent_dims.instance)]
        left = [name for name in features if name not in self.representation.encoded_features]
        self.register_buffer(
            "unencoded_indices", torch.tensor([features.index(name) for name in left], dtype=torch.int64)
        )
        if not isinstance(use_group_code, bool):
            raise InputError(f"use_group_code is true or false, not {use_group_code!r}")
        self.use_group_code = use_group_code
        groups = [f"group_{k}" for k in range(self.context_dim)]
        self.classifier_features = [*codes, *left, *(groups if use_group_code else [])]
        self.code_nuisances = groups if _term_nuisances(terms) & set(groups) else []
        self.classifier = Tagger(
            features=self.classifier_features,
            nuisances=[*nuisances, *self.code_nuisances],
            terms=terms,
            network=network,
            training=training,
            mi_weight=mi_weight,
            base=base,
        )

    @property
    def network(self) -> nn.Module:
        """The classifier's."""
        return self.classifier.network

    def fit(self, data: DataSplits, trainer: Trainer) -> None:
        """Stages 'groups' and 'tagger'."""
        self.to(trainer.device)
        record = self.representation.fit(data, trainer)
        self.representation.eval().requires_grad_(False)
        self.metrics = record["metrics"] = self.representation.card_metrics(data.validation.all)
        if self.code_nuisances:
            data = append_nuisances(
                data, lambda b: self.inputs_with_codes(b)[:, self.num_features :], names=self.code_nuisances
            )
        told = map_features_by_group(
            data, lambda b: self.classifier_inputs(self.inputs_with_codes(b)), names=self.classifier_features
        )
        if isinstance(told.train, EventDataset):
            # Batches of a few groups would differ in their signal, and in what is left of the groups.
            told = told._replace(train=told.train.ungrouped())
        self.classifier.fit(told, trainer)

    def inputs_with_codes(self, batch: Batch) -> Tensor:
        """Features and the code of the group, (n, width + d_u), of whole groups."""
        return self.representation.append_group_codes(batch)

    def logit(self, x: Tensor) -> Tensor:
        """Shape (n,)."""
        return self.classifier.logit(self.classifier_inputs(x))

    def aux_outputs(self, x: Tensor) -> tuple[Tensor, ...]:
        """Means and logarithms of the variances of the instance codes, both (n, d_v)."""
        p = self._instance_posterior(x)
        return p.mean, p.log_var

    def outputs(self, x: Tensor) -> tuple[Tensor, ...]:
        """The logit and what `beside` names."""
        p = self._instance_posterior(x)
        return self.classifier.logit(self._join_classifier_inputs(p, x)), p.mean, p.log_var

    def classifier_inputs(self, x: Tensor) -> Tensor:
        """What the classifier sees of rows with the code behind, (n, d_v + features left + code)."""
        return self._join_classifier_inputs(self._instance_posterior(x), x)

    def export_group_encoder(self) -> GroupEncoderExport:
        """How codes come from events."""
        return GroupVAEEncoderExport(self.representation)

    def export_decoder(self) -> GroupDecoderExport:
        """From codes to the features that are represented."""
        return GroupVAEDecoderExport(self.representation)

    def _instance_posterior(self, x: Tensor) -> GroupPosterior:
        return self.representation.instance_posteriors(x[:, : self.num_features], x[:, self.num_features :])

    def _join_classifier_inputs(self, posterior: GroupPosterior, x: Tensor) -> Tensor:
        parts = [posterior.mean]
        if len(self.unencoded_indices):
            parts.append(x.index_select(1, self.unencoded_indices))
        if self.use_group_code:
            parts.append(x[:, self.num_features :])
        return torch.cat(parts, 1)


def _term_nuisances(terms: Sequence[Any]) -> set[str]:
    """The nuisances that terms name; what is no list of terms is the classifier's to tell."""
    named = [spec.get("nuisance", ()) for spec in terms if isinstance(spec, Mapping)]
    return {one for names in named for one in ([names] if isinstance(names, str) else names)}


def _build_group_vae_model(
    spec: Mapping[str, Any] | None, *, features: Sequence[str], base: Path | None
) -> GroupVAEModel:
    if not isinstance(spec or {}, Mapping):
        raise InputError(f"representation must be as {{latents: {{group: 2, instance: 4}}}}, not {spec!r}")
    for key in ("type", "features", "where", "base"):
        if key in (spec or {}):
            raise InputError(
                f"representation: there is no {key!r}; features to represent stand in 'encoded_features'"
            )
    home = GroupVAEModel.__module__
    about = {"features": list(features), "where": "training"}
    with located("representation"):
        made: GroupVAEModel = registry.build(
            {"type": f"{home}:GroupVAEModel", **(spec or {})}, namespace=home, base=base, **about
        )
    return made
