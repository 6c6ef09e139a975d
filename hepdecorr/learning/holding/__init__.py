"""A constraint in place of a strength: `terms: [{type: DisCo, nuisance: mass, hold: {measure: dcor}}]`."""

from hepdecorr.learning.holding.hold import Held, Hold, Scorer

__all__ = ["Held", "Hold", "Scorer"]
