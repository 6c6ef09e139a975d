"""The toys of the papers and practicals: (events, rng) -> x1, x2, z and label, each of shape (events,).

Sources: LKC: Louppe, Kagan, Cranmer, 'Learning to pivot', 1611.01046, 5.1.  Practicals: M. Borisyak's at
MLHEP 2019 (pivot-toy-1, -2, -3) and the slides that go with them.  Seminar: M. Zgubic, 'Independence of a NN
classifier from a continuous parameter', MLHEP 2019.  Both classes are equally frequent unless z decides.

generate: a file of a toy from its name, a seed and a number of events; regenerate: a job of it again.

Toys: two features, a label and a nuisance z whose part in them is known in closed form.

The distributions stand in `distributions`, each with its source.  docs/toys.md says what each one teaches.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import awkward as ak
import numpy as np
from numpy.typing import NDArray

import hepdecorr
from hepdecorr.errors import InputError, suggest
from hepdecorr.samples.columns import EventChunk
from hepdecorr.samples.jobs import job_seeds
from hepdecorr.samples.production import (
    GenerationJob,
    GenerationRequest,
    GenerationSummary,
    GenerationTotals,
    JobResult,
    generate_sample,
    luminosity_block,
    regenerate_job,
)
from hepdecorr.samples.root_file import SampleWriter, read_provenance

__all__ = ["PROCESSES", "TOYS", "GenerationSummary", "generate", "luminosity_block", "regenerate"]


Floats = NDArray[np.float64]
Rng = np.random.Generator

NUM_Z_VALUES = 5  # of the discrete z: 0, 1, 2, 3, 4
DISCRETE_NOISE = 0.05  # of x2 in `discrete`
SLIDES_SIGMA = 1.0  # of x2 in `slides`, where the slide leaves it open


class ToyEvents(NamedTuple):
    """Events of a toy, one number an event in each field."""

    x1: Floats
    x2: Floats
    z: Floats
    label: NDArray[np.int32]


def draw_louppe(num_events: int, rng: Rng) -> ToyEvents:
    """x|0 ~ N((0, 0), [[1, -1/2], [-1/2, 1]]), x|1, z ~ N((1, 1 + z), 1), z ~ N(0, 1) for both (LKC 5.1).

    Only the signal depends on z; H(z) = ln(2 pi e) / 2 = 1.4189 nats.
    """
    label = _draw_labels(num_events, rng)
    z = rng.standard_normal(num_events)
    x1, x2 = np.where(
        label == 1, _draw_round_gaussian(1.0, z, rng), _draw_correlated_gaussian(num_events, rng)
    )
    return ToyEvents(x1, x2, z, label)


def draw_zgubic(num_events: int, rng: Rng) -> ToyEvents:
    """As `louppe`, but x|1, z ~ N((1, 1 + z), 1/2), and z = 0 for the background (Seminar, 1).

    z itself gives the label away: no score that separates is independent of z over all events, as one can be
    within the signal.
    """
    label = _draw_labels(num_events, rng)
    z = np.where(label == 1, rng.standard_normal(num_events), 0.0)
    x1, x2 = np.where(
        label == 1, _draw_round_gaussian(np.sqrt(0.5), z, rng), _draw_correlated_gaussian(num_events, rng)
    )
    return ToyEvents(x1, x2, z, label)


def draw_discrete(num_events: int, rng: Rng) -> ToyEvents:
    """z ~ U{0, ..., 4}, x1 ~ U(-1, 1), x2 ~ N(z / 4, 0.05^2), label = [(x1 + 1) / 2 < x2] (toy 2).

    P(label = 1 | z) = z / 4 but for the noise: the label depends on z.
    """
    z = rng.integers(0, NUM_Z_VALUES, num_events).astype(np.float64)
    x1 = rng.uniform(-1, 1, num_events)
    x2 = z / 4 + DISCRETE_NOISE * rng.standard_normal(num_events)
    return ToyEvents(x1, x2, z, ((x1 + 1) / 2 < x2).astype(np.int32))


def draw_slides(num_events: int, rng: Rng) -> ToyEvents:
    """z ~ U{0, ..., 4}, x1 ~ U(0, 1), x2 ~ N(z, sigma^2), label = [x2 > x1] (the slides' example).

    As it is printed there: `discrete` divides z by 4.  Where z is 3 or 4 there is hardly any background.
    The slide gives no sigma; here it is 1.
    """
    z = rng.integers(0, NUM_Z_VALUES, num_events).astype(np.float64)
    x1 = rng.uniform(0, 1, num_events)
    x2 = z + SLIDES_SIGMA * rng.standard_normal(num_events)
    return ToyEvents(x1, x2, z, (x2 > x1).astype(np.int32))


def draw_unused(num_events: int, rng: Rng) -> ToyEvents:
    """'Independence is not: unused' (Practicals, toy 3): z = x1 is an input that no classifier can spare.

    x1 ~ U(0.1, 0.9) with a gap of 0.2 opened at 1/2; x2 = x1 (signal) or 1 - x1 (background), plus
    U(-1, 1) (x1 - 1/2)^2: two lines that cross.  The label can be told from x1 and x2 together, from neither
    alone, and is independent of z.
    """
    label = _draw_labels(num_events, rng)
    x1 = rng.uniform(0.1, 0.9, num_events)
    x1 += 0.1 * np.sign(x1 - 0.5)
    x2 = np.where(label == 1, x1, 1 - x1) + rng.uniform(-1, 1, num_events) * (x1 - 0.5) ** 2
    return ToyEvents(x1, x2, x1.copy(), label)


def _draw_labels(num_events: int, rng: Rng) -> NDArray[np.int32]:
    return rng.integers(0, 2, num_events, dtype=np.int32)


def _draw_round_gaussian(width: float, z: Floats, rng: Rng) -> Floats:
    """N((1, 1 + z), width^2 1), (2, events)."""
    centre = np.stack([np.ones_like(z), 1 + z])
    return centre + width * rng.standard_normal((2, len(z)))


def _draw_correlated_gaussian(num_events: int, rng: Rng) -> Floats:
    """Two Gaussians of unit width with correlation -1/2, (2, events)."""
    first, second = rng.standard_normal((2, num_events))
    return np.stack([first, -0.5 * first + np.sqrt(0.75) * second])


# `regression` is Louppe's distribution, with the small training sample of Practicals, toy 1, in its config.
TOYS: Mapping[str, Callable[[int, Rng], ToyEvents]] = {
    "louppe": draw_louppe,
    "regression": draw_louppe,
    "discrete": draw_discrete,
    "unused": draw_unused,
    "slides": draw_slides,
    "zgubic": draw_zgubic,
}


SAMPLE_VERSION = 1
PROCESSES = tuple(TOYS)
STAGES = ("generated",)
JOB_EVENTS = 100_000
# Beyond those of the other samples.
RUN_NUMBERS = {process: 101 + number for number, process in enumerate(PROCESSES)}
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
) -> GenerationSummary:
    """Write the ROOT file `out` with so many events of a toy, one of PROCESSES, both classes mixed.

    Same arguments, same content, for any number of `workers`.  The file appears whole or not at all.
    Raises InputError for arguments out of range and a folder that cannot be written to.
    """
    if process not in PROCESSES:
        raise InputError(f"toys has no process {process!r}{suggest(process, PROCESSES)}")
    request = GenerationRequest(process, seed, events, None, job_events, None, object_name="events")
    return generate_sample(
        run_job,
        request,
        out=Path(out),
        branches=BRANCHES,
        collections={},
        stages=STAGES,
        write_metadata=partial(_write_provenance, request),
        workers=workers,
        progress=progress,
    )


def run_job(job: GenerationJob) -> JobResult:
    """Draw the events of a job."""
    request, size = job.request, job.num_events
    _, rng = job_seeds(request.seed, stream=RUN_NUMBERS[request.process], job=job.number)
    columns: dict[str, Any] = {
        "run": np.full(size, RUN_NUMBERS[request.process]),
        "luminosityBlock": np.full(size, job.luminosity_block),
        "event": np.arange(1, size + 1),
        **TOYS[request.process](size, rng)._asdict(),
    }
    return JobResult(
        chunk=EventChunk({name: columns[name].astype(kind) for name, kind in BRANCHES.items()}, {}),
        stored=np.ones(size, dtype=np.int64),
        stage_reached=np.zeros(size, dtype=np.int8),
        weights=np.ones(size),
        final_stage=0,
    )


def _write_provenance(request: GenerationRequest, writer: SampleWriter, tally: GenerationTotals) -> None:
    # Only what the content depends on: no date, no number of workers.
    writer.write_provenance(
        {
            "version": SAMPLE_VERSION,
            "sample": "toys",
            "process": request.process,
            "seed": request.seed,
            "asked": {"events": request.num_events, "job_events": request.job_size},
            "generated": tally.generated,
            "cutflow": tally.cutflow,
            "events_per_job": tally.stored_per_job,
            "versions": {
                "hepdecorr": hepdecorr.__version__,
                **{name: version(name) for name in ("numpy", "awkward", "uproot")},
            },
        }
    )


def regenerate(path: Path | str, job: int) -> ak.Array:
    """The events of one job (from 1) of a file of a toy, made again: fields as the branches of the file."""
    made = read_provenance(path)
    if made.get("sample") != "toys" or made.get("version") != SAMPLE_VERSION:
        raise InputError(f"{path}: not a toys sample of version {SAMPLE_VERSION}")
    sizes = made["events_per_job"]
    if not 1 <= job <= len(sizes):
        raise InputError(f"{path}: no job {job}; it has jobs 1 to {len(sizes)}")
    asked = made["asked"]
    request = GenerationRequest(
        made["process"], made["seed"], asked["events"], None, asked["job_events"], None, object_name="events"
    )
    return regenerate_job(
        run_job, request, job_number=job, num_events=sizes[job - 1], num_objects=sizes[job - 1]
    )
