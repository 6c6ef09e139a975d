"""Arrays in, numbers with uncertainties out.

`evaluate` measures one tagger with everything; the other functions are its parts. Every array holds one value
per event; every measure takes weights. Results are frozen dataclasses with `to_dict`.
"""

from hepdecorr.evaluation.metrics.abcd import Abcd, AbcdRegions, abcd, abcd_regions
from hepdecorr.evaluation.metrics.adversarial_audit import Audit, audit
from hepdecorr.evaluation.metrics.evaluation import REJECTIONS, Evaluation, R50Point, evaluate
from hepdecorr.evaluation.metrics.in_bins import (
    BinResult,
    InBins,
    MutualInformation,
    NuisanceBins,
    evaluate_in_bins,
    mutual_information,
)
from hepdecorr.evaluation.metrics.paired_bootstrap import (
    PairedComparison,
    PairedDifference,
    ProtectedVariable,
    run_paired_bootstrap,
)
from hepdecorr.evaluation.metrics.per_signal import (
    PerSignal,
    SignalResult,
    evaluate_per_signal,
    mean_auc_difference,
)
from hepdecorr.evaluation.metrics.quantile_map import quantile_mapped_logit
from hepdecorr.evaluation.metrics.sculpting import Sculpting, jsd_upper_limit, sculpting, sculpting_verdict
from hepdecorr.stats.arrays import effective_count
from hepdecorr.stats.correlation import rank_correlation
from hepdecorr.stats.distance_correlation import DistanceCorrelation, dcor2
from hepdecorr.stats.divergence import expected_jsd, jsd, jsd_floor
from hepdecorr.stats.efficiency import EfficiencyProfile, clopper_pearson, efficiency_profile
from hepdecorr.stats.multiple_testing import SeedSpread, aggregate_seeds, holm, significant_after_holm
from hepdecorr.stats.mutual_information import InformationGap, mig
from hepdecorr.stats.results import Estimate, format_significant, to_jsonable
from hepdecorr.stats.roc import (
    Roc,
    SignalEfficiency,
    WorkingPointClosure,
    auc,
    rejection_factor,
    roc,
    signal_efficiency,
    working_point_closure,
)

__all__ = [
    "REJECTIONS",
    "Abcd",
    "AbcdRegions",
    "Audit",
    "BinResult",
    "DistanceCorrelation",
    "EfficiencyProfile",
    "Estimate",
    "Evaluation",
    "InBins",
    "InformationGap",
    "MutualInformation",
    "NuisanceBins",
    "PairedComparison",
    "PairedDifference",
    "PerSignal",
    "ProtectedVariable",
    "R50Point",
    "Roc",
    "Sculpting",
    "SeedSpread",
    "SignalEfficiency",
    "SignalResult",
    "WorkingPointClosure",
    "abcd",
    "abcd_regions",
    "aggregate_seeds",
    "auc",
    "audit",
    "clopper_pearson",
    "dcor2",
    "effective_count",
    "efficiency_profile",
    "evaluate",
    "evaluate_in_bins",
    "evaluate_per_signal",
    "expected_jsd",
    "format_significant",
    "holm",
    "jsd",
    "jsd_floor",
    "jsd_upper_limit",
    "mean_auc_difference",
    "mig",
    "mutual_information",
    "quantile_mapped_logit",
    "rank_correlation",
    "rejection_factor",
    "roc",
    "run_paired_bootstrap",
    "sculpting",
    "sculpting_verdict",
    "signal_efficiency",
    "significant_after_holm",
    "to_jsonable",
    "working_point_closure",
]
