"""Two stages: represent, cut out what knows the nuisance, classify what is left."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hepdecorr import catalogue
from hepdecorr.errors import InputError
from hepdecorr.learning.batches import Batch, Data
from hepdecorr.learning.methods.judging import Judge, chunks
from hepdecorr.learning.methods.method import Method, cross_entropy, read_training
from hepdecorr.learning.methods.representation import Representation
from hepdecorr.learning.networks.building import network as build_network
from hepdecorr.learning.players import Player
from hepdecorr.learning.terms.entropy import mutual_information
from hepdecorr.learning.training import Play

log = logging.getLogger(__name__)

DEFAULTS = {"epochs": 12, "batch": 2048, "average": 0.998, "slack": 0.05}


class Excised(Method):
    """A classifier on the posterior means without the sensitive latents (Tan, Urquijo 2020, eq. 8).

    representation: arguments of Representation.  found: further latents that know a nuisance by more
    than so many nats, on validation background, are cut out as well; 0 for none.  weigh: what one nat
    of I(score; nuisance) costs when epochs of the classifier are compared.
    """

    keep: Tensor

    def __init__(
        self,
        *,
        features: Sequence[str],
        nuisances: Sequence[str],
        constituents: Sequence[str] = (),
        representation: Mapping[str, Any] | None = None,
        network: Mapping[str, Any] | str = "MLP",
        training: Mapping[str, Any] | None = None,
        found: float = 0.05,
        weigh: float = 5.0,
        base: Path | None = None,
    ) -> None:
        super().__init__()
        if not nuisances:
            raise InputError("Excised needs a nuisance to cut out; name one under 'nuisances'")
        if constituents or not features:
            raise InputError(
                "Excised represents the features of a row, not constituents: write 'constituents: []' in the "
                "tagger's block and give features"
            )
        spec = {"type": f"{Representation.__module__}:Representation", **(representation or {})}
        self.representation: Representation = catalogue.build(
            spec,
            home=Representation.__module__,
            base=base,
            features=list(features),
            nuisances=list(nuisances),
        )
        names = [f"latent_{k}" for k in range(self.representation.dims)]
        self.network = build_network(network, features=names, base=base)
        self.nuisances, self.found, self.weigh = list(nuisances), float(found), float(weigh)
        self.recipe, self.moves = read_training(training, where="method: training", defaults=DEFAULTS)
        self.register_buffer("keep", torch.ones(self.representation.dims))

    def learn(self, data: Data, play: Play) -> None:
        """Stages 'representation' and 'classify'."""
        self.to(play.device)
        self.representation.learn(data, play)
        self.representation.eval()
        self._excise(data.validation.all)
        sample = data.train.sample(generator=play.generator)
        with torch.no_grad():
            self.network.fit(torch.cat([self._kept(part) for part in chunks(sample.x)]))  # type: ignore[operator]
        play(
            {"tagger": Player(self.network, self._classify, moves=self.moves)},
            data,
            self.recipe,
            stage="classify",
            judge=Judge(self.logit, data.validation, terms={}, weigh=self.weigh),
        )

    def logit(self, x: Tensor) -> Tensor:
        """Shape (n,)."""
        return self.network(self._kept(x)).squeeze(-1)  # type: ignore[no-any-return]

    def _kept(self, x: Tensor) -> Tensor:
        return self.keep * self.representation.mean(x)

    def _classify(self, b: Batch) -> dict[str, Tensor]:
        with torch.no_grad():
            kept = self._kept(b.x)
        return {"classify": cross_entropy(self.network(kept).squeeze(-1), b)}

    @torch.no_grad()
    def _excise(self, validation: Batch) -> None:
        background = validation.take(validation.y == 0)
        means = torch.cat([self.representation.mean(part) for part in chunks(background.x)])
        self.keep.fill_(1.0)
        self.keep[: self.representation.sensitive] = 0.0
        for d in range(self.representation.sensitive, self.representation.dims) if self.found else ():
            for k, name in enumerate(self.nuisances):
                nats = mutual_information(
                    means[:, d], background.z[:, k], background.w.clamp_min(0), tail=False
                )
                if nats > self.found:
                    log.warning("latent %d knows %.3f nats of %s and is cut out", d, nats, name)
                    self.keep[d] = 0.0
        if not self.keep.any():
            raise InputError(
                "every latent knows the nuisance; raise the beta of TotalCorrelation, the latents or 'found'"
            )
