"""What makes a function a feature, and how features of one chunk share their intermediates."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Concatenate, NamedTuple, ParamSpec, TypeVar, cast

F = TypeVar("F", bound=Callable[..., Any])
P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Description:
    """What stands on an axis: the name, the unit ("" if none) and the title in matplotlib's math.

    `uses` are the features and "constituents" that a user's function is made of; None: it does not say.
    """

    name: str
    unit: str = ""
    title: str = ""
    uses: tuple[str, ...] | None = None


def feature(*, unit: str = "", title: str = "", uses: Iterable[str] | None = None) -> Callable[[F], F]:
    r"""Mark `events -> one number per event` as a feature and say its unit and title.

    A function of jets should say in `uses` which features of this room it calls ("tau21") and whether it
    reads "constituents"; () for branches alone.  One that does not is taken to read constituents: where its
    training table has some, the tagger takes no files whose constituents mean something else.

    >>> @feature(unit="GeV", title=r"$p_T$")
    ... def leading_pt(events):
    ...     return events["Jet"]["pt"][:, 0]
    >>> leading_pt.description.unit
    'GeV'
    """

    made_of = None if uses is None else tuple(uses)

    def mark(function: F) -> F:
        name = function.__name__
        function.description = Description(name, unit, title or name, made_of)  # type: ignore[attr-defined]
        return function

    return mark


Feature = Callable[[Any], Any]


def family(function: Feature, *, name: str, doc: str, unit: str = "", title: str = "") -> Feature:
    """Name one of many features that differ by a number alone, so that it prints and pickles as itself."""
    function.__name__ = function.__qualname__ = name
    function.__doc__ = doc
    return feature(unit=unit, title=title)(function)


class _Chunk(NamedTuple):
    layout: Any
    results: dict[Any, Any]
    asked: set[Any]


# A context variable and not an attribute of the events: slices inherit attributes, threads share them, and
# what is kept there lives as long as the events do.
_CHUNK: ContextVar[_Chunk | None] = ContextVar("chunk", default=None)


@contextmanager
def shared(events: Any) -> Iterator[None]:
    """While it is open, features of these very events compute their intermediates once.

    `compute` opens it for its own call; open it around several calls (several taggers on one chunk) to
    share between them too.  Sliced, masked or changed events are other events: nothing is shared with
    them.  What is shared is freed when the outermost block closes, and belongs to one thread.
    """
    current = _CHUNK.get()
    if current is not None and current.layout is events.layout:
        yield
        return
    opened = _Chunk(events.layout, {}, set())
    token = _CHUNK.set(opened)
    try:
        yield
    finally:
        _CHUNK.reset(token)
        if current is not None:
            current.asked.update(opened.asked)


def asked_for(function: Callable[..., Any], events: Any) -> bool:
    """Whether an intermediate was asked for since `shared(events)` was opened, of these or other events."""
    chunk = _CHUNK.get()
    asked = set() if chunk is None or chunk.layout is not events.layout else chunk.asked
    return inspect.unwrap(function) in asked


def intermediate(function: Callable[Concatenate[Any, P], T]) -> Callable[Concatenate[Any, P], T]:
    """Compute `function(events, *names)` once per `shared` chunk; outside of one, at every call.

    The result is shared: who takes it must not write into it.
    """

    @functools.wraps(function)
    def look_up(events: Any, *args: P.args, **kwargs: P.kwargs) -> T:
        chunk = _CHUNK.get()
        if chunk is not None:
            chunk.asked.add(function)
        if chunk is None or chunk.layout is not events.layout:
            return function(events, *args, **kwargs)
        key = (function, args, tuple(kwargs.items()))
        if key not in chunk.results:
            chunk.results[key] = function(events, *args, **kwargs)
        result: T = chunk.results[key]
        return result

    # mypy takes the name of the first argument for part of the type.
    return cast("Callable[Concatenate[Any, P], T]", look_up)
