"""Taggers of exam scores with group codes, written by hand as ONNX: known in closed form."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import onnx
from onnx import helper, parser

from hepdecorr.card import METADATA_KEY, Card

NOISE = 0.5
_HEAD = '<ir_version: 9, opset_import: ["" : 18]>'

# Sums of x and x^2.
MEMBERS = """members (float[events, 1] features) => (float[events, 2] summands) {
    square = Mul(features, features)
    summands = Concat<axis = 1>(features, square)
}"""
# mu from the mean, sigma from the deviation, sigma^2 = max(std - 1, 0).
GROUP = """group (float[groups, 2] sums, float[groups] counts)
    => (float[groups, 2] mean, float[groups, 2] log_var) {
    one = Constant<value_ints = [1]>()
    each = Unsqueeze(counts, one)
    means = Div(sums, each)
    first, second = Split<axis = 1, num_outputs = 2>(means)
    half = Constant<value_float = 0.5>()
    mu = Mul(first, half)
    square = Mul(first, first)
    spread = Sub(second, square)
    positive = Relu(spread)
    deviation = Sqrt(positive)
    unit = Constant<value_float = 1.0>()
    over = Sub(deviation, unit)
    kept = Relu(over)
    sigma = Sqrt(kept)
    mean = Concat<axis = 1>(mu, sigma)
    zero = Constant<value_float = 0.0>()
    none = Mul(mean, zero)
    low = Constant<value_float = -4.0>()
    log_var = Add(none, low)
}"""
TAGGER = """tagger (float[events, 1] features, float[events, 2] context)
    => (float[events] score, float[events] logit,
        float[events, 1] instance, float[events, 1] instance_log_var) {
    u0, u1 = Split<axis = 1, num_outputs = 2>(context)
    two = Constant<value_float = 2.0>()
    unit = Constant<value_float = 1.0>()
    shift = Mul(u0, two)
    square = Mul(u1, u1)
    slope = Add(square, unit)
    moved = Sub(features, shift)
    instance = Div(moved, slope)
    sure = Log(slope)
    twice = Mul(sure, two)
    base = Constant<value_float = 1.4>()
    wide = Add(twice, base)
    instance_log_var = Neg(wide)
    flat = Constant<value_ints = [-1]>()
    logit = Reshape(instance, flat)
    score = Sigmoid(logit)
}"""
# The same without the group: every score is taken for the student's own.
BLIND = """tagger (float[events, 1] features, float[events, 2] context)
    => (float[events] score, float[events] logit,
        float[events, 1] instance, float[events, 1] instance_log_var) {
    typical = Constant<value_float = 3.2>()
    instance = Div(features, typical)
    zero = Constant<value_float = 0.0>()
    nothing = Mul(instance, zero)
    low = Constant<value_float = -2.0>()
    instance_log_var = Add(nothing, low)
    first, second = Split<axis = 1, num_outputs = 2>(context)
    unused = Mul(first, zero)
    both = Add(instance, unused)
    flat = Constant<value_ints = [-1]>()
    logit = Reshape(both, flat)
    score = Sigmoid(logit)
}"""
DECODER = """decoder (float[events, 2] group, float[events, 1] instance) => (float[events, 1] features) {
    u0, u1 = Split<axis = 1, num_outputs = 2>(group)
    two = Constant<value_float = 2.0>()
    unit = Constant<value_float = 1.0>()
    shift = Mul(u0, two)
    square = Mul(u1, u1)
    slope = Add(square, unit)
    stretched = Mul(slope, instance)
    features = Add(shift, stretched)
}"""


def graph(text: str, card: Card | None = None) -> bytes:
    made = parser.parse_model(f"{_HEAD}\n{text}")
    if card is not None:
        helper.set_model_props(made, {METADATA_KEY: card.to_json()})
    onnx.checker.check_model(made)
    return made.SerializeToString()


def write(folder: Path, *, tagger: str = TAGGER, decodes: bool = True, **changed: Any) -> Path:
    """A folder as a training leaves it."""
    folder.mkdir(parents=True)
    beside = {"members.onnx": graph(MEMBERS), "group.onnx": graph(GROUP)}
    beside |= {"decoder.onnx": graph(DECODER)} if decodes else {}
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in beside.items()}
    codes = [{"name": "code_0"}, {"name": "code_1"}]
    content = {
        "name": folder.name,
        "method": {"type": "GroupVAE"},
        "seed": 1,
        "inputs": [{"features": [{"name": "x"}]}, {"name": "context", "features": codes}],
        "outputs": ["score", "logit", "instance", "instance_log_var"],
        "nuisances": [{"name": "mu", "low": -4, "high": 4}],
        "table_fingerprint": "0" * 64,
        "config_hash": "0" * 64,
        "versions": {},
        "created": "2026-01-01T00:00:00+00:00",
        "measured": {"represents": ["x"], "variance": [NOISE**2], "deviation": [3.2]},
        "context": {
            "of": ["run"],
            "latents": 2,
            "summands": 2,
            "counts": [8, 24, 40],
            "members": digests["members.onnx"],
            "group": digests["group.onnx"],
        },
    }
    card = Card.model_validate({**content, **changed})
    for name, one in {**beside, "tagger.onnx": graph(tagger, card)}.items():
        (folder / name).write_bytes(one)
    return folder
