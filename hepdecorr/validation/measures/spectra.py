"""The two spectra a cut makes of the background, with random splits and bootstrap replicas of them."""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
import numpy.typing as npt
from scipy import optimize

from hepdecorr.errors import InputError
from hepdecorr.validation.measures.divergence import jsd
from hepdecorr.validation.measures.events import effective, sums
from hepdecorr.validation.measures.numbers import Array, Indices


@dataclass(frozen=True)
class Spectra:
    """The binned spectra of passing and failing events, and the events behind them."""

    place: Indices  # bin of every event in range
    weight: Array
    passed: npt.NDArray[np.bool_]
    bins: int
    passing: Array  # sums of weights (bins,)
    failing: Array
    squares: Array  # sums of squared weights, both together
    counts: Indices  # entries, both together

    @classmethod
    def fill(cls, place: Indices, weight: Array, *, passing: npt.NDArray[np.bool_], bins: int) -> Spectra:
        counts = np.bincount(place, minlength=bins).astype(np.int64)
        return cls(
            place=place,
            weight=weight,
            passed=passing,
            bins=bins,
            passing=sums(place, weight * passing, bins),
            failing=sums(place, weight * ~passing, bins),
            squares=sums(place, weight**2, bins),
            counts=counts,
        )

    @property
    def n_pass(self) -> int:
        return int(np.count_nonzero(self.passed))

    @property
    def n_fail(self) -> int:
        return len(self.passed) - self.n_pass

    @property
    def unit(self) -> bool:
        """Whether all weights are equal: then permutations are hypergeometric draws."""
        return bool(len(self.weight)) and float(np.ptp(self.weight)) <= 1e-9 * float(self.weight[0])

    def check(self, *, asked: str, range: tuple[float, float]) -> None:  # noqa: A002
        """InputError unless both spectra hold weight."""
        for name, spectrum in (("pass", self.passing), ("fail", self.failing)):
            if not spectrum.sum() > 0:
                raise InputError(
                    f"no background events in {range} {name} at {asked}; measure on more events, choose "
                    "another working point, or check the nuisance's range"
                )

    def permuted(self, size: int, *, seed: int) -> tuple[Array, float]:
        """JSD of `size` random splits into as many passing events, and the factor to this sample's errors."""
        random = np.random.default_rng(seed)
        if self.unit:
            drawn = random.multivariate_hypergeometric(
                self.counts, self.n_pass, size=size, method="marginals"
            )
            return np.asarray(jsd(drawn, self.counts - drawn)), 1.0
        few = min(self.n_pass, self.n_fail)
        chosen, squares = _random_splits(
            self.place, self.weight, few, self.bins, size, np.uint64(random.integers(1, 2**63))
        )
        total = self.passing + self.failing
        rest, rest_squares = total - chosen, np.square(self.weight).sum() - squares
        errors = squares / chosen.sum(axis=1) ** 2 + rest_squares / np.maximum(rest, 0).sum(axis=1) ** 2
        own = 1 / effective(self.weight[self.passed]) + 1 / effective(self.weight[~self.passed])
        return np.asarray(jsd(chosen, np.maximum(rest, 0))) / errors, own

    def replicas(self, observed: float, *, floor: float, size: int, seed: int) -> tuple[Array, float]:
        """Bootstrap replicas that average to the observed JSD, and the divergence behind them."""
        random = np.random.default_rng([seed, 1])
        target = max(observed - floor, 0.0)
        # The floor differs a little between equal and unequal spectra: one correction is enough.
        rough = self._redrawn(target, size=max(size // 4, 100), random=random)
        target = max(observed - (float(rough.mean()) - target), 0.0)
        return self._redrawn(target, size=size, random=random), target

    def _redrawn(self, target: float, *, size: int, random: np.random.Generator) -> Array:
        p, f = self.passing / self.passing.sum(), self.failing / self.failing.sum()
        total = self.passing + self.failing
        pooled = total / total.sum()
        share = _shrinkage(p, f, pooled, target)
        # sum w^2 / sum w of a bin: one replica event carries this weight (scaled Poisson, Bohm and Zech,
        # Nucl. Instrum. Meth. A 748 (2014) 1).
        grain = self.squares / np.maximum(total, np.finfo(float).tiny)
        spectra = []
        for shape, chosen in ((p, self.passed), (f, ~self.passed)):
            mean = (pooled + share * (shape - pooled)) * self.weight[chosen].sum()
            unit = grain * np.square(self.weight[chosen]).sum() / (grain @ mean)
            unit = np.where(unit > 0, unit, 1.0)
            spectra.append(random.poisson(mean / unit, size=(size, self.bins)) * unit)
        filled = (spectra[0].sum(axis=1) > 0) & (spectra[1].sum(axis=1) > 0)
        return np.asarray(jsd(spectra[0][filled], spectra[1][filled]))


def _shrinkage(p: Array, f: Array, pooled: Array, target: float) -> float:
    """How far to go from the pooled spectrum to the two observed for a divergence of `target`."""

    def gap(share: float) -> float:
        return float(jsd(pooled + share * (p - pooled), pooled + share * (f - pooled))) - target

    if target <= 0:
        return 0.0
    return 1.0 if gap(1.0) <= 0 else float(optimize.brentq(gap, 0.0, 1.0, xtol=1e-6))


@numba.njit(cache=True)
def _random_splits(
    place: Indices, weight: Array, few: int, bins: int, size: int, state: np.uint64
) -> tuple[Array, Array]:
    """Spectra of `few` events drawn without replacement, `size` times: partial Fisher-Yates, xorshift64*."""
    events = len(place)
    order = np.arange(events)
    sums = np.zeros((size, bins))
    squares = np.zeros(size)
    for draw in range(size):
        for i in range(few):
            state ^= state >> np.uint64(12)
            state ^= state << np.uint64(25)
            state ^= state >> np.uint64(27)
            uniform = (
                np.float64((state * np.uint64(2685821657736338717)) >> np.uint64(11)) / 9007199254740992.0
            )
            j = i + int(uniform * (events - i))
            order[i], order[j] = order[j], order[i]
            event = order[i]
            sums[draw, place[event]] += weight[event]
            squares[draw] += weight[event] ** 2
    return sums, squares
