"""Errors that a user can act on, with the location of the value at fault."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

_LISTED = 40  # names that a message still lists


class InputError(ValueError):
    """The input does not fit: the message names the culprit and says what to do.

    The command line prints it without a traceback and exits with code 2.  It is pickled unchanged, so that
    it travels from a worker process to the one that prints it.

    Args:
        message: What is wrong and what to do.
        location: Keys and indices that lead to the value at fault, relative to the block being read.
    """

    def __init__(self, message: str, location: tuple[str | int, ...] = ()) -> None:
        super().__init__(message, location)
        self.message, self.location = message, location

    def __str__(self) -> str:
        path = format_location(self.location)
        return f"{path}: {self.message}" if path else self.message


def format_location(location: Iterable[str | int]) -> str:
    """Write a location as `terms[0].strength`.

    Args:
        location: Keys and indices, outermost first.

    Returns:
        The path; empty for an empty location.
    """
    path = ""
    for key in location:
        path += f"[{key}]" if isinstance(key, int) else f".{key}" if path else str(key)
    return path


@contextmanager
def located(*keys: str | int) -> Iterator[None]:
    """Prepend keys to the location of an InputError that is raised inside.

    Args:
        *keys: Keys and indices of the block that is read inside.

    Raises:
        InputError: The one raised inside, with the longer location.
    """
    try:
        yield
    except InputError as err:
        raise InputError(err.message, (*keys, *err.location)) from err.__cause__


def suggest(name: object, known: Iterable[object]) -> str:
    """Suggest the nearest known name for an unknown one.

    Args:
        name: Unknown name; anything that YAML can hold.
        known: Known names.

    Returns:
        '; did you mean ...?' if a known name is close, else '; known are ...'.
    """
    name, names = str(name), sorted(map(str, known))
    near = difflib.get_close_matches(name, names, 1)
    if near:
        return f"; did you mean {near[0]!r}?"
    if len(names) > _LISTED:
        few = difflib.get_close_matches(name, names, 5, cutoff=0.0)
        return f"; of the {len(names)} known the nearest are {', '.join(few)}"
    return f"; known are {', '.join(names) or 'none'}"
