"""The one training loop: players take turns, each moving only its own parameters.

A stage is one call of `play`.  What it leaves behind (weights, curves, random states) is kept in a
checkpoint of its own, so that a training that is cut off goes on bit for bit as if it had not been.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from lightning_fabric import Fabric
from torch import Generator, Tensor, nn

from hepdecorr.errors import InputError
from hepdecorr.learning.batches import Batch, Data, Events, Streamed
from hepdecorr.learning.checkpoints import Checkpoints, random_state, restore_random_state
from hepdecorr.learning.moves import Average, Moves

log = logging.getLogger(__name__)

Loss = Callable[[Batch], Mapping[str, Tensor]]
Judging = Callable[[Mapping[str, float]], "Verdict"]  # given the mean training losses of the epoch
Progress = Callable[[str, int, int, Mapping[str, float]], None]  # stage, epoch, epochs, figures


@dataclass(frozen=True)
class Recipe:
    """How long a stage is played and which of its epochs is kept.

    `keep`: 'best' for the epoch of the smallest criterion, 'last' for the last one.  `patience`: stop
    after so many epochs without a better criterion, 0 for never.  `checkpoint`: epochs between
    checkpoints.
    """

    epochs: int = 20
    batch: int = 1024
    patience: int = 0
    keep: str = "best"
    checkpoint: int = 1

    def __post_init__(self) -> None:
        if self.keep not in ("best", "last"):
            raise InputError(f"keep must be best or last, not {self.keep!r}")
        for name in ("epochs", "batch", "checkpoint"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.patience < 0:
            raise InputError("patience cannot be negative")


@dataclass(frozen=True)
class Player:
    """All that one player may change, and what it wants to be small.

    `loss` gives named scalars; the player minimises their sum.  `steps`: moves a turn, a number or a
    function of the fraction of the stage that has passed.  `batch`: events in batches of its own, 0 to
    move on the batch of the turn.
    """

    module: nn.Module
    loss: Loss
    steps: int | Callable[[float], int] = 1
    moves: Moves = field(default_factory=Moves)
    batch: int = 0


class Verdict(NamedTuple):
    """How good an epoch is, on events that move nobody."""

    criterion: float  # smaller is better
    figures: Mapping[str, float]
    complaint: str = ""  # why the game is not to be trusted; empty when it is


class Play:
    """Plays stages, one after the other: `play(players, data, recipe, stage=...)`.

    `generator` orders the events.  `passed` is the fraction of the stage that has passed, for what grows
    with time, and `turn` the turn within the epoch.  `history` has one entry a stage: curves by player
    and term, the epoch kept, and whether the game was stable and if not why.
    """

    def __init__(
        self,
        *,
        fabric: Fabric | None = None,
        seed: int = 0,
        folder: Path | None = None,
        fingerprint: str = "",
        progress: Progress | None = None,
    ) -> None:
        self.fabric = fabric or Fabric(accelerator="cpu", devices=1)
        self.generator = Generator().manual_seed(seed)
        self.history: list[dict[str, Any]] = []
        self.passed, self.turn = 0.0, 0
        self._checkpoints = Checkpoints(folder, fingerprint=fingerprint)
        self._progress = progress

    @property
    def device(self) -> torch.device:
        """Where the players stand."""
        return self.fabric.device

    def __call__(
        self,
        players: Mapping[str, Player],
        data: Data,
        recipe: Recipe,
        *,
        stage: str,
        judge: Judging | None = None,
        settled: float = 0.0,
    ) -> dict[str, Any]:
        """Play one stage and return its entry of the history.

        In each turn the players move in the order given.  After each epoch `judge` is asked, with the
        averaged weights in place where a player averages; the kept epoch's weights are in the modules
        at the end.  No epoch is kept before the fraction `settled` of the stage.  Raises InputError when
        a loss is not finite.
        """
        seats = {name: Seat(name, player, self.fabric) for name, player in players.items()}
        run = _Run(
            stage, len(self.history), seats, first=min(recipe.epochs, math.ceil(settled * recipe.epochs) + 1)
        )
        state = self._checkpoints.load(run.index)
        if state is not None:
            self._restore(run, state)
        while not run.done:
            self._one_epoch(run, data, recipe)
            self._judge(run, recipe, judge)
            run.done = run.epoch >= recipe.epochs or run.tired(recipe)
            if run.done:
                run.finish(recipe)
            if run.done or run.epoch % recipe.checkpoint == 0:
                self._save(run)
            if self._progress is not None:
                self._progress(stage, run.epoch, recipe.epochs, run.latest())
        for seat in seats.values():
            seat.player.module.eval()
        self.history.append(run.record)
        return run.record

    def _one_epoch(self, run: _Run, data: Data, recipe: Recipe) -> None:
        turns = data.train.turns(recipe.batch)
        run.train_mode()
        feeds = {
            name: _endless(data.train, seat.player.batch, self.generator)
            for name, seat in run.seats.items()
            if seat.player.batch
        }
        losses: dict[str, list[Tensor]] = {}
        for turn, batch in enumerate(data.train.batches(recipe.batch, generator=self.generator)):
            self.passed, self.turn = (run.epoch + turn / turns) / recipe.epochs, turn
            own = self._share(batch)
            for name, seat in run.seats.items():
                for _ in range(seat.pace(self.passed)):
                    terms = seat.move(self._share(next(feeds[name])) if name in feeds else own)
                    for term, value in terms.items():
                        losses.setdefault(f"{name}/{term}", []).append(value.detach())
        run.epoch += 1
        self.passed = run.epoch / recipe.epochs
        run.note({k: float(torch.stack(v).float().mean()) for k, v in losses.items()})

    def _judge(self, run: _Run, recipe: Recipe, judge: Judging | None) -> None:
        if judge is None:
            run.consider(Verdict(-float(run.epoch), {}), recipe)  # without a judge the last epoch is best
            return
        for seat in run.seats.values():
            seat.player.module.eval()
        with run.averaged(), torch.no_grad():
            verdict = judge(run.latest())
            verdict = verdict._replace(criterion=float(self.fabric.broadcast(verdict.criterion)))
            run.note(
                {
                    f"valid/{k}": v
                    for k, v in (dict(verdict.figures) | {"criterion": verdict.criterion}).items()
                }
            )
            run.consider(verdict, recipe)

    def _share(self, batch: Batch) -> Batch:
        """This process's part of the batch; all draw the same order."""
        if self.fabric.world_size == 1:
            return batch
        return batch.take(slice(self.fabric.global_rank, None, self.fabric.world_size))

    def _save(self, run: _Run) -> None:
        if self.fabric.is_global_zero:
            common = {"generator": self.generator.get_state(), "random": random_state()}
            self._checkpoints.save(run.index, run.state_dict() | common)
        if self.fabric.world_size > 1:
            self.fabric.barrier()

    def _restore(self, run: _Run, state: dict[str, Any]) -> None:
        run.load_state_dict(state)
        self.generator.set_state(state["generator"])
        restore_random_state(state["random"])
        self.passed = 0.0
        log.info("stage %r goes on after epoch %d", run.record["stage"], run.epoch)


