"""Events drawn from the whole training sample, the more often the higher their score."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Generator, Tensor

from hepdecorr.training.data.batches import Batch
from hepdecorr.training.data.chunks import score_chunks
from hepdecorr.training.losses.base import weighted_ranks


class TailSampler:
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
        num_events: int,
        tail_weight: float,
        refresh_every: int,
        generator: Generator,
    ) -> None:
        self._events = events
        self._logit, self._num_events, self._tail_weight, self._refresh_every = (
            logit,
            num_events,
            tail_weight,
            refresh_every,
        )
        self._generator = generator
        self._cumulative_weights = torch.zeros(0)

    def draw_batch(self, iteration: int) -> Batch:
        """The events for this turn of the epoch, weighted by how often each was drawn."""
        if iteration % self._refresh_every == 0 or not len(self._cumulative_weights):
            self._cumulative_weights = self._compute_cumulative_weights()
        # Systematic: one random number, then equal steps, so that the shares vary by at most one event.
        start = torch.rand(1, generator=self._generator, dtype=torch.float64).to(
            self._cumulative_weights.device
        )
        steps = (
            torch.arange(self._num_events, dtype=torch.float64, device=self._cumulative_weights.device)
            + start
        )
        places = torch.searchsorted(
            self._cumulative_weights, steps * (self._cumulative_weights[-1] / self._num_events)
        )
        # An event that is drawn twice is one of weight two: its distance to itself says nothing.
        places, counts = places.clamp_max(len(self._cumulative_weights) - 1).unique_consecutive(
            return_counts=True
        )
        drawn = self._events.take(places)
        return drawn._replace(w=counts.to(drawn.w))

    @torch.no_grad()
    def _compute_cumulative_weights(self) -> Tensor:
        logit = torch.cat([self._logit(part) for part in score_chunks(self._events.x)])
        w = self._events.w.clamp_min(0)
        weight = 1 / (1 - weighted_ranks(logit.double(), w) + self._tail_weight)
        return (weight * w).cumsum(0)
