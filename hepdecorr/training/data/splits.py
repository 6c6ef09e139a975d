"""Training and validation events."""

from __future__ import annotations

from typing import NamedTuple

from hepdecorr.training.data.batches import EventDataset
from hepdecorr.training.data.streaming import StreamingDataset


class DataSplits(NamedTuple):
    """What a method learns from: events that move it and events that only judge it."""

    train: EventDataset | StreamingDataset
    validation: EventDataset
