"""Measures of what changes from group to group."""

from hepdecorr.evaluation.groups.code_regression import CodeRegression, GroupCodeSample, fit_code_regression
from hepdecorr.evaluation.groups.events import GroupedEvents
from hepdecorr.evaluation.groups.spread import (
    BetweenGroupSpread,
    GroupMoments,
    SpreadRatio,
    between_group_variance,
    spread_ratio,
)
from hepdecorr.evaluation.groups.stability import (
    GroupStability,
    StabilityRatios,
    group_stability,
    stability_ratios,
)

__all__ = [
    "BetweenGroupSpread",
    "CodeRegression",
    "GroupCodeSample",
    "GroupMoments",
    "GroupStability",
    "GroupedEvents",
    "SpreadRatio",
    "StabilityRatios",
    "between_group_variance",
    "fit_code_regression",
    "group_stability",
    "spread_ratio",
    "stability_ratios",
]
