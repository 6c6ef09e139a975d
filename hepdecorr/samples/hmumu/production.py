"""generate: a file of a process from a seed; regenerate: any of its jobs again."""

from __future__ import annotations

from functools import partial

from hepdecorr.samples.hmumu import processes, selection
from hepdecorr.samples.lhc import production

PROCESSES = tuple(processes.RUN)
SAMPLE = production.Sample(
    name="hmumu",
    runs=processes.RUN,
    settings=processes.settings,
    incoming={},
    reconstruct=selection.reconstruct,
    stages=selection.STAGES,
    collections=selection.COLLECTIONS,
    job_events=5_000,
)

generate = partial(production.generate, SAMPLE)
regenerate = partial(production.regenerate, SAMPLE)
