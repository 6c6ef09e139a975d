"""generate: a file of jets from a process and a seed; regenerate: any of its jobs again."""

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
from hepdecorr.samples.checkpoints import cache_results
from hepdecorr.samples.columns import EventChunk, concatenate_chunks
from hepdecorr.samples.jets import layout
from hepdecorr.samples.jets.clustering import cluster_jets, compute_substructure, import_fastjet
from hepdecorr.samples.jets.detector import MANTISSA_BITS, simulate_detector
from hepdecorr.samples.jets.generation import (
    CrossSection,
    JetSampleBatch,
    JetSampleGenerator,
    pythia_settings,
)
from hepdecorr.samples.jets.options import PROCESSES, JetOptions
from hepdecorr.samples.jets.truth import match_jets
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
STAGES = ("generated", "jet")
# About ten seconds; to initialise takes half a second of it.
JOB_EVENTS = 1_000
# Where each has another mass: so many values in a sample that its spectrum has no teeth.
SPECTRUM_JOB_EVENTS = 200
# Events that Pythia hands over at once, 200 kB each.
BATCH_EVENTS = 250
BASKET_EVENTS = 4_000


def generate(
    process: str,
    *,
    out: Path | str,
    events: int | None = None,
    jets: int | None = None,
    seed: int = 1,
    workers: int = 1,
    options: JetOptions | None = None,
    job_events: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> GenerationSummary:
    """Write the ROOT file `out` with the jets of "qcd", "w", "top" or "h4j".

    Give `events` to generate or `jets` to store; with `jets`, the file ends with the event that has the last
    one wanted, so there may be a few more.  Same arguments, same content, for any number of `workers`
    (processes; they are spawned, so a script needs `if __name__ == "__main__":`).
    job_events: generated events a job.  progress: called after each job with the events generated, or
    jets stored, so far.  The file appears whole or not at all; interrupted, the same call goes on from the
    jobs that wait beside it.
    Raises InputError for arguments out of range, a folder that cannot be written to, no Pythia or no fastjet.
    """
    if process not in PROCESSES:
        raise InputError(f"jets has no process {process!r}{suggest(process, PROCESSES)}")
    settled = (options or JetOptions()).resolve(process)
    usual = JOB_EVENTS if settled.boson_mass_max is None else SPECTRUM_JOB_EVENTS
    size = usual if job_events is None else job_events
    request = GenerationRequest(process, seed, events, jets, size, settled, object_name="jets")
    import_pythia8()
    import_fastjet()
    out = Path(out)
    about = {"sample": "jets", "sample_version": str(SAMPLE_VERSION), **_library_versions()}
    with cache_results(run_job, request, out=out, **about) as kept:
        return generate_sample(
            kept,
            request,
            out=out,
            branches=layout.EVENT_BRANCHES,
            collections=layout.LAYOUTS[settled.layout].collections,
            stages=STAGES,
            write_metadata=partial(_write_metadata, request),
            workers=workers,
            basket_size=BASKET_EVENTS,
            progress=progress,
        )


def run_job(job: GenerationJob) -> JobResult:
    """Generate, detect and cluster the events of a job."""
    request = job.request
    pythia_seed, rng = job_seeds(request.seed, stream=layout.RUN_NUMBERS[request.process], job=job.number)
    options = request.options.for_job(seed=request.seed, job=job.number)
    generator = JetSampleGenerator(request.process, options, seed=pythia_seed)
    chunks: list[EventChunk] = []
    stages: list[NDArray[np.int8]] = []
    weights: list[NDArray[np.float64]] = []
    done = stored = 0
    while done < job.num_events and (job.num_objects is None or stored < job.num_objects):
        batch = generator(min(BATCH_EVENTS, job.num_events - done))
        chunk, reached = _process_batch(batch, job, rng=rng, first_event=done)
        chunks.append(chunk)
        stages.append(reached)
        weights.append(batch.weight)
        done += batch.num_events
        stored += int(chunk.collections["FatJet"].counts.sum())
    chunk = concatenate_chunks(chunks)
    return JobResult(
        chunk=chunk,
        stored=chunk.collections["FatJet"].counts,
        stage_reached=np.concatenate(stages),
        weights=np.concatenate(weights),
        final_stage=len(STAGES) - 1,
        metadata=generator.cross_section()._asdict(),
    )


def _process_batch(
    batch: JetSampleBatch, job: GenerationJob, *, rng: np.random.Generator, first_event: int
) -> tuple[EventChunk, NDArray[np.int8]]:
    options: JetOptions = job.request.options
    candidates = simulate_detector(batch.final_state, rng)
    jets = cluster_jets(candidates, num_events=batch.num_events, radius=options.radius, pt_min=options.pt_min)
    chunk = layout.build_chunk(
        jets,
        candidates,
        shapes=compute_substructure(jets, candidates, radius=options.radius),
        truth=match_jets(jets, batch, radius=options.radius),
        batch=batch,
        layout=layout.LAYOUTS[options.layout],
        run=layout.RUN_NUMBERS[job.request.process],
        luminosity_block=job.luminosity_block,
        first_event=first_event,
    )
    reached = np.zeros(batch.num_events, dtype=np.int8)
    reached[jets.event] = 1
    return chunk, reached


def mean_cross_section(tally: GenerationTotals) -> CrossSection:
    """The mean over the jobs, by their generated events."""
    made = np.array(tally.generated_per_job, dtype=np.float64)
    value, error = (np.array([facts[name] for facts in tally.job_metadata]) for name in CrossSection._fields)
    total = made.sum()
    return CrossSection(
        float((made * value).sum() / total), float(np.sqrt(((made * error) ** 2).sum()) / total)
    )


def _write_metadata(request: GenerationRequest, writer: SampleWriter, tally: GenerationTotals) -> None:
    found = mean_cross_section(tally)
    numbers: dict[str, NDArray[Any]] = {
        "run": np.array([layout.RUN_NUMBERS[request.process]], dtype=np.uint32),
        "genEventCount": np.array([tally.generated], dtype=np.int64),
        "genEventSumw": np.array([tally.sumw]),
        "genEventSumw2": np.array([tally.sumw2]),
        "crossSection": np.array([found.value]),
        "crossSectionError": np.array([found.error]),
    }
    writer.write_tree("Runs", numbers)
    writer.write_provenance(_build_provenance(request, tally, found))


def _build_provenance(
    request: GenerationRequest, tally: GenerationTotals, cross_section: CrossSection
) -> dict[str, Any]:
    """How the file was made.  Only what its content depends on: no date, no number of workers.

    An event counts `cross_section_pb / sumw * genWeight` pb.  `pythia` has the settings of the first job;
    `boson_mass_per_job` in what the others differ.
    """
    jobs = [
        request.options.for_job(seed=request.seed, job=1 + i) for i in range(len(tally.generated_per_job))
    ]
    return {
        "version": SAMPLE_VERSION,
        "sample": "jets",
        "process": request.process,
        "seed": request.seed,
        "asked": {"events": request.num_events, "jets": request.num_objects, "job_events": request.job_size},
        "options": asdict(request.options),
        "generated": tally.generated,
        "sumw": tally.sumw,
        "sumw2": tally.sumw2,
        "cross_section_pb": cross_section.value,
        "cross_section_error_pb": cross_section.error,
        "cutflow": tally.cutflow,
        "events_per_job": tally.stored_per_job,
        "jets_per_job": tally.objects_per_job,
        "pythia": pythia_settings(request.process, request.options.for_job(seed=request.seed, job=1)),
        "boson_mass_per_job": [one.boson_mass for one in jobs],
        "mantissa_bits": {
            f"{layout.LAYOUTS[request.options.layout].candidate_table}_{name}": MANTISSA_BITS
            for name in ("pt", "eta", "phi")
        },
        "versions": _library_versions(),
    }


def _library_versions() -> dict[str, str]:
    libraries = ("pythia8mc", "fastjet", "numpy", "awkward", "uproot")
    return {"hepdecorr": hepdecorr.__version__, **{name: version(name) for name in libraries}}


def regenerate(path: Path | str, job: int) -> ak.Array:
    """The events of one job (from 1) of a file of jets, made again: fields as the branches of the file.

    In the file they are those whose `luminosityBlock` is `luminosity_block(seed, job)`.
    The same Pythia and fastjet (`read_provenance(path)["versions"]`) give the same events.
    """
    made = read_provenance(path)
    if made.get("sample") != "jets" or made.get("version") != SAMPLE_VERSION:
        raise InputError(f"{path}: not a jets sample of version {SAMPLE_VERSION}")
    events, objects = made["events_per_job"], made["jets_per_job"]
    if not 1 <= job <= len(events):
        raise InputError(f"{path}: no job {job}; it has jobs 1 to {len(events)}")
    asked = made["asked"]
    request = GenerationRequest(
        process=made["process"],
        seed=made["seed"],
        num_events=asked["events"],
        num_objects=asked["jets"],
        job_size=asked["job_events"],
        options=JetOptions(**made["options"]),
        object_name="jets",
    )
    return regenerate_job(
        run_job, request, job_number=job, num_events=events[job - 1], num_objects=objects[job - 1]
    )
