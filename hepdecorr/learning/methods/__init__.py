"""Methods that YAML names as `method: {type: ...}`."""

from hepdecorr.learning.methods.excised import Excised
from hepdecorr.learning.methods.method import Method as Method
from hepdecorr.learning.methods.tagger import Tagger

__all__ = ["Excised", "Tagger"]
