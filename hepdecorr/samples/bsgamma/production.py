"""generate: a file from a process, a seed and a number of events; regenerate: any of its jobs again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
from numpy.typing import NDArray

import hepdecorr
from hepdecorr.catalogue import suggest
from hepdecorr.errors import InputError
from hepdecorr.samples.bsgamma import generation, layout
from hepdecorr.samples.bsgamma.candidates import PHOTON_STAR_MIN, STAGES, Options, find_candidates
from hepdecorr.samples.bsgamma.conditions import Conditions
from hepdecorr.samples.bsgamma.detector import detect
from hepdecorr.samples.bsgamma.generation import PROCESSES, Batch, Particles
from hepdecorr.samples.bsgamma.kinematics import Floats
from hepdecorr.samples.columns import Chunk, compacted, join
from hepdecorr.samples.jobs import seeds
from hepdecorr.samples.keeping import keeping
from hepdecorr.samples.production import Job, Request, Summary, Tally, Yield, produce, remake
from hepdecorr.samples.pythia import pythia8
from hepdecorr.samples.rootfile import SampleWriter, read_provenance

VERSION = 1
JOB_EVENTS = {"signal": 25_000, "continuum": 100_000}
# Events that Pythia hands over at once, 6 kB each.
BATCH_EVENTS = 5_000


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
    candidates stored, so far.  The file appears whole or not at all; interrupted, the same call goes on from
    the jobs that wait beside it.
    Raises InputError for arguments out of range, a folder that cannot be written to, or no Pythia.
    """
    if process not in PROCESSES:
        raise InputError(f"bsgamma has no process {process!r}{suggest(process, PROCESSES)}")
    size = JOB_EVENTS[process] if job_events is None else job_events
    request = Request(process, seed, events, candidates, size, options or Options())
    pythia8()
    out = Path(out)
    about = {"sample": "bsgamma", "sample_version": str(VERSION), **_versions()}
    with keeping(run, request, out=out, **about) as kept:
        return produce(
            kept,
            request,
            out=out,
            branches=layout.event_branches(request.options.conditions),
            collections=layout.COLLECTION_BRANCHES,
            stages=STAGES,
            finish=partial(_finish, request),
            workers=workers,
            compact=request.options.compact,
            progress=progress,
        )


def _finish(request: Request, writer: SampleWriter, tally: Tally) -> None:
    writer.provenance(_provenance(request, tally))


def _provenance(request: Request, tally: Tally) -> dict[str, Any]:
    """How the file was made.  Only what its content depends on: no date, no number of workers."""
    return {
        "version": VERSION,
        "sample": "bsgamma",
        "process": request.process,
        "seed": request.seed,
        "asked": {
            "events": request.events,
            "candidates": request.wanted,
            "job_events": request.size,
        },
        "options": _options(request.options),
        "generated": tally.generated,
        "sumw": tally.sumw,
        "cutflow": tally.cutflow,
        "candidates_per_job": tally.objects,
        "pythia": generation.settings(request.process, isr=request.options.isr),
        "mantissa_bits": layout.COMPACT_BITS if request.options.compact else {},
        "versions": _versions(),
    }


def _options(options: Options) -> dict[str, Any]:
    """As a file tells of them: of conditions only one that has them."""
    told = asdict(options)
    if told["conditions"] is None:
        del told["conditions"]
    return told


def _read_options(told: dict[str, Any]) -> Options:
    conditions = told.get("conditions")
    return Options(**told | {"conditions": None if conditions is None else Conditions(**conditions)})


def _versions() -> dict[str, str]:
    libraries = ("pythia8mc", "numpy", "awkward", "uproot")
    return {"hepdecorr": hepdecorr.__version__, **{name: version(name) for name in libraries}}


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
        wanted=asked["candidates"],
        size=asked["job_events"],
        options=_read_options(made["options"]),
    )
    count = stored[job - 1]
    return remake(run, request, number=job, events=count, objects=count)


def run(job: Job) -> Yield:
    """Generate, detect and select the events of a job."""
    request = job.request
    conditions = request.options.conditions
    pythia_seed, rng = seeds(request.seed, stream=layout.RUN[request.process], job=job.number)
    generator_rng, detector_rng = rng.spawn(2)
    generate_batch = generation.make_generator(
        request.process,
        seed=pythia_seed,
        rng=generator_rng,
        isr=request.options.isr,
        beam_shifts=None if conditions is None else conditions.shifts().beam_shift,
    )
    chunks: list[Chunk] = []
    stages: list[NDArray[np.int8]] = []
    done = stored = 0
    while done < job.events and (job.wanted is None or stored < job.wanted):
        batch = generate_batch(min(BATCH_EVENTS, job.events - done))
        chunk, reached = _select(batch, job, rng=detector_rng, first_event=done)
        chunks.append(chunk)
        stages.append(reached)
        done += batch.size
        stored += len(chunk)
    return Yield(
        chunk=join(chunks),
        stored=np.ones(stored, dtype=np.int64),
        reached=np.concatenate(stages),
        weights=np.ones(done),
        final=len(STAGES) - 1,
    )


def _select(
    batch: Batch, job: Job, *, rng: np.random.Generator, first_event: int
) -> tuple[Chunk, NDArray[np.int8]]:
    request = job.request
    conditions = request.options.conditions
    scale = np.ones(batch.size) if conditions is None else 1.0 + conditions.shifts().photon_scale[batch.run]
    tracks, photons = detect(hopeful(batch, scale), rng, photon_scale=scale)
    candidates, reached = find_candidates(
        tracks, photons, events=batch.size, rng=rng, options=request.options
    )
    chunk = layout.build(
        tracks,
        photons,
        candidates=candidates,
        flavour=batch.flavour,
        run=batch.run,
        process=request.process,
        luminosity_block=job.luminosity_block,
        first_event=first_event,
        conditions=conditions,
    )
    return compacted(chunk, layout.COMPACT_BITS) if request.options.compact else chunk, reached


def hopeful(batch: Batch, photon_scale: Floats) -> Particles:
    """Stable particles of the events that can have a hard photon: seven of eight continuum events cannot.

    photon_scale: factor (events,) of the measured energies.  The detector would have to add 12 %, six
    standard deviations, to the scaled energy of a photon that falls short.
    """
    particles = batch.particles
    measured = photon_scale[particles.event] * particles.p4[:, 3]
    hard = (particles.id == 22) & (measured > PHOTON_STAR_MIN / 1.12)
    wanted = np.zeros(batch.size, dtype=bool)
    wanted[particles.event[hard]] = True
    return particles.take(wanted[particles.event])
