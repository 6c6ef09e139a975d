"""Taggers over constituents without torch: small graphs with random weights, and their cards."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from hepdecorr.card import METADATA_KEY, Card

CONSTITUENTS = ("log_pt", "deta", "dphi", "charge")
FEATURES = ("FatJet.pt", "FatJet.tau2")
LENGTH = 20
OUTPUTS = ("score", "logit", "kl", "means", "input_momenta", "output_momenta")  # of an autoencoder


def card(
    *,
    features: tuple[str, ...] = (),
    constituents: tuple[str, ...] = CONSTITUENTS,
    length: int = LENGTH,
    mapped: tuple[str, ...] = (),
    **changed: Any,
) -> Card:
    """A card of a tagger of FatJets with raw constituents."""
    inputs: list[dict[str, Any]] = []
    if features:
        inputs.append({"axes": ["rows", "features"], "features": [{"name": n} for n in features]})
    if constituents:
        about = {"length": length, "order": "pt descending"}
        named = [{"name": n} for n in constituents]
        axes = ["rows", "constituents"]
        inputs.append({"name": "constituents", "axes": [*axes, "features"], "features": named, **about})
        inputs.append({"name": "mask", "axes": axes, "features": [], **about})
    if mapped:
        named = [{"name": n} for n in mapped]
        inputs.append({"name": "nuisances", "axes": ["rows", "features"], "features": named})
    content = {
        "name": "toy",
        "method": {"type": "Tagger"},
        "seed": 1,
        "inputs": inputs,
        "nuisances": [{"name": "mass", "unit": "GeV", "low": 50, "high": 300}],
        "objects": {"collection": "FatJet", "puppi": "auto"},
        "conventions": {"collection": "FatJet", "candidates": "raw"},
        "table_fingerprint": "0" * 64,
        "config_hash": "0" * 64,
        "versions": {},
        "created": "2026-01-01T00:00:00+00:00",
        "working_points": [
            {
                "rejection": 0.5,
                "threshold": 0.1,
                "background_efficiency": 0.5,
                "signal_efficiency": 0.5,
                "background_events": 1000,
            }
        ],
    }
    return Card.model_validate({**content, **changed})


def model(
    kind: str = "sets",
    *,
    of: Card | None = None,
    seed: int = 3,
    width: int = 16,
    names: Any = None,
    says: Card | None = None,
) -> bytes:
    """'sets' (Deep Sets: what the mask hides has no effect) or 'lstm'; `names` are other shapes; the card it
    carries is `says`, or `of`."""
    of = of or card()
    rng = np.random.default_rng(seed)
    constants: list[onnx.TensorProto] = []

    def constant(name: str, value: Any) -> str:
        constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def random(name: str, *shape: int) -> str:
        return constant(name, (rng.normal(size=shape) / np.sqrt(shape[0])).astype("f4"))

    many, each = len(of.constituent_names), len(of.feature_names)
    nodes = [
        helper.make_node("Greater", ["mask", constant("half", np.float32(0.5))], ["there"]),
        helper.make_node("Unsqueeze", ["there", constant("last", np.array([2]))], ["thereX"]),
        helper.make_node("Where", ["thereX", "constituents", constant("zero", np.float32(0))], ["clean"]),
        *_BODIES[kind](many, width, constant, random),
    ]
    seen, size = ["pooled"], width
    if each:
        scaled = constant("scale", np.float32(0.01))
        nodes.append(helper.make_node("Mul", ["features", scaled], ["scaled"]))
        seen, size = ["pooled", "scaled"], width + each
    nodes += [
        helper.make_node("Concat", seen, ["all"], axis=1),
        helper.make_node("Gemm", ["all", random("w", size, 1), random("b", 1)], ["out"]),
        helper.make_node("Reshape", ["out", constant("flat", np.array([-1]))], ["plain"]),
        *_behind(of, constant),
        helper.make_node("Sigmoid", ["logit"], ["score"]),
    ]
    beside = of.outputs[2:]
    if beside:
        nodes += _reconstructed(constant, random)
    momenta = {n: ["rows", LENGTH, 4] for n in ("input_momenta", "output_momenta")}
    further = {"kl": ["rows"], "means": ["rows", width]} | momenta
    shapes = {
        "features": ["rows", each],
        "constituents": ["rows", "constituents", many],
        "mask": ["rows", "constituents"],
        "nuisances": ["rows", len(of.nuisance_names)],
    }
    given = [
        helper.make_tensor_value_info(
            i.name, TensorProto.FLOAT, (names or shapes).get(i.name, shapes[i.name])
        )
        for i in of.inputs
    ]
    found = [helper.make_tensor_value_info(o, TensorProto.FLOAT, ["rows"]) for o in ("score", "logit")]
    found += [helper.make_tensor_value_info(o, TensorProto.FLOAT, further[o]) for o in beside]
    graph = helper.make_graph(nodes, kind, given, found, constants)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    helper.set_model_props(made, {METADATA_KEY: (says or of).to_json()})
    content: bytes = made.SerializeToString()
    return content


def _behind(of: Card, constant: Any) -> list[onnx.NodeProto]:
    """A hundredth of the nuisances' sum on top of the logit, where the card has some."""
    if not of.nuisance_names:
        return [helper.make_node("Identity", ["plain"], ["logit"])]
    axis, share = constant("axis", np.array([1])), constant("hundredth", np.float32(0.01))
    return [
        helper.make_node("ReduceSum", ["nuisances", axis], ["sum"], keepdims=0),
        helper.make_node("Mul", ["sum", share], ["part"]),
        helper.make_node("Add", ["plain", "part"], ["logit"]),
    ]


def _reconstructed(constant: Any, random: Any) -> list[onnx.NodeProto]:
    """As an autoencoder of LENGTH constituents: its four features pass for momenta, and what comes back is
    turned and shrunk."""
    longer = constant("longer", np.array([0, 0, 0, 0, LENGTH, 0]))
    kept = [constant(n, np.array([k])) for n, k in (("zeroth", 0), ("length", LENGTH), ("along", 1))]
    return [
        helper.make_node("Abs", ["plain"], ["kl"]),
        helper.make_node("Identity", ["pooled"], ["means"]),
        helper.make_node("Pad", ["clean", longer], ["padded"]),
        helper.make_node("Slice", ["padded", *kept], ["input_momenta"]),
        helper.make_node("MatMul", ["input_momenta", random("turn", 4, 4)], ["output_momenta"]),
    ]


def _sets(many: int, width: int, constant: Any, random: Any) -> list[onnx.NodeProto]:
    return [
        helper.make_node("MatMul", ["clean", random("w1", many, width)], ["hidden"]),
        helper.make_node("Add", ["hidden", random("b1", width)], ["shifted"]),
        helper.make_node("Relu", ["shifted"], ["active"]),
        helper.make_node("Where", ["thereX", "active", "zero"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", constant("axes", np.array([1]))], ["pooled"], keepdims=0),
    ]


def _lstm(many: int, width: int, constant: Any, random: Any) -> list[onnx.NodeProto]:
    return [
        helper.make_node("Transpose", ["clean"], ["sequence"], perm=[1, 0, 2]),
        helper.make_node(
            "LSTM",
            ["sequence", random("W", 1, 4 * width, many), random("R", 1, 4 * width, width)],
            ["", "h"],
            hidden_size=width,
        ),
        helper.make_node("Squeeze", ["h", constant("first", np.array([0]))], ["pooled"]),
    ]


_BODIES = {"sets": _sets, "lstm": _lstm}
