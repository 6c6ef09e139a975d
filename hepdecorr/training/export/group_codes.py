"""What a method that learns from groups adds to its tagger: how the code of a group comes from its events.

A group is a set of events with a common unknown: a run, an era, a region.  The code is found in two steps,
since the events of a group may lie in many chunks and files: each event gives summands, which are added up
over the group, and the code follows from their sums and the number of events.

Codes of groups as a tagger has them in use: from sums over all events of each group.

A training finds the codes of a batch on its own (Method.rows); what stands on a card is fixed on codes found
as they are found in an analysis, chunk by chunk, from exact sums.

The two graphs beside a tagger with a context: from events to summands, and from their sums to codes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hepdecorr.errors import InputError
from hepdecorr.exact_sums import ExactGroupSums
from hepdecorr.model_card import GroupContext
from hepdecorr.table import Selection, Table
from hepdecorr.training.data.batches import Batch, arrays_to_batch
from hepdecorr.training.data.chunks import score_chunks
from hepdecorr.training.data.layout import ColumnLayout
from hepdecorr.training.export.group_encoder import GroupEncoderExport, GroupPosterior
from hepdecorr.training.export.onnx import AUX_TOLERANCE, assert_allclose, inference_session, to_onnx
from hepdecorr.training.methods.base import Method


class CodeLookup(NamedTuple):
    """The code of each group, (g, d), by its id, (g,) ascending; of a method without a context nothing."""

    ids: NDArray[np.int64]
    mean: Tensor

    @classmethod
    def from_events(cls, method: Method, x: Tensor, group: Tensor) -> Self:
        """Of raw rows (n, width) and the ids (n,) of their groups, which are whole."""
        grouping = method.export_group_encoder()
        if grouping is None:
            return cls(np.zeros(0, np.int64), x.new_zeros(0, 0))
        return cls._from_sums(grouping, [sum_group_summands(grouping, x, group)])

    @classmethod
    def from_table(cls, method: Method, table: Table, layout: ColumnLayout, *, select: Selection) -> Self:
        """Of the selected part of a table, one shard at a time, from events of all labels.

        A group in data has no labels, and in use its code comes from all that was selected.
        """
        grouping = method.export_group_encoder()
        if grouping is None:
            return cls(np.zeros(0, np.int64), torch.zeros(0, 0))
        if layout.group_column is None:
            raise InputError(
                f"{table.folder}: no column of groups, and the method learns from groups; add the section "
                "'groups' to the config"
            )
        part = replace(select, label=None)
        batches = (
            arrays_to_batch(arrays, layout) for arrays in table.iter_shards(layout.columns, select=part)
        )
        return cls._from_sums(grouping, [sum_group_summands(grouping, raw.x, raw.group) for raw in batches])

    @classmethod
    def _from_sums(cls, encoder: GroupEncoderExport, sums: Sequence[ExactGroupSums]) -> Self:
        total = sums[0]
        for one in sums[1:]:
            total = total + one
        return cls(total.ids, pool_group_sums(encoder, total).mean)

    def inputs_with_codes(self, x: Tensor, group: Tensor) -> Tensor:
        """What `logit` takes: x (n, width) with the codes of the groups (n,) behind, as far as there are."""
        if not self.mean.shape[1]:
            return x
        at = np.searchsorted(self.ids, group.cpu().numpy())
        return torch.cat([x, self.mean[torch.from_numpy(at)].to(x.device)], 1)


@torch.no_grad()
def sum_group_summands(encoder: GroupEncoderExport, x: Tensor, group: Tensor) -> ExactGroupSums:
    """Sums over each group of raw rows (n, width), with ids (n,); exact for the summands in float32."""
    ids, total = (
        group.cpu().numpy(),
        ExactGroupSums.from_rows(np.zeros(0, np.int64), np.zeros((0, encoder.num_summands))),
    )
    start = 0
    for part in score_chunks(x):
        own = ids[start : start + len(part)]
        total = total + ExactGroupSums.from_rows(own, encoder.summands(part).float().cpu().numpy())
        start += len(part)
    return total


@torch.no_grad()
def pool_group_sums(encoder: GroupEncoderExport, sums: ExactGroupSums) -> GroupPosterior:
    """The codes that follow from sums, (g, d) each, in the order of their ids."""
    given = torch.from_numpy(sums.sums).float(), torch.from_numpy(sums.counts).float()
    parts = zip(*(values.split(65_536) for values in given), strict=True)
    found = [encoder.pool(own, counts) for own, counts in parts]
    return GroupPosterior(*(torch.cat(columns).float() for columns in zip(*found, strict=True)))


SUMMANDS_FILE, GROUP_FILE = "members.onnx", "group.onnx"
_LARGE_GROUP_FACTOR = (
    1e4  # times the groups of the sample: a run may have far more events than one of training
)


class _SummandsGraph(nn.Module):
    def __init__(self, encoder: GroupEncoderExport) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return (self.encoder.summands(*inputs),)


class _PoolGraph(_SummandsGraph):
    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        found = self.encoder.pool(*inputs)
        return found.mean, found.log_var


def build_group_graphs(encoder: GroupEncoderExport, *, width: int, name: str) -> dict[str, bytes]:
    """members.onnx and group.onnx by name.

    The first from `features` (events, width) to `summands` (events, m), the second from `sums` (groups, m)
    and `counts` (groups,) to `mean` and `log_var` (groups, d).
    """
    rows, groups = torch.export.Dim("events", min=1), torch.export.Dim("groups", min=1)
    sums, counts = torch.ones(3, encoder.num_summands), torch.ones(3)
    made = {
        SUMMANDS_FILE: to_onnx(
            _SummandsGraph(encoder),
            {"features": torch.ones(3, width)},
            axes={"features": {0: rows}},
            outputs=["summands"],
            metadata={},
        ),
        GROUP_FILE: to_onnx(
            _PoolGraph(encoder),
            {"sums": sums, "counts": counts},
            axes={"sums": {0: groups}, "counts": {0: groups}},
            outputs=["mean", "log_var"],
            metadata={},
        ),
    }
    found = {file: graph for file, graph in made.items() if graph is not None}
    if missing := [file for file in made if file not in found]:
        raise InputError(f"tagger {name}: torch could not export {missing[0]}")
    return found


def build_context(
    encoder: GroupEncoderExport, graphs: Mapping[str, bytes], *, group_features: Sequence[str]
) -> GroupContext:
    """What the card says of the groups; of: the features whose values name them."""
    digests = {file: hashlib.sha256(graph).hexdigest() for file, graph in graphs.items()}
    return GroupContext(
        group_features=tuple(group_features),
        latents=encoder.code_dim,
        num_summands=encoder.num_summands,
        group_sizes=encoder.group_sizes,
        summands_sha256=digests[SUMMANDS_FILE],
        encoder_sha256=digests[GROUP_FILE],
    )


@torch.no_grad()
def verify_group_encoder(
    method: Method, encoder: GroupEncoderExport, *, name: str, sample: Tensor, group: Tensor
) -> None:
    """InputError unless the method keeps to what Grouping and Method.rows promise.

    sample: raw rows (n, width) of groups (n,).  What an event adds must not depend on other events, and the
    codes that a training finds for its batches must be those of the graphs.
    """
    known = encoder.summands(sample)
    if known.shape != (len(sample), encoder.num_summands):
        raise InputError(
            f"tagger {name}: members(x) has shape {tuple(known.shape)} for {len(sample)} rows; it must be "
            f"(n, {encoder.num_summands})"
        )
    alone = torch.cat([encoder.summands(x) for x in sample[:8].split(1)])
    _check_close(alone, known[: len(alone)], label=f"tagger {name}: members(x) of one row and of many")
    total = sum_group_summands(encoder, sample, group)
    sums, counts = _to_tensors(total)
    for output, found in zip(("mean", "log_var"), encoder.pool(sums, counts), strict=True):
        if found.shape != (len(sums), encoder.code_dim):
            raise InputError(
                f"tagger {name}: pool(sums, counts) gives a {output} of shape {tuple(found.shape)} for "
                f"{len(sums)} groups; it must be (g, {encoder.code_dim})"
            )
    order = group.argsort(stable=True)
    x, numbers = sample[order], torch.unique(group[order], return_inverse=True)[1]
    ones = torch.ones(len(x))
    # Neither label nor nuisance may move a code: in use there is none.
    batch = Batch(x, torch.zeros(len(x)), torch.zeros(len(x), 0), ones, numbers, ones)
    wanted = CodeLookup.from_events(method, x, numbers).inputs_with_codes(x, numbers)
    _check_close(
        method.inputs_with_codes(batch).float(),
        wanted,
        label=f"tagger {name}: rows(batch) and codes from sums",
    )


def _check_close(actual: Tensor, expected: Tensor, *, label: str) -> None:
    scale = AUX_TOLERANCE * expected.abs().amax(1, keepdim=True).clamp_min(1)
    if actual.shape != expected.shape:
        raise InputError(f"{label} have shapes {tuple(actual.shape)} and {tuple(expected.shape)}")
    if not bool(((actual - expected).abs() <= scale).all()):
        worst = float((actual - expected).abs().max())
        raise InputError(f"{label} differ by {worst:.1e}; a group's code must follow from its events alone")


@torch.no_grad()
def verify_group_graphs(
    graphs: Mapping[str, bytes],
    encoder: GroupEncoderExport,
    *,
    name: str,
    sample: Tensor,
    group: Tensor,
    extremes: Tensor,
) -> None:
    """Compare ONNX Runtime with torch; InputError where they differ by more than the tolerance.

    extremes: rows far outside the range of the sample.  Of groups there are tried those of the sample, one
    alone, those of one event, and ones with very many events.
    """
    session = inference_session(graphs[SUMMANDS_FILE])
    whole = torch.cat([sample, extremes])
    for x in (whole, whole[:1], whole[-1:], whole[: max(2, len(whole) // 2)]):
        (got,) = session.run(["summands"], {"features": x.numpy()})
        assert_allclose(
            got, encoder.summands(x).numpy(), label=f"tagger {name}: {SUMMANDS_FILE}", num_rows=len(x)
        )
    session = inference_session(graphs[GROUP_FILE])
    for sums, counts in _trial_sums(encoder, sample, group, whole):
        got = session.run(["mean", "log_var"], {"sums": sums.numpy(), "counts": counts.numpy()})
        known = encoder.pool(sums, counts)
        for output, one, two in zip(("mean", "log_var"), got, known, strict=True):
            assert_allclose(
                one, two.numpy(), label=f"tagger {name}: {GROUP_FILE}: {output}", num_rows=len(sums)
            )


def _trial_sums(
    encoder: GroupEncoderExport, sample: Tensor, group: Tensor, rows: Tensor
) -> Iterator[tuple[Tensor, Tensor]]:
    """Sums (g, m) and counts (g,)."""
    sums, counts = _to_tensors(sum_group_summands(encoder, sample, group))
    yield sums, counts
    yield sums[:1], counts[:1]
    yield _LARGE_GROUP_FACTOR * sums, _LARGE_GROUP_FACTOR * counts
    yield encoder.summands(rows).float(), torch.ones(len(rows))


def _to_tensors(group_sums: ExactGroupSums) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(group_sums.sums).float(), torch.from_numpy(group_sums.counts).float()
