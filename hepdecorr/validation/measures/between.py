"""How much a figure differs from group to group, beyond what chance makes it differ.

The model is the analysis of variance with random effects, for groups of any size: the mean of the n_g events
of group g is m_g = mu + a_g + noise with Var a = sigma^2, which is asked for, and Var noise = v / n_g. Of
an efficiency the values are 0 and 1, and v is the binomial p (1 - p). With S_k = sum n_g^k, over G groups:

- **v** is pooled within groups; for 0 and 1 without weights its estimate is exactly that of E[p_g (1 - p_g)].
- **sigma^2** by moments: Q = sum n_g (m_g - m)^2 has E[Q] = (G - 1) v + (S_1 - S_2 / S_1) sigma^2 (Cochran,
  Biometrics 10 (1954) 101; DerSimonian and Laird, Controlled Clin. Trials 7 (1986) 177, eq. 8; Searle,
  Casella, McCulloch, Variance Components, 1992, sect. 3.6). It has no bias for groups of unequal size, which
  is why it is not cut off at zero: a negative value says that groups differ less than chance lets them.
- **interval**: bootstrap over groups (Davison and Hinkley, Bootstrap Methods, 1997, sect. 3.8), since what
  another set of groups would give is the question, not what other events of the same groups would.
- **p-value** against 'no dependence on the group': events are exchanged between groups, (1 + #) / (1 + N).
  Where fewer than ten permutations reach what is observed their number says little, and the tail of a gamma
  distribution with their mean and variance is taken, since Q is a sum over groups and near chi-squared (as
  that of a generalised Pareto is by Knijnenburg et al., Bioinformatics 25 (2009) i161).
- **upper limit** at 95 % on sigma: Q / v follows a gamma distribution with the moments of Biggerstaff and
  Tweedie, Stat. Med. 16 (1997) 753, normal a_g assumed; its variance at sigma = 0 is that of the
  permutations, since chi-squared is too narrow where few events pass. It solves P(Q <= observed | sigma) /
  P(Q <= observed | 0) = 0.05 (CLs; Read, J. Phys. G 28 (2002) 2693), which keeps it above zero.

With weights n_g is the effective count (sum w)^2 / sum w^2, and v is weighted as in the error of a mean.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt
from scipy import optimize, stats

from hepdecorr.errors import InputError
from hepdecorr.validation.measures.events import checked, sums
from hepdecorr.validation.measures.numbers import ONE_SIGMA, Array, Indices, Measured, Record

PERMUTATIONS = 1000
REACHED = 10  # permutations that have to reach what is observed for their number to be a p-value
REPLICAS = 1000
CONFIDENCE = 0.95
ENDS = (0.5 - ONE_SIGMA / 2, 0.5 + ONE_SIGMA / 2)
BLOCK = 4_000_000  # numbers that are drawn at once: 32 MB
MOST, FEWEST = 1_000_000, 200  # numbers that draws of many groups may take, and draws all the same


@dataclass(frozen=True)
class Between(Record):
    """Spread of a mean between groups, beyond chance, in the unit of the values (variance: its square)."""

    variance: Measured  # negative where groups differ less than chance lets them; 68.3 % interval
    spread: Measured  # its root, with its sign
    upper: float  # 95 % upper limit on the spread
    p_value: float  # against 'no dependence on the group', by permutation
    chance: float  # spread that chance alone gives to the means of these groups
    mean: float  # of all events
    groups: int  # that have events
    events: int
    effective: float  # events that unit weights would need
    permutations: int
    replicas: int
    seed: int

    def scaled(self, factor: float) -> Between:
        """The same spread in another unit (factor > 0)."""
        return replace(
            self,
            variance=self.variance.scaled(factor**2),
            spread=self.spread.scaled(factor),
            upper=self.upper * factor,
            chance=self.chance * factor,
            mean=self.mean * factor,
        )


@dataclass(frozen=True)
class Smaller(Record):
    """How many times the spread between groups is smaller than that of a reference."""

    times: Measured  # infinite where the spread is not above chance
    least: float  # 95 % lower limit


class Moments(NamedTuple):
    """What is left of the events of each group, (groups,) each; zeros for a group without events."""

    size: Array  # effective events
    mean: Array
    within: Array  # sum of w^2 (y - mean)^2
    freedom: Array  # what that sum is of v on average

    @classmethod
    def of(cls, values: npt.ArrayLike, place: Indices, weight: npt.ArrayLike | None, *, groups: int) -> Self:
        """From values and weights (events,) and each event's group, numbered from 0."""
        y, w = checked(weight, values=values)
        middle = float(np.average(y, weights=w))  # squares of masses far from zero would lose digits
        return cls._of(y - middle, place, w, groups=groups)._moved(middle)

    @classmethod
    def _of(cls, y: Array, place: Indices, w: Array, *, groups: int) -> Self:
        total, squares, cubes = (sums(place, w**power, groups) for power in (1, 2, 3))
        filled = total > 0
        safe = np.where(filled, total, 1.0)
        mean = sums(place, w * y, groups) / safe
        within = sums(place, np.square(w * (y - mean[place])), groups)
        freedom = np.where(filled, squares - 2 * cubes / safe + np.square(squares / safe), 0.0)
        # A group of one event has no freedom, not a rounding error of it.
        freedom[freedom < 1e-12 * squares] = 0.0
        size = np.where(filled, np.square(total) / np.where(filled, squares, 1.0), 0.0)
        return cls(size, mean, within, freedom)

    def _moved(self, by: float) -> Self:
        return self._replace(mean=np.where(self.size > 0, self.mean + by, 0.0))

    @property
    def error(self) -> Array:
        """What chance does to each mean, sqrt(v / n); infinite for a group without events."""
        with np.errstate(divide="ignore"):
            return np.asarray(np.sqrt(self.pooled / self.size))

    @property
    def pooled(self) -> float:
        """v, the variance within groups; NaN where no group has two events."""
        freedom = float(self.freedom.sum())
        return float(self.within.sum()) / freedom if freedom > 0 else math.nan


