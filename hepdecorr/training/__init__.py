"""The learning half: torch and Lightning Fabric; never coffea.

`train` learns a method from a training table, `finish` exports it with its card.
"""

from hepdecorr.training.data.batches import Batch, EventDataset
from hepdecorr.training.data.layout import ColumnLayout, RowPacking
from hepdecorr.training.data.splits import DataSplits
from hepdecorr.training.data.streaming import StreamingDataset
from hepdecorr.training.export.tagger import export_tagger
from hepdecorr.training.objective import Objective, TrainingConfig, ValidationResult
from hepdecorr.training.pipeline import TrainingResult, export_trained, load_splits, predict_logits, train
from hepdecorr.training.trainer import Trainer

__all__ = [
    "Batch",
    "ColumnLayout",
    "DataSplits",
    "EventDataset",
    "Objective",
    "RowPacking",
    "StreamingDataset",
    "Trainer",
    "TrainingConfig",
    "TrainingResult",
    "ValidationResult",
    "export_tagger",
    "export_trained",
    "load_splits",
    "predict_logits",
    "train",
]
