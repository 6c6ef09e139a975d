"""The plain tagger's training step against a loop written by hand: same net, data, batch, optimiser.

Both run in one process, epoch by epoch in turn; the ratio of each pair is taken, and the median told.
    python benchmarks/training_step.py
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from hepdecorr.learning import Data, Events, Play
from hepdecorr.learning.methods import Tagger
from hepdecorr.learning.networks import layers


def made(rows: int, features: int) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(1)
    y = (torch.rand(rows, generator=g) < 0.3).float()
    return torch.randn(rows, features, generator=g) + 0.3 * y[:, None], y


def by_hand(x: Tensor, y: Tensor, *, batch: int, width: int) -> Callable[[], None]:
    """One epoch of plain PyTorch on inputs that were standardised beforehand."""
    net = layers(x.shape[1], 1, hidden=(width,) * 3)
    optimiser = torch.optim.AdamW(net.parameters(), lr=2e-3, fused=True)
    x = (x - x.mean(0)) / x.std(0)

    def epoch() -> None:
        order = torch.randperm(len(x))
        for start in range(0, len(x), batch):
            rows = order[start : start + batch]
            optimiser.zero_grad(set_to_none=True)
            loss = F.binary_cross_entropy_with_logits(net(x[rows]).squeeze(-1), y[rows])
            torch.autograd.backward(loss)
            optimiser.step()

    return epoch


def hepdecorr(x: Tensor, y: Tensor, *, batch: int, width: int) -> Callable[[], None]:
    """One epoch of `play`, with event weights, schedule and averaged weights, without validation."""
    method = Tagger(
        features=[f"f{k}" for k in range(x.shape[1])],
        network={"type": "MLP", "hidden": [width] * 3},
        training={"epochs": 1, "batch": batch},
    )
    events = Events(x, y)
    data = Data(events, events)
    method.network.fit(x)  # type: ignore[operator]
    play = Play()
    from hepdecorr.learning import Player, Recipe

    player = Player(method.network, lambda b: method._pay(b, play), moves=method.moves)

    def epoch() -> None:
        play({"tagger": player}, data, Recipe(epochs=1, batch=batch), stage="step")

    return epoch


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rows", type=int, default=60 * 1024)
    options.add_argument("--features", type=int, default=36)
    options.add_argument("--batch", type=int, default=1024)
    options.add_argument("--repeats", type=int, default=9)
    given = options.parse_args()
    torch.set_num_threads(1)
    x, y = made(given.rows, given.features)
    for width in (64, 128):
        pair = [make(x, y, batch=given.batch, width=width) for make in (by_hand, hepdecorr)]
        for epoch in pair:
            epoch()
        times = [[_seconds(epoch) for epoch in pair] for _ in range(given.repeats)]
        ratio = statistics.median(ours / theirs for theirs, ours in times)
        step = 1e3 * statistics.median(t[1] for t in times) / (given.rows / given.batch)
        print(f"3 x {width}: {step:.2f} ms a step, {ratio:.3f} of the loop by hand (target 1.15)")


def _seconds(epoch: Callable[[], None]) -> float:
    start = time.process_time()
    epoch()
    return time.process_time() - start


if __name__ == "__main__":
    main()