def between(
    values: npt.ArrayLike,
    group: npt.ArrayLike,
    weight: npt.ArrayLike | None = None,
    *,
    permutations: int = PERMUTATIONS,
    replicas: int = REPLICAS,
    seed: int = 0,
    what: str = "groups",
) -> Between:
    """Spread of the group means of `values` beyond chance, with a test that there is none.

    values: (events,), of an efficiency whether each event passes; group: (events,) whole numbers; weight:
    (events,). InputError for fewer than two groups, or where no group has two events.
    """
    y, w = checked(weight, values=values)
    place, groups = numbered(group, len(y))
    if groups < 2:
        raise InputError(f"{what}: all {len(y)} events are of one group; a spread needs two groups or more")
    if np.ptp(y) == 0:
        raise InputError(f"{what}: all {len(y)} values are {y[0]:g}; what does not vary has no spread")
    equal = float(np.ptp(w)) <= 1e-9 * float(w[0])
    found = Moments.of(y, place, None if equal else w, groups=groups)
    if not found.freedom.sum() > 0:
        raise InputError(
            f"{what}: each of the {groups} groups has one event: their spread cannot be told from chance; "
            "name larger groups"
        )
    random = np.random.default_rng([seed, 0])
    null = _null(y, place, None if equal else w, groups=groups, size=permutations, random=random)
    observed = _heterogeneity(found)
    draws = bootstrap(found, again(groups, size=replicas, seed=seed))
    variance = interval(_variance(found), draws)
    return Between(
        variance=variance,
        spread=root(variance),
        upper=math.sqrt(_upper(found, null) * max(found.pooled, 0.0)),
        p_value=_p_value(observed, null),
        chance=math.sqrt(found.pooled * (groups - 1) / _lever(found.size)),
        mean=float(np.average(y, weights=w)),
        groups=groups,
        events=len(y),
        effective=float(found.size.sum()),
        permutations=permutations,
        replicas=replicas,
        seed=seed,
    )


