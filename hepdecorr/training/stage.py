"""A stage while it is played: the players' seats, the curves, the weights to be kept."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import torch
from lightning_fabric import Fabric
from torch import Tensor

from hepdecorr.errors import InputError
from hepdecorr.training.data.batches import Batch
from hepdecorr.training.objective import Objective, StatefulCallback, TrainingConfig, ValidationResult
from hepdecorr.training.optim import EMA

log = logging.getLogger(__name__)


class ObjectiveState:
    """A player at the table: its parameters, its optimiser, the running average of its weights."""

    def __init__(self, name: str, objective: Objective, fabric: Fabric) -> None:
        self.name, self.objective, self._fabric = name, objective, fabric
        fabric.to_device(objective.module)
        self.parameters = [p for p in objective.module.parameters() if p.requires_grad]
        if not self.parameters:
            raise InputError(f"player {name!r} has nothing to move")
        self.reversed_parameters = [
            p for module in objective.reversed_modules for p in module.parameters() if p.requires_grad
        ]
        self.optimizer: Any = fabric.setup_optimizers(objective.optimizer.build(self.parameters))
        self.ema = (
            EMA(self.parameters, objective.optimizer.ema_decay) if objective.optimizer.ema_decay else None
        )
        # Wrapping every forward pass costs where there is nothing to cast.
        self._needs_autocast = fabric._precision.precision not in ("32-true", "64-true")

    def set_learning_rate(self, progress: float) -> int:
        """Set the learning rate for this fraction of the stage; returns the number of moves."""
        rate = self.objective.optimizer.learning_rate(progress)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        steps = self.objective.steps_per_iteration
        return steps if isinstance(steps, int) else steps(progress)

    def step(self, batch: Batch) -> Mapping[str, Tensor]:
        """One step down the player's own loss; returns its terms."""
        if self._needs_autocast:
            with self._fabric.autocast():
                terms = self.objective.loss(batch)
        else:
            terms = self.objective.loss(batch)
        values = list(terms.values())
        total = values[0]
        for value in values[1:]:
            total = total + value
        if total.requires_grad:
            self.optimizer.zero_grad(set_to_none=True)
            for p in self.reversed_parameters:
                p.grad = None
            # `inputs` keeps one player's loss from leaking into another's gradient.
            self._fabric.backward(total, inputs=self.parameters + self.reversed_parameters)
        if self._fabric.world_size > 1:
            self._all_reduce_gradients()
        if self.objective.optimizer.grad_clip:
            self._fabric.clip_gradients(
                self.objective.module,
                self.optimizer,
                max_norm=self.objective.optimizer.grad_clip,
                error_if_nonfinite=False,
            )
        self.optimizer.step()
        if self.ema is not None:
            self.ema.update()
        return terms

    def _all_reduce_gradients(self) -> None:
        # Reduced by hand and not by DDP, whose hooks expect one forward and one backward a step.
        for p in self.parameters:
            p.grad = torch.zeros_like(p) if p.grad is None else p.grad
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        flat = torch.cat([g.reshape(-1) for g in gradients])
        flat = cast("Tensor", self._fabric.all_reduce(flat, reduce_op="mean"))
        for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))


class NotFiniteError(Exception):
    """A figure that is not finite; `diverge` makes of it the end of the stage."""


