"""Scores of a trained method for the rows of a table, and the transforms fitted on them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from hepdecorr.learning.batches import product, to_batch
from hepdecorr.learning.layout import Layout
from hepdecorr.learning.methods.judging import chunks
from hepdecorr.learning.methods.method import Method
from hepdecorr.learning.posthoc.chain import Chain
from hepdecorr.table import Arrays, Selection, Split, Table


def fit(chain: Chain, method: Method, *, table: Table, layout: Layout, split: Split) -> None:
    """Fit the transforms on the background that trained and validated, with its weights; never on test."""
    parts = [
        scored(method, table, layout, select=Selection(part, split, label=0), names=chain.nuisances)
        for part in ("train", "validation")
    ]
    every = {k: np.concatenate([p[k] for p in parts]).astype(np.float64) for k in parts[0]}
    chain.fit(every["logit"], {name: every[name] for name in chain.nuisances}, every["weight"])


@torch.no_grad()
def scored(
    method: Method, table: Table, layout: Layout, *, select: Selection, names: Sequence[str] = ()
) -> Arrays:
    """`logit` of the method alone, `label`, `weight` and the columns `names` of selected rows of a table."""
    found: list[dict[str, Any]] = []
    for arrays in table.iterate(list(dict.fromkeys([*layout.columns, *names])), select=select):
        raw = to_batch(arrays, layout)
        logit = torch.cat([method.logit(part) for part in chunks(raw.x)]).float().numpy()
        about = {"logit": logit, "label": arrays["label"], "weight": product(arrays, layout.weights)}
        found.append({**{n: arrays[n] for n in names}, **about})
    return {key: np.concatenate([part[key] for part in found]) for key in found[0]}