def smaller(
    reference: Moments, other: Moments, *, upper: float, replicas: int = REPLICAS, seed: int = 0
) -> Smaller:
    """How many times smaller the spread of `other` is than that of the reference, of the same groups.

    Both are measured in the same draws of groups, so that what these do to both drops out. upper: 95 % limit
    on the spread of `other`; it bounds the ratio where that spread is not above chance, where the bootstrap
    has no ratio.
    """
    size = len(reference.size)
    if len(other.size) != size:
        raise InputError(f"smaller: {size} groups of the reference, {len(other.size)} of the other")
    drawn = [bootstrap(one, again(size, size=replicas, seed=seed)) for one in (reference, other)]
    variances = (_variance(reference), _variance(other))
    return compared(variances, (drawn[0], drawn[1]), upper=upper)


def compared(variances: tuple[float, float], drawn: tuple[Array, Array], *, upper: float) -> Smaller:
    """The ratio of two spreads, of the reference and another, from variances and these in the same draws."""
    value = float(_ratio(np.array(variances[0]), np.array(variances[1])))
    ratios = np.sort(_ratio(*drawn))
    # Without interpolation: some may be infinite.
    low, high, least = (float(ratios[int(q * (len(ratios) - 1))]) for q in (*ENDS, 1 - CONFIDENCE))
    std = float(np.std(ratios)) if np.isfinite(ratios[-1]) else None
    bound = math.sqrt(max(variances[0], 0.0)) / upper if upper > 0 else math.inf
    return Smaller(Measured(value, low, high, std), min(least, bound))


def numbered(group: npt.ArrayLike, size: int) -> tuple[Indices, int]:
    """Groups numbered from 0, (events,), and how many; InputError for another number of events."""
    names = np.asarray(group)
    if names.shape != (size,):
        raise InputError(f"group: shape {names.shape} where ({size},) is needed; pass one group per event")
    found, place = np.unique(names, return_inverse=True)
    return np.asarray(place, dtype=np.int64), len(found)


