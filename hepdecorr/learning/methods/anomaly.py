"""Anomaly score from a representation of background, with or without what it says of the nuisance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hepdecorr.catalogue import suggest
from hepdecorr.errors import InputError
from hepdecorr.learning.batches import Batch, Data
from hepdecorr.learning.latents.discrete import classes_kl
from hepdecorr.learning.latents.kl import gaussian_kl
from hepdecorr.learning.methods.excised import check_columns
from hepdecorr.learning.methods.excision import Excision
from hepdecorr.learning.methods.judging import chunks
from hepdecorr.learning.methods.method import Arrays, Method
from hepdecorr.learning.methods.representation import represent
from hepdecorr.learning.methods.revealing import reveal
from hepdecorr.learning.training import Play

SCORES = ("rest", "excised", "all")
LEAST = 1e-6  # nats below which an event is no less unusual


class Anomaly(Method):
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
        score: str = "rest",
        excise: str | Sequence[int] | None = None,
        found: float = 0.0,
        base: Path | None = None,
    ) -> None:
        super().__init__()
        check_columns("Anomaly", features, nuisances, constituents)
        if score not in SCORES:
            raise InputError(f"Anomaly: no score {score!r}{suggest(score, SCORES)}")
        self.score = score
        self.representation = represent(
            representation, features=features, nuisances=nuisances, base=base, given="background"
        )
        self.excision = Excision(excise, representation=self.representation, nuisances=nuisances, found=found)
        self.register_buffer("shift", torch.zeros(()))
        self.register_buffer("spread", torch.ones(()))

    def learn(self, data: Data, play: Play) -> None:
        """One stage, 'representation'; labels serve to leave signal out."""
        self.to(play.device)
        self.representation.learn(data, play)
        self.representation.eval().requires_grad_(False)
        validation = data.validation.all
        self.excision.fit(self.representation, validation)
        background = validation.take(validation.y == 0)
        with torch.no_grad():
            logarithm = torch.cat([self.nats(part) for part in chunks(background.x)]).log()
        w = background.w.clamp_min(0) / background.w.clamp_min(0).sum()
        mean = (w * logarithm).sum()
        self.shift.copy_(mean)
        self.spread.copy_((w * (logarithm - mean) ** 2).sum().sqrt().clamp_min(LEAST))

    def logit(self, x: Tensor) -> Tensor:
        """Shape (n,); larger for what is more unusual."""
        return (self.nats(x).log() - self.shift) / self.spread

    def nats(self, x: Tensor) -> Tensor:
        """The anomaly, (n,)."""
        scaled = self.representation.inputs(x)
        latent = self.representation.expected(scaled)
        kl, keep = gaussian_kl(latent), self.excision.keep
        kept, cut = (kl * keep).sum(1), (kl * (1 - keep)).sum(1)
        for classes in latent.classes:
            cut = cut + classes_kl(classes)  # a discrete latent is never kept
        if self.score == "excised":
            return cut.clamp_min(LEAST)
        rest = self.representation.reconstruction(latent, scaled) + kept
        return (rest + cut if self.score == "all" else rest).clamp_min(LEAST)

    def reveal(self, validation: Batch) -> Arrays:
        """As of Excised."""
        return reveal(self.representation, self.excision, validation)
