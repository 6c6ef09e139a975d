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
from hepdecorr.stats.arrays import binned_sums, validate_arrays
from hepdecorr.stats.results import ONE_SIGMA, Array, Estimate, Indices, ResultRecord

NUM_PERMUTATIONS = 1000
MIN_EXCEEDANCES = 10  # permutations that have to reach what is observed for their number to be a p-value
NUM_REPLICAS = 1000
CONFIDENCE_LEVEL = 0.95
INTERVAL_QUANTILES = (0.5 - ONE_SIGMA / 2, 0.5 + ONE_SIGMA / 2)
MAX_BLOCK_SIZE = 4_000_000  # numbers that are drawn at once: 32 MB
MAX_DRAWN_NUMBERS, MIN_DRAWS = (
    1_000_000,
    200,
)  # numbers that draws of many groups may take, and draws all the same


@dataclass(frozen=True)
class BetweenGroupSpread(ResultRecord):
    """Spread of a mean between groups, beyond chance, in the unit of the values (variance: its square)."""

    variance: Estimate  # negative where groups differ less than chance lets them; 68.3 % interval
    spread: Estimate  # its root, with its sign
    upper_limit: float  # 95 % upper limit on the spread
    p_value: float  # against 'no dependence on the group', by permutation
    statistical_spread: float  # spread that chance alone gives to the means of these groups
    mean: float  # of all events
    groups: int  # that have events
    events: int
    effective_events: float  # events that unit weights would need
    permutations: int
    replicas: int
    seed: int

    def scaled(self, factor: float) -> BetweenGroupSpread:
        """The same spread in another unit (factor > 0)."""
        return replace(
            self,
            variance=self.variance.scaled(factor**2),
            spread=self.spread.scaled(factor),
            upper_limit=self.upper_limit * factor,
            statistical_spread=self.statistical_spread * factor,
            mean=self.mean * factor,
        )


@dataclass(frozen=True)
class SpreadRatio(ResultRecord):
    """How many times the spread between groups is smaller than that of a reference."""

    ratio: Estimate  # infinite where the spread is not above chance
    lower_limit: float  # 95 % lower limit


class GroupMoments(NamedTuple):
    """What is left of the events of each group, (groups,) each; zeros for a group without events."""

    size: Array  # effective events
    mean: Array
    within_squares: Array  # sum of w^2 (y - mean)^2
    dof: Array  # what that sum is of v on average

    @classmethod
    def from_events(
        cls, values: npt.ArrayLike, group_index: Indices, weight: npt.ArrayLike | None, *, num_groups: int
    ) -> Self:
        """From values and weights (events,) and each event's group, numbered from 0."""
        y, w = validate_arrays(weight, values=values)
        middle = float(np.average(y, weights=w))  # squares of masses far from zero would lose digits
        return cls._from_centred(y - middle, group_index, w, num_groups=num_groups)._shift_means(middle)

    @classmethod
    def _from_centred(cls, y: Array, group_index: Indices, w: Array, *, num_groups: int) -> Self:
        total, squares, cubes = (binned_sums(group_index, w**power, num_groups) for power in (1, 2, 3))
        filled = total > 0
        safe = np.where(filled, total, 1.0)
        mean = binned_sums(group_index, w * y, num_groups) / safe
        within = binned_sums(group_index, np.square(w * (y - mean[group_index])), num_groups)
        freedom = np.where(filled, squares - 2 * cubes / safe + np.square(squares / safe), 0.0)
        # A group of one event has no freedom, not a rounding error of it.
        freedom[freedom < 1e-12 * squares] = 0.0
        size = np.where(filled, np.square(total) / np.where(filled, squares, 1.0), 0.0)
        return cls(size, mean, within, freedom)

    def _shift_means(self, offset: float) -> Self:
        return self._replace(mean=np.where(self.size > 0, self.mean + offset, 0.0))

    @property
    def mean_errors(self) -> Array:
        """What chance does to each mean, sqrt(v / n); infinite for a group without events."""
        with np.errstate(divide="ignore"):
            return np.asarray(np.sqrt(self.pooled_variance / self.size))

    @property
    def pooled_variance(self) -> float:
        """v, the variance within groups; NaN where no group has two events."""
        freedom = float(self.dof.sum())
        return float(self.within_squares.sum()) / freedom if freedom > 0 else math.nan


