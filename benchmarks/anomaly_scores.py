"""Scores of an autoencoder of jets: the energy mover's distance, and the processor that applies the graph.

    python benchmarks/anomaly_scores.py [--jets 20000] [--repeats 5] [--data FILE ...] [--model FOLDER]
                                        [--only emd|scores]

One process, one thread, CPU-seconds, everything of a ratio in the same run.

emd     exact distance of so many pairs of jets of 20 constituents, as the processor computes it, from
        four-momenta; the target is >= 1,000 jets per CPU-second.  Beside it, where they are installed, the
        same pairs through POT (ot.emd2, from ready matrices of distances, a call a pair) and EnergyFlow
        (emd.emd with norm=True), and what differs of their answers.  EnergyFlow runs with numpy < 2 alone.

scores  what the processor does for the jets of a chunk, their branches in memory: constituents found, put in
        order and padded, checks, batches, and the graph of a JetVAE as the paper has it, 80-256-128-64-10-64-
        128-256-80, with the outputs logit, mse, kl, nll, sumsq and density.  Bare: ONNX Runtime over ready,
        contiguous arrays of the same jets, the same outputs, in batches of the same size and padded to full
        length.  The target is >= 0.8 of it.  Beside it the same of arrays by name, for which constituents are
        ready, and with the distance, whose own time is then added to that of the bare graph.

Without --data a file of made jets in PFNano's layout is used.  Their candidates are in no order, and are
sorted jet by jet; those of `hepdecorr generate jets` fall in pt.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from hepdecorr.emd import MOMENTA, emd, on_plane

ROOT = Path(__file__).parents[1]
LENGTH = 20  # constituents of a jet, as in the paper
BATCH = 256  # rows that the tagger gives its graph at once
CONSTITUENTS = ["pt", "eta", "phi", "mass"]
SCORES = ["logit", "mse", "kl", "nll", "sumsq", "density"]
OBJECTS = {"collection": "FatJet"}
NUISANCES = {"mass": {"feature": "FatJet.mass", "low": 0.0, "high": 300.0, "bins": 50, "unit": "GeV"}}
FEW = 4000  # pairs are enough for a loop in Python, and jets to set a scaling from


def cpu_seconds(work: Callable[[], Any]) -> float:
    """CPU time that a call takes in this process."""
    begin = time.process_time()
    work()
    return time.process_time() - begin


def told(name: str, values: Sequence[float], unit: str = "") -> None:
    """Median over the repeats, and from where to where they are."""
    form = ",.0f" if statistics.median(values) > 10 else ".3f"
    spread = f"from {min(values):{form}} to {max(values):{form}} in {len(values)} repeats"
    print(f"{name:44s} {statistics.median(values):>10{form}} {unit} ({spread})")


# ---- the distance


def pairs(jets: int) -> tuple[Any, Any]:
    """Jets of 20 constituents with a steep spectrum, and the same smeared, as an autoencoder does it."""
    rng = np.random.default_rng(1)
    pt = rng.exponential(8, (jets, LENGTH)) ** 2
    eta, phi = rng.normal(0, 0.3, (2, jets, LENGTH))
    shift = rng.normal(0, 0.1, (2, jets, LENGTH))

    def momenta(pt: Any, eta: Any, phi: Any) -> Any:
        parts = [pt * np.cosh(eta), pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)]
        return np.stack(parts, axis=2).astype(np.float32)

    smeared = pt * np.exp(rng.normal(0, 0.3, pt.shape))
    return momenta(pt, eta, phi), momenta(smeared, eta + shift[0], phi + shift[1])


def by_pot(first: Any, second: Any) -> Callable[[], list[float]]:
    """The distances by POT, a call a pair; weights and matrices of distances are ready."""
    ot = importlib.import_module("ot")
    ready = []
    for a, b, p, q in zip(*on_plane(first), *on_plane(second), strict=True):
        apart = np.linalg.norm(b[:, None] - q[None], axis=2)
        ready.append((a / a.sum(), p / p.sum(), apart))
    return lambda: [float(ot.emd2(*one)) for one in ready]


def by_energyflow(first: Any, second: Any) -> Callable[[], list[float]]:
    """The distances by EnergyFlow, a call a pair."""
    flow = importlib.import_module("energyflow").emd
    ready = [
        np.concatenate([w[..., None], place], axis=2) for w, place in (on_plane(first), on_plane(second))
    ]
    work: Callable[[], list[float]] = lambda: [  # noqa: E731
        float(flow.emd(a, b, R=1.0, norm=True)) for a, b in zip(*ready, strict=True)
    ]
    work()  # its compiled half is loaded or refused here
    return work


def measure_emd(jets: int, repeats: int) -> None:
    """Jets per CPU-second on both grounds, and of peers on a part of the jets."""
    first, second = pairs(jets)
    few = min(FEW, jets)
    work: dict[str, tuple[int, Callable[[], Any]]] = {
        f"hepdecorr, {ground}": (jets, partial(emd, first, second, ground=ground))
        for ground in ("plane", "sphere")
    }
    for name, make in (("POT, a loop", by_pot), ("EnergyFlow, a loop", by_energyflow)):
        try:
            work[name] = (few, make(first[:few], second[:few]))
        except (ImportError, AttributeError) as err:
            print(f"{name}: not here ({type(err).__name__})")
    known = emd(first[:few], second[:few])
    rates: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(repeats):
        for name, (count, call) in work.items():
            rates[name].append(count / cpu_seconds(call))
    for name, (_, call) in work.items():
        told(name, rates[name], "jets per CPU-second")
        if "loop" in name:
            print(f"    differs from hepdecorr by {np.abs(np.array(call()) - known).max():.1e} at most")


# ---- the scores of a chunk


def made(folder: Path, jets: int) -> list[str]:
    """A file of so many jets with 10 to 90 constituents, in events of one or two."""
    from hepdecorr.catalogue import load_file

    making = load_file(ROOT / "tests" / "columnar" / "jets" / "making_jets.py")
    physics = making.physics(int(jets / 1.5), seed=1, jets=(1, 2), constituents=(10, 90))
    return [str(making.write(folder / "jets.root", physics, layout="pfnano_raw", basket=5_000))]


def opened(file: str, spec: dict[str, Any]) -> Any:
    """Rows of all jets of a file."""
    from coffea.nanoevents import NanoEventsFactory, PFNanoAODSchema

    from hepdecorr.columnar import objects

    events = NanoEventsFactory.from_root({file: "Events"}, schemaclass=PFNanoAODSchema).events()
    return objects.rows(events, spec)


def untrained(folder: Path, file: str) -> Path:
    """A JetVAE as the paper has it, its scalings fitted on jets of the file, after one short epoch."""
    import torch

    from hepdecorr.card import Card
    from hepdecorr.columnar.features import per_constituent
    from hepdecorr.learning import Data, Events, Play, export
    from hepdecorr.learning.form import Form
    from hepdecorr.learning.methods import JetVAE

    torch.set_num_threads(1)
    torch.manual_seed(1)
    cloud = per_constituent.prepare(opened(file, OBJECTS), CONSTITUENTS, length=LENGTH, pad_to="length")
    seen, mask = (torch.from_numpy(np.ascontiguousarray(one[:FEW])) for one in (cloud.x, cloud.mask))
    x = Form((), tuple(CONSTITUENTS), LENGTH).pack(mask[:, :0].float(), seen, mask)
    events = Events(x, torch.zeros(len(x)), constituents=CONSTITUENTS, features=(), alone=True)
    method = JetVAE(constituents=CONSTITUENTS, length=LENGTH, training={"epochs": 1})
    method.learn(Data(events, events), Play(seed=1))
    shape = {"length": LENGTH, "order": "pt descending"}
    axes = ("rows", "constituents")
    named = [{"name": name, "unit": ""} for name in CONSTITUENTS]
    content = {
        "name": "benchmark",
        "method": {"type": "JetVAE"},
        "seed": 1,
        "inputs": [
            {"name": "constituents", "axes": (*axes, "features"), "features": named, **shape},
            {"name": "mask", "axes": axes, "features": [], **shape},
        ],
        "outputs": ["score", "logit", *method.beside],
        "nuisances": [],
        "objects": OBJECTS,
        "table_fingerprint": "",
        "config_hash": "",
        "versions": {},
        "created": "",
    }
    return export(method.eval(), card=Card.model_validate(content), folder=folder, sample=x[:64])


def bare(session: Any, arrays: dict[str, Any], names: list[str]) -> None:
    """ONNX Runtime over ready arrays."""
    for i in range(0, len(arrays["mask"]), BATCH):
        session.run(names, {name: array[i : i + BATCH] for name, array in arrays.items()})


def measure_scores(model: Path, files: list[str], repeats: int) -> None:
    """The tagger on jets in memory against ONNX Runtime on ready arrays, with and without the distance."""
    import onnxruntime as ort

    from hepdecorr.columnar.tagger import OnnxTagger

    tagger = OnnxTagger(model)
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = ort.InferenceSession(
        (model / "tagger.onnx").read_bytes(), options, providers=["CPUExecutionProvider"]
    )
    rows = [opened(file, tagger.card.objects) for file in files]
    arrays = [tagger.inputs(one) for one in rows]
    jets = sum(len(one) for one in rows)
    momenta = [tagger.outputs(one, MOMENTA) for one in arrays]

    def alone(names: list[str]) -> None:
        for one in arrays:
            bare(session, one, names)

    def moved() -> None:
        for one in momenta:
            emd(*one.values(), ground="sphere")

    def applied(given: list[Any], names: list[str]) -> None:
        for one in given:
            tagger.outputs(one, names)

    work: dict[str, Callable[[], None]] = {
        "bare": partial(alone, SCORES),
        "arrays": partial(applied, arrays, SCORES),
        "memory": partial(applied, rows, SCORES),
        "bare momenta": partial(alone, [*SCORES, *MOMENTA]),
        "bare emd": moved,
        "emd": partial(applied, rows, [*SCORES, "emd"]),
    }
    found: dict[str, list[float]] = {name: [] for name in work}
    for repeat in range(repeats + 1):
        for name, call in work.items():
            spent = cpu_seconds(call)
            if repeat:  # the first one warms up, and reads the branches
                found[name].append(spent)
    print(f"{jets:,} jets")
    for name, seconds in found.items():
        told(name, [jets / one for one in seconds], "jets per CPU-second")
    every = zip(*found.values(), strict=True)
    ratios = [(b / a, b / m, (bm + be) / e) for b, a, m, bm, be, e in every]
    titles = ("bare / arrays by name", "bare / jets in memory", "(bare + distance) / jets in memory, with it")
    for k, title in enumerate(titles):
        told(title, [one[k] for one in ratios])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--jets", type=int, default=20_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--data", nargs="*", default=[], help="ROOT files in PFNano's layout")
    parser.add_argument("--model", type=Path, help="folder of a trained JetVAE; default: one made here")
    parser.add_argument("--only", choices=["emd", "scores"], help="one part alone")
    given = parser.parse_args()
    if given.only != "scores":
        emd(*pairs(2))  # compiled, or loaded
        emd(*pairs(2), ground="sphere")
        measure_emd(given.jets, given.repeats)
    if given.only != "emd":
        with tempfile.TemporaryDirectory() as folder:
            files = given.data or made(Path(folder), given.jets)
            model = given.model or untrained(Path(folder) / "model", files[0])
            measure_scores(model, files, given.repeats)


if __name__ == "__main__":
    main()
