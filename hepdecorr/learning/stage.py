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
from hepdecorr.learning.batches import Batch
from hepdecorr.learning.moves import Average
from hepdecorr.learning.players import Companion, Player, Recipe, Verdict

log = logging.getLogger(__name__)


class Seat:
    """A player at the table: its parameters, its optimiser, the running average of its weights."""

    def __init__(self, name: str, player: Player, fabric: Fabric) -> None:
        self.name, self.player, self._fabric = name, player, fabric
        fabric.to_device(player.module)
        self.parameters = [p for p in player.module.parameters() if p.requires_grad]
        if not self.parameters:
            raise InputError(f"player {name!r} has nothing to move")
        self.left = [p for module in player.leaves for p in module.parameters() if p.requires_grad]
        self.optimizer: Any = fabric.setup_optimizers(player.moves.optimise(self.parameters))
        self.average = Average(self.parameters, player.moves.average) if player.moves.average else None
        # Wrapping every forward pass costs where there is nothing to cast.
        self._casts = fabric._precision.precision not in ("32-true", "64-true")

    def pace(self, passed: float) -> int:
        """Set the learning rate for this fraction of the stage; returns the number of moves."""
        rate = self.player.moves.rate(passed)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        steps = self.player.steps
        return steps if isinstance(steps, int) else steps(passed)

    def move(self, batch: Batch) -> Mapping[str, Tensor]:
        """One step down the player's own loss; returns its terms."""
        if self._casts:
            with self._fabric.autocast():
                terms = self.player.loss(batch)
        else:
            terms = self.player.loss(batch)
        values = list(terms.values())
        total = values[0]
        for value in values[1:]:
            total = total + value
        if total.requires_grad:
            self.optimizer.zero_grad(set_to_none=True)
            for p in self.left:
                p.grad = None
            # `inputs` keeps one player's loss from leaking into another's gradient.
            self._fabric.backward(total, inputs=self.parameters + self.left)
        if self._fabric.world_size > 1:
            self._mean_gradients()
        if self.player.moves.clip:
            self._fabric.clip_gradients(
                self.player.module, self.optimizer, max_norm=self.player.moves.clip, error_if_nonfinite=False
            )
        self.optimizer.step()
        if self.average is not None:
            self.average.update()
        return terms

    def _mean_gradients(self) -> None:
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


