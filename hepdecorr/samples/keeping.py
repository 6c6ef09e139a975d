"""Finished jobs on disk until their file is whole, so that an interrupted generation goes on."""

from __future__ import annotations

import hashlib
import os
import pickle
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hepdecorr.samples.production import Job, Request, Yield


@dataclass(frozen=True)
class Kept:
    """`run`, whose results stay in `folder`: a job that is there is read, not done again."""

    run: Callable[[Job], Yield]
    folder: Path

    def __call__(self, job: Job) -> Yield:
        """The result of a job."""
        path = self.folder / f"{job.number}.pickle"
        if path.is_file():
            found: Yield = pickle.loads(path.read_bytes())
            return found
        result = self.run(job)
        self.folder.mkdir(parents=True, exist_ok=True)
        # Under its name it is whole; another process may be writing the same.
        part = path.with_suffix(f".{os.getpid()}.part")
        part.write_bytes(pickle.dumps(result))
        part.replace(path)
        return result


def folder_of(out: Path, request: Request, **about: str) -> Path:
    """Where the jobs of a request for `out` are kept; `about`: what else they depend on, such as versions."""
    # The request holds all that its jobs depend on.
    key = hashlib.sha256(repr((request, sorted(about.items()))).encode()).hexdigest()[:12]
    return out.with_name(f".{out.name}.{key}.jobs")


def forget(out: Path) -> None:
    """Remove the jobs kept for `out`, those of other requests too."""
    for folder in out.parent.glob(f".{out.name}.*.jobs"):
        shutil.rmtree(folder, ignore_errors=True)
