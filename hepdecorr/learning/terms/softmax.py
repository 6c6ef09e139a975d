"""Adversary over quantile bins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hepdecorr.errors import InputError
from hepdecorr.learning.terms.adversary import Guess
from hepdecorr.learning.terms.term import Look

MOST_CELLS = 1024


class Softmax(Guess):
    """The probability of each of `bins` background quantiles of the nuisance, given the score.

    When to use it: the adversary to begin with; it assumes nothing of the nuisance's shape, which may be
    discrete, and is hard to derail.  It does not see what happens within a bin.

    Its loss cannot fall below ln(bins) for an independent score.  nuisance: a list of them is protected
    jointly, on the product of the bins, `bins` for each; few bins then, since each must see events.
    """

    several = True

    def __init__(
        self,
        nuisance: str | Sequence[str],
        *,
        nuisances: Sequence[str],
        bins: int = 20,
        strength: float = 5.0,
        start: float = 0.125,
        ramp: float = 0.125,
        sees: str | Sequence[str] = "logit",
        given: str = "background",
        top: float = 1.0,
        tail: float = 0.01,
        hidden: Sequence[int] = (64, 64),
        update: str = "alternating",
        steps: int | None = None,
        batch: int = 2048,
        moves: Mapping[str, Any] | None = None,
    ) -> None:
        cells = bins ** (1 if isinstance(nuisance, str) else len(nuisance))
        if bins < 2 or cells > MOST_CELLS:
            raise InputError(
                f"Softmax: {bins} bins of each nuisance make {cells} cells; there must be at least 2 bins "
                f"and at most {MOST_CELLS} cells"
            )
        super().__init__(
            nuisance,
            nuisances=nuisances,
            outputs=cells,
            strength=strength,
            start=start,
            ramp=ramp,
            sees=sees,
            given=given,
            top=top,
            tail=tail,
            transform="rank",
            hidden=hidden,
            update=update,
            steps=steps,
            batch=batch,
            moves=moves,
        )
        self.bins, self.cells = bins, cells

    def guess(self, answer: Tensor, z: Tensor) -> Tensor:
        """Minus log probability of the cell of z, whose values are ranks in (0, 1); shape (m,)."""
        return F.cross_entropy(answer.float(), cell_of(z, self.bins), reduction="none")

    def floor(self, look: Look) -> float:
        """Entropy of the cells, or of the cells within each class if the label is given."""
        (_, z, _, w), nats = look, 0.0
        for own in self.apart(look):
            filled = torch.bincount(cell_of(z[own], self.bins), weights=w[own].double(), minlength=self.cells)
            p = filled / filled.sum()
            nats += float(-(torch.xlogy(p, p)).sum() * w[own].sum() / w.sum())
        return nats


def bin_of(rank: Tensor, bins: int) -> Tensor:
    """Index of the bin of equal width that holds each rank in (0, 1)."""
    return (rank * bins).long().clamp(0, bins - 1)


def cell_of(rank: Tensor, bins: int) -> Tensor:
    """Index of the cell, among bins^q, that holds each row of ranks, shape (n,) or (n, q)."""
    if rank.ndim == 1:
        return bin_of(rank, bins)
    return (bin_of(rank, bins) * bins ** torch.arange(rank.shape[1], device=rank.device)).sum(1)
