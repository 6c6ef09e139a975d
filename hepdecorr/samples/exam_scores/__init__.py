"""Exam scores of students in schools, the context-aware VAE's task: no single student tells of the school.

The process stands in `distribution`, with its source.
"""

from __future__ import annotations

from hepdecorr.samples.exam_scores.distribution import Options, process
from hepdecorr.samples.exam_scores.production import PROCESSES, generate, regenerate
from hepdecorr.samples.production import Summary, luminosity_block

__all__ = ["PROCESSES", "Options", "Summary", "generate", "luminosity_block", "process", "regenerate"]
