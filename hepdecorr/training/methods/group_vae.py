"""A representation of groups and of the events in them, alone: GVAE, ML-VAE, CxVAE and what lies between."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hepdecorr.errors import InputError
from hepdecorr.training.data.batches import Batch
from hepdecorr.training.data.splits import DataSplits
from hepdecorr.training.export.decoders import GroupDecoderExport
from hepdecorr.training.export.group_encoder import GroupEncoderExport
from hepdecorr.training.group_vae.gaussian import kl_to_standard_normal
from hepdecorr.training.group_vae.model import GroupVAEDecoderExport, GroupVAEEncoderExport, GroupVAEModel
from hepdecorr.training.methods.base import Method
from hepdecorr.training.trainer import Trainer

MIN_NATS = 1e-6  # nats below which an event is no less unusual


class GroupVAE(Method):
    """Codes of groups and of events, learned together without labels (reference 3).

    When to use it: to find what groups of events have in common, and what an event is apart from that; a
    tagger on the latter is Contextual.  All arguments are those of GroupRepresentation; the pieces that make
    GVAE, ML-VAE and CxVAE are listed in the room `groups`.

    Its graph is told the code of each event's group, and gives `instance` (n, d_v), the mean of q(v|x,u), and
    `instance_log_var` beside the logit: how unusual the event is within its group, the logarithm of the
    squared distance of what is decoded, in units of twice the variance, plus the KL of v, in nats, of mean 0
    and deviation 1 on validation background.  An order, no log odds.
    """

    needs_signal = False
    needs_groups = True
    aux_output_names = ("instance", "instance_log_var")
    shift: Tensor
    spread: Tensor

    def __init__(
        self,
        *,
        features: Sequence[str],
        constituents: Sequence[str] = (),
        latents: Mapping[str, int] | None = None,
        encoded_features: Sequence[str] | None = None,
        group_encoder: Mapping[str, Any] | str = "DeepSetsEncoder",
        instance_encoder: Mapping[str, Any] | None = None,
        decoder: Mapping[str, Any] | str = "MLPDecoder",
        regulariser: Mapping[str, Any] | str | None = None,
        variance: float | str | None = None,
        instance_prior: str = "unit",
        inputs: Mapping[str, Any] | None = None,
        training: Mapping[str, Any] | None = None,
        base: Path | None = None,
    ) -> None:
        super().__init__()
        check_group_vae_columns("GroupVAE", features, constituents)
        self.num_features = len(features)
        self.representation = GroupVAEModel(
            features=features,
            latents=latents,
            encoded_features=encoded_features,
            group_encoder=group_encoder,
            instance_encoder=instance_encoder,
            decoder=decoder,
            regulariser=regulariser,
            variance=variance,
            instance_prior=instance_prior,
            inputs=inputs,
            training=training,
            base=base,
        )
        self.context_dim = self.representation.latent_dims.group
        self.register_buffer("shift", torch.zeros(()))
        self.register_buffer("spread", torch.ones(()))

    def fit(self, data: DataSplits, trainer: Trainer) -> None:
        """One stage, 'groups'."""
        self.to(trainer.device)
        record = self.representation.fit(data, trainer)
        self.representation.eval().requires_grad_(False)
        b = data.validation.all
        self.metrics = record["metrics"] = self.representation.card_metrics(b)
        own = b.y == 0
        with torch.no_grad():
            logarithm = self._anomaly_nats(self.inputs_with_codes(b))[own if own.any() else ~own].log()
        self.shift.copy_(logarithm.mean())
        self.spread.copy_(logarithm.std(correction=0).clamp_min(MIN_NATS))

    def inputs_with_codes(self, batch: Batch) -> Tensor:
        """Features and the code of the group, (n, width + d_u), of whole groups."""
        return self.representation.append_group_codes(batch)

    def logit(self, x: Tensor) -> Tensor:
        """Shape (n,); larger for what is more unusual within its group."""
        return self.outputs(x)[0]

    def aux_outputs(self, x: Tensor) -> tuple[Tensor, ...]:
        """Means and logarithms of the variances of the instance codes, both (n, d_v)."""
        return self.outputs(x)[1:]

    def outputs(self, x: Tensor) -> tuple[Tensor, ...]:
        """The logit and what `beside` names."""
        rows, code = x[:, : self.num_features], x[:, self.num_features :]
        p = self.representation.instance_posteriors(rows, code)
        target = self.representation.inputs_and_targets(rows)[1]
        unusual = self.representation.net.distance(target, code, p.mean) + kl_to_standard_normal(p).sum(1)
        return (unusual.clamp_min(MIN_NATS).log() - self.shift) / self.spread, p.mean, p.log_var

    def export_group_encoder(self) -> GroupEncoderExport:
        """How codes come from events."""
        return GroupVAEEncoderExport(self.representation)

    def export_decoder(self) -> GroupDecoderExport:
        """From codes to features."""
        return GroupVAEDecoderExport(self.representation)

    def _anomaly_nats(self, x: Tensor) -> Tensor:
        return (self.outputs(x)[0] * self.spread + self.shift).exp()


def check_group_vae_columns(method_name: str, features: Sequence[str], constituents: Sequence[str]) -> None:
    """InputError where a representation could not be learned from these."""
    if constituents or not features:
        raise InputError(
            f"{method_name} represents the features of a row, not constituents: write 'constituents: "
            "[]' in the "
            "tagger's block and give features"
        )
