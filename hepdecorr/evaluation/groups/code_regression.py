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
from hepdecorr.evaluation.groups.spread import NUM_REPLICAS, bootstrap_interval, bootstrap_multiplicities
from hepdecorr.stats.efficiency import clopper_pearson
from hepdecorr.stats.results import ONE_SIGMA, Array, Estimate, ResultRecord

COVERAGE_LEVELS = {"68.3": 1.0, "95.4": 2.0}  # per cent of a normal distribution within so many deviations
NUM_SIZE_BINS = 4  # of group size
MIN_RESIDUAL_FRACTION = (
    0.05  # of a group's residual that the map may leave; one that it passes through has no other
)
MIN_BETWEEN_FRACTION = 0.1  # share of a number's variance between groups, below which it states no error
MIN_GROUPS_PER_BIN = 20  # groups of a slice below which its figures say nothing


@dataclass(frozen=True)
class GroupCodeSample:
    """Codes of groups and the true condition of each."""

    mean: Array  # (groups, d)
    variance: Array  # (groups, d) of the posterior
    truth: Array  # (groups,)
    counts: Array  # (groups,) events that the code was made of

    @classmethod
    def from_posterior(
        cls, mean: npt.ArrayLike, log_var: npt.ArrayLike, truth: npt.ArrayLike, counts: npt.ArrayLike
    ) -> GroupCodeSample:
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

    def mask_variance(self, mask: npt.NDArray[np.bool_]) -> GroupCodeSample:
        """The same codes, with an error of some of their numbers alone."""
        return replace(self, variance=np.where(mask, self.variance, 0.0))


@dataclass(frozen=True)
class SizeBin(ResultRecord):
    """Groups of about one size."""

    min_events: int  # events, both ends included
    max_events: int
    groups: int
    resolution: Estimate
    stated_error: float  # root mean square of the stated deviation, after calibration
    pull_width: Estimate  # after calibration


@dataclass(frozen=True)
class CodeRegression(ResultRecord):
    """A true condition and what the code tells of it; resolution and bias in the unit of the condition."""

    correlation: Estimate  # of the mapped code and the truth
    resolution: Estimate  # root mean square of mapped code - truth
    bias: Estimate  # mean of it
    truth_spread: float  # standard deviation of the truth: the resolution of a code that tells nothing
    slopes: tuple[float, ...]  # a_j
    offset: float  # b
    calibration: Estimate  # factor on the stated deviation, from the groups of the map
    pull_mean: Estimate  # with the deviation as it is stated
    pull_width: Estimate  # standard deviation
    calibrated_pull_width: Estimate
    coverage: dict[str, Estimate]  # per cent of a normal distribution -> share of groups within, as stated
    calibrated_coverage: dict[str, Estimate]
    size_bins: tuple[SizeBin, ...]
    groups: int
    events: float  # median of the groups
    fit_groups: int  # groups of the map
    replicas: int
    seed: int


@dataclass(frozen=True)
class PredictedCondition:
    """Groups under the map, (groups,) each: for figures."""

    value: Array
    std: Array  # after calibration
    truth: Array
    counts: Array

    @property
    def pull(self) -> Array:
        """Residual over its deviation."""
        return (self.value - self.truth) / self.std


def fit_code_regression(
    fit_sample: GroupCodeSample, test_sample: GroupCodeSample, *, replicas: int = NUM_REPLICAS, seed: int = 0
) -> CodeRegression:
    """The map fitted on the groups `fit`, measured on the groups `test`, which must be others.

    InputError where there are fewer groups to fit on than twice the numbers of the map, fewer than three to
    measure, or a truth without variation.
    """
    _check_sizes(fit_sample, test_sample)
    kept = informative_dims(fit_sample)
    fit_sample, test_sample = fit_sample.mask_variance(kept), test_sample.mask_variance(kept)
    random = np.ones((1, len(fit_sample.truth))), np.ones((1, len(test_sample.truth)))
    value = _regression_metrics(fit_sample, test_sample, *random)
    drawn = _regression_metrics(
        fit_sample,
        test_sample,
        bootstrap_multiplicities(len(fit_sample.truth), num_replicas=replicas, seed=seed),
        bootstrap_multiplicities(len(test_sample.truth), num_replicas=replicas, seed=seed + 1),
    )
    found = {name: bootstrap_interval(float(one[0]), drawn[name]) for name, one in value.items()}
    beta = _fit_linear_map(fit_sample, random[0])[0]
    mapped = _predict_calibrated(fit_sample, test_sample)
    stated = np.abs(mapped.pull) * found["calibration"].value
    return CodeRegression(
        correlation=_clip_interval(found["correlation"], 1.0),
        resolution=found["resolution"],
        bias=found["bias"],
        truth_spread=float(np.std(test_sample.truth)),
        slopes=tuple(float(one) for one in beta[1:]),
        offset=float(beta[0]),
        calibration=found["calibration"],
        pull_mean=found["pull_mean"],
        pull_width=found["pull_width"],
        calibrated_pull_width=found["calibrated_width"],
        coverage={name: _estimate_fraction(stated < many) for name, many in COVERAGE_LEVELS.items()},
        calibrated_coverage={
            name: _estimate_fraction(np.abs(mapped.pull) < many) for name, many in COVERAGE_LEVELS.items()
        },
        size_bins=_measure_size_bins(mapped, replicas=replicas, seed=seed),
        groups=len(test_sample.truth),
        events=float(np.median(test_sample.counts)),
        fit_groups=len(fit_sample.truth),
        replicas=replicas,
        seed=seed,
    )


