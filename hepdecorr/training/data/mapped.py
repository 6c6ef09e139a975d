"""The same events as something that has been fitted sees them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Generator, Tensor

from hepdecorr.training.data.batches import MAX_SAMPLE_SIZE, Batch, EventDataset
from hepdecorr.training.data.chunks import CHUNK_ROWS, score_chunks
from hepdecorr.training.data.group_index import GroupIndex
from hepdecorr.training.data.splits import DataSplits
from hepdecorr.training.data.streaming import StreamingDataset

FeatureMap = Callable[[Tensor], Tensor]  # rows (n, width) -> rows (n, other width)
GroupFeatureMap = Callable[[Batch], Tensor]  # a batch of whole groups -> rows (n, other width)
WeightFn = Callable[[Tensor], Tensor]  # viewed rows -> factor on their weights (n,)


def map_features(
    data: DataSplits, feature_map: FeatureMap, *, names: Sequence[str], weight_fn: WeightFn | None = None
) -> DataSplits:
    """The data, viewed once, or batch by batch where they are streamed; names: of the new columns."""

    def viewed(events: EventDataset) -> Tensor:
        return torch.cat([feature_map(part) for part in score_chunks(events.all.x)])

    return _map_splits(data, viewed, lambda b: feature_map(b.x), names=names, weight_fn=weight_fn)


def map_features_by_group(
    data: DataSplits, feature_map: GroupFeatureMap, *, names: Sequence[str], weight_fn: WeightFn | None = None
) -> DataSplits:
    """The same by a view that looks at whole groups, of data that hold them."""

    def viewed(events: EventDataset) -> Tensor:
        return torch.cat([feature_map(b) for b in events.batches(CHUNK_ROWS, shuffle=False)])

    return _map_splits(data, viewed, feature_map, names=names, weight_fn=weight_fn)


def append_nuisances(data: DataSplits, nuisance_map: GroupFeatureMap, *, names: Sequence[str]) -> DataSplits:
    """Data of whole groups with further nuisances, the columns of a view; names: of these."""
    train: Any = data.train

    def with_more(events: EventDataset) -> EventDataset:
        with torch.no_grad():
            z = torch.cat([nuisance_map(b) for b in events.batches(CHUNK_ROWS, shuffle=False)])
        return events.with_nuisances(z, names=names)

    if isinstance(train, StreamingDataset):
        more = [*train.nuisances, *names]
        train = MappedStream(
            train, lambda b: b._replace(z=torch.cat([b.z, nuisance_map(b)], 1)), nuisances=more
        )
    else:
        train = with_more(train)
    return DataSplits(train, with_more(data.validation))


def _map_splits(
    data: DataSplits,
    map_events: Callable[[EventDataset], Tensor],
    map_batch: GroupFeatureMap,
    *,
    names: Sequence[str],
    weight_fn: WeightFn | None,
) -> DataSplits:
    train: Any = data.train
    if isinstance(train, StreamingDataset | MappedStream):

        def see(b: Batch) -> Batch:
            x = map_batch(b)
            return b._replace(x=x, w=b.w if weight_fn is None else b.w * weight_fn(x))

        train = MappedStream(train, see, nuisances=train.nuisances)
    else:
        train = _map_dataset(train, map_events, names, weight_fn)
    return DataSplits(train, _map_dataset(data.validation, map_events, names, weight_fn))


@torch.no_grad()
def _map_dataset(
    dataset: EventDataset,
    map_events: Callable[[EventDataset], Tensor],
    names: Sequence[str],
    weight_fn: WeightFn | None,
) -> EventDataset:
    x = map_events(dataset)
    return dataset.with_features(
        x, features=names, weight_factor=weight_fn(x) if weight_fn is not None else None
    )


class MappedStream:
    """Streamed events, each batch of which is changed by `see`; nuisances: their names afterwards."""

    def __init__(
        self,
        dataset: StreamingDataset | MappedStream,
        transform: Callable[[Batch], Batch],
        *,
        nuisances: Sequence[str],
    ) -> None:
        self._dataset, self._transform = dataset, transform
        self.nuisances = list(nuisances)
        self.group_index: GroupIndex | None = dataset.group_index

    def __len__(self) -> int:
        return len(self._dataset)

    def num_batches(self, batch_size: int) -> int:
        """How many batches `batches(size)` gives."""
        return self._dataset.num_batches(batch_size)

    def batches(self, batch_size: int, *, generator: Generator | None = None) -> Iterator[Batch]:
        """As of the events themselves."""
        for b in self._dataset.batches(batch_size, generator=generator):
            yield self._apply_transform(b)

    def sample(self, rows: int = MAX_SAMPLE_SIZE, *, generator: Generator | None = None) -> Batch:
        """As of the events themselves."""
        return self._apply_transform(self._dataset.sample(rows, generator=generator))

    @torch.no_grad()
    def _apply_transform(self, batch: Batch) -> Batch:
        return self._transform(batch)
