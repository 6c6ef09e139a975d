"""Runs a processor over a fileset with coffea, and accounts for every file and chunk."""

from __future__ import annotations

import contextlib
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import coffea.util
import loky
from coffea.nanoevents import NanoAODSchema
from coffea.processor import Runner
from coffea.processor.executor import ExecutorBase, FileMeta, WorkItem

from hepdecorr.columnar import attempts
from hepdecorr.columnar.attempts import Failure, Halt
from hepdecorr.columnar.checkpoints import Checkpoints
from hepdecorr.columnar.filesets import Dataset, to_coffea
from hepdecorr.errors import InputError

logger = logging.getLogger(__name__)

ExecutorName = Literal["iterative", "futures", "dask"]
_SHOWN = 5


@dataclass(frozen=True)
class Completeness:
    """What was asked for against what was done.

    `unreadable` lists the files that were skipped, wholly or in part, as {dataset, file, reason, events},
    events being None where the file could not even be opened.  `missing_chunks` lists the chunks that are
    not in the output, as {dataset, file, start, stop}.  `events` counts processed events by dataset.
    """

    files: int
    events_expected: int
    events_processed: int
    unreadable: list[dict[str, Any]] = field(default_factory=list)
    missing_chunks: list[dict[str, Any]] = field(default_factory=list)
    events: dict[str, int] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether every file and every chunk is in the output."""
        return not self.unreadable and not self.missing_chunks

    def summary(self) -> str:
        """The report in a few lines."""
        done = f"{self.events_processed:,} of {self.events_expected:,} events from {self.files} files"
        if self.complete:
            return f"complete: {done}"
        lines = [f"incomplete: {done}; {len(self.unreadable)} files are bad"]
        for bad in self.unreadable:
            lost = "an unknown number of" if bad["events"] is None else f"{bad['events']:,}"
            lines.append(f"  {bad['file']} ({bad['dataset']}): {bad['reason']}; {lost} events lost")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """The report as plain data for JSON."""
        return {**asdict(self), "complete": self.complete}


@dataclass(frozen=True)
class Outcome:
    """A processor's merged output, and what it covers."""

    out: Any
    report: Completeness


@dataclass(frozen=True)
class _Process:
    """The processor as a plain function, so that a run whose chunks all failed can still be reported."""

    processor: Any

    def __call__(self, events: Any) -> Any:
        return self.processor.process(events)

    def holds(self, result: Any) -> bool:
        holds = getattr(self.processor, "holds", None)
        return holds is None or bool(holds(result))


def run(
    fileset: Mapping[str, Any] | Sequence[Dataset],
    processor: Any,
    *,
    executor: ExecutorName = "iterative",
    workers: int = 2,
    scheduler: str | None = None,
    treename: str = "Events",
    schema: type = NanoAODSchema,
    chunksize: int = 50_000,
    skip_bad_files: bool = False,
    checkpoints: Path | None = None,
    fingerprint: str = "",
    progress: bool = False,
) -> Outcome:
    """The processor's output over all chunks of `fileset` (of filesets.expand, or in coffea's form).

    `executor` is 'iterative' (this process), 'futures' (`workers` processes) or 'dask' (a cluster of
    `workers` processes, or the one at address `scheduler`).  Arrays are virtual: only what the processor
    touches is read.  With `checkpoints`, a folder, chunks already done under the same `fingerprint` (a
    digest of all that the output depends on: config, model) are taken from there.

    A file that is missing, empty, truncated or not ROOT, or lacks the tree or a branch, raises InputError
    that names it; with `skip_bad_files` it is listed in the report with the events lost.  InputErrors of
    the processor itself always stop the run; any other error in it becomes a RuntimeError with the
    worker's traceback.
    """
    metas = _files(fileset, treename)
    kept = None
    if checkpoints is not None:
        kept = Checkpoints(checkpoints, fingerprint=fingerprint, about={m.dataset: m.metadata for m in metas})
    try:
        with _quiet(progress), _executor(executor, workers, scheduler, progress) as engine:
            found, failures = _survey(metas, engine)
            if failures and not skip_bad_files:
                raise InputError(_complaint(failures))
            chunks = [c for meta in found for c in meta.chunks(chunksize, False)]
            result: dict[str, Any] = {}
            if chunks:
                runner = Runner(
                    executor=engine.copy(skip=skip_bad_files),
                    chunksize=chunksize,
                    schema=schema,
                    checkpointer=kept,
                )
                result = runner.run(chunks, _Process(processor))
    except Halt as halt:
        raise _error(halt.failure) from None
    failures += result.get("failures", [])
    report = _account(metas, chunks, result.get("processed", set()), failures)
    if "out" not in result:
        raise InputError(f"none of the {len(metas)} files could be used\n{_complaint(failures)}")
    if not report.complete:
        logger.warning("%s", report.summary())
    return Outcome(_postprocessed(processor, result["out"]), report)


def _files(fileset: Mapping[str, Any] | Sequence[Dataset], treename: str) -> list[FileMeta]:
    if not isinstance(fileset, Mapping):
        fileset = to_coffea(fileset, treename=treename)
    metas = []
    for dataset, value in fileset.items():
        entry = value if isinstance(value, Mapping) else {"files": value}
        files = entry["files"]
        trees = files if isinstance(files, Mapping) else dict.fromkeys(files, entry.get("treename", treename))
        metas += [FileMeta(dataset, f, tree, dict(entry.get("metadata") or {})) for f, tree in trees.items()]
    if not metas:
        raise InputError("the fileset has no files")
    return metas


