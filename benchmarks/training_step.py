"""Training steps against loops written by hand: same nets, data, batches, optimisers; and DisCo's memory.

The plain tagger, and the tagger with a Softmax adversary of 1 to 5 steps a turn.  Both loops run in one
process, epoch by epoch in turn; the ratio of each pair is taken, and the median told with its standard error.
    python benchmarks/training_step.py
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from hepdecorr.learning import Data, Events, Play, Player, Recipe
from hepdecorr.learning.methods import Tagger
from hepdecorr.learning.networks import layers
from hepdecorr.learning.terms import Softmax

Epoch = Callable[[], None]
STRENGTH, BINS, TAIL, OWN = 5.0, 20, 0.01, 2048


def made(rows: int, features: int) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(1)
    y = (torch.rand(rows, generator=g) < 0.3).float()
    x = torch.randn(rows, features, generator=g) + 0.3 * y[:, None]
    return x, y, x[:, 0] + torch.randn(rows, generator=g)


def by_hand(x: Tensor, y: Tensor, *, batch: int, width: int) -> Epoch:
    """One epoch of plain PyTorch on inputs that were standardised beforehand."""
    net = layers(x.shape[1], 1, hidden=(width,) * 3)
    optimiser = torch.optim.AdamW(net.parameters(), lr=2e-3, fused=True)
    x = (x - x.mean(0)) / x.std(0)

    def epoch() -> None:
        for rows in shuffled(len(x), batch):
            optimiser.zero_grad(set_to_none=True)
            loss = F.binary_cross_entropy_with_logits(net(x[rows]).squeeze(-1), y[rows])
            torch.autograd.backward(loss)
            optimiser.step()

    return epoch


def hepdecorr(x: Tensor, y: Tensor, *, batch: int, width: int) -> Epoch:
    """One epoch of `play`, with event weights, schedule and averaged weights, without validation."""
    method = Tagger(
        features=[f"f{k}" for k in range(x.shape[1])],
        network={"type": "MLP", "hidden": [width] * 3},
        training={"epochs": 1, "batch": batch},
    )
    events = Events(x, y)
    method.network.fit(x)  # type: ignore[operator]
    play = Play()
    player = Player(method.network, lambda b: method._pay(b, play), moves=method.moves)

    def epoch() -> None:
        play({"tagger": player}, Data(events, events), Recipe(epochs=1, batch=batch), stage="step")

    return epoch


def pivot_by_hand(x: Tensor, y: Tensor, z: Tensor, *, batch: int, width: int, steps: int) -> Epoch:
    """The same game in plain PyTorch: `steps` moves of the adversary on its own batches, then the tagger."""
    net, adversary = layers(x.shape[1], 1, hidden=(width,) * 3), layers(1, BINS, hidden=(64, 64))
    optimiser = torch.optim.AdamW(net.parameters(), lr=2e-3, fused=True)
    chaser = torch.optim.AdamW(adversary.parameters(), lr=2e-3, betas=(0.5, 0.9), fused=True)
    averages = [p.detach().clone() for p in net.parameters()]
    x = (x - x.mean(0)) / x.std(0)
    rank = torch.searchsorted(z[y == 0].sort().values, z) / (y == 0).sum()
    bins = (rank * BINS).long().clamp_max(BINS - 1)
    moments = torch.tensor([0.0, 1.0])
    feed = endless(len(x), OWN)

    def guess(logit: Tensor, aim: Tensor) -> Tensor:
        order = logit.detach().argsort()
        tail = torch.empty(len(logit))
        tail[order] = 1 / (1 - (torch.arange(len(logit)) + 0.5) / len(logit) + TAIL)
        spread = (moments[1] - moments[0] ** 2).clamp_min(1e-8).sqrt()
        seen = 4 * torch.tanh((logit - moments[0]) / spread / 4)
        return (tail * F.cross_entropy(adversary(seen[:, None]), aim, reduction="none")).sum() / tail.sum()

    def chase(rows: Tensor) -> None:
        rows = rows[y[rows] == 0]
        with torch.no_grad():
            logit = net(x[rows]).squeeze(-1)
            moments.lerp_(torch.stack([logit.mean(), (logit**2).mean()]), 0.01)
        chaser.zero_grad(set_to_none=True)
        torch.autograd.backward(guess(logit, bins[rows]))
        torch.nn.utils.clip_grad_norm_(adversary.parameters(), 5.0)
        chaser.step()

    def pay(rows: Tensor) -> None:
        logit, background = net(x[rows]).squeeze(-1), y[rows] == 0
        loss = F.binary_cross_entropy_with_logits(logit, y[rows])
        loss = loss - STRENGTH * guess(logit[background], bins[rows][background])
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss, inputs=list(net.parameters()))
        torch.nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        optimiser.step()
        torch._foreach_lerp_(averages, [p.detach() for p in net.parameters()], 0.002)

    def epoch() -> None:
        for rows in shuffled(len(x), batch):
            for _ in range(steps):
                chase(next(feed))
            pay(rows)

    return epoch


def pivot(x: Tensor, y: Tensor, z: Tensor, *, batch: int, width: int, steps: int) -> Epoch:
    """One epoch of `play` with a Softmax adversary, without validation."""
    term = {"type": "Softmax", "nuisance": "mass", "strength": STRENGTH, "start": 0.0, "ramp": 0.0}
    method = Tagger(
        features=[f"f{k}" for k in range(x.shape[1])],
        nuisances=["mass"],
        terms=[term | {"steps": steps, "batch": OWN, "bins": BINS, "tail": TAIL}],
        network={"type": "MLP", "hidden": [width] * 3},
        training={"epochs": 1, "batch": batch},
    )
    events = Events(x, y, z[:, None], nuisances=["mass"])
    method.network.fit(x)  # type: ignore[operator]
    play, softmax = Play(), method.terms["softmax_mass"]
    assert isinstance(softmax, Softmax)
    softmax.fit(events.all)
    players = {
        "softmax_mass": softmax.chasing.player(softmax, method.dues.chaser(softmax, play)),
        "tagger": Player(method.network, lambda b: method._pay(b, play), moves=method.moves),
    }

    def epoch() -> None:
        play(players, Data(events, events), Recipe(epochs=1, batch=batch), stage="step")

    return epoch


def shuffled(rows: int, batch: int) -> Iterator[Tensor]:
    yield from torch.randperm(rows).split(batch)


def endless(rows: int, batch: int) -> Iterator[Tensor]:
    while True:
        yield from shuffled(rows, batch)


def compared(pair: list[Epoch], repeats: int) -> tuple[float, float, float]:
    """Seconds of ours, ratio of ours to the other's and its standard error; medians over the repeats."""
    for epoch in pair:
        epoch()
    times = [[_seconds(epoch) for epoch in pair] for _ in range(repeats)]
    ratios = [ours / theirs for theirs, ours in times]
    error = 1.2533 * statistics.stdev(ratios) / repeats**0.5  # of a median
    return statistics.median(t[1] for t in times), statistics.median(ratios), error


