"""generate and regenerate of a sample of whole collisions, which says what is its own in a `Sample`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import awkward as ak
import numpy as np
from numpy.typing import NDArray

import hepdecorr
from hepdecorr.errors import InputError, suggest
from hepdecorr.samples.checkpoints import cache_results
from hepdecorr.samples.columns import Collection, Columns, EventChunk, concatenate_chunks
from hepdecorr.samples.jets.clustering import import_fastjet
from hepdecorr.samples.jets.production import mean_cross_section
from hepdecorr.samples.jobs import job_seeds
from hepdecorr.samples.lhc.generation import CollisionGenerator, CollisionOptions, EventRecord
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
# Events that Pythia hands over at once, 200 kB each with multiparton interactions.
BATCH_EVENTS = 250
BASKET_EVENTS = 20_000
EVENT_BRANCHES = {
    "run": "uint32",
    "luminosityBlock": "uint32",
    "event": "uint64",
    "genWeight": "float32",
    "PuppiMET_pt": "float32",
    "PuppiMET_phi": "float32",
}


class SelectedEvents(NamedTuple):
    """What is stored of a batch.

    stored: rows of the events, rising; columns, collections: of these; reached: the stage that each
    generated event reached.
    """

    rows: NDArray[np.int64]
    columns: Columns
    collections: dict[str, Collection]
    stage_reached: NDArray[np.int8]


@dataclass(frozen=True)
class CollisionSample:
    """A sample of collisions.

    runs: its processes, and the `run` of each; settings: their lines for Pythia; incoming: the flavour that
    the hard process of some must begin with; reconstruct: of the top level of a module, for it is sent to
    processes; job_events: generated events a job.
    """

    name: str
    run_numbers: Mapping[str, int]
    pythia_settings: Callable[[str], list[str]]
    incoming_flavour: Mapping[str, int]
    reconstruct: Callable[[EventRecord, np.random.Generator], SelectedEvents]
    stages: tuple[str, ...]
    collections: Mapping[str, Mapping[str, str]]
    job_events: int


def generate(
    sample: CollisionSample,
    process: str,
    *,
    out: Path | str,
    events: int | None = None,
    candidates: int | None = None,
    seed: int = 1,
    workers: int = 1,
    options: CollisionOptions | None = None,
    job_events: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> GenerationSummary:
    """Write the ROOT file `out` with the selected events of a process of the sample.

    Give `events` to generate or `candidates` (selected events) to store.  Same arguments, same content, for
    any number of `workers` (processes; they are spawned, so a script needs `if __name__ == "__main__":`).
    job_events: generated events a job.  progress: called after each job with the events generated, or
    candidates stored, so far.  The file appears whole or not at all; interrupted, the same call goes on from
    the jobs that wait beside it.  Raises InputError for arguments out of range, a folder that cannot be
    written to, no Pythia or no fastjet.
    """
    if process not in sample.run_numbers:
        raise InputError(f"{sample.name} has no process {process!r}{suggest(process, sample.run_numbers)}")
    size = sample.job_events if job_events is None else job_events
    request = GenerationRequest(process, seed, events, candidates, size, options or CollisionOptions())
    import_pythia8()
    import_fastjet()
    out = Path(out)
    about = {"sample": sample.name, "sample_version": str(SAMPLE_VERSION), **_library_versions()}
    with cache_results(partial(_run_job, sample), request, out=out, **about) as run:
        return generate_sample(
            run,
            request,
            out=out,
            branches=EVENT_BRANCHES,
            collections=sample.collections,
            stages=sample.stages,
            write_metadata=partial(_write_provenance, sample, request),
            workers=workers,
            basket_size=BASKET_EVENTS,
            progress=progress,
        )


def regenerate(sample: CollisionSample, path: Path | str, job: int) -> ak.Array:
    """The events of one job (from 1) of a file of `generate`, made again: fields as the file's branches.

    In the file they are those whose `luminosityBlock` is `luminosity_block(seed, job)`.
    """
    made = read_provenance(path)
    if made.get("sample") != sample.name or made.get("version") != SAMPLE_VERSION:
        raise InputError(f"{path}: not a sample of {sample.name} of version {SAMPLE_VERSION}")
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
        options=CollisionOptions(**made["options"]),
    )
    count = stored[job - 1]
    return regenerate_job(
        partial(_run_job, sample), request, job_number=job, num_events=count, num_objects=count
    )


def _run_job(sample: CollisionSample, job: GenerationJob) -> JobResult:
    """Generate, detect and select the events of a job."""
    request = job.request
    pythia_seed, rng = job_seeds(request.seed, stream=sample.run_numbers[request.process], job=job.number)
    generator = CollisionGenerator(
        sample.pythia_settings(request.process),
        process=request.process,
        options=request.options,
        seed=pythia_seed,
        incoming_flavour=sample.incoming_flavour.get(request.process),
    )
    chunks: list[EventChunk] = []
    stages: list[NDArray[np.int8]] = []
    weights: list[NDArray[np.float64]] = []
    done = stored = 0
    while done < job.num_events and (job.num_objects is None or stored < job.num_objects):
        record = generator(min(BATCH_EVENTS, job.num_events - done))
        chosen = sample.reconstruct(record, rng)
        chunks.append(_build_chunk(sample, job, record=record, selected=chosen, first_event=done))
        stages.append(chosen.stage_reached)
        weights.append(record.weight)
        done += record.num_events
        stored += len(chosen.rows)
    return JobResult(
        chunk=concatenate_chunks(chunks),
        stored=np.ones(stored, dtype=np.int64),
        stage_reached=np.concatenate(stages),
        weights=np.concatenate(weights),
        final_stage=len(sample.stages) - 1,
        metadata=generator.cross_section()._asdict(),
    )


def _build_chunk(
    sample: CollisionSample,
    job: GenerationJob,
    *,
    record: EventRecord,
    selected: SelectedEvents,
    first_event: int,
) -> EventChunk:
    count = len(selected.rows)
    values: dict[str, Any] = {
        "run": sample.run_numbers[job.request.process],
        "luminosityBlock": job.luminosity_block,
        "event": first_event + selected.rows,
        "genWeight": record.weight[selected.rows],
        **selected.columns,
    }
    columns = {
        name: np.broadcast_to(np.asarray(values[name], dtype=dtype), (count,))
        for name, dtype in EVENT_BRANCHES.items()
    }
    return EventChunk(columns, selected.collections)


def _write_provenance(
    sample: CollisionSample, request: GenerationRequest, writer: SampleWriter, tally: GenerationTotals
) -> None:
    value, error = mean_cross_section(tally)
    stored = sum(tally.stored_per_job) / tally.generated
    writer.write_provenance(
        {
            "version": SAMPLE_VERSION,
            "sample": sample.name,
            "process": request.process,
            "seed": request.seed,
            "asked": {
                "events": request.num_events,
                "candidates": request.num_objects,
                "job_events": request.job_size,
            },
            "options": asdict(request.options),
            "generated": tally.generated,
            "sumw": tally.sumw,
            "sumw2": tally.sumw2,
            "cross_section_pb": value,
            "cross_section_error_pb": error,
            # Of what is in the file: what `xsec` of a dataset wants, whose events are weighed by their sum.
            "stored_cross_section_pb": value * stored,
            "cutflow": tally.cutflow,
            "candidates_per_job": tally.stored_per_job,
            "pythia": sample.pythia_settings(request.process),
            "incoming": sample.incoming_flavour.get(request.process),
            "versions": _library_versions(),
        }
    )


def _library_versions() -> dict[str, str]:
    libraries = ("pythia8mc", "fastjet", "numpy", "awkward", "uproot")
    return {"hepdecorr": hepdecorr.__version__, **{name: version(name) for name in libraries}}