def _survey(metas: Sequence[FileMeta], engine: ExecutorBase) -> tuple[list[FileMeta], list[Failure]]:
    """The files with their numbers of entries, in the order given, and those that cannot be opened."""
    # Not Runner.preprocess: it drops or raises without the reason, and its cache outlives a changed file.
    function = partial(_look, partial(Runner.metadata_fetcher_root, 60, False, {}))
    counting = engine.copy(skip=True, desc="Preprocessing", unit="file", function_name="get_metadata")
    result, _ = counting(list(metas), function, None)
    order = {meta: i for i, meta in enumerate(metas)}
    found = sorted(result.get("files", []), key=lambda m: order[m])
    return found, list(result.get("failures", []))


def _look(fetch: Any, meta: FileMeta) -> dict[str, list[FileMeta]]:
    return {"files": list(fetch(meta))}


def _account(
    metas: Sequence[FileMeta], chunks: Sequence[WorkItem], done: set[WorkItem], failures: Sequence[Failure]
) -> Completeness:
    lost: dict[tuple[str, str], dict[str, Any]] = {}
    for f in failures:
        entry = lost.setdefault(
            (f.dataset, f.file), {"dataset": f.dataset, "file": f.file, "reason": f.reason, "events": 0}
        )
        entry["events"] = None if f.events is None else entry["events"] + f.events
    events: Counter[str] = Counter({m.dataset: 0 for m in metas})
    for chunk in done:
        events[chunk.dataset] += len(chunk)
    return Completeness(
        files=len(metas),
        events_expected=sum(map(len, chunks)),
        events_processed=sum(map(len, done)),
        unreadable=[lost[key] for key in sorted(lost)],
        missing_chunks=[
            {"dataset": c.dataset, "file": c.filename, "start": c.entrystart, "stop": c.entrystop}
            for c in chunks
            if c not in done
        ],
        events=dict(events),
    )


def _complaint(failures: Sequence[Failure]) -> str:
    named: dict[tuple[str, str], Failure] = {}
    for f in failures:
        named.setdefault((f.dataset, f.file), f)
    lines = [f"{file} (dataset {dataset!r}): {f.reason}" for (dataset, file), f in named.items()]
    if len(lines) > _SHOWN:
        lines[_SHOWN:] = [f"... and {len(lines) - _SHOWN} more files"]
    return "\n".join([*lines, "mend or remove what is bad, or set 'skip_bad_files: true' to leave it out"])


def _error(failure: Failure) -> Exception:
    if failure.kind == "file":
        return InputError(_complaint([failure]))
    where = f"{failure.file} (dataset {failure.dataset!r})"
    if failure.stop is not None:
        where += f", events {failure.start} to {failure.stop}"
    if failure.kind == "input":
        return InputError(failure.reason if failure.file in failure.reason else f"{where}: {failure.reason}")
    return RuntimeError(f"the processor failed on {where}: {failure.reason}\n{failure.trace}")


def _postprocessed(processor: Any, out: Any) -> Any:
    postprocess = getattr(processor, "postprocess", None)
    result = postprocess(out) if callable(postprocess) else None
    return out if result is None else result


@contextlib.contextmanager
def _quiet(progress: bool) -> Iterator[None]:
    # Futures draw their bar whatever `status` says.
    console, before = coffea.util.coffea_console, coffea.util.coffea_console.quiet
    console.quiet = before or not progress
    try:
        yield
    finally:
        console.quiet = before


@contextlib.contextmanager
def _executor(name: str, workers: int, scheduler: str | None, progress: bool) -> Iterator[ExecutorBase]:
    """The executor of this name, cleared away in the end, whatever happens."""
    common: dict[str, Any] = {"status": progress, "retries": 0}  # attempts knows when to try again
    if name == "iterative":
        yield attempts.Iterative(**common)
    elif name == "futures":
        with _pool(workers) as pool:
            yield attempts.Futures(**common, workers=workers, pool=pool)
    elif name == "dask":
        with _client(workers, scheduler) as client:
            yield attempts.Dask(**common, client=client)
    else:
        raise InputError(f"no executor {name!r}; there are iterative, futures, dask")


@contextlib.contextmanager
def _pool(workers: int) -> Iterator[loky.ProcessPoolExecutor]:
    pool = loky.ProcessPoolExecutor(max_workers=workers)
    try:
        yield pool
    except BaseException:
        # Otherwise a failure, or Ctrl-C, waits for all chunks that are still queued.
        pool.shutdown(wait=True, kill_workers=True)
        raise
    pool.shutdown(wait=True)


@contextlib.contextmanager
def _client(workers: int, scheduler: str | None) -> Iterator[Any]:
    try:
        from distributed import Client, LocalCluster
    except ImportError:
        raise InputError("executor 'dask' needs Dask: pip install 'hepdecorr[dask]'") from None
    if not logger.isEnabledFor(logging.DEBUG):
        logging.getLogger("distributed").setLevel(
            logging.WARNING
        )  # it tells of every worker that comes and goes
    if scheduler is not None:
        try:
            client = Client(scheduler, timeout=20)
        except (OSError, ValueError) as err:
            raise InputError(f"no Dask scheduler answers at {scheduler}: {err}") from None
        with client:
            yield client
        return
    # Even with None the dashboard is served: on port 8787 of every interface, with a warning if it is taken.
    options = {"n_workers": workers, "threads_per_worker": 1, "dashboard_address": "127.0.0.1:0"}
    with LocalCluster(**options, silence_logs=logging.ERROR) as cluster, Client(cluster) as client:
        yield client
