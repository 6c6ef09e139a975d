"""Histograms, arrays and numbers in, matplotlib Figures out; the caller saves them.

Every figure is legible in grey: line styles, markers and hatches repeat what the colours say.
"""

from hepdecorr.validation.plots.curves import efficiency_profiles, roc_curves, trade_off
from hepdecorr.validation.plots.history import training_history
from hepdecorr.validation.plots.scores import Scores, density, score_distributions
from hepdecorr.validation.plots.spectra import Spectrum, overview, rejections, sculpting_spectra, spectrum
from hepdecorr.validation.plots.style import STYLE, styled

__all__ = [
    "STYLE",
    "Scores",
    "Spectrum",
    "density",
    "efficiency_profiles",
    "overview",
    "rejections",
    "roc_curves",
    "score_distributions",
    "sculpting_spectra",
    "spectrum",
    "styled",
    "trade_off",
    "training_history",
]
