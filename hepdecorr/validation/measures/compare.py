"""Comparing: several working points, several seeds, several taggers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hepdecorr.errors import InputError
from hepdecorr.validation.measures.numbers import Record
from hepdecorr.validation.measures.sculpting import Sculpting

ALPHA = 0.05


@dataclass(frozen=True)
class Spread(Record):
    """A figure over several seeds; the standard deviation (n - 1) is None for a single one."""

    mean: float
    std: float | None
    least: float
    most: float
    n: int


def over_seeds(values: Sequence[float]) -> Spread:
    """Mean and spread of one figure over the seeds; InputError for none, values that are not finite."""
    array = np.asarray(values, dtype=np.float64)
    if not len(array) or not np.all(np.isfinite(array)):
        raise InputError(f"over_seeds: {list(values)} holds no finite values; give one figure per seed")
    std = float(array.std(ddof=1)) if len(array) > 1 else None
    return Spread(float(array.mean()), std, float(array.min()), float(array.max()), len(array))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values, in the order given (Scand. J. Statist. 6 (1979) 65)."""
    p = np.asarray(p_values, dtype=np.float64)
    if p.ndim != 1 or np.any(~((p >= 0) & (p <= 1))):
        raise InputError(f"holm: {list(p_values)} are not p-values; each lies in [0, 1]")
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(stepped, 1.0)
    return [float(value) for value in adjusted]


def resolved(p_values: Sequence[float], *, alpha: float = ALPHA) -> list[bool]:
    """Which of these working points sculpt: Holm-adjusted p at most alpha."""
    return [value <= alpha for value in holm(p_values)]


def verdict(measured: Sculpting, p_adjusted: float, *, alpha: float = ALPHA) -> str:
    """One sentence on one working point; a figure at its floor is never a number to compare."""
    unit = "nats" if measured.log_base == "e" else "bits"
    if p_adjusted > alpha:
        return (
            f"no sculpting resolved (floor {significant(measured.floor)} {unit}, "
            f"excess below {significant(measured.excess_upper)} at 95 % CL)"
        )
    return (
        f"sculpts: JSD {significant(measured.jsd.value)} {unit} = {significant(measured.in_floors)} floors, "
        f"p = {significant(p_adjusted)}"
    )


def significant(value: float, digits: int = 2) -> str:
    """A number at so many significant digits, plain where that is short."""
    if not math.isfinite(value) or value == 0:
        return f"{value:g}"
    power = math.floor(math.log10(abs(value)))
    if -5 < power < 6:
        return f"{round(value, digits - 1 - power):.{max(digits - 1 - power, 0)}f}"
    return f"{value:.{digits - 1}e}"