def predict_condition(fit_sample: GroupCodeSample, test_sample: GroupCodeSample) -> PredictedCondition:
    """The groups `test` under the map of the groups `fit`, with the calibrated deviation."""
    kept = informative_dims(fit_sample)
    return _predict_calibrated(fit_sample.mask_variance(kept), test_sample.mask_variance(kept))


def informative_dims(codes: GroupCodeSample) -> npt.NDArray[np.bool_]:
    """Which numbers of a code tell groups apart, (d,): at least the one that does so most."""
    between, within = codes.mean.var(axis=0), codes.variance.mean(axis=0)
    share = between / (between + within)
    return np.asarray((share >= MIN_BETWEEN_FRACTION) | (share == share.max()))


def _predict_calibrated(fit_sample: GroupCodeSample, test_sample: GroupCodeSample) -> PredictedCondition:
    beta = _fit_linear_map(fit_sample, np.ones((1, len(fit_sample.truth))))[0]
    factor = float(_calibrate_pulls(fit_sample, np.ones((1, len(fit_sample.truth))))[0])
    return PredictedCondition(
        _design_matrix(test_sample) @ beta,
        factor * _propagated_std(test_sample, beta),
        test_sample.truth,
        test_sample.counts,
    )


def _check_sizes(fit_sample: GroupCodeSample, test_sample: GroupCodeSample) -> None:
    needed = 2 * (fit_sample.mean.shape[1] + 1)
    if fit_sample.mean.shape[1] != test_sample.mean.shape[1]:
        raise InputError(
            f"codes of {fit_sample.mean.shape[1]} and of {test_sample.mean.shape[1]} numbers: of two taggers"
        )
    if len(fit_sample.truth) < needed or len(test_sample.truth) < 3:
        raise InputError(
            f"recovered: {len(fit_sample.truth)} groups to fit a map of {needed // 2} "
            f"numbers and {len(test_sample.truth)} "
            f"to measure; at least {needed} and 3 are needed"
        )
    if np.ptp(fit_sample.truth) == 0 or np.ptp(test_sample.truth) == 0:
        raise InputError(
            "recovered: the true condition is the same in all groups; there is nothing to recover"
        )
    if not np.any(np.ptp(fit_sample.mean, axis=0) > 0):
        raise InputError("recovered: the code is the same in all groups: it tells nothing of any condition")


def _design_matrix(codes: GroupCodeSample) -> Array:
    return np.concatenate([np.ones((len(codes.truth), 1)), codes.mean], axis=1)


def _propagated_std(codes: GroupCodeSample, beta: Array) -> Array:
    """Of the posterior, carried through the map; beta (d + 1,) or (draws, d + 1)."""
    return np.asarray(np.sqrt(np.square(beta[..., 1:]) @ codes.variance.T))


def _fit_linear_map(codes: GroupCodeSample, multiplicities: Array) -> Array:
    """Least squares in every draw, (draws, d + 1)."""
    x = _design_matrix(codes)
    right = multiplicities @ (x * codes.truth[:, None])
    return np.asarray((_invert_normal_matrices(x, multiplicities) @ right[:, :, None])[:, :, 0])


def _invert_normal_matrices(x: Array, multiplicities: Array) -> Array:
    products = (x[:, :, None] * x[:, None, :]).reshape(len(x), -1)
    matrices = (multiplicities @ products).reshape(len(multiplicities), x.shape[1], x.shape[1])
    # A draw may hold too few different groups: the pseudo-inverse takes the shortest map.
    return np.asarray(np.linalg.pinv(matrices, hermitian=True))