class StageState:
    """A stage while it is played."""

    def __init__(
        self,
        name: str,
        index: int,
        objective_states: Mapping[str, ObjectiveState],
        *,
        first_selectable_epoch: int,
        callbacks: Mapping[str, StatefulCallback] | None = None,
    ) -> None:
        self.index, self.objective_states, self.first_selectable_epoch, self.callbacks = (
            index,
            objective_states,
            first_selectable_epoch,
            callbacks or {},
        )
        self.epoch, self.done = 0, False
        self.best: dict[str, Any] | None = None
        self.record: dict[str, Any] = {"stage": name, "curves": {}, "warnings": [], "selected_epoch": 0}
        self.record |= {"stop_reason": "", "converged": True, "warning": ""}

    def log(self, metrics: Mapping[str, float]) -> None:
        """Add a point to the curves; NotFiniteError where it is not finite."""
        for name, value in metrics.items():
            if not math.isfinite(value):
                raise NotFiniteError(f"epoch {self.epoch}: {name} is {value}")
            curve = self.record["curves"].setdefault(name, [])
            curve += [None] * (self.epoch - 1 - len(curve))  # epochs in which this player rested
            curve.append(float(value))

    def last_metrics(self) -> dict[str, float]:
        """The points of this epoch."""
        return {k: v[-1] for k, v in self.record["curves"].items() if len(v) == self.epoch}

    def update_best(self, result: ValidationResult, config: TrainingConfig) -> None:
        """Keep this epoch's weights if none was better, or not by more than the slack.

        An epoch in which the constraints hold is better than one in which they do not.
        """
        self.record["warnings"].append(result.warning)
        if self.epoch < self.first_selectable_epoch:
            return
        best, violation = self.best, max(0.0, float(result.constraint_violation))
        better = best is None or (violation, result.criterion) < (best["violation"], best["criterion"])
        if best is None or better:
            self.best = best = {"criterion": result.criterion, "since": self.epoch, "epoch": 0}
            best["violation"] = violation
        within = result.criterion <= best["criterion"] + config.tolerance * abs(best["criterion"])
        if better or (within and violation <= best["violation"] and not result.warning):
            best["epoch"] = self.epoch
            if config.select == "best":
                best["weights"] = self._copy_weights()
        if config.select == "last":
            # Those of the last epoch, for when the next one diverges.
            best["epoch"], best["weights"] = self.epoch, self._copy_weights()

    def _copy_weights(self) -> dict[str, dict[str, Tensor]]:
        return {
            n: clone_state_dict(s.objective.module.state_dict()) for n, s in self.objective_states.items()
        }

    def should_stop(self, config: TrainingConfig) -> bool:
        """Whether the patience is at its end."""
        if not config.patience or self.best is None or self.epoch - self.best["since"] < config.patience:
            return False
        self.record["stop_reason"] = f"no better criterion in {config.patience} epochs"
        return True

    def handle_divergence(self, reason: str) -> None:
        """End the stage with the weights that were kept; InputError when none were."""
        how = "lower the learning rate or the strength, or clip the gradient (training: clip: 1)"
        if self.best is None:
            before = " before the strengths were full" if self.first_selectable_epoch > 1 else ""
            raise InputError(
                f"stage {self.record['stage']!r}, {reason}{before}; no epoch is good enough to keep: {how}"
            )
        self.done, self.record["stop_reason"] = True, f"diverged: {reason}"
        self._truncate_record(self.epoch - 1)
        self._close_record(f"diverged in {reason}, and epoch {self.best['epoch']} was kept; {how}")

    def _truncate_record(self, num_epochs: int) -> None:
        """Forget the points of an epoch that was not finished."""
        self.epoch = num_epochs
        del self.record["warnings"][num_epochs:]
        for curve in self.record["curves"].values():
            del curve[num_epochs:]

    def finish_stage(self, config: TrainingConfig) -> None:
        """Put the kept weights into the modules and close the record."""
        if config.select == "last":
            for seat in self.objective_states.values():
                if seat.ema is not None:
                    seat.ema.swap()
            self.best = None
        self._close_record()

    def _close_record(self, reason: str = "") -> None:
        best = self.best
        for name, seat in self.objective_states.items():
            if best is not None:
                seat.objective.module.load_state_dict(best["weights"][name])
        self.record["selected_epoch"] = best["epoch"] if best is not None else self.epoch
        known = self.record["warnings"][self.record["selected_epoch"] - 1]
        complaint = "; ".join(one for one in (reason, known) if one)
        self.record["converged"], self.record["warning"] = not complaint, complaint
        self.best = None
        if complaint:
            log.warning("stage %r is not stable: %s", self.record["stage"], complaint)

    @contextmanager
    def ema_weights(self) -> Iterator[None]:
        """Within it the averaged weights stand in the modules."""
        averages = [s.ema for s in self.objective_states.values() if s.ema is not None]
        for average in averages:
            average.swap()
        try:
            yield
        finally:
            for average in averages:
                average.swap()

    def set_train_mode(self) -> None:
        for seat in self.objective_states.values():
            seat.objective.module.train()

    def state_dict(self) -> dict[str, Any]:
        return {
            "epoch": self.epoch,
            "done": self.done,
            "best": self.best,
            "record": self.record,
            "modules": {n: s.objective.module.state_dict() for n, s in self.objective_states.items()},
            "optimizers": {n: s.optimizer.state_dict() for n, s in self.objective_states.items()},
            "ema": {n: s.ema.state_dict() for n, s in self.objective_states.items() if s.ema is not None},
            "callbacks": {n: c.state_dict() for n, c in self.callbacks.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.epoch, self.done, self.best = state["epoch"], state["done"], state["best"]
        self.record = state["record"]
        for name, seat in self.objective_states.items():
            seat.objective.module.load_state_dict(state["modules"][name])
            seat.optimizer.load_state_dict(state["optimizers"][name])
            if seat.ema is not None:
                seat.ema.load_state_dict(state["ema"][name])
        for name, companion in self.callbacks.items():
            companion.load_state_dict(state["callbacks"][name])


def clone_state_dict(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {k: v.detach().clone() for k, v in state_dict.items()}
