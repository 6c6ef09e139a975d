"""Weighted spectra drawn again: compound Poisson bins, with the weights that belong to each place."""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np

from hepdecorr.validation.measures.numbers import Array, Indices

POOL = 15  # events that tell the weights of a bin; with fewer its neighbours join
MANY = 100.0  # events in a bin beyond which a gamma distribution stands for their sum


@dataclass(frozen=True)
class Weights:
    """What to draw in each bin: its trend times a slice of all weights, ordered by bin, without trend."""

    ordered: Array  # (events,)
    starts: Indices  # (bins,)
    stops: Indices
    trend: Array  # (bins,)
    mean: Array  # of the weights to draw in each bin, trend included
    square: Array  # mean of their squares

    @classmethod
    def near(cls, place: Indices, weight: Array, *, bins: int) -> Weights:
        """From one class's events in bins `place`, (events,): as many bins to each side as POOL events take.

        In a falling spectrum weights change along the nuisance, and differently for what passes and fails:
        the trend of their logarithm is a parabola in the bin.
        """
        place, weight = place[weight > 0], weight[weight > 0]
        trend = _trend(place, weight, bins=bins)
        order = np.argsort(place, kind="stable")
        ordered = weight[order] / trend[place[order]]
        ends = np.concatenate([[0], np.cumsum(np.bincount(place, minlength=bins))]).astype(np.int64)
        starts, stops = np.empty(bins, dtype=np.int64), np.empty(bins, dtype=np.int64)
        for one in range(bins):
            low, high = one, one + 1
            while ends[high] - ends[low] < min(POOL, len(place)):
                low, high = max(low - 1, 0), min(high + 1, bins)
            starts[one], stops[one] = ends[low], ends[high]
        sums, squares = (np.concatenate([[0.0], np.cumsum(one)]) for one in (ordered, ordered**2))
        size = stops - starts
        return cls(
            ordered,
            starts,
            stops,
            trend,
            trend * (sums[stops] - sums[starts]) / size,
            trend**2 * (squares[stops] - squares[starts]) / size,
        )

    def draw(self, mean: Array, *, size: int, random: np.random.Generator) -> Array:
        """`size` spectra with the expectation `mean` (bins,): a Poisson number of events in each bin.

        Bohm and Zech, Nucl. Instrum. Meth. A 748 (2014) 1, sect. 2: the sum of a Poisson number of weights.
        """
        rate = mean / self.mean
        many = rate > MANY
        spectra = np.zeros((size, len(mean)))
        shape, scale = mean[many] * self.mean[many] / self.square[many], self.square[many] / self.mean[many]
        spectra[:, many] = random.gamma(shape, size=(size, len(shape))) * scale
        few = np.flatnonzero(~many)
        counts = random.poisson(rate[few], size=(size, len(few)))
        state = np.uint64(random.integers(1, 2**63))
        sums = _sums(self.ordered, self.starts[few], self.stops[few], counts, state)
        spectra[:, few] = sums * self.trend[few]
        return spectra


def _trend(place: Indices, weight: Array, *, bins: int) -> Array:
    """Parabola through the logarithms of the weights, (bins,); level beyond the bins that are filled."""
    degree = min(2, len(np.unique(place)) - 1, len(place) // 15)
    x = 2 * place / bins - 1
    made = np.polynomial.legendre.legfit(x, np.log(weight), degree)
    where = np.clip(np.arange(bins), place.min(), place.max())
    return np.asarray(np.exp(np.polynomial.legendre.legval(2 * where / bins - 1, made)))


@numba.njit(cache=True)
def _sums(weight: Array, starts: Indices, stops: Indices, counts: Indices, state: np.uint64) -> Array:
    """Sums of so many weights drawn with replacement from each slice; xorshift64*."""
    size, bins = counts.shape
    sums = np.zeros((size, bins))
    for draw in range(size):
        for one in range(bins):
            width = stops[one] - starts[one]
            for _ in range(counts[draw, one]):
                state ^= state >> np.uint64(12)
                state ^= state << np.uint64(25)
                state ^= state >> np.uint64(27)
                uniform = (
                    np.float64((state * np.uint64(2685821657736338717)) >> np.uint64(11)) / 9007199254740992.0
                )
                sums[draw, one] += weight[starts[one] + int(uniform * width)]
    return sums
