"""Terms that are a figure of dependence and need no training."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from torch import Tensor

from hepdecorr.errors import InputError
from hepdecorr.learning.batches import Batch
from hepdecorr.learning.precision import in_full
from hepdecorr.learning.terms.term import FEWEST, Term


class Penalty(Term):
    """A term that measures dependence; with `given: label` in each class, and their mean is paid."""

    def __init__(self, *args: Any, **look: Any) -> None:
        super().__init__(*args, **look)
        if len(self.sees) > 1:
            raise InputError(f"{type(self).__name__} sees one form of the score, not {', '.join(self.sees)}")

    @abstractmethod
    def measure(self, s: Tensor, z: Tensor, w: Tensor) -> Tensor:
        """Scalar, 0 for independence: of s (m,), nuisance z (m,) or (m, q) and weights w (m,)."""

    def price(self, logit: Tensor, b: Batch) -> Tensor:
        """The measure over the events looked at; 0 when they are too few."""
        price, look = logit.sum() * 0, self.look(logit, b)
        if look is None:
            return price
        for own in self.apart(look):
            if own.sum() >= FEWEST:
                share = look.w[own].sum() / look.w.sum()
                with in_full(logit):
                    measured = self.measure(look.seen[own, 0], look.z[own], look.w[own])
                price = price + share * measured
        return price
