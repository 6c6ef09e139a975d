"""Record numerical fingerprints of hepdecorr, and compare two recordings.

    python benchmarks/regression.py --out baseline.json                     # run every case
    python benchmarks/regression.py --out new.json --compare baseline.json  # run every case, then compare
    python benchmarks/regression.py --only 'adversary/*' --compare baseline.json
    python benchmarks/regression.py --recorded new.json --compare baseline.json  # compare two files

Each case is small and runs on the CPU in one thread: a training on synthetic events, or one of the analyses
from ROOT files to its report. A recording holds SHA-256 digests of the trained weights (values only, no
names), of the outputs of the trained method and of its exported ONNX graphs, and the numbers of model cards
and reports. Nothing that is recorded depends on how classes, functions or keys are called, except the paths
of the numbers of JSON files: numbers whose path has changed are compared as a sorted list.

A refactoring that only renames must reproduce every digest on the same machine with the same versions of
the dependencies. All that this script needs to know of hepdecorr's names stands in the section "Names of
hepdecorr" below.
"""

# ruff: noqa: E402  threads are limited before numpy and torch are imported

from __future__ import annotations

import argparse
import fnmatch
import hashlib
import json
import logging
import math
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

for _variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[_variable] = "1"
os.environ["CUDA_VISIBLE_DEVICES"] = ""
os.environ.setdefault("MPLBACKEND", "agg")

import awkward as ak
import numpy as np
import onnxruntime
import pyarrow.parquet
import torch
import uproot
import yaml
from numpy.typing import NDArray

# ======================================================================================================
# Names of hepdecorr: after a renaming, this section alone has to be adapted.
# ======================================================================================================
# isort: off
import hepdecorr
from hepdecorr.card import Nuisance
from hepdecorr.columnar.histograms import load as load_histograms
from hepdecorr.learning import finish as finish_training
from hepdecorr.learning import train as train_method
from hepdecorr.learning.fitting import logits as compute_logits
from hepdecorr.samples import builtin as builtin_files
from hepdecorr.table import Column, Split, Table
from hepdecorr.table import fold as compute_fold
from hepdecorr.table import write_manifest, write_shard
# isort: on

CLI_MODULE = "hepdecorr.cli.main"
ROOT = Path(hepdecorr.__file__).resolve().parents[1]  # of the checkout: analysis_configs, processors, models

# YAML keys and values that have changed since the cases below were written. Keys: "old" everywhere,
# "Type.old" within a block of `type: Type`, "parent.old" within the block of the key `parent`.
# Values: "old_key=old_value", or "type=OldName". Example: {"DisCo.given": "on"}, {"type=Excised": "Pruned"}.
RENAMED_KEYS: dict[str, str] = {}
RENAMED_VALUES: dict[str, str] = {}

# Roles of the columns of a training table.
FEATURE, NUISANCE, LABEL, WEIGHT, GROUP, ID = "feature", "nuisance", "label", "weight", "group", "id"
CONSTITUENT, COUNT = "constituent", "count"
PREFIX = "constituents."  # of the columns that hold features of constituents
COUNT_COLUMN = "constituents.count"

# Files of a trained tagger and of an analysis.
TAGGER_FILE, CARD_FILE = "tagger.onnx", "card.yaml"
TABLE_FOLDER, SCORES_FOLDER = "table", "evaluation/scores"
HISTOGRAM_FILE, METRICS_FILE = "evaluation/histograms.zip", "report/metrics.json"
GROUPS_FILE, COMPARISON_FILE, SCAN_FILE = "groups/groups.json", "compare/compare.json", "points.json"

# Inputs and outputs of the graph.
LOGIT_OUTPUT = "logit"
FEATURES_INPUT, CONSTITUENTS_INPUT, MASK_INPUT = "features", "constituents", "mask"
NUISANCES_INPUT, CONTEXT_INPUT = "nuisances", "context"

# Keys of a model card, below which numbers differ from run to run or repeat the configuration.
CARD_LEFT_OUT = {"version", "versions", "created", "seconds", "cpu_seconds", "method", "seed"}
# Keys of reports (metrics.json and others), below which numbers differ from run to run.
REPORT_LEFT_OUT = {"seconds", "cpu_seconds", "versions", "created"}


def train(spec: Mapping[str, Any], table: Table, **options: Any) -> Any:
    """Train a method on a table.

    Args:
        spec: The tagger's block of the YAML.
        table: The training table.
        **options: Further arguments of the training function.

    Returns:
        What the package returns: the method with its history, data and fitted maps.
    """
    split = Split(10, (0, 1), (2,))
    return train_method(rename(spec), table=table, split=split, seed=1, device="cpu", **options)


def export(trained: Any, folder: Path, table: Table, nuisances: Sequence[str]) -> Path:
    """Write the trained tagger with its card to a folder and return the folder."""
    bounds = [Nuisance(name=name, low=-4.0, high=4.0) for name in nuisances]
    return Path(
        finish_training(
            trained,
            name="case",
            folder=folder,
            table=table,
            nuisances=bounds,
            config_hash="",
            rejections=(0.5, 0.8, 0.9),
        )
    )


def weights_of(trained: Any) -> list[torch.Tensor]:
    """Parameters and buffers of a trained method and of its fitted maps, in the order of definition."""
    modules = [trained.method, *([trained.posthoc] if trained.posthoc is not None else [])]
    return [tensor for module in modules for tensor in module.state_dict().values()]


def validation_logits(trained: Any) -> NDArray[Any]:
    """Logits of the validation events by the trained method, before any map of the score, shape (n,)."""
    return np.asarray(compute_logits(trained.method, trained.data.validation.all))


@torch.no_grad()
def outputs_of(trained: Any) -> list[NDArray[Any]]:
    """All outputs of a trained method for the validation events, and its logits behind the fitted maps."""
    batch = trained.data.validation.all
    outputs = list(trained.method.answers(trained.method.rows(batch)))
    if trained.posthoc is not None:
        known = list(trained.data.validation.nuisances)
        columns = [known.index(name) for name in trained.posthoc.nuisances]
        outputs.append(trained.posthoc(outputs[0].float(), batch.z[:, columns].float()))
    return [output.float().numpy() for output in outputs]


def history_of(trained: Any) -> list[dict[str, Any]]:
    """Loss curves and other records of each training stage."""
    return list(trained.history)


# ======================================================================================================
# End of the names of hepdecorr. Specifications of cases below use the YAML keys as translated by `rename`.
# ======================================================================================================


def rename(node: Any, parent: str = "", kind: str = "") -> Any:
    """Translate the YAML keys and values of a specification by RENAMED_KEYS and RENAMED_VALUES.

    Args:
        node: A mapping, list or value of the specification.
        parent: The key under which the node stands.
        kind: The `type` of the mapping in which the node stands.

    Returns:
        The same structure with today's names.
    """
    if isinstance(node, Mapping):
        own = node.get("type", "")
        own = own if isinstance(own, str) else ""
        translated = {}
        for key, value in node.items():
            candidates = (f"{own}.{key}", f"{parent}.{key}", str(key))
            name = next((RENAMED_KEYS[c] for c in candidates if c in RENAMED_KEYS), key)
            translated[name] = rename(value, str(key), own)
        return translated
    if isinstance(node, list | tuple):
        return [rename(item, parent, kind) for item in node]
    if isinstance(node, str):
        for candidate in (f"{kind}.{parent}={node}", f"{parent}={node}"):
            if candidate in RENAMED_VALUES:
                return RENAMED_VALUES[candidate]
    return node


# ---------------------------------------------------------------------------- synthetic training tables


@dataclass
class Sample:
    """A synthetic training table with the arrays it was written from.

    Attributes:
        table: The table on disk.
        arrays: Its columns.
        features: Names of the features of a row, in the order of the table.
        constituents: Names of the features of each constituent.
        nuisances: Names of the nuisances.
    """

    table: Table
    arrays: dict[str, NDArray[Any]]
    features: tuple[str, ...]
    constituents: tuple[str, ...]
    nuisances: tuple[str, ...]


def write_table(
    folder: Path, arrays: Mapping[str, NDArray[Any]], roles: Mapping[str, str], *, shards: int = 3
) -> Table:
    """Write arrays as a training table with one dataset for each class.

    Args:
        folder: Folder of the table.
        arrays: Columns; those of two dimensions hold features of constituents.
        roles: Role of each column; columns without one are identifiers.
        shards: Number of files for each dataset.

    Returns:
        The table.
    """
    columns = [
        Column(name, roles.get(name, ID), length=values.shape[1] if values.ndim > 1 else 0)
        for name, values in arrays.items()
    ]
    written, datasets = [], {}
    for label, dataset in enumerate(("background", "signal")):
        rows = np.flatnonzero(arrays["label"] == label)
        if not len(rows):
            continue
        datasets[dataset] = {"label": label, "use": "all"}
        for k, part in enumerate(np.array_split(rows, shards)):
            selected = {name: values[part] for name, values in arrays.items()}
            written.append(
                write_shard(
                    folder,
                    f"{dataset}_{k}.parquet",
                    arrays=selected,
                    columns=columns,
                    dataset=dataset,
                    source="synthetic.root",
                    start=k,
                    stop=k + 1,
                )
            )
    return write_manifest(folder, written, columns=columns, datasets=datasets, provenance={})


def event_folds(rows: int) -> NDArray[Any]:
    """Folds of numbered events, shape (rows,)."""
    return np.asarray(compute_fold(np.ones(rows), np.ones(rows), np.arange(rows)))


def make_events(folder: Path, rows: int = 1500) -> Sample:
    """Events with three features, two continuous nuisances and a discrete one, and weights."""
    draw = np.random.default_rng(7)
    label = (draw.random(rows) < 0.4).astype(np.int8)
    mass, pt = draw.normal(size=rows), draw.normal(size=rows)
    mode = draw.integers(0, 3, rows)
    arrays = {
        "leaky": 1.2 * label + 1.2 * mass + 0.6 * draw.normal(size=rows),
        "clean": 0.9 * label + 0.3 * pt + draw.normal(size=rows),
        "noise": np.exp(draw.normal(size=rows)) + 0.2 * mode,
        "mass": mass,
        "pt": pt + 0.3 * mass,
        "mode": mode.astype(float),
        "weight": draw.uniform(0.5, 1.5, rows),
    }
    arrays = {name: values.astype(np.float32) for name, values in arrays.items()}
    arrays |= {"label": label, "event": np.arange(rows), "fold": event_folds(rows)}
    features, nuisances = ("leaky", "clean", "noise"), ("mass", "pt", "mode")
    roles = dict.fromkeys(features, FEATURE) | dict.fromkeys(nuisances, NUISANCE)
    roles |= {"label": LABEL, "weight": WEIGHT}
    return Sample(write_table(folder, arrays, roles), arrays, features, (), nuisances)


def make_constituents(folder: Path, rows: int = 900, length: int = 6) -> Sample:
    """Jets of 0 to `length` constituents; those of signal have two prongs, as far apart as the mass says."""
    draw = np.random.default_rng(11)
    label = (draw.random(rows) < 0.4).astype(np.int8)
    mass = draw.normal(size=rows)
    count = draw.integers(2, length + 1, rows).astype(np.int16)
    count[::50] = 0
    present = np.arange(length) < count[:, None]
    side = np.where(np.arange(length) % 2, 1, -1) * (label * (0.4 + 0.1 * mass))[:, None]
    values = {
        "log_pt": 5 - np.sort(draw.exponential(size=(rows, length)), 1),
        "deta": side + 0.2 * draw.normal(size=(rows, length)),
        "dphi": 0.2 * draw.normal(size=(rows, length)),
        "charge": draw.integers(-1, 2, (rows, length)).astype(float),
    }
    arrays: dict[str, NDArray[Any]] = {
        "n_pt": (0.5 * mass + draw.normal(size=rows)).astype(np.float32),
        "mass": mass.astype(np.float32),
        "label": label,
        COUNT_COLUMN: count,
    }
    arrays |= {f"{PREFIX}{k}": np.where(present, v, 0).astype(np.float32) for k, v in values.items()}
    arrays |= {"event": np.arange(rows), "fold": event_folds(rows)}
    roles = {"n_pt": FEATURE, "mass": NUISANCE, "label": LABEL, COUNT_COLUMN: COUNT}
    roles |= {f"{PREFIX}{name}": CONSTITUENT for name in values}
    return Sample(write_table(folder, arrays, roles), arrays, ("n_pt",), tuple(values), ("mass",))