def between_group_variance(
    values: npt.ArrayLike,
    group: npt.ArrayLike,
    weight: npt.ArrayLike | None = None,
    *,
    permutations: int = NUM_PERMUTATIONS,
    replicas: int = NUM_REPLICAS,
    seed: int = 0,
    description: str = "groups",
) -> BetweenGroupSpread:
    """Spread of the group means of `values` beyond chance, with a test that there is none.

    values: (events,), of an efficiency whether each event passes; group: (events,) whole numbers; weight:
    (events,). InputError for fewer than two groups, or where no group has two events.
    """
    y, w = validate_arrays(weight, values=values)
    place, groups = index_groups(group, len(y))
    if groups < 2:
        raise InputError(
            f"{description}: all {len(y)} events are of one group; a spread needs two groups or more"
        )
    if np.ptp(y) == 0:
        raise InputError(f"{description}: all {len(y)} values are {y[0]:g}; what does not vary has no spread")
    equal = float(np.ptp(w)) <= 1e-9 * float(w[0])
    found = GroupMoments.from_events(y, place, None if equal else w, num_groups=groups)
    if not found.dof.sum() > 0:
        raise InputError(
            f"{description}: each of the {groups} groups has one event: "
            "their spread cannot be told from chance; "
            "name larger groups"
        )
    random = np.random.default_rng([seed, 0])
    null = _draw_null_statistics(
        y, place, None if equal else w, num_groups=groups, num_permutations=permutations, random=random
    )
    observed = _q_statistic(found)
    draws = bootstrap_variance(found, bootstrap_multiplicities(groups, num_replicas=replicas, seed=seed))
    variance = bootstrap_interval(_moment_variance(found), draws)
    return BetweenGroupSpread(
        variance=variance,
        spread=signed_sqrt(variance),
        upper_limit=math.sqrt(_spread_upper_limit(found, null) * max(found.pooled_variance, 0.0)),
        p_value=_permutation_p_value(observed, null),
        statistical_spread=math.sqrt(
            found.pooled_variance * (groups - 1) / _variance_coefficient(found.size)
        ),
        mean=float(np.average(y, weights=w)),
        groups=groups,
        events=len(y),
        effective_events=float(found.size.sum()),
        permutations=permutations,
        replicas=replicas,
        seed=seed,
    )


def spread_ratio(
    reference: GroupMoments,
    other: GroupMoments,
    *,
    upper_limit: float,
    replicas: int = NUM_REPLICAS,
    seed: int = 0,
) -> SpreadRatio:
    """How many times smaller the spread of `other` is than that of the reference, of the same groups.

    Both are measured in the same draws of groups, so that what these do to both drops out. upper: 95 % limit
    on the spread of `other`; it bounds the ratio where that spread is not above chance, where the bootstrap
    has no ratio.
    """
    size = len(reference.size)
    if len(other.size) != size:
        raise InputError(f"smaller: {size} groups of the reference, {len(other.size)} of the other")
    drawn = [
        bootstrap_variance(one, bootstrap_multiplicities(size, num_replicas=replicas, seed=seed))
        for one in (reference, other)
    ]
    variances = (_moment_variance(reference), _moment_variance(other))
    return ratio_from_draws(variances, (drawn[0], drawn[1]), upper_limit=upper_limit)


