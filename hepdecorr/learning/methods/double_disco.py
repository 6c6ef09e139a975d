"""Two classifiers that are independent of each other on background: the axes of an ABCD plane."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hepdecorr.errors import InputError
from hepdecorr.learning.batches import Batch, Data
from hepdecorr.learning.methods.judging import auc, chunks, spread
from hepdecorr.learning.methods.method import Method, cross_entropy, read_training
from hepdecorr.learning.methods.tagger import PAYING, build_terms, read_holds
from hepdecorr.learning.networks.building import network as build_network
from hepdecorr.learning.networks.principal import fitted_on
from hepdecorr.learning.players import Player, Verdict
from hepdecorr.learning.terms.adversary import Adversary
from hepdecorr.learning.terms.disco import distance_correlation
from hepdecorr.learning.terms.strength import Growth
from hepdecorr.learning.terms.term import FEWEST, Term, ranks
from hepdecorr.learning.training import Play


class DoubleDisCo(Method):
    """Double DisCo (Kasieczka, Nachman, Schwartz, Shih, 2007.14400, eqs. 3-6).

    The loss is the cross-entropy of each of two networks f and g, plus `strength` times their squared
    distance correlation on background; background then factorises in the plane of the two, which is what
    the ABCD method asks (validation.measures.abcd measures how well).  tail: strength of a second such term
    on the background that both networks rank above their median, where region A lies; 0 for none.  start,
    ramp: as in terms.  terms: each holds for either network, against a nuisance; none that is an adversary.

    The exported graph gives `logit_1` and `logit_2`, the axes (OnnxTagger.plane).  Its logit is the smaller
    of them: a cut on it is the same cut on both, which is region A.
    """

    beside = ("logit_1", "logit_2")

    def __init__(
        self,
        *,
        features: Sequence[str],
        constituents: Sequence[str] = (),
        length: int = 0,
        nuisances: Sequence[str] = (),
        strength: float = 20.0,
        tail: float = 0.0,
        start: float = 0.125,
        ramp: float = 0.125,
        terms: Sequence[Mapping[str, Any]] = (),
        network: Mapping[str, Any] | str = "MLP",
        training: Mapping[str, Any] | None = None,
        base: Path | None = None,
    ) -> None:
        super().__init__()
        about: dict[str, Any] = {"features": features, "constituents": constituents, "length": length}
        self.networks = nn.ModuleList(build_network(network, base=base, **about) for _ in range(2))
        self.terms = nn.ModuleDict(build_terms(terms, nuisances=nuisances, base=base))
        chasing = [type(t).__name__ for t in self.terms.values() if isinstance(t, Adversary)]
        if chasing or read_holds(terms, list(self.terms)):
            raise InputError(
                f"DoubleDisCo: {f'{chasing[0]} is an adversary' if chasing else 'a term has hold'}, and each "
                "term holds for two networks at once; give terms like DisCo, with a strength"
            )
        if min(strength, tail) < 0:
            raise InputError("DoubleDisCo: strength and tail cannot be negative")
        self.strength, self.tail = float(strength), float(tail)
        self.share = Growth(1.0, float(start), float(ramp))
        self.recipe, self.moves = read_training(training, where="method: training", defaults=PAYING)

    def learn(self, data: Data, play: Play) -> None:
        """One stage, 'tagger'."""
        self.to(play.device)
        sample = data.train.sample(generator=play.generator)
        for network in self.networks:
            network.fit(fitted_on(network, sample).x)  # type: ignore[operator]
        for term in self._each().values():
            term.fit(sample)
        play(
            {"tagger": Player(self.networks, lambda b: self._pay(b, play.passed), moves=self.moves)},
            data,
            self.recipe,
            stage="tagger",
            judge=lambda _: self._judge(data.validation.all),
            settled=max(t.settled for t in (self.share, *(t.growth for t in self._each().values()))),
        )

    def further(self, x: Tensor) -> tuple[Tensor, ...]:
        """The two logits, each of shape (n,)."""
        return tuple(network(x).squeeze(-1) for network in self.networks)

    def logit(self, x: Tensor) -> Tensor:
        """The smaller of the two, shape (n,)."""
        first, second = self.further(x)
        return torch.minimum(first, second)

    def _each(self) -> dict[str, Term]:
        return {name: term for name, term in self.terms.items() if isinstance(term, Term)}

    def _pay(self, b: Batch, passed: float) -> dict[str, Tensor]:
        logits = self.further(b.x)
        bill = {f"classify_{k}": cross_entropy(logit, b) for k, logit in enumerate(logits, 1)}
        bill |= self._between(logits, b, share=self.share.at(passed))
        for name, term in self._each().items():
            strength = term.growth.at(passed)
            for k, logit in enumerate(logits, 1):
                bill[f"{name}_{k}"] = strength * term.price(logit, b) if strength else logit.new_zeros(())
        return bill

    def _between(self, logits: Sequence[Tensor], b: Batch, *, share: float = 1.0) -> dict[str, Tensor]:
        """What the two networks pay for knowing of each other."""
        if not share:
            nothing = logits[0].new_zeros(())
            return {"between": nothing} | ({"between_tail": nothing} if self.tail else {})
        own = b.y == 0
        first, second, w = logits[0][own].float(), logits[1][own].float(), b.w[own].clamp_min(0)
        bill = {"between": share * self.strength * _dependence(first, second, w)}
        if self.tail:
            high = (ranks(first.detach(), w) > 0.5) & (ranks(second.detach(), w) > 0.5)
            bill["between_tail"] = share * self.tail * _dependence(first[high], second[high], w[high])
        return bill

    def _judge(self, b: Batch) -> Verdict:
        parts = [self.further(x) for x in chunks(b.x)]
        logits = [torch.cat(one).float() for one in zip(*parts, strict=True)]
        areas = [auc(logit, b) for logit in logits]
        figures = {f"classify_{k}": float(cross_entropy(one, b)) for k, one in enumerate(logits, 1)}
        criterion = sum(figures.values())
        figures |= {"auc_1": areas[0], "auc_2": areas[1], "auc": auc(torch.minimum(*logits), b)}
        costs: dict[str, list[float]] = {}
        for index, part in spread(torch.arange(len(b.y), device=b.y.device), b):
            some = [logit[index] for logit in logits]
            bill = {name: float(value) for name, value in self._between(some, part).items()}
            for name, term in self._each().items():
                bill |= {
                    f"{name}_{k}": term.growth.strength * float(term.price(s, part))
                    for k, s in enumerate(some, 1)
                }
            for name, cost in bill.items():
                costs.setdefault(name, []).append(cost)
        figures |= {name: sum(found) / len(found) for name, found in costs.items()}
        criterion += sum(figures[name] for name in costs)
        weak = [f"network {k} separates no more (AUC {a:.3f})" for k, a in enumerate(areas, 1) if a < 0.55]
        complaint = f"{' and '.join(weak)}; lower the strength ({self.strength:g})" if weak else ""
        return Verdict(criterion, figures, complaint)


def _dependence(first: Tensor, second: Tensor, w: Tensor) -> Tensor:
    """Unbiased dCorr^2 of the two, from whose gradient neither is left out; 0 where there are too few events.

    `distance_correlation` moves its first argument alone: the two halves of the product rule are added.
    """
    if len(first) < FEWEST:
        return (first.sum() + second.sum()) * 0
    moved = distance_correlation(first, second.detach(), w, unbiased=True)
    other = distance_correlation(second, first.detach(), w, unbiased=True)
    return moved + other - other.detach()
