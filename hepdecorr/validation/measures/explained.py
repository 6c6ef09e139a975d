"""How much of what differs between groups follows their known conditions.

Where the conditions are known, as in simulation, a regression of the groups' means on them sees far less than
the spread of all groups can show, since chance is spread over few numbers instead of over every group. The
surface has each condition, its square and the products of two: an efficiency falls to both sides of the best
photon scale. With n_g (effective) events as weights, f the fit, k terms and S = sum n_g,

- F = [sum n (f - m)^2 / k] / [sum n (m_g - f)^2 / (G - 1 - k)] tests for no dependence on the conditions
  (Fisher; Seber and Lee, Linear Regression Analysis, 2003, sect. 4.3);
- the **variance explained** is [sum n (f - m)^2 - k r] / S, r the mean square of the residuals: what k terms
  fit of chance alone is subtracted (the adjusted R^2 of Ezekiel, 1930, in units of the variance), so that
  without dependence it is zero on average and may be negative;
- its **interval** is from a bootstrap over groups, its **upper limit** at 95 % from the noncentral F
  distribution with noncentrality S variance / r, as the ratio of two probabilities (CLs; Read, J. Phys. G 28
  (2002) 2693).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import optimize, stats

from hepdecorr.validation.measures.between import CONFIDENCE, REPLICAS, Moments, again, interval, root
from hepdecorr.validation.measures.numbers import Array, Measured, Record

SPARE = 3  # groups that have to be left for the residuals
SAME = 1e-9  # of two terms that are one and the same in these groups


@dataclass(frozen=True)
class Trend(Record):
    """How an efficiency changes with one condition of the groups, on a straight line."""

    change: Measured  # of the efficiency, for one standard deviation of the condition
    p_value: float  # against none, from the normal distribution


@dataclass(frozen=True)
class Explained(Record):
    """The part of a spread between groups that follows the conditions, in the unit of the values."""

    variance: Measured  # negative where less follows them than chance lets; 68.3 % interval
    spread: Measured  # its root, with its sign
    upper: float  # 95 % upper limit on the spread
    p_value: float  # against no dependence on the conditions, F-test
    terms: int  # k
    groups: int
    replicas: int
    seed: int


def trend(moments: Moments, condition: Array, *, replicas: int = REPLICAS, seed: int = 0) -> Trend | None:
    """Straight line through the means of the groups against their condition; None where it is constant.

    Least squares with the groups' events as weights, error by bootstrap over groups.
    """
    n, c = moments.size, condition - np.average(condition, weights=moments.size)
    scale = math.sqrt(float(np.average(c**2, weights=n)))
    if not scale > 0:
        return None
    m = moments.mean - np.average(moments.mean, weights=n)
    columns = np.stack([n, n * c, n * m, n * c * m, n * c**2], axis=1)

    def slopes(times: Array) -> Array:
        s, sc, sm, scm, scc = (times @ columns).T
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray((scm - sc * sm / s) / (scc - sc**2 / s) * scale)

    value = float(slopes(np.ones((1, len(n))))[0])
    draws = slopes(again(len(n), size=replicas, seed=seed))
    std = float(np.std(draws[np.isfinite(draws)]))
    p_value = float(2 * stats.norm.sf(abs(value) / std)) if std > 0 else float(value == 0)
    return Trend(Measured(value, value - std, value + std, std), p_value)


def explained(
    moments: Moments, conditions: Sequence[Array], *, replicas: int = REPLICAS, seed: int = 0
) -> Explained | None:
    """Of the means of groups; conditions: (groups,) each. None for too few groups, or none that differ."""
    filled = moments.size > 0
    design = terms([one[filled] for one in conditions], moments.size[filled])
    groups, k = design.shape[0], design.shape[1] - 1
    if k < 1 or groups - 1 - k < SPARE:
        return None
    fitted, chance, residual = _surface(moments, filled, design, np.ones((1, groups)))
    total = float(moments.size.sum())
    if not residual[0] > 0:
        return None
    value = float(fitted[0] - chance[0])
    draws = bootstrap_explained(moments, conditions, again(len(filled), size=replicas, seed=seed))
    variance = interval(value, draws)
    f = float(fitted[0]) * total / k / float(residual[0])
    freedom = (k, groups - 1 - k)
    return Explained(
        variance=variance,
        spread=root(variance),
        upper=math.sqrt(_upper(f, *freedom) * float(residual[0]) / total),
        p_value=float(stats.f.sf(f, *freedom)),
        terms=k,
        groups=groups,
        replicas=replicas,
        seed=seed,
    )


def bootstrap_explained(moments: Moments, conditions: Sequence[Array], times: Array) -> Array:
    """Variance explained in every draw of the groups, times (draws, groups): (draws,)."""
    filled = moments.size > 0
    design = terms([one[filled] for one in conditions], moments.size[filled])
    own = times[:, filled]
    fitted, chance, _ = _surface(moments, filled, design, own)
    # In a draw the truth is the fit of all groups, which has fitted its own share of chance before.
    before = _surface(moments, filled, design, np.ones((1, design.shape[0])))[1][0]
    return np.asarray(fitted - chance - before)


def terms(conditions: Sequence[Array], weight: Array) -> Array:
    """Orthonormal columns (groups, k + 1): a constant, the conditions, their squares and products.

    Those that add nothing to the ones before them in these groups, as the square of what has two values, are
    left out.
    """
    scaled = []
    for one in conditions:
        away = one - np.average(one, weights=weight)
        size = math.sqrt(float(np.average(away**2, weights=weight)))
        if size > 0:
            scaled.append(away / size)
    pairs = itertools.combinations_with_replacement(scaled, 2)
    found: list[Array] = []
    for column in (np.ones(len(weight)), *scaled, *(a * b for a, b in pairs)):
        left = column.astype(np.float64)
        for _ in range(2):  # twice is enough for rounding errors
            for other in found:
                left = left - float(np.average(left * other, weights=weight)) * other
        size = math.sqrt(float(np.average(left**2, weights=weight)))
        if size > SAME * max(math.sqrt(float(np.average(column**2, weights=weight))), 1.0):
            found.append(left / size)
    return np.stack(found, axis=1)


def _surface(
    moments: Moments, filled: npt.NDArray[np.bool_], design: Array, times: Array
) -> tuple[Array, Array, Array]:
    """In every draw: variance of the fit, what k terms fit of chance, and mean square of the residuals."""
    n = moments.size[filled]
    m = moments.mean[filled] - np.average(moments.mean[filled], weights=n)
    width = design.shape[1]
    products = (design[:, :, None] * design[:, None, :]).reshape(len(n), -1) * n[:, None]
    matrices = (times @ products).reshape(len(times), width, width)
    right = times @ (design * (n * m)[:, None])
    # A draw may hold too few different groups for all terms.
    beta = (np.linalg.pinv(matrices, hermitian=True) @ right[:, :, None])[:, :, 0]
    total, first, second = (times @ np.stack([n, n * m, n * m**2], axis=1)).T
    of_fit = np.einsum("rk,rk->r", beta, right) - first**2 / total
    left = second - first**2 / total - of_fit
    groups = times.sum(axis=1)
    residual = np.maximum(left, 0.0) / (groups - width)
    return of_fit / total, (width - 1) * residual / total, residual


def _upper(f: float, k: int, rest: int) -> float:
    """95 % CLs upper limit on the noncentrality of F with (k, rest) degrees of freedom."""

    def below(noncentrality: float) -> float:
        found = stats.ncf.cdf(f, k, rest, noncentrality) if noncentrality > 0 else stats.f.cdf(f, k, rest)
        return float(found)

    # Below what chance gives once in a thousand nothing more can be learned.
    f = max(f, float(stats.f.ppf(1e-3, k, rest)))
    target = (1 - CONFIDENCE) * below(0.0)
    high = max(k * f, 1.0)
    while below(high) > target:
        high *= 2
    return float(optimize.brentq(lambda one: below(one) - target, 0.0, high, rtol=1e-6))