def ratio_from_draws(
    variances: tuple[float, float], draws: tuple[Array, Array], *, upper_limit: float
) -> SpreadRatio:
    """The ratio of two spreads, of the reference and another, from variances and these in the same draws."""
    value = float(_sqrt_variance_ratio(np.array(variances[0]), np.array(variances[1])))
    ratios = np.sort(_sqrt_variance_ratio(*draws))
    # Without interpolation: some may be infinite.
    low, high, least = (
        float(ratios[int(q * (len(ratios) - 1))]) for q in (*INTERVAL_QUANTILES, 1 - CONFIDENCE_LEVEL)
    )
    std = float(np.std(ratios)) if np.isfinite(ratios[-1]) else None
    bound = math.sqrt(max(variances[0], 0.0)) / upper_limit if upper_limit > 0 else math.inf
    return SpreadRatio(Estimate(value, low, high, std), min(least, bound))


def index_groups(group: npt.ArrayLike, size: int) -> tuple[Indices, int]:
    """Groups numbered from 0, (events,), and how many; InputError for another number of events."""
    names = np.asarray(group)
    if names.shape != (size,):
        raise InputError(f"group: shape {names.shape} where ({size},) is needed; pass one group per event")
    found, place = np.unique(names, return_inverse=True)
    return np.asarray(place, dtype=np.int64), len(found)


