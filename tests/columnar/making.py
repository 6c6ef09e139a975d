"""What the tests of this room are made of: small ROOT files, ONNX models without torch, analysis code."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import uproot
from onnx import TensorProto, helper, numpy_helper

from hepdecorr.card import METADATA_KEY, Card

FEATURES = ("Bcand.deltaE", "Bcand.pStar", "my_features.py:rho")
BRANCHES = ("run", "luminosityBlock", "event", "genWeight", "label")
POINTS = ((0.5, 0.0), (0.95, 1.0))

MY_FEATURES = r"""
from hepdecorr.columnar.features import feature

@feature(unit="GeV", title=r"$\rho$")
def rho(events):
    return events["Bcand"]["mbc"] * events["Bcand"]["pStar"]

def good(events):
    return events["Bcand"]["deltaE"] > 0

def missing(events):
    return events["Bcand"]["nothing"]

def undefined(events):
    return events["Bcand"]["deltaE"] / (events["event"] % 7)
"""

MY_PROCESSORS = r"""
import os
import signal
import time
import hashlib
from pathlib import Path

import hist
import numpy as np
from coffea.processor import ProcessorABC
from hepdecorr.errors import InputError

class Count(ProcessorABC):
    '''Counts, lists, sets and histograms what it sees.'''

    def process(self, events):
        name = events.metadata["dataset"]
        values = np.asarray(events["Bcand"]["mbc"]).astype(float)
        seen = hist.Hist(hist.axis.StrCategory([], growth=True, name="dataset"),
                         hist.axis.Regular(9, 5.2, 5.29, name="m_bc"), storage=hist.storage.Weight())
        seen.fill(dataset=name, m_bc=values, weight=np.asarray(events["genWeight"]))
        return {"n": {name: len(events)}, "seen": seen, "processes": {os.getpid()},
                "events": [int(e) for e in events["event"]]}

    def postprocess(self, accumulator):
        accumulator["events"].sort()

class Logging(Count):
    '''Leaves a line for each chunk that is really processed; from chunk `killed_at` on it kills itself.'''

    def __init__(self, log, killed_at=None):
        self.log, self.killed_at = Path(log), killed_at

    def process(self, events):
        with self.log.open("a") as log:
            log.write(f"{events.metadata['entrystart']}\n")
        if self.killed_at is not None and events.metadata["entrystart"] >= self.killed_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().process(events)

class Failing(Count):
    def __init__(self, how, log):
        self.how, self.log = how, Path(log)

    def process(self, events):
        with self.log.open("a") as log:
            log.write("chunk\n")
        if self.how == "model":
            Path("/nowhere/tagger.onnx").read_bytes()
        if self.how == "input":
            raise InputError("feature 'x': 3 of 7 values are not finite")
        if self.how == "branch":
            events["Bcand"]["nothing"]
        if self.how == "attribute":
            events.Nothing
        if self.how == "sleep":
            time.sleep(60)
        raise ZeroDivisionError("a slip of the pen")
