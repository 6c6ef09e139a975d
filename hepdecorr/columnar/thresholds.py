"""Cuts on a tagger's logit that follow a nuisance: the corrections.json beside its graph."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepdecorr.columnar import corrections
from hepdecorr.errors import InputError

FILE = "corrections.json"
NAME = "threshold"

Floats = NDArray[np.float64]


class Thresholds:
    """Cuts of a file that a tagger with `posthoc: {into: corrections}` has beside it.

    `model` is the tagger's folder, or the file.  The file travels inside the pickle.  Raises InputError for a
    file that is none of correctionlib's, or has other inputs than a rejection and features.
    """

    def __init__(self, model: Path | str) -> None:
        path = Path(model)
        self.source = str(path / FILE if path.is_dir() else path)
        try:
            self._content = Path(self.source).read_bytes()
        except OSError as err:
            raise InputError(f"{self.source}: no such file of cuts ({err.strerror})") from None
        first, *names = [i.name for i in self._opened().inputs]
        if first != "rejection" or not names:
            raise InputError(f"{self.source}: correction {NAME!r} takes no rejection and nuisance")
        self.column_names = names

    @classmethod
    def beside(cls, model: Path | str) -> Thresholds | None:
        """Those of a tagger's folder; None where it has none."""
        return cls(model) if (Path(model) / FILE).is_file() else None

    def at(self, rejection: float, columns: Mapping[str, NDArray[Any]]) -> Floats:
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
            found = self._opened().evaluate(f"{rejection:g}", *values)
        except (IndexError, RuntimeError) as err:
            raise InputError(f"{self.source}: no cut at rejection {rejection:g} ({err})") from None
        return np.asarray(found, dtype=np.float64)

    def _opened(self) -> Any:
        found = _read(self._content, self.source)
        if NAME not in found:
            raise InputError(f"{self.source}: no correction {NAME!r}")
        return found[NAME]


@cache
def _read(content: bytes, source: str) -> Any:
    # What hangs on a processor is unpickled for every chunk; what was read stays in the process.
    return dict(corrections.read(content, source))
