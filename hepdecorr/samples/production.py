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
from hepdecorr.samples.columns import EventChunk
from hepdecorr.samples.jobs import map_ordered
from hepdecorr.samples.root_file import SampleWriter, open_sample_writer

# Luminosity blocks of one seed; the block numbers of other seeds begin elsewhere.
BLOCKS_PER_SEED = 100_000
NUM_SEED_OFFSETS = 20_000


def luminosity_block(seed: int, job: int) -> int:
    """The luminosityBlock of a job: its number, with an offset so that files of two seeds can be joined."""
    return seed % NUM_SEED_OFFSETS * BLOCKS_PER_SEED + job


@dataclass(frozen=True)
class GenerationRequest:
    """What is asked for: `events` to generate or `wanted` objects to store, in jobs of `size` events.

    noun: what the objects are called; unit: what is generated, events or groups of them.  Raises InputError
    for what cannot be had.
    """

    process: str
    seed: int
    num_events: int | None
    num_objects: int | None
    job_size: int
    options: Any
    object_name: str = "candidates"
    event_unit: str = "events"

    def __post_init__(self) -> None:
        if (self.num_events is None) == (self.num_objects is None):
            raise InputError(
                f"give either the {self.event_unit} to generate or the {self.object_name} to store"
            )
        size = f"job_{self.event_unit}"
        for name, value in (
            (self.event_unit, self.num_events),
            (self.object_name, self.num_objects),
            (size, self.job_size),
        ):
            if value is not None and value <= 0:
                raise InputError(f"{name} must be above 0, not {value}")
        if self.seed < 0:
            raise InputError(f"seed must not be negative, but is {self.seed}")
        if self.num_events is not None and self.num_events > self.job_size * (BLOCKS_PER_SEED - 1):
            raise InputError(
                f"{self.num_events} {self.event_unit} take more than {BLOCKS_PER_SEED - 1} jobs; "
                f"give larger job_{self.event_unit}"
            )

    def make_job(self, number: int) -> GenerationJob:
        """Job `number`, counted from 1."""
        left = self.job_size if self.num_events is None else self.num_events - (number - 1) * self.job_size
        return GenerationJob(self, number, num_events=min(self.job_size, left), num_objects=self.num_objects)

    def iter_jobs(self) -> Iterator[GenerationJob]:
        """Jobs in order: as many as `events` need, or without end (the caller stops at the last one)."""
        if self.num_events is None:
            yield from map(self.make_job, range(1, BLOCKS_PER_SEED))
            raise InputError(
                f"{BLOCKS_PER_SEED - 1} jobs of {self.job_size} do not hold "
                f"{self.num_objects} {self.object_name}"
            )
        yield from map(self.make_job, range(1, 1 + math.ceil(self.num_events / self.job_size)))


@dataclass(frozen=True)
class GenerationJob:
    """A part of a request: at most `events` generated events, fewer where `wanted` objects are enough."""

    request: GenerationRequest
    number: int
    num_events: int
    num_objects: int | None

    @property
    def luminosity_block(self) -> int:
        """The luminosityBlock of its events."""
        return luminosity_block(self.request.seed, self.number)


class JobResult(NamedTuple):
    """What a job made.

    chunk: stored events; stored: objects that count in each of them; reached: the stage (index in the
    sample's STAGES) that each generated event reached, `final` for a stored one; weights: of the generated
    events; facts: numbers of the whole job, such as its cross-section.
    """

    chunk: EventChunk
    stored: NDArray[np.int64]
    stage_reached: NDArray[np.int8]
    weights: NDArray[np.float64]
    final_stage: int
    metadata: Mapping[str, float] = {}

    def truncate(self, num_objects: int) -> Self:
        """As if generation had stopped at the event with this object."""
        total = np.cumsum(self.stored)
        if not len(total) or num_objects >= total[-1]:
            return self
        events = int(np.searchsorted(total, num_objects)) + 1
        last = int(np.flatnonzero(self.stage_reached == self.final_stage)[events - 1]) + 1
        return self._replace(
            chunk=self.chunk.head(events),
            stored=self.stored[:events],
            stage_reached=self.stage_reached[:last],
            weights=self.weights[:last],
        )


