"""What a representation pays; YAML names them in `representation: {terms: [{type: ...}]}`.

What an autoencoder is trained for and judged by: weight of its KL, annealing, anomaly scores.
"""

from hepdecorr.training.vae.base import LatentPosterior as LatentPosterior
from hepdecorr.training.vae.base import LatentTerm as LatentTerm
from hepdecorr.training.vae.latent_terms import KL, Capacity, SupervisedAlignment
from hepdecorr.training.vae.tc_decomposition import KLDecomposition
from hepdecorr.training.vae.total_correlation import TotalCorrelation

__all__ = ["KL", "Capacity", "KLDecomposition", "SupervisedAlignment", "TotalCorrelation"]
