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
from hepdecorr.stats.arrays import binned_sums, class_masks, effective_count, validate_arrays
from hepdecorr.stats.results import Array, Indices

EVENTS_PER_WINDOW = 500.0  # effective background events for each window that shapes are taken from
FINE_WINDOW_FACTOR = 4  # and so many times more windows for mean and width, which fewer events tell as well
MIN_WINDOWS, MAX_WINDOWS = 4, 40  # windows
_MIN_BACKGROUND_EVENTS = 200  # background events of each half
_POLYNOMIAL_DEGREE = 4
_TAIL_FRACTION = 0.1


def quantile_mapped_logit(
    logit: npt.ArrayLike,
    nuisance: npt.ArrayLike,
    label: npt.ArrayLike,
    *,
    weight: npt.ArrayLike | None = None,
    half_mask: npt.ArrayLike | None = None,
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
    score, z, y, w = validate_arrays(weight, logit=logit, nuisance=nuisance, label=label)
    background, _ = class_masks(y)
    first = _choose_half(half_mask, len(score), seed=seed)
    found = np.empty(len(score))
    for fitted in (first, ~first):
        chosen = background & fitted & (w > 0)
        if np.count_nonzero(chosen) < _MIN_BACKGROUND_EVENTS or np.ptp(z[chosen]) == 0:
            raise InputError(
                f"quantile_map: {np.count_nonzero(chosen)} background events in one half, or the nuisance is "
                f"constant; it takes at least {_MIN_BACKGROUND_EVENTS} with different values"
            )
        made = ConditionalQuantileMap.fit(score[chosen], z[chosen], w[chosen], windows=windows)
        found[~fitted] = made.apply(score[~fitted], z[~fitted])
    return found


def _choose_half(half_mask: npt.ArrayLike | None, size: int, *, seed: int) -> npt.NDArray[np.bool_]:
    if half_mask is None:
        return np.asarray(np.random.default_rng(seed).permutation(size) % 2 == 0)
    given = np.asarray(half_mask)
    if given.shape != (size,) or given.dtype != np.bool_:
        raise InputError(
            f"quantile_map: half is {given.dtype} of shape {given.shape}; a boolean for each of {size} events"
        )
    return given


@dataclass(frozen=True)
class ConditionalQuantileMap:
    """A fitted conditional quantile map."""

    nuisance_values: Array  # of the background, ascending
    nuisance_ranks: Array  # weighted, in [0, 1]
    centre: LocalTrend
    width: LocalTrend  # of the logarithm of the spread
    windows: tuple[QuantileWindow, ...]

    @classmethod
    def fit(cls, score: Array, z: Array, w: Array, *, windows: int | None = None) -> ConditionalQuantileMap:
        """From background events, (events,) each."""
        values, place = np.unique(z, return_inverse=True)
        content = np.bincount(place, weights=w)
        ranks = (np.cumsum(content) - content / 2) / content.sum()
        u = ranks[place]
        number = windows or int(np.clip(effective_count(w) / EVENTS_PER_WINDOW, MIN_WINDOWS, MAX_WINDOWS))
        centre = LocalTrend.fit(u, score, w, windows=FINE_WINDOW_FACTOR * number)
        rest = score - centre.evaluate(u)
        # The logarithm keeps the spread positive; its own spread is the same for each u if shapes are.
        spread = np.log(np.maximum(np.abs(rest), 1e-6 * np.std(rest) + 1e-300))
        width = LocalTrend.fit(u, spread, w, windows=FINE_WINDOW_FACTOR * number)
        rest = rest / np.exp(width.evaluate(u))
        shapes = tuple(QuantileWindow.fit(rest, w * kernel) for kernel in _triangular_kernels(u, number))
        return cls(values, ranks, centre, width, shapes)

    def apply(self, score: Array, z: Array) -> Array:
        """The mapped score of any events; beyond the nuisances of the fit as at their ends."""
        u = np.interp(z, self.nuisance_values, self.nuisance_ranks)
        rest = (score - self.centre.evaluate(u)) / np.exp(self.width.evaluate(u))
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
class LocalTrend:
    """A mean as a function of the rank: a polynomial, and local means of what it leaves."""

    coefficients: Array
    local_means: Array  # at the centres of equal windows in the rank

    @classmethod
    def fit(cls, u: Array, values: Array, w: Array, *, windows: int) -> LocalTrend:
        coefficients = np.polynomial.legendre.legfit(2 * u - 1, values, _POLYNOMIAL_DEGREE, w=np.sqrt(w))
        rest = values - np.polynomial.legendre.legval(2 * u - 1, coefficients)
        local = [np.average(rest, weights=w * kernel) for kernel in _triangular_kernels(u, windows)]
        return cls(np.asarray(coefficients, dtype=np.float64), np.array(local))

    def evaluate(self, u: Array) -> Array:
        centres = (np.arange(len(self.local_means)) + 0.5) / len(self.local_means)
        smooth = np.polynomial.legendre.legval(2 * u - 1, self.coefficients)
        return np.asarray(smooth + np.interp(u, centres, self.local_means))


def _triangular_kernels(u: Array, windows: int) -> Iterator[Array]:
    """Triangular weights of every window at the ranks u."""
    for one in range(windows):
        yield np.maximum(1 - np.abs(u * windows - (one + 0.5)), 1e-12)


@dataclass(frozen=True)
class QuantileWindow:
    """Background's log F / (1 - F) at its own values in one window, with slopes beyond the ends."""

    values: Array  # ascending
    logits: Array
    tail_slopes: tuple[float, float]

    @classmethod
    def fit(cls, rest: Array, w: Array) -> QuantileWindow:
        kept = w > 1e-9 * w.max()
        values, place = np.unique(rest[kept], return_inverse=True)
        content = binned_sums(place.astype(np.int64), w[kept], len(values))
        share = (np.cumsum(content) - content / 2) / content.sum()
        below, above = (_tail_slope(side, content[order]) for side, order in _tail_excesses(values))
        return cls(values, np.log(share) - np.log1p(-share), (below, above))

    def apply(self, rest: Array) -> Array:
        inside = np.interp(rest, self.values, self.logits)
        below, above = np.minimum(rest - self.values[0], 0.0), np.maximum(rest - self.values[-1], 0.0)
        return np.asarray(inside + self.tail_slopes[0] * below + self.tail_slopes[1] * above)


def _tail_excesses(values: Array) -> tuple[tuple[Array, slice], tuple[Array, slice]]:
    # Both tails as excesses that start at zero and grow towards the end.
    return (values[0] - values[::-1], slice(None, None, -1)), (values - values[-1], slice(None))


def _tail_slope(tail_excess: Array, content: Array) -> float:
    """1 / mean excess in the last tenth: the slope of -log(1 - F) of an exponential tail."""
    tail = np.cumsum(content[::-1])[::-1] <= _TAIL_FRACTION * content.sum()
    excess = tail_excess[tail] - tail_excess[tail].min() if tail.any() else np.zeros(1)
    mean = float(np.average(excess, weights=content[tail])) if tail.any() else 0.0
    return 1 / mean if mean > 0 and math.isfinite(1 / mean) else 1.0
