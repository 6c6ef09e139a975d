"""What an autoencoder is trained for and judged by: weight of its KL, annealing, anomaly scores."""

from hepdecorr.learning.anomaly.annealing import Annealing
from hepdecorr.learning.anomaly.beta import Beta
from hepdecorr.learning.anomaly.mixture import Mixture
from hepdecorr.learning.anomaly.scores import SCORES, Standard

__all__ = ["SCORES", "Annealing", "Beta", "Mixture", "Standard"]
