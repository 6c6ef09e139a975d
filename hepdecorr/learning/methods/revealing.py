"""What a report shows of a representation: its latents, and what moving a protected one does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hepdecorr.learning.batches import Batch
from hepdecorr.learning.latents.traversal import observed, traverse
from hepdecorr.learning.methods.excision import Excision, knowledge
from hepdecorr.learning.methods.method import Arrays
from hepdecorr.learning.methods.representation import Representation
from hepdecorr.validation.measures.information import mig

MOST = 20_000  # background events whose latents are kept
SHIFTS = (-2.0, -1.0, 1.0, 2.0)


@torch.no_grad()
def reveal(representation: Representation, excision: Excision, validation: Batch) -> Arrays:
    """Arrays of n background events for a report.

    mean (n, dims), weight (n,), keep (dims,); of the m continuous nuisances: nuisances (m,) their names,
    nuisance (n, m), moved (m,) the latent that was moved for each by shifts (s,), in deviations; change and
    change_error (m, s, f): what that does to the decoded features, in their own deviations; change_raw in
    their units; observed, observed_error: how the features of events differ whose nuisance is so far up.
    """
    background = validation.take(validation.y == 0)
    step = -(-len(background.y) // MOST)
    b = background.take(slice(None, None, max(1, step)))
    names = [name for k, name in enumerate(excision.nuisances) if k not in representation.places]
    columns = [k for k in range(len(excision.nuisances)) if k not in representation.places]
    if not columns:
        return {}
    knows = knowledge(representation, b)
    aligned = excision.rule == "aligned"
    moved = [i if aligned else int(knows[:, k].argmax()) for i, k in enumerate(columns)]
    shifts = torch.tensor(SHIFTS)
    found = [traverse(representation, b, dim=d, shifts=shifts) for d in moved]
    seen = [observed(representation.inputs(b.x), b.z[:, k], b.w, shifts=shifts) for k in columns]
    return {
        "mean": _array(representation.mean(b.x)),
        "nuisance": _array(b.z[:, columns]),
        "weight": _array(b.w.clamp_min(0)),
        "keep": _array(excision.keep),
        "moved": _array(torch.tensor(moved)),
        "nuisances": np.array(names),
        "shifts": _array(shifts),
        "change": _stacked([t.change for t in found]),
        "change_error": _stacked([t.error for t in found]),
        "change_raw": _stacked([t.raw for t in found]),
        "observed": _stacked([mean for mean, _ in seen]),
        "observed_error": _stacked([error for _, error in seen]),
    }


def gap(arrays: Arrays) -> dict[str, Any]:
    """The mutual information gap of revealed latents, for a card; nothing where there are none."""
    if not arrays or arrays["mean"].shape[1] < 2:
        return {}
    found = mig(arrays["mean"], arrays["nuisance"], weight=arrays["weight"]).mig
    return {"mig": {"value": found.value, "low": found.low, "high": found.high}}


def _array(t: Tensor) -> np.ndarray[Any, Any]:
    return t.detach().cpu().numpy()


def _stacked(parts: Sequence[Tensor]) -> np.ndarray[Any, Any]:
    return _array(torch.stack(list(parts)))
