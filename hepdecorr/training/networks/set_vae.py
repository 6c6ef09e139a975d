"""The distance of sets that ONNX can hold.

The best pairing of two sets of four-vectors, exactly, in compiled code; ONNX cannot hold it.

Autoencoder of sets.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hepdecorr._numba import cached_njit
from hepdecorr.errors import InputError, suggest
from hepdecorr.training.networks.autoencoders import Autoencoder, append_condition, split_posterior
from hepdecorr.training.networks.mlp import mlp_layers
from hepdecorr.training.networks.preprocessing import attention_pool
from hepdecorr.training.optim import full_precision


def cross_squared_distances(first: Tensor, second: Tensor) -> Tensor:
    """|a_i - b_j|^2 of sets (n, L, k) and (n, M, k), shape (n, L, M)."""
    # By component: a tensor (n, L, M, k) would be moved through memory, and |a|^2 + |b|^2 - 2 ab lose digits.
    off = (first[:, :, None, k] - second[:, None, :, k] for k in range(first.shape[2]))
    total: Tensor = sum(part * part for part in off)  # type: ignore[assignment]
    return total


def chamfer_distance(first: Tensor, second: Tensor, first_weights: Tensor, second_weights: Tensor) -> Tensor:
    """Half of sum_i w_i min_j |a_i - b_j|^2 + sum_j v_j min_i |a_i - b_j|^2, shape (n,).

    Fan, Su, Guibas (1612.00603, 'Chamfer distance'), whose weights are 1; here w (n, L) and v (n, M) sum to
    one, which, where all weights are equal, makes it at most the mean square of any pairing.
    """
    square = cross_squared_distances(first, second)
    there, back = (square.min(dim).values for dim in (2, 1))
    return 0.5 * ((first_weights * there).sum(1) + (second_weights * back).sum(1))


def match_constituents(decoded: Tensor, x: Tensor, weights: Tensor) -> Tensor:
    """Of each four-vector of decoded (n, L, 4), which of x (n, L, 4) is its own, (n, L): a permutation of L.

    Among all permutations one whose sum of squared distances, each times the share (n, L) of the one in x,
    is least: a linear assignment, solved by shortest augmenting paths (Jonker, Volgenant, Computing 38 (1987)
    325), in float64 on the processor.  Where a distance is not finite there is none, and the order stays.
    """
    arrays = (t.detach().cpu().float().contiguous().numpy() for t in (decoded, x, weights))
    return torch.from_numpy(_assign_batch(*arrays)).to(x.device)


@cached_njit
def _assign_batch(
    first: NDArray[np.float32], second: NDArray[np.float32], weights: NDArray[np.float32]
) -> NDArray[np.int64]:
    n, length, width = first.shape
    found = np.empty((n, length), np.int64)
    cost = np.empty((length, length))
    for event in range(n):
        total = 0.0
        for i in range(length):
            for j in range(length):
                square = 0.0
                for k in range(width):
                    off = np.float64(first[event, i, k]) - np.float64(second[event, j, k])
                    square += off * off
                cost[i, j] = weights[event, j] * square
                total += cost[i, j]
        if np.isfinite(total):
            found[event] = _solve_assignment(cost)
        else:
            found[event] = np.arange(length)
    return found


@cached_njit
def _solve_assignment(cost: NDArray[np.float64]) -> NDArray[np.int64]:
    """The column of each row of a finite square matrix."""
    length = len(cost)
    column, row = np.full(length, -1), np.full(length, -1)  # of a row, and of a column
    of_row, of_column = np.zeros(length), np.empty(length)  # dual prices; cost less both is never negative
    # Each column's cheapest row takes it, if it has none yet: rows that need no search.
    for j in range(length):
        i = int(np.argmin(cost[:, j]))
        of_column[j] = cost[i, j]
        if column[i] < 0:
            column[i], row[j] = j, i
    for i in range(length):
        if column[i] < 0:
            _augment_assignment(i, cost, column, row, of_row, of_column)
    return column


@cached_njit
def _augment_assignment(
    start: int,
    cost: NDArray[np.float64],
    column: NDArray[np.int64],
    row: NDArray[np.int64],
    row_dual: NDArray[np.float64],
    column_dual: NDArray[np.float64],
) -> None:
    """Give a row a column, along the cheapest chain of exchanges (Dijkstra's search on the prices left)."""
    length = len(cost)
    far, before, seen = np.full(length, np.inf), np.full(length, -1), np.zeros(length, np.bool_)
    i, end, least = start, -1, 0.0
    while end < 0:
        nearest, at = -1, np.inf
        for j in range(length):
            if seen[j]:
                continue
            reach = least + cost[i, j] - row_dual[i] - column_dual[j]
            if reach < far[j]:
                far[j], before[j] = reach, i
            if far[j] < at or (far[j] == at and row[j] < 0):
                nearest, at = j, far[j]
        seen[nearest], least = True, at
        if row[nearest] < 0:
            end = nearest
        else:
            i = row[nearest]
    row_dual[start] += least
    for j in range(length):
        if seen[j]:
            column_dual[j] += far[j] - least
            if row[j] >= 0:
                row_dual[row[j]] += least - far[j]
    while True:
        i = before[end]
        row[end], column[i], end = i, end, column[i]
        if i == start:
            break


DISTANCES = ("matching", "chamfer")
WEIGHTINGS = ("uniform", "energy")


class SetVAE(Autoencoder):
    """Encoder, decoder and distance to which the order of constituents is no matter.

    Deep Sets with pools that attend, as of the network DeepSets, give the latents (phi: widths of the layers
    on each constituent, hidden: of those behind the pool); layers of widths `decoder` give `length`
    four-vectors.  A missing constituent is one of no momentum, and what is decoded with none is none: so
    the number of constituents, too, is learnt and made.

    distance: in training, 'matching' is the least of |xhat - x|^2 / 4n over all permutations, exactly;
    'chamfer' lets each find its nearest.  In the graph, and when epochs are judged, it is 'chamfer' always,
    because ONNX holds no assignment; it is at most as large where all weigh the same.  weigh: 'even', or by
    'energy': a constituent counts by its share of the energy in the frame.
    """

    scale_per: ClassVar[str] = "component"
    validation_distance: ClassVar[str] = "chamfer"
    scaled_zero: Tensor

    def __init__(
        self,
        *,
        length: int = 20,
        latent_dim: int = 10,
        condition_dim: int = 0,
        phi: Sequence[int] = (64, 64, 64),
        hidden: Sequence[int] = (128, 64),
        decoder: Sequence[int] = (64, 128, 256),
        attention_pools: int = 4,
        activation: str = "silu",
        distance: str = "matching",
        weighting: str = "uniform",
    ) -> None:
        super().__init__(length=length, latent_dim=latent_dim, condition_dim=condition_dim)
        for name, value, known in (("distance", distance, DISTANCES), ("weighting", weighting, WEIGHTINGS)):
            if value not in known:
                raise InputError(f"SetVAE: no {name} {value!r}{suggest(value, known)}")
        if not phi or attention_pools < 0:
            raise InputError("SetVAE: phi needs a width at least, and attention_pools cannot be negative")
        *inner, width = phi
        self.training_distance, self.weighting, self.attention_pools = distance, weighting, attention_pools
        self.phi = mlp_layers(4, width + attention_pools, hidden=inner, activation=activation)
        entering = width * (1 + attention_pools) + 1 + condition_dim
        self.encoder = mlp_layers(entering, 2 * latent_dim, hidden=hidden, activation=activation)
        self.decoder = mlp_layers(
            latent_dim + condition_dim, 4 * length, hidden=decoder, activation=activation
        )
        self.register_buffer("scaled_zero", torch.zeros(4))

    def fit(self, scaled_zero: Tensor) -> None:
        """Set what a missing constituent is from a scaled four-vector of zero, (1, 4)."""
        if scaled_zero.numel() != 4:
            raise InputError("SetVAE: scales of each slot tell their order; give the frame 'per: component'")
        self.scaled_zero.copy_(scaled_zero.view(4))

    def encode(self, x: Tensor, mask: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Means and log variances of the posterior, both (n, latents), of jets (n, length, 4)."""
        answer = self.phi(x)
        pooled = attention_pool(
            answer[..., self.attention_pools :], answer[..., : self.attention_pools], mask
        )
        count = mask.sum(1, keepdim=True).to(pooled.dtype).log1p()
        return split_posterior(self.encoder(append_condition(torch.cat([pooled, count], 1), condition)))

    def decode(self, latent: Tensor, condition: Tensor | None = None) -> Tensor:
        """Scaled four-vectors (n, length, 4) of latents (n, latents), in no order."""
        answer: Tensor = self.decoder(append_condition(latent, condition)).float()
        return answer.view(latent.shape[0], self.length, 4)

    def distance(self, decoded: Tensor, x: Tensor, mask: Tensor) -> Tensor:
        """Mean square over the 4 length numbers, (n,), between those that belong together."""
        with full_precision(x):
            decoded, x = decoded.to(x.dtype), torch.where(mask[..., None], x, self.scaled_zero)
            if not self.training or self.training_distance == "chamfer":
                return (
                    chamfer_distance(
                        decoded, x, self._constituent_weights(decoded), self._constituent_weights(x)
                    )
                    / 4
                )
            # Numba takes its time to come; who trains no set need not wait for it.

            share = self._constituent_weights(x)
            order = match_constituents(decoded, x, share)
            own = x.gather(1, order[..., None].expand_as(x))
            return ((decoded - own).square().mean(2) * share.gather(1, order)).sum(1)

    def constituent_mask(self, decoded: Tensor, mask: Tensor) -> Tensor:  # noqa: ARG002  a set answers a set
        """Which of the decoded four-vectors are constituents, (n, length) bool: those of some energy."""
        return decoded[..., 0] > self.scaled_zero[0]

    def _constituent_weights(self, x: Tensor) -> Tensor:
        """The weights of four-vectors (n, L, 4), shape (n, L), which sum to one."""
        if self.weighting == "uniform":
            return torch.full_like(x[..., 0], 1 / self.length)
        energy = (x[..., 0] - self.scaled_zero[0]).clamp_min(0)
        return energy / energy.sum(1, keepdim=True).clamp_min(1e-6)