class Seat:
    """A player at the table: its parameters, its optimiser, the running average of its weights."""

    def __init__(self, name: str, player: Player, fabric: Fabric) -> None:
        self.name, self.player, self._fabric = name, player, fabric
        fabric.to_device(player.module)
        self.parameters = [p for p in player.module.parameters() if p.requires_grad]
        if not self.parameters:
            raise InputError(f"player {name!r} has nothing to move")
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
        self.optimizer.zero_grad(set_to_none=True)
        # `inputs` keeps one player's loss from leaking into another's gradient.
        self._fabric.backward(total, inputs=self.parameters)
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


class _Run:
    """A stage while it is played."""

    def __init__(self, stage: str, index: int, seats: Mapping[str, Seat], *, first: int) -> None:
        self.index, self.seats, self.first = index, seats, first
        self.epoch, self.done = 0, False
        self.best: dict[str, Any] | None = None
        self.record: dict[str, Any] = {"stage": stage, "curves": {}, "complaints": [], "kept": 0}
        self.record |= {"stopped": "", "stable": True, "reason": ""}

    def note(self, figures: Mapping[str, float]) -> None:
        """Add a point to the curves; a loss that is not finite ends the training."""
        for name, value in figures.items():
            if not math.isfinite(value):
                raise InputError(
                    f"stage {self.record['stage']!r}, epoch {self.epoch}: {name} is {value}; lower the "
                    "learning rate or the strength, or clip the gradient (training: clip: 1)"
                )
            curve = self.record["curves"].setdefault(name, [])
            curve += [None] * (self.epoch - 1 - len(curve))  # epochs in which this player rested
            curve.append(float(value))

    def latest(self) -> dict[str, float]:
        """The points of this epoch."""
        return {k: v[-1] for k, v in self.record["curves"].items() if len(v) == self.epoch}

    def consider(self, verdict: Verdict, recipe: Recipe) -> None:
        """Keep this epoch's weights if none was better."""
        self.record["complaints"].append(verdict.complaint)
        better = self.best is None or verdict.criterion < self.best["criterion"]
        if self.epoch < self.first or not better:
            return
        self.best = {"criterion": verdict.criterion, "epoch": self.epoch}
        if recipe.keep == "best":
            self.best["weights"] = {n: _copied(s.player.module.state_dict()) for n, s in self.seats.items()}

    def tired(self, recipe: Recipe) -> bool:
        """Whether the patience is at its end."""
        if not recipe.patience or self.best is None or self.epoch - self.best["epoch"] < recipe.patience:
            return False
        self.record["stopped"] = f"no better criterion in {recipe.patience} epochs"
        return True

    def finish(self, recipe: Recipe) -> None:
        """Put the kept weights into the modules and close the record."""
        best = self.best if recipe.keep == "best" else None
        for name, seat in self.seats.items():
            if best is not None:
                seat.player.module.load_state_dict(best["weights"][name])
            elif seat.average is not None:
                seat.average.exchange()
        self.record["kept"] = best["epoch"] if best is not None else self.epoch
        complaint = self.record["complaints"][self.record["kept"] - 1]
        self.record["stable"], self.record["reason"] = not complaint, complaint
        self.best = None
        if complaint:
            log.warning("stage %r is not stable: %s", self.record["stage"], complaint)

    def averaged(self) -> _Averaged:
        """Within it the averaged weights stand in the modules."""
        return _Averaged([s.average for s in self.seats.values() if s.average is not None])

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
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.epoch, self.done, self.best = state["epoch"], state["done"], state["best"]
        self.record = state["record"]
        for name, seat in self.seats.items():
            seat.player.module.load_state_dict(state["modules"][name])
            seat.optimizer.load_state_dict(state["optimizers"][name])
            if seat.average is not None:
                seat.average.load_state_dict(state["averages"][name])


class _Averaged:
    def __init__(self, averages: list[Average]) -> None:
        self._averages = averages

    def __enter__(self) -> None:
        for average in self._averages:
            average.exchange()

    def __exit__(self, *_: object) -> None:
        for average in self._averages:
            average.exchange()


def _endless(events: Events | Streamed, size: int, generator: Generator) -> Iterator[Batch]:
    while True:
        yield from events.batches(size, generator=generator)


def _copied(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {k: v.detach().clone() for k, v in state.items()}
