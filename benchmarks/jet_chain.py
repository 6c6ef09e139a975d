"""NanoAOD -> padded constituents -> Deep Sets -> histograms in the shipped processor, against its parts.

    python benchmarks/jet_chain.py [--data FILE ...] [--jets 100000] [--model FOLDER] [--repeats 3]

One process, one thread, CPU-seconds.  The chain is processors/sculpting.py under coffea (virtual arrays): it
reads the files, makes a row of each jet, cuts on its pt, weighs it by genWeight, orders, computes and pads
its constituents, applies the tagger and fills the jet mass before and after its cuts.  The parts that nobody
can leave out are timed beside it on the same jets, in the same run:

    read     bare uproot: the branches that the chain reads, of the same files, in chunks of the same size
    network  bare ONNX Runtime: the ready, contiguous arrays of the jets that pass, padded to full length

Rate is the chain's jets per CPU-second; the target is >= 0.7 of that of read + network.  Beside it stands the
network on arrays no longer than the jets need, which is how the chain feeds it.  Memory is what chunks of a
size, one after another, add to a fresh process at most: it grows with the chunk and not with the files.

Without --data a file of made jets in PFNano's layout is used, without --model an untrained network of the
library (phi 64, 64, 64; F 64, 64) over 40 constituents.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import uproot
from coffea.nanoevents import NanoEventsFactory, PFNanoAODSchema

from hepdecorr.card import Card
from hepdecorr.catalogue import load_file
from hepdecorr.columnar import inputs, objects, rows
from hepdecorr.columnar.running import run
from hepdecorr.columnar.tagger import OnnxTagger

ROOT = Path(__file__).parents[1]
CONSTITUENTS = ("log_pt", "log_pt_rel", "deta", "dphi", "dr", "log_e", "charge")
LENGTH = 40
BATCH = 256  # rows that the tagger gives its graph at once
OBJECTS = {"collection": "FatJet"}
CUTS = [{"feature": "FatJet.pt", "min": 300.0}]
NUISANCES = {"mass": {"feature": "FatJet.mass", "low": 50.0, "high": 300.0, "bins": 50, "unit": "GeV"}}


def card() -> Card:
    """Of a tagger on constituents alone, with a working point."""
    shape = {"length": LENGTH, "order": "pt descending"}
    axes = ("rows", "constituents")
    named = [{"name": n} for n in CONSTITUENTS]
    point = {"rejection": 0.5, "threshold": 0.0, "background_efficiency": 0.5, "signal_efficiency": 0.5}
    content = {
        "name": "benchmark",
        "method": {},
        "seed": 1,
        "inputs": [
            {"name": "constituents", "axes": (*axes, "features"), "features": named, **shape},
            {"name": "mask", "axes": axes, "features": [], **shape},
        ],
        "nuisances": [],
        "objects": OBJECTS,
        "table_fingerprint": "",
        "config_hash": "",
        "versions": {},
        "created": "",
        "working_points": [{**point, "background_events": 1}],
    }
    return Card.model_validate(content)


def untrained(folder: Path) -> Path:
    """Deep Sets as the library exports them."""
    import torch

    from hepdecorr.learning.export import export
    from hepdecorr.learning.methods.tagger import Tagger

    torch.manual_seed(1)
    torch.set_num_threads(1)
    method = Tagger(features=[], constituents=CONSTITUENTS, length=LENGTH, network="DeepSets")
    sample = torch.rand(64, LENGTH * (len(CONSTITUENTS) + 1)).round(decimals=2)
    sample.view(64, LENGTH, -1)[..., -1] = 1.0
    method.network.fit(sample)  # type: ignore[operator]
    return export(method, card=card(), folder=folder, sample=sample)


def made(folder: Path, jets: int) -> list[str]:
    """A file of so many jets with 10 to 90 constituents, in events of one or two."""
    making = load_file(ROOT / "tests" / "columnar" / "jets" / "making_jets.py")
    files = []
    for i, start in enumerate(range(0, jets, 30_000)):
        size = int(min(30_000, jets - start) / 1.5)
        physics = making.physics(size, seed=i, start=start, jets=(1, 2), constituents=(10, 90))
        path = making.write(folder / f"{i}.root", physics, layout="pfnano_raw", basket=5_000)
        files.append(str(path))
    return files


def processor(tagger: Path | str) -> Any:
    """The processor that ships, with one tagger."""
    sculpting = load_file(ROOT / "processors" / "sculpting.py").Sculpting
    return sculpting(
        taggers={"tagger": tagger},
        nuisances=NUISANCES,
        objects=OBJECTS,
        selection=CUTS,
        weights=["genWeight"],
    )


def chain(tagger: Path | str, files: Sequence[str], *, chunk: int) -> Any:
    """The processor's output over all files."""
    return run({"made": list(files)}, processor(tagger), schema=PFNanoAODSchema, chunksize=chunk).out


def touched(tagger: Path | str, files: Sequence[str]) -> list[str]:
    """The branches that the chain reads."""
    log: list[Any] = []
    events = NanoEventsFactory.from_root(
        {files[0]: "Events"},
        schemaclass=PFNanoAODSchema,
        access_log=log,
        entry_stop=100,
        metadata={"dataset": "made", "filename": files[0], "entrystart": 0, "entrystop": 100},
    ).events()
    processor(tagger).process(events)
    return sorted({entry.branch for entry in log})


