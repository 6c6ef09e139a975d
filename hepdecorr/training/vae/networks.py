"""Networks of variational autoencoders of jets, which YAML names as `network: {type: ...}` of JetVAE.

A network is called with `length` (constituents of a jet), `latents` and `condition` (number of quantities on
which encoder and decoder are conditioned), and has the methods of Autoencoder.
"""

from hepdecorr.training.networks.autoencoders import FullyConnected, Recurrent
from hepdecorr.training.networks.set_vae import SetVAE

__all__ = ["FullyConnected", "Recurrent", "SetVAE"]
