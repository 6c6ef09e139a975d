"""Anomaly score from a representation of background, with or without what it says of the nuisance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hepdecorr.errors import InputError, suggest
from hepdecorr.training.data.batches import Batch
from hepdecorr.training.data.chunks import score_chunks
from hepdecorr.training.data.splits import DataSplits
from hepdecorr.training.methods.base import Method, NamedArrays
from hepdecorr.training.methods.latent_excision import (
    LatentMask,
    check_representation_columns,
    latent_diagnostics,
)
from hepdecorr.training.trainer import Trainer
from hepdecorr.training.vae.discrete_latents import categorical_kl
from hepdecorr.training.vae.latent_terms import gaussian_kl
from hepdecorr.training.vae.tabular import build_vae

ANOMALY_SCORES = ("retained", "excised", "all")
MIN_NATS = 1e-6  # nats below which an event is no less unusual


class VAEAnomaly(Method):
    """How unusual an event is for background, by a representation that never sees signal.

    The outlook of Tan, Urquijo (2020): isolate the mass in one latent, then do approximate posterior
    inference.  In nats, at the posterior mean, score 'rest': -log p(x|z) plus the KL of the latents that are
    kept, the negative ELBO without what the nuisance costs; 'excised': the KL of those that are cut out, how
    unusual the nuisance itself is; 'all': both, the usual score, which knows the nuisance.  The logit
    is the logarithm of this, of mean 0 and deviation 1 on validation background: an order, no log odds.
    representation, excise, found: as of Excised.
    """

    shift: Tensor
    spread: Tensor

    def __init__(
        self,
        *,
        features: Sequence[str],
        nuisances: Sequence[str],
        constituents: Sequence[str] = (),
        representation: Mapping[str, Any] | str | None = None,
        score: str = "retained",
        excise: str | Sequence[int] | None = None,
        mi_threshold: float = 0.0,
        base: Path | None = None,
    ) -> None:
        super().__init__()
        check_representation_columns("VAEAnomaly", features, nuisances, constituents)
        if score not in ANOMALY_SCORES:
            raise InputError(f"Anomaly: no score {score!r}{suggest(score, ANOMALY_SCORES)}")
        self.score = score
        self.representation = build_vae(
            representation, features=features, nuisances=nuisances, base=base, classes="background"
        )
        self.latent_mask = LatentMask(
            excise, representation=self.representation, nuisances=nuisances, mi_threshold=mi_threshold
        )
        self.register_buffer("shift", torch.zeros(()))
        self.register_buffer("spread", torch.ones(()))

    def fit(self, data: DataSplits, trainer: Trainer) -> None:
        """One stage, 'representation'; labels serve to leave signal out."""
        self.to(trainer.device)
        self.representation.fit(data, trainer)
        self.representation.eval().requires_grad_(False)
        validation = data.validation.all
        self.latent_mask.fit(self.representation, validation)
        background = validation.take(validation.y == 0)
        with torch.no_grad():
            logarithm = torch.cat([self.anomaly_nats(part) for part in score_chunks(background.x)]).log()
        w = background.w.clamp_min(0) / background.w.clamp_min(0).sum()
        mean = (w * logarithm).sum()
        self.shift.copy_(mean)
        self.spread.copy_((w * (logarithm - mean) ** 2).sum().sqrt().clamp_min(MIN_NATS))

    def logit(self, x: Tensor) -> Tensor:
        """Shape (n,); larger for what is more unusual."""
        return (self.anomaly_nats(x).log() - self.shift) / self.spread

    def anomaly_nats(self, x: Tensor) -> Tensor:
        """The anomaly, (n,)."""
        scaled = self.representation.inputs(x)
        latent = self.representation.posterior_at_mean(scaled)
        kl, keep = gaussian_kl(latent), self.latent_mask.mask
        kept, cut = (kl * keep).sum(1), (kl * (1 - keep)).sum(1)
        for classes in latent.categorical:
            cut = cut + categorical_kl(classes)  # a discrete latent is never kept
        if self.score == "excised":
            return cut.clamp_min(MIN_NATS)
        rest = self.representation.reconstruction_loss(latent, scaled) + kept
        return (rest + cut if self.score == "all" else rest).clamp_min(MIN_NATS)

    def diagnostics(self, validation: Batch) -> NamedArrays:
        """As of Excised."""
        return latent_diagnostics(self.representation, self.latent_mask, validation)
