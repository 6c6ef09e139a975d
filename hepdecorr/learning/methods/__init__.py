"""Methods that YAML names as `method: {type: ...}`."""

from hepdecorr.learning.methods.anomaly import Anomaly
from hepdecorr.learning.methods.contextual import Contextual
from hepdecorr.learning.methods.double_disco import DoubleDisCo
from hepdecorr.learning.methods.excised import Excised
from hepdecorr.learning.methods.group_vae import GroupVAE
from hepdecorr.learning.methods.jet_vae import JetVAE
from hepdecorr.learning.methods.method import Method as Method
from hepdecorr.learning.methods.tagger import Tagger

__all__ = ["Anomaly", "Contextual", "DoubleDisCo", "Excised", "GroupVAE", "JetVAE", "Tagger"]
