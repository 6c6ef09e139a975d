"""The learning half: torch and Lightning Fabric; never coffea.

`train` learns a method from a training table, `finish` exports it with its card.
"""

from hepdecorr.learning.batches import Batch, Data, Events
from hepdecorr.learning.export import export
from hepdecorr.learning.fitting import Trained, finish, load, logits, train
from hepdecorr.learning.form import Form
from hepdecorr.learning.layout import Layout
from hepdecorr.learning.players import Player, Recipe, Verdict
from hepdecorr.learning.streaming import Streamed
from hepdecorr.learning.training import Play

__all__ = [
    "Batch",
    "Data",
    "Events",
    "Form",
    "Layout",
    "Play",
    "Player",
    "Recipe",
    "Streamed",
    "Trained",
    "Verdict",
    "export",
    "finish",
    "load",
    "logits",
    "train",
]
