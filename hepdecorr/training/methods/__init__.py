"""Methods that YAML names as `method: {type: ...}`."""

from hepdecorr.training.methods.base import Method as Method
from hepdecorr.training.methods.context_aware import ContextAwareTagger
from hepdecorr.training.methods.double_disco import DoubleDisCo
from hepdecorr.training.methods.group_vae import GroupVAE
from hepdecorr.training.methods.jet_vae import JetVAE
from hepdecorr.training.methods.latent_excision import LatentExcision
from hepdecorr.training.methods.tagger import Tagger
from hepdecorr.training.methods.vae_anomaly import VAEAnomaly

__all__ = [
    "ContextAwareTagger",
    "DoubleDisCo",
    "GroupVAE",
    "JetVAE",
    "LatentExcision",
    "Tagger",
    "VAEAnomaly",
]
