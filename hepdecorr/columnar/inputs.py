"""What the graphs of taggers take: checked arrays, and batches of constituents without much padding."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepdecorr.card import Card
from hepdecorr.errors import InputError

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

_STEP = 8  # constituents by which the widths of batches differ
_BLOCK = 8192  # rows of a block of columns that a core's cache holds
_REGISTER = 16  # float32 values in the widest vector register


def checked(given: Mapping[str, Any], card: Card, *, source: str) -> dict[str, Floats]:
    """The arrays that the card's graph takes, float32 and contiguous, from arrays by name.

    `features` (n, f), `constituents` (n, L, c) and `mask` (n, L), 0 or 1; what stands where the mask is 0
    does not matter; `context` (n, d); `nuisances` (n, k).  Raises InputError for other names, shapes and
    types, masked arrays, and values that are not finite.
    """
    wanted = [i.name for i in card.inputs]
    if set(given) != set(wanted):
        raise InputError(f"{source}: arrays {sorted(given)}; the tagger takes {', '.join(wanted)}")
    arrays = {name: plain(given[name], source=f"{source}: {name}") for name in wanted}
    _shapes(arrays, card, source=source)
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


def _shapes(arrays: Mapping[str, Floats], card: Card, *, source: str) -> None:
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


def plain(values: Any, *, source: str) -> Floats:
    """Numbers as a contiguous float32 array; InputError for masked arrays and what is no number."""
    if isinstance(values, np.ma.MaskedArray):
        # numpy would hand on what lies under the mask.
        raise InputError(f"{source}: masked array; fill what is masked first")
    if np.asarray(values).dtype.kind not in "biuf":
        raise InputError(f"{source}: {np.asarray(values).dtype} are no numbers")
    return np.ascontiguousarray(values, dtype=np.float32)


def batches(counts: NDArray[Any], *, size: int, length: int = 0) -> Iterator[tuple[Ints, int]]:
    """Rows of like multiplicity, at most `size` at a time, and to how many constituents to pad them.

    How far a row is padded depends on its own constituents alone, and so does its score: not on the chunk.
    Not beyond `length`, unless a row has more.
    """
    width = np.maximum(-(-counts // _STEP), 1) * _STEP
    width = np.where(counts <= length, np.minimum(width, length), width)
    for wide in np.unique(width):
        group = np.flatnonzero(width == wide)
        for start in range(0, len(group), size):
            yield group[start : start + size], int(wide)


def last(mask: Floats) -> Ints:
    """Beyond which place of each row the mask is 0; it may have holes before."""
    if not mask.shape[1]:
        return np.zeros(len(mask), dtype=np.int64)
    there = mask > 0
    return np.where(there.any(axis=1), mask.shape[1] - np.argmax(there[:, ::-1], axis=1), 0)


def cut(arrays: Mapping[str, Floats], rows: Ints, wide: int) -> dict[str, Floats]:
    """These rows of the arrays, with so many constituents."""
    found = {}
    for name, array in arrays.items():
        flat = name in ("features", "context", "nuisances")
        found[name] = array[rows] if flat else array[rows, :wide]
        missing = 0 if flat else wide - found[name].shape[1]
        if missing:
            found[name] = np.pad(found[name], [(0, 0), (0, missing), (0, 0)][: array.ndim])
    return found


def whole_registers(arrays: Mapping[str, Floats]) -> dict[str, Floats]:
    """With the last row repeated until a vector register is full.

    Element-wise kernels (ELU, softplus) round the last few elements of an array, which do not fill a vector
    register, differently.  With whole registers an event's score does not depend on its chunk.
    """
    missing = -len(next(iter(arrays.values()))) % _REGISTER
    if not missing:
        return dict(arrays)
    rest = [(0, 0), (0, 0)]
    return {k: np.pad(v, [(0, missing), *rest[: v.ndim - 1]], mode="edge") for k, v in arrays.items()}


def side_by_side(columns: Sequence[NDArray[Any]]) -> Floats:
    """Columns (n,) -> float32 matrix (n, columns), in blocks that fit the cache."""
    if len({np.shape(c) for c in columns}) > 1:
        raise InputError(f"columns of different lengths: {sorted({len(c) for c in columns})}")
    matrix = np.empty((len(columns[0]), len(columns)), dtype=np.float32)
    for start in range(0, len(matrix), _BLOCK):
        rows = slice(start, start + _BLOCK)
        np.stack([c[rows] for c in columns], axis=1, out=matrix[rows], casting="unsafe")
    return matrix
