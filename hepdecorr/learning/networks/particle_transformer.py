"""Particle transformer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hepdecorr.errors import InputError
from hepdecorr.learning.networks.cloud import Cloud, needed, some
from hepdecorr.learning.networks.coordinates import Directions, Momenta, turned
from hepdecorr.learning.networks.inputs import Inputs
from hepdecorr.learning.networks.mlp import layers

PAIRS = ("ln kT", "ln z", "ln Delta R", "ln m^2")
LEAST = 1e-9  # squared distance below which constituents count as parallel


class ParticleTransformer(nn.Module):
    """Attention among constituents, biased by what each pair of them is (Qu et al., 2202.03772).

    blocks: of particle attention, whose scores get a bias from the pair's ln kT, ln z, ln Delta R and ln m^2
    (eqs. 2-4, massless).  class_blocks: of attention of a class token to the constituents.  width, heads,
    widen: of all blocks and of their inner layers.  pair_hidden: widths of the layers on pairs.  The
    features of the row join the class token before the head of widths `hidden`.
    """

    def __init__(
        self,
        features: Sequence[str],
        *,
        constituents: Sequence[str] = (),
        length: int = 0,
        outputs: int = 1,
        width: int = 48,
        heads: int = 4,
        blocks: int = 2,
        class_blocks: int = 1,
        widen: int = 2,
        pair_hidden: Sequence[int] = (8,),
        hidden: Sequence[int] = (48,),
        dropout: float = 0.0,
        inputs: Mapping[str, Any] | None = None,
        constituent_inputs: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        needed(constituents, by="ParticleTransformer")
        if width % heads or blocks < 0 or class_blocks < 1:
            raise InputError(
                "ParticleTransformer: width must be a multiple of heads, class_blocks at least 1"
            )
        self.inputs = Cloud(
            features, constituents, length, inputs=inputs, constituent_inputs=constituent_inputs
        )
        self.pairs = Pairs(constituents, heads=heads, hidden=pair_hidden)
        self.embed = layers(len(constituents), width, hidden=(width,), activation="gelu", norm=True)
        block: dict[str, Any] = {"heads": heads, "widen": widen, "dropout": dropout}
        self.blocks = nn.ModuleList(Block(width, **block) for _ in range(blocks))
        self.class_blocks = nn.ModuleList(Block(width, **block) for _ in range(class_blocks))
        self.token = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.norm = nn.LayerNorm(width)
        self.head = layers(width + len(features), outputs, hidden=hidden, activation="gelu")

    def fit(self, x: Tensor) -> None:
        """Set the scaling of the inputs from training events, shape (n, width)."""
        self.inputs.fit(x)
        parts = self.inputs.parts(x)
        self.pairs.fit(parts.constituents, parts.mask)

    def forward(self, x: Tensor) -> Tensor:
        """Shape (n, outputs) for raw rows of shape (n, width); the order of constituents is no matter."""
        parts = self.inputs.parts(x)
        features, constituents, mask = self.inputs.scale(parts)
        tokens = self.embed(constituents)
        hidden = torch.where(mask, 0.0, -1e9)[:, None, None]
        bias = self.pairs(parts.constituents) + hidden if len(self.blocks) else hidden
        for block in self.blocks:
            tokens = block(tokens, tokens, bias)
        token = self.token.expand(tokens.shape[0], -1, -1)
        # The token also attends to itself: a jet without constituents has nothing else.
        seen = torch.cat([torch.zeros_like(hidden[..., :1]), hidden], 3)
        for block in self.class_blocks:
            token = block(token, torch.cat([token, tokens], 1), seen)
        return self.head(torch.cat([self.norm(token[:, 0]), features], 1))  # type: ignore[no-any-return]


class Block(nn.Module):
    """Attention, then a layer on each token, each with a norm before it and a shortcut round it."""

    def __init__(self, width: int, *, heads: int, widen: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.keys = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)
        self.inner = layers(width, width, hidden=(widen * width,), activation="gelu", dropout=dropout)

    def forward(self, tokens: Tensor, seen: Tensor, bias: Tensor) -> Tensor:
        """Tokens (n, T, width) look at those seen (n, S, width); bias (n, heads or 1, T or 1, S)."""
        own = self.before(tokens)
        other = own if seen is tokens else self.before(seen)
        query = self._apart(self.query(own))
        key, value = (self._apart(part) for part in self.keys(other).chunk(2, 2))
        scores = query @ key.transpose(2, 3) / math.sqrt(query.shape[3]) + bias
        answer = (scores.softmax(3) @ value).transpose(1, 2).flatten(2)
        tokens = tokens + self.out(answer)
        inner: Tensor = self.inner(self.between(tokens))
        return tokens + inner

    def _apart(self, values: Tensor) -> Tensor:
        rows, tokens, width = values.shape
        return values.view(rows, tokens, self.heads, width // self.heads).transpose(1, 2)


class Pairs(nn.Module):
    """The bias of attention, (n, heads, L, L), from raw features of constituents (n, L, c)."""

    def __init__(self, constituents: Sequence[str], *, heads: int, hidden: Sequence[int]) -> None:
        super().__init__()
        self.momenta = Momenta(constituents, by="ParticleTransformer")
        self.directions = Directions(constituents, by="ParticleTransformer")
        self.inputs = Inputs(PAIRS)
        self.net = layers(len(PAIRS), heads, hidden=hidden, activation="gelu")

    @torch.no_grad()
    def fit(self, constituents: Tensor, mask: Tensor) -> None:
        """Set the scaling of the pairs' features; constituents (n, L, c), mask (n, L)."""
        # As many pairs as 2000 jets of 40 constituents have, however long the jets are.
        step = 1 + mask.shape[0] * mask.shape[1] ** 2 // (2000 * 40**2)
        constituents, mask = constituents[::step], mask[::step]
        first, second = torch.triu_indices(mask.shape[1], mask.shape[1], 1)
        both = mask[:, first] & mask[:, second]
        self.inputs.fit(some(self._features(constituents, first, second), both))

    def forward(self, constituents: Tensor) -> Tensor:
        """Shape (n, heads, L, L)."""
        length = constituents.shape[1]
        if torch.compiler.is_exporting():
            place = torch.arange(length, device=constituents.device)
            first, second = place[:, None].expand(-1, length).flatten(), place.repeat(length)
            bias = self.net(self.inputs(self._features(constituents, first, second)))
            return bias.transpose(1, 2).unflatten(2, (length, length))  # type: ignore[no-any-return]
        # All is the same for (i, j) and (j, i): half of the pairs will do.
        first, second = torch.triu_indices(length, length, device=constituents.device)
        with torch.no_grad():
            scaled = self.inputs(self._features(constituents, first, second))
        bias = self.net(scaled).transpose(1, 2)
        where = torch.empty(length, length, dtype=torch.int64, device=constituents.device)
        where[first, second] = where[second, first] = torch.arange(len(first), device=where.device)
        return bias.index_select(2, where.flatten()).unflatten(2, (length, length))  # type: ignore[no-any-return]

    def _features(self, constituents: Tensor, first: Tensor, second: Tensor) -> Tensor:
        """PAIRS of the constituents at these places, shape (n, pairs, 4)."""
        log_pt = self.momenta(constituents)
        eta, phi = self.directions(constituents)
        a, b = log_pt[:, first], log_pt[:, second]
        soft, ratio = torch.minimum(a, b), (a - b).abs()
        d_eta, d_phi = eta[:, first] - eta[:, second], turned(phi[:, first] - phi[:, second])
        log_r = 0.5 * (d_eta**2 + d_phi**2).clamp_min(LEAST).log()
        # cosh - cos, without its cancellation at small angles
        opening = torch.sinh(0.5 * d_eta) ** 2 + torch.sin(0.5 * d_phi) ** 2
        log_m2 = a + b + (4 * opening).clamp_min(LEAST).log()
        log_z = -torch.log1p(ratio.exp())
        return torch.stack([soft + log_r, log_z, log_r, log_m2], 2)
