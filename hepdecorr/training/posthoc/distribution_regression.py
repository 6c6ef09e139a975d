"""The background's conditional distribution as a smooth function of the nuisances, tails included.

Distribution regression (Foresi, Peracchi, J. Am. Stat. Assoc. 90 (1995) 451; Chernozhukov, Fernandez-Val,
Melly, Econometrica 81 (2013) 2205): at each of many thresholds s_j the log odds of F(s_j | z) are a smooth
function of z, found by maximum likelihood of 'below or above', and the curves are put in order where they
cross (Chernozhukov, Fernandez-Val, Galichon, Econometrica 78 (2010) 1093).  The smooth functions are
penalised B-splines (Eilers, Marx, Stat. Sci. 11 (1996) 89).  Maximum likelihood makes the share that passes a
threshold right in every component of the splines; few components keep the noise of the fit from sculpting.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.interpolate import BSpline

from hepdecorr.stats.arrays import effective_count
from hepdecorr.training.posthoc.base import FloatArray

CELLS_PER_AXIS = (256, 40)  # along each of one or two axes, into which events are gathered
MIN_TAIL_EVENTS = 25.0  # effective events beyond the outermost thresholds
MAX_LOG_ODDS = 30.0  # log odds are kept within
_RIDGE_STRENGTH = 1e-4
_PENALTY_STRENGTHS = np.geomspace(1e-1, 1e5, 13)
_MAX_NEWTON_STEPS = 30


def threshold_probabilities(w: FloatArray, *, num_thresholds: int) -> FloatArray:
    """Shares of the background at which to look, evenly spaced in their log odds."""
    most = np.log(max(effective_count(w) / MIN_TAIL_EVENTS - 1, 3.0))
    return np.asarray(1 / (1 + np.exp(-np.linspace(-most, most, num_thresholds))))


def fit_conditional_log_odds(
    score: FloatArray,
    u: FloatArray,
    w: FloatArray,
    *,
    thresholds: FloatArray,
    grid_points: Sequence[FloatArray],
    spline_pieces: int,
) -> FloatArray:
    """Log odds of F(threshold | u) on the grid of the points `at`, shape (m1, ..., mk, thresholds).

    score (n,), u (n, k) within 0 and 1, w (n,); pieces: polynomials of each spline.  How stiff the splines
    are, the same for all thresholds, is what gives the smallest sum of Akaike's criteria.
    """
    cells, below, all_of = _bin_events(score, u, w, thresholds)
    basis = _tensor_product([spline_basis(c, spline_pieces=spline_pieces) for c in cells])
    filled = all_of > 0
    fit = _PenalisedLogisticFit(
        basis[filled], below[filled], all_of[filled], _difference_penalty(spline_pieces + 3, len(cells))
    )
    coefficients = fit.fit_best()
    wanted = _tensor_product([spline_basis(a, spline_pieces=spline_pieces) for a in grid_points])
    odds = np.clip(wanted @ coefficients.T, -MAX_LOG_ODDS, MAX_LOG_ODDS)
    odds = np.sort(odds.reshape(*(len(a) for a in grid_points), len(thresholds)), axis=-1)
    return np.asarray(odds)


def spline_basis(u: FloatArray, *, spline_pieces: int) -> FloatArray:
    """Cubic B-splines on equal pieces of [0, 1], shape (len(u), pieces + 3)."""
    knots = np.arange(-3, spline_pieces + 4) / spline_pieces
    return np.asarray(BSpline.design_matrix(np.clip(u, 0, 1), knots, 3, extrapolate=True).toarray())


def _bin_events(
    score: FloatArray, u: FloatArray, w: FloatArray, thresholds: FloatArray
) -> tuple[list[FloatArray], FloatArray, FloatArray]:
    """Centres of cells in u, and in each cell the weight below each threshold and in all."""
    k = u.shape[1]
    number = CELLS_PER_AXIS[k - 1]
    place = np.zeros(len(score), np.int64)
    for column in u.T:
        place = place * number + np.minimum((column * number).astype(np.int64), number - 1)
    # In units of what an event weighs effectively, so that the likelihood knows how much it has seen.
    w = w * (w.sum() / np.square(w).sum())
    size = number**k
    level = np.searchsorted(thresholds, score, side="left")  # below threshold j where level <= j
    content = np.bincount(place * (len(thresholds) + 1) + level, w, size * (len(thresholds) + 1))
    grown = content.reshape(size, -1).cumsum(1)
    return [(np.arange(number) + 0.5) / number] * k, grown[:, :-1], grown[:, -1]


def _tensor_product(bases: Sequence[FloatArray]) -> FloatArray:
    """Products of the functions of one basis for each axis, at all pairs of points, first axis slowest."""
    found = bases[0]
    for other in bases[1:]:
        found = (found[:, None, :, None] * other[None, :, None, :]).reshape(
            len(found) * len(other), found.shape[1] * other.shape[1]
        )
    return found


def _difference_penalty(num_functions: int, num_axes: int) -> FloatArray:
    """Squared second differences of the coefficients along each axis, summed."""
    difference = np.diff(np.eye(num_functions), 2, axis=0)
    one = difference.T @ difference
    if num_axes == 1:
        return one
    return np.asarray(np.kron(one, np.eye(num_functions)) + np.kron(np.eye(num_functions), one))


class _PenalisedLogisticFit:
    """Penalised logistic regressions at all thresholds at once."""

    def __init__(self, basis: FloatArray, below: FloatArray, total: FloatArray, penalty: FloatArray) -> None:
        self._basis, self._below, self._total, self._penalty = basis, below.T, total[None, :], penalty
        share = np.clip(self._below.sum(1) / total.sum(), 1e-9, 1 - 1e-9)
        self._initial = np.repeat(np.log(share / (1 - share))[:, None], basis.shape[1], 1)

    def fit_best(self) -> FloatArray:
        """Coefficients (thresholds, functions) at the best stiffness."""
        found, start = [], self._initial
        for strength in _PENALTY_STRENGTHS[::-1]:
            start, criterion = self._fit_strength(strength, start)
            found.append((criterion, start))
        return min(found, key=lambda one: one[0])[1]

    def _fit_strength(self, strength: float, beta: FloatArray) -> tuple[FloatArray, float]:
        """Newton's method from `beta`, and the sum of Akaike's criteria at its end."""
        penalty = strength * self._penalty + _RIDGE_STRENGTH * np.eye(len(self._penalty))
        inner = np.zeros((len(beta), *penalty.shape))
        for _ in range(_MAX_NEWTON_STEPS):
            share = self._probability(beta)
            inner = self._fisher_information(share)
            slope = (self._below - self._total * share) @ self._basis - (beta - self._initial) @ penalty
            step = np.linalg.solve(inner + penalty, slope[..., None])[..., 0]
            size = np.abs(step).max(1, keepdims=True)
            beta = beta + step * np.minimum(1, 2 / np.maximum(size, 1e-300))
            if size.max() < 1e-6:
                break
        share = self._probability(beta)
        likelihood = self._below * np.log(share) + (self._total - self._below) * np.log1p(-share)
        freedom = np.trace(np.linalg.solve(inner + penalty, inner), axis1=1, axis2=2)
        return beta, float(-2 * likelihood.sum() + 2 * freedom.sum())

    def _probability(self, beta: FloatArray) -> FloatArray:
        return np.asarray(1 / (1 + np.exp(-np.clip(beta @ self._basis.T, -MAX_LOG_ODDS, MAX_LOG_ODDS))))

    def _fisher_information(self, probability: FloatArray) -> FloatArray:
        weight = self._total * probability * (1 - probability)
        return np.stack([(self._basis * one[:, None]).T @ self._basis for one in weight])
