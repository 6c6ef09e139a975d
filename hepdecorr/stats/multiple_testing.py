"""Comparing: several working points, several seeds, several taggers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hepdecorr.errors import InputError
from hepdecorr.stats.results import ResultRecord

ALPHA = 0.05


@dataclass(frozen=True)
class SeedSpread(ResultRecord):
    """A figure over several seeds; the standard deviation (n - 1) is None for a single one."""

    mean: float
    std: float | None
    minimum: float
    maximum: float
    num_seeds: int


def aggregate_seeds(values: Sequence[float]) -> SeedSpread:
    """Mean and spread of one figure over the seeds; InputError for none, values that are not finite."""
    array = np.asarray(values, dtype=np.float64)
    if not len(array) or not np.all(np.isfinite(array)):
        raise InputError(f"over_seeds: {list(values)} holds no finite values; give one figure per seed")
    std = float(array.std(ddof=1)) if len(array) > 1 else None
    return SeedSpread(float(array.mean()), std, float(array.min()), float(array.max()), len(array))


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


def significant_after_holm(p_values: Sequence[float], *, alpha: float = ALPHA) -> list[bool]:
    """Which of these working points sculpt: Holm-adjusted p at most alpha."""
    return [value <= alpha for value in holm(p_values)]