def cap_draws(draws: int, num_groups: int) -> int:
    """So many draws, or fewer where there are thousands of groups."""
    return max(min(draws, MAX_DRAWN_NUMBERS // num_groups), min(MIN_DRAWS, draws))


@lru_cache(maxsize=1)
def bootstrap_multiplicities(num_groups: int, *, num_replicas: int, seed: int) -> Array:
    """How often each group is drawn: (size, groups), as many draws as groups each time.

    The same draws serve all figures of the same groups, and are kept; they cannot be written to.
    """
    random = np.random.default_rng([seed, 1])
    found = random.multinomial(num_groups, np.full(num_groups, 1 / num_groups), size=num_replicas).astype(
        np.float64
    )
    found.flags.writeable = False
    return np.asarray(found)


def bootstrap_variance(moments: GroupMoments, multiplicities: Array) -> Array:
    """Variance between groups in every draw of `again`; NaN where fewer than two groups are filled."""
    n, m = moments.size, moments.mean - _grand_mean(moments)
    filled = (n > 0).astype(np.float64)
    columns = np.stack([filled, n, n**2, n * m, n * m**2, moments.within_squares, moments.dof], axis=1)
    k, s1, s2, first, second, within, freedom = (multiplicities @ columns).T
    with np.errstate(invalid="ignore", divide="ignore"):
        # The variance of what is drawn with replacement is (k - 1) / k of that of the groups.
        q = (second - first**2 / s1) * k / (k - 1)
        found = (q - (k - 1) * within / freedom) / (s1 - s2 / s1)
    return np.asarray(np.where(np.isfinite(found) & (k > 1), found, np.nan))


def _grand_mean(moments: GroupMoments) -> float:
    return float(np.average(moments.mean, weights=moments.size))


def _variance_coefficient(size: Array) -> float:
    """S_1 - S_2 / S_1: what sigma^2 is multiplied with in E[Q]."""
    total = float(size.sum())
    return total - float(np.square(size).sum()) / total


def _q_statistic(moments: GroupMoments) -> float:
    """Q / v: chi-squared with G - 1 degrees of freedom without dependence, where groups are large."""
    q = float(moments.size @ np.square(moments.mean - _grand_mean(moments)))
    v = moments.pooled_variance
    if v > 0:
        return q / v
    return math.inf if q > 0 else 0.0


def _permutation_p_value(observed: float, null: Array) -> float:
    reached = int(np.count_nonzero(null >= observed * (1 - 1e-9)))
    counted = (1 + reached) / (1 + len(null))
    mean, variance = float(null.mean()), float(null.var())
    if reached >= MIN_EXCEEDANCES or not (variance > 0 and math.isfinite(observed)):
        return counted
    return min(counted, float(stats.gamma.sf(observed, mean**2 / variance, scale=variance / mean)))


def _moment_variance(moments: GroupMoments) -> float:
    q = float(moments.size @ np.square(moments.mean - _grand_mean(moments)))
    groups = np.count_nonzero(moments.size > 0)
    return float((q - (groups - 1) * moments.pooled_variance) / _variance_coefficient(moments.size))


def bootstrap_interval(value: float, draws: Array) -> Estimate:
    """A value with the quantiles of its bootstrap, those of draws that are not finite left out."""
    finite = draws[np.isfinite(draws)]
    if len(finite) < 2:
        return Estimate(value, -math.inf, math.inf)
    low, high = np.quantile(finite, INTERVAL_QUANTILES)
    return Estimate(value, min(float(low), value), max(float(high), value), float(finite.std()))


def signed_sqrt(variance: Estimate) -> Estimate:
    """Of a variance the deviation; its own where it is well above zero, else none."""
    ends = (variance.value, variance.low, variance.high)
    value, low, high = (math.copysign(math.sqrt(abs(x)), x) for x in ends)
    std = variance.std / (2 * value) if variance.std is not None and variance.low > 0 else None
    return Estimate(value, low, high, std)


def _sqrt_variance_ratio(reference: Array, other: Array) -> Array:
    """Root of the ratio of two variances; infinite where the second is not positive."""
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = np.sqrt(np.maximum(reference, 0.0) / other)
    return np.asarray(np.where(other > 0, ratio, np.inf))


def _spread_upper_limit(moments: GroupMoments, null: Array) -> float:
    """95 % CLs upper limit on sigma^2 / v; null: Q / v in permutations."""
    n = moments.size
    s1, s2, s3 = (float((n**power).sum()) for power in (1, 2, 3))
    lever, square = s1 - s2 / s1, s2 - 2 * s3 / s1 + (s2 / s1) ** 2
    # Below all of the permutations nothing more can be learned.
    observed = max(_q_statistic(moments), float(null.min()))
    centre, width = float(null.mean()), float(null.var())
    if not (math.isfinite(observed) and width > 0):
        return math.inf

    def below(t: float) -> float:
        mean, variance = centre + lever * t, width + 4 * lever * t + 2 * square * t**2
        return float(stats.gamma.cdf(observed, mean**2 / variance, scale=variance / mean))

    target = (1 - CONFIDENCE_LEVEL) * below(0.0)
    high = max(observed, centre) / lever
    while below(high) > target:
        high *= 2
    return float(optimize.brentq(lambda t: below(t) - target, 0.0, high, rtol=1e-6))


def _draw_null_statistics(
    y: Array,
    group_index: Indices,
    w: Array | None,
    *,
    num_groups: int,
    num_permutations: int,
    random: np.random.Generator,
) -> Array:
    """Q / v with events exchanged between groups, (size,)."""
    if w is not None:
        # An event keeps its weight: what passes may be heavier or lighter than what fails.
        orders = (random.permutation(len(y)) for _ in range(num_permutations))
        return np.array(
            [
                _q_statistic(GroupMoments._from_centred(y[o], group_index, w[o], num_groups=num_groups))
                for o in orders
            ]
        )
    n = np.bincount(group_index, minlength=num_groups)
    low, high = float(y.min()), float(y.max())
    if np.all((y == low) | (y == high)):
        # Of 0 and 1 only numbers matter: those of draws without replacement.
        block = max(MAX_BLOCK_SIZE // num_groups, 1)
        passed = int(np.count_nonzero(y == high))
        parts = [
            random.multivariate_hypergeometric(
                n, passed, size=min(block, num_permutations - done), method="marginals"
            )
            for done in range(0, num_permutations, block)
        ]
        means = np.concatenate([part / n for part in parts]) * (high - low)
        middle = passed / len(y) * (high - low)
    else:
        means = np.stack(
            [binned_sums(group_index, random.permutation(y), num_groups) / n for _ in range(num_permutations)]
        )
        middle = float(y.mean())
    q = np.square(means - middle) @ n
    # All events together vary as much as they do; what is not between groups is within them.
    v = (float(np.square(y - y.mean()).sum()) - q) / (len(y) - num_groups)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(v > 0, q / v, np.where(q > 0, np.inf, 0.0)))
