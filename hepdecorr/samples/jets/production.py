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
from hepdecorr.catalogue import suggest
from hepdecorr.errors import InputError
from hepdecorr.samples.columns import Chunk, join
from hepdecorr.samples.jets import layout
from hepdecorr.samples.jets.clustering import cluster, fastjet_module, substructure
from hepdecorr.samples.jets.detector import MANTISSA_BITS, detect
from hepdecorr.samples.jets.generation import Batch, CrossSection, Generator, settings
from hepdecorr.samples.jets.options import PROCESSES, Options
from hepdecorr.samples.jets.truth import origin
from hepdecorr.samples.jobs import seeds
from hepdecorr.samples.keeping import keeping
from hepdecorr.samples.production import Job, Request, Summary, Tally, Yield, produce, remake
from hepdecorr.samples.pythia import pythia8
from hepdecorr.samples.rootfile import SampleWriter, read_provenance

VERSION = 1
STAGES = ("generated", "jet")
# About ten seconds; to initialise takes half a second of it.
JOB_EVENTS = 1_000
# Where each has another mass: so many values in a sample that its spectrum has no teeth.
SPECTRUM_EVENTS = 200
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
    options: Options | None = None,
    job_events: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Summary:
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
    settled = (options or Options()).settled(process)
    usual = JOB_EVENTS if settled.boson_mass_max is None else SPECTRUM_EVENTS
    size = usual if job_events is None else job_events
    request = Request(process, seed, events, jets, size, settled, noun="jets")
    pythia8()
    fastjet_module()
    out = Path(out)
    about = {"sample": "jets", "sample_version": str(VERSION), **_versions()}
    with keeping(run, request, out=out, **about) as kept:
        return produce(
            kept,
            request,
            out=out,
            branches=layout.EVENT_BRANCHES,
            collections=layout.LAYOUTS[settled.layout].collections,
            stages=STAGES,
            finish=partial(_finish, request),
            workers=workers,
            basket=BASKET_EVENTS,
            progress=progress,
        )


def run(job: Job) -> Yield:
    """Generate, detect and cluster the events of a job."""
    request = job.request
    pythia_seed, rng = seeds(request.seed, stream=layout.RUN[request.process], job=job.number)
    options = request.options.of_job(seed=request.seed, job=job.number)
    generator = Generator(request.process, options, seed=pythia_seed)
    chunks: list[Chunk] = []
    stages: list[NDArray[np.int8]] = []
    weights: list[NDArray[np.float64]] = []
    done = stored = 0
    while done < job.events and (job.wanted is None or stored < job.wanted):
        batch = generator(min(BATCH_EVENTS, job.events - done))
        chunk, reached = _reconstruct(batch, job, rng=rng, first_event=done)
        chunks.append(chunk)
        stages.append(reached)
        weights.append(batch.weight)
        done += batch.size
        stored += int(chunk.collections["FatJet"].counts.sum())
    chunk = join(chunks)
    return Yield(
        chunk=chunk,
        stored=chunk.collections["FatJet"].counts,
        reached=np.concatenate(stages),
        weights=np.concatenate(weights),
        final=len(STAGES) - 1,
        facts=generator.cross_section()._asdict(),
    )


def _reconstruct(
    batch: Batch, job: Job, *, rng: np.random.Generator, first_event: int
) -> tuple[Chunk, NDArray[np.int8]]:
    options: Options = job.request.options
    candidates = detect(batch.final, rng)
    jets = cluster(candidates, events=batch.size, radius=options.radius, pt_min=options.pt_min)
    chunk = layout.build(
        jets,
        candidates,
        shapes=substructure(jets, candidates, radius=options.radius),
        truth=origin(jets, batch, radius=options.radius),
        batch=batch,
        layout=layout.LAYOUTS[options.layout],
        run=layout.RUN[job.request.process],
        luminosity_block=job.luminosity_block,
        first_event=first_event,
    )
    reached = np.zeros(batch.size, dtype=np.int8)
    reached[jets.event] = 1
    return chunk, reached


def cross_section(tally: Tally) -> CrossSection:
    """The mean over the jobs, by their generated events."""
    made = np.array(tally.made, dtype=np.float64)
    value, error = (np.array([facts[name] for facts in tally.facts]) for name in CrossSection._fields)
    total = made.sum()
    return CrossSection(
        float((made * value).sum() / total), float(np.sqrt(((made * error) ** 2).sum()) / total)
    )


def _finish(request: Request, writer: SampleWriter, tally: Tally) -> None:
    found = cross_section(tally)
    numbers: dict[str, NDArray[Any]] = {
        "run": np.array([layout.RUN[request.process]], dtype=np.uint32),
        "genEventCount": np.array([tally.generated], dtype=np.int64),
        "genEventSumw": np.array([tally.sumw]),
        "genEventSumw2": np.array([tally.sumw2]),
        "crossSection": np.array([found.value]),
        "crossSectionError": np.array([found.error]),
    }
    writer.table("Runs", numbers)
    writer.provenance(_provenance(request, tally, found))


def _provenance(request: Request, tally: Tally, found: CrossSection) -> dict[str, Any]:
    """How the file was made.  Only what its content depends on: no date, no number of workers.

    An event counts `cross_section_pb / sumw * genWeight` pb.  `pythia` has the settings of the first job;
    `boson_mass_per_job` in what the others differ.
    """
    jobs = [request.options.of_job(seed=request.seed, job=1 + i) for i in range(len(tally.made))]
    return {
        "version": VERSION,
        "sample": "jets",
        "process": request.process,
        "seed": request.seed,
        "asked": {"events": request.events, "jets": request.wanted, "job_events": request.size},
        "options": asdict(request.options),
        "generated": tally.generated,
        "sumw": tally.sumw,
        "sumw2": tally.sumw2,
        "cross_section_pb": found.value,
        "cross_section_error_pb": found.error,
        "cutflow": tally.cutflow,
        "events_per_job": tally.events,
        "jets_per_job": tally.objects,
        "pythia": settings(request.process, request.options.of_job(seed=request.seed, job=1)),
        "boson_mass_per_job": [one.boson_mass for one in jobs],
        "mantissa_bits": {
            f"{layout.LAYOUTS[request.options.layout].candidates}_{name}": MANTISSA_BITS
            for name in ("pt", "eta", "phi")
        },
        "versions": _versions(),
    }


def _versions() -> dict[str, str]:
    libraries = ("pythia8mc", "fastjet", "numpy", "awkward", "uproot")
    return {"hepdecorr": hepdecorr.__version__, **{name: version(name) for name in libraries}}


def regenerate(path: Path | str, job: int) -> ak.Array:
    """The events of one job (from 1) of a file of jets, made again: fields as the branches of the file.

    In the file they are those whose `luminosityBlock` is `luminosity_block(seed, job)`.
    The same Pythia and fastjet (`read_provenance(path)["versions"]`) give the same events.
    """
    made = read_provenance(path)
    if made.get("sample") != "jets" or made.get("version") != VERSION:
        raise InputError(f"{path}: not a jets sample of version {VERSION}")
    events, objects = made["events_per_job"], made["jets_per_job"]
    if not 1 <= job <= len(events):
        raise InputError(f"{path}: no job {job}; it has jobs 1 to {len(events)}")
    asked = made["asked"]
    request = Request(
        process=made["process"],
        seed=made["seed"],
        events=asked["events"],
        wanted=asked["jets"],
        size=asked["job_events"],
        options=Options(**made["options"]),
        noun="jets",
    )
    return remake(run, request, number=job, events=events[job - 1], objects=objects[job - 1])
