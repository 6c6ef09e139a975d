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
from hepdecorr.catalogue import suggest
from hepdecorr.errors import InputError
from hepdecorr.samples.columns import Chunk, Collection, Columns, join
from hepdecorr.samples.jets.clustering import fastjet_module
from hepdecorr.samples.jets.production import cross_section
from hepdecorr.samples.jobs import seeds
from hepdecorr.samples.keeping import keeping
from hepdecorr.samples.lhc.generation import Generator, Options, Record
from hepdecorr.samples.production import Job, Request, Summary, Tally, Yield, produce, remake
from hepdecorr.samples.pythia import pythia8
from hepdecorr.samples.rootfile import SampleWriter, read_provenance

VERSION = 1
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


class Chosen(NamedTuple):
    """What is stored of a batch.

    stored: rows of the events, rising; columns, collections: of these; reached: the stage that each
    generated event reached.
    """

    stored: NDArray[np.int64]
    columns: Columns
    collections: dict[str, Collection]
    reached: NDArray[np.int8]


@dataclass(frozen=True)
class Sample:
    """A sample of collisions.

    runs: its processes, and the `run` of each; settings: their lines for Pythia; incoming: the flavour that
    the hard process of some must begin with; reconstruct: of the top level of a module, for it is sent to
    processes; job_events: generated events a job.
    """

    name: str
    runs: Mapping[str, int]
    settings: Callable[[str], list[str]]
    incoming: Mapping[str, int]
    reconstruct: Callable[[Record, np.random.Generator], Chosen]
    stages: tuple[str, ...]
    collections: Mapping[str, Mapping[str, str]]
    job_events: int


def generate(
    sample: Sample,
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
    """Write the ROOT file `out` with the selected events of a process of the sample.

    Give `events` to generate or `candidates` (selected events) to store.  Same arguments, same content, for
    any number of `workers` (processes; they are spawned, so a script needs `if __name__ == "__main__":`).
    job_events: generated events a job.  progress: called after each job with the events generated, or
    candidates stored, so far.  The file appears whole or not at all; interrupted, the same call goes on from
    the jobs that wait beside it.  Raises InputError for arguments out of range, a folder that cannot be
    written to, no Pythia or no fastjet.
    """
    if process not in sample.runs:
        raise InputError(f"{sample.name} has no process {process!r}{suggest(process, sample.runs)}")
    size = sample.job_events if job_events is None else job_events
    request = Request(process, seed, events, candidates, size, options or Options())
    pythia8()
    fastjet_module()
    out = Path(out)
    about = {"sample": sample.name, "sample_version": str(VERSION), **_versions()}
    with keeping(partial(_run, sample), request, out=out, **about) as run:
        return produce(
            run,
            request,
            out=out,
            branches=EVENT_BRANCHES,
            collections=sample.collections,
            stages=sample.stages,
            finish=partial(_finish, sample, request),
            workers=workers,
            basket=BASKET_EVENTS,
            progress=progress,
        )


def regenerate(sample: Sample, path: Path | str, job: int) -> ak.Array:
    """The events of one job (from 1) of a file of `generate`, made again: fields as the file's branches.

    In the file they are those whose `luminosityBlock` is `luminosity_block(seed, job)`.
    """
    made = read_provenance(path)
    if made.get("sample") != sample.name or made.get("version") != VERSION:
        raise InputError(f"{path}: not a sample of {sample.name} of version {VERSION}")
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
        options=Options(**made["options"]),
    )
    count = stored[job - 1]
    return remake(partial(_run, sample), request, number=job, events=count, objects=count)


def _run(sample: Sample, job: Job) -> Yield:
    """Generate, detect and select the events of a job."""
    request = job.request
    pythia_seed, rng = seeds(request.seed, stream=sample.runs[request.process], job=job.number)
    generator = Generator(
        sample.settings(request.process),
        process=request.process,
        options=request.options,
        seed=pythia_seed,
        incoming=sample.incoming.get(request.process),
    )
    chunks: list[Chunk] = []
    stages: list[NDArray[np.int8]] = []
    weights: list[NDArray[np.float64]] = []
    done = stored = 0
    while done < job.events and (job.wanted is None or stored < job.wanted):
        record = generator(min(BATCH_EVENTS, job.events - done))
        chosen = sample.reconstruct(record, rng)
        chunks.append(_chunk(sample, job, record=record, chosen=chosen, first_event=done))
        stages.append(chosen.reached)
        weights.append(record.weight)
        done += record.size
        stored += len(chosen.stored)
    return Yield(
        chunk=join(chunks),
        stored=np.ones(stored, dtype=np.int64),
        reached=np.concatenate(stages),
        weights=np.concatenate(weights),
        final=len(sample.stages) - 1,
        facts=generator.cross_section()._asdict(),
    )


def _chunk(sample: Sample, job: Job, *, record: Record, chosen: Chosen, first_event: int) -> Chunk:
    count = len(chosen.stored)
    values: dict[str, Any] = {
        "run": sample.runs[job.request.process],
        "luminosityBlock": job.luminosity_block,
        "event": first_event + chosen.stored,
        "genWeight": record.weight[chosen.stored],
        **chosen.columns,
    }
    columns = {
        name: np.broadcast_to(np.asarray(values[name], dtype=dtype), (count,))
        for name, dtype in EVENT_BRANCHES.items()
    }
    return Chunk(columns, chosen.collections)


def _finish(sample: Sample, request: Request, writer: SampleWriter, tally: Tally) -> None:
    value, error = cross_section(tally)
    stored = sum(tally.events) / tally.generated
    writer.provenance(
        {
            "version": VERSION,
            "sample": sample.name,
            "process": request.process,
            "seed": request.seed,
            "asked": {"events": request.events, "candidates": request.wanted, "job_events": request.size},
            "options": asdict(request.options),
            "generated": tally.generated,
            "sumw": tally.sumw,
            "sumw2": tally.sumw2,
            "cross_section_pb": value,
            "cross_section_error_pb": error,
            # Of what is in the file: what `xsec` of a dataset wants, whose events are weighed by their sum.
            "stored_cross_section_pb": value * stored,
            "cutflow": tally.cutflow,
            "candidates_per_job": tally.events,
            "pythia": sample.settings(request.process),
            "incoming": sample.incoming.get(request.process),
            "versions": _versions(),
        }
    )


def _versions() -> dict[str, str]:
    libraries = ("pythia8mc", "fastjet", "numpy", "awkward", "uproot")
    return {"hepdecorr": hepdecorr.__version__, **{name: version(name) for name in libraries}}
