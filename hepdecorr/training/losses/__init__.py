"""What a tagger pays when its score tells about a nuisance; YAML names them in `terms: [{type: ...}]`.

A term of your own is a class with `price(logit, b)`: `terms: [{type: my_term.py:Mine, nuisance: mass}]`.

A constraint in place of a strength: `terms: [{type: DisCo, nuisance: mass, constraint: {measure: dcor}}]`.

What an autoencoder is paid for outliers; YAML names it in `exposure: {type: KLOE, margin: 1}`.

An exposure of your own is a class with `price(outside, inside)`: `exposure: {type: my_exposure.py:Mine}`.
"""

from hepdecorr.training.losses.adversary import Adversary as Adversary
from hepdecorr.training.losses.base import Term as Term
from hepdecorr.training.losses.constraint import ConstrainedStrength as ConstrainedStrength
from hepdecorr.training.losses.constraint import ConstraintConfig as ConstraintConfig
from hepdecorr.training.losses.constraint import Scorer as Scorer
from hepdecorr.training.losses.disco import DisCo, LinearCorrelation
from hepdecorr.training.losses.mine import MINE
from hepdecorr.training.losses.moment_decomposition import Flatness, MoDe
from hepdecorr.training.losses.outlier_exposure import KLOE as KLOE
from hepdecorr.training.losses.outlier_exposure import MSEOE as MSEOE
from hepdecorr.training.losses.outlier_exposure import Exposure as Exposure
from hepdecorr.training.losses.outlier_exposure import JetLosses as JetLosses
from hepdecorr.training.losses.predictive_adversaries import GMM, QuantileBinAdversary, RegressionAdversary

__all__ = [
    "GMM",
    "MINE",
    "DisCo",
    "Flatness",
    "LinearCorrelation",
    "MoDe",
    "QuantileBinAdversary",
    "RegressionAdversary",
]
