"""Training epochs of a VAE of jets against a loop of bare torch: same layers, jets, batches and optimiser.

    python benchmarks/anomaly_training.py [--networks FullyConnected Recurrent SetVAE] [--exposure]

The loop by hand has its jets framed and scaled beforehand and no validation; ours weighs events, anneals,
keeps curves and judges each epoch on a tenth as many validation events as it trains on.  Both run in one
process on one thread, epoch by epoch in turn; the ratio of each pair is taken, and the median told with its
standard error.  The fully connected network by hand is torch's own layers, the others are ours in a bare
loop.  Jets are made; times are CPU-seconds: compare ratios.  Then how often the exact matching of SetVAE is
solved in a second, beside a loop over scipy's.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from hepdecorr import catalogue
from hepdecorr.learning import Data, Events, Play
from hepdecorr.learning.methods import JetVAE
from hepdecorr.learning.networks import layers
from hepdecorr.learning.networks.autoencoders.chamfer import squares
from hepdecorr.learning.networks.autoencoders.matching import matched

Encode = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]  # scaled four-vectors and mask -> posterior
Decode = Callable[[Tensor], Tensor]
Distance = Callable[[Tensor, Tensor, Tensor], Tensor]  # decoded, four-vectors and mask -> (n,)
NAMES = ("pt", "eta", "phi", "mass")
LENGTH, LATENTS, BETA = 20, 10, 0.1
STRENGTH, MARGIN = 2.0, 1.0  # of KL-OE
FULL = 200_000  # jets that a training is told for
TARGET = 30  # minutes for it
ADAM: dict[str, Any] = {"lr": 1e-3, "optimizer": "adam", "weight_decay": 0.0, "schedule": "constant"}


def made(rows: int, *, outliers: float, seed: int) -> Events:
    """Jets of falling constituents around an axis; of the outliers the hardest two stand apart."""
    g = torch.Generator().manual_seed(seed)
    pt = (200 * torch.rand(rows, LENGTH, generator=g) ** 4 + 1).sort(1, descending=True).values
    angles = 0.2 * torch.randn(rows, LENGTH, 2, generator=g)
    y = (torch.arange(rows) < max(1, int(outliers * rows))).float()
    angles[:, 0, 0] += 0.6 * y
    slots = torch.stack([pt, *angles.unbind(2), 0.14 * torch.ones_like(pt), torch.ones_like(pt)], 2)
    mass = torch.rand(rows, 1, generator=g)
    return Events(slots.flatten(1), y, mass, constituents=NAMES, nuisances=["mass"])


def plain() -> tuple[list[nn.Parameter], Encode, Decode, Distance]:
    """The fully connected VAE of torch's own layers."""
    widths = (256, 128, 64)
    encoder = layers(4 * LENGTH, 2 * LATENTS, hidden=widths, activation="relu")
    decoder = layers(LATENTS, 4 * LENGTH, hidden=widths[::-1], activation="relu")
    return (
        [*encoder.parameters(), *decoder.parameters()],
        lambda x, _: encoder(x.flatten(1)).chunk(2, 1),
        decoder,
        lambda decoded, x, _: (decoded - x.flatten(1)).square().mean(1),
    )


def bare(name: str) -> tuple[list[nn.Parameter], Encode, Decode, Distance]:
    """One of our networks."""
    if name == "FullyConnected":
        return plain()
    net = catalogue.build(
        {"type": name}, home="hepdecorr.learning.networks.autoencoders", length=LENGTH, latents=LATENTS
    ).train()
    return list(net.parameters()), net.encode, net.decode, net.distance


def by_hand(name: str, *, rows: int, batch: int, exposure: bool) -> Callable[[], None]:
    """One epoch of the bare loop on so many scaled jets, the first half of each batch inliers if exposed."""
    parameters, encode, decode, distance = bare(name)
    x, mask = torch.randn(rows, LENGTH, 4), torch.ones(batch, LENGTH, dtype=torch.bool)
    optimizer = torch.optim.Adam(parameters, lr=1e-3, fused=True)

    def loss(x: Tensor, mask: Tensor) -> Tensor:
        mean, log_var = encode(x, mask)
        kl = 0.5 * (mean**2 + log_var.exp() - 1 - log_var)
        inside = len(x) // 2 if exposure else len(x)
        draw = (mean + (0.5 * log_var).exp() * torch.randn_like(mean))[:inside]
        paid = distance(decode(draw), x[:inside], mask[:inside]).mean() + BETA * kl[:inside].mean()
        if exposure:
            count = len(x) - inside
            other = kl[:inside].repeat(2, 1)[:count]  # any pairing does
            paid = paid + STRENGTH * F.relu(MARGIN - (kl[inside:] - other)).mean()
        return paid

    def epoch() -> None:
        for own in torch.randperm(rows).split(batch):
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss(x[own], mask[: len(own)]))
            optimizer.step()

    return epoch


