"""What OnnxTagger costs on top of ONNX Runtime: CPU-seconds of both on the same events, in the same run.

    python benchmarks/onnx_tagger.py [--events 200000] [--features 30] [--widths 128,128,128] [--repeats 9]

Each repeat runs a coffea processor over a ROOT file (iterative executor, virtual arrays, chunks of 50,000)
and then bare ONNX Runtime over the ready, contiguous float32 matrix of the same events, with the same session
options (one thread, no spinning) and batches of the same size.  Reported is the median over the repeats of
bare seconds / tagger seconds, for three spans inside the processor's `process`:

    scores   tagger.scores(matrix)                           the wrapper alone
    stack    tagger.scores(tagger.stack(columns))            and the matrix from columns: the target is >= 0.9
    events   tagger(events), its branches already in memory  and finding, checking and casting the features

Neither side reads a file inside its span; decoding ROOT costs the same with any wrapper.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import uproot
from coffea.nanoevents import BaseSchema
from coffea.processor import ProcessorABC
from onnx import TensorProto, helper, numpy_helper

from hepdecorr.card import METADATA_KEY, Card
from hepdecorr.columnar import features
from hepdecorr.columnar.running import run
from hepdecorr.columnar.tagger import OnnxTagger

BATCH = 2048
CHUNK = 50_000
SPANS = ("scores", "stack", "events")


class Timed(ProcessorABC):
    """CPU-seconds of each span, summed over chunks."""

    def __init__(self, tagger: OnnxTagger) -> None:
        self.tagger = tagger

    def process(self, events: Any) -> dict[str, float]:
        """One chunk."""
        columns = features.compute(self.tagger.feature_names, events)
        matrix = self.tagger.stack(columns)
        return {
            "scores": cpu_seconds(lambda: self.tagger.scores(matrix)),
            "stack": cpu_seconds(lambda: self.tagger.scores(self.tagger.stack(columns))),
            "events": cpu_seconds(lambda: self.tagger(events)),
        }

    def postprocess(self, accumulator: Any) -> None:
        """Nothing to do."""


def cpu_seconds(work: Callable[[], Any]) -> float:
    """CPU time that a call takes in this process."""
    begin = time.process_time()
    work()
    return time.process_time() - begin


def model(names: list[str], widths: list[int]) -> bytes:
    """A multilayer perceptron with random weights, and its card."""
    rng = np.random.default_rng(1)
    sizes = [len(names), *widths, 1]
    constants = [numpy_helper.from_array(np.array([-1]), "flat")]
    nodes, x = [], "features"
    for i, (a, b) in enumerate(itertools.pairwise(sizes)):
        weight = (rng.normal(size=(a, b)) / np.sqrt(a)).astype(np.float32)
        constants += [
            numpy_helper.from_array(weight, f"w{i}"),
            numpy_helper.from_array(np.zeros(b, np.float32), f"b{i}"),
        ]
        nodes.append(helper.make_node("Gemm", [x, f"w{i}", f"b{i}"], [f"h{i}"]))
        x = f"h{i}"
        if i < len(widths):
            nodes.append(helper.make_node("Relu", [x], [f"r{i}"]))
            x = f"r{i}"
    nodes += [
        helper.make_node("Reshape", [x, "flat"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["score"]),
    ]
    given = [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["events", len(names)])]
    found = [helper.make_tensor_value_info(o, TensorProto.FLOAT, ["events"]) for o in ("score", "logit")]
    graph = helper.make_graph(nodes, "mlp", given, found, constants)
    made: onnx.ModelProto = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9
    )
    card = Card.model_validate(
        {
            "name": "benchmark",
            "method": {},
            "seed": 1,
            "inputs": [{"features": [{"name": n} for n in names]}],
            "nuisances": [],
            "table_fingerprint": "",
            "config_hash": "",
            "versions": {},
            "created": "",
        }
    )
    helper.set_model_props(made, {METADATA_KEY: card.to_json()})
    return bytes(made.SerializeToString())


def bare(session: ort.InferenceSession, matrix: np.ndarray[Any, Any]) -> None:
    """ONNX Runtime over a ready matrix, in batches."""
    for i in range(0, len(matrix), BATCH):
        session.run(["score"], {"features": matrix[i : i + BATCH]})


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--features", type=int, default=30)
    parser.add_argument("--widths", default="128,128,128")
    parser.add_argument("--repeats", type=int, default=9)
    given = parser.parse_args()

    names = [f"x{i}" for i in range(given.features)]
    matrix = np.random.default_rng(2).normal(size=(given.events, given.features)).astype(np.float32)
    content = model(names, [int(w) for w in given.widths.split(",")])
    tagger = OnnxTagger(content, batch_size=BATCH)
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    ratios: dict[str, list[float]] = {span: [] for span in SPANS}
    rate: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "events.root"
        with uproot.recreate(path) as file:
            file.mktree("Events", dict.fromkeys(names, np.dtype("f4")))
            file["Events"].extend(dict(zip(names, matrix.T.copy(), strict=True)))
        for repeat in range(given.repeats + 1):
            outcome = run({"made": [str(path)]}, Timed(tagger), schema=BaseSchema, chunksize=CHUNK)
            alone = cpu_seconds(lambda: bare(session, matrix))
            if repeat == 0:  # both warm up
                continue
            rate.append(given.events / alone)
            for span in SPANS:
                ratios[span].append(alone / outcome.out[span])

    print(f"{given.events} events, {given.features} features, MLP {given.widths}, batches of {BATCH}")
    print(f"bare ONNX Runtime: {statistics.median(rate):,.0f} events per CPU-second")
    for span, found in ratios.items():
        spread = f"from {min(found):.3f} to {max(found):.3f} in {len(found)} repeats"
        print(f"{span:7s} {statistics.median(found):.3f} of it ({spread})")


if __name__ == "__main__":
    main()
