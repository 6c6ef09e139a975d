"""Does a cut on the score sculpt the nuisance? The JSD with everything that makes it mean something.

The model behind the numbers, all in nats; J is the divergence of the binned spectra of passing and failing
background, j its value for infinitely many events.

- **floor** F = E[J] without sculpting. Unweighted it is exact (`expected_jsd`): the same events passing by
  lot. With weights it is the mean over draws of both spectra from their sum, each with the weights of its own
  events place by place: what passes may be heavier or lighter than what fails, as in a falling spectrum
  whose tail is generated in excess, and an exchange of events would then give the wrong errors.
- **p-value**: share of these draws (unweighted: permutations) with a J at least as large, (1 + #) / (1 + N).
- **interval**: a bootstrap from *shrunk* spectra. A plain bootstrap adds the floor a second time; here the
  spectra are first pulled towards their sum until the replicas average to the J observed.
- **upper limit** at 95 % on j: J follows s chi2'_{F/s}(j/s), a scaled noncentral chi-squared, whose mean
  F + j is right and whose s is set by the variance of the replicas. The limit solves
  P(J <= observed | j) / P(J <= observed | 0) = 0.05. The ratio (CLs; Read, J. Phys. G 28 (2002) 2693) keeps
  the limit positive when J fluctuates below its floor, at the price of covering more than 95 % there.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import optimize, stats

from hepdecorr.errors import InputError
from hepdecorr.validation.measures.divergence import expected_jsd, factor, jsd
from hepdecorr.validation.measures.efficiency import Tail, indices
from hepdecorr.validation.measures.events import checked, effective
from hepdecorr.validation.measures.numbers import ONE_SIGMA, Array, Indices, Measured, Record
from hepdecorr.validation.measures.spectra import Spectra

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sculpting(Record):
    """JSD of the nuisance's spectra in passing and failing background, with its floor and its limits."""

    jsd: Measured  # in the unit of log_base; 68.3 % interval
    floor: float  # E[JSD] without sculpting
    excess: float  # jsd - floor; may be negative
    excess_upper: float  # 95 % upper limit on the divergence beyond the floor
    p_value: float  # against 'no sculpting', by permutation; weighted: by drawing again
    n_pass: int  # entries in range
    n_fail: int
    n_pass_effective: float
    n_fail_effective: float
    outside_pass: int  # entries outside the range: not in the JSD, unless outside == "bins"
    outside_fail: int
    rejection: float  # asked; NaN where the threshold was given
    rejection_found: float  # of all background, inside the range or not
    threshold: float  # pass: logit > threshold
    log_base: str  # "e" (nats) or "2" (bits)
    bins: int
    range: tuple[float, float]
    outside: str  # "exclude" or "bins": two more bins, below and above
    weighted: bool
    permutations: int
    replicas: int
    seed: int
    floor_interval: tuple[float, float]  # 68.3 % of the JSDs found without sculpting: the floor's own spread

    @property
    def in_floors(self) -> float:
        """The JSD in units of its floor."""
        return self.jsd.value / self.floor


