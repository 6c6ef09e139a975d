"""Arrays in, numbers with uncertainties out.

`evaluate` measures one tagger with everything; the other functions are its parts. Every array holds one value
per event; every measure takes weights. Results are frozen dataclasses with `to_dict`.
"""

from hepdecorr.validation.measures.abcd import Abcd, Regions, abcd, regions
from hepdecorr.validation.measures.audit import Audit, audit
from hepdecorr.validation.measures.between import Between, Moments, Smaller, between, smaller
from hepdecorr.validation.measures.by_group import ByGroup, by_group
from hepdecorr.validation.measures.compare import Spread, holm, over_seeds, resolved, significant, verdict
from hepdecorr.validation.measures.dependence import DistanceCorrelation, dcor2
from hepdecorr.validation.measures.divergence import expected_jsd, floor, jsd
from hepdecorr.validation.measures.efficiency import Profile, clopper_pearson, profile
from hepdecorr.validation.measures.evaluation import REJECTIONS, Evaluation, HalfSignal, evaluate
from hepdecorr.validation.measures.events import effective
from hepdecorr.validation.measures.grouped import Grouped
from hepdecorr.validation.measures.information import InformationGap, mig
from hepdecorr.validation.measures.mapped import quantile_map
from hepdecorr.validation.measures.numbers import Measured, plain
from hepdecorr.validation.measures.paired import Comparison, Difference, Protected, paired
from hepdecorr.validation.measures.ranking import (
    Closure,
    Roc,
    SignalEfficiency,
    auc,
    closure,
    rejection_factor,
    roc,
    signal_efficiency,
)
from hepdecorr.validation.measures.ranks import rank_correlation
from hepdecorr.validation.measures.recovered import Codes, Recovered, recovered
from hepdecorr.validation.measures.samples import BySample, OfSample, by_sample, mean_auc_difference
from hepdecorr.validation.measures.sculpting import Sculpting, sculpting, upper_limit
from hepdecorr.validation.measures.slices import Information, InSlices, Slice, Slices, in_slices, information
from hepdecorr.validation.measures.steadier import Steadier, steadier

__all__ = [
    "REJECTIONS",
    "Abcd",
    "Audit",
    "Between",
    "ByGroup",
    "BySample",
    "Closure",
    "Codes",
    "Comparison",
    "Difference",
    "DistanceCorrelation",
    "Evaluation",
    "Grouped",
    "HalfSignal",
    "InSlices",
    "Information",
    "InformationGap",
    "Measured",
    "Moments",
    "OfSample",
    "Profile",
    "Protected",
    "Recovered",
    "Regions",
    "Roc",
    "Sculpting",
    "SignalEfficiency",
    "Slice",
    "Slices",
    "Smaller",
    "Spread",
    "Steadier",
    "abcd",
    "auc",
    "audit",
    "between",
    "by_group",
    "by_sample",
    "clopper_pearson",
    "closure",
    "dcor2",
    "effective",
    "evaluate",
    "expected_jsd",
    "floor",
    "holm",
    "in_slices",
    "information",
    "jsd",
    "mean_auc_difference",
    "mig",
    "over_seeds",
    "paired",
    "plain",
    "profile",
    "quantile_map",
    "rank_correlation",
    "recovered",
    "regions",
    "rejection_factor",
    "resolved",
    "roc",
    "sculpting",
    "signal_efficiency",
    "significant",
    "smaller",
    "steadier",
    "upper_limit",
    "verdict",
]
