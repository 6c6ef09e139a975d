"""Events as flat columns: what jobs hand over and files hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Self

import awkward as ak
import numpy as np
from numpy.typing import NDArray

Columns = dict[str, NDArray[Any]]


class Collection(NamedTuple):
    """Objects of which an event has any number: `counts` (events,), `columns` (objects,) in event order."""

    counts: NDArray[Any]
    columns: Columns


class Chunk(NamedTuple):
    """Some events: one value each in `columns`, collections such as Track beside them."""

    columns: Columns
    collections: dict[str, Collection]

    def __len__(self) -> int:
        """Number of events."""
        return len(next(iter(self.columns.values())))

    def head(self, events: int) -> Self:
        """The first events."""
        return type(self)(
            {name: values[:events] for name, values in self.columns.items()},
            {
                name: Collection(
                    counts[:events],
                    {key: values[: counts[:events].sum()] for key, values in columns.items()},
                )
                for name, (counts, columns) in self.collections.items()
            },
        )

    def awkward(self) -> dict[str, Any]:
        """Columns as they are, collections as jagged records: what uproot's `extend` takes."""
        jagged = {
            name: ak.unflatten(ak.zip(columns), counts)
            for name, (counts, columns) in self.collections.items()
        }
        return {**self.columns, **jagged}

    def branches(self) -> ak.Array:
        """Events with the fields that the branches of a file have: nTrack, Track_pt, ..."""
        fields: dict[str, Any] = dict(self.columns)
        for name, (counts, columns) in self.collections.items():
            fields[f"n{name}"] = counts.astype(np.int32)
            for key, values in columns.items():
                fields[f"{name}_{key}"] = ak.unflatten(values, counts)
        return ak.Array(fields)


def join(chunks: Sequence[Chunk]) -> Chunk:
    """Chunks of the same columns one after the other; at least one."""
    first = chunks[0]
    return Chunk(
        _join([chunk.columns for chunk in chunks]),
        {
            name: Collection(
                np.concatenate([chunk.collections[name].counts for chunk in chunks]),
                _join([chunk.collections[name].columns for chunk in chunks]),
            )
            for name in first.collections
        },
    )


def _join(parts: Sequence[Columns]) -> Columns:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def round_mantissa(values: NDArray[np.float32], bits: int) -> NDArray[np.float32]:
    """float32 values with `bits` bits of mantissa, rounded to nearest: the others are zero and compress away.

    The relative error is at most 2^-(bits + 1), as in NanoAOD's MiniFloatConverter.
    """
    if bits >= 23:
        return values
    drop = np.uint32(23 - bits)
    half = np.uint32(1) << (drop - np.uint32(1))
    return ((values.view(np.uint32) + half) >> drop << drop).view(np.float32)


def compacted(chunk: Chunk, bits: Mapping[str, int]) -> Chunk:
    """The chunk with floats rounded to `bits` by branch name (`Track_pt`); those not named stay."""

    def rounded(columns: Columns, prefix: str = "") -> Columns:
        return {
            name: round_mantissa(values, bits[prefix + name]) if prefix + name in bits else values
            for name, values in columns.items()
        }

    return Chunk(
        rounded(chunk.columns),
        {
            name: Collection(counts, rounded(columns, f"{name}_"))
            for name, (counts, columns) in chunk.collections.items()
        },
    )
