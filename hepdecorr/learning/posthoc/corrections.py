"""Cuts on the plain logit that follow the nuisances, as a file of correctionlib."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from hepdecorr.errors import InputError
from hepdecorr.learning.posthoc.chain import Chain
from hepdecorr.learning.posthoc.transform import Array

FILE = "corrections.json"
NAME = "threshold"  # of the correction
_HALVINGS = 60
_LINES = {1: "[0]+[1]*x", 2: "[0]+[1]*x+[2]*y+[3]*x*y"}


def corrections(
    chain: Chain, cuts: Mapping[float, float], *, names: Sequence[str], about: str, reach: tuple[float, float]
) -> str:
    """JSON of correctionlib, schema 2: the correction `threshold` of (rejection, nuisances).

    cuts: background rejection -> cut on the logit behind the chain.  names: of the inputs, in the order of
    chain.nuisances.  `rejection` is a string, as '0.95'.  reach: logits within which the thresholds are
    looked for.  Linear between the points of a grid of the nuisances, and beyond as at its ends.
    """
    if len(names) > 2:
        raise InputError(f"corrections: {len(names)} nuisances; a file of cuts takes one or two")
    grids = [chain.grids[name] for name in chain.nuisances]
    content = [
        {"key": f"{rejection:g}", "value": _node(thresholds(chain, cut, grids, reach=reach), grids, names)}
        for rejection, cut in sorted(cuts.items())
    ]
    real = [{"name": name, "type": "real", "description": "protected variable"} for name in names]
    rejection = {"name": "rejection", "type": "string", "description": "background rejection"}
    correction = {
        "name": NAME,
        "description": f"{about}: cut on the logit above which an event passes",
        "version": 1,
        "inputs": [rejection, *real],
        "output": {"name": NAME, "type": "real"},
        "data": {"nodetype": "category", "input": "rejection", "content": content},
    }
    return json.dumps({"schema_version": 2, "description": about, "corrections": [correction]}, indent=1)


@torch.no_grad()
def thresholds(chain: Chain, cut: float, grids: Sequence[Array], *, reach: tuple[float, float]) -> Array:
    """The logit that the chain maps to `cut`, at each point of the grids, by halving: it is monotone."""
    mesh = np.meshgrid(*grids, indexing="ij")
    z = torch.as_tensor(np.stack([m.ravel() for m in mesh], 1), dtype=torch.float32)
    low, high = (torch.full((len(z),), end, dtype=torch.float64) for end in reach)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        below = chain(middle.float(), z) < cut
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return np.asarray(((low + high) / 2).numpy().reshape(mesh[0].shape))


def _node(values: Array, grids: Sequence[Array], names: Sequence[str]) -> dict[str, Any]:
    """A binning by the points of the grids, and one more bin on each side, where nothing changes any more."""
    edges = [["-inf", *grid.tolist(), "inf"] for grid in grids]
    inside = [range(len(grid) + 1) for grid in grids]
    content = [_formula(values, grids, cell, names) for cell in itertools.product(*inside)]
    if len(grids) == 1:
        return {
            "nodetype": "binning",
            "input": names[0],
            "edges": edges[0],
            "content": content,
            "flow": "clamp",
        }
    return {
        "nodetype": "multibinning",
        "inputs": list(names),
        "edges": edges,
        "content": content,
        "flow": "clamp",
    }


def _formula(
    values: Array, grids: Sequence[Array], cell: Sequence[int], names: Sequence[str]
) -> dict[str, Any] | float:
    """The linear or bilinear function through the corners of a cell of the grid."""
    corners = [(max(c - 1, 0), min(c, len(g) - 1)) for c, g in zip(cell, grids, strict=True)]
    # Each variable's part is 1 at one corner and 0 at the other: a + b x.
    parts = []
    for (low, high), grid in zip(corners, grids, strict=True):
        width = grid[high] - grid[low]
        up = (-grid[low] / width, 1 / width) if high > low else (0.0, 0.0)
        parts.append(((1 - up[0], -up[1]), up))
    parameters = np.zeros((2,) * len(grids))
    for corner in itertools.product((0, 1), repeat=len(grids)):
        at = tuple(pair[c] for pair, c in zip(corners, corner, strict=True))
        outer = np.array(1.0)
        for part, c in zip(parts, corner, strict=True):
            outer = np.multiply.outer(outer, part[c])
        parameters += values[at] * outer
    if not parameters.ravel()[1:].any():
        return float(parameters.ravel()[0])
    # Row-major in powers of x, then y: 1, y, x, xy.
    ordered = parameters.ravel() if len(grids) == 1 else parameters.ravel()[[0, 2, 1, 3]]
    return {
        "nodetype": "formula",
        "expression": _LINES[len(grids)],
        "parser": "TFormula",
        "variables": list(names),
        "parameters": ordered.tolist(),
    }
