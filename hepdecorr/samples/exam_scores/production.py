"""generate: a file of exam scores from a seed and a number of schools; regenerate: a job of it again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from pathlib import Path

import awkward as ak
import numpy as np

import hepdecorr
from hepdecorr.catalogue import suggest
from hepdecorr.errors import InputError
from hepdecorr.samples.columns import Chunk
from hepdecorr.samples.exam_scores.distribution import Options, draw
from hepdecorr.samples.jobs import seeds
from hepdecorr.samples.production import Job, Request, Summary, Tally, Yield, produce, remake
from hepdecorr.samples.rootfile import SampleWriter, read_provenance

VERSION = 1
PROCESSES = ("schools",)
STAGES = ("generated",)
JOB_GROUPS = 4096
STREAM = 201  # beyond the run numbers that other samples draw from
# Schools of one seed; those of other seeds are numbered from elsewhere, so that files can be joined.
SCHOOLS = 1_000_000
SEEDS_APART = 4_000
BRANCHES = {
    "run": "uint32",
    "luminosityBlock": "uint32",
    "event": "uint64",
    **dict.fromkeys(("x", "mu", "sigma", "v"), "float32"),
    "label": "int32",
}


def generate(
    process: str = PROCESSES[0],
    *,
    out: Path | str,
    groups: int = 32_768,
    seed: int = 1,
    options: Options | None = None,
    workers: int = 1,
    job_groups: int = JOB_GROUPS,
    progress: Callable[[int], None] | None = None,
) -> Summary:
    """Write the ROOT file `out` with the students of so many schools, `run` being the number of the school.

    Same arguments, same content, for any number of `workers`.  The file appears whole or not at all.
    Raises InputError for arguments out of range and a folder that cannot be written to.
    """
    if process not in PROCESSES:
        raise InputError(f"exam-scores has no process {process!r}{suggest(process, PROCESSES)}")
    if groups > SCHOOLS:
        raise InputError(
            f"{groups} schools are more than the {SCHOOLS} of one seed; join files of more seeds"
        )
    request = _request(process, seed, groups, job_groups, options or Options())
    return produce(
        run,
        request,
        out=Path(out),
        branches=BRANCHES,
        collections={},
        stages=STAGES,
        finish=partial(_finish, request),
        workers=workers,
        progress=progress,
    )


def run(job: Job) -> Yield:
    """Draw the schools of a job, which are what it counts, and their students, which are its events."""
    request, schools = job.request, job.events
    _, rng = seeds(request.seed, stream=STREAM, job=job.number)
    made = draw(schools, rng, request.options)
    size = len(made.x)
    first = request.seed % SEEDS_APART * SCHOOLS + (job.number - 1) * request.size + 1
    columns = {
        "run": first + made.school,
        "luminosityBlock": np.full(size, job.luminosity_block),
        "event": made.student,
        **{name: getattr(made, name) for name in ("x", "mu", "sigma", "v")},
        "label": np.zeros(size),
    }
    return Yield(
        chunk=Chunk({name: columns[name].astype(kind) for name, kind in BRANCHES.items()}, {}),
        stored=np.ones(size, dtype=np.int64),
        reached=np.zeros(schools, dtype=np.int8),
        weights=np.ones(schools),
        final=0,
    )


def _request(process: str, seed: int, groups: int, size: int, options: Options) -> Request:
    return Request(process, seed, groups, None, size, options, noun="students", unit="schools")


def _finish(request: Request, writer: SampleWriter, tally: Tally) -> None:
    # Only what the content depends on: no date, no number of workers.
    writer.provenance(
        {
            "version": VERSION,
            "sample": "exam-scores",
            "process": request.process,
            "seed": request.seed,
            "asked": {"groups": request.events, "job_groups": request.size},
            "options": asdict(request.options),
            "generated": tally.generated,
            "cutflow": tally.cutflow,
            "events_per_job": tally.events,
            "versions": {
                "hepdecorr": hepdecorr.__version__,
                **{name: version(name) for name in ("numpy", "awkward", "uproot")},
            },
        }
    )


def regenerate(path: Path | str, job: int) -> ak.Array:
    """The students of one job (from 1) of a file, made again: fields as the branches of the file."""
    made = read_provenance(path)
    if made.get("sample") != "exam-scores" or made.get("version") != VERSION:
        raise InputError(f"{path}: not an exam-scores sample of version {VERSION}")
    sizes = made["events_per_job"]
    if not 1 <= job <= len(sizes):
        raise InputError(f"{path}: no job {job}; it has jobs 1 to {len(sizes)}")
    asked = made["asked"]
    options = Options(**made["options"])
    request = _request(made["process"], made["seed"], asked["groups"], asked["job_groups"], options)
    return remake(run, request, number=job, events=sizes[job - 1], objects=sizes[job - 1])
