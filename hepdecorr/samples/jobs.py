"""Generation cut in jobs that know nothing of each other, so that the result is the same for any workers."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import TypeVar

import numpy as np

from hepdecorr.errors import InputError

Task = TypeVar("Task")
Result = TypeVar("Result")

PYTHIA_SEEDS = 900_000_000


def seeds(seed: int, *, stream: int, job: int) -> tuple[int, np.random.Generator]:
    """Pythia's seed (1 to 900,000,000) and numpy's generator of one job of one process (`stream`).

    Pythia's seeds of a stream follow one another from a hashed start: no two jobs of a file share one.
    """
    start = int(np.random.SeedSequence(seed, spawn_key=(stream,)).generate_state(1, np.uint64)[0])
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(stream, job)))
    return 1 + (start + job) % PYTHIA_SEEDS, rng


def ordered(
    function: Callable[[Task], Result], tasks: Iterable[Task], *, workers: int
) -> Generator[Result, None, None]:
    """Results in the order of the tasks; stops working ahead when the iterator is closed.

    With more than one worker, processes are spawned: a script that calls this needs
    `if __name__ == "__main__":`.  Raises InputError when a worker dies.
    """
    if workers == 1:
        yield from map(function, tasks)
        return
    # Spawned, not forked: the caller may hold threads (torch, pyarrow) that a fork would freeze.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_leave_interrupts_to_the_parent)
    try:
        yield from _window(pool, function, iter(tasks), ahead=workers + 1)
    except BrokenProcessPool as error:
        raise InputError(
            "a worker process died: out of memory, killed, or the calling script lacks "
            'if __name__ == "__main__": (with workers=1 no process is started)'
        ) from error
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _window(
    pool: ProcessPoolExecutor,
    function: Callable[[Task], Result],
    tasks: Iterator[Task],
    *,
    ahead: int,
) -> Iterator[Result]:
    waiting: deque[Future[Result]] = deque()
    waiting.extend(pool.submit(function, task) for task in islice(tasks, ahead))
    while waiting:
        result = waiting.popleft().result()
        waiting.extend(pool.submit(function, task) for task in islice(tasks, 1))
        yield result


def _leave_interrupts_to_the_parent() -> None:
    with contextlib.suppress(ValueError):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
