"""Adversary over quantile bins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hepdecorr.learning.terms.term import Adversary, Look


class Softmax(Adversary):
    """The probability of each of `bins` background quantiles of the nuisance, given the score.

    Its loss cannot fall below ln(bins) for an independent score.
    """

    def __init__(
        self,
        nuisance: str,
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
        steps: int = 5,
        batch: int = 2048,
        moves: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(
            nuisance,
            nuisances=nuisances,
            outputs=bins,
            strength=strength,
            start=start,
            ramp=ramp,
            sees=sees,
            given=given,
            top=top,
            tail=tail,
            transform="rank",
            hidden=hidden,
            steps=steps,
            batch=batch,
            moves=moves,
        )
        self.bins = bins

    def guess(self, answer: Tensor, z: Tensor) -> Tensor:
        """Minus log probability of the bin of z, which is a rank in (0, 1); shape (m,)."""
        return F.cross_entropy(answer.float(), bin_of(z, self.bins), reduction="none")

    def floor(self, look: Look) -> float:
        """Entropy of the bins, or of the bins within each class if the label is given."""
        (_, z, _, w), nats = look, 0.0
        for own in self.apart(look):
            filled = torch.bincount(bin_of(z[own], self.bins), weights=w[own].double(), minlength=self.bins)
            p = filled / filled.sum()
            nats += float(-(torch.xlogy(p, p)).sum() * w[own].sum() / w.sum())
        return nats


def bin_of(rank: Tensor, bins: int) -> Tensor:
    """Index of the bin of equal width that holds each rank in (0, 1)."""
    return (rank * bins).long().clamp(0, bins - 1)
