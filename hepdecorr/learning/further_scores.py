"""The scores of a method beside its logit, and their working points."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hepdecorr import emd
from hepdecorr.card import WorkingPoint
from hepdecorr.errors import InputError
from hepdecorr.learning.methods.judging import chunks
from hepdecorr.learning.methods.method import Method

log = logging.getLogger(__name__)

Floats = np.ndarray[Any, Any]


@torch.no_grad()
def further_scores(method: Method, x: Tensor, *, spec: Mapping[str, Any]) -> dict[str, Floats]:
    """Each further output of one number a row, (n,), by name, for raw rows x (n, width).

    Where the method gives the momenta of its jets before and after an autoencoder, the distances of
    emd.grounds stand among them; spec: the method's block, which says in what frame it sees its jets.
    """
    if not method.beside:
        return {}
    parts: dict[str, list[Floats]] = {}
    grounds = emd.grounds(spec) if set(emd.MOMENTA) <= set(method.beside) else {}
    for part in chunks(x):
        outputs = dict(
            zip(method.beside, (one.float().cpu().numpy() for one in method.further(part)), strict=True)
        )
        found = {name: one for name, one in outputs.items() if one.ndim == 1}
        momenta = [outputs[name] for name in emd.MOMENTA] if grounds else []
        moved = {ground: emd.emd(*momenta, ground=ground) for ground in set(grounds.values())}
        # float32, as the tagger gives them.
        found |= {name: moved[ground].astype(np.float32) for name, ground in grounds.items()}
        for name, one in found.items():
            parts.setdefault(name, []).append(one)
    return {name: np.concatenate(some) for name, some in parts.items()}


def further_points(
    scores: Mapping[str, Floats], points: Callable[[Floats], Sequence[WorkingPoint]]
) -> dict[str, tuple[WorkingPoint, ...]]:
    """Working points of each score; a score that cannot be cut on, one that has died say, has none."""
    found: dict[str, tuple[WorkingPoint, ...]] = {}
    for name, score in scores.items():
        try:
            if not np.isfinite(score).all():
                raise InputError(f"not finite for {np.count_nonzero(~np.isfinite(score))} events")
            found[name] = tuple(points(score))
        except InputError as err:
            log.warning("score %s gets no working points: %s", name, err)
    return found
