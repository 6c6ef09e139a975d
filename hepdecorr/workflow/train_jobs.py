"""Taggers that go on from another one: `start_from: NAME` in a tagger's block.

Trains taggers, several at a time, each in a process of its own, with a bar for each.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import queue
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress, TaskID

from hepdecorr.config.schema import Config, load_config
from hepdecorr.errors import InputError
from hepdecorr.table import Table
from hepdecorr.workflow import progress
from hepdecorr.workflow.cache import CacheStamp, digest, source_digest, user_code_files
from hepdecorr.workflow.config_checks import method_spec
from hepdecorr.workflow.warm_start import (
    find_parent_tagger,
    list_ancestors,
    list_weight_files,
    split_by_dependency,
)


@dataclass(frozen=True)
class TrainJob:
    """One tagger to be trained with one seed.

    folder: of the finished tagger; work: of its checkpoints and history; title: of its bar; overrides: with
    which the config is loaded.
    """

    tagger: str
    seed: int
    key: str
    model_folder: Path
    work_folder: Path
    overrides: tuple[str, ...] = ()
    title: str = ""

    @classmethod
    def create(cls, config: Config, table: Table, *, tagger: str, seed: int) -> TrainJob:
        """The job and the digest of all that its result depends on."""
        key = digest(
            table.fingerprint,
            config.taggers[tagger],
            seed,
            config.digest("split", "nuisances", "working_points", "objects", "constituents"),
            config.resources.precision,
            source_digest("train"),
            *user_code_files(config.taggers[tagger], base=config.base),
            *list_weight_files(config, tagger, seed=seed),
            *(
                cls.create(config, table, tagger=one, seed=seed).key
                for one in list_ancestors(config, tagger)[:1]
            ),
        )
        name = f"{config.name}-{tagger}-{seed}"
        folder, work = config.models_folder / name, config.output_folder / "training" / name
        return cls(tagger, seed, key, folder, work, config.overrides, tagger)

    @property
    def history_file(self) -> Path:
        """The curves of the training."""
        return self.work_folder / "history.json"

    def is_finished(self) -> bool:
        """Whether the tagger is there, made from the same things."""
        model = self.model_folder / "tagger.onnx"
        found = CacheStamp.read_content(self.work_folder / "stamp.json")
        # The model's digest too: another analysis may have written over the folder.
        return (
            found is not None
            and model.is_file()
            and self.history_file.is_file()
            and (found["key"], found.get("model")) == (self.key, digest(model))
        )


def run_jobs(
    jobs: Sequence[TrainJob],
    config: Config,
    *,
    console: Console,
    print_status: Callable[[str, str], None],
    redo: bool = False,
    continue_on_error: bool = False,
) -> dict[str, str]:
    """Train all jobs; with `redo` not from their checkpoints but from the beginning.

    An InputError stops all of them; with `tolerant` the others go on, and it is returned by the job's key.
    """
    if redo:
        for job in jobs:
            shutil.rmtree(job.work_folder, ignore_errors=True)
    with progress.progress_bars(console) as bars:
        board = _ProgressBoard(bars, jobs)
        failed = _FailureCollector(continue_on_error)
        for wave in split_by_dependency(jobs, config, tagger_of=lambda job: job.tagger):
            if config.resources.jobs == 1 or len(wave) == 1:
                for job in wave:
                    with failed.collect_error(job):
                        own = config if job.overrides == config.overrides else _load_job_config(job, config)
                        _print_result(job, _train_job(job, own, board.update_bar), print_status=print_status)
            else:
                _run_in_parallel(wave, config, board=board, print_status=print_status, failures=failed)
    return failed.error_messages


class _FailureCollector:
    """What jobs could not be trained for, where the others are to go on."""

    def __init__(self, continue_on_error: bool) -> None:
        self.continue_on_error, self.error_messages = continue_on_error, dict[str, str]()

    @contextmanager
    def collect_error(self, job: TrainJob) -> Iterator[None]:
        try:
            yield
        except InputError as err:
            if not self.continue_on_error:
                raise
            self.error_messages[job.key] = str(err)


def _load_job_config(job: TrainJob, config: Config) -> Config:
    return load_config(config.path, overrides=job.overrides)


def _run_in_parallel(
    jobs: Sequence[TrainJob],
    config: Config,
    *,
    board: _ProgressBoard,
    print_status: Callable[[str, str], None],
    failures: _FailureCollector,
) -> None:
    context = multiprocessing.get_context("spawn")  # a forked torch may hang in its threads
    with context.Manager() as manager:
        news = manager.Queue()
        pool = ProcessPoolExecutor(min(config.resources.jobs, len(jobs)), mp_context=context)
        with pool:
            asked = {pool.submit(_train_in_subprocess, job, config.path, news): job for job in jobs}
            left: set[Future[dict[str, Any]]] = set(asked)
            try:
                while left:
                    done, left = wait(left, timeout=0.2)
                    board.drain_messages(news)
                    for future in done:
                        with failures.collect_error(asked[future]):
                            _print_result(asked[future], future.result(), print_status=print_status)
            except BaseException:
                # What has begun keeps its checkpoints; what has not must not begin.
                processes = list((getattr(pool, "_processes", None) or {}).values())  # shutdown forgets them
                pool.shutdown(wait=False, cancel_futures=True)
                for process in processes:
                    process.terminate()
                raise


def _train_in_subprocess(job: TrainJob, config_path: Path, messages: Any) -> dict[str, Any]:
    logging.getLogger("hepdecorr").setLevel(logging.ERROR)  # the driver repeats what matters
    return _train_job(
        job, load_config(config_path, overrides=job.overrides), lambda *message: messages.update_bar(message)
    )


def _train_job(job: TrainJob, config: Config, report_progress: Callable[..., None]) -> dict[str, Any]:
    import torch

    from hepdecorr.model_card import Nuisance
    from hepdecorr.training import pipeline

    torch.set_num_threads(config.resources.threads)
    table = Table.open(config.output_folder / "table")
    stamp = CacheStamp(job.work_folder / "stamp.json", job.key)
    stamp.invalidate()
    block = config.taggers[job.tagger]
    start = find_parent_tagger(config, job.tagger)
    with progress.locate_errors(config, "taggers", job.tagger):
        trained = pipeline.train(
            method_spec(block),
            table=table,
            split=config.table_split,
            seed=job.seed,
            device=config.resources.device,
            precision=config.resources.precision,
            folder=job.work_folder
            / "checkpoints"
            / job.key[:16],  # those of other code or another config are no use
            report_progress=lambda stage, epoch, epochs, _: report_progress(job.key, stage, epoch, epochs),
            base=config.base,
            pretrained_folder=config.models_folder / f"{config.name}-{start}-{job.seed}" if start else None,
        )
        nuisances = []
        for name, spec in config.nuisances.items():
            column = table.column(name)
            about = {"unit": column.unit, "title": column.title, "feature": spec.feature}
            nuisances.append(Nuisance(name=name, low=spec.low, high=spec.high, **about))
        pipeline.export_trained(
            trained,
            name=job.model_folder.name,
            folder=job.model_folder,
            table=table,
            nuisances=nuisances,
            config_hash=job.key,
            rejections=config.working_points,
            title=str(block.get("title", job.tagger)),
            description=str(block.get("description", config.title)),
            conventions=table.provenance["conventions"],
            objects=config.objects_spec,
        )
    part = job.history_file.with_name("history.json.part")
    part.parent.mkdir(parents=True, exist_ok=True)
    part.write_text(json.dumps(trained.history))
    part.replace(job.history_file)
    stamp.write(model=digest(job.model_folder / "tagger.onnx"), seconds=trained.seconds)
    shutil.rmtree(job.work_folder / "checkpoints", ignore_errors=True)
    reasons = [s["warning"] for s in trained.history if s["warning"]]
    told = [text for s in trained.history for text in s.get("told", ())]
    return {"seconds": trained.seconds, "reasons": reasons, "told": told}


def _print_result(
    job: TrainJob, result: Mapping[str, Any], *, print_status: Callable[[str, str], None]
) -> None:
    print_status("train", f"{job.model_folder} in {result['seconds']:.0f} s")
    for text in result["told"]:
        print_status("train", f"  {text}")
    for reason in result["reasons"]:
        print_status("train", f"  not stable: {reason}")


class _ProgressBoard:
    """The bars: one task a job, fed from here or from other processes."""

    def __init__(self, bars: Progress, jobs: Sequence[TrainJob]) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {
            job.key: bars.add_task(f"{job.title or job.tagger} (seed {job.seed})", total=None, note="waits")
            for job in jobs
        }

    def update_bar(self, key: str, stage: str, epoch: int, epochs: int) -> None:
        """Show that `epoch` of `epochs` of a stage is done."""
        self._bars.update(self._tasks[key], completed=epoch, total=epochs, note=stage)

    def drain_messages(self, messages: Any) -> None:
        """Show all that has come in from other processes."""
        while True:
            try:
                self.update_bar(*messages.get_nowait())
            except queue.Empty:
                return


def load_histories(config: Config, taggers: Iterable[str]) -> dict[str, list[dict[str, Any]]]:
    """The curves of every tagger that was trained, by TAGGER-SEED: one entry a stage."""
    found = {}
    for name in taggers:
        for seed in config.seeds:
            path = config.output_folder / "training" / f"{config.name}-{name}-{seed}" / "history.json"
            if not path.is_file():
                raise InputError(f"{path}: missing; run 'hepdecorr train {config.path.name}' first")
            try:
                found[f"{name}-{seed}"] = json.loads(path.read_text())
            except ValueError:
                again = f"run 'hepdecorr train {config.path.name} --only {name} --redo'"
                raise InputError(f"{path}: damaged; {again}") from None
    return found
