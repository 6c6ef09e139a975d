"""Cuts on the logit that reject given shares of the background."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from hepdecorr.card import WorkingPoint
from hepdecorr.errors import InputError
from hepdecorr.validation.measures.efficiency import Tail

log = logging.getLogger(__name__)


def working_points(
    logit: np.ndarray[Any, Any],
    label: np.ndarray[Any, Any],
    weight: np.ndarray[Any, Any],
    *,
    rejections: Sequence[float],
) -> tuple[WorkingPoint, ...]:
    """Thresholds on the logit, each of shape (n,), that reject these fractions of the background.

    Without signal there is no efficiency of it.

    A rejection for which fewer than ten background events would remain, effective ones where they have
    weights, is left out with a warning.
    """
    background, signal = label == 0, label == 1
    below = Tail(logit[background].astype(np.float64), np.maximum(0, weight[background]))
    above = Tail(logit[signal].astype(np.float64), np.maximum(0, weight[signal])) if signal.any() else None
    points = []
    for rejection in rejections:
        if _remaining(logit[background], weight[background], 1 - rejection) < 10:
            log.warning("rejection %g: fewer than ten background events would remain; left out", rejection)
            continue
        cut = below.threshold(1 - rejection)
        points.append(
            WorkingPoint(
                rejection=rejection,
                threshold=cut,
                background_efficiency=below.efficiency(cut),
                signal_efficiency=above.efficiency(cut) if above is not None else None,
                background_events=int(background.sum()),
            )
        )
    return tuple(points)


def _remaining(logit: np.ndarray[Any, Any], weight: np.ndarray[Any, Any], efficiency: float) -> float:
    """How many events of the highest logits hold this share of the weight; effective ones, and not more than
    there would be if all weighed as much as the first one that is left out."""
    ordered = np.maximum(0, weight[logit.argsort()[::-1]])
    grown, most = ordered.cumsum(), efficiency * ordered.sum() * (1 + 1e-9)
    kept, left_out = ordered[grown <= most], ordered[grown > most]
    if not len(left_out):
        raise InputError(f"working point: rejection {1 - efficiency:g}; it must lie between 0 and 1")
    after = left_out[0]
    effective = kept.sum() ** 2 / np.square(kept).sum() if kept.any() else 0.0
    return float(min(effective * (1 + 1e-9), most / after))
