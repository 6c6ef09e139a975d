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
from hepdecorr.errors import InputError, suggest
from hepdecorr.samples.bsgamma import generation, layout
from hepdecorr.samples.bsgamma.candidates import PHOTON_STAR_MIN, STAGES, BsgammaOptions, find_candidates
from hepdecorr.samples.bsgamma.conditions import Conditions
from hepdecorr.samples.bsgamma.detector import simulate_detector
from hepdecorr.samples.bsgamma.generation import PROCESSES, BsgammaBatch, StableParticles
from hepdecorr.samples.bsgamma.kinematics import Floats
from hepdecorr.samples.checkpoints import cache_results
from hepdecorr.samples.columns import EventChunk, concatenate_chunks, round_chunk
from hepdecorr.samples.jobs import job_seeds
from hepdecorr.samples.production import (
    GenerationJob,
    GenerationRequest,
    GenerationSummary,
    GenerationTotals,
    JobResult,
    generate_sample,
    regenerate_job,
)
from hepdecorr.samples.pythia import import_pythia8
from hepdecorr.samples.root_file import SampleWriter, read_provenance

SAMPLE_VERSION = 1
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
    options: BsgammaOptions | None = None,
    job_events: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> GenerationSummary:
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
    request = GenerationRequest(process, seed, events, candidates, size, options or BsgammaOptions())
    import_pythia8()
    out = Path(out)
    about = {"sample": "bsgamma", "sample_version": str(SAMPLE_VERSION), **_library_versions()}
    with cache_results(run_job, request, out=out, **about) as kept:
        return generate_sample(
            kept,
            request,
            out=out,
            branches=layout.event_branches(request.options.conditions),
            collections=layout.COLLECTION_BRANCHES,
            stages=STAGES,
            write_metadata=partial(_write_provenance, request),
            workers=workers,
            compact=request.options.compact,
            progress=progress,
        )


def _write_provenance(request: GenerationRequest, writer: SampleWriter, tally: GenerationTotals) -> None:
    writer.write_provenance(_build_provenance(request, tally))


def _build_provenance(request: GenerationRequest, tally: GenerationTotals) -> dict[str, Any]:
    """How the file was made.  Only what its content depends on: no date, no number of workers."""
    return {
        "version": SAMPLE_VERSION,
        "sample": "bsgamma",
        "process": request.process,
        "seed": request.seed,
        "asked": {
            "events": request.num_events,
            "candidates": request.num_objects,
            "job_events": request.job_size,
        },
        "options": _options_to_dict(request.options),
        "generated": tally.generated,
        "sumw": tally.sumw,
        "cutflow": tally.cutflow,
        "candidates_per_job": tally.objects_per_job,
        "pythia": generation.pythia_settings(request.process, isr=request.options.isr),
        "mantissa_bits": layout.COMPACT_BITS if request.options.compact else {},
        "versions": _library_versions(),
    }


def _options_to_dict(options: BsgammaOptions) -> dict[str, Any]:
    """As a file tells of them: of conditions only one that has them."""
    told = asdict(options)
    if told["conditions"] is None:
        del told["conditions"]
    return told


def _options_from_dict(stored: dict[str, Any]) -> BsgammaOptions:
    conditions = stored.get("conditions")
    return BsgammaOptions(**stored | {"conditions": None if conditions is None else Conditions(**conditions)})


def _library_versions() -> dict[str, str]:
    libraries = ("pythia8mc", "numpy", "awkward", "uproot")
    return {"hepdecorr": hepdecorr.__version__, **{name: version(name) for name in libraries}}


def regenerate(path: Path | str, job: int) -> ak.Array:
    """The events of one job (from 1) of a bsgamma file, made again: fields as the branches of the file.

    In the file they are those whose `luminosityBlock` is `luminosity_block(seed, job)`.
    The same Pythia (`read_provenance(path)["versions"]`) gives the same events.
    """
    made = read_provenance(path)
    if made.get("sample") != "bsgamma" or made.get("version") != SAMPLE_VERSION:
        raise InputError(f"{path}: not a bsgamma sample of version {SAMPLE_VERSION}")
    stored = made["candidates_per_job"]
    if not 1 <= job <= len(stored):
        raise InputError(f"{path}: no job {job}; it has jobs 1 to {len(stored)}")
    asked = made["asked"]
    request = GenerationRequest(
        process=made["process"],
        seed=made["seed"],
        num_events=asked["events"],
        num_objects=asked["candidates"],
        job_size=asked["job_events"],
        options=_options_from_dict(made["options"]),
    )
    count = stored[job - 1]
    return regenerate_job(run_job, request, job_number=job, num_events=count, num_objects=count)


def run_job(job: GenerationJob) -> JobResult:
    """Generate, detect and select the events of a job."""
    request = job.request
    conditions = request.options.conditions
    pythia_seed, rng = job_seeds(request.seed, stream=layout.RUN_NUMBERS[request.process], job=job.number)
    generator_rng, detector_rng = rng.spawn(2)
    generate_batch = generation.make_generator(
        request.process,
        seed=pythia_seed,
        rng=generator_rng,
        isr=request.options.isr,
        beam_shifts=None if conditions is None else conditions.shifts().beam_shift,
    )
    chunks: list[EventChunk] = []
    stages: list[NDArray[np.int8]] = []
    done = stored = 0
    while done < job.num_events and (job.num_objects is None or stored < job.num_objects):
        batch = generate_batch(min(BATCH_EVENTS, job.num_events - done))
        chunk, reached = _process_batch(batch, job, rng=detector_rng, first_event=done)
        chunks.append(chunk)
        stages.append(reached)
        done += batch.num_events
        stored += len(chunk)
    return JobResult(
        chunk=concatenate_chunks(chunks),
        stored=np.ones(stored, dtype=np.int64),
        stage_reached=np.concatenate(stages),
        weights=np.ones(done),
        final_stage=len(STAGES) - 1,
    )


def _process_batch(
    batch: BsgammaBatch, job: GenerationJob, *, rng: np.random.Generator, first_event: int
) -> tuple[EventChunk, NDArray[np.int8]]:
    request = job.request
    conditions = request.options.conditions
    scale = (
        np.ones(batch.num_events) if conditions is None else 1.0 + conditions.shifts().photon_scale[batch.run]
    )
    tracks, photons = simulate_detector(preselect_particles(batch, scale), rng, photon_scale=scale)
    candidates, reached = find_candidates(
        tracks, photons, num_events=batch.num_events, rng=rng, options=request.options
    )
    chunk = layout.build_chunk(
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
    return round_chunk(chunk, layout.COMPACT_BITS) if request.options.compact else chunk, reached


def preselect_particles(batch: BsgammaBatch, photon_scale: Floats) -> StableParticles:
    """Stable particles of the events that can have a hard photon: seven of eight continuum events cannot.

    photon_scale: factor (events,) of the measured energies.  The detector would have to add 12 %, six
    standard deviations, to the scaled energy of a photon that falls short.
    """
    particles = batch.particles
    measured = photon_scale[particles.event] * particles.p4[:, 3]
    hard = (particles.id == 22) & (measured > PHOTON_STAR_MIN / 1.12)
    wanted = np.zeros(batch.num_events, dtype=bool)
    wanted[particles.event[hard]] = True
    return particles.take(wanted[particles.event])
