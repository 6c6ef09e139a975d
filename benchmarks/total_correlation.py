"""A representation's step with total correlation against the same step with KL alone.

One process, steps in turn, ratio of medians.  'all' needs the aggregate density of every latent, the
sensitive form only those of the sensitive ones, of the rest as a block, and of all together.
    python benchmarks/total_correlation.py
With --memory instead what one step of Decomposition adds to the peak memory of a fresh process, by number of
latents: the matrices of B x B that it holds at once must not become more with them.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from hepdecorr.learning import Events, Player
from hepdecorr.learning.methods.representation import Representation
from hepdecorr.learning.moves import Moves
from hepdecorr.learning.stage import Seat
from hepdecorr.learning.training import Play

KL: dict[str, Any] = {"type": "KL"}
KINDS: dict[str, list[dict[str, Any]]] = {
    "KL alone": [KL],
    "Decomposition, all latents": [{"type": "Decomposition", "of": "all"}],
    "Decomposition, sensitive": [{"type": "Decomposition", "of": "sensitive"}],
    "Conditional critic's price": [KL, {"type": "TotalCorrelation", "given": "all", "start": 0, "ramp": 0}],
    "Distance": [
        KL,
        {"type": "TotalCorrelation", "estimator": "Distance", "given": "all", "start": 0, "ramp": 0},
    ],
}


def step_of(terms: list[dict[str, Any]], *, batch: int, latents: int) -> Callable[[], None]:
    """One step of encoder and decoder on `batch` events."""
    torch.manual_seed(0)
    features = [f"f{k}" for k in range(36)]
    x = torch.randn(batch, 36)
    b = Events(x, (torch.rand(batch) < 0.3).float(), torch.randn(batch, 1), nuisances=["mass"]).all
    vae = Representation(
        features=features, nuisances=["mass"], latents=latents - 1, hidden=(128, 128), terms=terms
    )
    vae.inputs.fit(x)
    for term in vae.terms.values():
        term.fit(b, rows=100_000)  # type: ignore[operator]
    play = Play()
    seat = Seat("vae", Player(vae.net, lambda b: vae._describe(b, 1.0), moves=Moves()), play.fabric)
    return lambda: _ignore(seat.move(b))


def added(latents: int, batch: int) -> float:
    """MB that a step adds to the peak of this process."""
    torch.set_num_threads(1)
    step_of([{"type": "Decomposition", "of": "all"}], batch=64, latents=latents)()
    step = step_of([{"type": "Decomposition", "of": "all"}], batch=batch, latents=latents)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    step()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def memory(batch: int) -> None:
    """Print it for several numbers of latents."""
    matrix = 4 * batch**2 / 2**20
    for latents in (5, 10, 20, 40):
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            grown = pool.apply(added, (latents, batch))
        print(
            f"batch {batch}, {latents:2d} latents: {grown:6.0f} MB, {grown / matrix:4.1f} matrices of B x B"
        )


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--batch", type=int, default=1024)
    options.add_argument("--latents", type=int, default=10)
    options.add_argument("--repeats", type=int, default=30)
    options.add_argument("--memory", action="store_true")
    given = options.parse_args()
    if given.memory:
        memory(given.batch)
        return
    torch.set_num_threads(1)
    steps = {name: step_of(terms, batch=given.batch, latents=given.latents) for name, terms in KINDS.items()}
    times: dict[str, list[float]] = {name: [] for name in steps}
    for repeat in range(given.repeats + 3):
        for name, step in steps.items():
            start = time.process_time()
            step()
            if repeat >= 3:
                times[name].append(time.process_time() - start)
    plain = statistics.median(times["KL alone"])
    for name, spent in times.items():
        median = statistics.median(spent)
        print(f"{name:28s} {1e3 * median:7.2f} ms   {median / plain:5.2f} of KL alone (target 5)")


def _ignore(_: object) -> None:
    pass


if __name__ == "__main__":
    main()
