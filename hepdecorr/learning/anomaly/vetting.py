"""Jets that cannot be learned from, and outliers that can teach little: told before a training begins."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from hepdecorr.errors import InputError
from hepdecorr.learning.batches import Batch
from hepdecorr.learning.exposure import Exposure
from hepdecorr.learning.exposure.matching import Matched, warn_of_few

log = logging.getLogger(__name__)


def check_outliers(sample: Batch) -> None:
    """InputError without outliers among training events; a warning where they are few."""
    own = sample.y == 1
    if not (sample.w * sample.r)[own].clamp_min(0).sum() > 0:
        raise InputError(
            "exposure: an empty outlier set: no training event has label 1 and a positive weight; add a "
            "dataset of 'label: outlier' under samples, check its selection, or leave 'exposure' out"
        )
    warn_of_few((sample.w * sample.r)[own].clamp_min(0), about="outliers to train with")


def match(
    exposures: Mapping[str, Exposure], every: Batch, *, nuisances: Sequence[str], seed: int
) -> dict[str, Matched]:
    """The outliers of those exposures that want them matched, by the exposure's name."""
    return {
        name: Matched(one.matching, every, nuisances=nuisances, seed=seed)
        for name, one in exposures.items()
        if one.matching is not None
    }


def excluded(train: Batch, validation: Batch, *, good: int = -1) -> dict[str, int]:
    """How many jets of each class, of flat rows, have no part in the training; a warning where there are any.

    good: the column that is 1 for a jet of two constituents with momentum.
    """
    found = {}
    for label, name in enumerate(("background", "outliers")):
        flags: list[Tensor] = [b.x[b.y == label, good] for b in (train, validation)]
        count, rows = (sum(f(one) for one in flags) for f in (_bad, len))
        if rows:
            found[name] = count
        if count:
            log.warning(
                "%d of %d %s jets have fewer than two constituents with momentum: they are left out of the "
                "training and of what judges it; they have a score, but one without a meaning",
                count, rows, name,
            )  # fmt: skip
    return found


def told_of(record: Mapping[str, Any], exposures: Mapping[str, Exposure]) -> list[str]:
    """What the entry of the history says in words: jets that were left out, exposures that taught nothing."""
    counts = {name: count for name, count in record["measured"]["excluded"].items() if count}
    text = ", ".join(f"{count} of {name}" for name, count in counts.items())
    told = [f"left out of the training, fewer than two constituents: {text}"] if counts else []
    for name, one in exposures.items():
        kept = record["curves"].get(f"valid/{name}", [])
        if one.strength and kept and not any(kept):
            told.append(
                f"{name}: the outliers kept the margin by themselves in every epoch and have taught nothing; "
                "ask for a greater margin, or form: pair or latent, which ask it of each jet"
            )
    return told


def _bad(flags: Tensor) -> int:
    return int((flags < 0.5).sum())
