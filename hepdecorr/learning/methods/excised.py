"""Two stages: represent, cut out what knows the nuisance, classify what is left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from hepdecorr.errors import InputError
from hepdecorr.learning.batches import Batch, Data
from hepdecorr.learning.methods.excision import Excision
from hepdecorr.learning.methods.method import Arrays, Method
from hepdecorr.learning.methods.representation import represent
from hepdecorr.learning.methods.revealing import reveal
from hepdecorr.learning.methods.tagger import Tagger
from hepdecorr.learning.seen import seen
from hepdecorr.learning.training import Play

DEFAULTS = {"epochs": 12, "batch": 2048, "average": 0.998, "slack": 0.05}


class Excised(Method):
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
        found: float = 0.05,
        weigh: float = 5.0,
        base: Path | None = None,
    ) -> None:
        super().__init__()
        check_columns("Excised", features, nuisances, constituents)
        self.representation = represent(representation, features=features, nuisances=nuisances, base=base)
        self.excision = Excision(excise, representation=self.representation, nuisances=nuisances, found=found)
        self.names = [f"latent_{k}" for k in range(self.representation.dims)]
        self.classifier = Tagger(
            features=self.names,
            nuisances=nuisances,
            terms=terms,
            network=network,
            training={**({} if terms else DEFAULTS), **(training or {})},
            weigh=0.0 if terms else weigh,
            base=base,
        )

    @property
    def network(self) -> nn.Module:
        """The classifier's."""
        return self.classifier.network

    def learn(self, data: Data, play: Play) -> None:
        """Stages 'representation' and 'tagger'."""
        self.to(play.device)
        self.representation.learn(data, play)
        self.representation.eval().requires_grad_(False)
        self.excision.fit(self.representation, data.validation.all)
        self.classifier.learn(seen(data, self.kept, names=self.names), play)

    def logit(self, x: Tensor) -> Tensor:
        """Shape (n,)."""
        return self.classifier.logit(self.kept(x))

    def kept(self, x: Tensor) -> Tensor:
        """Posterior means, (n, dims), zero where they were cut out."""
        return self.excision(self.representation.mean(x))  # type: ignore[no-any-return]

    def reveal(self, validation: Batch) -> Arrays:
        """Its latents on validation background, and what moving those that were cut out does."""
        return reveal(self.representation, self.excision, validation)


def check_columns(
    name: str, features: Sequence[str], nuisances: Sequence[str], constituents: Sequence[str]
) -> None:
    """InputError where a representation could not be learned from these."""
    if not nuisances:
        raise InputError(f"{name} needs a nuisance to cut out; name one under 'nuisances'")
    if constituents or not features:
        raise InputError(
            f"{name} represents the features of a row, not constituents: write 'constituents: []' in the "
            "tagger's block and give features"
        )
