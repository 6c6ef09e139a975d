"""Trains taggers, several at a time, each in a process of its own, with a bar for each."""

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

from hepdecorr.cli import origins, show
from hepdecorr.cli.checks import method_spec
from hepdecorr.cli.stamps import Stamp, code, digest, own_code
from hepdecorr.config import Config, load
from hepdecorr.errors import InputError
from hepdecorr.table import Table


@dataclass(frozen=True)
class Job:
    """One tagger to be trained with one seed.

    folder: of the finished tagger; work: of its checkpoints and history; title: of its bar; overrides: with
    which the config is loaded.
    """

    tagger: str
    seed: int
    key: str
    folder: Path
    work: Path
    overrides: tuple[str, ...] = ()
    title: str = ""

    @classmethod
    def of(cls, config: Config, table: Table, *, tagger: str, seed: int) -> Job:
        """The job and the digest of all that its result depends on."""
        key = digest(
            table.fingerprint,
            config.taggers[tagger],
            seed,
            config.digest("split", "nuisances", "working_points", "objects", "constituents"),
            config.training.precision,
            code("train"),
            *own_code(config.taggers[tagger], base=config.base),
            *origins.content(config, tagger, seed=seed),
            *(cls.of(config, table, tagger=one, seed=seed).key for one in origins.chain(config, tagger)[:1]),
        )
        name = f"{config.name}-{tagger}-{seed}"
        folder, work = config.models_folder / name, config.output_folder / "training" / name
        return cls(tagger, seed, key, folder, work, config.overrides, tagger)

    @property
    def history(self) -> Path:
        """The curves of the training."""
        return self.work / "history.json"

    def finished(self) -> bool:
        """Whether the tagger is there, made from the same things."""
        model = self.folder / "tagger.onnx"
        found = Stamp.read(self.work / "stamp.json")
        # The model's digest too: another analysis may have written over the folder.
        return (
            found is not None
            and model.is_file()
            and self.history.is_file()
            and (found["key"], found.get("model")) == (self.key, digest(model))
        )


def run(
    jobs: Sequence[Job],
    config: Config,
    *,
    console: Console,
    say: Callable[[str, str], None],
    redo: bool = False,
    tolerant: bool = False,
) -> dict[str, str]:
    """Train all jobs; with `redo` not from their checkpoints but from the beginning.

    An InputError stops all of them; with `tolerant` the others go on, and it is returned by the job's key.
    """
    if redo:
        for job in jobs:
            shutil.rmtree(job.work, ignore_errors=True)
    with show.progress(console) as bars:
        board = _Board(bars, jobs)
        failed = _Failed(tolerant)
        for wave in origins.waves(jobs, config, tagger=lambda job: job.tagger):
            if config.training.jobs == 1 or len(wave) == 1:
                for job in wave:
                    with failed.noted(job):
                        own = config if job.overrides == config.overrides else _loaded(job, config)
                        _report(job, _train(job, own, board.put), say=say)
            else:
                _side_by_side(wave, config, board=board, say=say, failed=failed)
    return failed.reasons


class _Failed:
    """What jobs could not be trained for, where the others are to go on."""

    def __init__(self, tolerant: bool) -> None:
        self.tolerant, self.reasons = tolerant, dict[str, str]()

    @contextmanager
    def noted(self, job: Job) -> Iterator[None]:
        try:
            yield
        except InputError as err:
            if not self.tolerant:
                raise
            self.reasons[job.key] = str(err)


def _loaded(job: Job, config: Config) -> Config:
    return load(config.path, overrides=job.overrides)


def _side_by_side(
    jobs: Sequence[Job],
    config: Config,
    *,
    board: _Board,
    say: Callable[[str, str], None],
    failed: _Failed,
) -> None:
    context = multiprocessing.get_context("spawn")  # a forked torch may hang in its threads
    with context.Manager() as manager:
        news = manager.Queue()
        pool = ProcessPoolExecutor(min(config.training.jobs, len(jobs)), mp_context=context)
        with pool:
            asked = {pool.submit(_in_process, job, config.path, news): job for job in jobs}
            left: set[Future[dict[str, Any]]] = set(asked)
            try:
                while left:
                    done, left = wait(left, timeout=0.2)
                    board.drain(news)
                    for future in done:
                        with failed.noted(asked[future]):
                            _report(asked[future], future.result(), say=say)
            except BaseException:
                # What has begun keeps its checkpoints; what has not must not begin.
                processes = list((getattr(pool, "_processes", None) or {}).values())  # shutdown forgets them
                pool.shutdown(wait=False, cancel_futures=True)
                for process in processes:
                    process.terminate()
                raise


