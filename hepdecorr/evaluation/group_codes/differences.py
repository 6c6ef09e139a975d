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

from hepdecorr.stats.multiple_testing import ALPHA, holm
from hepdecorr.stats.results import Estimate, ResultRecord

CONFIDENCE_LEVEL = 0.95


@dataclass(frozen=True)
class CodeDifference(ResultRecord):
    """One figure of one tagger minus that of another, over the seeds that both have."""

    first: str
    second: str
    metric: str
    value: Estimate  # mean difference, 95 %
    p_value: float
    p_holm: float  # over all pairs of taggers, for this figure
    significant: bool
    num_seeds: int


def compare_code_metrics(
    values: Mapping[str, Mapping[int, float]], *, metric: str, alpha: float = ALPHA
) -> list[CodeDifference]:
    """All pairs of taggers with a common seed, in one figure; values: tagger -> seed -> figure."""
    found = []
    for first, second in itertools.combinations(values, 2):
        seeds = sorted(set(values[first]) & set(values[second]))
        if seeds:
            apart = np.array([values[first][seed] - values[second][seed] for seed in seeds])
            p = _wilcoxon_p_value(apart)
            found.append(
                CodeDifference(first, second, metric, _mean_difference(apart), p, p, False, len(seeds))
            )
    adjusted = holm([one.p_value for one in found])
    return [replace(one, p_holm=p, significant=p <= alpha) for one, p in zip(found, adjusted, strict=True)]


def _wilcoxon_p_value(differences: Sequence[float] | np.typing.NDArray[np.float64]) -> float:
    some = np.asarray(differences)[np.asarray(differences) != 0]
    return float(stats.wilcoxon(some).pvalue) if len(some) else 1.0


def _mean_difference(differences: np.typing.NDArray[np.float64]) -> Estimate:
    mean, n = float(differences.mean()), len(differences)
    if n < 2:
        return Estimate(mean, np.nan, np.nan, None, CONFIDENCE_LEVEL)
    error = float(differences.std(ddof=1)) / np.sqrt(n)
    wide = float(stats.t.ppf(0.5 + CONFIDENCE_LEVEL / 2, n - 1)) * error
    return Estimate(mean, mean - wide, mean + wide, error, CONFIDENCE_LEVEL)
