"""Large-radius jets at 13 TeV made with Pythia 8 and fastjet: QCD, W and Z, top, H -> hh -> 4 quarks.

The protected variable is the jet mass.  Numbers of the detector in `detector`, jets in `clustering`, what a
jet comes from in `truth`, branches in `layout`.
"""

from __future__ import annotations

from hepdecorr.samples.jets.options import LAYOUTS, PROCESSES, Options
from hepdecorr.samples.jets.production import generate, regenerate
from hepdecorr.samples.production import Summary, luminosity_block

__all__ = ["LAYOUTS", "PROCESSES", "Options", "Summary", "generate", "luminosity_block", "regenerate"]
