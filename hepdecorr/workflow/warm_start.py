"""Taggers that start from the weights of another."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from hepdecorr.config.schema import Config
from hepdecorr.errors import InputError, suggest

START_FROM_KEY = "start_from"


WEIGHTS_FILE = "weights.npz"  # in the folder of a tagger that another one can start from


T = TypeVar("T")


def find_parent_tagger(config: Config, tagger: str) -> str:
    """The tagger of this config that it goes on from; "" for none, or where a path says what."""
    name = str(config.taggers[tagger].get(START_FROM_KEY, ""))
    return name if name in config.taggers else ""


def check_start_from(config: Config, tagger: str) -> None:
    """InputError where what it goes on from is neither a tagger nor a file, or goes on from it in turn."""
    name = str(config.taggers[tagger].get(START_FROM_KEY, ""))
    place = config.base / name
    if name and name not in config.taggers and "{" not in name and not _weights_path(place).is_file():
        raise InputError(
            f"{START_FROM_KEY}: {name!r} is no tagger of this config{suggest(name, config.taggers)}, and "
            f"there is no {_weights_path(place)}"
        )
    list_ancestors(config, tagger)


def list_ancestors(config: Config, tagger: str) -> list[str]:
    """The taggers that come before it, the nearest first; InputError where it is among them."""
    seen = [tagger]
    while one := find_parent_tagger(config, seen[-1]):
        if one in seen:
            raise InputError(
                f"{START_FROM_KEY}: {' goes on from '.join([*seen, one])}; one of them must begin anew"
            )
        seen.append(one)
    return seen[1:]


def list_weight_files(config: Config, tagger: str, *, seed: int) -> list[Path]:
    """The weights that a path names, if they are there: what they are decides over the result."""
    name = str(config.taggers[tagger].get(START_FROM_KEY, "")).replace("{seed}", str(seed))
    path = _weights_path(config.base / name)
    return [path] if name and not find_parent_tagger(config, tagger) and path.is_file() else []


def split_by_dependency(
    jobs: Sequence[T], config: Config, *, tagger_of: Callable[[T], str]
) -> Iterator[list[T]]:
    """The jobs in parts, each of which waits for those before it: first those that need no other of them."""
    left = list(jobs)
    while left:
        names = {tagger_of(job) for job in left}
        ready = [
            job for job in left if find_parent_tagger(config, tagger_of(job)) not in names - {tagger_of(job)}
        ]
        yield ready
        left = [job for job in left if job not in ready]


def _weights_path(path: Path) -> Path:
    return path if path.suffix == Path(WEIGHTS_FILE).suffix else path / WEIGHTS_FILE
