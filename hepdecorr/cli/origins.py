"""Taggers that go on from another one: `start_from: NAME` in a tagger's block."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from hepdecorr import catalogue
from hepdecorr.config import Config
from hepdecorr.errors import InputError

KEY = "start_from"
WEIGHTS = "weights.npz"  # in the folder of a tagger that another one can start from

T = TypeVar("T")


def origin(config: Config, tagger: str) -> str:
    """The tagger of this config that it goes on from; "" for none, or where a path says what."""
    name = str(config.taggers[tagger].get(KEY, ""))
    return name if name in config.taggers else ""


def check(config: Config, tagger: str) -> None:
    """InputError where what it goes on from is neither a tagger nor a file, or goes on from it in turn."""
    name = str(config.taggers[tagger].get(KEY, ""))
    place = config.base / name
    if name and name not in config.taggers and "{" not in name and not _weights(place).is_file():
        raise InputError(
            f"{KEY}: {name!r} is no tagger of this config{catalogue.suggest(name, config.taggers)}, and "
            f"there is no {_weights(place)}"
        )
    chain(config, tagger)


def chain(config: Config, tagger: str) -> list[str]:
    """The taggers that come before it, the nearest first; InputError where it is among them."""
    seen = [tagger]
    while one := origin(config, seen[-1]):
        if one in seen:
            raise InputError(f"{KEY}: {' goes on from '.join([*seen, one])}; one of them must begin anew")
        seen.append(one)
    return seen[1:]


def content(config: Config, tagger: str, *, seed: int) -> list[Path]:
    """The weights that a path names, if they are there: what they are decides over the result."""
    name = str(config.taggers[tagger].get(KEY, "")).replace("{seed}", str(seed))
    path = _weights(config.base / name)
    return [path] if name and not origin(config, tagger) and path.is_file() else []


def waves(jobs: Sequence[T], config: Config, *, tagger: Callable[[T], str]) -> Iterator[list[T]]:
    """The jobs in parts, each of which waits for those before it: first those that need no other of them."""
    left = list(jobs)
    while left:
        names = {tagger(job) for job in left}
        ready = [job for job in left if origin(config, tagger(job)) not in names - {tagger(job)}]
        yield ready
        left = [job for job in left if job not in ready]


def _weights(place: Path) -> Path:
    return place if place.suffix == Path(WEIGHTS).suffix else place / WEIGHTS
