"""What becomes of a file or chunk that fails: said once, on the worker, where the cause is still known."""

from __future__ import annotations

import contextlib
import io
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import uproot
from awkward.errors import FieldNotFoundError
from coffea.processor import DaskExecutor, FuturesExecutor, IterativeExecutor

from hepdecorr.errors import InputError

Kind = Literal["file", "input", "bug"]

# How coffea's work function announces the stage at which a chunk failed.
_OPENING = ("Failed to open file", "Failed creating nanoevents")
_PROCESSING = "Failed processing file"
_PAUSES = (1.0, 5.0)  # seconds before a remote file is tried again


@dataclass(frozen=True)
class Failure:
    """A file or chunk that failed.

    The kind is 'file' when the file is at fault (unreadable, no such tree or branch), 'input' when the
    processor refused its input, 'bug' for the rest.  `start` and `stop` are 0 and None before the file
    could be opened.
    """

    kind: Kind
    dataset: str
    file: str
    reason: str
    start: int = 0
    stop: int | None = None
    trace: str = ""

    @property
    def events(self) -> int | None:
        """Events that were lost, where that is known."""
        return None if self.stop is None else self.stop - self.start


class Halt(Exception):  # noqa: N818 (it is no error itself)
    """Stops the run, and carries the failure to the driver: an exception's cause does not survive the way."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure)
        self.failure = failure


@dataclass
class Attempt:
    """Calls `function` on a file or chunk; its failure becomes a record (where `skip`) or a Halt.

    Only files are ever skipped: what the processor refuses, and bugs, stop the run.
    """

    function: Callable[[Any], Any]
    skip: bool

    def __call__(self, given: Any) -> Any:
        item = given[0] if isinstance(given, tuple) else given  # Dask pairs the chunk with the processor
        failure = None
        for pause in (*_PAUSES, None):
            try:
                return self.function(given)
            except Exception as err:
                failure = diagnose(err, item)
            if pause is None or failure.kind != "file" or "://" not in item.filename:
                break
            time.sleep(pause)
        assert failure is not None
        if self.skip and failure.kind == "file":
            return {"failures": [failure]}
        raise Halt(failure)


def diagnose(err: Exception, item: Any) -> Failure:
    """Whose fault `err` is, and a reason to show.  `item` is coffea's FileMeta or WorkItem."""
    start, stop = getattr(item, "entrystart", 0), getattr(item, "entrystop", None)
    surveying, text = stop is None, str(err)
    causes = list(_chain(err))
    cause = causes[1] if len(causes) > 1 and text.startswith((*_OPENING, _PROCESSING)) else err
    kind: Kind = "bug"
    if isinstance(cause, ImportError):
        kind = "input"  # xrootd or a compression is not installed: no fault of the file
    elif surveying or text.startswith(_OPENING) or any(map(_reading, causes)) or any(map(_no_branch, causes)):
        kind = "file"
    elif isinstance(cause, InputError):
        kind = "input"
    trace = "".join(traceback.format_exception(cause)) if kind == "bug" else ""
    return Failure(kind, item.dataset, item.filename, reason(cause, item), start, stop, trace)


def reason(err: BaseException, item: Any) -> str:
    """Why a file cannot be used, in one line."""
    if isinstance(err, InputError):
        return str(err)
    if isinstance(err, FileNotFoundError):
        return "there is no such file"
    if isinstance(err, uproot.exceptions.KeyInFileError):
        # coffea passes uproot's words on as a repr
        words = str(err).replace("\\n", " ").partition("Available keys:")[2].partition("in file")[0].split()
        return f"it has no tree {item.treename!r}" + (f"; it has {' '.join(words)}" if words else "")
    local = Path(item.filename)
    if "://" not in item.filename and local.is_file() and local.stat().st_size == 0:
        return "it is empty (0 bytes)"
    text = " ".join(str(err).split())
    if "not a ROOT file" in text:
        return "it is not a ROOT file"
    if _no_branch(err):
        return f"a branch is missing: {text}"
    if "://" in item.filename and isinstance(err, OSError):
        return f"it cannot be reached or read ({text[:120]})"
    if _reading(err) or isinstance(err, OSError):
        return f"it is truncated or damaged ({text[:120]})"
    return f"{type(err).__name__}: {text[:300]}"


def _chain(err: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while err is not None and id(err) not in seen:
        seen.add(id(err))
        yield err
        err = err.__cause__ or err.__context__


def _reading(err: BaseException) -> bool:
    """Whether the error arose while a virtual array was read from the file.

    Read off the modules it passed through, since it can be of any type (OSError, ValueError, zlib.error,
    DeserializationError); a type alone would also take a missing model file for a bad input file.
    """
    modules = [frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(err.__traceback__)]
    mapping = next((i for i, m in enumerate(modules) if m.startswith("coffea.nanoevents.mapping")), None)
    return mapping is not None and any(m.startswith("uproot.") for m in modules[mapping:])


def _no_branch(err: BaseException) -> bool:
    text = str(err)
    # awkward's words, and those of the features room
    return (
        isinstance(err, FieldNotFoundError)
        or (isinstance(err, AttributeError) and text.startswith("no field named"))
        or (isinstance(err, InputError) and ("no branch " in text or "no collection " in text))
    )


@dataclass
class Iterative(IterativeExecutor):
    """coffea's executor in this process, with failures accounted for."""

    skip: bool = False

    def __call__(self, items: Any, function: Any, accumulator: Any) -> Any:
        return super().__call__(items, Attempt(function, self.skip), accumulator)


@dataclass
class Futures(FuturesExecutor):
    """coffea's executor over processes of this machine, with failures accounted for."""

    skip: bool = False

    def __call__(self, items: Any, function: Any, accumulator: Any) -> Any:
        # coffea also prints the traceback of what it raises.
        with contextlib.redirect_stderr(io.StringIO()):
            return super().__call__(items, Attempt(function, self.skip), accumulator)


@dataclass
class Dask(DaskExecutor):
    """coffea's executor over a Dask cluster, with failures accounted for."""

    skip: bool = False

    def __call__(self, items: Any, function: Any, accumulator: Any) -> Any:
        return super().__call__(items, Attempt(function, self.skip), accumulator)
