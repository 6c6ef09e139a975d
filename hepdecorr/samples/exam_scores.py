"""The exam scores of 'Context-aware variational autoencoders' (3.1): x = 2 mu + (sigma^2 + 1) v + eps.

Moments: E x = 0, Var x = 4 + E(sigma^2 + 1)^2 + noise^2 = 10 + noise^2, and within a school of given sigma
Var x = (sigma^2 + 1)^2 + noise^2.  Only sigma^2 acts: the sign of sigma cannot be learnt.

generate: a file of exam scores from a seed and a number of schools; regenerate: a job of it again.

Exam scores of students in schools, the context-aware VAE's task: no single student tells of the school.

The process stands in `distribution`, with its source.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

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

__all__ = [
    "PROCESSES",
    "ExamScoreOptions",
    "GenerationSummary",
    "compute_noiseless_score",
    "generate",
    "luminosity_block",
    "regenerate",
]


Floats = NDArray[np.float64]

MEAN_EXTRA_STUDENTS, MIN_STUDENTS = 16, 8  # K ~ Poisson(16) + 8
SCHOOLS_PER_BATCH = 64  # schools of one batch in the authors' code, which gives all of them one K


@dataclass(frozen=True)
class ExamScoreOptions:
    """noise: standard deviation of eps, which the paper leaves open; the authors' code has none.

    same_size: 64 schools after one another share their size, as in the authors' code; else each has its own.
    """

    noise: float = 0.5
    same_size: bool = False

    def __post_init__(self) -> None:
        if not (np.isfinite(self.noise) and self.noise >= 0):
            raise InputError(f"noise must not be below 0, but is {self.noise}")


class StudentScores(NamedTuple):
    """One number a student: school from 0, place in it from 1, the school's mu and sigma, own v, score x."""

    school: NDArray[np.int64]
    student: NDArray[np.int64]
    mu: Floats
    sigma: Floats
    v: Floats
    x: Floats


def compute_noiseless_score(mu: Floats, sigma: Floats, v: Floats) -> Floats:
    """The score without its noise, 2 mu + (sigma^2 + 1) v."""
    return 2 * mu + (sigma**2 + 1) * v


def draw_school_sizes(schools: int, rng: np.random.Generator, *, same_size: bool) -> NDArray[np.int64]:
    """Students of each school."""
    batch = SCHOOLS_PER_BATCH if same_size else 1
    drawn = MIN_STUDENTS + rng.poisson(MEAN_EXTRA_STUDENTS, -(-schools // batch))
    return np.repeat(drawn, batch)[:schools]


def draw_scores(schools: int, rng: np.random.Generator, options: ExamScoreOptions) -> StudentScores:
    """All students of so many schools; mu, sigma and v are unit Gaussians."""
    count = draw_school_sizes(schools, rng, same_size=options.same_size)
    mu, sigma = (np.repeat(rng.standard_normal(schools), count) for _ in range(2))
    v, eps = rng.standard_normal((2, count.sum()))
    before = np.cumsum(count) - count
    return StudentScores(
        school=np.repeat(np.arange(schools), count),
        student=1 + np.arange(count.sum()) - np.repeat(before, count),
        mu=mu,
        sigma=sigma,
        v=v,
        x=compute_noiseless_score(mu, sigma, v) + options.noise * eps,
    )


SAMPLE_VERSION = 1
PROCESSES = ("schools",)
STAGES = ("generated",)
JOB_GROUPS = 4096
RANDOM_STREAM = 201  # beyond the run numbers that other samples draw from
# Schools of one seed; those of other seeds are numbered from elsewhere, so that files can be joined.
SCHOOLS_PER_SEED = 1_000_000
NUM_SEED_OFFSETS = 4_000
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
    options: ExamScoreOptions | None = None,
    workers: int = 1,
    job_groups: int = JOB_GROUPS,
    progress: Callable[[int], None] | None = None,
) -> GenerationSummary:
    """Write the ROOT file `out` with the students of so many schools, `run` being the number of the school.

    Same arguments, same content, for any number of `workers`.  The file appears whole or not at all.
    Raises InputError for arguments out of range and a folder that cannot be written to.
    """
    if process not in PROCESSES:
        raise InputError(f"exam-scores has no process {process!r}{suggest(process, PROCESSES)}")
    if groups > SCHOOLS_PER_SEED:
        raise InputError(
            f"{groups} schools are more than the {SCHOOLS_PER_SEED} of one seed; join files of more seeds"
        )
    request = _make_request(process, seed, groups, job_groups, options or ExamScoreOptions())
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
    """Draw the schools of a job, which are what it counts, and their students, which are its events."""
    request, schools = job.request, job.num_events
    _, rng = job_seeds(request.seed, stream=RANDOM_STREAM, job=job.number)
    made = draw_scores(schools, rng, request.options)
    size = len(made.x)
    first = request.seed % NUM_SEED_OFFSETS * SCHOOLS_PER_SEED + (job.number - 1) * request.job_size + 1
    columns = {
        "run": first + made.school,
        "luminosityBlock": np.full(size, job.luminosity_block),
        "event": made.student,
        **{name: getattr(made, name) for name in ("x", "mu", "sigma", "v")},
        "label": np.zeros(size),
    }
    return JobResult(
        chunk=EventChunk({name: columns[name].astype(kind) for name, kind in BRANCHES.items()}, {}),
        stored=np.ones(size, dtype=np.int64),
        stage_reached=np.zeros(schools, dtype=np.int8),
        weights=np.ones(schools),
        final_stage=0,
    )


def _make_request(
    process: str, seed: int, groups: int, size: int, options: ExamScoreOptions
) -> GenerationRequest:
    return GenerationRequest(
        process, seed, groups, None, size, options, object_name="students", event_unit="schools"
    )


def _write_provenance(request: GenerationRequest, writer: SampleWriter, tally: GenerationTotals) -> None:
    # Only what the content depends on: no date, no number of workers.
    writer.write_provenance(
        {
            "version": SAMPLE_VERSION,
            "sample": "exam-scores",
            "process": request.process,
            "seed": request.seed,
            "asked": {"groups": request.num_events, "job_groups": request.job_size},
            "options": asdict(request.options),
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
    """The students of one job (from 1) of a file, made again: fields as the branches of the file."""
    made = read_provenance(path)
    if made.get("sample") != "exam-scores" or made.get("version") != SAMPLE_VERSION:
        raise InputError(f"{path}: not an exam-scores sample of version {SAMPLE_VERSION}")
    sizes = made["events_per_job"]
    if not 1 <= job <= len(sizes):
        raise InputError(f"{path}: no job {job}; it has jobs 1 to {len(sizes)}")
    asked = made["asked"]
    options = ExamScoreOptions(**made["options"])
    request = _make_request(made["process"], made["seed"], asked["groups"], asked["job_groups"], options)
    return regenerate_job(
        run_job, request, job_number=job, num_events=sizes[job - 1], num_objects=sizes[job - 1]
    )
