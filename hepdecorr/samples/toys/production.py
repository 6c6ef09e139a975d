"""generate: a file of a toy from its name, a seed and a number of events; regenerate: a job of it again."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np

import hepdecorr
from hepdecorr.catalogue import suggest
from hepdecorr.errors import InputError
from hepdecorr.samples.columns import Chunk
from hepdecorr.samples.jobs import seeds
from hepdecorr.samples.production import Job, Request, Summary, Tally, Yield, produce, remake
from hepdecorr.samples.rootfile import SampleWriter, read_provenance
from hepdecorr.samples.toys.distributions import TOYS

VERSION = 1
PROCESSES = tuple(TOYS)
STAGES = ("generated",)
JOB_EVENTS = 100_000
# Beyond those of the other samples.
RUN = {process: 101 + number for number, process in enumerate(PROCESSES)}
BRANCHES = {
    "run": "uint32",
    "luminosityBlock": "uint32",
    "event": "uint64",
    **dict.fromkeys(("x1", "x2", "z"), "float32"),
    "label": "int32",
}


def generate(
    process: str,
    *,
    out: Path | str,
    events: int,
    seed: int = 1,
    workers: int = 1,
    job_events: int = JOB_EVENTS,
    progress: Callable[[int], None] | None = None,
) -> Summary:
    """Write the ROOT file `out` with so many events of a toy, one of PROCESSES, both classes mixed.

    Same arguments, same content, for any number of `workers`.  The file appears whole or not at all.
    Raises InputError for arguments out of range and a folder that cannot be written to.
    """
    if process not in PROCESSES:
        raise InputError(f"toys has no process {process!r}{suggest(process, PROCESSES)}")
    request = Request(process, seed, events, None, job_events, None, noun="events")
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
    """Draw the events of a job."""
    request, size = job.request, job.events
    _, rng = seeds(request.seed, stream=RUN[request.process], job=job.number)
    columns: dict[str, Any] = {
        "run": np.full(size, RUN[request.process]),
        "luminosityBlock": np.full(size, job.luminosity_block),
        "event": np.arange(1, size + 1),
        **TOYS[request.process](size, rng)._asdict(),
    }
    return Yield(
        chunk=Chunk({name: columns[name].astype(kind) for name, kind in BRANCHES.items()}, {}),
        stored=np.ones(size, dtype=np.int64),
        reached=np.zeros(size, dtype=np.int8),
        weights=np.ones(size),
        final=0,
    )


def _finish(request: Request, writer: SampleWriter, tally: Tally) -> None:
    # Only what the content depends on: no date, no number of workers.
    writer.provenance(
        {
            "version": VERSION,
            "sample": "toys",
            "process": request.process,
            "seed": request.seed,
            "asked": {"events": request.events, "job_events": request.size},
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
    """The events of one job (from 1) of a file of a toy, made again: fields as the branches of the file."""
    made = read_provenance(path)
    if made.get("sample") != "toys" or made.get("version") != VERSION:
        raise InputError(f"{path}: not a toys sample of version {VERSION}")
    sizes = made["events_per_job"]
    if not 1 <= job <= len(sizes):
        raise InputError(f"{path}: no job {job}; it has jobs 1 to {len(sizes)}")
    asked = made["asked"]
    request = Request(
        made["process"], made["seed"], asked["events"], None, asked["job_events"], None, noun="events"
    )
    return remake(run, request, number=job, events=sizes[job - 1], objects=sizes[job - 1])
