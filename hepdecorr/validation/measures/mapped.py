"""The baseline to beat: a score made flat afterwards, by the background's own quantiles at each mass.

A tagger that was decorrelated in training must not lose to the plain one with such a map behind it
(DDT, Dolen et al., JHEP 05 (2016) 156, is its linear form; a fit of one quantile by neighbours another).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hepdecorr.errors import InputError
from hepdecorr.validation.measures.events import checked, classes, effective, sums
from hepdecorr.validation.measures.numbers import Array, Indices

EVENTS = 500.0  # effective background events for each window that shapes are taken from
FINE = 4  # and so many times more windows for mean and width, which fewer events tell as well
FEWEST, MOST = 4, 40  # windows
_LEAST = 200  # background events of each half
_DEGREE = 4
_TAIL = 0.1


def quantile_map(
    logit: npt.ArrayLike,
    nuisance: npt.ArrayLike,
    label: npt.ArrayLike,
    *,
    weight: npt.ArrayLike | None = None,
    half: npt.ArrayLike | None = None,
    windows: int | None = None,
    seed: int = 0,
) -> Array:
    """The logit of the background's conditional quantile, log F(s|z) / (1 - F(s|z)), (events,).

    logit, nuisance, label (0 background, 1 signal), weight: (events,). F is fitted on the background of one
    half of the events and applied to the other, and the other way round, so that no event has a part in its
    own map: the mapped score may be measured on these very events. (What fluctuates up in one half maps the
    other down, so that the sum lies rather below its floor than above it.) half: a boolean per event, for
    instance of an event hash that keeps the jets of an event together; by default drawn with `seed`.

    First the background's mean and width are taken off: polynomials in the rank of the nuisance, and what
    these leave in fine windows. The rest is ranked in `windows` wider ones (by default one per five hundred
    effective events, 4 to 40; of the fine ones there are four times as many). Windows hold equally many
    background events and overlap: triangular weights, each from the centre of one neighbour to that of the
    other. Between their centres everything is interpolated linearly in the nuisance's rank.
    Beyond the last background event a window's tail is continued exponentially, so that scores there keep
    their order. InputError for a constant nuisance or fewer than 200 background events in a half.
    """
    score, z, y, w = checked(weight, logit=logit, nuisance=nuisance, label=label)
    background, _ = classes(y)
    first = _halves(half, len(score), seed=seed)
    found = np.empty(len(score))
    for fitted in (first, ~first):
        chosen = background & fitted & (w > 0)
        if np.count_nonzero(chosen) < _LEAST or np.ptp(z[chosen]) == 0:
            raise InputError(
                f"quantile_map: {np.count_nonzero(chosen)} background events in one half, or the nuisance is "
                f"constant; it takes at least {_LEAST} with different values"
            )
        made = Map.fit(score[chosen], z[chosen], w[chosen], windows=windows)
        found[~fitted] = made.apply(score[~fitted], z[~fitted])
    return found


def _halves(half: npt.ArrayLike | None, size: int, *, seed: int) -> npt.NDArray[np.bool_]:
    if half is None:
        return np.asarray(np.random.default_rng(seed).permutation(size) % 2 == 0)
    given = np.asarray(half)
    if given.shape != (size,) or given.dtype != np.bool_:
        raise InputError(
            f"quantile_map: half is {given.dtype} of shape {given.shape}; a boolean for each of {size} events"
        )
    return given


@dataclass(frozen=True)
class Map:
    """A fitted conditional quantile map."""

    nuisances: Array  # of the background, ascending
    ranks: Array  # weighted, in [0, 1]
    centre: Trend
    width: Trend  # of the logarithm of the spread
    windows: tuple[Window, ...]

    @classmethod
    def fit(cls, score: Array, z: Array, w: Array, *, windows: int | None = None) -> Map:
        """From background events, (events,) each."""
        values, place = np.unique(z, return_inverse=True)
        content = np.bincount(place, weights=w)
        ranks = (np.cumsum(content) - content / 2) / content.sum()
        u = ranks[place]
        number = windows or int(np.clip(effective(w) / EVENTS, FEWEST, MOST))
        centre = Trend.fit(u, score, w, windows=FINE * number)
        rest = score - centre.at(u)
        # The logarithm keeps the spread positive; its own spread is the same for each u if shapes are.
        spread = np.log(np.maximum(np.abs(rest), 1e-6 * np.std(rest) + 1e-300))
        width = Trend.fit(u, spread, w, windows=FINE * number)
        rest = rest / np.exp(width.at(u))
        shapes = tuple(Window.fit(rest, w * kernel) for kernel in _kernels(u, number))
        return cls(values, ranks, centre, width, shapes)

    def apply(self, score: Array, z: Array) -> Array:
        """The mapped score of any events; beyond the nuisances of the fit as at their ends."""
        u = np.interp(z, self.nuisances, self.ranks)
        rest = (score - self.centre.at(u)) / np.exp(self.width.at(u))
        number = len(self.windows)
        position = np.clip(u * number - 0.5, 0.0, number - 1.0)
        lower: Indices = np.minimum(position.astype(np.int64), max(number - 2, 0))
        mapped = np.zeros(len(score))
        for one, window in enumerate(self.windows):
            share = np.maximum(1 - np.abs(position - one), 0.0)
            near = np.flatnonzero((lower == one) | (lower == one - 1))
            mapped[near] += share[near] * window.apply(rest[near])
        return mapped


@dataclass(frozen=True)
class Trend:
    """A mean as a function of the rank: a polynomial, and local means of what it leaves."""

    coefficients: Array
    local: Array  # at the centres of equal windows in the rank

    @classmethod
    def fit(cls, u: Array, values: Array, w: Array, *, windows: int) -> Trend:
        coefficients = np.polynomial.legendre.legfit(2 * u - 1, values, _DEGREE, w=np.sqrt(w))
        rest = values - np.polynomial.legendre.legval(2 * u - 1, coefficients)
        local = [np.average(rest, weights=w * kernel) for kernel in _kernels(u, windows)]
        return cls(np.asarray(coefficients, dtype=np.float64), np.array(local))

    def at(self, u: Array) -> Array:
        centres = (np.arange(len(self.local)) + 0.5) / len(self.local)
        smooth = np.polynomial.legendre.legval(2 * u - 1, self.coefficients)
        return np.asarray(smooth + np.interp(u, centres, self.local))


def _kernels(u: Array, windows: int) -> Iterator[Array]:
    """Triangular weights of every window at the ranks u."""
    for one in range(windows):
        yield np.maximum(1 - np.abs(u * windows - (one + 0.5)), 1e-12)


@dataclass(frozen=True)
class Window:
    """Background's log F / (1 - F) at its own values in one window, with slopes beyond the ends."""

    values: Array  # ascending
    logits: Array
    slopes: tuple[float, float]

    @classmethod
    def fit(cls, rest: Array, w: Array) -> Window:
        kept = w > 1e-9 * w.max()
        values, place = np.unique(rest[kept], return_inverse=True)
        content = sums(place.astype(np.int64), w[kept], len(values))
        share = (np.cumsum(content) - content / 2) / content.sum()
        below, above = (_slope(side, content[order]) for side, order in _sides(values))
        return cls(values, np.log(share) - np.log1p(-share), (below, above))

    def apply(self, rest: Array) -> Array:
        inside = np.interp(rest, self.values, self.logits)
        below, above = np.minimum(rest - self.values[0], 0.0), np.maximum(rest - self.values[-1], 0.0)
        return np.asarray(inside + self.slopes[0] * below + self.slopes[1] * above)


def _sides(values: Array) -> tuple[tuple[Array, slice], tuple[Array, slice]]:
    # Both tails as excesses that start at zero and grow towards the end.
    return (values[0] - values[::-1], slice(None, None, -1)), (values - values[-1], slice(None))


def _slope(side: Array, content: Array) -> float:
    """1 / mean excess in the last tenth: the slope of -log(1 - F) of an exponential tail."""
    tail = np.cumsum(content[::-1])[::-1] <= _TAIL * content.sum()
    excess = side[tail] - side[tail].min() if tail.any() else np.zeros(1)
    mean = float(np.average(excess, weights=content[tail])) if tail.any() else 0.0
    return 1 / mean if mean > 0 and math.isfinite(1 / mean) else 1.0
