"""The same events as something that has been fitted sees them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Generator, Tensor

from hepdecorr.learning.batches import LARGEST_SAMPLE, Batch, Data, Events
from hepdecorr.learning.methods.judging import CHUNK, chunks
from hepdecorr.learning.streaming import Streamed
from hepdecorr.learning.whole import Whole

View = Callable[[Tensor], Tensor]  # rows (n, width) -> rows (n, other width)
WholeView = Callable[[Batch], Tensor]  # a batch of whole groups -> rows (n, other width)
Factor = Callable[[Tensor], Tensor]  # viewed rows -> factor on their weights (n,)


def seen(data: Data, view: View, *, names: Sequence[str], factor: Factor | None = None) -> Data:
    """The data, viewed once, or batch by batch where they are streamed; names: of the new columns."""

    def viewed(events: Events) -> Tensor:
        return torch.cat([view(part) for part in chunks(events.all.x)])

    return _seen(data, viewed, lambda b: view(b.x), names=names, factor=factor)


def seen_whole(data: Data, view: WholeView, *, names: Sequence[str], factor: Factor | None = None) -> Data:
    """The same by a view that looks at whole groups, of data that hold them."""

    def viewed(events: Events) -> Tensor:
        return torch.cat([view(b) for b in events.batches(CHUNK, shuffle=False)])

    return _seen(data, viewed, view, names=names, factor=factor)


def beside(data: Data, view: WholeView, *, names: Sequence[str]) -> Data:
    """Data of whole groups with further nuisances, the columns of a view; names: of these."""
    train: Any = data.train

    def with_more(events: Events) -> Events:
        with torch.no_grad():
            z = torch.cat([view(b) for b in events.batches(CHUNK, shuffle=False)])
        return events.with_nuisances(z, names=names)

    if isinstance(train, Streamed):
        more = [*train.nuisances, *names]
        train = SeenStream(train, lambda b: b._replace(z=torch.cat([b.z, view(b)], 1)), nuisances=more)
    else:
        train = with_more(train)
    return Data(train, with_more(data.validation))


def _seen(
    data: Data,
    viewed: Callable[[Events], Tensor],
    view: WholeView,
    *,
    names: Sequence[str],
    factor: Factor | None,
) -> Data:
    train: Any = data.train
    if isinstance(train, Streamed | SeenStream):

        def see(b: Batch) -> Batch:
            x = view(b)
            return b._replace(x=x, w=b.w if factor is None else b.w * factor(x))

        train = SeenStream(train, see, nuisances=train.nuisances)
    else:
        train = _viewed(train, viewed, names, factor)
    return Data(train, _viewed(data.validation, viewed, names, factor))


@torch.no_grad()
def _viewed(
    events: Events, viewed: Callable[[Events], Tensor], names: Sequence[str], factor: Factor | None
) -> Events:
    x = viewed(events)
    return events.seen_as(x, features=names, factor=factor(x) if factor is not None else None)


class SeenStream:
    """Streamed events, each batch of which is changed by `see`; nuisances: their names afterwards."""

    def __init__(
        self, events: Streamed | SeenStream, see: Callable[[Batch], Batch], *, nuisances: Sequence[str]
    ) -> None:
        self._events, self._see = events, see
        self.nuisances = list(nuisances)
        self.whole: Whole | None = events.whole

    def __len__(self) -> int:
        return len(self._events)

    def turns(self, size: int) -> int:
        """How many batches `batches(size)` gives."""
        return self._events.turns(size)

    def batches(self, size: int, *, generator: Generator | None = None) -> Iterator[Batch]:
        """As of the events themselves."""
        for b in self._events.batches(size, generator=generator):
            yield self._seen(b)

    def sample(self, rows: int = LARGEST_SAMPLE, *, generator: Generator | None = None) -> Batch:
        """As of the events themselves."""
        return self._seen(self._events.sample(rows, generator=generator))

    @torch.no_grad()
    def _seen(self, b: Batch) -> Batch:
        return self._see(b)
