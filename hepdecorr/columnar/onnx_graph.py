"""What the graphs of taggers take: checked arrays, and batches of constituents without much padding.

The graph of a tagger at work: batches in, its outputs and what is computed of them out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepdecorr import emd
from hepdecorr.columnar import onnx_session
from hepdecorr.errors import InputError, suggest
from hepdecorr.model_card import ModelCard

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

_LENGTH_STEP = 8  # constituents by which the widths of batches differ
_BLOCK_ROWS = 8192  # rows of a block of columns that a core's cache holds
_REGISTER_WIDTH = 16  # float32 values in the widest vector register


def validate_inputs(inputs: Mapping[str, Any], card: ModelCard, *, source: str) -> dict[str, Floats]:
    """The arrays that the card's graph takes, float32 and contiguous, from arrays by name.

    `features` (n, f), `constituents` (n, L, c) and `mask` (n, L), 0 or 1; what stands where the mask is 0
    does not matter; `context` (n, d); `nuisances` (n, k).  Raises InputError for other names, shapes and
    types, masked arrays, and values that are not finite.
    """
    wanted = [i.name for i in card.inputs]
    if set(inputs) != set(wanted):
        raise InputError(f"{source}: arrays {sorted(inputs)}; the tagger takes {', '.join(wanted)}")
    arrays = {name: to_float32(inputs[name], source=f"{source}: {name}") for name in wanted}
    _check_shapes(arrays, card, source=source)
    mask = arrays.get("mask", np.empty((0, 0), np.float32))
    if not np.isin(mask, (0, 1)).all():
        raise InputError(f"{source}: mask holds other values than 0 and 1")
    for name, array in arrays.items():
        bad = ~np.isfinite(array)
        # NaN where the mask is 0 is what many frameworks pad with.
        bad = bad & (mask[:, :, None] > 0) if name == "constituents" else bad
        if bad.any():
            row, *column = map(int, np.argwhere(bad)[0])
            which = f" ({card.nuisance_names[column[0]]})" if name == "nuisances" else ""
            raise InputError(f"{source}: {name} is not finite in row {row}{which}")
    return arrays


def _check_shapes(arrays: Mapping[str, Floats], card: ModelCard, *, source: str) -> None:
    # The mask knows how many constituents there are; without one all have a number of columns of their own.
    leader = "mask" if "mask" in arrays else card.inputs[0].name
    rows, seen = arrays[leader].shape if arrays[leader].ndim == 2 else (-1, -1)
    f, c, k = len(card.feature_names), len(card.constituent_names), len(card.nuisance_names)
    d = card.context.latents if card.context else 0
    wanted = {
        "features": ((rows, f), f"features (rows, {f})"),
        "constituents": ((rows, seen, c), f"constituents (rows, any, {c})"),
        "mask": ((rows, seen), "mask (rows, any)"),
        "context": ((rows, d), f"context (rows, {d})"),
        "nuisances": ((rows, k), f"nuisances (rows, {k})"),
    }
    for name, array in arrays.items():
        if array.shape != wanted[name][0]:
            takes = ", ".join(wanted[one][1] for one in arrays)
            raise InputError(
                f"{source}: {name} of shape {array.shape} beside a {leader} of {arrays[leader].shape}; the "
                f"tagger takes {takes}"
            )


def to_float32(values: Any, *, source: str) -> Floats:
    """Numbers as a contiguous float32 array; InputError for masked arrays and what is no number."""
    if isinstance(values, np.ma.MaskedArray):
        # numpy would hand on what lies under the mask.
        raise InputError(f"{source}: masked array; fill what is masked first")
    if np.asarray(values).dtype.kind not in "biuf":
        raise InputError(f"{source}: {np.asarray(values).dtype} are no numbers")
    return np.ascontiguousarray(values, dtype=np.float32)


def iter_length_batches(
    counts: NDArray[Any], *, batch_size: int, max_length: int = 0
) -> Iterator[tuple[Ints, int]]:
    """Rows of like multiplicity, at most `size` at a time, and to how many constituents to pad them.

    How far a row is padded depends on its own constituents alone, and so does its score: not on the chunk.
    Not beyond `length`, unless a row has more.
    """
    width = np.maximum(-(-counts // _LENGTH_STEP), 1) * _LENGTH_STEP
    width = np.where(counts <= max_length, np.minimum(width, max_length), width)
    for wide in np.unique(width):
        group = np.flatnonzero(width == wide)
        for start in range(0, len(group), batch_size):
            yield group[start : start + batch_size], int(wide)


def filled_lengths(mask: Floats) -> Ints:
    """Beyond which place of each row the mask is 0; it may have holes before."""
    if not mask.shape[1]:
        return np.zeros(len(mask), dtype=np.int64)
    there = mask > 0
    return np.where(there.any(axis=1), mask.shape[1] - np.argmax(there[:, ::-1], axis=1), 0)


def take_padded_rows(arrays: Mapping[str, Floats], rows: Ints, length: int) -> dict[str, Floats]:
    """These rows of the arrays, with so many constituents."""
    found = {}
    for name, array in arrays.items():
        flat = name in ("features", "context", "nuisances")
        found[name] = array[rows] if flat else array[rows, :length]
        missing = 0 if flat else length - found[name].shape[1]
        if missing:
            found[name] = np.pad(found[name], [(0, 0), (0, missing), (0, 0)][: array.ndim])
    return found


def pad_to_registers(arrays: Mapping[str, Floats]) -> dict[str, Floats]:
    """With the last row repeated until a vector register is full.

    Element-wise kernels (ELU, softplus) round the last few elements of an array, which do not fill a vector
    register, differently.  With whole registers an event's score does not depend on its chunk.
    """
    missing = -len(next(iter(arrays.values()))) % _REGISTER_WIDTH
    if not missing:
        return dict(arrays)
    rest = [(0, 0), (0, 0)]
    return {k: np.pad(v, [(0, missing), *rest[: v.ndim - 1]], mode="edge") for k, v in arrays.items()}


def stack_columns(columns: Sequence[NDArray[Any]]) -> Floats:
    """Columns (n,) -> float32 matrix (n, columns), in blocks that fit the cache."""
    if len({np.shape(c) for c in columns}) > 1:
        raise InputError(f"columns of different lengths: {sorted({len(c) for c in columns})}")
    matrix = np.empty((len(columns[0]), len(columns)), dtype=np.float32)
    for start in range(0, len(matrix), _BLOCK_ROWS):
        rows = slice(start, start + _BLOCK_ROWS)
        np.stack([c[rows] for c in columns], axis=1, out=matrix[rows], casting="unsafe")
    return matrix


_CONSTITUENT_BATCH_DIVISOR = 8  # a batch has so many times fewer rows where each has constituents


class OnnxGraph:
    """A model with its card, as a function of arrays.

    `run(x, names)` gives outputs of the graph by name, the first axis the rows: what stands on the card
    behind score and logit may have more axes.  A graph that gives the momenta of its jets before and after
    an autoencoder also has the scores of emd.grounds, computed batch by batch, which ONNX cannot hold.
    """

    def __init__(self, model: Path | str | bytes, *, batch_size: int) -> None:
        content, self.source = onnx_session.read_model(model)
        self.sha256 = hashlib.sha256(content).hexdigest()
        self.batch_size = batch_size
        self.payload = (
            content
            if isinstance(model, bytes) or len(content) <= onnx_session.MAX_EMBEDDED_BYTES
            else self.source
        )
        session = onnx_session.get_session(self.sha256, content, self.source)
        self.card = onnx_session.read_card(session, self.source)
        onnx_session.check_graph(session, self.card, self.source)
        self.output_shapes = {o.name: list(o.shape)[1:] for o in session.get_outputs()}

    @property
    def computed_scores(self) -> dict[str, str]:
        """What can be computed of the momenta, where there are some: score -> ground of the distance."""
        return (
            emd.grounds_by_score(self.card.method)
            if set(emd.MOMENTA_OUTPUTS) <= set(self.card.outputs)
            else {}
        )

    @property
    def extra_score_names(self) -> list[str]:
        """The scores that are not the tagger's own: outputs of one number a row, and what is computed."""
        beside = self.card.outputs[len(onnx_session.SCORE_OUTPUTS) :]
        return [*(name for name in beside if not self.output_shapes[name]), *self.computed_scores]

    def run(self, x: Any, names: Sequence[str]) -> list[NDArray[Any]]:
        """Outputs for a matrix, or arrays by name as the card has them."""
        if len(self.card.inputs) == 1:
            return self._run_rows({self.card.inputs[0].name: self._validate_matrix(x)}, names)
        if not isinstance(x, Mapping):
            raise InputError(
                f"{self.source}: shape {np.shape(x)}; the tagger takes arrays by name: "
                f"{', '.join(i.name for i in self.card.inputs)}"
            )
        arrays = validate_inputs(x, self.card, source=self.source)
        if self.card.constituents is None:
            return self._run_rows(arrays, names)
        return self.run_constituents(filled_lengths(arrays["mask"]), partial(take_padded_rows, arrays), names)

    def run_constituents(
        self, counts: NDArray[Any], make_inputs: Callable[[Any, int], dict[str, Floats]], names: Sequence[str]
    ) -> list[NDArray[Any]]:
        """Outputs for rows with so many constituents; `make(rows, width)` gives the inputs of a batch."""
        found = self._empty_outputs(names)
        # A jet is many constituents: batches of fewer rows, so that what passes through stays in the cache.
        size = max(self.batch_size // _CONSTITUENT_BATCH_DIVISOR, 1)
        length = self.card.constituents.length if self.card.constituents else 0
        for k, (rows, wide) in enumerate(iter_length_batches(counts, batch_size=size, max_length=length)):
            batch = self._run_batch(make_inputs(rows, wide), names)
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

    def _run_rows(self, arrays: Mapping[str, Floats], names: Sequence[str]) -> list[NDArray[Any]]:
        """Outputs for rows that have as many numbers each."""
        rows, size = len(next(iter(arrays.values()))), self.batch_size
        if rows == 0:
            return self._empty_outputs(names)
        parts = [
            self._run_batch({name: x[i : i + size] for name, x in arrays.items()}, names)
            for i in range(0, rows, size)
        ]
        return [np.concatenate(p) for p in zip(*parts, strict=True)]

    def _empty_outputs(self, names: Sequence[str]) -> list[NDArray[Any]]:
        """Outputs for no rows: ONNX Runtime aborts the process on an LSTM over none, and raises on a
        convolution."""
        _, computed = self._plan_outputs(names)
        found: list[NDArray[Any]] = []
        for name in names:
            flat = name in onnx_session.SCORE_OUTPUTS or name in computed
            axes = [] if flat else [n if isinstance(n, int) else 0 for n in self.output_shapes[name]]
            found.append(np.empty((0, *axes), dtype=np.float32))
        return found

    def _plan_outputs(self, names: Sequence[str]) -> tuple[list[str], dict[str, str]]:
        """What the graph has to give for these names, and which of them are computed."""
        known = {*self.card.outputs, *self.computed_scores}
        for name in names:
            if name not in known:
                raise InputError(f"{self.source}: the tagger has no output {name!r}{suggest(name, known)}")
        computed = {n: ground for n, ground in self.computed_scores.items() if n in names}
        own = [n for n in names if n not in computed]
        return list(dict.fromkeys([*own, *(emd.MOMENTA_OUTPUTS if computed else ())])), computed

    def _run_batch(self, arrays: Mapping[str, Floats], names: Sequence[str]) -> list[NDArray[Any]]:
        rows = len(next(iter(arrays.values())))
        wanted, computed = self._plan_outputs(names)
        session = onnx_session.get_session(self.sha256, self.payload, self.source)
        given = session.run(wanted, pad_to_registers(arrays))
        found = {
            name: (one.reshape(-1) if name in onnx_session.SCORE_OUTPUTS else one)[:rows]
            for name, one in zip(wanted, given, strict=True)
        }
        for name, ground in computed.items():
            first, second = (found[n] for n in emd.MOMENTA_OUTPUTS)
            found[name] = emd.emd(first, second, ground=ground).astype(np.float32)
        return [found[name] for name in names]

    def _validate_matrix(self, x: Any) -> Floats:
        width = len(self.card.feature_names)
        if isinstance(x, Mapping) or np.ndim(x) != 2 or np.shape(x)[1] != width:
            shape = sorted(x) if isinstance(x, Mapping) else np.shape(x)
            raise InputError(f"{self.source}: shape {shape}; the tagger takes (events, {width})")
        return to_float32(x, source=self.source)