MEMORY = """
import resource, torch
from hepdecorr.learning import Events
from hepdecorr.learning.terms import DisCo
g = torch.Generator().manual_seed(1)
def price(rows):
    z = torch.randn(rows, 1, generator=g)
    b = Events(z, (torch.arange(rows) == 0).float(), z, nuisances=["mass"]).all._replace(y=torch.zeros(rows))
    term = DisCo("mass", nuisances=["mass"], draw=0)
    term.fit(b)
    logit = torch.randn(rows, generator=g).requires_grad_()
    term.price(logit, b).backward()
price(64)
before = int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() / 1024
price(BATCH)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def memory(batch: int) -> float:
    """Megabytes that one DisCo price and its gradient add to a fresh process, at most (Linux)."""
    code = MEMORY.replace("BATCH", str(batch))
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(told.stdout) / 1024


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rows", type=int, default=60 * 1024)
    options.add_argument("--features", type=int, default=36)
    options.add_argument("--batch", type=int, default=1024)
    options.add_argument("--repeats", type=int, default=9)
    options.add_argument("--steps", type=int, nargs="*", default=[1, 2, 3, 4, 5])
    given = options.parse_args()
    torch.set_num_threads(1)
    x, y, z = made(given.rows, given.features)
    for width in (64, 128):
        pair = [make(x, y, batch=given.batch, width=width) for make in (by_hand, hepdecorr)]
        seconds, ratio, error = compared(pair, given.repeats)
        step = 1e3 * seconds / (given.rows / given.batch)
        print(
            f"3 x {width}: {step:.2f} ms a step, {ratio:.3f} +- {error:.3f} of the loop by hand (target 1.15)"
        )
    for steps in given.steps:
        pair = [make(x, y, z, batch=4096, width=128, steps=steps) for make in (pivot_by_hand, pivot)]
        seconds, ratio, error = compared(pair, given.repeats)
        print(
            f"adversary, {steps} steps a turn: {seconds:.2f} s an epoch, "
            f"{ratio:.3f} +- {error:.3f} of the loop by hand (target 1.15)"
        )
    print(f"DisCo at batch 8192: {memory(8192):.0f} MB more (target below 1000)")


def _seconds(epoch: Epoch) -> float:
    start = time.process_time()
    epoch()
    return time.process_time() - start


if __name__ == "__main__":
    main()