class Clock:
    """Between two epochs of ours one by hand: CPU-seconds of both."""

    def __init__(self, by_hand: Callable[[], None]) -> None:
        self.ours: list[float] = []
        self.theirs: list[float] = []
        self._by_hand = by_hand
        self._start = time.process_time()

    def __call__(self, *_: object) -> None:
        """Told that an epoch of ours is over."""
        end = time.process_time()
        self.ours.append(end - self._start)
        self._by_hand()
        self._start = time.process_time()
        self.theirs.append(self._start - end)


def compare(name: str, *, rows: int, batch: int, epochs: int, exposure: bool) -> None:
    """Train ours with the loop by hand between its epochs; a line of the table."""
    outliers = 0.5 if exposure else 0.0
    data = Data(made(rows, outliers=outliers, seed=1), made(rows // 10, outliers=outliers or 0.01, seed=2))
    exposed = {"type": "KLOE", "strength": STRENGTH, "margin": MARGIN, "anneal": "constant"}
    method = JetVAE(
        constituents=NAMES, length=LENGTH, nuisances=["mass"], network=name, latents=LATENTS, beta=BETA,
        training={**ADAM, "epochs": epochs, "batch": batch}, exposure=exposed if exposure else None,
    )  # fmt: skip
    clock = Clock(by_hand(name, rows=rows, batch=batch, exposure=exposure))
    method.learn(data, Play(seed=1, progress=clock))
    ratios = [a / b for a, b in zip(clock.ours[1:], clock.theirs[1:], strict=True)]
    error = 1.2533 * statistics.stdev(ratios) / len(ratios) ** 0.5  # of a median
    spent = statistics.median(clock.ours[1:])
    prepared = clock.ours[0] - spent
    whole = (60 * spent + prepared) * FULL / rows / 60
    print(
        f"{name:15s} batch {batch:5d}: {1e3 * spent * batch / rows:7.2f} ms a step, "
        f"{statistics.median(ratios):.3f} +- {error:.3f} of the loop by hand; preparing "
        f"{1e6 * prepared / rows:.0f} us a jet; {FULL} jets, 60 epochs: {whole:.1f} min (target {TARGET})",
        flush=True,
    )


def solved(counts: Sequence[int] = (1024,)) -> None:
    """Matchings in a second, each jet's constituents near another one's, as of a trained network."""
    g = torch.Generator().manual_seed(1)
    for count in counts:
        x = torch.randn(count, LENGTH, 4, generator=g)
        for label, spread in (("near", 0.3), ("far", 3.0)):
            order = torch.rand(count, LENGTH, generator=g).argsort(1)
            other = x.gather(1, order[..., None].expand_as(x))
            other = other + spread * torch.randn(count, LENGTH, 4, generator=g)
            share = torch.ones(count, LENGTH)
            matched(x[:2], other[:2], share[:2])  # compiled here
            times = []
            for _ in range(9):
                start = time.process_time()
                matched(x, other, share)
                middle = time.process_time()
                for cost in squares(x, other).numpy().astype(np.float64):
                    linear_sum_assignment(cost)
                times.append((middle - start, time.process_time() - middle))
            ours, theirs = (statistics.median(t) for t in zip(*times, strict=True))
            print(
                f"matching, {label}: {count / ours:,.0f} jets / CPU-s, scipy's {count / theirs:,.0f}, "
                f"ratio {theirs / ours:.1f}"
            )


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--rows", type=int, default=40_000, help="training jets")
    options.add_argument("--epochs", type=int, default=10)
    options.add_argument("--batch", type=int, nargs="*", default=[100, 500, 2048])
    options.add_argument("--networks", nargs="*", default=["FullyConnected"])
    options.add_argument("--exposure", action="store_true", help="half of the jets are outliers, KL-OE")
    given = options.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    torch.set_flush_denormal(True)
    for name in given.networks:
        for batch in given.batch:
            compare(name, rows=given.rows, batch=batch, epochs=given.epochs, exposure=given.exposure)
    solved()


if __name__ == "__main__":
    main()
