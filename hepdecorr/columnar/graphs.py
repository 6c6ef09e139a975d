"""The graph of a tagger at work: batches in, its outputs and what is computed of them out."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepdecorr import emd
from hepdecorr.catalogue import suggest
from hepdecorr.columnar import inputs, sessions
from hepdecorr.errors import InputError

Floats = NDArray[np.float32]

_CLOUD = 8  # a batch has so many times fewer rows where each has constituents


class Graph:
    """A model with its card, as a function of arrays.

    `run(x, names)` gives outputs of the graph by name, the first axis the rows: what stands on the card
    behind score and logit may have more axes.  A graph that gives the momenta of its jets before and after
    an autoencoder also has the scores of emd.grounds, computed batch by batch, which ONNX cannot hold.
    """

    def __init__(self, model: Path | str | bytes, *, batch_size: int) -> None:
        content, self.source = sessions.read(model)
        self.sha256 = hashlib.sha256(content).hexdigest()
        self.batch_size = batch_size
        self.payload = content if isinstance(model, bytes) or len(content) <= sessions.EMBED else self.source
        session = sessions.session(self.sha256, content, self.source)
        self.card = sessions.card(session, self.source)
        sessions.check(session, self.card, self.source)
        self.shapes = {o.name: list(o.shape)[1:] for o in session.get_outputs()}

    @property
    def computed(self) -> dict[str, str]:
        """What can be computed of the momenta, where there are some: score -> ground of the distance."""
        return emd.grounds(self.card.method) if set(emd.MOMENTA) <= set(self.card.outputs) else {}

    @property
    def further(self) -> list[str]:
        """The scores that are not the tagger's own: outputs of one number a row, and what is computed."""
        beside = self.card.outputs[len(sessions.OUTPUTS) :]
        return [*(name for name in beside if not self.shapes[name]), *self.computed]

    def run(self, x: Any, names: Sequence[str]) -> list[NDArray[Any]]:
        """Outputs for a matrix, or arrays by name as the card has them."""
        if len(self.card.inputs) == 1:
            return self._rows({self.card.inputs[0].name: self._checked(x)}, names)
        if not isinstance(x, Mapping):
            raise InputError(
                f"{self.source}: shape {np.shape(x)}; the tagger takes arrays by name: "
                f"{', '.join(i.name for i in self.card.inputs)}"
            )
        arrays = inputs.checked(x, self.card, source=self.source)
        if self.card.constituents is None:
            return self._rows(arrays, names)
        return self.clouds(inputs.last(arrays["mask"]), partial(inputs.cut, arrays), names)

    def clouds(
        self, counts: NDArray[Any], make: Callable[[Any, int], dict[str, Floats]], names: Sequence[str]
    ) -> list[NDArray[Any]]:
        """Outputs for rows with so many constituents; `make(rows, width)` gives the inputs of a batch."""
        found = self._nothing(names)
        # A jet is many constituents: batches of fewer rows, so that what passes through stays in the cache.
        size = max(self.batch_size // _CLOUD, 1)
        length = self.card.constituents.length if self.card.constituents else 0
        for k, (rows, wide) in enumerate(inputs.batches(counts, size=size, length=length)):
            batch = self._batch(make(rows, wide), names)
            if k == 0:
                found = [np.empty((len(counts), *part.shape[1:]), part.dtype) for part in batch]
            for name, whole, part in zip(names, found, batch, strict=True):
                if part.shape[1:] != whole.shape[1:]:
                    raise InputError(
                        f"{self.source}: output {name!r} has another shape for jets of more constituents; "
                        "give one that does not depend on how many there are"
                    )
                whole[rows] = part
        return found

    def _rows(self, arrays: Mapping[str, Floats], names: Sequence[str]) -> list[NDArray[Any]]:
        """Outputs for rows that have as many numbers each."""
        rows, size = len(next(iter(arrays.values()))), self.batch_size
        if rows == 0:
            return self._nothing(names)
        parts = [
            self._batch({name: x[i : i + size] for name, x in arrays.items()}, names)
            for i in range(0, rows, size)
        ]
        return [np.concatenate(p) for p in zip(*parts, strict=True)]

    def _nothing(self, names: Sequence[str]) -> list[NDArray[Any]]:
        """Outputs for no rows: ONNX Runtime aborts the process on an LSTM over none, and raises on a
        convolution."""
        _, computed = self._plan(names)
        found: list[NDArray[Any]] = []
        for name in names:
            flat = name in sessions.OUTPUTS or name in computed
            axes = [] if flat else [n if isinstance(n, int) else 0 for n in self.shapes[name]]
            found.append(np.empty((0, *axes), dtype=np.float32))
        return found

    def _plan(self, names: Sequence[str]) -> tuple[list[str], dict[str, str]]:
        """What the graph has to give for these names, and which of them are computed."""
        known = {*self.card.outputs, *self.computed}
        for name in names:
            if name not in known:
                raise InputError(f"{self.source}: the tagger has no output {name!r}{suggest(name, known)}")
        computed = {n: ground for n, ground in self.computed.items() if n in names}
        own = [n for n in names if n not in computed]
        return list(dict.fromkeys([*own, *(emd.MOMENTA if computed else ())])), computed

    def _batch(self, arrays: Mapping[str, Floats], names: Sequence[str]) -> list[NDArray[Any]]:
        rows = len(next(iter(arrays.values())))
        wanted, computed = self._plan(names)
        session = sessions.session(self.sha256, self.payload, self.source)
        given = session.run(wanted, inputs.whole_registers(arrays))
        found = {
            name: (one.reshape(-1) if name in sessions.OUTPUTS else one)[:rows]
            for name, one in zip(wanted, given, strict=True)
        }
        for name, ground in computed.items():
            first, second = (found[n] for n in emd.MOMENTA)
            found[name] = emd.emd(first, second, ground=ground).astype(np.float32)
        return [found[name] for name in names]

    def _checked(self, x: Any) -> Floats:
        width = len(self.card.feature_names)
        if isinstance(x, Mapping) or np.ndim(x) != 2 or np.shape(x)[1] != width:
            shape = sorted(x) if isinstance(x, Mapping) else np.shape(x)
            raise InputError(f"{self.source}: shape {shape}; the tagger takes (events, {width})")
        return inputs.plain(x, source=self.source)
