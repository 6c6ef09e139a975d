"""Networks that YAML may name as `network: {type: ...}`; each holds the preprocessing of its inputs.

A network is called with `features` and `constituents` (names of its inputs, in order), `length` (how many
constituents there are in training) and `outputs`, and has `fit(x)`, which sets the scaling from the training
events, and `forward(x) -> (n, outputs)`.  x is a matrix as `hepdecorr.learning.form.Form` packs it.
"""

from hepdecorr.learning.networks.deep_sets import DeepSets
from hepdecorr.learning.networks.inputs import Inputs as Inputs
from hepdecorr.learning.networks.lstm import LSTM
from hepdecorr.learning.networks.mlp import MLP
from hepdecorr.learning.networks.mlp import layers as layers
from hepdecorr.learning.networks.particle_net import ParticleNet
from hepdecorr.learning.networks.particle_transformer import ParticleTransformer

__all__ = ["LSTM", "MLP", "DeepSets", "ParticleNet", "ParticleTransformer"]
