"""B -> K*0 gamma against the continuum e+e- -> q anti-q at the Upsilon(4S), made with Pythia 8.

The protected variable is M_bc (`Bcand_mbc`).  Numbers of the detector in `detector`, of the selection in
`candidates`, branches in `layout`, what changes from run to run in `conditions`.
"""

from __future__ import annotations

from hepdecorr.samples.bsgamma.candidates import Options
from hepdecorr.samples.bsgamma.conditions import Conditions
from hepdecorr.samples.bsgamma.generation import PROCESSES
from hepdecorr.samples.bsgamma.production import generate, regenerate
from hepdecorr.samples.production import Summary, luminosity_block

__all__ = ["PROCESSES", "Conditions", "Options", "Summary", "generate", "luminosity_block", "regenerate"]
