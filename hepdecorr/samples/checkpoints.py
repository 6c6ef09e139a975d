"""Finished jobs of a generation that are kept on disk."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hepdecorr.errors import InputError
from hepdecorr.samples.columns import Collection, EventChunk
from hepdecorr.samples.production import GenerationJob, GenerationRequest, JobResult


@dataclass(frozen=True)
class CachedJobRunner:
    """`run`, whose results stay in `folder`: a job that is there is read, not done again."""

    run_job: Callable[[GenerationJob], JobResult]
    folder: Path

    def __call__(self, job: GenerationJob) -> JobResult:
        """The result of a job."""
        path = self.folder / f"{job.number}.npz"
        if path.is_file():
            return load_result(path)
        result = self.run_job(job)
        self.folder.mkdir(parents=True, exist_ok=True)
        # Under its name it is whole; another process may be writing the same.
        part = path.with_suffix(f".{os.getpid()}.part")
        save_result(part, result)
        part.replace(path)
        return result


def save_result(path: Path, result: JobResult) -> None:
    """Arrays and numbers alone: nothing has to be unpickled to read them."""
    chunk = result.chunk
    collections = {name: list(one.columns) for name, one in chunk.collections.items()}
    about = {"collections": collections, "final": result.final_stage, "facts": dict(result.metadata)}
    arrays: dict[str, Any] = {
        "stored": result.stored,
        "reached": result.stage_reached,
        "weights": result.weights,
    }
    arrays |= {f"events/{name}": values for name, values in chunk.columns.items()}
    for name, one in chunk.collections.items():
        arrays[f"counts/{name}"] = one.counts
        arrays |= {f"objects/{name}/{key}": values for key, values in one.columns.items()}
    with path.open("wb") as file:
        np.savez(file, about=np.array(json.dumps(about)), **arrays)


def load_result(path: Path) -> JobResult:
    """What `save` wrote; InputError for a damaged file."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as found:
            about = json.loads(str(found["about"]))
            columns = {n.removeprefix("events/"): found[n] for n in found.files if n.startswith("events/")}
            collections = {
                name: Collection(found[f"counts/{name}"], {k: found[f"objects/{name}/{k}"] for k in keys})
                for name, keys in about["collections"].items()
            }
            own = (found["stored"], found["reached"], found["weights"])
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile) as err:
        raise InputError(f"{path}: not a readable job ({err}); delete it to generate it anew") from None
    return JobResult(
        EventChunk(columns, collections), *own, final_stage=about["final"], metadata=about["facts"]
    )


@contextlib.contextmanager
def cache_results(
    run_job: Callable[[GenerationJob], JobResult],
    request: GenerationRequest,
    *,
    out: Path,
    **dependencies: str,
) -> Iterator[CachedJobRunner]:
    """`run` with its results kept beside `out` until this ends without an error, that is, with a whole file.

    about: what the jobs depend on beyond the request, such as versions.
    """
    yield CachedJobRunner(run_job, cache_folder(out, request, **dependencies))
    remove_cache(out)


def cache_folder(out: Path, request: GenerationRequest, **dependencies: str) -> Path:
    """Where the jobs of a request for `out` are kept; `about`: what else they depend on, such as versions."""
    # The request holds all that its jobs depend on.
    key = hashlib.sha256(repr((request, sorted(dependencies.items()))).encode()).hexdigest()[:12]
    return out.with_name(f".{out.name}.{key}.jobs")


def remove_cache(out: Path) -> None:
    """Remove the jobs kept for `out`, those of other requests too."""
    for folder in out.parent.glob(f".{out.name}.*.jobs"):
        shutil.rmtree(folder, ignore_errors=True)
