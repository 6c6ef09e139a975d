"""The one training loop: players take turns, each moving only its own parameters.

A stage is one call of `play`.  What it leaves behind (weights, curves, random states) is kept in a
checkpoint of its own, so that a training that is cut off goes on bit for bit as if it had not been.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Generator, Tensor

from hepdecorr.learning.batches import Batch, Data, Events
from hepdecorr.learning.checkpoints import Checkpoints, random_state, restore_random_state
from hepdecorr.learning.players import Companion, Judging, Player, Progress, Recipe, Verdict
from hepdecorr.learning.stage import NotFiniteError, Run, Seat
from hepdecorr.learning.streaming import Streamed
from hepdecorr.learning.whole import shared_out

log = logging.getLogger(__name__)


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
        self._run: Run | None = None

    @property
    def device(self) -> torch.device:
        """Where the players stand."""
        return self.fabric.device

    def averaged(self) -> AbstractContextManager[None]:
        """Within it the averaged weights, which are judged and kept, stand in the modules."""
        return self._run.averaged() if self._run is not None else nullcontext()

    def __call__(
        self,
        players: Mapping[str, Player],
        data: Data,
        recipe: Recipe,
        *,
        stage: str,
        judge: Judging | None = None,
        settled: float = 0.0,
        companions: Mapping[str, Companion] | None = None,
    ) -> dict[str, Any]:
        """Play one stage and return its entry of the history.

        In each turn the players move in the order given.  After each epoch `judge` is asked, with the
        averaged weights in place where a player averages; the kept epoch's weights are in the modules
        at the end.  No epoch is kept before the fraction `settled` of the stage.  What is not finite ends
        the stage with the weights kept until then, 'not stable'; InputError when there are none.
        """
        recipe = recipe.lasting(data.train.turns(recipe.batch))
        seats = {name: Seat(name, player, self.fabric) for name, player in players.items()}
        first = min(recipe.epochs, math.ceil(settled * recipe.epochs) + 1)
        run = Run(stage, len(self.history), seats, first=first, companions=companions)
        self._run = run
        state = self._checkpoints.load(run.index)
        if state is not None:
            self._restore(run, state)
        while not run.done:
            try:
                self._one_epoch(run, data, recipe)
                self._judge(run, recipe, judge)
            except NotFiniteError as err:
                run.diverge(str(err))
            else:
                run.done = run.epoch >= recipe.epochs or run.tired(recipe)
                if run.done:
                    run.finish(recipe)
            if run.done or run.epoch % recipe.checkpoint == 0:
                self._save(run)
            if self._progress is not None:
                self._progress(stage, run.epoch, recipe.epochs, run.latest())
        self._run = None
        for seat in seats.values():
            seat.player.module.eval()
        self.history.append(run.record)
        return run.record

    def _one_epoch(self, run: Run, data: Data, recipe: Recipe) -> None:
        turns, whole = data.train.turns(recipe.batch), data.train.whole is not None
        run.train_mode()
        feeds = {
            name: _endless(data.train, seat.player.batch, self.generator)
            for name, seat in run.seats.items()
            if seat.player.batch
        }
        losses: dict[str, list[Tensor]] = {}
        for turn, batch in enumerate(data.train.batches(recipe.batch, generator=self.generator)):
            self.passed, self.turn = (run.epoch + turn / turns) / recipe.epochs, turn
            own = self._share(batch, whole=whole)
            for name, seat in run.seats.items():
                for _ in range(seat.pace(self.passed)):
                    terms = seat.move(self._share(next(feeds[name]), whole=whole) if name in feeds else own)
                    for term, value in terms.items():
                        losses.setdefault(f"{name}/{term}", []).append(value.detach())
        run.epoch += 1
        self.passed = run.epoch / recipe.epochs
        run.note({k: float(torch.stack(v).float().mean()) for k, v in losses.items()})

    def _judge(self, run: Run, recipe: Recipe, judge: Judging | None) -> None:
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
            for name, companion in run.companions.items():
                run.note({f"{name}/{k}": v for k, v in companion.figures().items()})
            run.consider(verdict, recipe)

    def _share(self, batch: Batch, *, whole: bool) -> Batch:
        """This process's part of the batch, or of its groups; all draw the same order."""
        if self.fabric.world_size == 1:
            return batch
        if whole:
            own = shared_out(batch.group, self.fabric.global_rank, self.fabric.world_size)
            return batch.take(own.place)._replace(group=own.number)
        return batch.take(slice(self.fabric.global_rank, None, self.fabric.world_size))

    def _save(self, run: Run) -> None:
        if self.fabric.is_global_zero:
            common = {"generator": self.generator.get_state(), "random": random_state()}
            self._checkpoints.save(run.index, run.state_dict() | common)
        if self.fabric.world_size > 1:
            self.fabric.barrier()

    def _restore(self, run: Run, state: dict[str, Any]) -> None:
        run.load_state_dict(state)
        self.generator.set_state(state["generator"])
        restore_random_state(state["random"])
        self.passed = 0.0
        log.info("stage %r goes on after epoch %d", run.record["stage"], run.epoch)


def _endless(events: Events | Streamed, size: int, generator: Generator) -> Iterator[Batch]:
    while True:
        yield from events.batches(size, generator=generator)
