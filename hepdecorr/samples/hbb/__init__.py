"""ZH -> nu nu b b at 13 TeV and its backgrounds Z + b b and ZZ -> nu nu b b, made with Pythia 8.

The example of M. Zgubic's practical on classifiers that are independent of a parameter (MLHEP 2019).  The
protected variable is the mass of the two b jets.  Processes in `processes`, the selection in `selection`.
"""

from __future__ import annotations

from hepdecorr.samples.hbb.production import PROCESSES, generate, regenerate
from hepdecorr.samples.lhc.generation import Options
from hepdecorr.samples.production import Summary, luminosity_block

__all__ = ["PROCESSES", "Options", "Summary", "generate", "luminosity_block", "regenerate"]