def _calibrate_pulls(codes: GroupCodeSample, multiplicities: Array) -> Array:
    """Root mean square of the pulls in every draw, each group under the map of the others: (draws,)."""
    x, beta = _design_matrix(codes), _fit_linear_map(codes, multiplicities)
    # A draw's copies of a group are left out together.
    leverage = multiplicities * np.einsum(
        "nd,rde,ne->rn", x, _invert_normal_matrices(x, multiplicities), x, optimize=True
    )
    residual = (beta @ x.T - codes.truth) / np.maximum(1 - leverage, MIN_RESIDUAL_FRACTION)
    squares = np.square(residual / _propagated_std(codes, beta))
    return np.asarray(np.sqrt((multiplicities * squares).sum(axis=1) / multiplicities.sum(axis=1)))


def _regression_metrics(
    fit_sample: GroupCodeSample,
    test_sample: GroupCodeSample,
    fit_multiplicities: Array,
    test_multiplicities: Array,
) -> dict[str, Array]:
    """Every figure in each draw of the groups: (draws,)."""
    beta = _fit_linear_map(fit_sample, fit_multiplicities)

    def mean(values: Array, weights: Array) -> Array:
        return np.asarray((weights * values).sum(axis=1) / weights.sum(axis=1))

    calibration = _calibrate_pulls(fit_sample, fit_multiplicities)
    value, deviation = beta @ _design_matrix(test_sample).T, _propagated_std(test_sample, beta)
    residual = value - test_sample.truth
    pull = residual / deviation
    centre, middle = (
        mean(value, test_multiplicities),
        mean(np.broadcast_to(test_sample.truth, value.shape), test_multiplicities),
    )
    away, truth = value - centre[:, None], test_sample.truth - middle[:, None]
    pulled = mean(pull, test_multiplicities)
    width = np.sqrt(mean(np.square(pull - pulled[:, None]), test_multiplicities))
    with np.errstate(invalid="ignore", divide="ignore"):
        correlation = mean(away * truth, test_multiplicities) / np.sqrt(
            mean(away**2, test_multiplicities) * mean(truth**2, test_multiplicities)
        )
    return {
        "correlation": np.asarray(correlation),
        "resolution": np.sqrt(mean(residual**2, test_multiplicities)),
        "bias": mean(residual, test_multiplicities),
        "calibration": calibration,
        "pull_mean": pulled,
        "pull_width": width,
        "calibrated_width": width / calibration,
    }


def _clip_interval(estimate: Estimate, limit: float) -> Estimate:
    return Estimate(
        estimate.value, max(estimate.low, -limit), min(estimate.high, limit), estimate.std, estimate.level
    )


def _estimate_fraction(mask: npt.NDArray[np.bool_]) -> Estimate:
    passed, total = float(np.count_nonzero(mask)), float(len(mask))
    low, high = clopper_pearson(np.array([passed]), np.array([total]))
    share = passed / total
    return Estimate(share, float(low[0]), float(high[0]), math.sqrt(share * (1 - share) / total), ONE_SIGMA)


def _measure_size_bins(predicted: PredictedCondition, *, replicas: int, seed: int) -> tuple[SizeBin, ...]:
    """In slices with about equal numbers of groups; of fewer where sizes repeat or groups are few."""
    parts = max(min(NUM_SIZE_BINS, len(predicted.counts) // MIN_GROUPS_PER_BIN), 1)
    inner = np.unique(np.quantile(predicted.counts, np.arange(1, parts) / parts))
    place = np.searchsorted(inner, predicted.counts, side="left")
    found = []
    for part in np.unique(place):
        own = place == part
        residual, pull = (predicted.value - predicted.truth)[own], predicted.pull[own]
        times = bootstrap_multiplicities(int(own.sum()), num_replicas=replicas, seed=seed) / own.sum()
        deviation = np.sqrt(np.maximum(times @ pull**2 - np.square(times @ pull), 0.0))
        found.append(
            SizeBin(
                min_events=int(predicted.counts[own].min()),
                max_events=int(predicted.counts[own].max()),
                groups=int(own.sum()),
                resolution=bootstrap_interval(
                    math.sqrt(float(np.mean(residual**2))), np.sqrt(times @ np.square(residual))
                ),
                stated_error=math.sqrt(float(np.mean(predicted.std[own] ** 2))),
                pull_width=bootstrap_interval(float(np.std(pull)), deviation),
            )
        )
    return tuple(found)
