"""A classifier and the terms that decorrelate it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from hepdecorr import catalogue
from hepdecorr.errors import InputError
from hepdecorr.learning.batches import Batch, Data
from hepdecorr.learning.holding import Hold, Scorer
from hepdecorr.learning.methods.dues import Dues
from hepdecorr.learning.methods.judging import Judge
from hepdecorr.learning.methods.method import Method, cross_entropy, read_training
from hepdecorr.learning.networks.building import network as build_network
from hepdecorr.learning.networks.principal import fitted_on
from hepdecorr.learning.players import Player
from hepdecorr.learning.terms.adversary import Adversary
from hepdecorr.learning.terms.term import Term
from hepdecorr.learning.training import Play

PLAIN = {"epochs": 16, "batch": 2048, "average": 0.998}
PAYING = {"epochs": 16, "batch": 4096, "average": 0.998, "clip": 1.0, "slack": 0.05}
PURSUED = PAYING | {"clip": 5.0}
HOLDING = {"slack": 0.0}  # the criterion is then without dependence and its noise


class Tagger(Method):
    """Cross-entropy plus the sum of its terms: plain with none, DisCo, pivot, or a mixture.

    With adversaries this is the game of Louppe et al. (1611.01046, algorithm 1): each adversary moves
    several times a turn on its own batches, then the tagger once; or both on one backward pass, with
    `update: reversal`.  Everything happens in one stage: a plain start, in which the adversaries are trained
    last, then the strengths grow.  weigh: what one nat of I(score; nuisance) costs, beside the terms, when
    epochs are compared.
    """

    def __init__(
        self,
        *,
        features: Sequence[str],
        constituents: Sequence[str] = (),
        length: int = 0,
        nuisances: Sequence[str] = (),
        terms: Sequence[Mapping[str, Any]] = (),
        network: Mapping[str, Any] | str = "MLP",
        training: Mapping[str, Any] | None = None,
        weigh: float = 0.0,
        base: Path | None = None,
    ) -> None:
        super().__init__()
        self.weigh = float(weigh)
        self.network = build_network(
            network, features=features, constituents=constituents, length=length, base=base
        )
        self.terms = nn.ModuleDict(build_terms(terms, nuisances=nuisances, base=base))
        self.holds = read_holds(terms, list(self.terms))
        self.dues = Dues(self.terms, self.holds, scorer=Scorer(self.network, self.logit))
        adversaries = any(isinstance(t, Adversary) for t in self.terms.values())
        defaults = PURSUED if adversaries else PAYING if terms else PLAIN
        defaults = defaults | (HOLDING if self.holds else {})
        self.recipe, self.moves = read_training(training, where="method: training", defaults=defaults)

    def learn(self, data: Data, play: Play) -> None:
        """One stage, 'tagger'."""
        self.to(play.device)
        sample = data.train.sample(generator=play.generator)
        self.network.fit(fitted_on(self.network, sample).x)  # type: ignore[operator]
        dues = self.dues
        dues.begin(sample, data, play, turns=data.train.turns(self.recipe.batch))
        pay = Player(self.network, lambda b: self._pay(b, play), moves=self.moves, leaves=dues.leaves)
        play(
            dues.table(pay, play),
            data,
            self.recipe,
            stage="tagger",
            judge=Judge(
                self.logit,
                data.validation,
                terms=dict(dues.each()),
                weigh=self.weigh,
                held=dues.held,
            ),
            settled=dues.settled,
            companions=dues.companions,
        )
        dues.end()

    def logit(self, x: Tensor) -> Tensor:
        """Shape (n,)."""
        return self.network(x).squeeze(-1)  # type: ignore[no-any-return]

    def _pay(self, b: Batch, play: Play) -> dict[str, Tensor]:
        self.dues.follow(play)
        logit = self.logit(b.x)
        return {"classify": cross_entropy(logit, b)} | self.dues.bill(logit, b, play)


def build_terms(
    specs: Sequence[Mapping[str, Any]], *, nuisances: Sequence[str], base: Path | None
) -> dict[str, Term]:
    """The terms by the names that the curves carry: type and nuisance, numbered where they repeat."""
    built: dict[str, Term] = {}
    if isinstance(specs, Mapping | str) or not all(isinstance(spec, Mapping) for spec in specs):
        raise InputError(f"terms must list terms, as [{{type: DisCo, nuisance: NAME}}], not {specs!r}")
    for spec in specs:
        own = {k: v for k, v in spec.items() if k != "hold"}
        term: Term = catalogue.build(
            own, home="hepdecorr.learning.terms", base=base, nuisances=list(nuisances)
        )
        name = f"{type(term).__name__.lower()}_{term.nuisance}".replace(".", "_")
        count = sum(1 for known in built if known == name or known.startswith(f"{name}_"))
        built[f"{name}_{count + 1}" if count else name] = term
    return built


def read_holds(specs: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, Hold]:
    """The constraints of those terms that have one, by the terms' names."""
    asked = zip(specs, names, strict=True)
    for s in specs:
        if "hold" in s and s.get("strength") == 0:
            raise InputError(
                f"{s['type']}: hold finds the strength, from the one that is given on; leave strength: 0 out"
            )
    return {name: Hold.read(s["hold"], where=f"{s['type']}") for s, name in asked if "hold" in s}
