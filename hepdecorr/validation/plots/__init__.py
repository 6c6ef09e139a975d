"""Histograms, arrays and numbers in, matplotlib Figures out; the caller saves them.

Every figure is legible in grey: line styles, markers and hatches repeat what the colours say.
"""

from hepdecorr.validation.plots.abcd import abcd_closure
from hepdecorr.validation.plots.codes import Panel, boxes, translations
from hepdecorr.validation.plots.curves import efficiency_profiles, roc_curves, trade_off
from hepdecorr.validation.plots.groups import (
    efficiency_against_condition,
    efficiency_by_group,
    recovered_condition,
    resolution_by_events,
    spectra_in_slices,
)
from hepdecorr.validation.plots.history import training_history
from hepdecorr.validation.plots.images import average, jet_images
from hepdecorr.validation.plots.latent_scans import LatentStep, latent_scan
from hepdecorr.validation.plots.latents import Information, Moved, information, intervention, latents_against
from hepdecorr.validation.plots.matrix import Areas, auc_matrix
from hepdecorr.validation.plots.pairs import side_by_side
from hepdecorr.validation.plots.scans import Step, front, pareto, scan_curves
from hepdecorr.validation.plots.scores import Scores, density, rank_density, score_distributions
from hepdecorr.validation.plots.slices import Second, efficiencies, quantile_edges, sliced_spectra
from hepdecorr.validation.plots.spectra import Spectrum, overview, rejections, sculpting_spectra, spectrum
from hepdecorr.validation.plots.style import STYLE, styled
from hepdecorr.validation.plots.surfaces import Plane, density_by_nuisance, in_slices, surface
from hepdecorr.validation.plots.systematics import shifted_spectra, shifts
from hepdecorr.validation.plots.working_point import half_signal_curve

__all__ = [
    "STYLE",
    "Areas",
    "Information",
    "LatentStep",
    "Moved",
    "Panel",
    "Plane",
    "Scores",
    "Second",
    "Spectrum",
    "Step",
    "abcd_closure",
    "auc_matrix",
    "average",
    "boxes",
    "density",
    "density_by_nuisance",
    "efficiencies",
    "efficiency_against_condition",
    "efficiency_by_group",
    "efficiency_profiles",
    "front",
    "half_signal_curve",
    "in_slices",
    "information",
    "intervention",
    "jet_images",
    "latent_scan",
    "latents_against",
    "overview",
    "pareto",
    "quantile_edges",
    "rank_density",
    "recovered_condition",
    "rejections",
    "resolution_by_events",
    "roc_curves",
    "scan_curves",
    "score_distributions",
    "sculpting_spectra",
    "shifted_spectra",
    "shifts",
    "side_by_side",
    "sliced_spectra",
    "spectra_in_slices",
    "spectrum",
    "styled",
    "surface",
    "trade_off",
    "training_history",
    "translations",
]
