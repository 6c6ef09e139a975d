"""Events drawn from the whole training sample, the more often the higher their score."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Generator, Tensor

from hepdecorr.learning.batches import Batch
from hepdecorr.learning.methods.judging import chunks
from hepdecorr.learning.terms.term import ranks


class Drawing:
    """Gives `rows` of the events, each with probability w / (1 - u + tail).

    u is the weighted rank of its score among them.  A batch holds few events of the far tail, and weights
    cannot make them more; this does.  The scores are refreshed every `refresh` turns and at the beginning
    of each epoch.
    """

    def __init__(
        self,
        events: Batch,
        logit: Callable[[Tensor], Tensor],
        *,
        rows: int,
        tail: float,
        refresh: int,
        generator: Generator,
    ) -> None:
        self._events = events
        self._logit, self._rows, self._tail, self._refresh = logit, rows, tail, refresh
        self._generator = generator
        self._grown = torch.zeros(0)

    def batch(self, turn: int) -> Batch:
        """The events for this turn of the epoch, weighted by how often each was drawn."""
        if turn % self._refresh == 0 or not len(self._grown):
            self._grown = self._weigh()
        # Systematic: one random number, then equal steps, so that the shares vary by at most one event.
        start = torch.rand(1, generator=self._generator, dtype=torch.float64).to(self._grown.device)
        steps = torch.arange(self._rows, dtype=torch.float64, device=self._grown.device) + start
        places = torch.searchsorted(self._grown, steps * (self._grown[-1] / self._rows))
        # An event that is drawn twice is one of weight two: its distance to itself says nothing.
        places, counts = places.clamp_max(len(self._grown) - 1).unique_consecutive(return_counts=True)
        drawn = self._events.take(places)
        return drawn._replace(w=counts.to(drawn.w))

    @torch.no_grad()
    def _weigh(self) -> Tensor:
        logit = torch.cat([self._logit(part) for part in chunks(self._events.x)])
        w = self._events.w.clamp_min(0)
        weight = 1 / (1 - ranks(logit.double(), w) + self._tail)
        return (weight * w).cumsum(0)
