"""What a representation pays; YAML names them in `representation: {terms: [{type: ...}]}`."""

from hepdecorr.learning.latents.alignment import SupervisedAlignment
from hepdecorr.learning.latents.decomposition import Decomposition
from hepdecorr.learning.latents.kl import KL, Capacity
from hepdecorr.learning.latents.term import Latent as Latent
from hepdecorr.learning.latents.term import LatentTerm as LatentTerm
from hepdecorr.learning.latents.total_correlation import TotalCorrelation

__all__ = ["KL", "Capacity", "Decomposition", "SupervisedAlignment", "TotalCorrelation"]
