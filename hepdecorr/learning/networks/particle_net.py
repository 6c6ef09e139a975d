"""ParticleNet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hepdecorr.errors import InputError
from hepdecorr.learning.networks.cloud import Cloud, needed, pool
from hepdecorr.learning.networks.coordinates import Directions
from hepdecorr.learning.networks.mlp import ACTIVATIONS, layers

FAR = 1e9  # squared distance to what is no neighbour


class ParticleNet(nn.Module):
    """Edge convolutions over nearest neighbours, found anew in each block (Qu, Gouskos, 1902.08570).

    blocks: widths of the layers of each block; neighbours: k; pools: as in DeepSets, over what all blocks
    have learned.  The first block's neighbours are near in eta and phi, those of the later blocks in what the
    block before has learned.  Two things differ from the paper.  A neighbour counts the less the farther it
    is, down to nothing at the place of the next one after the k: the output is then continuous, and rounding
    in another engine cannot exchange two neighbours.  And the norm is a LayerNorm: see MLP.
    """

    def __init__(
        self,
        features: Sequence[str],
        *,
        constituents: Sequence[str] = (),
        length: int = 0,
        outputs: int = 1,
        blocks: Sequence[Sequence[int]] = ((48, 48), (64, 64)),
        neighbours: int = 8,
        pools: int = 4,
        hidden: Sequence[int] = (64,),
        activation: str = "silu",
        dropout: float = 0.0,
        inputs: Mapping[str, Any] | None = None,
        constituent_inputs: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        needed(constituents, by="ParticleNet")
        if neighbours < 1 or not blocks or not all(blocks):
            raise InputError("ParticleNet: give at least one neighbour, and blocks that are lists of widths")
        self.inputs = Cloud(
            features, constituents, length, inputs=inputs, constituent_inputs=constituent_inputs
        )
        self.directions = Directions(constituents, by="ParticleNet")
        entering = [len(constituents), *(widths[-1] for widths in blocks)]
        self.blocks = nn.ModuleList(
            EdgeConvolution(width, widths, neighbours=neighbours, activation=activation)
            for width, widths in zip(entering, blocks, strict=False)
        )
        self.scores = nn.Linear(sum(entering[1:]), pools)
        pooled = sum(entering[1:]) * (1 + pools)
        self.norm = nn.LayerNorm(pooled)
        self.head = layers(
            len(features) + pooled, outputs, hidden=hidden, activation=activation, dropout=dropout
        )

    def fit(self, x: Tensor) -> None:
        """Set the scaling of the inputs from training events, shape (n, width)."""
        self.inputs.fit(x)

    def forward(self, x: Tensor) -> Tensor:
        """Shape (n, outputs) for raw rows of shape (n, width); the order of constituents is no matter."""
        parts = self.inputs.parts(x)
        apart = self.directions.apart(parts.constituents)
        features, nodes, mask = self.inputs.scale(parts)
        found: list[Tensor] = []
        for block in self.blocks:
            nodes = block(nodes, squares(nodes) if found else apart, mask)
            found.append(nodes)
        known = torch.cat(found, 2)
        pooled = self.norm(pool(known, self.scores(known), mask))
        return self.head(torch.cat([features, pooled], 1))  # type: ignore[no-any-return]


class EdgeConvolution(nn.Module):
    """Layers on pairs of a node and its difference to a neighbour, averaged over neighbours (eq. 1)."""

    def __init__(self, entering: int, widths: Sequence[int], *, neighbours: int, activation: str) -> None:
        super().__init__()
        first, *others = widths
        # The first layer on (x_i, x_j - x_i) is a sum of one on x_i and one on x_j, done before the pairing;
        # the last one commutes with the average over neighbours, and is done after it.
        self.own = nn.Linear(entering, first)
        self.other = nn.Linear(entering, first, bias=False)
        self.activate = ACTIVATIONS[activation]()
        inner = others[:-1]
        self.chain = nn.Sequential()
        if inner:
            self.chain = layers(first, inner[-1], hidden=inner[:-1], activation=activation)
            self.chain.append(ACTIVATIONS[activation]())
        self.last = nn.Linear(widths[-2], widths[-1]) if others else nn.Identity()
        self.shortcut = nn.Linear(entering, widths[-1])
        self.norm = nn.LayerNorm(widths[-1])
        self.neighbours = neighbours

    def forward(self, nodes: Tensor, apart: Tensor, mask: Tensor) -> Tensor:
        """Shape (n, L, widths[-1]) for nodes (n, L, d), squared distances (n, L, L) and the mask (n, L)."""
        index, share = nearest(apart, mask, count=self.neighbours)
        rows, length, count = index.shape
        place = index + length * torch.arange(rows, device=index.device)[:, None, None]
        other = self.other(nodes).flatten(0, 1).index_select(0, place.flatten())
        edges = self.own(nodes)[:, :, None] + other.unflatten(0, (rows, length, count))
        edges = self.chain(self.activate(edges))
        total = self.last((edges * share[..., None]).sum(2))
        return self.activate(self.norm(total + self.shortcut(nodes)))  # type: ignore[no-any-return]


@torch.no_grad()
def squares(nodes: Tensor) -> Tensor:
    """Squared distances between the nodes (n, L, d), shape (n, L, L); without gradient."""
    square = (nodes**2).sum(2)
    return (square[:, :, None] + square[:, None] - 2 * nodes @ nodes.transpose(1, 2)).clamp_min(0)


@torch.no_grad()
def nearest(apart: Tensor, mask: Tensor, *, count: int) -> tuple[Tensor, Tensor]:
    """Index of the nearest neighbours of each node, and their shares, both (n, L, count).

    The shares sum to one, or are all zero where a node has no neighbour.
    """
    length = apart.shape[1]
    itself = torch.arange(length, device=apart.device)
    apart = torch.where(mask[:, None] & (itself[:, None] != itself), apart, FAR)
    # One more than is wanted, and there may be fewer constituents than that.
    if torch.compiler.is_exporting() or length <= count:
        apart = F.pad(apart, (0, count + 1), value=FAR)
    distance, index = apart.topk(count + 1, dim=2, largest=False)
    reach, distance = distance[..., -1:], distance[..., :-1]
    # Never quite nothing: where all are equally far they share alike.
    share = (1 - distance / reach.clamp_min(1e-12)).clamp_min(1e-6) * (distance < FAR / 2)
    share = share / share.sum(2, keepdim=True).clamp_min(1e-9)
    return index[..., :-1].clamp_max(length - 1), share
