"""Judging an epoch on validation events: never by the classification alone where there is a nuisance.

Judging an epoch of the family on validation groups.

Judging an epoch of a variational autoencoder on validation events.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from hepdecorr.training.data.batches import Batch, EventDataset
from hepdecorr.training.data.chunks import score_chunks, spread
from hepdecorr.training.losses.adversary import Adversary
from hepdecorr.training.losses.base import Term, weighted_mean
from hepdecorr.training.losses.constraint import ConstrainedStrength
from hepdecorr.training.losses.information import mutual_information
from hepdecorr.training.methods.base import cross_entropy
from hepdecorr.training.objective import ValidationResult
from hepdecorr.training.vae.jet_inputs import JetInputs
from hepdecorr.training.vae.jet_model import JetVAELoss, JetVAEModel, VAEOutput

ADVERSARY_TOLERANCE = 0.03  # nats by which an adversary may miss before the game is called unstable


class DependenceCriterion:
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
        constraints: Mapping[str, ConstrainedStrength] | None = None,
        mi_weight: float = 0.0,
    ) -> None:
        self._nuisances, self._terms, self._mi_weight = nuisances, terms, mi_weight
        self._constraints = constraints or {}

    def __call__(self, logit: Tensor, batch: Batch, last_metrics: Mapping[str, float]) -> ValidationResult:
        """Of the logits (n,) of events; `latest` holds the epoch's training losses."""
        information = self._mutual_information(logit, batch)
        figures = {f"information/{name}": nats for name, nats in information.items()}
        criterion = self._mi_weight * sum(max(0.0, v) for v in information.values())
        complaints = []
        for name, term in self._terms.items():
            cost, complaint = self._term_penalty(name, term, logit, batch, information, last_metrics)
            figures[name] = cost
            criterion += 0.0 if name in self._constraints else term.schedule.strength * cost
            complaints += [f"{name}: {complaint}"] if complaint else []
        violation = 0.0
        for name, held in self._constraints.items():
            worst = held.measure_worst()
            violation = max(violation, worst.ratio - 1)
            complaints += [f"{name}: {held.describe_violation(worst)}"] if worst.ratio > 1 else []
        return ValidationResult(criterion, figures, "; ".join(complaints), violation)

    def _mutual_information(self, logit: Tensor, batch: Batch) -> dict[str, float]:
        own = batch.y == 0
        w = batch.w[own].clamp_min(0)
        return {n: mutual_information(logit[own], batch.z[own, k], w) for k, n in enumerate(self._nuisances)}

    def _term_penalty(
        self,
        name: str,
        term: Term,
        logit: Tensor,
        batch: Batch,
        mi_by_nuisance: Mapping[str, float],
        last_metrics: Mapping[str, float],
    ) -> tuple[float, str]:
        if not isinstance(term, Adversary):
            parts = spread(logit, batch)
            return sum(float(term.penalty(s, c)) for s, c in parts) / len(parts), ""
        information = max(mi_by_nuisance[one] for one in term.nuisances)
        look, loss = term.select(logit, batch, ignore_tail_weight=True), last_metrics.get(f"{name}/loss")
        if look is None or loss is None:
            return max(0.0, information), ""
        # Of the adversary the training loss counts: it chases the present weights, and the averaged ones
        # that are judged here may be elsewhere.
        floor = term.baseline_loss(look)
        known = information if term.classes == "background" and term.top_fraction == 1 else 0.0
        found = term.information(loss, floor)
        if found < -ADVERSARY_TOLERANCE:
            complaint = (
                f"the adversary is behind a blind guess (its loss is {loss:.3f} against {floor:.3f}); "
                "give it more steps or a smaller learning rate, or lower the strength"
            )
        elif known > found + ADVERSARY_TOLERANCE:
            complaint = f"the adversary has found {max(0.0, found):.3f} of {known:.3f} nats; {term.advice}"
        else:
            complaint = ""
        return max(0.0, found, known), complaint


class TaggerValidator:
    """Cross-entropy plus what the dependence costs, see Costs."""

    def __init__(
        self,
        logit: Callable[[Tensor], Tensor],
        validation: EventDataset,
        *,
        terms: Mapping[str, Term],
        constraints: Mapping[str, ConstrainedStrength] | None = None,
        mi_weight: float = 0.0,
    ) -> None:
        self._logit, self._validation, self._terms = logit, validation, terms
        self._dependence_criterion = DependenceCriterion(
            validation.nuisances, terms=terms, constraints=constraints, mi_weight=mi_weight
        )

    def __call__(self, last_metrics: Mapping[str, float]) -> ValidationResult:
        """The verdict on the weights as they are now; `latest` holds the epoch's training losses."""
        b = self._validation.all
        logit = torch.cat([self._logit(part) for part in score_chunks(b.x)]).float()
        figures = {"cross_entropy": float(cross_entropy(logit, b)), "auc": auc(logit, b)}
        dependence = self._dependence_criterion(logit, b, last_metrics)
        told = [] if figures["auc"] > 0.55 else [_collapse_warning(figures["auc"], self._terms)]
        told += [dependence.warning] if dependence.warning else []
        return ValidationResult(
            figures["cross_entropy"] + dependence.criterion,
            figures | dict(dependence.metrics),
            "; ".join(told),
            dependence.constraint_violation,
        )


