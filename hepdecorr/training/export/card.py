"""Cuts on the logit that reject given shares of the background.

The scores of a method beside its logit, and their working points.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hepdecorr import emd
from hepdecorr.errors import InputError
from hepdecorr.model_card import WorkingPoint
from hepdecorr.stats.efficiency import ScoreTail
from hepdecorr.training.data.chunks import score_chunks
from hepdecorr.training.methods.base import Method

log = logging.getLogger(__name__)


def compute_working_points(
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
    below = ScoreTail(logit[background].astype(np.float64), np.maximum(0, weight[background]))
    above = (
        ScoreTail(logit[signal].astype(np.float64), np.maximum(0, weight[signal])) if signal.any() else None
    )
    points = []
    for rejection in rejections:
        if _count_effective_above_cut(logit[background], weight[background], 1 - rejection) < 10:
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


def _count_effective_above_cut(
    logit: np.ndarray[Any, Any], weight: np.ndarray[Any, Any], efficiency: float
) -> float:
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


FloatArray = np.ndarray[Any, Any]


@torch.no_grad()
def compute_extra_scores(method: Method, x: Tensor, *, spec: Mapping[str, Any]) -> dict[str, FloatArray]:
    """Each further output of one number a row, (n,), by name, for raw rows x (n, width).

    Where the method gives the momenta of its jets before and after an autoencoder, the distances of
    emd.grounds stand among them; spec: the method's block, which says in what frame it sees its jets.
    """
    if not method.aux_output_names:
        return {}
    parts: dict[str, list[FloatArray]] = {}
    grounds = emd.grounds_by_score(spec) if set(emd.MOMENTA_OUTPUTS) <= set(method.aux_output_names) else {}
    for part in score_chunks(x):
        outputs = dict(
            zip(
                method.aux_output_names,
                (one.float().cpu().numpy() for one in method.aux_outputs(part)),
                strict=True,
            )
        )
        found = {name: one for name, one in outputs.items() if one.ndim == 1}
        momenta = [outputs[name] for name in emd.MOMENTA_OUTPUTS] if grounds else []
        moved = {ground: emd.emd(*momenta, ground=ground) for ground in set(grounds.values())}
        # float32, as the tagger gives them.
        found |= {name: moved[ground].astype(np.float32) for name, ground in grounds.items()}
        for name, one in found.items():
            parts.setdefault(name, []).append(one)
    return {name: np.concatenate(some) for name, some in parts.items()}


def compute_extra_working_points(
    scores: Mapping[str, FloatArray], find_working_points: Callable[[FloatArray], Sequence[WorkingPoint]]
) -> dict[str, tuple[WorkingPoint, ...]]:
    """Working points of each score; a score that cannot be cut on, one that has died say, has none."""
    found: dict[str, tuple[WorkingPoint, ...]] = {}
    for name, score in scores.items():
        try:
            if not np.isfinite(score).all():
                raise InputError(f"not finite for {np.count_nonzero(~np.isfinite(score))} events")
            found[name] = tuple(find_working_points(score))
        except InputError as err:
            log.warning("score %s gets no working points: %s", name, err)
    return found
