"""Networks that YAML may name as `network: {type: ...}`; each holds the preprocessing of its inputs.

A network is called with `features` and `constituents` (names of its inputs, in order), `length` (how many
constituents there are in training) and `outputs`, and has `fit(x)`, which sets the scaling from the training
events, and `forward(x) -> (n, outputs)`.  x is a matrix as `hepdecorr.training.data.layout.Form` packs it.

Networks of a variational autoencoder of jets, which YAML names as `network: {type: ...}` of JetVAE.

A network is called with `length` (constituents of a jet), `latents` and `condition` (how many numbers encoder
and decoder are told beside), and has the verbs of Autoencoder.
"""

from hepdecorr.training.networks.deep_sets import DeepSets
from hepdecorr.training.networks.lstm import LSTM
from hepdecorr.training.networks.mlp import MLP
from hepdecorr.training.networks.mlp import mlp_layers as mlp_layers
from hepdecorr.training.networks.particle_net import ParticleNet
from hepdecorr.training.networks.particle_transformer import ParticleTransformer
from hepdecorr.training.networks.preprocessing import FeaturePreprocessor as FeaturePreprocessor

__all__ = ["LSTM", "MLP", "DeepSets", "ParticleNet", "ParticleTransformer"]