def _collapse_warning(auc_value: float, terms: Mapping[str, Term]) -> str:
    told = f"the tagger separates no more (AUC {auc_value:.3f})"
    if not terms:
        return f"{told}; look whether the features tell the classes apart, or lower the learning rate"
    strengths = ", ".join(f"{name} {term.schedule.strength:g}" for name, term in terms.items())
    return (
        f"{told}: it pays most for dependence when it says nothing; lower the strength ({strengths}), or let "
        "it be found (constraint: {measure: dcor, max_value: floor})"
    )


def auc(logit: Tensor, batch: Batch) -> float:
    """Weighted area under the ROC curve; ties count half."""
    values, inverse = logit.double().unique(return_inverse=True)
    per_class = [
        torch.zeros(len(values), dtype=torch.float64, device=logit.device).index_add(
            0, inverse, batch.w.double() * (batch.y == label)
        )
        for label in (0, 1)
    ]
    below = per_class[0].cumsum(0) - 0.5 * per_class[0]
    return float((per_class[1] * below).sum() / (per_class[0].sum() * per_class[1].sum()))


GROUP_VAE_MIN_ACTIVE_KL = 0.01  # nats of KL, mean over groups or events, above which a latent is in use


INCOMPLETE_SCHEDULE_VIOLATION = (
    1e6  # violation of an epoch without all weights, beyond that of any constraint
)
LATENT_SCORES = ("kl", "density")  # scores that say nothing where no latent is in use
VALIDATION_SCORES = ("mse", "kl", "nll", "sumsq")  # scores that are there while the network learns


class VAEValidator:
    """The whole loss at full strength on validation events, plus what dependence costs.

    An epoch in which a weight (beta, exposure) was not full counts as one that violates a constraint: it is
    kept only where there is no other.  epoch: gives the number of this one, from 1 on.
    """

    def __init__(
        self,
        loss: JetVAELoss,
        validation: Batch,
        *,
        dependence_criterion: DependenceCriterion,
        current_epoch: Callable[[], int],
    ) -> None:
        self._loss, self._validation, self._dependence_criterion, self._current_epoch = (
            loss,
            validation,
            dependence_criterion,
            current_epoch,
        )

    def __call__(self, last_metrics: Mapping[str, float]) -> ValidationResult:
        """The verdict on the weights as they are now; `latest` holds the epoch's training losses."""
        b, vae = self._validation, self._loss.vae
        told = forward_in_chunks(vae, self._loss.make_jets, b.x)
        bill = {name: float(value) for name, value in self._loss.validation_loss(b).items()}
        figures = vae_metrics(told, b) | {name: v for name, v in bill.items() if name != "kl"}
        dependence = self._dependence_criterion(
            vae.standardizer(told.scores[vae.standardizer.score]), b, last_metrics
        )
        figures |= dependence.metrics
        complaints = [dependence.warning] if dependence.warning else []
        if not figures["active"] and vae.standardizer.score in LATENT_SCORES:
            complaints.append(
                f"the KL has vanished: no latent of {vae.beta.latent_dim} holds "
                f"{GROUP_VAE_MIN_ACTIVE_KL:g} nats, and score "
                f"{vae.standardizer.score} says nothing; lower beta ({vae.beta.value:g})"
            )
        full = self._loss.schedules_complete(self._current_epoch())
        violation = dependence.constraint_violation + (0.0 if full else INCOMPLETE_SCHEDULE_VIOLATION)
        return ValidationResult(
            sum(bill.values()) + dependence.criterion, figures, "; ".join(complaints), violation
        )


def forward_in_chunks(vae: JetVAEModel, make_jets: Callable[[Tensor], JetInputs], x: Tensor) -> VAEOutput:
    """What the autoencoder says of flat rows, in chunks, without what it decodes."""
    parts = [vae.forward_at_mean(make_jets(part)) for part in score_chunks(x)]
    return VAEOutput(
        torch.cat([one.mean for one in parts]),
        torch.cat([one.kl for one in parts]),
        parts[0].decoded[:0],
        {name: torch.cat([one.scores[name] for one in parts]) for name in parts[0].scores},
    )


def vae_metrics(output: VAEOutput, batch: Batch) -> dict[str, float]:
    """Mean mse and kl of background, latents in use, and the AUC of each score where there are outliers."""
    own = batch.y == 0
    w = batch.w[own]
    each = torch.stack([weighted_mean(one, w) for one in output.kl[own].T])
    figures = {
        "mse": float(weighted_mean(output.scores["mse"][own], w)),
        "kl_nats": float(each.sum()),
        "active": float((each > GROUP_VAE_MIN_ACTIVE_KL).sum()),
    }
    if batch.w[~own].sum() > 0:
        figures |= {f"auc_{name}": auc(output.scores[name], batch) for name in VALIDATION_SCORES}
    return figures
