"""Corrections of correctionlib, evaluated for every object of a collection."""

from __future__ import annotations

import gzip
import hashlib
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepdecorr.catalogue import suggest
from hepdecorr.columnar.features.branches import columns, counts, per_event
from hepdecorr.errors import InputError

Floats = NDArray[np.float64]

# As with taggers: what hangs on a processor is unpickled for every chunk, so what was read stays here.
_OPENED: dict[str, Any] = {}
_LOCK = threading.Lock()


class Correction:
    """One correction of a correctionlib file, with the branches that it takes.

    `inputs` names, for each input of the correction, a branch ('FatJet.pt', 'FatJet.eta' or an event's
    'Rho.fixedGridRhoFastjetAll'), or gives a number, or for an input of type string the word itself.
    `folder` is where a relative path of `file` counts from.  The file travels inside the pickle.  Raises
    InputError for a file that is none of correctionlib's, an unknown correction, and inputs that it does
    not have or that are missing.
    """

    def __init__(
        self, *, file: str, correction: str, inputs: Mapping[str, Any], folder: Path | str = "."
    ) -> None:
        self.file, self.correction, self.inputs = file, correction, dict(inputs)
        try:
            self._content = (Path(folder) / Path(file).expanduser()).read_bytes()
        except OSError as err:
            raise InputError(f"correction file {Path(folder) / file}: {err.strerror}") from None
        self._sha256 = hashlib.sha256(self._content).hexdigest()
        given = [i.name for i in self._opened().inputs]
        for name in inputs:
            if name not in given:
                raise InputError(f"{file}: correction {correction!r} takes no {name!r}{suggest(name, given)}")
        if missing := [name for name in given if name not in inputs]:
            raise InputError(f"{file}: correction {correction!r} also needs {', '.join(missing)}")

    def __call__(self, events: Any, collection: str) -> Floats:
        """Its value for each object of the collection, flat over the events, shape (objects,)."""
        evaluator = self._opened()
        arguments = [
            self._argument(i.name, kind=i.type, events=events, collection=collection)
            for i in evaluator.inputs
        ]
        try:
            found = np.asarray(evaluator.evaluate(*arguments), dtype=np.float64)
        except (RuntimeError, IndexError, ValueError) as err:
            raise InputError(f"{self.file}: correction {self.correction!r}: {err}") from None
        size = int(counts(events, collection).sum())
        values: Floats = np.broadcast_to(found, (size,)) if found.ndim == 0 else found
        if not np.isfinite(values).all():
            raise InputError(f"{self.file}: correction {self.correction!r} gives values that are not finite")
        return values

    def _argument(self, name: str, *, kind: str, events: Any, collection: str) -> Any:
        given = self.inputs[name]
        if kind == "string":
            return str(given)
        if isinstance(given, str):
            values = _flat(events, given, collection)
            return values.astype(np.int64) if kind == "int" else values
        return int(given) if kind == "int" else float(given)

    def _opened(self) -> Any:
        with _LOCK:
            if self._sha256 not in _OPENED:
                _OPENED[self._sha256] = read(self._content, self.file)
            found = _OPENED[self._sha256]
        known = {**dict(found), **dict(found.compound)}
        if self.correction not in known:
            hint = suggest(self.correction, known)
            raise InputError(f"{self.file}: no correction {self.correction!r}{hint}")
        return known[self.correction]


def read(content: bytes, file: str) -> Any:
    """The corrections of a file's content; InputError where it is none of correctionlib's."""
    import correctionlib

    try:
        text = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
        return correctionlib.CorrectionSet.from_string(text.decode())
    except (RuntimeError, ValueError, OSError, EOFError) as err:
        raise InputError(f"{file}: no file of correctionlib: {str(err).splitlines()[0]}") from None


def _flat(events: Any, name: str, collection: str) -> Floats:
    """A branch for each object, flat: of the object itself, or of its event."""
    owner, _, field = name.partition(".")
    if owner == collection:
        return columns(events, collection, field)[1][0]
    return np.repeat(per_event(events, name), counts(events, collection))
