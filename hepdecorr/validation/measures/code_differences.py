"""Taggers with several trainings each: which of their differences are more than the luck of a training?

Trainings are paired by seed, and measured on the same groups with the same draws.  The test is Wilcoxon's
signed-rank test (Biometrics Bull. 1 (1945) 80), exact where no two differences are equal: with n seeds its
least p is 2^(1-n), so that fewer than six resolve nothing.  The interval is Student's, of the mean
difference.  What the test groups themselves bring is common to both and is not in it.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from hepdecorr.validation.measures.compare import ALPHA, holm
from hepdecorr.validation.measures.numbers import Measured, Record

LEVEL = 0.95


@dataclass(frozen=True)
class CodeDifference(Record):
    """One figure of one tagger minus that of another, over the seeds that both have."""

    first: str
    second: str
    figure: str
    value: Measured  # mean difference, 95 %
    p_value: float
    p_holm: float  # over all pairs of taggers, for this figure
    resolved: bool
    seeds: int


def code_differences(
    values: Mapping[str, Mapping[int, float]], *, figure: str, alpha: float = ALPHA
) -> list[CodeDifference]:
    """All pairs of taggers with a common seed, in one figure; values: tagger -> seed -> figure."""
    found = []
    for first, second in itertools.combinations(values, 2):
        seeds = sorted(set(values[first]) & set(values[second]))
        if seeds:
            apart = np.array([values[first][seed] - values[second][seed] for seed in seeds])
            p = _p(apart)
            found.append(CodeDifference(first, second, figure, _mean(apart), p, p, False, len(seeds)))
    adjusted = holm([one.p_value for one in found])
    return [replace(one, p_holm=p, resolved=p <= alpha) for one, p in zip(found, adjusted, strict=True)]


def _p(apart: Sequence[float] | np.typing.NDArray[np.float64]) -> float:
    some = np.asarray(apart)[np.asarray(apart) != 0]
    return float(stats.wilcoxon(some).pvalue) if len(some) else 1.0


def _mean(apart: np.typing.NDArray[np.float64]) -> Measured:
    mean, n = float(apart.mean()), len(apart)
    if n < 2:
        return Measured(mean, np.nan, np.nan, None, LEVEL)
    error = float(apart.std(ddof=1)) / np.sqrt(n)
    wide = float(stats.t.ppf(0.5 + LEVEL / 2, n - 1)) * error
    return Measured(mean, mean - wide, mean + wide, error, LEVEL)
