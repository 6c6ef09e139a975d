"""Transforms of a trained method's score: fitted on a table, and what its export must know of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from hepdecorr.card import Nuisance, WorkingPoint
from hepdecorr.learning.batches import product, to_batch
from hepdecorr.learning.coding import Codes
from hepdecorr.learning.layout import Layout
from hepdecorr.learning.methods.judging import chunks
from hepdecorr.learning.methods.method import Method
from hepdecorr.learning.posthoc.chain import Chain, apply
from hepdecorr.learning.posthoc.corrections import FILE, corrections
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
    """`logit` of the method alone, `label`, `weight` and the columns `names` of selected rows of a table.

    A method with a context is told the codes of whole groups of that part of the table.
    """
    codes = Codes.of_table(method, table, layout, select=select)
    found: list[dict[str, Any]] = []
    for arrays in table.iterate(list(dict.fromkeys([*layout.columns, *names])), select=select):
        raw = to_batch(arrays, layout)
        rows = codes.rows(raw.x, raw.group)
        logit = torch.cat([method.logit(part) for part in chunks(rows)]).float().numpy()
        about = {"logit": logit, "label": arrays["label"], "weight": product(arrays, layout.weights)}
        found.append({**{n: arrays[n] for n in names}, **about})
    return {key: np.concatenate([part[key] for part in found]) for key in found[0]}


def validation(chain: Chain, *, table: Table, split: Split) -> Arrays:
    """The nuisances of the validation events."""
    return table.read(chain.nuisances, select=Selection("validation", split))


def sources(chain: Chain, nuisances: Sequence[Nuisance]) -> list[str]:
    """The features that the nuisances of the chain are computed from."""
    known = {n.name: n.feature or n.name for n in nuisances}
    return [known.get(name, name) for name in chain.nuisances]


def behind(
    chain: Chain,
    logit: np.ndarray[Any, Any],
    own: Arrays,
    *,
    points: Callable[[np.ndarray[Any, Any]], Sequence[WorkingPoint]],
    names: Sequence[str],
    about: str,
) -> tuple[np.ndarray[Any, Any], dict[str, Any]]:
    """The validation logit that the graph will give, and what `export` takes beside the method.

    logit (n,) is the method's, `own` the nuisances of the same events, `points` makes working points of a
    logit, `names` are the features that the nuisances are made of.
    """
    mapped = apply(chain, logit, own)
    if chain.into == "graph":
        z = np.stack([own[n] for n in chain.nuisances], 1).astype(np.float32)
        return mapped, {"posthoc": chain, "nuisances": torch.from_numpy(z)[:2048]}
    cuts = {point.rejection: point.threshold for point in points(mapped)}
    low, high = float(logit.min()), float(logit.max())
    text = corrections(chain, cuts, names=names, about=about, reach=(2 * low - high, 2 * high - low))
    return logit, {"files": {FILE: text}}
