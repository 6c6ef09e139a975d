"""Weighted spectra drawn again: compound Poisson bins, with the weights that belong to each place.

The two spectra a cut makes of the background, with random splits and bootstrap replicas of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
import numpy.typing as npt
from scipy import optimize

from hepdecorr.errors import InputError
from hepdecorr.stats.arrays import binned_sums
from hepdecorr.stats.divergence import jsd
from hepdecorr.stats.results import Array, Indices

MIN_POOL_EVENTS = 15  # events that tell the weights of a bin; with fewer its neighbours join
GAMMA_THRESHOLD = 100.0  # events in a bin beyond which a gamma distribution stands for their sum


@dataclass(frozen=True)
class LocalWeights:
    """What to draw in each bin: its trend times a slice of all weights, ordered by bin, without trend."""

    detrended: Array  # (events,)
    starts: Indices  # (bins,)
    stops: Indices
    trend: Array  # (bins,)
    mean: Array  # of the weights to draw in each bin, trend included
    mean_square: Array  # mean of their squares

    @classmethod
    def from_events(cls, bin_index: Indices, weight: Array, *, bins: int) -> LocalWeights:
        """From one class's events in bins `place`, (events,): as many bins to each side as POOL events take.

        In a falling spectrum weights change along the nuisance, and differently for what passes and fails:
        the trend of their logarithm is a parabola in the bin.
        """
        bin_index, weight = bin_index[weight > 0], weight[weight > 0]
        trend = _fit_weight_trend(bin_index, weight, bins=bins)
        order = np.argsort(bin_index, kind="stable")
        ordered = weight[order] / trend[bin_index[order]]
        ends = np.concatenate([[0], np.cumsum(np.bincount(bin_index, minlength=bins))]).astype(np.int64)
        starts, stops = np.empty(bins, dtype=np.int64), np.empty(bins, dtype=np.int64)
        for one in range(bins):
            low, high = one, one + 1
            while ends[high] - ends[low] < min(MIN_POOL_EVENTS, len(bin_index)):
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

    def draw_spectra(self, mean: Array, *, size: int, random: np.random.Generator) -> Array:
        """`size` spectra with the expectation `mean` (bins,): a Poisson number of events in each bin.

        Bohm and Zech, Nucl. Instrum. Meth. A 748 (2014) 1, sect. 2: the sum of a Poisson number of weights.
        """
        rate = mean / self.mean
        many = rate > GAMMA_THRESHOLD
        spectra = np.zeros((size, len(mean)))
        shape, scale = (
            mean[many] * self.mean[many] / self.mean_square[many],
            self.mean_square[many] / self.mean[many],
        )
        spectra[:, many] = random.gamma(shape, size=(size, len(shape))) * scale
        few = np.flatnonzero(~many)
        counts = random.poisson(rate[few], size=(size, len(few)))
        state = np.uint64(random.integers(1, 2**63))
        sums = _sum_random_weights(self.detrended, self.starts[few], self.stops[few], counts, state)
        spectra[:, few] = sums * self.trend[few]
        return spectra


def _fit_weight_trend(bin_index: Indices, weight: Array, *, bins: int) -> Array:
    """Parabola through the logarithms of the weights, (bins,); level beyond the bins that are filled."""
    degree = min(2, len(np.unique(bin_index)) - 1, len(bin_index) // 15)
    x = 2 * bin_index / bins - 1
    made = np.polynomial.legendre.legfit(x, np.log(weight), degree)
    where = np.clip(np.arange(bins), bin_index.min(), bin_index.max())
    return np.asarray(np.exp(np.polynomial.legendre.legval(2 * where / bins - 1, made)))


@numba.njit(cache=True)
def _sum_random_weights(
    weight: Array, starts: Indices, stops: Indices, counts: Indices, state: np.uint64
) -> Array:
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


@dataclass(frozen=True)
class PassFailSpectra:
    """The binned spectra of passing and failing events, and the events behind them."""

    bin_index: Indices  # bin of every event in range
    weight: Array
    pass_mask: npt.NDArray[np.bool_]
    bins: int
    pass_spectrum: Array  # sums of weights (bins,)
    fail_spectrum: Array
    counts: Indices  # entries, both together

    @classmethod
    def from_events(
        cls, bin_index: Indices, weight: Array, *, pass_mask: npt.NDArray[np.bool_], bins: int
    ) -> PassFailSpectra:
        counts = np.bincount(bin_index, minlength=bins).astype(np.int64)
        return cls(
            bin_index=bin_index,
            weight=weight,
            pass_mask=pass_mask,
            bins=bins,
            pass_spectrum=binned_sums(bin_index, weight * pass_mask, bins),
            fail_spectrum=binned_sums(bin_index, weight * ~pass_mask, bins),
            counts=counts,
        )

    @property
    def n_pass(self) -> int:
        return int(np.count_nonzero(self.pass_mask))

    @property
    def n_fail(self) -> int:
        return len(self.pass_mask) - self.n_pass

    @property
    def has_equal_weights(self) -> bool:
        """Whether all weights are equal: then permutations are hypergeometric draws."""
        return bool(len(self.weight)) and float(np.ptp(self.weight)) <= 1e-9 * float(self.weight[0])

    def check_filled(self, *, working_point: str, range: tuple[float, float]) -> None:  # noqa: A002
        """InputError unless both spectra hold weight, and that in more than one bin."""
        for name, spectrum in (("pass", self.pass_spectrum), ("fail", self.fail_spectrum)):
            if not spectrum.sum() > 0:
                raise InputError(
                    f"no background events in {range} {name} at {working_point}; measure on more events, "
                    "choose another working point, or check the nuisance's range"
                )
        if np.count_nonzero(self.pass_spectrum + self.fail_spectrum) < 2:
            raise InputError(
                f"all background events in {range} lie in one bin of the nuisance: there is no spectrum to "
                "compare; check the nuisance's range and its unit, or leave out a nuisance that is constant"
            )

    def draw_null_jsd(self, size: int, *, seed: int) -> Array:
        """JSD of `size` pairs of spectra that differ by chance alone; (size,).

        Without weights random splits into as many passing events. With weights both spectra are drawn again
        from their sum, each with its own weights place by place: what passes may be heavier or lighter than
        what fails, and a permutation would give both the same errors.
        """
        random = np.random.default_rng(seed)
        if self.has_equal_weights:
            drawn = random.multivariate_hypergeometric(
                self.counts, self.n_pass, size=size, method="marginals"
            )
            return np.asarray(jsd(drawn, self.counts - drawn))
        return self._redraw_jsd(0.0, size=size, random=random)

    def bootstrap_jsd(self, observed: float, *, floor: float, size: int, seed: int) -> tuple[Array, float]:
        """Bootstrap replicas that average to the observed JSD, and the divergence behind them."""
        random = np.random.default_rng([seed, 1])
        target = max(observed - floor, 0.0)
        # The floor differs a little between equal and unequal spectra: one correction is enough.
        rough = self._redraw_jsd(target, size=max(size // 4, 100), random=random)
        target = max(observed - (float(rough.mean()) - target), 0.0)
        return self._redraw_jsd(target, size=size, random=random), target

    def _redraw_jsd(self, target: float, *, size: int, random: np.random.Generator) -> Array:
        p, f = self.pass_spectrum / self.pass_spectrum.sum(), self.fail_spectrum / self.fail_spectrum.sum()
        total = self.pass_spectrum + self.fail_spectrum
        pooled = total / total.sum()
        share = _shrinkage_factor(p, f, pooled, target)
        spectra = []
        for shape, chosen in ((p, self.pass_mask), (f, ~self.pass_mask)):
            mean = (pooled + share * (shape - pooled)) * self.weight[chosen].sum()
            if self.has_equal_weights:
                unit = float(self.weight[0])
                spectra.append(random.poisson(mean / unit, size=(size, self.bins)) * unit)
            else:
                near = LocalWeights.from_events(self.bin_index[chosen], self.weight[chosen], bins=self.bins)
                spectra.append(near.draw_spectra(mean, size=size, random=random))
        filled = (spectra[0].sum(axis=1) > 0) & (spectra[1].sum(axis=1) > 0)
        return np.asarray(jsd(spectra[0][filled], spectra[1][filled]))


def _shrinkage_factor(p: Array, f: Array, pooled: Array, target: float) -> float:
    """How far to go from the pooled spectrum to the two observed for a divergence of `target`."""

    def gap(share: float) -> float:
        return float(jsd(pooled + share * (p - pooled), pooled + share * (f - pooled))) - target

    if target <= 0:
        return 0.0
    return 1.0 if gap(1.0) <= 0 else float(optimize.brentq(gap, 0.0, 1.0, xtol=1e-6))
