"""Cumulative distributions of the score in bins of the nuisance, and what they differ by."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Steps(NamedTuple):
    """Empirical cumulative distributions between n - 1 neighbouring scores."""

    gap: Tensor  # (n - 1,): from each score to the next; the only part with a gradient
    within: Tensor  # (n - 1, bins): F(s | bin), weighted; 0 in bins without weight
    share: Tensor  # (bins,): of the weight in each bin


def cumulate(s: Tensor, cell: Tensor, w: Tensor, *, cells: int) -> Steps:
    """The steps of scores s (n,) that lie in the bins `cell` (n,) with weights w (n,).

    An integral over the score of anything made of the F is sum(gap * it): exact, since the F are constant
    between neighbours, and so is its derivative, since no score passes another under a small move.  The
    delta functions of dF/ds (Kitouni et al., 2010.09745, section 3) need no smoothing then.
    """
    s, order = s.sort()
    weights = torch.zeros(len(s), cells, dtype=w.dtype, device=w.device)
    weights[torch.arange(len(s), device=w.device), cell[order]] = w[order].clamp_min(0)
    grown = weights.cumsum(0)
    total = grown[-1]
    tiny = torch.finfo(w.dtype).tiny
    return Steps(s.diff(), (grown / total.clamp_min(tiny))[:-1], total / total.sum().clamp_min(tiny))


def spread(steps: Steps) -> Tensor:
    """Integral of F (1 - F) over the score, F of all bins: half the mean distance of two events (Gini)."""
    whole = steps.within @ steps.share
    return (steps.gap * whole * (1 - whole)).sum()


def relative(integral: Tensor, steps: Steps) -> Tensor:
    """The integral in units of the score's spread, so that a narrower score is not a better one."""
    return integral / (spread(steps) + 1e-9)
