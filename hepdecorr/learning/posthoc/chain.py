"""The block `posthoc` of a tagger: transforms one after the other, fitted on background after training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from hepdecorr import catalogue
from hepdecorr.errors import InputError
from hepdecorr.learning.posthoc.grid import knots
from hepdecorr.learning.posthoc.transform import Array, Background, Transform

HOME = "hepdecorr.learning.posthoc"
INTO = ("graph", "corrections")
POINTS = 65


class Chain(nn.Module):
    """Maps a logit (n,) and the columns `nuisances` (n, k) to a logit (n,).

    nuisances: names of all that the transforms take, each once, in the order of the columns.  into: 'graph',
    or 'corrections' for a graph without them and a file of cuts that do the same.  grids: of each nuisance,
    set by `fit`, points between which the background has equal weight.
    """

    def __init__(self, transforms: Sequence[Transform], *, into: str = "graph") -> None:
        super().__init__()
        if into not in INTO:
            raise InputError(f"posthoc: into: no {into!r}{catalogue.suggest(str(into), INTO)}")
        self.into, self.grids = into, dict[str, Array]()
        self.transforms = nn.ModuleList(transforms)
        self.nuisances = tuple(dict.fromkeys(name for one in transforms for name in one.nuisances))
        self._columns = [[self.nuisances.index(name) for name in one.nuisances] for one in transforms]

    @classmethod
    def read(cls, block: Any, *, known: Sequence[str], base: Path | None = None) -> Self:
        """From the block `posthoc`, a list of `{type: QuantileMap, nuisance: m_bc}`; `known`: nuisances.

        Or {maps: that list, into: graph or corrections}.
        """
        into = "graph"
        if isinstance(block, Mapping) and set(block) <= {"maps", "into"} and "maps" in block:
            block, into = block["maps"], block.get("into", into)
        if not isinstance(block, Sequence) or isinstance(block, str) or not block:
            raise InputError(
                "posthoc must list transforms, as [{type: QuantileMap, nuisance: NAME}], not "
                f"{block!r}; leave it out for none"
            )
        transforms = []
        for spec in block:
            try:
                made = catalogue.build(spec, home=HOME, base=base)
            except InputError:
                raise
            except (TypeError, ValueError) as err:
                raise InputError(f"posthoc: {spec}: a value is of the wrong type: {err}") from err
            if not isinstance(made, Transform):
                raise InputError(f"posthoc: {spec}: it must derive from {HOME}.Transform")
            for name in made.nuisances:
                if name not in known:
                    raise InputError(f"posthoc: {name!r} is no nuisance{catalogue.suggest(str(name), known)}")
            transforms.append(made)
        return cls(transforms, into=into)

    @torch.no_grad()
    def fit(self, score: Array, nuisances: Mapping[str, Array], w: Array) -> None:
        """Each transform on what the ones before it leave of the background's scores (n,)."""
        positive = w > 0
        for one in self.transforms:
            assert isinstance(one, Transform)
            z = np.stack([nuisances[name] for name in one.nuisances], 1)
            one.fit(Background.checked(score, z, w, names=one.nuisances))
            # In float32, as the graph will do it.
            score = one(*(torch.as_tensor(v, dtype=torch.float32) for v in (score, z))).double().numpy()
        number = POINTS if len(self.nuisances) == 1 else POINTS // 3
        self.grids = {n: knots(nuisances[n][positive], w[positive], number=number) for n in self.nuisances}

    def forward(self, score: Tensor, z: Tensor) -> Tensor:
        """Shape (n,)."""
        for one, columns in zip(self.transforms, self._columns, strict=True):
            score = one(score, z[:, columns])
        return score


def apply(chain: Chain, score: Any, nuisances: Mapping[str, Any]) -> np.ndarray[Any, Any]:
    """What the chain makes of arrays, float32 of shape (n,)."""
    z = np.stack([np.asarray(nuisances[name], np.float32) for name in chain.nuisances], 1)
    with torch.no_grad():
        mapped = chain(torch.as_tensor(np.asarray(score, np.float32)), torch.from_numpy(z))
    return np.asarray(mapped.numpy())
