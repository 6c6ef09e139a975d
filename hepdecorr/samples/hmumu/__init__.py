"""H -> mu mu at 13 TeV and its background Z/gamma* -> mu mu, made with Pythia 8, in NanoAOD's branches.

The second example of M. Zgubic's talk on classifiers that are independent of a parameter (MLHEP 2019).  The
protected variable is the mass of the muons.  Processes in `processes`, muons and jets in `selection`.
"""

from __future__ import annotations

from hepdecorr.samples.hmumu.production import PROCESSES, generate, regenerate
from hepdecorr.samples.lhc.generation import Options
from hepdecorr.samples.production import Summary, luminosity_block

__all__ = ["PROCESSES", "Options", "Summary", "generate", "luminosity_block", "regenerate"]