def make_jets(folder: Path, rows: int = 900, length: int = 8, share: float = 0.3) -> Sample:
    """Jets as four-momenta of constituents: background of one prong, outliers of two."""
    draw = np.random.default_rng(13)
    label = (draw.random(rows) < share).astype(np.int8)
    mass = 50 + 40 * draw.exponential(size=rows)
    count = draw.integers(3, length + 1, rows).astype(np.int16)
    count[:100:10] = np.arange(len(count[:100:10])) % 2
    present = np.arange(length) < count[:, None]
    wide = 0.1 * (mass / 60 * draw.uniform(0.5, 1.5, rows))[:, None]
    side = np.where(np.arange(length) % 2, 0.7, -0.7) * label[:, None] * wide
    turn, ring = draw.uniform(0, 2 * np.pi, (rows, 1)), np.arange(length) * 2.4
    blur = 0.3 * draw.normal(size=(2, rows, length))
    values = {
        "pt": 100 * 0.8 ** np.arange(length) * draw.uniform(0.9, 1.1, (rows, length)),
        "eta": side + wide * (np.cos(turn + ring) + blur[0]),
        "phi": wide * (np.sin(turn + ring) + blur[1]),
        "mass": np.full((rows, length), 0.14),
    }
    arrays: dict[str, NDArray[Any]] = {
        "jet_mass": mass.astype(np.float32),
        "mass": mass.astype(np.float32),
        "label": label,
        COUNT_COLUMN: count,
    }
    arrays |= {f"{PREFIX}{k}": np.where(present, v, 0).astype(np.float32) for k, v in values.items()}
    arrays |= {"event": np.arange(rows), "fold": event_folds(rows)}
    roles = {"jet_mass": FEATURE, "mass": NUISANCE, "label": LABEL, COUNT_COLUMN: COUNT}
    roles |= {f"{PREFIX}{name}": CONSTITUENT for name in values}
    return Sample(write_table(folder, arrays, roles), arrays, ("jet_mass",), tuple(values), ("mass",))


