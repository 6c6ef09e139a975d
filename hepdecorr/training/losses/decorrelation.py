"""What the terms of a method cost while one stage is played, and the players that chase its score."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from hepdecorr.training.data.batches import Batch, EventDataset
from hepdecorr.training.data.splits import DataSplits
from hepdecorr.training.data.tail_sampling import TailSampler
from hepdecorr.training.losses import ConstrainedStrength, ConstraintConfig, Scorer
from hepdecorr.training.losses.adversary import Adversary
from hepdecorr.training.losses.base import Term
from hepdecorr.training.losses.disco import DisCo
from hepdecorr.training.losses.schedules import Schedule
from hepdecorr.training.objective import Objective
from hepdecorr.training.trainer import Trainer


class DecorrelationLoss:
    """The terms of a method and what they must know of its score.

    terms, holds: by name.  scorer: the network that is to be decorrelated and the logit it gives of rows.
    `begin` before a stage, `follow` and `bill` for each batch, `end` after it.
    """

    def __init__(
        self, terms: nn.ModuleDict, constraint_configs: Mapping[str, ConstraintConfig], *, scorer: Scorer
    ) -> None:
        self._terms, self._constraint_configs, self._scorer = terms, constraint_configs, scorer
        self._tail_samplers: dict[str, TailSampler] = {}
        self.constraints: dict[str, ConstrainedStrength] = {}

    def items(self) -> list[tuple[str, Term]]:
        """The terms with their names."""
        return [(name, term) for name, term in self._terms.items() if isinstance(term, Term)]

    @property
    def warmup_end(self) -> float:
        """The fraction of the stage after which every strength is full."""
        return max((term.schedule.end for _, term in self.items()), default=0.0)

    @property
    def reversed_modules(self) -> tuple[Adversary, ...]:
        """Adversaries that move on the gradient which the bill leaves."""
        return tuple(
            term for _, term in self.items() if isinstance(term, Adversary) and _uses_gradient_reversal(term)
        )

    def setup(self, sample: Batch, data: DataSplits, trainer: Trainer, *, num_batches: int) -> None:
        """Set the scalings from a sample of the training events; turns: of an epoch."""
        for name, term in self.items():
            term.fit(sample)
            if isinstance(term, DisCo) and term.tail_sample and isinstance(data.train, EventDataset):
                self._tail_samplers[name] = TailSampler(
                    data.train.all.take(term.event_mask(data.train.all)),
                    self._scorer.logit,
                    num_events=term.tail_sample,
                    tail_weight=term.tail_weight,
                    refresh_every=term.refresh_every,
                    generator=trainer.generator,
                )
        self.constraints = self._build_constraints(data, num_batches=num_batches)

    def teardown(self) -> None:
        """Forget the training events."""
        self._tail_samplers, self.constraints = {}, {}

    def build_objectives(
        self, tagger_objective: Objective, trainer: Trainer, *, tagger_name: str = "tagger"
    ) -> dict[str, Objective]:
        """All players in their order: adversaries, the tagger, then those that move on what it leaves."""
        chasing = {
            n: term.adversary_update.build_objective(term, self.adversary_loss(term, trainer))
            for n, term in self.items()
            if isinstance(term, Adversary)
        }
        after = {n: chasing.pop(n) for n, term in self.items() if _uses_gradient_reversal(term)}
        return chasing | {tagger_name: tagger_objective} | after

    @property
    def callbacks(self) -> dict[str, ConstrainedStrength]:
        """What a stage keeps beside weights."""
        return {f"constraint_{name}": held for name, held in self.constraints.items()}

    def update_multipliers(self, trainer: Trainer) -> None:
        """Move the multipliers; before anything is computed with the present weights."""
        for held in self.constraints.values():
            held.update(trainer)

    def compute_penalties(self, logit: Tensor, batch: Batch, trainer: Trainer) -> dict[str, Tensor]:
        """What each term costs now, for the logits (n,) of a batch."""
        bill = {}
        for name, term in self.items():
            paid: ConstrainedStrength | Schedule = self.constraints.get(name, term.schedule)
            strength = paid.value(trainer.progress)
            drawing = self._tail_samplers.get(name)
            if (
                isinstance(term, Adversary)
                and _uses_gradient_reversal(term)
                and trainer.progress >= term.schedule.start
            ):
                bill[name] = term.reversed_penalty(logit, batch, strength=strength)
            elif not strength:
                bill[name] = logit.new_zeros(())
            elif drawing is not None and isinstance(term, DisCo):
                drawn = drawing.draw_batch(trainer.iteration)
                bill[name] = strength * term.penalty(
                    self._scorer.logit(drawn.x), drawn, ignore_tail_weight=True
                )
            else:
                bill[name] = strength * term.penalty(logit, batch)
        return bill

    def adversary_loss(self, term: Adversary, trainer: Trainer) -> Any:
        """The loss of an adversary, on batches of its own."""

        def chase(b: Batch) -> dict[str, Tensor]:
            if term.adversary_update.uses_gradient_reversal and trainer.progress >= term.schedule.start:
                return {"loss": term.last_loss}  # its gradient is there
            own = b.take(term.event_mask(b).nonzero()[:, 0])  # the others would not be looked at
            with torch.no_grad():
                logit = self._scorer.logit(own.x)
            return {"loss": term.loss(logit, own)}

        return chase

    def _build_constraints(self, data: DataSplits, *, num_batches: int) -> dict[str, ConstrainedStrength]:
        about: dict[str, Any] = {"data": data, "num_batches": num_batches, "scorer": self._scorer}
        held = {}
        for name, hold in self._constraint_configs.items():
            term = cast("Term", self._terms[name])
            others = [t for n, t in self.items() if n in self._constraint_configs and n != name]
            bulk = not any(t.tail_weight == 0 and t.nuisances == term.nuisances for t in others)
            held[name] = ConstrainedStrength(hold, term, check_bulk=bulk, **about)
        return held


def _uses_gradient_reversal(term: Term) -> bool:
    return isinstance(term, Adversary) and term.adversary_update.uses_gradient_reversal
