"""A representation of groups and of the events in them, alone: GVAE, ML-VAE, CxVAE and what lies between."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hepdecorr.errors import InputError
from hepdecorr.learning.batches import Batch, Data
from hepdecorr.learning.decoder import GroupDecoder
from hepdecorr.learning.grouping import Grouping
from hepdecorr.learning.groups.posteriors import nats
from hepdecorr.learning.groups.representation import Decoded, GroupCoding, GroupRepresentation
from hepdecorr.learning.methods.method import Method
from hepdecorr.learning.training import Play

LEAST = 1e-6  # nats below which an event is no less unusual


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
    whole = True
    beside = ("instance", "instance_log_var")
    shift: Tensor
    spread: Tensor

    def __init__(
        self,
        *,
        features: Sequence[str],
        constituents: Sequence[str] = (),
        latents: Mapping[str, int] | None = None,
        of: Sequence[str] | None = None,
        group_encoder: Mapping[str, Any] | str = "DeepSets",
        instance_encoder: Mapping[str, Any] | None = None,
        decoder: Mapping[str, Any] | str = "Network",
        regulariser: Mapping[str, Any] | str | None = None,
        variance: float | str | None = None,
        instance_prior: str = "unit",
        inputs: Mapping[str, Any] | None = None,
        training: Mapping[str, Any] | None = None,
        base: Path | None = None,
    ) -> None:
        super().__init__()
        check_columns("GroupVAE", features, constituents)
        self.width = len(features)
        self.representation = GroupRepresentation(
            features=features,
            latents=latents,
            of=of,
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
        self.context = self.representation.latents.group
        self.register_buffer("shift", torch.zeros(()))
        self.register_buffer("spread", torch.ones(()))

    def learn(self, data: Data, play: Play) -> None:
        """One stage, 'groups'."""
        self.to(play.device)
        record = self.representation.learn(data, play)
        self.representation.eval().requires_grad_(False)
        b = data.validation.all
        self.measured = record["measured"] = self.representation.measured(b)
        own = b.y == 0
        with torch.no_grad():
            logarithm = self._nats(self.rows(b))[own if own.any() else ~own].log()
        self.shift.copy_(logarithm.mean())
        self.spread.copy_(logarithm.std(correction=0).clamp_min(LEAST))

    def rows(self, b: Batch) -> Tensor:
        """Features and the code of the group, (n, width + d_u), of whole groups."""
        return self.representation.with_codes(b)

    def logit(self, x: Tensor) -> Tensor:
        """Shape (n,); larger for what is more unusual within its group."""
        return self.answers(x)[0]

    def further(self, x: Tensor) -> tuple[Tensor, ...]:
        """Means and logarithms of the variances of the instance codes, both (n, d_v)."""
        return self.answers(x)[1:]

    def answers(self, x: Tensor) -> tuple[Tensor, ...]:
        """The logit and what `beside` names."""
        rows, code = x[:, : self.width], x[:, self.width :]
        p = self.representation.instances(rows, code)
        target = self.representation.views(rows)[1]
        unusual = self.representation.net.distance(target, code, p.mean) + nats(p).sum(1)
        return (unusual.clamp_min(LEAST).log() - self.shift) / self.spread, p.mean, p.log_var

    def grouping(self) -> Grouping:
        """How codes come from events."""
        return GroupCoding(self.representation)

    def decoder(self) -> GroupDecoder:
        """From codes to features."""
        return Decoded(self.representation)

    def _nats(self, x: Tensor) -> Tensor:
        return (self.answers(x)[0] * self.spread + self.shift).exp()


def check_columns(name: str, features: Sequence[str], constituents: Sequence[str]) -> None:
    """InputError where a representation could not be learned from these."""
    if constituents or not features:
        raise InputError(
            f"{name} represents the features of a row, not constituents: write 'constituents: []' in the "
            "tagger's block and give features"
        )
