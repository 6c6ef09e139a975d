"""Two classifiers that are independent of each other on background: the axes of an ABCD plane."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hepdecorr.errors import InputError
from hepdecorr.training.data.batches import Batch
from hepdecorr.training.data.chunks import score_chunks, spread
from hepdecorr.training.data.splits import DataSplits
from hepdecorr.training.losses.adversary import Adversary
from hepdecorr.training.losses.base import MIN_TERM_EVENTS, Term, weighted_ranks
from hepdecorr.training.losses.disco import distance_correlation
from hepdecorr.training.losses.schedules import Schedule
from hepdecorr.training.methods.base import Method, cross_entropy, training_from_config
from hepdecorr.training.methods.tagger import DEFAULTS_PENALTY, build_constraint_configs, build_terms
from hepdecorr.training.networks.factory import build_network
from hepdecorr.training.networks.preprocessing import scaling_sample
from hepdecorr.training.objective import Objective, ValidationResult
from hepdecorr.training.trainer import Trainer
from hepdecorr.training.validation import auc


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

    aux_output_names = ("logit_1", "logit_2")

    def __init__(
        self,
        *,
        features: Sequence[str],
        constituents: Sequence[str] = (),
        length: int = 0,
        nuisances: Sequence[str] = (),
        strength: float = 20.0,
        tail_strength: float = 0.0,
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
        if chasing or build_constraint_configs(terms, list(self.terms)):
            raise InputError(
                f"DoubleDisCo: {f'{chasing[0]} is an adversary' if chasing else 'a term has hold'}, and each "
                "term holds for two networks at once; give terms like DisCo, with a strength"
            )
        if min(strength, tail_strength) < 0:
            raise InputError("DoubleDisCo: strength and tail cannot be negative")
        self.strength, self.tail_strength = float(strength), float(tail_strength)
        self.schedule = Schedule(1.0, float(start), float(ramp))
        self.training_config, self.optimizer_config = training_from_config(
            training, where="method: training", defaults=DEFAULTS_PENALTY
        )

    def fit(self, data: DataSplits, trainer: Trainer) -> None:
        """One stage, 'tagger'."""
        self.to(trainer.device)
        sample = data.train.sample(generator=trainer.generator)
        for network in self.networks:
            network.fit(scaling_sample(network, sample).x)  # type: ignore[operator]
        for term in self._terms_by_name().values():
            term.fit(sample)
        trainer.fit_stage(
            {
                "tagger": Objective(
                    self.networks, lambda b: self._loss(b, trainer.progress), optimizer=self.optimizer_config
                )
            },
            data,
            self.training_config,
            name="tagger",
            validate=lambda _: self._validate(data.validation.all),
            select_after=max(
                t.end for t in (self.schedule, *(t.schedule for t in self._terms_by_name().values()))
            ),
        )

    def aux_outputs(self, x: Tensor) -> tuple[Tensor, ...]:
        """The two logits, each of shape (n,)."""
        return tuple(network(x).squeeze(-1) for network in self.networks)

    def logit(self, x: Tensor) -> Tensor:
        """The smaller of the two, shape (n,)."""
        first, second = self.aux_outputs(x)
        return torch.minimum(first, second)

    def _terms_by_name(self) -> dict[str, Term]:
        return {name: term for name, term in self.terms.items() if isinstance(term, Term)}

    def _loss(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        logits = self.aux_outputs(batch.x)
        bill = {f"cross_entropy_{k}": cross_entropy(logit, batch) for k, logit in enumerate(logits, 1)}
        bill |= self._mutual_penalties(logits, batch, schedule_factor=self.schedule.value(progress))
        for name, term in self._terms_by_name().items():
            strength = term.schedule.value(progress)
            for k, logit in enumerate(logits, 1):
                bill[f"{name}_{k}"] = (
                    strength * term.penalty(logit, batch) if strength else logit.new_zeros(())
                )
        return bill

    def _mutual_penalties(
        self, logits: Sequence[Tensor], batch: Batch, *, schedule_factor: float = 1.0
    ) -> dict[str, Tensor]:
        """What the two networks pay for knowing of each other."""
        if not schedule_factor:
            nothing = logits[0].new_zeros(())
            return {"between": nothing} | ({"between_tail": nothing} if self.tail_strength else {})
        own = batch.y == 0
        first, second, w = logits[0][own].float(), logits[1][own].float(), batch.w[own].clamp_min(0)
        bill = {
            "between": schedule_factor * self.strength * _symmetric_distance_correlation(first, second, w)
        }
        if self.tail_strength:
            high = (weighted_ranks(first.detach(), w) > 0.5) & (weighted_ranks(second.detach(), w) > 0.5)
            bill["between_tail"] = (
                schedule_factor
                * self.tail_strength
                * _symmetric_distance_correlation(first[high], second[high], w[high])
            )
        return bill

    def _validate(self, batch: Batch) -> ValidationResult:
        parts = [self.aux_outputs(x) for x in score_chunks(batch.x)]
        logits = [torch.cat(one).float() for one in zip(*parts, strict=True)]
        areas = [auc(logit, batch) for logit in logits]
        figures = {f"cross_entropy_{k}": float(cross_entropy(one, batch)) for k, one in enumerate(logits, 1)}
        criterion = sum(figures.values())
        figures |= {"auc_1": areas[0], "auc_2": areas[1], "auc": auc(torch.minimum(*logits), batch)}
        costs: dict[str, list[float]] = {}
        for index, part in spread(torch.arange(len(batch.y), device=batch.y.device), batch):
            some = [logit[index] for logit in logits]
            bill = {name: float(value) for name, value in self._mutual_penalties(some, part).items()}
            for name, term in self._terms_by_name().items():
                bill |= {
                    f"{name}_{k}": term.schedule.strength * float(term.penalty(s, part))
                    for k, s in enumerate(some, 1)
                }
            for name, cost in bill.items():
                costs.setdefault(name, []).append(cost)
        figures |= {name: sum(found) / len(found) for name, found in costs.items()}
        criterion += sum(figures[name] for name in costs)
        weak = [f"network {k} separates no more (AUC {a:.3f})" for k, a in enumerate(areas, 1) if a < 0.55]
        complaint = f"{' and '.join(weak)}; lower the strength ({self.strength:g})" if weak else ""
        return ValidationResult(criterion, figures, complaint)


def _symmetric_distance_correlation(first: Tensor, second: Tensor, w: Tensor) -> Tensor:
    """Unbiased dCorr^2 of the two, from whose gradient neither is left out; 0 where there are too few events.

    `distance_correlation` moves its first argument alone: the two halves of the product rule are added.
    """
    if len(first) < MIN_TERM_EVENTS:
        return (first.sum() + second.sum()) * 0
    moved = distance_correlation(first, second.detach(), w, unbiased=True)
    other = distance_correlation(second, first.detach(), w, unbiased=True)
    return moved + other - other.detach()
