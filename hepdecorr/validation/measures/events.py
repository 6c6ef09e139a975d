"""Checked arrays: what enters a measure is finite, one-dimensional and of one length."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hepdecorr.errors import InputError
from hepdecorr.validation.measures.numbers import Array, Indices


def checked(weight: npt.ArrayLike | None = None, /, **columns: npt.ArrayLike) -> tuple[Array, ...]:
    """The columns and, last, the weights, as float64 arrays (events,).

    float32 masses are widened before any binning: edges shift otherwise. Without weights, ones.
    Raises InputError for no events, another shape or length, non-finite values, or weights that are
    negative or all zero.
    """
    arrays = {name: np.asarray(values, dtype=np.float64) for name, values in columns.items()}
    size = next(iter(arrays.values())).size
    arrays["weight"] = np.ones(size) if weight is None else np.asarray(weight, dtype=np.float64)
    for name, values in arrays.items():
        if values.ndim != 1 or len(values) != size:
            raise InputError(
                f"{name}: shape {values.shape} where ({size},) is needed; pass one value per event"
            )
        bad = int(np.count_nonzero(~np.isfinite(values)))
        if bad:
            raise InputError(
                f"{name}: {bad} of {size} values are not finite; select events with a valid {name}, "
                "or look for a tagger input outside its range"
            )
    if size == 0:
        raise InputError(
            f"no events to measure: {', '.join(columns)} empty; check the selection and the split"
        )
    total = arrays["weight"]
    if np.any(total < 0):
        raise InputError(
            f"weight: {int(np.count_nonzero(total < 0))} negative weights; divergences and quantiles need "
            "weights >= 0: resample the events to positive weights, or measure with their absolute values"
        )
    if not total.sum() > 0:
        raise InputError("weight: all weights are zero; check the weight column")
    return tuple(arrays.values())


def classes(label: Array) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Masks of background (0) and signal (1); InputError when one is absent or a label is neither."""
    background, signal = label == 0, label == 1
    if not np.all(background | signal):
        strange = sorted({float(value) for value in label[~(background | signal)]})[:5]
        raise InputError(f"label: values {strange} found; background is 0 and signal is 1")
    for mask, name, value in ((background, "background", 0), (signal, "signal", 1)):
        if not mask.any():
            raise InputError(f"label: no {name} events (label {value}); this measure compares both classes")
    return background, signal


def effective(weight: Array) -> float:
    """Effective number of events, (sum w)^2 / sum w^2; 0 for none."""
    squares = float(np.square(weight).sum())
    return float(weight.sum()) ** 2 / squares if squares > 0 else 0.0


def sums(place: Indices, values: Array, size: int) -> Array:
    """Sum of the values in every one of `size` places."""
    return np.asarray(np.bincount(place, weights=values, minlength=size), dtype=np.float64)
