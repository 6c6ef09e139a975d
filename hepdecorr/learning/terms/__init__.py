"""What a tagger pays when its score tells about a nuisance; YAML names them in `terms: [{type: ...}]`.

A term of your own is a class with `price(logit, b)`: `terms: [{type: my_term.py:Mine, nuisance: mass}]`.
"""

from hepdecorr.learning.terms.adversary import Adversary as Adversary
from hepdecorr.learning.terms.disco import DisCo
from hepdecorr.learning.terms.flatness import Flatness
from hepdecorr.learning.terms.gmm import GMM
from hepdecorr.learning.terms.linear import LinearCorrelation
from hepdecorr.learning.terms.mine import MINE
from hepdecorr.learning.terms.mode import MoDe
from hepdecorr.learning.terms.mse import MSE
from hepdecorr.learning.terms.softmax import Softmax
from hepdecorr.learning.terms.term import Term as Term

__all__ = ["GMM", "MINE", "MSE", "DisCo", "Flatness", "LinearCorrelation", "MoDe", "Softmax"]
