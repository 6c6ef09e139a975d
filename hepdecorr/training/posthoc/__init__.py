"""Transforms of the score that YAML names as `posthoc: [{type: QuantileMap, nuisance: m_bc}]`.

They are fitted after training, on background of the events that trained and validated, and travel inside the
exported graph, which then takes the nuisances beside the features; or, with `posthoc: {maps: [...],
export: correctionlib}`, as cuts that follow the nuisances in a file of correctionlib beside a graph without
them.
"""

from hepdecorr.training.posthoc.base import BackgroundSample as BackgroundSample
from hepdecorr.training.posthoc.base import ScoreTransform as ScoreTransform
from hepdecorr.training.posthoc.chain import PosthocChain as PosthocChain
from hepdecorr.training.posthoc.chain import apply_chain as apply_chain
from hepdecorr.training.posthoc.correctionlib import build_corrections as build_corrections
from hepdecorr.training.posthoc.ddt import DDT
from hepdecorr.training.posthoc.fixed_efficiency import FixedEfficiency
from hepdecorr.training.posthoc.quantile_map import QuantileMap
from hepdecorr.training.posthoc.transport import Transport

__all__ = ["DDT", "FixedEfficiency", "QuantileMap", "Transport"]
