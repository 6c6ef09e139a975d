"""What an autoencoder is paid for outliers; YAML names it in `exposure: {type: KLOE, margin: 1}`.

An exposure of your own is a class with `price(outside, inside)`: `exposure: {type: my_exposure.py:Mine}`.
"""

from hepdecorr.learning.exposure.exposure import Exposure as Exposure
from hepdecorr.learning.exposure.exposure import Seen as Seen
from hepdecorr.learning.exposure.kl import KLOE
from hepdecorr.learning.exposure.mse import MSEOE

__all__ = ["KLOE", "MSEOE"]
