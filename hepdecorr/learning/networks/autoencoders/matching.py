"""The best pairing of two sets of four-vectors, exactly, in compiled code; ONNX cannot hold it."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hepdecorr.compiled import compiled


def matched(decoded: Tensor, x: Tensor, share: Tensor) -> Tensor:
    """Of each four-vector of decoded (n, L, 4), which of x (n, L, 4) is its own, (n, L): a permutation of L.

    Among all permutations one whose sum of squared distances, each times the share (n, L) of the one in x,
    is least: a linear assignment, solved by shortest augmenting paths (Jonker, Volgenant, Computing 38 (1987)
    325), in float64 on the processor.  Where a distance is not finite there is none, and the order stays.
    """
    arrays = (t.detach().cpu().float().contiguous().numpy() for t in (decoded, x, share))
    return torch.from_numpy(_assign(*arrays)).to(x.device)


@compiled
def _assign(
    first: NDArray[np.float32], second: NDArray[np.float32], share: NDArray[np.float32]
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
                cost[i, j] = share[event, j] * square
                total += cost[i, j]
        if np.isfinite(total):
            found[event] = _solve(cost)
        else:
            found[event] = np.arange(length)
    return found


@compiled
def _solve(cost: NDArray[np.float64]) -> NDArray[np.int64]:
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
            _augment(i, cost, column, row, of_row, of_column)
    return column


@compiled
def _augment(
    start: int,
    cost: NDArray[np.float64],
    column: NDArray[np.int64],
    row: NDArray[np.int64],
    of_row: NDArray[np.float64],
    of_column: NDArray[np.float64],
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
            reach = least + cost[i, j] - of_row[i] - of_column[j]
            if reach < far[j]:
                far[j], before[j] = reach, i
            if far[j] < at or (far[j] == at and row[j] < 0):
                nearest, at = j, far[j]
        seen[nearest], least = True, at
        if row[nearest] < 0:
            end = nearest
        else:
            i = row[nearest]
    of_row[start] += least
    for j in range(length):
        if seen[j]:
            of_column[j] += far[j] - least
            if row[j] >= 0:
                of_row[row[j]] += least - far[j]
    while True:
        i = before[end]
        row[end], column[i], end = i, end, column[i]
        if i == start:
            break
