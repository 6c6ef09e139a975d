"""The block `posthoc` of a tagger: transforms one after the other, fitted on background after training.

Transforms of a trained method's score: fitted on a table, and what its export must know of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from hepdecorr import registry
from hepdecorr.errors import InputError, located, suggest
from hepdecorr.training.posthoc.base import BackgroundSample, FloatArray, ScoreTransform
from hepdecorr.training.posthoc.grid import equal_weight_knots

POSTHOC_MODULE = "hepdecorr.training.posthoc"
EXPORT_FORMATS = ("onnx", "correctionlib")
GRID_POINTS = 65


class PosthocChain(nn.Module):
    """Maps a logit (n,) and the columns `nuisances` (n, k) to a logit (n,).

    nuisances: names of all that the transforms take, each once, in the order of the columns.  export_format:
    'onnx', or 'correctionlib' for a graph without them and a file of cuts that do the same.  nuisance_grids:
    of each nuisance, set by `fit`, points between which the background has equal weight.
    """

    def __init__(self, transforms: Sequence[ScoreTransform], *, export_format: str = "onnx") -> None:
        super().__init__()
        if export_format not in EXPORT_FORMATS:
            raise InputError(
                f"posthoc: export: no {export_format!r}{suggest(str(export_format), EXPORT_FORMATS)}"
            )
        self.export_format, self.nuisance_grids = export_format, dict[str, FloatArray]()
        self.transforms = nn.ModuleList(transforms)
        self.nuisances = tuple(dict.fromkeys(name for one in transforms for name in one.nuisances))
        self._columns = [[self.nuisances.index(name) for name in one.nuisances] for one in transforms]

    @classmethod
    def from_config(cls, block: Any, *, table_nuisances: Sequence[str], base: Path | None = None) -> Self:
        """From the block `posthoc`, a list of `{type: QuantileMap, nuisance: m_bc}`; `known`: nuisances.

        Or {maps: that list, export: onnx or correctionlib}.
        """
        into, keys = "onnx", ["posthoc"]
        if isinstance(block, Mapping) and set(block) <= {"maps", "export"} and "maps" in block:
            block, into, keys = block["maps"], block.get("export", into), ["posthoc", "maps"]
        if not isinstance(block, Sequence) or isinstance(block, str) or not block:
            raise InputError(
                "posthoc must list transforms, as [{type: QuantileMap, nuisance: NAME}], not "
                f"{block!r}; leave it out for none"
            )
        transforms = []
        for i, spec in enumerate(block):
            try:
                with located(*keys, i):
                    made = registry.build(spec, namespace=POSTHOC_MODULE, base=base)
            except InputError:
                raise
            except (TypeError, ValueError) as err:
                raise InputError(f"posthoc: {spec}: a value is of the wrong type: {err}") from err
            if not isinstance(made, ScoreTransform):
                raise InputError(f"posthoc: {spec}: it must derive from {POSTHOC_MODULE}.Transform")
            for name in made.nuisances:
                if name not in table_nuisances:
                    raise InputError(f"posthoc: {name!r} is no nuisance{suggest(str(name), table_nuisances)}")
            transforms.append(made)
        return cls(transforms, export_format=into)

    @torch.no_grad()
    def fit(self, score: FloatArray, nuisances: Mapping[str, FloatArray], w: FloatArray) -> None:
        """Each transform on what the ones before it leave of the background's scores (n,)."""
        positive = w > 0
        for one in self.transforms:
            assert isinstance(one, ScoreTransform)
            z = np.stack([nuisances[name] for name in one.nuisances], 1)
            one.fit(BackgroundSample.from_arrays(score, z, w, nuisance_names=one.nuisances))
            # In float32, as the graph will do it.
            score = one(*(torch.as_tensor(v, dtype=torch.float32) for v in (score, z))).double().numpy()
        number = GRID_POINTS if len(self.nuisances) == 1 else GRID_POINTS // 3
        self.nuisance_grids = {
            n: equal_weight_knots(nuisances[n][positive], w[positive], num_knots=number)
            for n in self.nuisances
        }

    def forward(self, score: Tensor, z: Tensor) -> Tensor:
        """Shape (n,)."""
        for one, columns in zip(self.transforms, self._columns, strict=True):
            score = one(score, z[:, columns])
        return score


def apply_chain(chain: PosthocChain, score: Any, nuisances: Mapping[str, Any]) -> np.ndarray[Any, Any]:
    """What the chain makes of arrays, float32 of shape (n,)."""
    z = np.stack([np.asarray(nuisances[name], np.float32) for name in chain.nuisances], 1)
    with torch.no_grad():
        mapped = chain(torch.as_tensor(np.asarray(score, np.float32)), torch.from_numpy(z))
    return np.asarray(mapped.numpy())
