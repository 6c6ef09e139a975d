"""The two graphs beside a tagger with a context: from events to summands, and from their sums to codes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from hepdecorr.card import Context
from hepdecorr.errors import InputError
from hepdecorr.learning.batches import Batch
from hepdecorr.learning.coding import Codes, summed
from hepdecorr.learning.graphs import FURTHER, agree, opened, to_onnx
from hepdecorr.learning.grouping import Grouping
from hepdecorr.learning.methods.method import Method
from hepdecorr.sums import GroupSums

MEMBERS, GROUP = "members.onnx", "group.onnx"
_MANY = 1e4  # times the groups of the sample: a run may have far more events than one of training


class _Members(nn.Module):
    def __init__(self, grouping: Grouping) -> None:
        super().__init__()
        self.grouping = grouping

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return (self.grouping.members(*inputs),)


class _Pool(_Members):
    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        found = self.grouping.pool(*inputs)
        return found.mean, found.log_var


def to_graphs(grouping: Grouping, *, width: int, name: str) -> dict[str, bytes]:
    """members.onnx and group.onnx by name.

    The first from `features` (events, width) to `summands` (events, m), the second from `sums` (groups, m)
    and `counts` (groups,) to `mean` and `log_var` (groups, d).
    """
    rows, groups = torch.export.Dim("events", min=1), torch.export.Dim("groups", min=1)
    sums, counts = torch.ones(3, grouping.summands), torch.ones(3)
    made = {
        MEMBERS: to_onnx(
            _Members(grouping),
            {"features": torch.ones(3, width)},
            axes={"features": {0: rows}},
            outputs=["summands"],
            metadata={},
        ),
        GROUP: to_onnx(
            _Pool(grouping),
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


def context(grouping: Grouping, graphs: Mapping[str, bytes], *, of: Sequence[str]) -> Context:
    """What the card says of the groups; of: the features whose values name them."""
    digests = {file: hashlib.sha256(graph).hexdigest() for file, graph in graphs.items()}
    return Context(
        of=tuple(of),
        latents=grouping.latents,
        summands=grouping.summands,
        counts=grouping.counts,
        members=digests[MEMBERS],
        group=digests[GROUP],
    )


@torch.no_grad()
def vet(method: Method, grouping: Grouping, *, name: str, sample: Tensor, group: Tensor) -> None:
    """InputError unless the method keeps to what Grouping and Method.rows promise.

    sample: raw rows (n, width) of groups (n,).  What an event adds must not depend on other events, and the
    codes that a training finds for its batches must be those of the graphs.
    """
    known = grouping.members(sample)
    if known.shape != (len(sample), grouping.summands):
        raise InputError(
            f"tagger {name}: members(x) has shape {tuple(known.shape)} for {len(sample)} rows; it must be "
            f"(n, {grouping.summands})"
        )
    alone = torch.cat([grouping.members(x) for x in sample[:8].split(1)])
    _agree(alone, known[: len(alone)], about=f"tagger {name}: members(x) of one row and of many")
    total = summed(grouping, sample, group)
    sums, counts = _tensors(total)
    for output, found in zip(("mean", "log_var"), grouping.pool(sums, counts), strict=True):
        if found.shape != (len(sums), grouping.latents):
            raise InputError(
                f"tagger {name}: pool(sums, counts) gives a {output} of shape {tuple(found.shape)} for "
                f"{len(sums)} groups; it must be (g, {grouping.latents})"
            )
    order = group.argsort(stable=True)
    x, numbers = sample[order], torch.unique(group[order], return_inverse=True)[1]
    ones = torch.ones(len(x))
    # Neither label nor nuisance may move a code: in use there is none.
    batch = Batch(x, torch.zeros(len(x)), torch.zeros(len(x), 0), ones, numbers, ones)
    wanted = Codes.of(method, x, numbers).rows(x, numbers)
    _agree(method.rows(batch).float(), wanted, about=f"tagger {name}: rows(batch) and codes from sums")


def _agree(found: Tensor, known: Tensor, *, about: str) -> None:
    scale = FURTHER * known.abs().amax(1, keepdim=True).clamp_min(1)
    if found.shape != known.shape:
        raise InputError(f"{about} have shapes {tuple(found.shape)} and {tuple(known.shape)}")
    if not bool(((found - known).abs() <= scale).all()):
        worst = float((found - known).abs().max())
        raise InputError(f"{about} differ by {worst:.1e}; a group's code must follow from its events alone")


@torch.no_grad()
def check(
    graphs: Mapping[str, bytes],
    grouping: Grouping,
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
    session = opened(graphs[MEMBERS])
    whole = torch.cat([sample, extremes])
    for x in (whole, whole[:1], whole[-1:], whole[: max(2, len(whole) // 2)]):
        (got,) = session.run(["summands"], {"features": x.numpy()})
        agree(got, grouping.members(x).numpy(), about=f"tagger {name}: {MEMBERS}", rows=len(x))
    session = opened(graphs[GROUP])
    for sums, counts in _trials(grouping, sample, group, whole):
        got = session.run(["mean", "log_var"], {"sums": sums.numpy(), "counts": counts.numpy()})
        known = grouping.pool(sums, counts)
        for output, one, two in zip(("mean", "log_var"), got, known, strict=True):
            agree(one, two.numpy(), about=f"tagger {name}: {GROUP}: {output}", rows=len(sums))


def _trials(
    grouping: Grouping, sample: Tensor, group: Tensor, whole: Tensor
) -> Iterator[tuple[Tensor, Tensor]]:
    """Sums (g, m) and counts (g,)."""
    sums, counts = _tensors(summed(grouping, sample, group))
    yield sums, counts
    yield sums[:1], counts[:1]
    yield _MANY * sums, _MANY * counts
    yield grouping.members(whole).float(), torch.ones(len(whole))


def _tensors(total: GroupSums) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(total.sums).float(), torch.from_numpy(total.counts).float()