def _in_process(job: Job, path: Path, news: Any) -> dict[str, Any]:
    logging.getLogger("hepdecorr").setLevel(logging.ERROR)  # the driver repeats what matters
    return _train(job, load(path, overrides=job.overrides), lambda *message: news.put(message))


def _train(job: Job, config: Config, put: Callable[..., None]) -> dict[str, Any]:
    import torch

    from hepdecorr.card import Nuisance
    from hepdecorr.learning import fitting

    torch.set_num_threads(config.training.threads)
    table = Table.open(config.output_folder / "table")
    stamp = Stamp(job.work / "stamp.json", job.key)
    stamp.remove()
    block = config.taggers[job.tagger]
    start = origins.origin(config, job.tagger)
    with show.blamed(config.at("taggers", job.tagger)):
        trained = fitting.train(
            method_spec(block),
            table=table,
            split=config.table_split,
            seed=job.seed,
            device=config.training.device,
            precision=config.training.precision,
            folder=job.work
            / "checkpoints"
            / job.key[:16],  # those of other code or another config are no use
            progress=lambda stage, epoch, epochs, _: put(job.key, stage, epoch, epochs),
            base=config.base,
            origin=config.models_folder / f"{config.name}-{start}-{job.seed}" if start else None,
        )
        nuisances = []
        for name, spec in config.nuisances.items():
            column = table.column(name)
            about = {"unit": column.unit, "title": column.title, "feature": spec.feature}
            nuisances.append(Nuisance(name=name, low=spec.low, high=spec.high, **about))
        fitting.finish(
            trained,
            name=job.folder.name,
            folder=job.folder,
            table=table,
            nuisances=nuisances,
            config_hash=job.key,
            rejections=config.working_points,
            title=str(block.get("title", job.tagger)),
            description=str(block.get("description", config.title)),
            conventions=table.provenance["conventions"],
            objects=config.objects_spec,
        )
    part = job.history.with_name("history.json.part")
    part.parent.mkdir(parents=True, exist_ok=True)
    part.write_text(json.dumps(trained.history))
    part.replace(job.history)
    stamp.write(model=digest(job.folder / "tagger.onnx"), seconds=trained.seconds)
    shutil.rmtree(job.work / "checkpoints", ignore_errors=True)
    reasons = [s["reason"] for s in trained.history if s["reason"]]
    told = [text for s in trained.history for text in s.get("told", ())]
    return {"seconds": trained.seconds, "reasons": reasons, "told": told}


def _report(job: Job, result: Mapping[str, Any], *, say: Callable[[str, str], None]) -> None:
    say("train", f"{job.folder} in {result['seconds']:.0f} s")
    for text in result["told"]:
        say("train", f"  {text}")
    for reason in result["reasons"]:
        say("train", f"  not stable: {reason}")


class _Board:
    """The bars: one task a job, fed from here or from other processes."""

    def __init__(self, bars: Progress, jobs: Sequence[Job]) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {
            job.key: bars.add_task(f"{job.title or job.tagger} (seed {job.seed})", total=None, note="waits")
            for job in jobs
        }

    def put(self, key: str, stage: str, epoch: int, epochs: int) -> None:
        """Show that `epoch` of `epochs` of a stage is done."""
        self._bars.update(self._tasks[key], completed=epoch, total=epochs, note=stage)

    def drain(self, news: Any) -> None:
        """Show all that has come in from other processes."""
        while True:
            try:
                self.put(*news.get_nowait())
            except queue.Empty:
                return


def histories(config: Config, taggers: Iterable[str]) -> dict[str, list[dict[str, Any]]]:
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
