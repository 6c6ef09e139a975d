"""generate: a file from a process, a seed and a number of events; regenerate: any of its jobs again."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import awkward as ak
import numpy as np
from numpy.typing import NDArray

import hepdecorr
from hepdecorr.catalogue import suggest
from hepdecorr.errors import InputError
from hepdecorr.samples.bsgamma import generation, layout
from hepdecorr.samples.bsgamma.candidates import PHOTON_STAR_MIN, STAGES, Options, find_candidates
from hepdecorr.samples.bsgamma.detector import detect
from hepdecorr.samples.bsgamma.generation import PROCESSES, Batch, Particles
from hepdecorr.samples.columns import Chunk, compacted, join
from hepdecorr.samples.jobs import ordered, seeds
from hepdecorr.samples.rootfile import read_provenance, writing

VERSION = 1
JOB_EVENTS = {"signal": 25_000, "continuum": 100_000}
# Events that Pythia hands over at once, 6 kB each.
BATCH_EVENTS = 5_000
# Luminosity blocks of one seed; the block numbers of other seeds begin elsewhere.
BLOCKS = 100_000
SEEDS_APART = 20_000


@dataclass(frozen=True)
class Summary:
    """What `generate` made.

    events: generated events behind the file (its sum of weights); candidates: stored; cutflow: events left
    after each stage; seconds: wall time.
    """

    out: Path
    process: str
    seed: int
    events: int
    candidates: int
    jobs: int
    cutflow: dict[str, int]
    seconds: float


@dataclass(frozen=True)
class Request:
    """What is asked for: `events` to generate or `candidates` to store, in jobs of `size` generated events.

    Raises InputError for what cannot be had.
    """

    process: str
    seed: int
    events: int | None
    candidates: int | None
    size: int
    options: Options

    def __post_init__(self) -> None:
        if (self.events is None) == (self.candidates is None):
            raise InputError("give either the events to generate or the candidates to store")
        for name in ("events", "candidates", "size"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise InputError(f"{name.replace('size', 'job_events')} must be above 0, not {value}")
        if self.seed < 0:
            raise InputError(f"seed must not be negative, but is {self.seed}")
        if self.events is not None and self.events > self.size * (BLOCKS - 1):
            raise InputError(f"{self.events} events take more than {BLOCKS - 1} jobs; give larger job_events")

    def job(self, number: int) -> Job:
        """Job `number`, counted from 1."""
        left = self.size if self.events is None else self.events - (number - 1) * self.size
        return Job(self, number, events=min(self.size, left), candidates=self.candidates)

    def jobs(self) -> Iterator[Job]:
        """Jobs in order: as many as `events` need, or without end (the caller stops at the last one)."""
        if self.events is None:
            yield from map(self.job, range(1, BLOCKS))
            raise InputError(f"{BLOCKS - 1} jobs of {self.size} do not hold {self.candidates} candidates")
        yield from map(self.job, range(1, 1 + math.ceil(self.events / self.size)))


@dataclass(frozen=True)
class Job:
    """A part of a request: at most `events` generated events, fewer where `candidates` are enough."""

    request: Request
    number: int
    events: int
    candidates: int | None


class Yield(NamedTuple):
    """What a job made: stored events, and the stage (index in STAGES) that each generated event reached."""

    chunk: Chunk
    reached: NDArray[np.int8]

    def head(self, candidates: int) -> Yield:
        """As if generation had stopped at this candidate."""
        if candidates >= len(self.chunk):
            return self
        last = int(np.flatnonzero(self.reached == len(STAGES) - 1)[candidates - 1])
        return Yield(self.chunk.head(candidates), self.reached[: last + 1])


def generate(
    process: str,
    *,
    out: Path | str,
    events: int | None = None,
    candidates: int | None = None,
    seed: int = 1,
    workers: int = 1,
    options: Options | None = None,
    job_events: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Summary:
    """Write the ROOT file `out` with candidates of B -> K*0 gamma from "signal" or "continuum".

    Give `events` to generate or `candidates` to store.  Same arguments, same content, for any number of
    `workers` (processes; they are spawned, so a script needs `if __name__ == "__main__":`).
    job_events: generated events a job.  progress: called after each job with the events generated, or
    candidates stored, so far.  The file appears whole or not at all.
    Raises InputError for arguments out of range, a folder that cannot be written to, or no Pythia.
    """
    started = time.perf_counter()
    out = Path(out)
    if process not in PROCESSES:
        raise InputError(f"bsgamma has no process {process!r}{suggest(process, PROCESSES)}")
    if workers <= 0:
        raise InputError(f"workers must be above 0, not {workers}")
    size = JOB_EVENTS[process] if job_events is None else job_events
    request = Request(process, seed, events, candidates, size, options or Options())
    generation.pythia8()
    cutflow = np.zeros(len(STAGES), dtype=np.int64)
    stored: list[int] = []
    with (
        writing(
            out,
            events=layout.EVENT_BRANCHES,
            collections=layout.COLLECTION_BRANCHES,
            compact=request.options.compact,
        ) as writer,
        closing(ordered(run, request.jobs(), workers=workers)) as results,
    ):
        for result in _until(results, candidates):
            writer.extend(result.chunk)
            stored.append(len(result.chunk))
            cutflow += _cutflow(result.reached)
            if progress:
                progress(int(cutflow[0]) if candidates is None else writer.events)
        counts = dict(zip(STAGES, cutflow.tolist(), strict=True))
        writer.provenance(_provenance(request, counts, stored=stored))
    return Summary(
        out=out,
        process=process,
        seed=seed,
        events=counts[STAGES[0]],
        candidates=sum(stored),
        jobs=len(stored),
        cutflow=counts,
        seconds=time.perf_counter() - started,
    )


def _until(results: Iterable[Yield], candidates: int | None) -> Iterator[Yield]:
    """Results up to the last candidate that is wanted, or all."""
    stored = 0
    for result in results:
        wanted = result if candidates is None else result.head(candidates - stored)
        stored += len(wanted.chunk)
        yield wanted
        if stored == candidates:
            return


def _provenance(request: Request, cutflow: dict[str, int], *, stored: list[int]) -> dict[str, Any]:
    """How the file was made.  Only what its content depends on: no date, no number of workers."""
    return {
        "version": VERSION,
        "sample": "bsgamma",
        "process": request.process,
        "seed": request.seed,
        "asked": {
            "events": request.events,
            "candidates": request.candidates,
            "job_events": request.size,
        },
        "options": asdict(request.options),
        "generated": cutflow[STAGES[0]],
        "sumw": float(cutflow[STAGES[0]]),
        "cutflow": cutflow,
        "candidates_per_job": stored,
        "pythia": generation.settings(request.process, isr=request.options.isr),
        "mantissa_bits": layout.COMPACT_BITS if request.options.compact else {},
        "versions": {
            "hepdecorr": hepdecorr.__version__,
            **{name: version(name) for name in ("pythia8mc", "numpy", "awkward", "uproot")},
        },
    }


def regenerate(path: Path | str, job: int) -> ak.Array:
    """The events of one job (from 1) of a bsgamma file, made again: fields as the branches of the file.

    In the file they are those whose `luminosityBlock` is `luminosity_block(seed, job)`.
    The same Pythia (`read_provenance(path)["versions"]`) gives the same events.
    """
    made = read_provenance(path)
    if made.get("sample") != "bsgamma" or made.get("version") != VERSION:
        raise InputError(f"{path}: not a bsgamma sample of version {VERSION}")
    stored = made["candidates_per_job"]
    if not 1 <= job <= len(stored):
        raise InputError(f"{path}: no job {job}; it has jobs 1 to {len(stored)}")
    asked = made["asked"]
    request = Request(
        process=made["process"],
        seed=made["seed"],
        events=asked["events"],
        candidates=asked["candidates"],
        size=asked["job_events"],
        options=Options(**made["options"]),
    )
    # Past its last candidate a job need not go on.
    wanted = replace(request.job(job), candidates=stored[job - 1] or None)
    return run(wanted).head(stored[job - 1]).chunk.branches()


def luminosity_block(seed: int, job: int) -> int:
    """The luminosityBlock of a job: its number, with an offset so that files of two seeds can be joined."""
    return seed % SEEDS_APART * BLOCKS + job


def run(job: Job) -> Yield:
    """Generate, detect and select the events of a job."""
    request = job.request
    pythia_seed, rng = seeds(request.seed, stream=layout.RUN[request.process], job=job.number)
    generator_rng, detector_rng = rng.spawn(2)
    generate_batch = generation.make_generator(
        request.process, seed=pythia_seed, rng=generator_rng, isr=request.options.isr
    )
    parts: list[Yield] = []
    done = stored = 0
    while done < job.events and (job.candidates is None or stored < job.candidates):
        batch = generate_batch(min(BATCH_EVENTS, job.events - done))
        part = _select(batch, job, rng=detector_rng, first_event=done)
        parts.append(part)
        done += batch.size
        stored += len(part.chunk)
    return Yield(join([part.chunk for part in parts]), np.concatenate([part.reached for part in parts]))


def _select(batch: Batch, job: Job, *, rng: np.random.Generator, first_event: int) -> Yield:
    request = job.request
    tracks, photons = detect(hopeful(batch), rng)
    candidates, reached = find_candidates(
        tracks, photons, events=batch.size, rng=rng, options=request.options
    )
    chunk = layout.build(
        tracks,
        photons,
        candidates=candidates,
        flavour=batch.flavour,
        process=request.process,
        luminosity_block=luminosity_block(request.seed, job.number),
        first_event=first_event,
    )
    return Yield(compacted(chunk, layout.COMPACT_BITS) if request.options.compact else chunk, reached)


def hopeful(batch: Batch) -> Particles:
    """Stable particles of the events that can have a hard photon: seven of eight continuum events cannot.

    The detector would have to add 12 %, six standard deviations, to the energy of a photon that falls short.
    """
    particles = batch.particles
    hard = (particles.id == 22) & (particles.p4[:, 3] > PHOTON_STAR_MIN / 1.12)
    wanted = np.zeros(batch.size, dtype=bool)
    wanted[particles.event[hard]] = True
    return particles.take(wanted[particles.event])


def _cutflow(reached: NDArray[np.int8]) -> NDArray[np.int64]:
    """Events that reached each stage or a later one."""
    return np.bincount(reached, minlength=len(STAGES))[::-1].cumsum()[::-1]
