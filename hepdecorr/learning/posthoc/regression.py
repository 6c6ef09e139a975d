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

from hepdecorr.learning.posthoc.transform import Array
from hepdecorr.validation.measures.events import effective

BINS = (256, 40)  # along each of one or two axes, into which events are gathered
BEYOND = 25.0  # effective events beyond the outermost thresholds
ODDS = 30.0  # log odds are kept within
_RIDGE = 1e-4
_STRENGTHS = np.geomspace(1e-1, 1e5, 13)
_STEPS = 30


def levels(w: Array, *, number: int) -> Array:
    """Shares of the background at which to look, evenly spaced in their log odds."""
    most = np.log(max(effective(w) / BEYOND - 1, 3.0))
    return np.asarray(1 / (1 + np.exp(-np.linspace(-most, most, number))))


def conditional(
    score: Array, u: Array, w: Array, *, thresholds: Array, at: Sequence[Array], pieces: int
) -> Array:
    """Log odds of F(threshold | u) on the grid of the points `at`, shape (m1, ..., mk, thresholds).

    score (n,), u (n, k) within 0 and 1, w (n,); pieces: polynomials of each spline.  How stiff the splines
    are, the same for all thresholds, is what gives the smallest sum of Akaike's criteria.
    """
    cells, below, all_of = _gathered(score, u, w, thresholds)
    basis = _product([splines(c, pieces=pieces) for c in cells])
    filled = all_of > 0
    fit = _Fit(basis[filled], below[filled], all_of[filled], _penalties(pieces + 3, len(cells)))
    coefficients = fit.best()
    wanted = _product([splines(a, pieces=pieces) for a in at])
    odds = np.clip(wanted @ coefficients.T, -ODDS, ODDS)
    odds = np.sort(odds.reshape(*(len(a) for a in at), len(thresholds)), axis=-1)
    return np.asarray(odds)


def splines(u: Array, *, pieces: int) -> Array:
    """Cubic B-splines on equal pieces of [0, 1], shape (len(u), pieces + 3)."""
    knots = np.arange(-3, pieces + 4) / pieces
    return np.asarray(BSpline.design_matrix(np.clip(u, 0, 1), knots, 3, extrapolate=True).toarray())


def _gathered(score: Array, u: Array, w: Array, thresholds: Array) -> tuple[list[Array], Array, Array]:
    """Centres of cells in u, and in each cell the weight below each threshold and in all."""
    k = u.shape[1]
    number = BINS[k - 1]
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


def _product(bases: Sequence[Array]) -> Array:
    """Products of the functions of one basis for each axis, at all pairs of points, first axis slowest."""
    found = bases[0]
    for other in bases[1:]:
        found = (found[:, None, :, None] * other[None, :, None, :]).reshape(
            len(found) * len(other), found.shape[1] * other.shape[1]
        )
    return found


def _penalties(size: int, axes: int) -> Array:
    """Squared second differences of the coefficients along each axis, summed."""
    difference = np.diff(np.eye(size), 2, axis=0)
    one = difference.T @ difference
    if axes == 1:
        return one
    return np.asarray(np.kron(one, np.eye(size)) + np.kron(np.eye(size), one))


class _Fit:
    """Penalised logistic regressions at all thresholds at once."""

    def __init__(self, basis: Array, below: Array, all_of: Array, penalty: Array) -> None:
        self._b, self._y, self._n, self._p = basis, below.T, all_of[None, :], penalty
        share = np.clip(self._y.sum(1) / all_of.sum(), 1e-9, 1 - 1e-9)
        self._start = np.repeat(np.log(share / (1 - share))[:, None], basis.shape[1], 1)

    def best(self) -> Array:
        """Coefficients (thresholds, functions) at the best stiffness."""
        found, start = [], self._start
        for strength in _STRENGTHS[::-1]:
            start, criterion = self._at(strength, start)
            found.append((criterion, start))
        return min(found, key=lambda one: one[0])[1]

    def _at(self, strength: float, beta: Array) -> tuple[Array, float]:
        """Newton's method from `beta`, and the sum of Akaike's criteria at its end."""
        penalty = strength * self._p + _RIDGE * np.eye(len(self._p))
        inner = np.zeros((len(beta), *penalty.shape))
        for _ in range(_STEPS):
            share = self._share(beta)
            inner = self._inner(share)
            slope = (self._y - self._n * share) @ self._b - (beta - self._start) @ penalty
            step = np.linalg.solve(inner + penalty, slope[..., None])[..., 0]
            size = np.abs(step).max(1, keepdims=True)
            beta = beta + step * np.minimum(1, 2 / np.maximum(size, 1e-300))
            if size.max() < 1e-6:
                break
        share = self._share(beta)
        likelihood = self._y * np.log(share) + (self._n - self._y) * np.log1p(-share)
        freedom = np.trace(np.linalg.solve(inner + penalty, inner), axis1=1, axis2=2)
        return beta, float(-2 * likelihood.sum() + 2 * freedom.sum())

    def _share(self, beta: Array) -> Array:
        return np.asarray(1 / (1 + np.exp(-np.clip(beta @ self._b.T, -ODDS, ODDS))))

    def _inner(self, share: Array) -> Array:
        weight = self._n * share * (1 - share)
        return np.stack([(self._b * one[:, None]).T @ self._b for one in weight])
