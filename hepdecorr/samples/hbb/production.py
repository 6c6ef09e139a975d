"""generate: a file of a process from a seed; regenerate: any of its jobs again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import awkward as ak

from hepdecorr.samples.hbb import processes, selection
from hepdecorr.samples.lhc import production
from hepdecorr.samples.lhc.generation import Options
from hepdecorr.samples.production import Summary

PROCESSES = tuple(processes.RUN)
SAMPLE = production.Sample(
    name="hbb",
    runs=processes.RUN,
    settings=processes.settings,
    incoming=processes.INCOMING,
    reconstruct=selection.reconstruct,
    stages=selection.STAGES,
    collections=selection.COLLECTIONS,
    job_events=5_000,
)


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
    """Write the ROOT file `out` with the selected events of "zh", "zbb" or "zz".

    Give `events` to generate or `candidates` (selected events) to store.  Same arguments, same content, for
    any number of `workers` (processes; they are spawned, so a script needs `if __name__ == "__main__":`).
    job_events: generated events a job.  progress: called after each job with the events generated, or
    candidates stored, so far.  The file appears whole or not at all; interrupted, the same call goes on.
    Raises InputError for arguments out of range, a folder that cannot be written to, no Pythia or no fastjet.
    """
    return production.generate(
        SAMPLE,
        process,
        out=out,
        events=events,
        candidates=candidates,
        seed=seed,
        workers=workers,
        options=options,
        job_events=job_events,
        progress=progress,
    )


def regenerate(path: Path | str, job: int) -> ak.Array:
    """The events of one job (from 1) of a file of `generate`, made again: fields as the file's branches.

    In the file they are those whose `luminosityBlock` is `luminosity_block(seed, job)`.
    """
    return production.regenerate(SAMPLE, path, job)
