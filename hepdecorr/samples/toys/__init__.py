"""Toys: two features, a label and a nuisance z whose part in them is known in closed form.

The distributions stand in `distributions`, each with its source.  docs/toys.md says what each one teaches.
"""

from __future__ import annotations

from hepdecorr.samples.production import Summary, luminosity_block
from hepdecorr.samples.toys.distributions import TOYS
from hepdecorr.samples.toys.production import PROCESSES, generate, regenerate

__all__ = ["PROCESSES", "TOYS", "Summary", "generate", "luminosity_block", "regenerate"]
