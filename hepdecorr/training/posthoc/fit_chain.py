"""Fit of a chain of post-hoc maps on a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from hepdecorr.model_card import Nuisance, WorkingPoint
from hepdecorr.table import Arrays, Selection, Split, Table
from hepdecorr.training.data.batches import arrays_to_batch, multiply_weights
from hepdecorr.training.data.chunks import score_chunks
from hepdecorr.training.data.layout import ColumnLayout
from hepdecorr.training.export.group_codes import CodeLookup
from hepdecorr.training.methods.base import Method
from hepdecorr.training.posthoc.chain import PosthocChain, apply_chain
from hepdecorr.training.posthoc.correctionlib import CORRECTIONS_FILE, build_corrections


def fit(chain: PosthocChain, method: Method, *, table: Table, layout: ColumnLayout, split: Split) -> None:
    """Fit the transforms on the background that trained and validated, with its weights; never on test."""
    parts = [
        score_table(
            method, table, layout, select=Selection(part, split, label=0), extra_columns=chain.nuisances
        )
        for part in ("train", "validation")
    ]
    every = {k: np.concatenate([p[k] for p in parts]).astype(np.float64) for k in parts[0]}
    chain.fit(every["logit"], {name: every[name] for name in chain.nuisances}, every["weight"])


@torch.no_grad()
def score_table(
    method: Method,
    table: Table,
    layout: ColumnLayout,
    *,
    select: Selection,
    extra_columns: Sequence[str] = (),
) -> Arrays:
    """`logit` of the method alone, `label`, `weight` and the columns `names` of selected rows of a table.

    A method with a context is told the codes of whole groups of that part of the table.
    """
    codes = CodeLookup.from_table(method, table, layout, select=select)
    found: list[dict[str, Any]] = []
    for arrays in table.iter_shards(list(dict.fromkeys([*layout.columns, *extra_columns])), select=select):
        raw = arrays_to_batch(arrays, layout)
        rows = codes.inputs_with_codes(raw.x, raw.group)
        logit = torch.cat([method.logit(part) for part in score_chunks(rows)]).float().numpy()
        about = {
            "logit": logit,
            "label": arrays["label"],
            "weight": multiply_weights(arrays, layout.weight_columns),
        }
        found.append({**{n: arrays[n] for n in extra_columns}, **about})
    return {key: np.concatenate([part[key] for part in found]) for key in found[0]}


def read_validation_nuisances(chain: PosthocChain, *, table: Table, split: Split) -> Arrays:
    """The nuisances of the validation events."""
    return table.read(chain.nuisances, select=Selection("validation", split))


def source_features(chain: PosthocChain, nuisances: Sequence[Nuisance]) -> list[str]:
    """The features that the nuisances of the chain are computed from."""
    known = {n.name: n.feature or n.name for n in nuisances}
    return [known.get(name, name) for name in chain.nuisances]


def apply_to_validation(
    chain: PosthocChain,
    logit: np.ndarray[Any, Any],
    nuisance_values: Arrays,
    *,
    find_working_points: Callable[[np.ndarray[Any, Any]], Sequence[WorkingPoint]],
    feature_names: Sequence[str],
    description: str,
) -> tuple[np.ndarray[Any, Any], dict[str, Any]]:
    """The validation logit that the graph will give, and what `export` takes beside the method.

    logit (n,) is the method's, `own` the nuisances of the same events, `points` makes working points of a
    logit, `names` are the features that the nuisances are made of.
    """
    mapped = apply_chain(chain, logit, nuisance_values)
    if chain.export_format == "onnx":
        z = np.stack([nuisance_values[n] for n in chain.nuisances], 1).astype(np.float32)
        return mapped, {"posthoc": chain, "nuisances": torch.from_numpy(z)[:2048]}
    cuts = {point.rejection: point.threshold for point in find_working_points(mapped)}
    low, high = float(logit.min()), float(logit.max())
    text = build_corrections(
        chain,
        cuts,
        feature_names=feature_names,
        description=description,
        logit_range=(2 * low - high, 2 * high - low),
    )
    return logit, {"files": {CORRECTIONS_FILE: text}}
