"""Corrections of correctionlib, evaluated for every object of a collection.

Cuts on a tagger's logit that follow a nuisance: the corrections.json beside its graph.
"""

from __future__ import annotations

import gzip
import hashlib
import threading
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepdecorr.columnar.features.branches import count_objects, read_columns, read_scalars
from hepdecorr.errors import InputError, suggest

Floats = NDArray[np.float64]

# As with taggers: what hangs on a processor is unpickled for every chunk, so what was read stays here.
_CORRECTION_SETS: dict[str, Any] = {}
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
        given = [i.name for i in self._get_evaluator().inputs]
        for name in inputs:
            if name not in given:
                raise InputError(f"{file}: correction {correction!r} takes no {name!r}{suggest(name, given)}")
        if missing := [name for name in given if name not in inputs]:
            raise InputError(f"{file}: correction {correction!r} also needs {', '.join(missing)}")

    def __call__(self, events: Any, collection: str) -> Floats:
        """Its value for each object of the collection, flat over the events, shape (objects,)."""
        evaluator = self._get_evaluator()
        arguments = [
            self._evaluate_input(i.name, input_type=i.type, events=events, collection=collection)
            for i in evaluator.inputs
        ]
        try:
            found = np.asarray(evaluator.evaluate(*arguments), dtype=np.float64)
        except (RuntimeError, IndexError, ValueError) as err:
            raise InputError(f"{self.file}: correction {self.correction!r}: {err}") from None
        size = int(count_objects(events, collection).sum())
        values: Floats = np.broadcast_to(found, (size,)) if found.ndim == 0 else found
        if not np.isfinite(values).all():
            raise InputError(f"{self.file}: correction {self.correction!r} gives values that are not finite")
        return values

    def _evaluate_input(self, name: str, *, input_type: str, events: Any, collection: str) -> Any:
        given = self.inputs[name]
        if input_type == "string":
            return str(given)
        if isinstance(given, str):
            values = _read_per_object(events, given, collection)
            return values.astype(np.int64) if input_type == "int" else values
        return int(given) if input_type == "int" else float(given)

    def _get_evaluator(self) -> Any:
        with _LOCK:
            if self._sha256 not in _CORRECTION_SETS:
                _CORRECTION_SETS[self._sha256] = read_corrections(self._content, self.file)
            found = _CORRECTION_SETS[self._sha256]
        known = {**dict(found), **dict(found.compound)}
        if self.correction not in known:
            hint = suggest(self.correction, known)
            raise InputError(f"{self.file}: no correction {self.correction!r}{hint}")
        return known[self.correction]


def read_corrections(content: bytes, file: str) -> Any:
    """The corrections of a file's content; InputError where it is none of correctionlib's."""
    import correctionlib

    try:
        text = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
        return correctionlib.CorrectionSet.from_string(text.decode())
    except (RuntimeError, ValueError, OSError, EOFError) as err:
        raise InputError(f"{file}: no file of correctionlib: {str(err).splitlines()[0]}") from None


def _read_per_object(events: Any, name: str, collection: str) -> Floats:
    """A branch for each object, flat: of the object itself, or of its event."""
    owner, _, field = name.partition(".")
    if owner == collection:
        return read_columns(events, collection, field)[1][0]
    return np.repeat(read_scalars(events, name), count_objects(events, collection))


CORRECTIONS_FILE = "corrections.json"
THRESHOLD_CORRECTION = "threshold"


class NuisanceThresholds:
    """Cuts of a file that a tagger with `posthoc: {export: correctionlib}` has beside it.

    `model` is the tagger's folder, or the file.  The file travels inside the pickle.  Raises InputError for a
    file that is none of correctionlib's, or has other inputs than a rejection and features.
    """

    def __init__(self, model: Path | str) -> None:
        path = Path(model)
        self.source = str(path / CORRECTIONS_FILE if path.is_dir() else path)
        try:
            self._content = Path(self.source).read_bytes()
        except OSError as err:
            raise InputError(f"{self.source}: no such file of cuts ({err.strerror})") from None
        first, *names = [i.name for i in self._get_correction().inputs]
        if first != "rejection" or not names:
            raise InputError(
                f"{self.source}: correction {THRESHOLD_CORRECTION!r} takes no rejection and nuisance"
            )
        self.column_names = names

    @classmethod
    def from_tagger_folder(cls, model: Path | str) -> NuisanceThresholds | None:
        """Those of a tagger's folder; None where it has none."""
        return cls(model) if (Path(model) / CORRECTIONS_FILE).is_file() else None

    def evaluate(self, rejection: float, columns: Mapping[str, NDArray[Any]]) -> Floats:
        """The threshold on the logit for each row, shape (n,), of its nuisances among `columns`."""
        values = []
        for name in self.column_names:
            if name not in columns:
                raise InputError(f"{self.source}: the cuts need feature {name!r}, which is not there")
            column = np.asarray(columns[name], dtype=np.float64)
            if bad := int(np.count_nonzero(~np.isfinite(column))):
                raise InputError(f"{self.source}: {name} is not finite in {bad} of {len(column)} rows")
            values.append(column)
        try:
            found = self._get_correction().evaluate(f"{rejection:g}", *values)
        except (IndexError, RuntimeError) as err:
            raise InputError(f"{self.source}: no cut at rejection {rejection:g} ({err})") from None
        return np.asarray(found, dtype=np.float64)

    def _get_correction(self) -> Any:
        found = _read_cached(self._content, self.source)
        if THRESHOLD_CORRECTION not in found:
            raise InputError(f"{self.source}: no correction {THRESHOLD_CORRECTION!r}")
        return found[THRESHOLD_CORRECTION]


@cache
def _read_cached(content: bytes, source: str) -> Any:
    # What hangs on a processor is unpickled for every chunk; what was read stays in the process.
    return dict(read_corrections(content, source))
