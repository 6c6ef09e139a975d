"""Networks of a variational autoencoder of jets, which YAML names as `network: {type: ...}` of JetVAE.

A network is called with `length` (constituents of a jet), `latents` and `condition` (how many numbers encoder
and decoder are told beside), and has the verbs of Autoencoder.
"""

from hepdecorr.learning.networks.autoencoders.autoencoder import Autoencoder as Autoencoder
from hepdecorr.learning.networks.autoencoders.fully_connected import FullyConnected
from hepdecorr.learning.networks.autoencoders.recurrent import Recurrent
from hepdecorr.learning.networks.autoencoders.set_vae import SetVAE

__all__ = ["FullyConnected", "Recurrent", "SetVAE"]