@dataclass(frozen=True)
class GenerationTotals:
    """What went into a file.

    cutflow: events left after each stage; of each job, events: stored, objects: stored in these, made:
    generated, facts: as in Yield; sumw, sumw2: of the weights of the generated events.
    """

    cutflow: Mapping[str, int] = field(default_factory=dict)
    stored_per_job: tuple[int, ...] = ()
    objects_per_job: tuple[int, ...] = ()
    generated_per_job: tuple[int, ...] = ()
    job_metadata: tuple[Mapping[str, float], ...] = ()
    sumw: float = 0.0
    sumw2: float = 0.0

    @property
    def generated(self) -> int:
        """Generated events behind the file."""
        return sum(self.generated_per_job)

    def add_job(self, result: JobResult) -> Self:
        """With one job more, the cutflow apart."""
        return replace(
            self,
            stored_per_job=(*self.stored_per_job, len(result.stored)),
            objects_per_job=(*self.objects_per_job, int(result.stored.sum())),
            generated_per_job=(*self.generated_per_job, len(result.stage_reached)),
            job_metadata=(*self.job_metadata, result.metadata),
            sumw=self.sumw + float(result.weights.sum()),
            sumw2=self.sumw2 + float((result.weights**2).sum()),
        )


@dataclass(frozen=True)
class GenerationSummary:
    """What `generate` made.

    events: generated events behind the file, or what `unit` says; stored: objects stored (`noun` names them);
    jobs: how many; cutflow: events left after each stage; seconds: wall time.
    """

    out: Path
    process: str
    seed: int
    num_events: int
    num_stored: int
    object_name: str
    num_jobs: int
    cutflow: dict[str, int]
    seconds: float
    event_unit: str = "events"

    @property
    def candidates(self) -> int:
        """The stored objects, in samples with one candidate an event."""
        return self.num_stored


def generate_sample(
    run_job: Callable[[GenerationJob], JobResult],
    request: GenerationRequest,
    *,
    out: Path,
    branches: Mapping[str, str],
    collections: Mapping[str, Mapping[str, str]],
    stages: Sequence[str],
    write_metadata: Callable[[SampleWriter, GenerationTotals], None],
    workers: int = 1,
    compact: bool = False,
    basket_size: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> GenerationSummary:
    """Run the jobs of a request and write their events to `out`, which appears whole or not at all.

    run: of the top level of a module, for it is sent to processes; finish: writes what stands beside the
    events; progress: called after each job with the events generated, or objects stored, so far.
    """
    started = time.perf_counter()
    if workers <= 0:
        raise InputError(f"workers must be above 0, not {workers}")
    cutflow = np.zeros(len(stages), dtype=np.int64)
    tally = GenerationTotals()
    with (
        open_sample_writer(
            out, event_branches=branches, collections=collections, compact=compact, basket_size=basket_size
        ) as writer,
        closing(map_ordered(run_job, request.iter_jobs(), workers=workers)) as results,
    ):
        for result in _truncate_results(results, request.num_objects):
            writer.extend(result.chunk)
            cutflow += _count_stages(result.stage_reached, len(stages))
            tally = tally.add_job(result)
            if progress:
                progress(int(cutflow[0]) if request.num_objects is None else sum(tally.objects_per_job))
        tally = replace(tally, cutflow=dict(zip(stages, cutflow.tolist(), strict=True)))
        write_metadata(writer, tally)
    return GenerationSummary(
        out=out,
        process=request.process,
        seed=request.seed,
        num_events=tally.generated,
        num_stored=sum(tally.objects_per_job),
        object_name=request.object_name,
        num_jobs=len(tally.objects_per_job),
        cutflow=dict(tally.cutflow),
        seconds=time.perf_counter() - started,
        event_unit=request.event_unit,
    )


def regenerate_job(
    run_job: Callable[[GenerationJob], JobResult],
    request: GenerationRequest,
    *,
    job_number: int,
    num_events: int,
    num_objects: int,
) -> ak.Array:
    """The `events` that job `number` stored, `objects` in them, made again: fields as the file's branches."""
    # Past its last object a job need not go on.
    job = replace(request.make_job(job_number), num_objects=num_objects or None)
    return run_job(job).chunk.head(num_events).to_awkward()


def _truncate_results(results: Iterable[JobResult], num_objects: int | None) -> Iterator[JobResult]:
    """Results up to the last object that is wanted, or all."""
    stored = 0
    for result in results:
        part = result if num_objects is None else result.truncate(num_objects - stored)
        stored += int(part.stored.sum())
        yield part
        if num_objects is not None and stored >= num_objects:
            return


def _count_stages(stage_reached: NDArray[np.int8], num_stages: int) -> NDArray[np.int64]:
    """Events that reached each stage or a later one."""
    return np.bincount(stage_reached, minlength=num_stages)[::-1].cumsum()[::-1]
