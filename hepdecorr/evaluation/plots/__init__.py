"""Histograms, arrays and numbers in, matplotlib Figures out; the caller saves them.

Every figure is legible in grey: line styles, markers and hatches repeat what the colours say.
"""

from hepdecorr.evaluation.plots.curves import (
    AucRow,
    plot_abcd_closure,
    plot_auc_matrix,
    plot_efficiency_profiles,
    plot_r50_curve,
    plot_roc_curves,
    plot_trade_off,
)
from hepdecorr.evaluation.plots.decision_surface import (
    DecisionSurface,
    plot_decision_surface,
    plot_density_by_nuisance,
    plot_metrics_in_bins,
)
from hepdecorr.evaluation.plots.group_codes import BoxPanel, plot_box_panels, plot_translations
from hepdecorr.evaluation.plots.groups import (
    plot_efficiency_against_condition,
    plot_efficiency_by_group,
    plot_predicted_condition,
    plot_resolution_by_events,
    plot_spectra_in_terciles,
)
from hepdecorr.evaluation.plots.history import plot_training_history
from hepdecorr.evaluation.plots.in_bins import (
    SecondVariable,
    plot_efficiencies,
    plot_spectra_in_bins,
    quantile_edges,
)
from hepdecorr.evaluation.plots.jet_images import average_jet_image, plot_jet_images
from hepdecorr.evaluation.plots.latents import (
    LatentInformation,
    LatentScanPoint,
    Traversal,
    plot_latent_information,
    plot_latent_scan,
    plot_latents_against_nuisance,
    plot_traversal,
)
from hepdecorr.evaluation.plots.scans import ScanPoint, pareto_front, plot_pareto, plot_scan_curves
from hepdecorr.evaluation.plots.scores import (
    TaggerScores,
    plot_rank_density,
    plot_score_density,
    plot_score_distributions,
)
from hepdecorr.evaluation.plots.spectra import (
    Spectrum,
    filled_rejections,
    plot_overview,
    plot_sculpting_spectra,
    plot_spectra_side_by_side,
    plot_systematic_spectra,
    select_spectrum,
    systematic_names,
)
from hepdecorr.evaluation.plots.style import STYLE, with_style

__all__ = [
    "STYLE",
    "AucRow",
    "BoxPanel",
    "DecisionSurface",
    "LatentInformation",
    "LatentScanPoint",
    "ScanPoint",
    "SecondVariable",
    "Spectrum",
    "TaggerScores",
    "Traversal",
    "average_jet_image",
    "filled_rejections",
    "pareto_front",
    "plot_abcd_closure",
    "plot_auc_matrix",
    "plot_box_panels",
    "plot_decision_surface",
    "plot_density_by_nuisance",
    "plot_efficiencies",
    "plot_efficiency_against_condition",
    "plot_efficiency_by_group",
    "plot_efficiency_profiles",
    "plot_jet_images",
    "plot_latent_information",
    "plot_latent_scan",
    "plot_latents_against_nuisance",
    "plot_metrics_in_bins",
    "plot_overview",
    "plot_pareto",
    "plot_predicted_condition",
    "plot_r50_curve",
    "plot_rank_density",
    "plot_resolution_by_events",
    "plot_roc_curves",
    "plot_scan_curves",
    "plot_score_density",
    "plot_score_distributions",
    "plot_sculpting_spectra",
    "plot_spectra_in_bins",
    "plot_spectra_in_terciles",
    "plot_spectra_side_by_side",
    "plot_systematic_spectra",
    "plot_trade_off",
    "plot_training_history",
    "plot_translations",
    "plot_traversal",
    "quantile_edges",
    "select_spectrum",
    "systematic_names",
    "with_style",
]
