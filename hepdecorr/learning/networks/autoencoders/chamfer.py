"""The distance of sets that ONNX can hold."""

from __future__ import annotations

from torch import Tensor


def squares(first: Tensor, second: Tensor) -> Tensor:
    """|a_i - b_j|^2 of sets (n, L, k) and (n, M, k), shape (n, L, M)."""
    # By component: a tensor (n, L, M, k) would be moved through memory, and |a|^2 + |b|^2 - 2 ab lose digits.
    off = (first[:, :, None, k] - second[:, None, :, k] for k in range(first.shape[2]))
    total: Tensor = sum(part * part for part in off)  # type: ignore[assignment]
    return total


def chamfer(first: Tensor, second: Tensor, of_first: Tensor, of_second: Tensor) -> Tensor:
    """Half of sum_i w_i min_j |a_i - b_j|^2 + sum_j v_j min_i |a_i - b_j|^2, shape (n,).

    Fan, Su, Guibas (1612.00603, 'Chamfer distance'), whose weights are 1; here w (n, L) and v (n, M) sum to
    one, which, where all weights are equal, makes it at most the mean square of any pairing.
    """
    square = squares(first, second)
    there, back = (square.min(dim).values for dim in (2, 1))
    return 0.5 * ((of_first * there).sum(1) + (of_second * back).sum(1))
