"""From a request to a file, the same for every sample: jobs, what they hand back, the loop that writes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, Self

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from hepdecorr.errors import InputError
from hepdecorr.samples.columns import Chunk
from hepdecorr.samples.jobs import ordered
from hepdecorr.samples.rootfile import SampleWriter, writing

# Luminosity blocks of one seed; the block numbers of other seeds begin elsewhere.
BLOCKS = 100_000
SEEDS_APART = 20_000


def luminosity_block(seed: int, job: int) -> int:
    """The luminosityBlock of a job: its number, with an offset so that files of two seeds can be joined."""
    return seed % SEEDS_APART * BLOCKS + job


@dataclass(frozen=True)
class Request:
    """What is asked for: `events` to generate or `wanted` objects to store, in jobs of `size` events.

    noun: what the objects are called; unit: what is generated, events or groups of them.  Raises InputError
    for what cannot be had.
    """

    process: str
    seed: int
    events: int | None
    wanted: int | None
    size: int
    options: Any
    noun: str = "candidates"
    unit: str = "events"

    def __post_init__(self) -> None:
        if (self.events is None) == (self.wanted is None):
            raise InputError(f"give either the {self.unit} to generate or the {self.noun} to store")
        size = f"job_{self.unit}"
        for name, value in ((self.unit, self.events), (self.noun, self.wanted), (size, self.size)):
            if value is not None and value <= 0:
                raise InputError(f"{name} must be above 0, not {value}")
        if self.seed < 0:
            raise InputError(f"seed must not be negative, but is {self.seed}")
        if self.events is not None and self.events > self.size * (BLOCKS - 1):
            raise InputError(
                f"{self.events} {self.unit} take more than {BLOCKS - 1} jobs; give larger job_{self.unit}"
            )

    def job(self, number: int) -> Job:
        """Job `number`, counted from 1."""
        left = self.size if self.events is None else self.events - (number - 1) * self.size
        return Job(self, number, events=min(self.size, left), wanted=self.wanted)

    def jobs(self) -> Iterator[Job]:
        """Jobs in order: as many as `events` need, or without end (the caller stops at the last one)."""
        if self.events is None:
            yield from map(self.job, range(1, BLOCKS))
            raise InputError(f"{BLOCKS - 1} jobs of {self.size} do not hold {self.wanted} {self.noun}")
        yield from map(self.job, range(1, 1 + math.ceil(self.events / self.size)))


@dataclass(frozen=True)
class Job:
    """A part of a request: at most `events` generated events, fewer where `wanted` objects are enough."""

    request: Request
    number: int
    events: int
    wanted: int | None

    @property
    def luminosity_block(self) -> int:
        """The luminosityBlock of its events."""
        return luminosity_block(self.request.seed, self.number)


class Yield(NamedTuple):
    """What a job made.

    chunk: stored events; stored: objects that count in each of them; reached: the stage (index in the
    sample's STAGES) that each generated event reached, `final` for a stored one; weights: of the generated
    events; facts: numbers of the whole job, such as its cross-section.
    """

    chunk: Chunk
    stored: NDArray[np.int64]
    reached: NDArray[np.int8]
    weights: NDArray[np.float64]
    final: int
    facts: Mapping[str, float] = {}

    def head(self, wanted: int) -> Self:
        """As if generation had stopped at the event with this object."""
        total = np.cumsum(self.stored)
        if not len(total) or wanted >= total[-1]:
            return self
        events = int(np.searchsorted(total, wanted)) + 1
        last = int(np.flatnonzero(self.reached == self.final)[events - 1]) + 1
        return self._replace(
            chunk=self.chunk.head(events),
            stored=self.stored[:events],
            reached=self.reached[:last],
            weights=self.weights[:last],
        )


@dataclass(frozen=True)
class Tally:
    """What went into a file.

    cutflow: events left after each stage; of each job, events: stored, objects: stored in these, made:
    generated, facts: as in Yield; sumw, sumw2: of the weights of the generated events.
    """

    cutflow: Mapping[str, int] = field(default_factory=dict)
    events: tuple[int, ...] = ()
    objects: tuple[int, ...] = ()
    made: tuple[int, ...] = ()
    facts: tuple[Mapping[str, float], ...] = ()
    sumw: float = 0.0
    sumw2: float = 0.0

    @property
    def generated(self) -> int:
        """Generated events behind the file."""
        return sum(self.made)

    def plus(self, job: Yield) -> Self:
        """With one job more, the cutflow apart."""
        return replace(
            self,
            events=(*self.events, len(job.stored)),
            objects=(*self.objects, int(job.stored.sum())),
            made=(*self.made, len(job.reached)),
            facts=(*self.facts, job.facts),
            sumw=self.sumw + float(job.weights.sum()),
            sumw2=self.sumw2 + float((job.weights**2).sum()),
        )


@dataclass(frozen=True)
class Summary:
    """What `generate` made.

    events: generated events behind the file, or what `unit` says; stored: objects stored (`noun` names them);
    jobs: how many; cutflow: events left after each stage; seconds: wall time.
    """

    out: Path
    process: str
    seed: int
    events: int
    stored: int
    noun: str
    jobs: int
    cutflow: dict[str, int]
    seconds: float
    unit: str = "events"

    @property
    def candidates(self) -> int:
        """The stored objects, in samples with one candidate an event."""
        return self.stored


def produce(
    run: Callable[[Job], Yield],
    request: Request,
    *,
    out: Path,
    branches: Mapping[str, str],
    collections: Mapping[str, Mapping[str, str]],
    stages: Sequence[str],
    finish: Callable[[SampleWriter, Tally], None],
    workers: int = 1,
    compact: bool = False,
    basket: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Summary:
    """Run the jobs of a request and write their events to `out`, which appears whole or not at all.

    run: of the top level of a module, for it is sent to processes; finish: writes what stands beside the
    events; progress: called after each job with the events generated, or objects stored, so far.
    """
    started = time.perf_counter()
    if workers <= 0:
        raise InputError(f"workers must be above 0, not {workers}")
    cutflow = np.zeros(len(stages), dtype=np.int64)
    tally = Tally()
    with (
        writing(out, events=branches, collections=collections, compact=compact, basket=basket) as writer,
        closing(ordered(run, request.jobs(), workers=workers)) as results,
    ):
        for result in _until(results, request.wanted):
            writer.extend(result.chunk)
            cutflow += _cutflow(result.reached, len(stages))
            tally = tally.plus(result)
            if progress:
                progress(int(cutflow[0]) if request.wanted is None else sum(tally.objects))
        tally = replace(tally, cutflow=dict(zip(stages, cutflow.tolist(), strict=True)))
        finish(writer, tally)
    return Summary(
        out=out,
        process=request.process,
        seed=request.seed,
        events=tally.generated,
        stored=sum(tally.objects),
        noun=request.noun,
        jobs=len(tally.objects),
        cutflow=dict(tally.cutflow),
        seconds=time.perf_counter() - started,
        unit=request.unit,
    )


def remake(
    run: Callable[[Job], Yield], request: Request, *, number: int, events: int, objects: int
) -> ak.Array:
    """The `events` that job `number` stored, `objects` in them, made again: fields as the file's branches."""
    # Past its last object a job need not go on.
    job = replace(request.job(number), wanted=objects or None)
    return run(job).chunk.head(events).branches()


def _until(results: Iterable[Yield], wanted: int | None) -> Iterator[Yield]:
    """Results up to the last object that is wanted, or all."""
    stored = 0
    for result in results:
        part = result if wanted is None else result.head(wanted - stored)
        stored += int(part.stored.sum())
        yield part
        if wanted is not None and stored >= wanted:
            return


def _cutflow(reached: NDArray[np.int8], stages: int) -> NDArray[np.int64]:
    """Events that reached each stage or a later one."""
    return np.bincount(reached, minlength=stages)[::-1].cumsum()[::-1]
