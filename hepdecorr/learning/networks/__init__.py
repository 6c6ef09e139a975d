"""Networks that YAML may name as `network: {type: ...}`; each holds the preprocessing of its inputs.

A network is called with `features` (names of its inputs, in order) and `outputs`, and has
`fit(x)`, which sets the scaling from the training events, and `forward(x) -> (n, outputs)`.
"""

from hepdecorr.learning.networks.inputs import Inputs as Inputs
from hepdecorr.learning.networks.mlp import MLP
from hepdecorr.learning.networks.mlp import layers as layers

__all__ = ["MLP"]
