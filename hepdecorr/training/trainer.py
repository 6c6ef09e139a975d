"""The one training loop: players take turns, each moving only its own parameters.

A stage is one call of `trainer`.  What it leaves behind (weights, curves, random states) is kept in a
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

from hepdecorr.training.checkpoints import StageCheckpoints, capture_rng_state, restore_rng_state
from hepdecorr.training.data.batches import Batch, EventDataset
from hepdecorr.training.data.group_index import shard_groups
from hepdecorr.training.data.splits import DataSplits
from hepdecorr.training.data.streaming import StreamingDataset
from hepdecorr.training.objective import (
    Objective,
    ProgressFn,
    StatefulCallback,
    TrainingConfig,
    ValidateFn,
    ValidationResult,
)
from hepdecorr.training.stage import NotFiniteError, ObjectiveState, StageState

log = logging.getLogger(__name__)


class Trainer:
    """Plays stages, one after the other: `trainer.fit_stage(players, data, recipe, stage=...)`.

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
        report_progress: ProgressFn | None = None,
    ) -> None:
        self.fabric = fabric or Fabric(accelerator="cpu", devices=1)
        self.generator = Generator().manual_seed(seed)
        self.history: list[dict[str, Any]] = []
        self.progress, self.iteration = 0.0, 0
        self._checkpoints = StageCheckpoints(folder, fingerprint=fingerprint)
        self._report_progress = report_progress
        self._stage: StageState | None = None

    @property
    def device(self) -> torch.device:
        """Where the players stand."""
        return self.fabric.device

    def ema_weights(self) -> AbstractContextManager[None]:
        """Within it the averaged weights, which are judged and kept, stand in the modules."""
        return self._stage.ema_weights() if self._stage is not None else nullcontext()

    def fit_stage(
        self,
        objectives: Mapping[str, Objective],
        data: DataSplits,
        config: TrainingConfig,
        *,
        name: str,
        validate: ValidateFn | None = None,
        select_after: float = 0.0,
        callbacks: Mapping[str, StatefulCallback] | None = None,
    ) -> dict[str, Any]:
        """Play one stage and return its entry of the history.

        In each turn the players move in the order given.  After each epoch `judge` is asked, with the
        averaged weights in place where a player averages; the kept epoch's weights are in the modules
        at the end.  No epoch is kept before the fraction `settled` of the stage.  What is not finite ends
        the stage with the weights kept until then, 'not stable'; InputError when there are none.
        """
        config = config.with_min_steps(data.train.num_batches(config.batch_size))
        seats = {name: ObjectiveState(name, player, self.fabric) for name, player in objectives.items()}
        first = min(config.epochs, math.ceil(select_after * config.epochs) + 1)
        run = StageState(name, len(self.history), seats, first_selectable_epoch=first, callbacks=callbacks)
        self._stage = run
        state = self._checkpoints.load(run.index)
        if state is not None:
            self._restore_checkpoint(run, state)
        while not run.done:
            try:
                self._train_epoch(run, data, config)
                self._validate_epoch(run, config, validate)
            except NotFiniteError as err:
                run.handle_divergence(str(err))
            else:
                run.done = run.epoch >= config.epochs or run.should_stop(config)
                if run.done:
                    run.finish_stage(config)
            if run.done or run.epoch % config.checkpoint_every == 0:
                self._save_checkpoint(run)
            if self._report_progress is not None:
                self._report_progress(name, run.epoch, config.epochs, run.last_metrics())
        self._stage = None
        for seat in seats.values():
            seat.objective.module.eval()
        self.history.append(run.record)
        return run.record

    def _train_epoch(self, stage: StageState, data: DataSplits, config: TrainingConfig) -> None:
        turns, whole = data.train.num_batches(config.batch_size), data.train.group_index is not None
        stage.set_train_mode()
        feeds = {
            name: _cycle_batches(data.train, seat.objective.batch_size, self.generator)
            for name, seat in stage.objective_states.items()
            if seat.objective.batch_size
        }
        losses: dict[str, list[Tensor]] = {}
        for turn, batch in enumerate(data.train.batches(config.batch_size, generator=self.generator)):
            self.progress, self.iteration = (stage.epoch + turn / turns) / config.epochs, turn
            own = self._local_shard(batch, grouped=whole)
            for name, seat in stage.objective_states.items():
                for _ in range(seat.set_learning_rate(self.progress)):
                    terms = seat.step(
                        self._local_shard(next(feeds[name]), grouped=whole) if name in feeds else own
                    )
                    for term, value in terms.items():
                        losses.setdefault(f"{name}/{term}", []).append(value.detach())
        stage.epoch += 1
        self.progress = stage.epoch / config.epochs
        stage.log({k: float(torch.stack(v).float().mean()) for k, v in losses.items()})

    def _validate_epoch(self, stage: StageState, config: TrainingConfig, validate: ValidateFn | None) -> None:
        if validate is None:
            stage.update_best(
                ValidationResult(-float(stage.epoch), {}), config
            )  # without a judge the last epoch is best
            return
        for seat in stage.objective_states.values():
            seat.objective.module.eval()
        with stage.ema_weights(), torch.no_grad():
            verdict = validate(stage.last_metrics())
            verdict = verdict._replace(criterion=float(self.fabric.broadcast(verdict.criterion)))
            stage.log(
                {
                    f"valid/{k}": v
                    for k, v in (dict(verdict.metrics) | {"criterion": verdict.criterion}).items()
                }
            )
            for name, companion in stage.callbacks.items():
                stage.log({f"{name}/{k}": v for k, v in companion.metrics().items()})
            stage.update_best(verdict, config)

    def _local_shard(self, batch: Batch, *, grouped: bool) -> Batch:
        """This process's part of the batch, or of its groups; all draw the same order."""
        if self.fabric.world_size == 1:
            return batch
        if grouped:
            own = shard_groups(batch.group, self.fabric.global_rank, self.fabric.world_size)
            return batch.take(own.rows)._replace(group=own.group)
        return batch.take(slice(self.fabric.global_rank, None, self.fabric.world_size))

    def _save_checkpoint(self, stage: StageState) -> None:
        if self.fabric.is_global_zero:
            common = {"generator": self.generator.get_state(), "rng_state": capture_rng_state()}
            self._checkpoints.save(stage.index, stage.state_dict() | common)
        if self.fabric.world_size > 1:
            self.fabric.barrier()

    def _restore_checkpoint(self, stage: StageState, state: dict[str, Any]) -> None:
        stage.load_state_dict(state)
        self.generator.set_state(state["generator"])
        restore_rng_state(state["rng_state"])
        self.progress = 0.0
        log.info("stage %r goes on after epoch %d", stage.record["stage"], stage.epoch)


def _cycle_batches(
    dataset: EventDataset | StreamingDataset, batch_size: int, generator: Generator
) -> Iterator[Batch]:
    while True:
        yield from dataset.batches(batch_size, generator=generator)
