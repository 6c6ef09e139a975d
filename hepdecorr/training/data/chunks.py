"""Events scored in chunks."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from hepdecorr.training.data.batches import Batch

CHUNK_ROWS = 8192  # rows that are scored at once; fewer of jets, whose pairs of constituents take memory


MAX_CHUNK_VALUES = 2**20  # inputs that are scored at once

TERM_CHUNK_EVENTS, MOST = (
    2048,
    32768,
)  # events a term is evaluated on at once, and in all: distances cost their square


def score_chunks(x: Tensor) -> tuple[Tensor, ...]:
    """The rows in parts that can be scored at once."""
    parts: tuple[Tensor, ...] = x.split(max(1, min(CHUNK_ROWS, MAX_CHUNK_VALUES // max(1, x.shape[1]))))
    return parts


def spread(logit: Tensor, b: Batch) -> Sequence[tuple[Tensor, Batch]]:
    """Chunks that each hold events from all over the sample, whatever its order."""
    count = len(logit)
    number = max(1, round(min(count, MOST) / TERM_CHUNK_EVENTS))
    step = max(number, -(-count // TERM_CHUNK_EVENTS))
    return [(logit[k::step], b.take(slice(k, None, step))) for k in range(number)]
