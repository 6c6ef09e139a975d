"""A step of beta-TCVAE here against the same step of pythae's BetaTCVAE: same layers, optimiser and events.

Both by stratified sampling, in one process and in turn; the ratio of medians.  Then the memory that a step
takes beyond what stood there before it, each in a process of its own (from /proc, so on Linux alone), with
large blocks given back to the system at once: what a fragmented heap keeps is not the step's.
    pip install -c constraints.txt pythae      (0.1.2)
    python benchmarks/pythae_step.py
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from hepdecorr.learning import Events, Player
from hepdecorr.learning.methods.representation import Representation
from hepdecorr.learning.moves import Moves
from hepdecorr.learning.networks import layers
from hepdecorr.learning.stage import Seat
from hepdecorr.learning.training import Play

Step = Callable[[], object]
FEATURES, ROWS, BETA = 36, 100_000, 6.0
OPTIMIZER: dict[str, Any] = {"optimizer": "adam", "lr": 1e-3, "weight_decay": 0.0}
TARGET = 10


def hepdecorr(x: torch.Tensor, *, latents: int, hidden: tuple[int, ...]) -> Step:
    """Encoder, decoder, the three parts of KL, one step of Adam."""
    b = Events(x, (torch.rand(len(x)) < 0.3).float(), torch.randn(len(x), 1), nuisances=["mass"]).all
    vae = Representation(
        features=[f"f{k}" for k in range(FEATURES)],
        nuisances=["mass"],
        latents=latents - 1,
        hidden=hidden,
        variance=1.0,
        terms=[{"type": "Decomposition", "of": "all", "beta": BETA}],
    )
    vae.inputs.fit(x)
    for term in vae.terms.values():
        term.fit(b, rows=ROWS)  # type: ignore[operator]
    player = Player(vae.net, lambda b: vae._describe(b, 1.0), moves=Moves(**OPTIMIZER))
    seat = Seat("vae", player, Play().fabric)
    return lambda: seat.move(b)


def pythae(x: torch.Tensor, *, latents: int, hidden: tuple[int, ...]) -> Step:
    """The same of pythae, as its trainer calls it; the layers are handed to it, as it provides for."""
    from pythae.models import BetaTCVAE, BetaTCVAEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder

    class Encoder(BaseEncoder):
        def __init__(self) -> None:
            super().__init__()
            self.net = layers(FEATURES, 2 * latents, hidden=hidden)

        def forward(self, x: torch.Tensor) -> Any:
            mean, log_var = self.net(x).chunk(2, 1)
            return ModelOutput(embedding=mean, log_covariance=log_var)

    class Decoder(BaseDecoder):
        def __init__(self) -> None:
            super().__init__()
            self.net = layers(latents, FEATURES, hidden=hidden[::-1])

        def forward(self, z: torch.Tensor) -> Any:
            return ModelOutput(reconstruction=self.net(z))

    config = BetaTCVAEConfig(input_dim=(FEATURES,), latent_dim=latents, beta=BETA, use_mss=True)
    model = BetaTCVAE(config, encoder=Encoder(), decoder=Decoder())
    optimizer = Moves(**OPTIMIZER).optimise(model.parameters())

    def step() -> None:
        loss = model({"data": x}, dataset_size=ROWS).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


MAKERS = {"hepdecorr": hepdecorr, "pythae": pythae}


def times(steps: dict[str, Step], *, repeats: int, warm: int = 5) -> dict[str, list[float]]:
    """CPU-seconds of each step, in turn."""
    spent: dict[str, list[float]] = {name: [] for name in steps}
    for repeat in range(repeats + warm):
        for name, step in steps.items():
            start = time.process_time()
            step()
            if repeat >= warm:
                spent[name].append(time.process_time() - start)
    return spent


def ratio(ours: list[float], theirs: list[float]) -> tuple[float, float]:
    """Of the medians, with its error from redrawn repeats."""
    draws = torch.randint(len(ours), (500, len(ours)), generator=torch.Generator().manual_seed(1))
    a, b = (torch.tensor(t)[draws].median(1).values for t in (ours, theirs))
    return statistics.median(theirs) / statistics.median(ours), float((b / a).std())


def memory(name: str, *, batch: int, latents: int) -> float:
    """MB that three steps take beyond what stood there before, in a process of its own."""
    asked = [sys.executable, __file__, "--measure", name, "--batch", str(batch), "--latents", str(latents)]
    blocks = os.environ | {"MALLOC_MMAP_THRESHOLD_": "262144"}
    done = subprocess.run(asked, check=True, capture_output=True, text=True, env=blocks)
    return float(done.stdout.split()[-1])


def _measure(name: str, *, batch: int, latents: int) -> float:
    # A step on a few events first, so that libraries and optimiser are there before one looks.
    for size in (32, batch):
        step = MAKERS[name](torch.randn(size, FEATURES), latents=latents, hidden=(128, 128))
        before = _status("VmRSS")
        for _ in range(3):
            step()
    return (_status("VmHWM") - before) / 1024


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("--batch", type=int, default=1024)
    options.add_argument("--latents", type=int, default=10)
    options.add_argument("--repeats", type=int, default=30)
    options.add_argument("--dims", default="10,40", help="latents for the memory")
    options.add_argument("--measure", help=argparse.SUPPRESS)
    given = options.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    if given.measure:
        print(_measure(given.measure, batch=given.batch, latents=given.latents))
        return
    names = [name for name in MAKERS if name == "hepdecorr" or importlib.util.find_spec(name)]
    if "pythae" not in names:
        print("pythae: not installed, left out; see this file's head")
    else:
        print(f"pythae {metadata.version('pythae')}, torch {torch.__version__}, one thread")
    x = torch.randn(given.batch, FEATURES)
    for hidden in ((128, 128), (64,)):
        steps = {name: MAKERS[name](x, latents=given.latents, hidden=hidden) for name in names}
        spent = times(steps, repeats=given.repeats)
        text = ", ".join(f"{name} {1e3 * statistics.median(t):.2f} ms" for name, t in spent.items())
        print(f"batch {given.batch}, {given.latents} latents, hidden {hidden}: {text}", end="")
        if len(names) > 1:
            print(", ratio {:.1f} +- {:.1f} (target {})".format(*ratio(*spent.values()), TARGET), end="")
        print()
    if not Path("/proc/self/status").exists():
        print("memory: no /proc here, left out")
        return
    dims = [int(d) for d in given.dims.split(",")]
    for name in names:
        extra = [memory(name, batch=given.batch, latents=d) for d in dims]
        each = ", ".join(f"{mb:.0f} MB with {d} latents" for mb, d in zip(extra, dims, strict=True))
        grown = math.log(extra[-1] / extra[0]) / math.log(dims[-1] / dims[0])
        one = given.batch**2 * 4 / 2**20
        print(f"{name}: a step takes {each}; grows with latents^{grown:.2f}; B x B is {one:.0f} MB")


if __name__ == "__main__":
    main()