def read(files: Sequence[str], branches: Sequence[str], *, chunk: int) -> None:
    """Bare uproot."""
    for file in files:
        with uproot.open(file) as opened:
            for _ in opened["Events"].iterate(list(branches), step_size=chunk):
                pass


def ready(tagger: OnnxTagger, files: Sequence[str], *, chunk: int) -> Iterator[dict[str, Any]]:
    """The arrays that the tagger takes, of all jets that pass, a chunk at a time."""
    for file in files:
        with uproot.open(file) as opened:
            entries = opened["Events"].num_entries
        for start in range(0, entries, chunk):
            events = NanoEventsFactory.from_root(
                {file: "Events"},
                schemaclass=PFNanoAODSchema,
                entry_start=start,
                entry_stop=min(start + chunk, entries),
            ).events()
            jets = objects.rows(events, OBJECTS)
            keep, _ = rows.select(jets, CUTS, base=ROOT)
            yield tagger.inputs(jets[keep])


def network(session: ort.InferenceSession, arrays: dict[str, Any]) -> None:
    """Bare ONNX Runtime over ready arrays."""
    for i in range(0, len(arrays["mask"]), BATCH):
        session.run(["logit"], {name: array[i : i + BATCH] for name, array in arrays.items()})


def cropped(arrays: dict[str, Any]) -> list[dict[str, Any]]:
    """The same arrays in batches of jets of like multiplicity, no longer than these need."""
    batches = inputs.batches(inputs.last(arrays["mask"]), size=BATCH)
    return [
        {k: np.ascontiguousarray(v) for k, v in inputs.cut(arrays, jets, wide).items()}
        for jets, wide in batches
    ]


def cpu_seconds(work: Callable[[], Any]) -> float:
    """CPU time that a call takes in this process."""
    begin = time.process_time()
    work()
    return time.process_time() - begin


def peak_mib(model: Path | str, files: Sequence[str], *, chunk: int) -> float:
    """By how much the memory of a fresh process grows at most while it runs the chain."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(_grown, model, list(files), chunk).result()


def _grown(model: Path | str, files: list[str], chunk: int) -> float:
    chain(model, files[:1], chunk=200)  # all modules loaded, all loops compiled
    # Linux counts the peak from here on; ru_maxrss would hold that of the parent.
    Path("/proc/self/clear_refs").write_text("5")
    before = _kib("VmRSS")
    chain(model, files, chunk=chunk)
    return (_kib("VmHWM") - before) / 1024


def _kib(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", nargs="*", default=[], help="ROOT files in PFNano's layout")
    parser.add_argument("--jets", type=int, default=100_000, help="at least so many: files are repeated")
    parser.add_argument("--model", help="folder of a tagger on FatJets; default: an untrained one")
    parser.add_argument("--chunk", type=int, default=50_000, help="events of a chunk")
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        model = given.model or untrained(Path(folder) / "model")
        files = given.data or made(Path(folder), given.jets)
        measure(OnnxTagger(model), model, files, given)


def measure(tagger: OnnxTagger, model: Path | str, files: list[str], given: argparse.Namespace) -> None:
    """Time the chain and its parts in turn."""
    chunk = given.chunk
    jets = chain(model, files, chunk=chunk)["chunks"]
    per_pass = sum(c["cutflow"]["all"] for c in jets)
    passes = -(-given.jets // per_pass)
    branches = touched(model, files)
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    path = Path(model) / "tagger.onnx" if Path(model).is_dir() else Path(model)
    session = ort.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])

    found: dict[str, list[float]] = {"chain": [], "read": [], "network": [], "cropped": []}
    for _ in range(given.repeats):
        spent = dict.fromkeys(found, 0.0)
        for _ in range(passes):
            spent["chain"] += cpu_seconds(lambda: chain(model, files, chunk=chunk))
            spent["read"] += cpu_seconds(lambda: read(files, branches, chunk=chunk))
            for arrays in ready(tagger, files, chunk=chunk):
                spent["network"] += cpu_seconds(partial(network, session, arrays))
                for batch in cropped(arrays):
                    spent["cropped"] += cpu_seconds(partial(network, session, batch))
        for name, seconds in spent.items():
            found[name].append(seconds)
    report(found, total=per_pass * passes, passed=sum(c["rows"] for c in jets) * passes)
    for size in (chunk // 10, chunk // 2, chunk):
        print(f"memory that chunks of {size:,} events add: {peak_mib(model, files, chunk=size):.0f} MiB")


def report(found: dict[str, list[float]], *, total: int, passed: int) -> None:
    """Rates and their ratios, median over the repeats."""
    print(f"{total:,} jets, {passed:,} of them pass")
    for name, seconds in found.items():
        print(f"{name:8s} {total / statistics.median(seconds):10,.0f} jets per CPU-second")
    for name in ("network", "cropped"):
        ratios = [(r + n) / c for c, r, n in zip(found["chain"], found["read"], found[name], strict=True)]
        spread = f"from {min(ratios):.3f} to {max(ratios):.3f} in {len(ratios)} repeats"
        print(f"chain / (read + {name}): {statistics.median(ratios):.3f} ({spread})")


if __name__ == "__main__":
    main()
