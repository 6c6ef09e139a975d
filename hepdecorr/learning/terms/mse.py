"""Least-squares adversary."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from hepdecorr.learning.terms.adversary import Guess
from hepdecorr.learning.terms.term import Look


class MSE(Guess):
    """The nuisance's mean given the score, guessed by least squares (Borisyak, Learning to pivot, 2021).

    When to use it: for a first look, or where the nuisance only shifts with the score.  It is GMM with one
    Gaussian of fixed width and sees nothing but the mean: a score that knows how far the nuisance is from
    its mean pays nothing.  Take GMM, Softmax or DisCo for independence.

    Its loss cannot fall below the variance of Z, 1 for 'probit' and 'standard', of which the score takes the
    fraction R^2; the price is minus the loss.  Where nats are needed it counts as -ln(1 - R^2) / 2, what a
    Gaussian pair of that correlation shares.
    """

    remedy = "least squares sees the mean of the nuisance alone: take GMM or Softmax, or give it more steps"

    def __init__(
        self,
        nuisance: str,
        *,
        nuisances: Sequence[str],
        strength: float = 5.0,
        start: float = 0.125,
        ramp: float = 0.125,
        sees: str | Sequence[str] = "logit",
        given: str = "background",
        top: float = 1.0,
        tail: float = 0.01,
        transform: str = "probit",
        hidden: Sequence[int] = (64, 64),
        update: str = "alternating",
        steps: int | None = None,
        batch: int = 2048,
        moves: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(
            nuisance,
            nuisances=nuisances,
            outputs=1,
            strength=strength,
            start=start,
            ramp=ramp,
            sees=sees,
            given=given,
            top=top,
            tail=tail,
            transform=transform,
            hidden=hidden,
            update=update,
            steps=steps,
            batch=batch,
            moves=moves,
        )

    def guess(self, answer: Tensor, z: Tensor) -> Tensor:
        """Squared distance of z from the guess, shape (m,)."""
        return (answer.float()[:, 0] - z) ** 2

    def floor(self, look: Look) -> float:
        """Variance of z, or within the classes if the label is given."""
        variance, total = 0.0, look.w.sum()
        for own in self.apart(look):
            z, w = look.z[own].double(), look.w[own].double()
            mean = (w * z).sum() / w.sum()
            variance += float((w * (z - mean) ** 2).sum() / total)
        return variance

    def found(self, loss: float, floor: float) -> float:
        """Nats that a Gaussian pair shares where this fraction of the variance is explained."""
        return 0.5 * math.log(max(floor, 1e-12) / max(loss, 1e-12))