def limited(draws: int, groups: int) -> int:
    """So many draws, or fewer where there are thousands of groups."""
    return max(min(draws, MOST // groups), min(FEWEST, draws))


@lru_cache(maxsize=1)
def again(groups: int, *, size: int, seed: int) -> Array:
    """How often each group is drawn: (size, groups), as many draws as groups each time.

    The same draws serve all figures of the same groups, and are kept; they cannot be written to.
    """
    random = np.random.default_rng([seed, 1])
    found = random.multinomial(groups, np.full(groups, 1 / groups), size=size).astype(np.float64)
    found.flags.writeable = False
    return np.asarray(found)


def bootstrap(moments: Moments, times: Array) -> Array:
    """Variance between groups in every draw of `again`; NaN where fewer than two groups are filled."""
    n, m = moments.size, moments.mean - _middle(moments)
    filled = (n > 0).astype(np.float64)
    columns = np.stack([filled, n, n**2, n * m, n * m**2, moments.within, moments.freedom], axis=1)
    k, s1, s2, first, second, within, freedom = (times @ columns).T
    with np.errstate(invalid="ignore", divide="ignore"):
        # The variance of what is drawn with replacement is (k - 1) / k of that of the groups.
        q = (second - first**2 / s1) * k / (k - 1)
        found = (q - (k - 1) * within / freedom) / (s1 - s2 / s1)
    return np.asarray(np.where(np.isfinite(found) & (k > 1), found, np.nan))


def _middle(moments: Moments) -> float:
    return float(np.average(moments.mean, weights=moments.size))


def _lever(size: Array) -> float:
    """S_1 - S_2 / S_1: what sigma^2 is multiplied with in E[Q]."""
    total = float(size.sum())
    return total - float(np.square(size).sum()) / total


def _heterogeneity(moments: Moments) -> float:
    """Q / v: chi-squared with G - 1 degrees of freedom without dependence, where groups are large."""
    q = float(moments.size @ np.square(moments.mean - _middle(moments)))
    v = moments.pooled
    if v > 0:
        return q / v
    return math.inf if q > 0 else 0.0


def _p_value(observed: float, null: Array) -> float:
    reached = int(np.count_nonzero(null >= observed * (1 - 1e-9)))
    counted = (1 + reached) / (1 + len(null))
    mean, variance = float(null.mean()), float(null.var())
    if reached >= REACHED or not (variance > 0 and math.isfinite(observed)):
        return counted
    return min(counted, float(stats.gamma.sf(observed, mean**2 / variance, scale=variance / mean)))


def _variance(moments: Moments) -> float:
    q = float(moments.size @ np.square(moments.mean - _middle(moments)))
    groups = np.count_nonzero(moments.size > 0)
    return float((q - (groups - 1) * moments.pooled) / _lever(moments.size))


def interval(value: float, draws: Array) -> Measured:
    """A value with the quantiles of its bootstrap, those of draws that are not finite left out."""
    finite = draws[np.isfinite(draws)]
    if len(finite) < 2:
        return Measured(value, -math.inf, math.inf)
    low, high = np.quantile(finite, ENDS)
    return Measured(value, min(float(low), value), max(float(high), value), float(finite.std()))


def root(variance: Measured) -> Measured:
    """Of a variance the deviation; its own where it is well above zero, else none."""
    ends = (variance.value, variance.low, variance.high)
    value, low, high = (math.copysign(math.sqrt(abs(x)), x) for x in ends)
    std = variance.std / (2 * value) if variance.std is not None and variance.low > 0 else None
    return Measured(value, low, high, std)


def _ratio(reference: Array, other: Array) -> Array:
    """Root of the ratio of two variances; infinite where the second is not positive."""
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = np.sqrt(np.maximum(reference, 0.0) / other)
    return np.asarray(np.where(other > 0, ratio, np.inf))


def _upper(moments: Moments, null: Array) -> float:
    """95 % CLs upper limit on sigma^2 / v; null: Q / v in permutations."""
    n = moments.size
    s1, s2, s3 = (float((n**power).sum()) for power in (1, 2, 3))
    lever, square = s1 - s2 / s1, s2 - 2 * s3 / s1 + (s2 / s1) ** 2
    # Below all of the permutations nothing more can be learned.
    observed = max(_heterogeneity(moments), float(null.min()))
    centre, width = float(null.mean()), float(null.var())
    if not (math.isfinite(observed) and width > 0):
        return math.inf

    def below(t: float) -> float:
        mean, variance = centre + lever * t, width + 4 * lever * t + 2 * square * t**2
        return float(stats.gamma.cdf(observed, mean**2 / variance, scale=variance / mean))

    target = (1 - CONFIDENCE) * below(0.0)
    high = max(observed, centre) / lever
    while below(high) > target:
        high *= 2
    return float(optimize.brentq(lambda t: below(t) - target, 0.0, high, rtol=1e-6))


def _null(
    y: Array, place: Indices, w: Array | None, *, groups: int, size: int, random: np.random.Generator
) -> Array:
    """Q / v with events exchanged between groups, (size,)."""
    if w is not None:
        # An event keeps its weight: what passes may be heavier or lighter than what fails.
        orders = (random.permutation(len(y)) for _ in range(size))
        return np.array([_heterogeneity(Moments._of(y[o], place, w[o], groups=groups)) for o in orders])
    n = np.bincount(place, minlength=groups)
    low, high = float(y.min()), float(y.max())
    if np.all((y == low) | (y == high)):
        # Of 0 and 1 only numbers matter: those of draws without replacement.
        block = max(BLOCK // groups, 1)
        passed = int(np.count_nonzero(y == high))
        parts = [
            random.multivariate_hypergeometric(n, passed, size=min(block, size - done), method="marginals")
            for done in range(0, size, block)
        ]
        means = np.concatenate([part / n for part in parts]) * (high - low)
        middle = passed / len(y) * (high - low)
    else:
        means = np.stack([sums(place, random.permutation(y), groups) / n for _ in range(size)])
        middle = float(y.mean())
    q = np.square(means - middle) @ n
    # All events together vary as much as they do; what is not between groups is within them.
    v = (float(np.square(y - y.mean()).sum()) - q) / (len(y) - groups)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(v > 0, q / v, np.where(q > 0, np.inf, 0.0)))
