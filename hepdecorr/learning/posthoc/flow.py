"""A monotone flow of one variable, conditioned on the nuisances: rational-quadratic splines by a network."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hepdecorr.learning.posthoc.transform import Array

BOUND = 4.5  # the splines reach so far to either side; beyond, the flow is the identity
LEAST = 1e-3  # width, height and slope of a piece


class Flow(nn.Module):
    """t = g(v; u), rising in v, with t standard normal at each u where v is background.

    Durkan, Bekasov, Murray, Papamakarios, Neural spline flows, NeurIPS 2019 (1906.04032), eqs. 4 and 5; the
    widths, heights and slopes of the `pieces` are what a small network makes of u (n, k).
    """

    def __init__(self, inputs: int, *, pieces: int, hidden: Sequence[int]) -> None:
        super().__init__()
        self.pieces = pieces
        sizes = [inputs, *hidden]
        layers: list[nn.Module] = []
        for a, b in itertools.pairwise(sizes):
            layers += [nn.Linear(a, b), nn.SiLU()]
        last = nn.Linear(sizes[-1], 3 * pieces - 1)
        nn.init.zeros_(last.weight)  # begins as the identity
        nn.init.zeros_(last.bias)
        self.network = nn.Sequential(*layers, last)

    def forward(self, v: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        """t and log dt/dv, shape (n,) each, of v (n,) and u (n, k)."""
        widths, heights, slopes = self._pieces(u)
        x, y = (F.pad(part.cumsum(1), (1, 0)) - BOUND for part in (widths, heights))
        inside = v.abs() < BOUND
        at = v.clamp(-BOUND + 1e-4, BOUND - 1e-4)
        piece = torch.searchsorted(x[:, 1:-1].contiguous(), at[:, None])

        def own(values: Tensor, k: Tensor = piece) -> Tensor:
            return values.gather(1, k)[:, 0]

        width, height = own(widths), own(heights)
        low, high, steep = own(slopes), own(slopes, piece + 1), height / width
        xi = ((at - own(x)) / width).clamp(0, 1)
        mixed = xi * (1 - xi)
        below = steep + (high + low - 2 * steep) * mixed
        t = own(y) + height * (steep * xi**2 + low * mixed) / below
        rise = steep**2 * (high * xi**2 + 2 * steep * mixed + low * (1 - xi) ** 2) / below**2
        return torch.where(inside, t, v), torch.where(inside, rise.log(), 0.0)

    def _pieces(self, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        k = self.pieces
        raw = self.network(2 * u - 1)
        widths, heights = (
            2 * BOUND * (LEAST + (1 - LEAST * k) * part.softmax(1))
            for part in (raw[:, :k], raw[:, k : 2 * k])
        )
        # Slopes of 1 where the network says 0, and at both ends, where the identity goes on.
        slopes = LEAST + F.softplus(raw[:, 2 * k :] + math.log(math.expm1(1 - LEAST)))
        return widths, heights, F.pad(slopes, (1, 1), value=1.0)


def fit(flow: Flow, v: Array, u: Array, w: Array, *, steps: int, batch: int, lr: float, seed: int) -> None:
    """Maximum likelihood of background, (n,), (n, k), (n,): Adam with a falling rate, on shuffled batches."""
    data = [torch.as_tensor(part, dtype=torch.float32) for part in (v, u, w)]
    draw = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.Adam(flow.parameters(), lr=lr)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    order = torch.empty(0, dtype=torch.int64)
    for _ in range(steps):
        if len(order) < min(batch, len(v)):
            order = torch.randperm(len(v), generator=draw)
        chosen, order = order[:batch], order[batch:]
        own, at, weight = (part[chosen] for part in data)
        t, rise = flow(own, at)
        loss = (weight * (t**2 / 2 - rise)).sum() / weight.sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        falling.step()