class Run:
    """A stage while it is played."""

    def __init__(
        self,
        stage: str,
        index: int,
        seats: Mapping[str, Seat],
        *,
        first: int,
        companions: Mapping[str, Companion] | None = None,
    ) -> None:
        self.index, self.seats, self.first, self.companions = index, seats, first, companions or {}
        self.epoch, self.done = 0, False
        self.best: dict[str, Any] | None = None
        self.record: dict[str, Any] = {"stage": stage, "curves": {}, "complaints": [], "kept": 0}
        self.record |= {"stopped": "", "stable": True, "reason": ""}

    def note(self, figures: Mapping[str, float]) -> None:
        """Add a point to the curves; NotFiniteError where it is not finite."""
        for name, value in figures.items():
            if not math.isfinite(value):
                raise NotFiniteError(f"epoch {self.epoch}: {name} is {value}")
            curve = self.record["curves"].setdefault(name, [])
            curve += [None] * (self.epoch - 1 - len(curve))  # epochs in which this player rested
            curve.append(float(value))

    def latest(self) -> dict[str, float]:
        """The points of this epoch."""
        return {k: v[-1] for k, v in self.record["curves"].items() if len(v) == self.epoch}

    def consider(self, verdict: Verdict, recipe: Recipe) -> None:
        """Keep this epoch's weights if none was better, or not by more than the slack.

        An epoch in which the constraints hold is better than one in which they do not.
        """
        self.record["complaints"].append(verdict.complaint)
        if self.epoch < self.first:
            return
        best, violation = self.best, max(0.0, float(verdict.violation))
        better = best is None or (violation, verdict.criterion) < (best["violation"], best["criterion"])
        if best is None or better:
            self.best = best = {"criterion": verdict.criterion, "since": self.epoch, "epoch": 0}
            best["violation"] = violation
        within = verdict.criterion <= best["criterion"] + recipe.slack * abs(best["criterion"])
        if better or (within and violation <= best["violation"] and not verdict.complaint):
            best["epoch"] = self.epoch
            if recipe.keep == "best":
                best["weights"] = self._weights()
        if recipe.keep == "last":
            # Those of the last epoch, for when the next one diverges.
            best["epoch"], best["weights"] = self.epoch, self._weights()

    def _weights(self) -> dict[str, dict[str, Tensor]]:
        return {n: copied(s.player.module.state_dict()) for n, s in self.seats.items()}

    def tired(self, recipe: Recipe) -> bool:
        """Whether the patience is at its end."""
        if not recipe.patience or self.best is None or self.epoch - self.best["since"] < recipe.patience:
            return False
        self.record["stopped"] = f"no better criterion in {recipe.patience} epochs"
        return True

    def diverge(self, what: str) -> None:
        """End the stage with the weights that were kept; InputError when none were."""
        how = "lower the learning rate or the strength, or clip the gradient (training: clip: 1)"
        if self.best is None:
            before = " before the strengths were full" if self.first > 1 else ""
            raise InputError(
                f"stage {self.record['stage']!r}, {what}{before}; no epoch is good enough to keep: {how}"
            )
        self.done, self.record["stopped"] = True, f"diverged: {what}"
        self._cut(self.epoch - 1)
        self._close(f"diverged in {what}, and epoch {self.best['epoch']} was kept; {how}")

    def _cut(self, epochs: int) -> None:
        """Forget the points of an epoch that was not finished."""
        self.epoch = epochs
        del self.record["complaints"][epochs:]
        for curve in self.record["curves"].values():
            del curve[epochs:]

    def finish(self, recipe: Recipe) -> None:
        """Put the kept weights into the modules and close the record."""
        if recipe.keep == "last":
            for seat in self.seats.values():
                if seat.average is not None:
                    seat.average.exchange()
            self.best = None
        self._close()

    def _close(self, reason: str = "") -> None:
        best = self.best
        for name, seat in self.seats.items():
            if best is not None:
                seat.player.module.load_state_dict(best["weights"][name])
        self.record["kept"] = best["epoch"] if best is not None else self.epoch
        known = self.record["complaints"][self.record["kept"] - 1]
        complaint = "; ".join(one for one in (reason, known) if one)
        self.record["stable"], self.record["reason"] = not complaint, complaint
        self.best = None
        if complaint:
            log.warning("stage %r is not stable: %s", self.record["stage"], complaint)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Within it the averaged weights stand in the modules."""
        averages = [s.average for s in self.seats.values() if s.average is not None]
        for average in averages:
            average.exchange()
        try:
            yield
        finally:
            for average in averages:
                average.exchange()

    def train_mode(self) -> None:
        for seat in self.seats.values():
            seat.player.module.train()

    def state_dict(self) -> dict[str, Any]:
        return {
            "epoch": self.epoch,
            "done": self.done,
            "best": self.best,
            "record": self.record,
            "modules": {n: s.player.module.state_dict() for n, s in self.seats.items()},
            "optimizers": {n: s.optimizer.state_dict() for n, s in self.seats.items()},
            "averages": {n: s.average.state_dict() for n, s in self.seats.items() if s.average is not None},
            "companions": {n: c.state_dict() for n, c in self.companions.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.epoch, self.done, self.best = state["epoch"], state["done"], state["best"]
        self.record = state["record"]
        for name, seat in self.seats.items():
            seat.player.module.load_state_dict(state["modules"][name])
            seat.optimizer.load_state_dict(state["optimizers"][name])
            if seat.average is not None:
                seat.average.load_state_dict(state["averages"][name])
        for name, companion in self.companions.items():
            companion.load_state_dict(state["companions"][name])


def copied(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {k: v.detach().clone() for k, v in state.items()}
