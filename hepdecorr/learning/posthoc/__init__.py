"""Transforms of the score that YAML names as `posthoc: [{type: QuantileMap, nuisance: m_bc}]`.

They are fitted after training, on background of the events that trained and validated, and travel inside the
exported graph, which then takes the nuisances beside the features; or, with `posthoc: {maps: [...], into:
corrections}`, as cuts that follow the nuisances in a file of correctionlib beside a graph without them.
"""

from hepdecorr.learning.posthoc.chain import Chain as Chain
from hepdecorr.learning.posthoc.chain import apply as apply
from hepdecorr.learning.posthoc.corrections import corrections as corrections
from hepdecorr.learning.posthoc.ddt import DDT
from hepdecorr.learning.posthoc.fixed_efficiency import FixedEfficiency
from hepdecorr.learning.posthoc.quantile_map import QuantileMap
from hepdecorr.learning.posthoc.transform import Background as Background
from hepdecorr.learning.posthoc.transform import Transform as Transform
from hepdecorr.learning.posthoc.transport import Transport

__all__ = ["DDT", "FixedEfficiency", "QuantileMap", "Transport"]
