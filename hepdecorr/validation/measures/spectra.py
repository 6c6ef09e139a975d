"""The two spectra a cut makes of the background, with random splits and bootstrap replicas of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import optimize

from hepdecorr.errors import InputError
from hepdecorr.validation.measures.divergence import jsd
from hepdecorr.validation.measures.events import sums
from hepdecorr.validation.measures.numbers import Array, Indices
from hepdecorr.validation.measures.redraws import Weights


@dataclass(frozen=True)
class Spectra:
    """The binned spectra of passing and failing events, and the events behind them."""

    place: Indices  # bin of every event in range
    weight: Array
    passed: npt.NDArray[np.bool_]
    bins: int
    passing: Array  # sums of weights (bins,)
    failing: Array
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
        """InputError unless both spectra hold weight, and that in more than one bin."""
        for name, spectrum in (("pass", self.passing), ("fail", self.failing)):
            if not spectrum.sum() > 0:
                raise InputError(
                    f"no background events in {range} {name} at {asked}; measure on more events, choose "
                    "another working point, or check the nuisance's range"
                )
        if np.count_nonzero(self.passing + self.failing) < 2:
            raise InputError(
                f"all background events in {range} lie in one bin of the nuisance: there is no spectrum to "
                "compare; check the nuisance's range and its unit, or leave out a nuisance that is constant"
            )

    def null(self, size: int, *, seed: int) -> Array:
        """JSD of `size` pairs of spectra that differ by chance alone; (size,).

        Without weights random splits into as many passing events. With weights both spectra are drawn again
        from their sum, each with its own weights place by place: what passes may be heavier or lighter than
        what fails, and a permutation would give both the same errors.
        """
        random = np.random.default_rng(seed)
        if self.unit:
            drawn = random.multivariate_hypergeometric(
                self.counts, self.n_pass, size=size, method="marginals"
            )
            return np.asarray(jsd(drawn, self.counts - drawn))
        return self._redrawn(0.0, size=size, random=random)

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
        spectra = []
        for shape, chosen in ((p, self.passed), (f, ~self.passed)):
            mean = (pooled + share * (shape - pooled)) * self.weight[chosen].sum()
            if self.unit:
                unit = float(self.weight[0])
                spectra.append(random.poisson(mean / unit, size=(size, self.bins)) * unit)
            else:
                near = Weights.near(self.place[chosen], self.weight[chosen], bins=self.bins)
                spectra.append(near.draw(mean, size=size, random=random))
        filled = (spectra[0].sum(axis=1) > 0) & (spectra[1].sum(axis=1) > 0)
        return np.asarray(jsd(spectra[0][filled], spectra[1][filled]))


def _shrinkage(p: Array, f: Array, pooled: Array, target: float) -> float:
    """How far to go from the pooled spectrum to the two observed for a divergence of `target`."""

    def gap(share: float) -> float:
        return float(jsd(pooled + share * (p - pooled), pooled + share * (f - pooled))) - target

    if target <= 0:
        return 0.0
    return 1.0 if gap(1.0) <= 0 else float(optimize.brentq(gap, 0.0, 1.0, xtol=1e-6))
