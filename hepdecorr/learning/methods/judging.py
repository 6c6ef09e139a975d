"""Judging an epoch on validation events: never by the classification alone where there is a nuisance."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hepdecorr.learning.batches import Batch, Events
from hepdecorr.learning.methods.method import cross_entropy
from hepdecorr.learning.players import Verdict
from hepdecorr.learning.terms.adversary import Adversary
from hepdecorr.learning.terms.entropy import mutual_information
from hepdecorr.learning.terms.term import Term

if TYPE_CHECKING:
    from hepdecorr.learning.holding import Held

CHUNK = 8192  # rows that are scored at once; fewer of jets, whose pairs of constituents take memory
NUMBERS = 2**20  # inputs that are scored at once
PIECE, MOST = 2048, 32768  # events a term is evaluated on at once, and in all: distances cost their square
SLACK = 0.03  # nats by which an adversary may miss before the game is called unstable


class Costs:
    """What the dependence of a logit on the nuisances costs.

    A DisCo term costs its strength times its price.  An adversary's costs its strength times the larger
    of what the adversary has found and I(score; nuisance) measured on bins: one that has lost track must
    not make an epoch look good.  A term that is `held` costs nothing, but its constraint comes before
    everything.  `weigh` prices I(score; nuisance), in nats, where there are no terms.
    """

    def __init__(
        self,
        nuisances: Sequence[str],
        *,
        terms: Mapping[str, Term],
        held: Mapping[str, Held] | None = None,
        weigh: float = 0.0,
    ) -> None:
        self._nuisances, self._terms, self._weigh = nuisances, terms, weigh
        self._held = held or {}

    def __call__(self, logit: Tensor, b: Batch, latest: Mapping[str, float]) -> Verdict:
        """Of the logits (n,) of events; `latest` holds the epoch's training losses."""
        information = self._information(logit, b)
        figures = {f"information/{name}": nats for name, nats in information.items()}
        criterion = self._weigh * sum(max(0.0, v) for v in information.values())
        complaints = []
        for name, term in self._terms.items():
            cost, complaint = self._cost(name, term, logit, b, information, latest)
            figures[name] = cost
            criterion += 0.0 if name in self._held else term.growth.strength * cost
            complaints += [f"{name}: {complaint}"] if complaint else []
        violation = 0.0
        for name, held in self._held.items():
            worst = held.judged()
            violation = max(violation, worst.ratio - 1)
            complaints += [f"{name}: {held.complaint(worst)}"] if worst.ratio > 1 else []
        return Verdict(criterion, figures, "; ".join(complaints), violation)

    def _information(self, logit: Tensor, b: Batch) -> dict[str, float]:
        own = b.y == 0
        w = b.w[own].clamp_min(0)
        return {n: mutual_information(logit[own], b.z[own, k], w) for k, n in enumerate(self._nuisances)}

    def _cost(
        self,
        name: str,
        term: Term,
        logit: Tensor,
        b: Batch,
        measured: Mapping[str, float],
        latest: Mapping[str, float],
    ) -> tuple[float, str]:
        if not isinstance(term, Adversary):
            parts = spread(logit, b)
            return sum(float(term.price(s, c)) for s, c in parts) / len(parts), ""
        information = max(measured[one] for one in term.nuisances)
        look, loss = term.look(logit, b, even=True), latest.get(f"{name}/chase")
        if look is None or loss is None:
            return max(0.0, information), ""
        # Of the adversary the training loss counts: it chases the present weights, and the averaged ones
        # that are judged here may be elsewhere.
        floor = term.floor(look)
        known = information if term.given == "background" and term.top == 1 else 0.0
        found = term.found(loss, floor)
        if found < -SLACK:
            complaint = (
                f"the adversary is behind a blind guess (its loss is {loss:.3f} against {floor:.3f}); "
                "give it more steps or a smaller learning rate, or lower the strength"
            )
        elif known > found + SLACK:
            complaint = f"the adversary has found {max(0.0, found):.3f} of {known:.3f} nats; {term.remedy}"
        else:
            complaint = ""
        return max(0.0, found, known), complaint


class Judge:
    """Cross-entropy plus what the dependence costs, see Costs."""

    def __init__(
        self,
        logit: Callable[[Tensor], Tensor],
        validation: Events,
        *,
        terms: Mapping[str, Term],
        held: Mapping[str, Held] | None = None,
        weigh: float = 0.0,
    ) -> None:
        self._logit, self._validation, self._terms = logit, validation, terms
        self._costs = Costs(validation.nuisances, terms=terms, held=held, weigh=weigh)

    def __call__(self, latest: Mapping[str, float]) -> Verdict:
        """The verdict on the weights as they are now; `latest` holds the epoch's training losses."""
        b = self._validation.all
        logit = torch.cat([self._logit(part) for part in chunks(b.x)]).float()
        figures = {"classify": float(cross_entropy(logit, b)), "auc": auc(logit, b)}
        dependence = self._costs(logit, b, latest)
        told = [] if figures["auc"] > 0.55 else [_collapse(figures["auc"], self._terms)]
        told += [dependence.complaint] if dependence.complaint else []
        return Verdict(
            figures["classify"] + dependence.criterion,
            figures | dict(dependence.figures),
            "; ".join(told),
            dependence.violation,
        )


def _collapse(area: float, terms: Mapping[str, Term]) -> str:
    told = f"the tagger separates no more (AUC {area:.3f})"
    if not terms:
        return f"{told}; look whether the features tell the classes apart, or lower the learning rate"
    strengths = ", ".join(f"{name} {term.growth.strength:g}" for name, term in terms.items())
    return (
        f"{told}: it pays most for dependence when it says nothing; lower the strength ({strengths}), or let "
        "it be found (hold: {measure: dcor, at_most: floor})"
    )


def chunks(x: Tensor) -> tuple[Tensor, ...]:
    """The rows in parts that can be scored at once."""
    parts: tuple[Tensor, ...] = x.split(max(1, min(CHUNK, NUMBERS // max(1, x.shape[1]))))
    return parts


def spread(logit: Tensor, b: Batch) -> Sequence[tuple[Tensor, Batch]]:
    """Chunks that each hold events from all over the sample, whatever its order."""
    count = len(logit)
    number = max(1, round(min(count, MOST) / PIECE))
    step = max(number, -(-count // PIECE))
    return [(logit[k::step], b.take(slice(k, None, step))) for k in range(number)]


def auc(logit: Tensor, b: Batch) -> float:
    """Weighted area under the ROC curve; ties count half."""
    values, inverse = logit.double().unique(return_inverse=True)
    per_class = [
        torch.zeros(len(values), dtype=torch.float64, device=logit.device).index_add(
            0, inverse, b.w.double() * (b.y == label)
        )
        for label in (0, 1)
    ]
    below = per_class[0].cumsum(0) - 0.5 * per_class[0]
    return float((per_class[1] * below).sum() / (per_class[0].sum() * per_class[1].sum()))