def sculpting(
    logit: npt.ArrayLike,
    nuisance: npt.ArrayLike,
    *,
    range: tuple[float, float],  # noqa: A002  the name numpy and hist use
    rejection: float | None = None,
    threshold: float | None = None,
    weight: npt.ArrayLike | None = None,
    bins: int = 50,
    log_base: str = "e",
    outside: str = "exclude",
    permutations: int = 2000,
    replicas: int = 1000,
    seed: int = 0,
) -> Sculpting:
    """How far a cut on the score shapes the nuisance's spectrum of the background.

    logit, nuisance, weight: (events,), background only, the nuisance in the unit of `range`. The cut is at a
    background rejection or at a threshold (with both, the threshold cuts and the rejection is what was
    asked). Events outside the range count for the rejection; they leave the spectra and are reported, or
    with outside="bins" fill two more bins. InputError when nothing passes or nothing fails.
    """
    score, z, w = checked(weight, logit=logit, nuisance=nuisance)
    tail = Tail(score, w)
    cut = _cut(tail, rejection, threshold)
    passing = score > cut
    place = _place(z, range, bins=bins, outside=outside)
    size = bins + 2 if outside == "bins" else bins
    inside = place < size
    lost = ~inside if outside == "exclude" else place >= bins
    spectra = Spectra.fill(place[inside], w[inside], passing=passing[inside], bins=size)
    spectra.check(
        asked=f"rejection {rejection}" if threshold is None else f"threshold {threshold:.6g}", range=range
    )
    null = spectra.null(permutations, seed=seed)
    base = factor(log_base)
    observed = jsd(spectra.passing, spectra.failing)
    floor = expected_jsd(spectra.counts, spectra.n_pass) if spectra.unit else float(np.mean(null))
    beyond = int(np.count_nonzero(null >= observed * (1 - 1e-12)))
    draws, shrunk = spectra.replicas(observed, floor=floor, size=replicas, seed=seed)
    # Far above the floor the replicas' mean is too noisy to show so small a bias.
    bias = max(float(draws.mean()) - shrunk, floor / 2)
    upper = upper_limit(observed, bias=bias, variance=float(draws.var()), shrunk=shrunk)
    if lost.mean() > 0.05:
        logger.warning(
            "%.1f %% of the background lies outside the range %s of the spectra", 100 * lost.mean(), range
        )
    return Sculpting(
        jsd=_interval(observed, draws).scaled(base),
        floor=floor * base,
        excess=(observed - floor) * base,
        excess_upper=upper * base,
        p_value=(1 + beyond) / (1 + len(null)),
        n_pass=spectra.n_pass,
        n_fail=spectra.n_fail,
        n_pass_effective=effective(w[inside & passing]),
        n_fail_effective=effective(w[inside & ~passing]),
        outside_pass=int(np.count_nonzero(lost & passing)),
        outside_fail=int(np.count_nonzero(lost & ~passing)),
        rejection=math.nan if rejection is None else rejection,
        rejection_found=1 - tail.efficiency(cut),
        threshold=cut,
        log_base=log_base,
        bins=bins,
        range=(float(range[0]), float(range[1])),
        outside=outside,
        weighted=weight is not None,
        permutations=permutations,
        replicas=replicas,
        seed=seed,
        floor_interval=_spread(null, base),
    )


def _spread(null: Array, base: float) -> tuple[float, float]:
    low, high = np.quantile(null, [0.5 - ONE_SIGMA / 2, 0.5 + ONE_SIGMA / 2]) * base
    return float(low), float(high)


def _cut(tail: Tail, rejection: float | None, threshold: float | None) -> float:
    if threshold is not None:
        return float(threshold)
    if rejection is None:
        raise InputError("sculpting: give a background rejection, for example rejection=0.95, or a threshold")
    return tail.threshold(1 - rejection)


def _place(z: Array, span: tuple[float, float], *, bins: int, outside: str) -> Indices:
    if outside not in ("exclude", "bins"):
        raise InputError(
            f"outside={outside!r}: 'exclude' leaves events out of range out of the spectra, 'bins' adds bins"
        )
    if not (bins >= 2 and span[0] < span[1]):
        raise InputError(
            f"sculpting: {bins} bins on {span}; at least two bins on a range (low, high) are needed"
        )
    place = indices(z, np.linspace(*span, bins + 1))
    if outside == "bins":
        place[z > span[1]] = bins + 1
    return place


def _interval(observed: float, draws: Array) -> Measured:
    low, high = np.quantile(draws, [0.5 - ONE_SIGMA / 2, 0.5 + ONE_SIGMA / 2]) - draws.mean()
    return Measured(observed, max(observed + float(low), 0.0), observed + float(high), float(draws.std()))


def upper_limit(
    observed: float, *, bias: float, variance: float, shrunk: float, level: float = 0.95
) -> float:
    """CLs upper limit on the divergence j of two spectra, in nats, from the J observed in finite samples.

    bias, variance: E[J] - j and Var[J] at j = shrunk, the best estimate of j.
    """
    s = variance / (2 * bias + 4 * shrunk)
    background = _cumulative(observed, 0.0, bias=bias, s=s)

    def gap(j: float) -> float:
        return _cumulative(observed, j, bias=bias, s=s) - (1 - level) * background

    high = max(observed, bias) + 5 * math.sqrt(variance)
    while gap(high) > 0:
        high *= 2
    return float(min(optimize.brentq(gap, 0.0, high, rtol=1e-6), math.log(2)))


def _cumulative(observed: float, j: float, *, bias: float, s: float) -> float:
    if (observed + j) / s > 1e5:
        # The noncentral series no longer converges; by then its distribution is normal.
        return float(stats.norm.cdf(observed, bias + j, math.sqrt(2 * s * bias + 4 * s * j)))
    return float(
        stats.ncx2.cdf(observed / s, bias / s, j / s) if j > 0 else stats.chi2.cdf(observed / s, bias / s)
    )