def make_groups(folder: Path, groups: int = 60, size: int = 25) -> Sample:
    """Events of groups whose members share a shift; signal differs from background within a group."""
    draw = np.random.default_rng(17)
    group = np.repeat(np.arange(groups), draw.integers(size // 2, size * 3 // 2, groups))
    rows = len(group)
    label = (draw.random(rows) < 0.4).astype(np.int8)
    shift = 2.0 * draw.normal(size=groups)[group]
    arrays: dict[str, NDArray[Any]] = {
        "other": (0.5 * label + draw.normal(size=rows)).astype(np.float32),
        "moved": (shift + 2.0 * label + draw.normal(size=rows)).astype(np.float32),
        "shift": shift.astype(np.float32),
        "label": label,
        "group": group + 1000,
        "event": np.arange(rows),
        "fold": np.asarray(compute_fold(group)),
    }
    order = draw.permutation(rows)  # each group lies in several shards
    arrays = {name: values[order] for name, values in arrays.items()}
    roles = {"other": FEATURE, "moved": FEATURE, "shift": NUISANCE, "label": LABEL, "group": GROUP}
    return Sample(write_table(folder, arrays, roles), arrays, ("other", "moved"), (), ("shift",))


def make_exam_scores(folder: Path, groups: int = 80) -> Sample:
    """One score per student of schools, x = 2 mu + (sigma^2 + 1) v + noise; background alone."""
    draw = np.random.default_rng(19)
    group = np.repeat(np.arange(groups), 8 + draw.poisson(12, groups))
    mu, sigma = draw.normal(size=(2, groups))
    rows = len(group)
    v = draw.normal(size=rows)
    score = 2 * mu[group] + (sigma[group] ** 2 + 1) * v + 0.5 * draw.normal(size=rows)
    arrays: dict[str, NDArray[Any]] = {
        "score": score.astype(np.float32),
        "v": v.astype(np.float32),
        "label": np.zeros(rows, np.int8),
        "group": group,
        "event": np.arange(rows),
        "fold": np.asarray(compute_fold(group)),
    }
    roles = {"score": FEATURE, "v": NUISANCE, "label": LABEL, "group": GROUP}
    return Sample(write_table(folder, arrays, roles), arrays, ("score",), (), ("v",))


SAMPLES: dict[str, Callable[[Path], Sample]] = {
    "events": make_events,
    "constituents": make_constituents,
    "jets": make_jets,
    "groups": make_groups,
    "exam scores": make_exam_scores,
}


# --------------------------------------------------------------------------------------- training cases


@dataclass(frozen=True)
class TrainingCase:
    """A small training.

    Attributes:
        name: Stable name, in the language of the field.
        sample: Name of the synthetic sample.
        spec: The tagger's block of the YAML.
        exported: Whether the tagger is exported, and its graphs and card are recorded.
        options: Further arguments of the training function.
        pretrained: Name of the case whose exported folder this training starts from.
    """

    name: str
    sample: str
    spec: Mapping[str, Any]
    exported: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    pretrained: str = ""


SHORT: dict[str, Any] = {"epochs": 2, "batch": 256, "lr": 5e-3}
SMALL_MLP: dict[str, Any] = {"type": "MLP", "hidden": [12]}
CRITIC: dict[str, Any] = {"hidden": [8], "steps": 2, "batch": 256}
ADVERSARY: dict[str, Any] = {"hidden": [8], "batch": 256}


def tagger(*terms: Mapping[str, Any], **change: Any) -> dict[str, Any]:
    """A small classifier on events with loss terms against the mass."""
    spec: dict[str, Any] = {"type": "Tagger", "nuisances": ["mass"], "network": SMALL_MLP, "training": SHORT}
    if terms:
        spec["terms"] = [{"nuisance": "mass", **term} for term in terms]
    return {**spec, **change}


def method_cases() -> Iterator[TrainingCase]:
    """One case of each method, and its settings that no other group of cases covers."""
    yield TrainingCase("method/Tagger", "events", tagger(), exported=True)
    yield TrainingCase("method/Tagger/balanced classes", "events", tagger(balance=True))
    yield TrainingCase("method/Tagger/information in the criterion", "events", tagger(weigh=3.0))
    two = {"nuisances": ["mass", "pt"]}
    many = ({"type": "DisCo", "draw": 300}, {"type": "DisCo", "nuisance": "pt", "tail": 0, "draw": 0})
    yield TrainingCase(
        "method/Tagger/several terms", "events", tagger(*many, {"type": "GMM", **ADVERSARY}, **two)
    )
    yield TrainingCase("method/Tagger/features chosen", "events", tagger(features=["clean", "leaky"]))
    yield TrainingCase("method/Tagger/streamed", "events", tagger({"type": "MoDe"}), options={"stream": True})
    yield TrainingCase("method/Tagger/bfloat16", "events", tagger(), options={"precision": "bf16-mixed"})
    double = {
        "type": "DoubleDisCo",
        "nuisances": ["mass"],
        "network": SMALL_MLP,
        "training": SHORT,
        "strength": 5.0,
    }
    yield TrainingCase("method/DoubleDisCo", "events", double, exported=True)
    yield TrainingCase("method/DoubleDisCo/tail", "events", {**double, "tail": 3.0})
    yield TrainingCase(
        "method/DoubleDisCo/terms", "events", {**double, "terms": [{"type": "MoDe", "nuisance": "mass"}]}
    )


def loss_cases() -> Iterator[TrainingCase]:
    """Loss terms without an adversary."""
    joint = {"nuisances": ["mass", "pt"]}
    both = {"nuisance": ["mass", "pt"]}
    published = {"sees": "score", "tail": 0, "draw": 0, "unbiased": False}
    terms: dict[str, dict[str, Any]] = {
        "DisCo": {"type": "DisCo", "draw": 300, "refresh": 3},
        "DisCo/as published": {"type": "DisCo", **published},
        "DisCo/batch with tail weight": {"type": "DisCo", "draw": 0, "tail": 0.02},
        "DisCo/start and ramp": {"type": "DisCo", "draw": 0, "start": 0.4, "ramp": 0.4, "strength": 30},
        "LinearCorrelation": {"type": "LinearCorrelation"},
        "MoDe/order 0": {"type": "MoDe", "order": 0},
        "MoDe/order 0 absolute": {"type": "MoDe", "order": 0, "relative": False, "sees": "score", "bins": 8},
        "MoDe/order 1": {"type": "MoDe", "order": 1},
        "MoDe/order 1 maximum slope": {"type": "MoDe", "order": 1, "max_slope": 0.1, "transform": "rank"},
        "MoDe/order 2": {"type": "MoDe", "order": 2},
        "MoDe/order 2 monotonic": {"type": "MoDe", "order": 2, "monotonic": True},
        "Flatness": {"type": "Flatness"},
        "Flatness/absolute": {"type": "Flatness", "relative": False, "tail": 0, "power": 1.5, "bins": 6},
    }
    for name, term in terms.items():
        yield TrainingCase(f"loss/{name}", "events", tagger(term), exported=name == "DisCo")
    for name in ("DisCo", "Flatness"):
        extra = {"draw": 300} if name == "DisCo" else {"bins": 4}
        spec = tagger({"type": name, **both, **extra}, **joint)
        yield TrainingCase(f"loss/{name}/two nuisances", "events", spec)
    for given in ("signal", "all", "label"):
        term = {"type": "LinearCorrelation", "given": given}
        yield TrainingCase(f"loss/LinearCorrelation/given {given}", "events", tagger(term))
        if given != "label":
            term = {"type": "DisCo", "given": given, "draw": 0}
            yield TrainingCase(f"loss/DisCo/given {given}", "events", tagger(term))
    for sees in ("logit", "score", "rank"):
        term = {"type": "DisCo", "sees": sees, "draw": 0, "top": 0.7}
        yield TrainingCase(f"loss/DisCo/sees {sees}", "events", tagger(term))
    for transform in ("rank", "probit", "standard", "none"):
        term = {"type": "DisCo", "transform": transform, "draw": 0}
        yield TrainingCase(f"loss/DisCo/transform {transform}", "events", tagger(term))


def adversary_cases() -> Iterator[TrainingCase]:
    """Adversaries, moved in turn with the tagger or by reversal of the gradient."""
    kinds: dict[str, dict[str, Any]] = {
        "GMM": {"type": "GMM", "components": 3},
        "MSE": {"type": "MSE"},
        "Softmax": {"type": "Softmax", "bins": 8},
        "MINE": {"type": "MINE", "pairs": 256},
        "MINE Jensen-Shannon": {"type": "MINE", "pairs": 256, "bound": "js"},
    }
    for name, term in kinds.items():
        for update in ("alternating", "reversal"):
            spec = tagger({**term, **ADVERSARY, "update": update})
            yield TrainingCase(f"adversary/{name}/{update}", "events", spec)
    joint = {"nuisances": ["mass", "pt"]}
    for name in ("GMM", "Softmax", "MINE"):
        own = {"bins": 3} if name == "Softmax" else {}
        term = {"type": name, "nuisance": ["mass", "pt"], **ADVERSARY, **own}
        yield TrainingCase(f"adversary/{name}/two nuisances", "events", tagger(term, **joint))
    for name in ("GMM", "Softmax", "MINE", "MSE"):
        term = {"type": name, "given": "label", **ADVERSARY}
        yield TrainingCase(f"adversary/{name}/given label", "events", tagger(term))
    truncated = {"type": "GMM", "transform": "rank", "truncated": [0, 1], **ADVERSARY}
    yield TrainingCase("adversary/GMM/truncated", "events", tagger(truncated))
    sees = {"type": "GMM", "sees": ["logit", "score"], **ADVERSARY}
    yield TrainingCase("adversary/GMM/sees logit and score", "events", tagger(sees))
    settings = {"type": "Softmax", "steps": 2, "moves": {"lr": 0.01, "optimizer": "sgd"}, **ADVERSARY}
    yield TrainingCase("adversary/Softmax/optimizer settings", "events", tagger(settings))


def constraint_cases() -> Iterator[TrainingCase]:
    """Constraints on the dependence, whose multipliers take the place of a strength."""
    settings = {"sample": 300, "checks": 3}
    # Bounds near what is measured: far from it the multiplier moves at a constant rate, whatever is measured.
    measures: dict[str, dict[str, Any]] = {
        "dcor": {"floors": 5.0},
        "jsd": {"at": [0.5, 0.9]},
        "information": {"at_most": 0.1, "sample": 1000},
        "price": {"floors": 5.0},
    }
    for measure, change in measures.items():
        hold = {"measure": measure, **settings, **change}
        term = {"type": "DisCo", "draw": 0, "hold": hold}
        yield TrainingCase(f"constraint/{measure}", "events", tagger(term))
    number = {"measure": "dcor", "at_most": 0.3, "rate": 6.0, "damping": 0.2, **settings}
    yield TrainingCase("constraint/dcor/a number", "events", tagger({"type": "MoDe", "hold": number}))
    floors = {"measure": "dcor", "floors": 3.0, "sample": 0}
    yield TrainingCase(
        "constraint/dcor/multiple of the floor", "events", tagger({"type": "Flatness", "hold": floors})
    )
    for update in ("alternating", "reversal"):
        chased = {"type": "GMM", "update": update, "hold": {"measure": "dcor", **settings}, **ADVERSARY}
        yield TrainingCase(f"constraint/adversary {update}", "events", tagger(chased))


def posthoc_cases() -> Iterator[TrainingCase]:
    """Maps of the score, fitted after the training and exported with the tagger."""
    flow = {"steps": 60, "batch": 300, "lr": 0.01}
    maps: dict[str, dict[str, Any]] = {
        "DDT": {"type": "DDT"},
        "DDT/range": {"type": "DDT", "range": [-1.5, 1.5], "ref": 0.2, "bins": 8},
        "QuantileMap": {"type": "QuantileMap"},
        "QuantileMap/pieces": {"type": "QuantileMap", "thresholds": 41, "pieces": 20},
        "QuantileMap/binned": {"type": "QuantileMap", "form": "binned"},
        "QuantileMap/steps": {"type": "QuantileMap", "form": "binned", "bins": 15, "interpolate": False},
        "FixedEfficiency": {"type": "FixedEfficiency", "rejection": 0.9},
        "FixedEfficiency/binned": {"type": "FixedEfficiency", "form": "binned", "bins": 10},
        "FixedEfficiency/nearest": {"type": "FixedEfficiency", "form": "knn", "bins": 15, "neighbours": 3},
        "Transport": {"type": "Transport"},
        "Transport/binned": {"type": "Transport", "form": "binned"},
        "Transport/flow": {"type": "Transport", "form": "flow", "flow": flow},
    }
    for name, spec in maps.items():
        block = [{"nuisance": "mass", **spec}]
        exported = name in ("DDT", "QuantileMap", "FixedEfficiency", "Transport/flow")
        yield TrainingCase(f"posthoc/{name}", "events", tagger(posthoc=block), exported=exported)
    joint: dict[str, dict[str, Any]] = {
        "QuantileMap": {},
        "FixedEfficiency": {},
        "FixedEfficiency/nearest": {"form": "knn", "bins": 25},
        "Transport/flow": {"form": "flow", "flow": flow},
    }
    for name, change in joint.items():
        kind = name.partition("/")[0]
        block = [{"type": kind, "nuisance": ["mass", "pt"], **change}]
        spec = tagger(posthoc=block, nuisances=["mass", "pt"])
        yield TrainingCase(f"posthoc/{name}/two nuisances", "events", spec)
    chain = [{"type": "DDT", "nuisance": "pt"}, {"type": "QuantileMap", "nuisance": "mass"}]
    spec = tagger(posthoc=chain, nuisances=["mass", "pt"])
    yield TrainingCase("posthoc/chain", "events", spec, exported=True)
    for names in (["mass"], ["mass", "pt"]):
        corrections = {"maps": [{"type": "QuantileMap", "nuisance": names}], "into": "corrections"}
        spec = tagger(posthoc=corrections, nuisances=["mass", "pt"])
        yield TrainingCase(f"posthoc/corrections/{len(names)}", "events", spec, exported=len(names) == 2)


def network_cases() -> Iterator[TrainingCase]:
    """Networks of a classifier and the preprocessing of their inputs."""
    networks: dict[str, dict[str, Any]] = {
        "MLP": {"type": "MLP", "hidden": [12, 8], "first": 3},
        "DeepSets": {"type": "DeepSets", "phi": [8, 8], "hidden": [8], "pools": 2},
        "LSTM": {"type": "LSTM", "width": 8, "hidden": [8]},
        "LSTM/two layers": {"type": "LSTM", "width": 6, "depth": 2, "hidden": [8], "dropout": 0.1},
        "ParticleNet": {"type": "ParticleNet", "blocks": [[8, 8], [8]], "neighbours": 3, "hidden": [8]},
        "ParticleTransformer": {
            "type": "ParticleTransformer",
            "width": 8,
            "heads": 2,
            "blocks": 1,
            "hidden": [8],
            "dropout": 0.1,
        },
    }
    for name, network in networks.items():
        spec = tagger(network=network)
        exported = name not in ("DeepSets", "LSTM/two layers")
        yield TrainingCase(f"network/{name}", "constituents", spec, exported=exported)
    constituents = {"scale": "robust", "clip": 4}
    spec = tagger({"type": "DisCo", "draw": 0}, network={**networks["DeepSets"], "dropout": 0.1,
        "constituent_inputs": constituents, "inputs": {"scale": "none"}})  # fmt: skip
    yield TrainingCase("network/DeepSets/constituent inputs", "constituents", spec)
    short = tagger(network=networks["DeepSets"], length=4, constituents=["log_pt", "deta"], features=[])
    yield TrainingCase("network/DeepSets/fewer constituents", "constituents", short, exported=True)
    plain = tagger(constituents=[])
    yield TrainingCase("network/MLP/no constituents", "constituents", plain)
    for activation in ("relu", "silu", "gelu", "tanh", "softplus"):
        network = {**SMALL_MLP, "activation": activation}
        yield TrainingCase(f"network/MLP/activation {activation}", "events", tagger(network=network))
    network = {"type": "MLP", "hidden": [12, 12], "norm": True, "dropout": 0.2}
    yield TrainingCase("network/MLP/norm and dropout", "events", tagger(network=network), exported=True)
    inputs: dict[str, dict[str, Any]] = {
        "standard": {"scale": "standard", "clip": 2.0},
        "robust": {"scale": "robust"},
        "quantile": {"scale": "quantile", "knots": 10},
        "principal components": {"scale": "pca", "within": "leaky", "bins": 4},
        "principal components in steps": {"scale": "pca", "within": "leaky", "bins": 4, "interpolate": False},
        "none": {"scale": "none", "clip": 0},
        "logarithms": {
            "log": {
                "noise": 0.01,
                "clean": {"below": 8.0},
                "leaky": {"shift": 0.005, "negative": -1},
            }
        },
    }
    for name, block in inputs.items():
        spec = tagger(network={**SMALL_MLP, "inputs": block})
        exported = name in ("quantile", "principal components", "logarithms")
        yield TrainingCase(f"inputs/{name}", "events", spec, exported=exported)


def training_cases() -> Iterator[TrainingCase]:
    """Settings of the training: optimizers, schedules of the learning rate, choice of the epoch."""
    settings: dict[str, dict[str, Any]] = {
        f"optimizer {name}": {"optimizer": name} for name in ("adam", "adamw", "adamax", "rmsprop", "sgd")
    }
    settings |= {
        f"schedule {name}": {"schedule": name} for name in ("constant", "cosine", "onecycle", "steps")
    }
    settings |= {
        "schedule steps/drops": {"schedule": "steps", "drops": 3, "final": 0.1},
        "schedule onecycle/warmup": {"schedule": "onecycle", "warmup": 0.5},
        "average of the weights": {"average": 0.9},
        "clipping of the gradient": {"clip": 0.1},
        "weight decay and momenta": {"weight_decay": 0.5, "momentum": 0.5, "memory": 0.9},
        "last epoch": {"keep": "last"},
        "slack": {"keep": "best", "slack": 0.5, "epochs": 4},
        "patience": {"patience": 1, "lr": 0.3, "epochs": 12},
        "least number of batches": {"turns": 13},
    }
    for name, change in settings.items():
        spec = tagger({"type": "LinearCorrelation"}, training={**SHORT, **change})
        yield TrainingCase(f"training/{name}", "events", spec)


def reweighting_cases() -> Iterator[TrainingCase]:
    """Weights of the classification that bring spectra together, or make them flat."""
    rules: dict[str, dict[str, Any]] = {
        "signal to background": {"nuisances": ["mass"], "of": "signal", "to": "background"},
        "background to signal": {"nuisances": ["mass"], "of": "background", "to": "signal", "bins": 20},
        "both flat": {"nuisances": ["mass"], "of": "both", "to": "flat"},
        "signal flat": {"nuisances": "pt", "of": "signal", "to": "flat", "cap": 3},
        "two nuisances": {"nuisances": ["mass", "pt"], "of": "background", "to": "signal", "bins": 5},
        "two nuisances flat": {"nuisances": ["mass", "pt"], "of": "both", "to": "flat", "bins": 5},
    }
    for name, rule in rules.items():
        spec = tagger({"type": "LinearCorrelation"}, reweight=rule)
        yield TrainingCase(f"reweighting/{name}", "events", spec)
    spec = tagger({"type": "LinearCorrelation"}, reweight=rules["both flat"])
    yield TrainingCase("reweighting/streamed", "events", spec, options={"stream": True})


def excised(representation: Mapping[str, Any], **change: Any) -> dict[str, Any]:
    """A classifier on a small representation of the events."""
    small = {"latents": 3, "hidden": [12], "training": {**SHORT, "average": 0.9}}
    spec = {
        "type": "Excised",
        "nuisances": ["mass"],
        "representation": {**small, **representation},
        "network": SMALL_MLP,
        "training": SHORT,
    }
    return {**spec, **change}


def representation_cases() -> Iterator[TrainingCase]:
    """Representations under their published names, latent terms, and what is made of them."""
    presets: dict[str, dict[str, Any]] = {
        "BetaVAE": {"type": "BetaVAE"},
        "BetaVAE/aligned": {"type": "BetaVAE", "beta": 2, "alignment": 10, "form": "bernoulli"},
        "AnnealedVAE": {"type": "AnnealedVAE", "capacity": 5, "gamma": 10},
        "FactorVAE": {"type": "FactorVAE", "critic": CRITIC},
        "BetaTCVAE": {"type": "BetaTCVAE"},
        "BetaTCVAESensitive": {"type": "BetaTCVAESensitive"},
    }
    for name in ("Ratio", "Conditional", "Distance"):
        estimator = {"type": name, **(CRITIC if name != "Distance" else {})}
        presets[f"BetaTCVAESensitive/{name}"] = {"type": "BetaTCVAESensitive", "estimator": estimator}
    for name, block in presets.items():
        change = {"excise": "found"} if name in ("BetaVAE", "AnnealedVAE") else {}
        spec = excised(block, **change)
        yield TrainingCase(f"representation/{name}", "events", spec, exported=name == "BetaTCVAE")
    kl = {"type": "KL"}
    aligned = {"type": "SupervisedAlignment"}
    terms: dict[str, list[dict[str, Any]]] = {
        "default": [
            kl,
            aligned,
            {"type": "TotalCorrelation", "estimator": {"type": "Conditional", **CRITIC}},
        ],
        "KL": [{"type": "KL", "beta": 3.0, "start": 0.2, "ramp": 0.3, "given": "background"}],
        "Capacity": [{"type": "Capacity", "gamma": 20, "capacity": 3, "ramp": 0.5}],
        "Decomposition/all": [{"type": "Decomposition", "of": "all", "beta": 3}],
        "Decomposition/sensitive": [{"type": "Decomposition", "of": "sensitive", "alpha": 0.5}, aligned],
        "Decomposition/background": [{"type": "Decomposition", "given": "background"}, aligned],
        "SupervisedAlignment/probit": [kl, {**aligned, "form": "probit", "strength": 5}],
        "SupervisedAlignment/bernoulli": [kl, {**aligned, "form": "bernoulli", "signal": 0.5}],
    }
    estimators: dict[str, dict[str, Any]] = {
        "Stratified": {"type": "Stratified"},
        "Ratio": {"type": "Ratio", **CRITIC},
        "Conditional": {"type": "Conditional", **CRITIC},
        "Conditional/latent": {"type": "Conditional", "target": "latent", "sees": "sample", **CRITIC},
        "Conditional/softmax": {"type": "Conditional", "density": "softmax", "bins": 6, **CRITIC},
        "Distance": {"type": "Distance"},
    }
    for name, estimator in estimators.items():
        for given in ("background", "all"):
            term = {"type": "TotalCorrelation", "estimator": estimator, "beta": 20, "given": given}
            terms[f"TotalCorrelation/{name}/{given}"] = [kl, aligned, term]
    every = {"type": "TotalCorrelation", "of": "all", "beta": 5, "estimator": estimators["Ratio"]}
    terms["TotalCorrelation/all latents"] = [kl, aligned, every]
    for name, listed in terms.items():
        found = any(one.get("type") == "SupervisedAlignment" for one in listed)
        spec = excised({"terms": listed}, **({} if found else {"excise": "found"}))
        yield TrainingCase(f"latent/{name}", "events", spec)
    yield from _excision_cases()


def _excision_cases() -> Iterator[TrainingCase]:
    plain = {"terms": [{"type": "KL"}, {"type": "SupervisedAlignment"}]}
    changes: dict[str, dict[str, Any]] = {
        "aligned": {"excise": "aligned"},
        "found": {"excise": "found", "found": 0.0},
        "numbered": {"excise": [0, 2]},
        "threshold": {"found": 0.01},
        "terms": {"terms": [{"type": "DisCo", "nuisance": "mass", "draw": 0}], "weigh": 1.0},
    }
    for name, change in changes.items():
        yield TrainingCase(f"excision/{name}", "events", excised(plain, **change))
    two = {"nuisances": ["mass", "pt"]}
    yield TrainingCase("excision/two nuisances", "events", excised(plain, **two))
    discrete = {"nuisances": ["mass", "mode"]}
    critic = {"type": "TotalCorrelation", "estimator": {"type": "Conditional", **CRITIC}}
    block = {"terms": [*plain["terms"], critic], "discrete": {"mode": 3}}
    yield TrainingCase("latent/discrete", "events", excised(block, **discrete), exported=True)
    relaxed = {"mode": {"count": 3, "temperature": 0.5, "prior": "found"}}
    capacity = {"type": "Capacity", "capacity": 3, "discrete": 0.5}
    block = {"terms": [capacity, {"type": "SupervisedAlignment"}], "discrete": relaxed}
    yield TrainingCase("latent/discrete/capacity", "events", excised(block, **discrete))
    block = {"terms": [{"type": "Decomposition"}, {"type": "SupervisedAlignment"}], "discrete": {"mode": 3}}
    yield TrainingCase("latent/discrete/decomposition", "events", excised(block, **discrete))
    options = {
        "given": "background",
        "variance": 0.5,
        "activation": "relu",
        "sensitive": 2,
        "inputs": {"scale": "robust"},
    }
    yield TrainingCase("representation/settings", "events", excised({**plain, **options}))
    small = {"latents": 3, "hidden": [12], "training": SHORT, **plain}
    for score in ("rest", "excised", "all"):
        spec = {"type": "Anomaly", "nuisances": ["mass"], "representation": small, "score": score}
        yield TrainingCase(f"method/Anomaly/score {score}", "events", spec, exported=score == "rest")
    mode = {**small, "discrete": {"mode": 3}}
    spec = {"type": "Anomaly", "nuisances": ["mass", "mode"], "representation": mode, "score": "all"}
    yield TrainingCase("method/Anomaly/discrete", "events", spec)


def jet_vae(**change: Any) -> dict[str, Any]:
    """A small variational autoencoder of jets."""
    spec = {
        "type": "JetVAE",
        "features": [],
        "network": {"type": "FullyConnected", "hidden": [16]},
        "latents": 3,
        "beta": 0.05,
        "training": {**SHORT, "batch": 100},
    }
    return {**spec, **change}


def jet_vae_cases() -> Iterator[TrainingCase]:
    """Autoencoders of jets: networks, outlier exposure, annealing, scores, frames."""
    networks: dict[str, dict[str, Any]] = {
        "FullyConnected": {"type": "FullyConnected", "hidden": [16, 8], "activation": "silu"},
        "Recurrent": {"type": "Recurrent", "width": 8},
        "Recurrent/padding skipped": {"type": "Recurrent", "width": 8, "depth": 1, "padding": "skip"},
        "SetVAE": {"type": "SetVAE", "phi": [8], "hidden": [8], "decoder": [8]},
        "SetVAE/Chamfer, energy": {
            "type": "SetVAE",
            "phi": [8],
            "hidden": [8],
            "decoder": [8],
            "distance": "chamfer",
            "weigh": "energy",
        },
    }
    for name, network in networks.items():
        yield TrainingCase(
            f"autoencoder/{name}", "jets", jet_vae(network=network), exported=name in ("Recurrent", "SetVAE")
        )
    always = {"anneal": "constant"}
    for name, forms in {"KLOE": ("batch", "pair", "latent"), "MSEOE": ("batch", "pair")}.items():
        for form in forms:
            block = {"type": name, "form": form, "strength": 3, **always}
            spec = jet_vae(exposure=block, score="kl" if name == "KLOE" else "mse")
            yield TrainingCase(f"exposure/{name}/{form}", "jets", spec)
    exposures: dict[str, Any] = {
        "KLOE/margin": {"type": "KLOE", "margin": 4.0, **always},
        "KLOE/matched": {"type": "KLOE", "match": {"nuisance": "mass"}, **always},
        "MSEOE/matched once": {"type": "MSEOE", "match": {"nuisance": "mass", "refresh": "once", "bins": 10},
                               **always},
        "two": [{"type": "KLOE", **always}, {"type": "MSEOE", **always}],
        "anneal linear": {"type": "KLOE", "anneal": {"shape": "linear", "rise": 1}},
        "anneal cyclic": {"type": "MSEOE", "anneal": {"rise": 1, "hold": 1, "cycles": 2}},
        "anneal in fractions": {"type": "KLOE", "anneal": {"shape": "linear", "rise": 0.5, "start": 0.1,
                                                           "unit": "stage"}},
    }  # fmt: skip
    for name, block in exposures.items():
        longer = {"training": {**SHORT, "batch": 100, "epochs": 4}} if "anneal" in name else {}
        yield TrainingCase(f"exposure/{name}", "jets", jet_vae(exposure=block, **longer))
    weighed = {"nuisances": ["mass"], "of": "signal", "to": "background", "bins": 10}
    spec = jet_vae(exposure={"type": "KLOE", **always}, reweight=weighed)
    yield TrainingCase("exposure/reweighted", "jets", spec)
    for score in ("mse", "kl", "nll", "sumsq", "density"):
        change = {"score": score, "reconstruct": False, "density": {"components": 3}}
        yield TrainingCase(f"anomaly score/{score}", "jets", jet_vae(**change))
    for shape in ("constant", "linear", "cyclic"):
        anneal = {"shape": shape, "rise": 1, "hold": 0, "cycles": 2}
        longer = {"training": {**SHORT, "batch": 100, "epochs": 4}}
        yield TrainingCase(f"annealing/{shape}", "jets", jet_vae(beta_anneal=anneal, **longer))
    for reduction in ("sum", "mean"):
        yield TrainingCase(f"beta/{reduction}", "jets", jet_vae(reduction=reduction, score="nll"))
    frames: dict[str, dict[str, Any]] = {
        "boost along the beam": {"boost": "beam"},
        "no boost": {"boost": "none", "rotate": False},
        "standard scale by component": {"scale": "standard", "per": "component"},
        "no scale": {"scale": "none"},
        "fewer constituents": {"length": 5},
    }
    for name, frame in frames.items():
        yield TrainingCase(f"frame/{name}", "jets", jet_vae(frame=frame))
    told = {"features": ["jet_mass"], "condition": ["jet_mass"], "inputs": {"scale": "robust"}}
    spec = jet_vae(**told, score="kl", frame={"boost": "beam", "scale": "standard", "per": "component"})
    yield TrainingCase("method/JetVAE/conditional", "jets", spec, exported=True)
    terms = [
        {"type": "DisCo", "nuisance": "mass", "draw": 200, "start": 0.2, "hold": {"sample": 300}},
        {"type": "GMM", "nuisance": "mass", "hidden": [8], "batch": 100, "steps": 1},
    ]
    yield TrainingCase("method/JetVAE/terms", "jets", jet_vae(terms=terms, score="nll", weigh=1.0))
    reversal = [{"type": "Softmax", "nuisance": "mass", "hidden": [8], "update": "reversal", "bins": 5}]
    yield TrainingCase("method/JetVAE/gradient reversal", "jets", jet_vae(terms=reversal))
    yield TrainingCase("method/JetVAE", "jets", jet_vae(), exported=True)
    tuned = jet_vae(start_from="plain", exposure={"type": "KLOE", **always}, score="kl")
    yield TrainingCase("method/JetVAE/fine-tuned", "jets", tuned, pretrained="method/JetVAE")


def group_vae(**change: Any) -> dict[str, Any]:
    """A small variational autoencoder of groups."""
    small = {"hidden": [8]}
    spec = {
        "type": "GroupVAE",
        "latents": {"group": 1, "instance": 2},
        "group_encoder": {"type": "DeepSets", "summands": 4, **small},
        "instance_encoder": small,
        "decoder": {"type": "Network", **small},
        "training": {**SHORT, "batch": 200},
    }
    return {**spec, **change}


def group_cases() -> Iterator[TrainingCase]:
    """Autoencoders of groups, their encoders, decoders and regularisers, and the contextual classifier."""
    small = {"hidden": [8]}
    encoders: dict[str, dict[str, Any]] = {
        "DeepSets": {"type": "DeepSets", "summands": 4, **small},
        "DeepSets/mean": {"type": "DeepSets", "pool": "mean", "summands": 4, **small},
        "Mean": {"type": "Mean", **small},
        "Product": {"type": "Product", **small},
        "Product/prior": {"type": "Product", "prior": True, **small},
        "Product/deviation": {"type": "Product", "precision": "deviation", **small},
    }
    for name, encoder in encoders.items():
        spec = group_vae(group_encoder=encoder)
        exported = name in ("DeepSets/mean", "Product/prior")
        yield TrainingCase(f"group encoder/{name}", "groups", spec, exported=exported)
    critic = {"hidden": [8], "summands": 4, "strength": 2.0}
    regularisers: dict[str, dict[str, Any]] = {
        "Nemeth/itself": {"type": "Nemeth", "itself": True},
        "LeaveOneOut/sum": {"type": "LeaveOneOut", "bound": "sum", "squash": True},
        "LeaveOneOut/group": {"type": "LeaveOneOut", "divisor": "group", "included": True},
        "LeaveOneOut/own batches": {"type": "LeaveOneOut", "batch": 100, "steps": 2, "pairs": 64},
        "LeaveOneOut/start and ramp": {
            "type": "LeaveOneOut",
            "start": 0.3,
            "ramp": 0.3,
            "moves": {"lr": 0.01},
        },
    }
    for name in ("Nemeth", "LeaveOneOut"):
        for update in ("alternating", "reversal"):
            regularisers[f"{name}/{update}"] = {"type": name, "update": update}
    for name, block in regularisers.items():
        yield TrainingCase(f"group regulariser/{name}", "groups", group_vae(regulariser={**critic, **block}))
    settings: dict[str, dict[str, Any]] = {
        "unconditional": {"instance_encoder": {"conditional": False, **small}},
        "summands": {"instance_encoder": {"sees": "summands", **small}},
        "learned variance": {"variance": "learned"},
        "prior of each class": {"instance_prior": "class", "variance": 0.05},
        "some features": {"of": ["moved"], "inputs": {"scale": "robust"}},
    }
    for name, change in settings.items():
        exported = name == "some features"
        yield TrainingCase(f"method/GroupVAE/{name}", "groups", group_vae(**change), exported=exported)
    streamed = {"stream": True}
    yield TrainingCase("method/GroupVAE/streamed", "groups", group_vae(), options=streamed)
    known: dict[str, Any] = {
        "decoder": {"type": "ExamScores", "noise": 0.5},
        "latents": {"group": 2, "instance": 1},
    }
    published: dict[str, tuple[dict[str, Any], bool, dict[str, Any] | str]] = {
        "GVAE": (encoders["Mean"], False, "none"),
        "ML-VAE": (encoders["Product"], False, "none"),
        "Nemeth": (encoders["Mean"], False, {"type": "Nemeth", "update": "reversal", **critic}),
        "CxVAE": (encoders["DeepSets"], True, {"type": "LeaveOneOut", "update": "reversal", **critic}),
    }
    for name, (encoder, conditional, regulariser) in published.items():
        instance = {"conditional": conditional, **small}
        about = {"group_encoder": encoder, "instance_encoder": instance, "regulariser": regulariser}
        spec = group_vae(**about, **known)
        yield TrainingCase(f"exam scores/{name}", "exam scores", spec)
    yield from _contextual_cases()


def _contextual_cases() -> Iterator[TrainingCase]:
    small = {"hidden": [8]}
    representation: dict[str, Any] = {
        "of": ["moved"],
        "latents": {"group": 1, "instance": 1},
        "variance": 0.01,
        "group_encoder": {"type": "DeepSets", "pool": "mean", "summands": 4, **small},
        "instance_encoder": small,
        "decoder": {"type": "Network", **small},
        "training": {**SHORT, "batch": 200},
    }
    spec = {
        "type": "Contextual",
        "representation": representation,
        "network": SMALL_MLP,
        "training": SHORT,
    }
    yield TrainingCase("method/Contextual", "groups", spec, exported=True)
    yield TrainingCase("method/Contextual/group code as input", "groups", {**spec, "told": True})
    terms = [
        {"type": "DisCo", "nuisance": ["group_0"], "given": "signal", "draw": 0, "tail": 0},
        {"type": "DisCo", "nuisance": "shift", "draw": 0},
    ]
    by_class = {**representation, "instance_prior": "class"}
    change = {"terms": terms, "representation": by_class, "told": True, "weigh": 1.0}
    yield TrainingCase("method/Contextual/terms", "groups", {**spec, **change})
    yield TrainingCase("method/Tagger/groups in the table", "groups", tagger(nuisances=["shift"]))


def training_case_list() -> list[TrainingCase]:
    """All training cases."""
    makers = (
        method_cases,
        loss_cases,
        adversary_cases,
        constraint_cases,
        posthoc_cases,
        network_cases,
        training_cases,
        reweighting_cases,
        representation_cases,
        jet_vae_cases,
        group_cases,
    )
    return [case for make in makers for case in make()]


# ------------------------------------------------------------------------------------------ fingerprints


def digest(array: Any) -> str:
    """SHA-256 of the values, shape and type of an array."""
    values = np.ascontiguousarray(array)
    code = hashlib.sha256(f"{values.dtype.str} {values.shape}".encode())
    code.update(values.tobytes())
    return code.hexdigest()[:32]


def digest_all(digests: Sequence[str]) -> str:
    """One digest of several."""
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()[:32]


def flat_numbers(node: Any, path: str = "", left_out: frozenset[str] | set[str] = frozenset()) -> Iterator[
    tuple[str, float]
]:  # fmt: skip
    """Numbers of a JSON document in its order, each with its path.

    Args:
        node: The document, or a part of it.
        path: Path of the part.
        left_out: Keys below which nothing is looked at.

    Yields:
        Paths and numbers; booleans count as 0 and 1.
    """
    if isinstance(node, Mapping):
        for key, value in node.items():
            if str(key) not in left_out:
                yield from flat_numbers(value, f"{path}/{key}", left_out)
    elif isinstance(node, list | tuple):
        for index, value in enumerate(node):
            yield from flat_numbers(value, f"{path}/{index}", left_out)
    elif isinstance(node, bool | int | float | np.number):
        yield path, float(node)


def number_digest(numbers: Sequence[float]) -> str:
    """Digest of numbers regardless of their order."""
    return digest(np.sort(np.asarray(numbers, dtype=np.float64)))


class Record:
    """What is recorded of a case: named digests and named numbers."""

    def __init__(self) -> None:
        self.digests: dict[str, str] = {}
        self.numbers: dict[str, float] = {}

    def add_logits(self, name: str, logits: NDArray[Any]) -> None:
        """Digest, mean and deviation of logits."""
        self.digests[name] = digest(logits)
        self.numbers[f"{name} mean"] = float(np.mean(logits, dtype=np.float64))
        self.numbers[f"{name} deviation"] = float(np.std(logits, dtype=np.float64))

    def to_json(self) -> dict[str, Any]:
        """The record as plain data."""
        return {"digests": self.digests, "numbers": self.numbers}


def graph_session(path: Path) -> Any:
    """An ONNX Runtime session of a graph in one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def graph_inputs(session: Any, sample: Sample, spec: Mapping[str, Any], rows: int = 200) -> dict[str, Any]:
    """Inputs of a tagger's graph: the first rows of a sample, and drawn codes of groups."""
    arrays = {name: values[:rows] for name, values in sample.arrays.items()}
    features = spec.get("features", sample.features)
    nuisances = spec.get("nuisances", sample.nuisances)
    constituents = spec.get("constituents", sample.constituents)
    draw = np.random.default_rng(23)
    fed: dict[str, Any] = {}
    for given in session.get_inputs():
        if given.name == FEATURES_INPUT:
            value = np.stack([arrays[name] for name in features], 1)
        elif given.name == NUISANCES_INPUT:
            width = given.shape[1]
            value = np.stack([arrays[name] for name in _mapped_nuisances(spec, nuisances)[:width]], 1)
        elif given.name == CONSTITUENTS_INPUT:
            value = np.stack([arrays[f"{PREFIX}{name}"] for name in constituents], 2)
        elif given.name == MASK_INPUT:
            length = arrays[f"{PREFIX}{constituents[0]}"].shape[1]
            value = np.arange(length) < arrays[COUNT_COLUMN][:, None]
        elif given.name == CONTEXT_INPUT:
            value = draw.normal(size=(rows, given.shape[1]))
        else:
            raise KeyError(f"the graph has an input {given.name!r} that this script does not know")
        fed[given.name] = np.asarray(value, dtype=np.float32)
    return fed


def _mapped_nuisances(spec: Mapping[str, Any], nuisances: Sequence[str]) -> list[str]:
    """Nuisances that the maps of the score take, each once, in order."""
    block = spec.get("posthoc", [])
    block = block["maps"] if isinstance(block, Mapping) else block
    named = [one.get("nuisance", ()) for one in block]
    flat = [name for names in named for name in ([names] if isinstance(names, str) else names)]
    return list(dict.fromkeys(flat)) or list(nuisances)


def record_folder(record: Record, folder: Path, sample: Sample, spec: Mapping[str, Any]) -> None:
    """Record the graphs, arrays and card of an exported tagger.

    Args:
        record: Where to.
        folder: The tagger's folder.
        sample: The sample it was trained on.
        spec: The tagger's block of the YAML.
    """
    session = graph_session(folder / TAGGER_FILE)
    names = [output.name for output in session.get_outputs()]
    outputs = session.run(names, graph_inputs(session, sample, spec))
    record.add_logits("ONNX logit", outputs[names.index(LOGIT_OUTPUT)])
    for index, output in enumerate(outputs):
        record.digests[f"ONNX output {index}"] = digest(output)
    others = []
    for path in sorted(folder.glob("*.onnx")):
        if path.name != TAGGER_FILE:
            others += [digest(output) for output in _outputs_of_drawn(graph_session(path))]
    if others:
        record.digests["other ONNX graphs"] = digest_all(sorted(others))
    arrays = []
    for path in sorted(folder.glob("*.npz")):
        with np.load(path, allow_pickle=False) as stored:
            arrays += [digest(v) for v in stored.values() if v.dtype.kind in "fiub"]
    if arrays:
        record.digests["arrays beside the graph"] = digest_all(sorted(arrays))
    for path in sorted(folder.glob("*.json")):
        numbers = [value for _, value in flat_numbers(json.loads(path.read_text()))]
        record.digests["numbers of JSON files"] = number_digest(numbers)
        formulas = re.findall(r"-?\d+\.\d+(?:e-?\d+)?", path.read_text())
        record.digests["formulas of JSON files"] = number_digest([float(one) for one in formulas])
    card = yaml.safe_load((folder / CARD_FILE).read_text())
    for path_in_card, value in flat_numbers(card, left_out=CARD_LEFT_OUT):
        record.numbers[f"card{path_in_card}"] = value


def _outputs_of_drawn(session: Any, rows: int = 64) -> list[NDArray[Any]]:
    """Outputs of a graph for drawn inputs; one-dimensional inputs are numbers of events."""
    draw = np.random.default_rng(29)
    fed = {}
    for given in sorted(session.get_inputs(), key=lambda one: (len(one.shape), str(one.shape))):
        shape = [size if isinstance(size, int) else rows for size in given.shape]
        value = draw.normal(size=shape) if len(shape) > 1 else draw.integers(5, 40, shape)
        fed[given.name] = np.asarray(value, dtype=np.float32)
    return [np.asarray(output) for output in session.run(None, fed)]


class Workspace:
    """Folders and synthetic samples that cases share."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._samples: dict[str, Sample] = {}

    def sample(self, name: str) -> Sample:
        """The synthetic sample of this name, made on first use."""
        if name not in self._samples:
            self._samples[name] = SAMPLES[name](self.folder / "tables" / name.replace(" ", "_"))
        return self._samples[name]

    def tagger_folder(self, case: str) -> Path:
        """Where the exported tagger of a case goes."""
        return self.folder / "taggers" / re.sub(r"\W+", "_", case)


def run_training_case(case: TrainingCase, workspace: Workspace) -> Record:
    """Train, export where the case says so, and record."""
    sample = workspace.sample(case.sample)
    options = dict(case.options)
    if case.pretrained:
        folder = workspace.tagger_folder(case.pretrained)
        if not folder.is_dir():
            first = next(one for one in training_case_list() if one.name == case.pretrained)
            run_training_case(first, workspace)
        options["origin"] = folder
    torch.manual_seed(0)
    trained = train(case.spec, sample.table, **options)
    record = Record()
    tensors = [digest(t.detach().cpu().float().numpy()) for t in weights_of(trained)]
    record.digests["weights"] = digest_all(tensors)
    record.digests["weights in any order"] = digest_all(sorted(tensors))
    record.numbers["tensors"] = len(tensors)
    record.add_logits("logit", validation_logits(trained))
    for index, output in enumerate(outputs_of(trained)):
        record.digests[f"output {index}"] = digest(output)
    curves = [value for _, value in flat_numbers(history_of(trained), left_out=REPORT_LEFT_OUT)]
    record.digests["loss curves"] = number_digest(curves)
    record.numbers["numbers in loss curves"] = len(curves)
    if case.exported:
        nuisances = case.spec.get("nuisances", sample.nuisances)
        folder = export(trained, workspace.tagger_folder(case.name), sample.table, nuisances)
        record_folder(record, folder, sample, case.spec)
    return record


# ---------------------------------------------------------------------- analyses from files to a report

QUICK: dict[str, Any] = {"epochs": 1, "batch": 512}
SERIAL: dict[str, Any] = {
    "running.executor": "iterative",
    "training.jobs": 1,
    "training.threads": 1,
    "training.device": "cpu",
}


def settings(values: Mapping[str, Any]) -> list[str]:
    """Arguments `--set KEY=VALUE` of dotted keys, with today's names.

    Args:
        values: Values by dotted key; a tagger's block ends in `taggers.NAME` or further keys.

    Returns:
        Arguments of the command line.
    """
    arguments = []
    for dotted, value in values.items():
        keys = dotted.split(".")
        for index, key in enumerate(keys):
            parent = keys[index - 1] if index else ""
            candidates = (f"{parent}.{key}", key)
            keys[index] = next((RENAMED_KEYS[c] for c in candidates if c in RENAMED_KEYS), key)
        written = yaml.safe_dump(
            rename(value, dotted.rpartition(".")[2]), default_flow_style=True, width=10**6
        ).removesuffix("...\n")
        arguments += ["--set", f"{'.'.join(keys)}={written.strip()}"]
    return arguments


LAUNCHER = """\
import hashlib, json, sys
import matplotlib
matplotlib.use("agg")
import numpy as np
from matplotlib.figure import Figure

commands, figures, seen, save = json.loads(sys.argv[1]), sys.argv[2], set(), Figure.savefig


def numbers(figure):
    for axes in figure.axes:
        yield from (line.get_xydata() for line in axes.lines)
        yield from (path.vertices for one in axes.collections for path in one.get_paths())
        yield from (np.ma.getdata(one.get_offsets()) for one in axes.collections)
        yield from (patch.get_path().vertices for patch in axes.patches)
        yield from (np.ma.getdata(image.get_array()) for image in axes.images)


def savefig(figure, *args, **kwargs):
    if id(figure) not in seen:
        seen.add(id(figure))
        kept.append(figure)
        code = hashlib.sha256()
        for array in numbers(figure):
            code.update(np.ascontiguousarray(array, dtype=float).round(12).tobytes())
        with open(figures, "a") as out:
            out.write(code.hexdigest()[:32] + "\\n")
    return save(figure, *args, **kwargs)


kept = []
Figure.savefig = savefig
Figure.draw = lambda figure, renderer: None
from %s import main
for command in commands:
    sys.argv = ["hepdecorr", *command]
    try:
        main()
    except SystemExit as end:
        if end.code:
            sys.exit(f"{' '.join(command[:2])}: code {end.code}")
"""


def run_commands(folder: Path, *commands: Sequence[str | Path]) -> None:
    """Run commands of hepdecorr one after the other, in one other process.

    Figures are made but not drawn, which would take most of the time; digests of the numbers in them go to
    the file `figures`.

    Args:
        folder: The working folder.
        *commands: Arguments of each command.

    Raises:
        RuntimeError: Where a command fails, with its last messages.
    """
    written = json.dumps([[str(word) for word in command] for command in commands])
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    done = subprocess.run(
        [sys.executable, "-c", LAUNCHER % CLI_MODULE, written, str(folder / "figures")],
        capture_output=True,
        text=True,
        cwd=folder,
        check=False,
        env={**os.environ, "PYTHONPATH": path},
    )
    if done.returncode:
        said = re.sub(r"\s+", " ", done.stdout[-500:] + done.stderr[-1500:])
        raise RuntimeError(f"code {done.returncode}: {said}")


def record_table(record: Record, name: str, folder: Path) -> None:
    """Digest of every column of every dataset, with files in the order of their first events."""
    for dataset in sorted(path for path in folder.iterdir() if path.is_dir()):
        files = [pyarrow.parquet.read_table(path) for path in sorted(dataset.glob("*.parquet"))]
        files = [one for one in files if one.num_rows]
        if not files:
            continue
        names = files[0].column_names
        if "event" in names:
            files.sort(
                key=lambda one: (one["run"][0].as_py() if "run" in names else 0, one["event"][0].as_py())
            )
        for column in names:
            parts = [ak.to_numpy(ak.flatten(ak.from_arrow(one[column]), axis=None)) for one in files]
            record.digests[f"{name}/{dataset.name}/{column}"] = digest(np.concatenate(parts))


def record_analysis(record: Record, name: str, folder: Path) -> None:
    """Record the table, scores, histograms, cards and numbers of reports below an analysis's folder.

    Args:
        record: Where to.
        name: What the paths of the record begin with.
        folder: Holds `out` and, where taggers were trained, `models`.
    """
    out = folder / "out"
    for part in (TABLE_FOLDER, SCORES_FOLDER):
        if (out / part).is_dir():
            record_table(record, f"{name}/{part}", out / part)
    if (out / HISTOGRAM_FILE).is_file():
        for index, (quantity, histogram) in enumerate(load_histograms(out / HISTOGRAM_FILE).items()):
            prefix = f"{name}/histogram {index} of {quantity}"
            record.digests[f"{prefix}: values"] = digest(histogram.values(flow=True))
            record.digests[f"{prefix}: variances"] = digest(histogram.variances(flow=True))
            record.numbers[f"{prefix}: sum"] = float(histogram.values(flow=True).sum())
    for path in sorted(out.rglob("*.json")):
        if path.name in ("stamp.json", "manifest.json") or "measured" in path.parts:
            continue
        where = f"{name}/{path.relative_to(out)}"
        for inside, value in flat_numbers(json.loads(path.read_text()), left_out=REPORT_LEFT_OUT):
            record.numbers[f"{where}{inside}"] = value
    if (folder / "figures").is_file():
        for index, line in enumerate((folder / "figures").read_text().split()):
            record.digests[f"{name}/figure {index}"] = line
    for path in sorted((folder / "models").glob(f"*/{CARD_FILE}")):
        card = yaml.safe_load(path.read_text())
        for inside, value in flat_numbers(card, left_out=CARD_LEFT_OUT):
            record.numbers[f"{name}/{path.parent.name}/card{inside}"] = value


def analysis_folder(workspace: Workspace, name: str) -> Path:
    """A new folder for an analysis."""
    folder = workspace.folder / "analyses" / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def outputs(folder: Path) -> dict[str, Any]:
    """Where the outputs of an analysis go, and how it runs."""
    return {"output": str(folder / "out"), "models": str(folder / "models"), **SERIAL}


def write_tree(path: Path, columns: Mapping[str, Any]) -> None:
    """Write a tree `Events` of arrays and of awkward records, one counter for each collection."""
    types = {
        name: value.dtype if isinstance(value, np.ndarray) else ak.type(value).content
        for name, value in columns.items()
    }
    with uproot.recreate(path) as file:
        file.mktree("Events", types).extend(dict(columns))


def copy_builtin(name: str, path: Path, *, stop: int) -> None:
    """Copy the first events of a file that ships with the package."""
    with uproot.open(builtin_files()[name]) as file:
        tree = file["Events"]
        collections = ("Track", "Photon")
        prefixes = tuple(f"{one}_" for one in collections)
        counters = tuple(f"n{one}" for one in collections)
        flat = [key for key in tree.keys() if key not in counters and not key.startswith(prefixes)]  # noqa: SIM118
        columns = dict(tree.arrays(flat, entry_stop=stop, library="np"))
        for one in collections:
            arrays = tree.arrays(filter_name=f"{one}_*", entry_stop=stop)
            columns[one] = ak.zip({f.removeprefix(f"{one}_"): arrays[f] for f in arrays.fields})
    write_tree(path, columns)


def run_bsgamma(workspace: Workspace) -> Record:
    """B -> K* gamma from a part of the built-in sample to the report, then a scan and a comparison."""
    folder, record = analysis_folder(workspace, "bsgamma"), Record()
    copy_builtin("bsgamma_signal.root", folder / "signal.root", stop=2000)
    copy_builtin("bsgamma_continuum.root", folder / "continuum.root", stop=4000)
    config = ROOT / "analysis_configs" / "bsgamma_methods.yaml"
    changes = {
        "samples.datasets.signal.files": str(folder / "signal.root"),
        "samples.datasets.continuum.files": str(folder / "continuum.root"),
        "nuisances.m_bc.bins": 20,
        "working_points": [0.5, 0.9],
        "taggers.disco_map.training": QUICK,
        "taggers.double.training": QUICK,
        **outputs(folder),
    }
    arguments = settings(changes)
    only = ["--only", "disco_map", "--only", "double"]
    run_commands(folder, ["run", config, *only, *arguments])
    record_analysis(record, "run", folder)
    return record


TOY_TAGGERS = {
    "taggers.plain.training": {"epochs": 4, "batch": 128},
    "taggers.conditional.training": {"epochs": 1, "batch": 256},
    "taggers.conditional.terms.0.steps": 1,
}


def run_toys(workspace: Workspace) -> Record:
    """A generated toy to the report, then a scan of a strength and the comparison of the taggers."""
    folder, record = analysis_folder(workspace, "toys"), Record()
    processes = ("discrete", "louppe", "regression", "unused", "slides", "zgubic")
    generate = ("generate", "toys", "--events", "2000", "--process")
    made = [(*generate, process, "--out", f"{process}.root") for process in processes]
    run_commands(folder, *made)
    for process in processes:
        with uproot.open(folder / f"{process}.root") as file:
            arrays = file["Events"].arrays(library="np")
            for name in sorted(arrays):
                record.digests[f"generated/{process}/{name}"] = digest(arrays[name])
    config = ROOT / "analysis_configs" / "toys" / "discrete.yaml"
    files = {
        f"samples.datasets.{name}.files": str(folder / "discrete.root") for name in ("signal", "background")
    }
    arguments = settings({**files, **TOY_TAGGERS, **outputs(folder)})
    only = ["--only", "plain", "--only", "conditional"]
    varied = rename({"terms": {"strength": 0}})
    (terms,), (strength,) = varied, varied[next(iter(varied))]
    over = f"{terms}.0.{strength}=1,5"
    run_commands(
        folder,
        ["run", config, *only, *arguments],
        ["compare", config, *only, *arguments],
        ["scan", config, "--tagger", "conditional", "--over", over, *arguments],
    )
    record_analysis(record, "run", folder)
    return record


def run_exam_scores(workspace: Workspace) -> Record:
    """Generated exam scores: table, training, and the measures of the codes of groups."""
    folder, record = analysis_folder(workspace, "exam_scores"), Record()
    config = ROOT / "analysis_configs" / "exam_scores.yaml"
    changes: dict[str, Any] = {
        "samples.datasets.schools.files": str(folder / "exam_scores.root"),
        "seeds": [1],
        "taggers.cxvae.training": {"epochs": 2, "batch": 1024, "keep": "last"},
        "taggers.gvae.training": {"epochs": 2, "batch": 1024, "keep": "last"},
        "report.codes": {"both": ["cxvae", "gvae"]},
        **outputs(folder),
    }
    arguments = settings(changes)
    only = ["--only", "cxvae", "--only", "gvae"]
    run_commands(
        folder,
        ["generate", "exam-scores", "--groups", "300", "--out", "exam_scores.root"],
        ["table", config, *arguments],
        ["train", config, *only, *arguments],
        ["groups", config, *only, *arguments],
    )
    record_analysis(record, "run", folder)
    return record


RUNS_CONFIG: dict[str, Any] = {
    "name": "runs",
    "groups": {"of": "run"},
    "samples": {
        "schema": "BaseSchema",
        "datasets": {
            "b": {"files": ["b_*.root"], "label": "background"},
            "s": {"files": ["s_*.root"], "label": "signal"},
        },
    },
    "nuisances": {
        "mass": {"low": -3, "high": 3, "bins": 20, "slices": [-3, 0, 3]},
        "shift": {"low": -6, "high": 6, "bins": 20, "protected": False},
    },
    "features": ["x", "y"],
    "split": {"folds": 6, "validation": [0], "test": [1, 2, 3]},
    "working_points": [0.5, 0.9],
    "shifts": {"up": "shifts.py:up"},
    "taggers": {
        "plain": {"type": "Tagger", "network": SMALL_MLP, "training": {"epochs": 2, "batch": 200}},
        "contextual": {
            "type": "Contextual",
            "representation": {
                "latents": {"group": 1, "instance": 2},
                "group_encoder": {"type": "Mean", "hidden": [16]},
                "training": {"epochs": 3, "batch": 200},
            },
            "network": SMALL_MLP,
            "training": {"epochs": 2, "batch": 200},
        },
    },
    "running": {"chunksize": 700},
}
SHIFT_FUNCTION = """\
import awkward as ak


def up(events):
    return ak.with_field(events, events["x"] + 0.5, "x")
"""


def write_config(path: Path, content: Mapping[str, Any], processors: Mapping[str, str]) -> None:
    """Write the YAML of an analysis with today's names, and the processors of the checkout."""
    where = {verb: f"{ROOT / 'processors'}/{place}" for verb, place in processors.items()}
    path.write_text(yaml.safe_dump({**rename(content), **rename({"processors": where})}, sort_keys=False))


PROCESSORS = {"table": "training_table.py:TrainingTable", "evaluate": "sculpting.py:Sculpting"}
GROUP_PROCESSORS = {**PROCESSORS, "groups": "group_codes.py:FirstPass"}


def run_groups(workspace: Workspace) -> Record:
    """Runs with a hidden shift: two passes over ROOT files and the report between groups."""
    folder, record = analysis_folder(workspace, "groups"), Record()
    for k, name in enumerate(("b", "s")):
        draw = np.random.default_rng(k + 1)
        rows = 1200
        run = draw.integers(0, 40, rows)
        shift = np.random.default_rng(0).normal(size=40)[run] * 2
        mass = draw.normal(size=rows)
        columns = {
            "run": (run * 1000 + 300_001).astype("u4"),
            "luminosityBlock": np.ones(rows, "u4"),
            "event": np.arange(rows, dtype="u8") + 10**6 * k,
            "x": (shift + k + 0.5 * draw.normal(size=rows) + 0.2 * mass).astype("f4"),
            "y": (shift + 0.5 * draw.normal(size=rows)).astype("f4"),
            "mass": mass.astype("f4"),
            "shift": shift.astype("f4"),
        }
        for part in range(2):
            write_tree(folder / f"{name}_{part}.root", {key: v[part::2] for key, v in columns.items()})
    (folder / "shifts.py").write_text(SHIFT_FUNCTION)
    write_config(folder / "runs.yaml", RUNS_CONFIG, GROUP_PROCESSORS)
    arguments = settings(outputs(folder))
    run_commands(
        folder, ["run", "runs.yaml", *arguments], ["groups", "runs.yaml", "--only", "contextual", *arguments]
    )
    record_analysis(record, "run", folder)
    return record


def jet_events(events: int, *, prongs: int, seed: int, mass: float, start: int) -> dict[str, Any]:
    """Events of one or two large-radius jets and their constituents, as in PFNano.

    Args:
        events: Number of events.
        prongs: Subjets of a jet.
        seed: Of the random numbers.
        mass: Scale of the jets' mass in GeV.
        start: Number of the first event.

    Returns:
        Branches of events, and records FatJet, PFCands and FatJetPFCands.
    """
    draw = np.random.default_rng(seed)
    number = draw.integers(1, 3, events)
    jets = int(number.sum())
    length = draw.integers(6, 30, jets)
    jet = np.repeat(np.arange(jets), length)
    total = len(jet)
    pt = draw.uniform(480, 720, jets)
    share = draw.exponential(size=total) ** 2 + 1e-3
    share /= np.bincount(jet, share, jets)[jet]
    scale = mass * draw.uniform(0.5, 1.5, jets) / pt
    prong = draw.integers(0, prongs, total)
    angle = draw.uniform(0, 2 * np.pi, jets)[jet] + 2 * np.pi * prong / prongs
    apart = (1.5 if prongs > 1 else 0.0) * scale[jet]
    blur = draw.normal(size=(2, total)) * (0.3 if prongs > 1 else 1.0) * scale[jet]
    axis = draw.uniform(-1.5, 1.5, jets)[jet], draw.uniform(-2.5, 2.5, jets)[jet]
    eta = (axis[0] + apart * np.cos(angle) + blur[0]).astype("f4")
    phi = (axis[1] + apart * np.sin(angle) + blur[1]).astype("f4")
    phi = ((phi + np.pi) % (2 * np.pi) - np.pi).astype("f4")
    kind = draw.integers(0, 4, total)
    candidate = {
        "pt": (share * pt[jet]).astype("f4"),
        "eta": eta,
        "phi": phi,
        "mass": np.array([0.13957, 0.13957, 0.0, 0.49761], "f4")[kind],
        "pdgId": np.array([211, -211, 22, 130], "i4")[kind],
        "charge": np.array([1, -1, 0, 0], "i4")[kind],
        "puppiWeight": np.ones(total, "f4"),
        "dz": np.zeros(total, "f4"),
    }
    p = {key: candidate[key].astype(float) for key in ("pt", "eta", "phi", "mass")}
    parts = {
        "x": p["pt"] * np.cos(p["phi"]),
        "y": p["pt"] * np.sin(p["phi"]),
        "z": p["pt"] * np.sinh(p["eta"]),
    }
    parts["e"] = np.sqrt(sum(v**2 for v in parts.values()) + p["mass"] ** 2)
    total_p = {key: np.bincount(jet, v, jets) for key, v in parts.items()}
    jet_pt = np.hypot(total_p["x"], total_p["y"])
    squared = total_p["e"] ** 2 - total_p["x"] ** 2 - total_p["y"] ** 2 - total_p["z"] ** 2
    tau = np.cumprod(draw.uniform(0.4, 0.9, (4, jets)), axis=0) * 0.3
    flavour = {1: 0, 2: 24, 3: 6, 4: 35}[prongs]
    fields = {
        "pt": jet_pt.astype("f4"),
        "eta": np.arcsinh(total_p["z"] / jet_pt).astype("f4"),
        "phi": np.arctan2(total_p["y"], total_p["x"]).astype("f4"),
        "mass": np.sqrt(np.maximum(squared, 0)).astype("f4"),
        "msoftdrop": np.maximum(draw.normal(mass, 8, jets), 0).astype("f4"),
        **{f"tau{k + 1}": tau[k].astype("f4") for k in range(4)},
        "rawFactor": np.zeros(jets, "f4"),
        "genFlavour": np.full(jets, flavour, "i4"),
        "nMatchedQuarks": np.full(jets, prongs if prongs > 1 else 0, "i4"),
        "nConstituents": length.astype("i4"),
    }
    event = np.repeat(np.repeat(np.arange(events), number), length)
    each = np.bincount(event, minlength=events)
    first = np.cumsum(number) - number
    links = {
        "jetIdx": (jet - first[event]).astype("i4"),
        "pFCandsIdx": (np.arange(total) - np.repeat(np.cumsum(each) - each, each)).astype("i4"),
    }
    # Jets are in order of the transverse momentum in files of CMS.
    rank = np.lexsort((-fields["pt"], np.repeat(np.arange(events), number)))
    place = np.empty(jets, int)
    place[rank] = np.arange(jets)
    links["jetIdx"] = (place[jet] - first[event]).astype("i4")
    return {
        "run": np.ones(events, "u4"),
        "luminosityBlock": (np.arange(start, start + events) // 100 + 1).astype("u4"),
        "event": np.arange(start, start + events, dtype="u8"),
        "genWeight": (draw.integers(1, 5, events) / 2).astype("f4"),
        "FatJet": ak.unflatten(ak.zip({key: v[rank] for key, v in fields.items()}), number),
        "PFCands": ak.unflatten(ak.zip(candidate), each),
        "FatJetPFCands": ak.unflatten(ak.zip(links), each),
    }


JETS_CONFIG: dict[str, Any] = {
    "name": "jets",
    "samples": {
        "schema": "PFNanoAODSchema",
        "datasets": {
            "w": {
                "files": "w.root",
                "label": "signal",
                "selection": [{"feature": "FatJet.genFlavour", "any_of": [24]}],
            },
            "qcd": {"files": ["qcd_0.root", "qcd_1.root"], "label": "background"},
        },
    },
    "objects": {"collection": "FatJet", "leading": 2},
    "constituents": {"length": 16, "features": ["log_pt", "pt_rel", "deta", "dphi", "dr", "charge"]},
    "features": [
        "jet_mass", "n_constituents", "softdrop_mass", "tau21", "tau32", "c2", "d2", "n2", "split12",
        "zcut12", "kt_dr", "planar_flow", "jet_r2", "jet_aplanarity",
    ],
    "selection": [{"feature": "jet_pt", "min": 400}],
    "weights": ["genWeight"],
    "nuisances": {
        "mass": {"feature": "jet_mass", "low": 0, "high": 300, "bins": 20},
        "pt": {
            "feature": "jet_pt", "low": 400, "high": 1000, "protected": False, "slices": [400, 600, 1000],
            "bins": 20,
        },
    },
    "working_points": [0.5, 0.9],
    "taggers": {
        "deepsets": {
            "type": "Tagger",
            "network": {"type": "DeepSets", "phi": [8], "hidden": [8], "pools": 2},
            "terms": [{"type": "DisCo", "nuisance": "mass", "strength": 1, "start": 0.5}],
            "reweight": {"nuisances": ["mass"], "of": "background", "to": "signal", "cap": 20},
            "training": {"epochs": 2, "batch": 256},
        },
        "high_level": {
            "type": "Tagger",
            "constituents": [],
            "network": SMALL_MLP,
            "training": {"epochs": 2, "batch": 256},
        },
    },
    "shifts": {
        "scale_up": {"type": "JetEnergyScale", "factor": 1.05},
        "candidates_up": {"type": "ConstituentScale", "factor": 1.05},
    },
    "report": {"mapped": ["high_level"]},
    "running": {"chunksize": 1000},
}  # fmt: skip


def run_jets(workspace: Workspace) -> Record:
    """Jets with constituents in the layout of PFNano to the report, with systematic shifts."""
    folder, record = analysis_folder(workspace, "jets"), Record()
    for name, prongs, seed in (("w", 2, 1), ("qcd_0", 1, 2), ("qcd_1", 1, 3)):
        made = jet_events(600, prongs=prongs, seed=seed, mass=80, start=10_000 * seed)
        write_tree(folder / f"{name}.root", made)
    write_config(folder / "jets.yaml", JETS_CONFIG, PROCESSORS)
    run_commands(folder, ["run", "jets.yaml", *settings(outputs(folder))])
    record_analysis(record, "run", folder)
    return record


ANOMALY_FILES = {
    "qcd": (1, 500, 60.0),
    "qcd_test": (1, 250, 60.0),
    "outliers": (2, 300, 120.0),
    "w59": (2, 60, 59.0),
    "w80": (2, 60, 80.0),
    "w120": (2, 60, 120.0),
    "top80": (3, 60, 80.0),
    "top174": (3, 60, 174.0),
    "h4j20": (4, 60, 160.0),
    "h4j80": (4, 60, 170.0),
}


def run_anomaly(workspace: Workspace) -> Record:
    """The shipped analysis of anomalous jets on synthetic jets, and jets made from draws of its prior."""
    folder, record = analysis_folder(workspace, "anomaly"), Record()
    changes: dict[str, Any] = {}
    for seed, (name, (prongs, events, mass)) in enumerate(ANOMALY_FILES.items()):
        made = jet_events(events, prongs=prongs, seed=30 + seed, mass=mass, start=10_000 * seed)
        write_tree(folder / f"{name}.root", {k: v for k, v in made.items() if k != "genWeight"})
        changes[f"samples.datasets.{name}.files"] = str(folder / f"{name}.root")
    config = ROOT / "analysis_configs" / "anomaly.yaml"
    training = {"epochs": 2, "batch": 250, "lr": 1e-3}
    changes |= {
        "features": ["jet_mass", "jet_pt", "n_constituents"],
        "taggers.kl_oe.training": training,
        "taggers.kl_oe.exposure.anneal": {"shape": "linear", "rise": 1},
        "scores": {"kl_oe": ["mse", "density", "emd"]},
        "report.spectra": {"KL": ["kl_oe", "kl_oe.mse"]},
        "working_points": [0.5, 0.9],
        **outputs(folder),
    }
    # The other taggers have features of their own, which this sample does not compute.
    changes["taggers.beyond.features"] = changes["taggers.beyond.condition"] = ["jet_mass", "jet_pt"]
    arguments = settings(changes)
    only = ["--only", "kl_oe", *arguments]
    run_commands(folder, ["run", config, *only], ["imagine", config, "--jets", "200", *only])
    record_analysis(record, "run", folder)
    return record


def collision_events(events: int, *, seed: int) -> dict[str, Any]:
    """Events with muons, jets and missing momentum, as in NanoAOD."""
    draw = np.random.default_rng(seed)
    muons, jets = draw.integers(1, 4, events), draw.integers(2, 6, events)
    n, m = int(muons.sum()), int(jets.sum())
    muon = {
        "pt": -np.sort(-draw.exponential(30, n)).astype("f4")[draw.permutation(n)] + np.float32(20),
        "eta": draw.normal(size=n).astype("f4"),
        "phi": draw.uniform(-3.1, 3.1, n).astype("f4"),
        "mass": np.full(n, 0.1056584, "f4"),
        "pfRelIso04_all": draw.uniform(0, 0.3, n).astype("f4"),
        "charge": draw.choice([-1, 1], n).astype("i4"),
        "mediumId": draw.random(n) < 0.95,
    }
    jet = {
        "pt": (20 + draw.exponential(60, m)).astype("f4"),
        "eta": draw.normal(size=m).astype("f4"),
        "phi": draw.uniform(-3.1, 3.1, m).astype("f4"),
        "mass": draw.uniform(5, 15, m).astype("f4"),
        "btagged": draw.random(m) < 0.6,
    }
    return {
        "run": np.ones(events, "u4"),
        "luminosityBlock": np.ones(events, "u4"),
        "event": np.arange(events, dtype="u8") + 10_000 * seed,
        "genWeight": draw.uniform(0.5, 1.5, events).astype("f4"),
        "PuppiMET_pt": (100 + draw.exponential(60, events)).astype("f4"),
        "PuppiMET_phi": draw.uniform(-3.1, 3.1, events).astype("f4"),
        "Muon": ak.unflatten(ak.zip(muon), muons),
        "Jet": ak.unflatten(ak.zip(jet), jets),
    }


def run_collisions(workspace: Workspace) -> Record:
    """Training tables of the shipped analyses of H -> mu mu and H -> b b, on synthetic NanoAOD."""
    record = Record()
    datasets = {"hmumu": ("signal", "dy"), "hbb": ("zh", "zbb", "zz")}
    for name, processes in datasets.items():
        folder = analysis_folder(workspace, name)
        changes: dict[str, Any] = outputs(folder)
        for seed, process in enumerate(processes):
            write_tree(folder / f"{process}.root", collision_events(1500, seed=40 + seed))
            changes[f"samples.datasets.{process}.files"] = str(folder / f"{process}.root")
        config = ROOT / "analysis_configs" / f"{name}.yaml"
        run_commands(folder, ["table", config, *settings(changes)])
        record_analysis(record, name, folder)
    return record


def run_shipped_tagger(workspace: Workspace) -> Record:  # noqa: ARG001
    """Logits of the tagger that ships with the package, on drawn features."""
    record = Record()
    folder = ROOT / "models" / "builtin" / "bsgamma-disco-1"
    session = graph_session(folder / TAGGER_FILE)
    (given,) = session.get_inputs()
    x = np.random.default_rng(31).normal(size=(200, given.shape[1])).astype(np.float32)
    (logits,) = session.run([LOGIT_OUTPUT], {given.name: x})
    record.add_logits("ONNX logit", logits)
    for path, value in flat_numbers(yaml.safe_load((folder / CARD_FILE).read_text()), left_out=CARD_LEFT_OUT):
        record.numbers[f"card{path}"] = value
    return record


ANALYSES: dict[str, Callable[[Workspace], Record]] = {
    "analysis/bsgamma": run_bsgamma,
    "analysis/toys": run_toys,
    "analysis/exam scores": run_exam_scores,
    "analysis/groups": run_groups,
    "analysis/jets": run_jets,
    "analysis/anomaly": run_anomaly,
    "analysis/hmumu and hbb tables": run_collisions,
    "tagger/shipped": run_shipped_tagger,
}


# ------------------------------------------------------------------------------------ run and comparison


def all_cases() -> dict[str, Callable[[Workspace], Record]]:
    """Every case by name, as a function of the workspace."""
    cases: dict[str, Callable[[Workspace], Record]] = {}
    for case in training_case_list():
        if case.name in cases:
            raise ValueError(f"two cases are called {case.name!r}")
        cases[case.name] = lambda workspace, case=case: run_training_case(case, workspace)  # type: ignore[misc]
    return cases | ANALYSES


def run_cases(names: Sequence[str], workspace: Workspace, *, quiet: bool) -> dict[str, Any]:
    """Run cases and collect their records; a failure is recorded with its message.

    Args:
        names: Which cases.
        workspace: Folders and samples.
        quiet: Whether to print nothing but failures.

    Returns:
        Records by name, each with its time in seconds.
    """
    cases, records = all_cases(), dict[str, Any]()
    for name in names:
        start = time.monotonic()
        try:
            records[name] = cases[name](workspace).to_json()
        except Exception as error:  # one case is not to stop the others
            records[name] = {"error": f"{type(error).__name__}: {error}"[:2000]}
            print(f"FAILED {name}: {type(error).__name__}: {str(error)[:300]}", file=sys.stderr)
            if os.environ.get("REGRESSION_TRACEBACK"):
                traceback.print_exc()
        records[name]["seconds"] = round(time.monotonic() - start, 2)
        if not quiet:
            print(f"{records[name]['seconds']:7.2f} s  {name}", flush=True)
    return records


class Difference(NamedTuple):
    """How a case compares with its earlier record.

    Attributes:
        status: 'equal', 'different', 'missing', 'new', or 'failed' where either run has failed.
        detail: What differs, and by how much.
    """

    status: str
    detail: str = ""


def compare_records(old: Mapping[str, Any] | None, new: Mapping[str, Any] | None) -> Difference:
    """Compare two records of a case."""
    if old is None:
        return Difference("new", "not in the earlier recording")
    if new is None:
        return Difference("missing", "not in this recording")
    if "error" in old or "error" in new:
        if "error" in old and "error" in new:
            same = old["error"] == new["error"]
            return Difference("equal" if same else "failed", f"fails in both: {new['error'][:150]}")
        return Difference(
            "failed", f"before: {old.get('error', 'ran')[:100]}; now: {new.get('error', 'ran')[:200]}"
        )
    found = [*_compare_digests(old["digests"], new["digests"])]
    found += _compare_numbers(old["numbers"], new["numbers"])
    return Difference("different", "; ".join(found)) if found else Difference("equal")


def _compare_digests(old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[str]:
    common = [name for name in old if name in new]
    changed = [name for name in common if old[name] != new[name]]
    gone = sorted(old[name] for name in old if name not in new)
    come = sorted(new[name] for name in new if name not in old)
    if gone != come:
        names = [f"-{name}" for name in old if name not in new] + [
            f"+{name}" for name in new if name not in old
        ]
        yield f"digests under other names: {', '.join(names[:6])}"
    if changed:
        more = f" and {len(changed) - 4} more" if len(changed) > 4 else ""
        yield f"digests differ: {', '.join(changed[:4])}{more}"


def _compare_numbers(old: Mapping[str, float], new: Mapping[str, float]) -> Iterator[str]:
    common = [name for name in old if name in new]
    sizes = {name: relative_difference(old[name], new[name]) for name in common}
    changed = sorted((name for name in common if sizes[name] > 0), key=lambda name: -sizes[name])
    if changed:
        worst = ", ".join(
            f"{name} {old[name]:.6g} -> {new[name]:.6g} ({sizes[name]:.1e})" for name in changed[:3]
        )
        yield f"{len(changed)} of {len(common)} numbers differ, most: {worst}"
    gone = sorted((old[name] for name in old if name not in new), key=_sortable)
    come = sorted((new[name] for name in new if name not in old), key=_sortable)
    if len(gone) != len(come):
        names = [name for name in old if name not in new][:3], [name for name in new if name not in old][:3]
        yield f"{len(gone)} numbers are gone (as {names[0]}) and {len(come)} have come (as {names[1]})"
    elif gone:
        size = max(relative_difference(a, b) for a, b in zip(gone, come, strict=True))
        if size > 0:
            name = next(name for name in old if name not in new)
            yield f"{len(gone)} numbers under other paths (as {name}) differ, sorted, by up to {size:.1e}"


def relative_difference(first: float, second: float) -> float:
    """The difference of two numbers in units of the larger; 0 for two NaN, infinite for one."""
    if first == second or (math.isnan(first) and math.isnan(second)):
        return 0.0
    if not (math.isfinite(first) and math.isfinite(second)):
        return math.inf
    return abs(first - second) / max(abs(first), abs(second))


def _sortable(value: float) -> tuple[bool, float]:
    return (True, 0.0) if math.isnan(value) else (False, value)


def print_comparison(old: Mapping[str, Any], new: Mapping[str, Any], names: Sequence[str]) -> bool:
    """Print a table of the comparison; return whether all are equal."""
    found = {name: compare_records(old.get(name), new.get(name)) for name in names}
    counts: dict[str, int] = {}
    width = max((len(name) for name in names), default=0)
    for name, difference in found.items():
        counts[difference.status] = counts.get(difference.status, 0) + 1
        print(f"{difference.status:9}  {name:{width}}  {difference.detail}".rstrip())
    print(", ".join(f"{count} {status}" for status, count in counts.items()))
    return set(counts) <= {"equal"}


def environment() -> dict[str, str]:
    """Versions on which digests depend."""
    packages = ("torch", "numpy", "onnxruntime", "onnx", "onnxscript", "scipy", "awkward", "coffea", "hist")
    versions = {name: metadata.version(name) for name in packages}
    return {"python": platform.python_version(), "machine": platform.machine(), **versions}


def main() -> int:
    """Run, write and compare; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--out", type=Path, help="write the recording to this JSON file")
    parser.add_argument("--compare", type=Path, help="compare with this earlier recording")
    parser.add_argument("--recorded", type=Path, help="compare this recording, and run nothing")
    parser.add_argument("--only", action="append", help="cases that match this pattern, as 'adversary/*'")
    parser.add_argument("--skip", action="append", default=[], help="no cases that match this pattern")
    parser.add_argument("--list", action="store_true", help="print the names of the cases and leave")
    parser.add_argument("--quiet", action="store_true", help="print no line for each case")
    default = Path(tempfile.gettempdir()) / "hepdecorr_regression"
    parser.add_argument("--work", type=Path, default=default, help="working folder, which is emptied")
    options = parser.parse_args()
    patterns = options.only or ["*"]

    def chosen(name: str) -> bool:
        return any(fnmatch.fnmatch(name, pattern) for pattern in patterns) and not any(
            fnmatch.fnmatch(name, pattern) for pattern in options.skip
        )

    names = [name for name in all_cases() if chosen(name)]
    if options.list:
        print("\n".join(names))
        return 0
    if options.recorded:
        records = json.loads(options.recorded.read_text())["cases"]
        names = [name for name in records if chosen(name)]
    else:
        torch.set_num_threads(1)
        logging.disable(logging.WARNING)
        warnings.simplefilter("ignore")
        shutil.rmtree(options.work, ignore_errors=True)
        options.work.mkdir(parents=True)
        start = time.monotonic()
        print(f"hepdecorr of {ROOT}")
        records = run_cases(names, Workspace(options.work), quiet=options.quiet)
        seconds = time.monotonic() - start
        print(
            f"{len(records)} cases in {seconds:.0f} s, {sum('error' in r for r in records.values())} failed"
        )
        if options.out:
            content = {
                "environment": environment(),
                "root": str(ROOT),
                "seconds": round(seconds, 1),
                "cases": records,
            }
            options.out.write_text(json.dumps(content, indent=1) + "\n")
    if not options.compare:
        return 0
    earlier = json.loads(options.compare.read_text())
    if earlier["environment"] != environment():
        print(f"note: other versions: {earlier['environment']} before, {environment()} now", file=sys.stderr)
    old = earlier["cases"]
    every = list(dict.fromkeys([*(name for name in old if chosen(name)), *names]))
    return 0 if print_comparison(old, records, every) else 1


if __name__ == "__main__":
    sys.exit(main())
