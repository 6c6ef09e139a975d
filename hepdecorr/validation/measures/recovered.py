"""Does the code of a group tell the true condition, and does it say how well it does?

A straight map truth = b + sum_j a_j code_j is fitted by least squares on groups of their own (training or
validation) and applied to the groups that are measured. A code is the mean of a posterior, so this is the
direction that has no bias: the truth scatters about the mean of what is known of it, with the posterior's
own variance sum_j a_j^2 var_j. Numbers that tell groups next to nothing apart, as those of a latent that
has vanished (of var(mean_j) + mean(var_j) less than a tenth is between groups), may help the map with a
trace in their mean, but state no error: their variance near 1, under the steep slope of a trace, would
swamp that of the others. **Pulls** are residuals over that deviation. A posterior from an approximate
likelihood may be too narrow or too wide by a factor; it is estimated on the groups of the map as the root
mean square of their pulls, each under the map of the others (the residual over 1 - h with the leverage h;
Allen, Technometrics 16 (1974) 125), and pulls after that **calibration** stand beside. Errors: bootstrap
over both sets of groups, the map fitted again in every draw.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from hepdecorr.errors import InputError
from hepdecorr.validation.measures.between import REPLICAS, again, interval
from hepdecorr.validation.measures.efficiency import clopper_pearson
from hepdecorr.validation.measures.numbers import ONE_SIGMA, Array, Measured, Record

LEVELS = {"68.3": 1.0, "95.4": 2.0}  # per cent of a normal distribution within so many deviations
SLICES = 4  # of group size
LEAST = 0.05  # of a group's residual that the map may leave; one that it passes through has no other
TELLS = 0.1  # share of a number's variance between groups, below which it states no error
FEW = 20  # groups of a slice below which its figures say nothing


@dataclass(frozen=True)
class Codes:
    """Codes of groups and the true condition of each."""

    mean: Array  # (groups, d)
    variance: Array  # (groups, d) of the posterior
    truth: Array  # (groups,)
    counts: Array  # (groups,) events that the code was made of

    @classmethod
    def of(
        cls, mean: npt.ArrayLike, log_var: npt.ArrayLike, truth: npt.ArrayLike, counts: npt.ArrayLike
    ) -> Codes:
        """From mean and log_var (groups, d), truth and counts (groups,); InputError where they do not fit."""
        m, v = np.asarray(mean, dtype=np.float64), np.exp(np.asarray(log_var, dtype=np.float64))
        t, n = np.asarray(truth, dtype=np.float64), np.asarray(counts, dtype=np.float64)
        if m.ndim != 2 or v.shape != m.shape or t.shape != m.shape[:1] or n.shape != t.shape:
            raise InputError(
                f"codes: mean {m.shape}, log_var {v.shape}, truth {t.shape}, counts {n.shape}; "
                "(groups, d) twice and (groups,) twice are needed"
            )
        for name, values in (("mean", m), ("log_var", v), ("truth", t)):
            if bad := int(np.count_nonzero(~np.isfinite(values))):
                raise InputError(
                    f"codes: {bad} values of {name} are not finite; look for groups without events"
                )
        return cls(m, v, t, n)

    def stated_by(self, kept: npt.NDArray[np.bool_]) -> Codes:
        """The same codes, with an error of some of their numbers alone."""
        return replace(self, variance=np.where(kept, self.variance, 0.0))


@dataclass(frozen=True)
class OfSize(Record):
    """Groups of about one size."""

    low: int  # events, both ends included
    high: int
    groups: int
    resolution: Measured
    stated: float  # root mean square of the stated deviation, after calibration
    pull_width: Measured  # after calibration


@dataclass(frozen=True)
class Recovered(Record):
    """A true condition and what the code tells of it; resolution and bias in the unit of the condition."""

    correlation: Measured  # of the mapped code and the truth
    resolution: Measured  # root mean square of mapped code - truth
    bias: Measured  # mean of it
    truth_spread: float  # standard deviation of the truth: the resolution of a code that tells nothing
    slopes: tuple[float, ...]  # a_j
    offset: float  # b
    calibration: Measured  # factor on the stated deviation, from the groups of the map
    pull_mean: Measured  # with the deviation as it is stated
    pull_width: Measured  # standard deviation
    calibrated_width: Measured
    coverage: dict[str, Measured]  # per cent of a normal distribution -> share of groups within, as stated
    calibrated_coverage: dict[str, Measured]
    by_size: tuple[OfSize, ...]
    groups: int
    events: float  # median of the groups
    fitted_on: int  # groups of the map
    replicas: int
    seed: int


@dataclass(frozen=True)
class Mapped:
    """Groups under the map, (groups,) each: for figures."""

    value: Array
    deviation: Array  # after calibration
    truth: Array
    counts: Array

    @property
    def pull(self) -> Array:
        """Residual over its deviation."""
        return (self.value - self.truth) / self.deviation


def recovered(fit: Codes, test: Codes, *, replicas: int = REPLICAS, seed: int = 0) -> Recovered:
    """The map fitted on the groups `fit`, measured on the groups `test`, which must be others.

    InputError where there are fewer groups to fit on than twice the numbers of the map, fewer than three to
    measure, or a truth without variation.
    """
    _enough(fit, test)
    kept = told(fit)
    fit, test = fit.stated_by(kept), test.stated_by(kept)
    random = np.ones((1, len(fit.truth))), np.ones((1, len(test.truth)))
    value = _figures(fit, test, *random)
    drawn = _figures(
        fit,
        test,
        again(len(fit.truth), size=replicas, seed=seed),
        again(len(test.truth), size=replicas, seed=seed + 1),
    )
    found = {name: interval(float(one[0]), drawn[name]) for name, one in value.items()}
    beta = _map(fit, random[0])[0]
    mapped = _under(fit, test)
    stated = np.abs(mapped.pull) * found["calibration"].value
    return Recovered(
        correlation=_within(found["correlation"], 1.0),
        resolution=found["resolution"],
        bias=found["bias"],
        truth_spread=float(np.std(test.truth)),
        slopes=tuple(float(one) for one in beta[1:]),
        offset=float(beta[0]),
        calibration=found["calibration"],
        pull_mean=found["pull_mean"],
        pull_width=found["pull_width"],
        calibrated_width=found["calibrated_width"],
        coverage={name: _share(stated < many) for name, many in LEVELS.items()},
        calibrated_coverage={name: _share(np.abs(mapped.pull) < many) for name, many in LEVELS.items()},
        by_size=_by_size(mapped, replicas=replicas, seed=seed),
        groups=len(test.truth),
        events=float(np.median(test.counts)),
        fitted_on=len(fit.truth),
        replicas=replicas,
        seed=seed,
    )


def under(fit: Codes, test: Codes) -> Mapped:
    """The groups `test` under the map of the groups `fit`, with the calibrated deviation."""
    kept = told(fit)
    return _under(fit.stated_by(kept), test.stated_by(kept))


def told(codes: Codes) -> npt.NDArray[np.bool_]:
    """Which numbers of a code tell groups apart, (d,): at least the one that does so most."""
    between, within = codes.mean.var(axis=0), codes.variance.mean(axis=0)
    share = between / (between + within)
    return np.asarray((share >= TELLS) | (share == share.max()))


def _under(fit: Codes, test: Codes) -> Mapped:
    beta = _map(fit, np.ones((1, len(fit.truth))))[0]
    factor = float(_calibration(fit, np.ones((1, len(fit.truth))))[0])
    return Mapped(_design(test) @ beta, factor * _deviation(test, beta), test.truth, test.counts)


def _enough(fit: Codes, test: Codes) -> None:
    needed = 2 * (fit.mean.shape[1] + 1)
    if fit.mean.shape[1] != test.mean.shape[1]:
        raise InputError(f"codes of {fit.mean.shape[1]} and of {test.mean.shape[1]} numbers: of two taggers")
    if len(fit.truth) < needed or len(test.truth) < 3:
        raise InputError(
            f"recovered: {len(fit.truth)} groups to fit a map of {needed // 2} numbers and {len(test.truth)} "
            f"to measure; at least {needed} and 3 are needed"
        )
    if np.ptp(fit.truth) == 0 or np.ptp(test.truth) == 0:
        raise InputError(
            "recovered: the true condition is the same in all groups; there is nothing to recover"
        )
    if not np.any(np.ptp(fit.mean, axis=0) > 0):
        raise InputError("recovered: the code is the same in all groups: it tells nothing of any condition")


def _design(codes: Codes) -> Array:
    return np.concatenate([np.ones((len(codes.truth), 1)), codes.mean], axis=1)


def _deviation(codes: Codes, beta: Array) -> Array:
    """Of the posterior, carried through the map; beta (d + 1,) or (draws, d + 1)."""
    return np.asarray(np.sqrt(np.square(beta[..., 1:]) @ codes.variance.T))


def _map(codes: Codes, times: Array) -> Array:
    """Least squares in every draw, (draws, d + 1)."""
    x = _design(codes)
    right = times @ (x * codes.truth[:, None])
    return np.asarray((_inverse(x, times) @ right[:, :, None])[:, :, 0])


def _inverse(x: Array, times: Array) -> Array:
    products = (x[:, :, None] * x[:, None, :]).reshape(len(x), -1)
    matrices = (times @ products).reshape(len(times), x.shape[1], x.shape[1])
    # A draw may hold too few different groups: the pseudo-inverse takes the shortest map.
    return np.asarray(np.linalg.pinv(matrices, hermitian=True))


def _calibration(codes: Codes, times: Array) -> Array:
    """Root mean square of the pulls in every draw, each group under the map of the others: (draws,)."""
    x, beta = _design(codes), _map(codes, times)
    # A draw's copies of a group are left out together.
    leverage = times * np.einsum("nd,rde,ne->rn", x, _inverse(x, times), x, optimize=True)
    residual = (beta @ x.T - codes.truth) / np.maximum(1 - leverage, LEAST)
    squares = np.square(residual / _deviation(codes, beta))
    return np.asarray(np.sqrt((times * squares).sum(axis=1) / times.sum(axis=1)))


def _figures(fit: Codes, test: Codes, fit_times: Array, times: Array) -> dict[str, Array]:
    """Every figure in each draw of the groups: (draws,)."""
    beta = _map(fit, fit_times)

    def mean(values: Array, weights: Array) -> Array:
        return np.asarray((weights * values).sum(axis=1) / weights.sum(axis=1))

    calibration = _calibration(fit, fit_times)
    value, deviation = beta @ _design(test).T, _deviation(test, beta)
    residual = value - test.truth
    pull = residual / deviation
    centre, middle = mean(value, times), mean(np.broadcast_to(test.truth, value.shape), times)
    away, truth = value - centre[:, None], test.truth - middle[:, None]
    pulled = mean(pull, times)
    width = np.sqrt(mean(np.square(pull - pulled[:, None]), times))
    with np.errstate(invalid="ignore", divide="ignore"):
        correlation = mean(away * truth, times) / np.sqrt(mean(away**2, times) * mean(truth**2, times))
    return {
        "correlation": np.asarray(correlation),
        "resolution": np.sqrt(mean(residual**2, times)),
        "bias": mean(residual, times),
        "calibration": calibration,
        "pull_mean": pulled,
        "pull_width": width,
        "calibrated_width": width / calibration,
    }


def _within(one: Measured, most: float) -> Measured:
    return Measured(one.value, max(one.low, -most), min(one.high, most), one.std, one.level)


def _share(inside: npt.NDArray[np.bool_]) -> Measured:
    passed, total = float(np.count_nonzero(inside)), float(len(inside))
    low, high = clopper_pearson(np.array([passed]), np.array([total]))
    share = passed / total
    return Measured(share, float(low[0]), float(high[0]), math.sqrt(share * (1 - share) / total), ONE_SIGMA)


def _by_size(mapped: Mapped, *, replicas: int, seed: int) -> tuple[OfSize, ...]:
    """In slices with about equal numbers of groups; of fewer where sizes repeat or groups are few."""
    parts = max(min(SLICES, len(mapped.counts) // FEW), 1)
    inner = np.unique(np.quantile(mapped.counts, np.arange(1, parts) / parts))
    place = np.searchsorted(inner, mapped.counts, side="left")
    found = []
    for part in np.unique(place):
        own = place == part
        residual, pull = (mapped.value - mapped.truth)[own], mapped.pull[own]
        times = again(int(own.sum()), size=replicas, seed=seed) / own.sum()
        deviation = np.sqrt(np.maximum(times @ pull**2 - np.square(times @ pull), 0.0))
        found.append(
            OfSize(
                low=int(mapped.counts[own].min()),
                high=int(mapped.counts[own].max()),
                groups=int(own.sum()),
                resolution=interval(
                    math.sqrt(float(np.mean(residual**2))), np.sqrt(times @ np.square(residual))
                ),
                stated=math.sqrt(float(np.mean(mapped.deviation[own] ** 2))),
                pull_width=interval(float(np.std(pull)), deviation),
            )
        )
    return tuple(found)