"""


def columns(n: int, *, seed: int = 1, start: int = 0) -> dict[str, np.ndarray]:
    """The branches of n events, numbered from `start`."""
    rng = np.random.default_rng(seed)
    return {
        "run": np.ones(n, "u4"),
        "luminosityBlock": (np.arange(start, start + n) // 100).astype("u4"),
        "event": np.arange(start, start + n, dtype="u8"),
        "genWeight": rng.integers(1, 5, n).astype("f4") / 2,
        "label": rng.integers(0, 2, n).astype("i4"),
        "Bcand_mbc": rng.uniform(5.2, 5.29, n).astype("f4"),
        "Bcand_deltaE": rng.normal(size=n).astype("f4"),
        "Bcand_pStar": rng.uniform(0, 1, n).astype("f4"),
    }


def write_ntuple(
    path: Path,
    n: int = 1000,
    *,
    seed: int = 1,
    start: int = 0,
    tree: str = "Events",
    without: tuple[str, ...] = (),
    basket: int = 250,
    **changed: np.ndarray,
) -> Path:
    """A ROOT file with n events in baskets of `basket`."""
    arrays = {k: v for k, v in {**columns(n, seed=seed, start=start), **changed}.items() if k not in without}
    with uproot.recreate(path) as file:
        file.mktree(tree, {k: v.dtype for k, v in arrays.items()})
        for i in range(0, n, basket):
            file[tree].extend({k: v[i : i + basket] for k, v in arrays.items()})
    return path


def card(**changed: Any) -> Card:
    """A card for FEATURES."""
    content = {
        "name": "toy",
        "method": {"type": "Tagger"},
        "seed": 1,
        "inputs": [
            {"features": [{"name": n, "unit": u} for n, u in zip(FEATURES, ("", "", "GeV"), strict=True)]}
        ],
        "nuisances": [{"name": "m_bc", "unit": "GeV", "low": 5.2, "high": 5.29}],
        "table_fingerprint": "0" * 64,
        "config_hash": "0" * 64,
        "versions": {},
        "created": "2026-01-01T00:00:00+00:00",
        "working_points": [
            {
                "rejection": r,
                "threshold": t,
                "background_efficiency": 1 - r,
                "signal_efficiency": 0.5,
                "background_events": 1000,
            }
            for r, t in POINTS
        ],
    }
    return Card.model_validate({**content, **changed})


def model(
    kind: str = "mlp",
    *,
    seed: int = 3,
    of: Card | None = None,
    metadata: str | None = None,
    width: int = 3,
    input_name: str = "features",
    outputs: tuple[str, ...] = ("score", "logit"),
) -> bytes:
    """An ONNX model with random weights: 'mlp', 'elu', 'conv' or 'lstm'; `metadata` in the card's place."""
    rng = np.random.default_rng(seed)
    constants: list[onnx.TensorProto] = []

    def constant(name: str, value: Any) -> str:
        constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def random(name: str, *shape: int) -> str:
        return constant(name, rng.normal(size=shape).astype("f4"))

    nodes = _BODIES[kind](input_name, width, constant, random)
    nodes += [
        helper.make_node("Reshape", ["out", constant("flat", np.array([-1]))], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["score"]),
    ]
    axes = {"logit_1": "Identity", "logit_2": "Neg"}
    nodes += [helper.make_node(axes[o], ["logit"], [o]) for o in outputs if o in axes]
    graph = helper.make_graph(
        nodes,
        kind,
        [helper.make_tensor_value_info(input_name, TensorProto.FLOAT, ["events", width])],
        [helper.make_tensor_value_info(o, TensorProto.FLOAT, ["events"]) for o in outputs],
        constants,
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    text = (of or card()).to_json() if metadata is None else metadata
    if text:
        helper.set_model_props(made, {METADATA_KEY: text})
    return made.SerializeToString()


def _mlp(x: str, width: int, constant: Any, random: Any, activation: str = "Relu") -> list[onnx.NodeProto]:
    return [
        helper.make_node("Gemm", [x, random("w1", width, 13), random("b1", 13)], ["hidden"]),
        helper.make_node(activation, ["hidden"], ["active"]),
        helper.make_node("Gemm", ["active", random("w2", 13, 1), random("b2", 1)], ["out"]),
    ]


def _elu(x: str, width: int, constant: Any, random: Any) -> list[onnx.NodeProto]:
    return _mlp(x, width, constant, random, activation="Elu")


def _conv(x: str, width: int, constant: Any, random: Any) -> list[onnx.NodeProto]:
    return [
        helper.make_node("Reshape", [x, constant("shape", np.array([-1, 1, width]))], ["image"]),
        helper.make_node("Conv", ["image", random("kernel", 4, 1, width)], ["seen"]),
        helper.make_node("ReduceMean", ["seen", constant("axes", np.array([1, 2]))], ["out"], keepdims=0),
    ]


def _lstm(x: str, width: int, constant: Any, random: Any) -> list[onnx.NodeProto]:
    return [
        helper.make_node("Reshape", [x, constant("shape", np.array([-1, width, 1]))], ["steps"]),
        helper.make_node("Transpose", ["steps"], ["sequence"], perm=[1, 0, 2]),
        helper.make_node(
            "LSTM", ["sequence", random("W", 1, 8, 1), random("R", 1, 8, 2)], ["", "h"], hidden_size=2
        ),
        helper.make_node("Squeeze", ["h", constant("first", np.array([0]))], ["state"]),
        helper.make_node("MatMul", ["state", random("v", 2, 1)], ["out"]),
    ]


_BODIES = {"mlp": _mlp, "elu": _elu, "conv": _conv, "lstm": _lstm}


def grouped_model(
    folder: Path,
    *,
    seed: int = 3,
    of: tuple[str, ...] = ("run",),
    features: tuple[str, ...] = (),
    **changed: Any,
) -> Path:
    """The folder of a tagger that is told of groups: d = 2, m = 4, with rounding in every step."""
    rng = np.random.default_rng(seed)

    def graph(nodes: list[Any], inputs: dict[str, Any], outputs: dict[str, Any], **constants: Any) -> Any:
        info = helper.make_tensor_value_info
        held = [numpy_helper.from_array(np.asarray(v), name) for name, v in constants.items()]
        wires = [
            [info(name, TensorProto.FLOAT, ["rows", *shape]) for name, shape in named.items()]
            for named in (inputs, outputs)
        ]
        made = helper.make_graph(nodes, "graph", *wires, held)
        return helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)

    def random(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype("f4")

    node = helper.make_node
    members = graph(
        [
            node("Gemm", ["features", "w1", "b1"], ["hidden"]),
            node("Softplus", ["hidden"], ["active"]),
            node("Gemm", ["active", "w2"], ["summands"]),
        ],
        {"features": [3]},
        {"summands": [4]},
        w1=random(3, 13),
        b1=random(13),
        w2=random(13, 4),
    )
    group = graph(
        [
            node("Unsqueeze", ["counts", "last"], ["column"]),
            node("Div", ["sums", "column"], ["means"]),
            node("Gemm", ["means", "w"], ["linear"]),
            node("Tanh", ["linear"], ["mean"]),
            node("Mul", ["mean", "zero"], ["nothing"]),
            node("Log", ["column"], ["log"]),
            node("Sub", ["nothing", "log"], ["log_var"]),
        ],
        {"sums": [4], "counts": []},
        {"mean": [2], "log_var": [2]},
        last=np.array([1]),
        w=random(4, 2) / 10,
        zero=np.zeros(1, "f4"),
    )
    tagger = graph(
        [
            node("Concat", ["features", "context"], ["x"], axis=1),
            *_mlp("x", 5, lambda *_: None, lambda name, *_: name, "Elu"),
            node("Reshape", ["out", "flat"], ["logit"]),
            node("Sigmoid", ["logit"], ["score"]),
            node("Abs", ["logit"], ["kl"]),
        ],
        {"features": [3], "context": [2]},
        {"score": [], "logit": [], "kl": []},
        w1=random(5, 13),
        b1=random(13),
        w2=random(13, 1),
        b2=np.full(1, 8, "f4"),  # so that some pass
        flat=np.array([-1]),
    )
    contents = {"members.onnx": members.SerializeToString(), "group.onnx": group.SerializeToString()}
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    about = {"of": of, "latents": 2, "summands": 4, "counts": (1, 50, 100)}
    about |= {"members": digests["members.onnx"], "group": digests["group.onnx"]}
    codes = {
        "name": "context",
        "axes": ("events", "codes"),
        "features": [{"name": "code_0"}, {"name": "code_1"}],
    }
    given = {"features": [{"name": n} for n in features]} if features else card().inputs[0].model_dump()
    content = {"context": about, "outputs": ("score", "logit", "kl"), **changed}
    own = card(inputs=[given, codes], **content)
    helper.set_model_props(tagger, {METADATA_KEY: own.to_json()})
    folder.mkdir(parents=True, exist_ok=True)
    for name, written in {**contents, "tagger.onnx": tagger.SerializeToString()}.items():
        (folder / name).write_bytes(written)
    return folder
