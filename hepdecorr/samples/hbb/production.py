"""generate: a file of a process from a seed; regenerate: any of its jobs again."""

from __future__ import annotations

from functools import partial

from hepdecorr.samples.hbb import processes, selection
from hepdecorr.samples.lhc import production

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

generate = partial(production.generate, SAMPLE)
regenerate = partial(production.regenerate, SAMPLE)
