"""Finished jobs on disk until their file is whole, so that an interrupted generation goes on."""

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
from hepdecorr.samples.columns import Chunk, Collection
from hepdecorr.samples.production import Job, Request, Yield


@dataclass(frozen=True)
class Kept:
    """`run`, whose results stay in `folder`: a job that is there is read, not done again."""

    run: Callable[[Job], Yield]
    folder: Path

    def __call__(self, job: Job) -> Yield:
        """The result of a job."""
        path = self.folder / f"{job.number}.npz"
        if path.is_file():
            return load(path)
        result = self.run(job)
        self.folder.mkdir(parents=True, exist_ok=True)
        # Under its name it is whole; another process may be writing the same.
        part = path.with_suffix(f".{os.getpid()}.part")
        save(part, result)
        part.replace(path)
        return result


def save(path: Path, result: Yield) -> None:
    """Arrays and numbers alone: nothing has to be unpickled to read them."""
    chunk = result.chunk
    collections = {name: list(one.columns) for name, one in chunk.collections.items()}
    about = {"collections": collections, "final": result.final, "facts": dict(result.facts)}
    arrays: dict[str, Any] = {"stored": result.stored, "reached": result.reached, "weights": result.weights}
    arrays |= {f"events/{name}": values for name, values in chunk.columns.items()}
    for name, one in chunk.collections.items():
        arrays[f"counts/{name}"] = one.counts
        arrays |= {f"objects/{name}/{key}": values for key, values in one.columns.items()}
    with path.open("wb") as file:
        np.savez(file, about=np.array(json.dumps(about)), **arrays)


def load(path: Path) -> Yield:
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
    return Yield(Chunk(columns, collections), *own, final=about["final"], facts=about["facts"])


@contextlib.contextmanager
def keeping(run: Callable[[Job], Yield], request: Request, *, out: Path, **about: str) -> Iterator[Kept]:
    """`run` with its results kept beside `out` until this ends without an error, that is, with a whole file.

    about: what the jobs depend on beyond the request, such as versions.
    """
    yield Kept(run, folder_of(out, request, **about))
    forget(out)


def folder_of(out: Path, request: Request, **about: str) -> Path:
    """Where the jobs of a request for `out` are kept; `about`: what else they depend on, such as versions."""
    # The request holds all that its jobs depend on.
    key = hashlib.sha256(repr((request, sorted(about.items()))).encode()).hexdigest()[:12]
    return out.with_name(f".{out.name}.{key}.jobs")


def forget(out: Path) -> None:
    """Remove the jobs kept for `out`, those of other requests too."""
    for folder in out.parent.glob(f".{out.name}.*.jobs"):
        shutil.rmtree(folder, ignore_errors=True)
