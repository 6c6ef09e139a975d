"""Made events of known dependence, and the exported taggers that several tests share."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest
import torch

from hepdecorr import catalogue
from hepdecorr import table as tables
from hepdecorr.card import Card, Feature, Input
from hepdecorr.learning import Batch, Data, Events, Play
from hepdecorr.learning.form import Form
from hepdecorr.learning.methods import Excised, Method, Tagger

torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")

FEATURES = ["leaky", "clean", "noise"]


def made_columns(rows: int, *, seed: int) -> dict[str, np.ndarray]:
    """`leaky` carries the label and the nuisance, `clean` the label only."""
    draw = np.random.default_rng(seed)
    label = (draw.random(rows) < 0.4).astype(np.int8)
    mass = draw.normal(size=rows)
    return {
        "leaky": 1.2 * label + 1.2 * mass + 0.6 * draw.normal(size=rows),
        "clean": 0.9 * label + draw.normal(size=rows),
        "noise": draw.normal(size=rows),
        "mass": mass,
        "label": label,
    }


def made_events(rows: int, *, seed: int) -> Events:
    made = made_columns(rows, seed=seed)
    x = torch.tensor(np.stack([made[f] for f in FEATURES], 1), dtype=torch.float32)
    label, mass = torch.tensor(made["label"]), torch.tensor(made["mass"][:, None])
    return Events(x, label, mass, features=FEATURES, nuisances=["mass"])


@cache
def toy_data() -> Data:
    return Data(made_events(6000, seed=1), made_events(4000, seed=2))


@pytest.fixture(scope="session")
def toy() -> Data:
    return toy_data()


@pytest.fixture(scope="session")
def small() -> Data:
    return Data(made_events(900, seed=3), made_events(600, seed=4))


@pytest.fixture
def batch() -> Batch:
    return made_events(1500, seed=5).all


@pytest.fixture
def make_table(tmp_path: Path) -> Callable[..., tables.Table]:
    return partial(make_table_in, tmp_path)


def make_table_in(folder: Path, rows: int = 2400, *, shards: int = 6, **change: np.ndarray) -> tables.Table:
    made = made_columns(rows, seed=7) | {"weight": np.full(rows, 0.5), "event": np.arange(rows)} | change
    sides = [made["group"]] if "group" in made else [np.ones(rows), np.ones(rows), made["event"]]
    made["fold"] = tables.fold(made.pop("folded_by")) if "folded_by" in made else tables.fold(*sides)
    for name in (*FEATURES, "mass", "weight"):
        made[name] = made[name].astype(np.float32)
    roles = dict.fromkeys(FEATURES, "feature") | {
        "mass": "nuisance",
        "label": "label",
        "weight": "weight",
        "group": "group",
    }
    columns = [tables.Column(n, roles.get(n, "id")) for n in made]
    written = []
    for label, dataset in enumerate(("background", "signal")):
        own = np.flatnonzero(made["label"] == label)
        for k, part in enumerate(np.array_split(own, shards)):
            written.append(
                tables.write_shard(
                    folder / "table",
                    f"{dataset}_{k}.parquet",
                    arrays={n: a[part] for n, a in made.items()},
                    columns=columns,
                    dataset=dataset,
                    source="made.root",
                    start=k,
                    stop=k + 1,
                )
            )
    datasets = {"background": {"label": 0, "use": "all"}, "signal": {"label": 1, "use": "all"}}
    return tables.write_manifest(folder / "table", written, columns=columns, datasets=datasets, provenance={})


CONSTITUENTS = ["log_pt", "deta", "dphi", "charge"]
LENGTH = 6


def made_jets(rows: int, *, seed: int, length: int = LENGTH) -> dict[str, np.ndarray]:
    """Jets of 0 to `length` constituents; those of signal have two prongs, as far apart as the mass says."""
    draw = np.random.default_rng(seed)
    label = (draw.random(rows) < 0.4).astype(np.int8)
    mass = draw.normal(size=rows)
    count = draw.integers(2, length + 1, rows).astype(np.int16)
    count[::50] = 0
    there = np.arange(length) < count[:, None]
    side = np.where(np.arange(length) % 2, 1, -1) * (label * (0.4 + 0.1 * mass))[:, None]
    log_pt = 5 - np.sort(draw.exponential(size=(rows, length)), 1)
    made = {"log_pt": log_pt, "deta": side + 0.2 * draw.normal(size=there.shape)}
    made |= {
        "dphi": 0.2 * draw.normal(size=there.shape),
        "charge": draw.integers(-1, 2, there.shape).astype(float),
    }
    packed = {f"constituents.{k}": np.where(there, v, 0).astype(np.float32) for k, v in made.items()}
    noise = (0.5 * mass + draw.normal(size=rows)).astype(np.float32)
    return {"n_pt": noise, "mass": mass, "label": label, "constituents.count": count, **packed}


def jets(rows: int, *, seed: int, features: tuple[str, ...] = ("n_pt",), length: int = LENGTH) -> Events:
    made = {k: torch.from_numpy(v) for k, v in made_jets(rows, seed=seed, length=length).items()}
    form = Form(features, tuple(CONSTITUENTS), length)
    seen = torch.stack([made[f"constituents.{name}"] for name in CONSTITUENTS], 2)
    x = form.pack(
        made["n_pt"][:, None][:, : len(features)],
        seen,
        torch.arange(length) < made["constituents.count"][:, None],
    )
    names = {"features": features, "constituents": CONSTITUENTS, "nuisances": ["mass"]}
    return Events(x, made["label"], made["mass"][:, None], **names)


@pytest.fixture(name="jets")
def _jets():
    return jets


@pytest.fixture
def jet_table(tmp_path: Path) -> Callable[..., tables.Table]:
    def make(rows: int = 1200, **change: np.ndarray) -> tables.Table:
        made = made_jets(rows, seed=7) | {"event": np.arange(rows)} | change
        made["fold"] = tables.fold(np.ones(rows), np.ones(rows), made["event"])
        made["mass"] = made["mass"].astype(np.float32)
        columns = [
            tables.Column("n_pt", "feature"),
            tables.Column("mass", "nuisance", "GeV"),
            tables.Column("label", "label"),
            tables.Column("constituents.count", "count"),
            *(tables.Column(f"constituents.{n}", "constituent", length=LENGTH) for n in CONSTITUENTS),
            tables.Column("event", "id"),
            tables.Column("fold", "id"),
        ]
        written = []
        for label, dataset in enumerate(("background", "signal")):
            for k, part in enumerate(np.array_split(np.flatnonzero(made["label"] == label), 3)):
                arrays = {n: a[part] for n, a in made.items()}
                about = {"columns": columns, "dataset": dataset, "source": "made.root", "start": k}
                name = f"{dataset}_{k}.parquet"
                written.append(
                    tables.write_shard(tmp_path / "jets", name, arrays=arrays, stop=k + 1, **about)
                )
        datasets = {"background": {"label": 0, "use": "all"}, "signal": {"label": 1, "use": "all"}}
        return tables.write_manifest(
            tmp_path / "jets", written, columns=columns, datasets=datasets, provenance={}
        )

    return make


def made_card(name: str = "made") -> Card:
    return Card(
        name=name,
        method={},
        seed=1,
        inputs=(Input(features=tuple(Feature(name=n) for n in FEATURES)),),
        nuisances=(),
        table_fingerprint="",
        config_hash="",
        versions={},
        created="",
    )


def made_method(name: str) -> Method:
    """Small methods with everything that has a state: critics, averages, dropout, ramps, patience."""
    short = {"epochs": 3, "batch": 300, "average": 0.9, "patience": 5}
    net = {"type": "MLP", "hidden": [8], "dropout": 0.1}
    common = {"features": FEATURES, "nuisances": ["mass"], "network": net, "training": short}
    if name == "tagger":
        chased = {"type": "GMM", "nuisance": "mass", "steps": 2, "batch": 200, "hidden": [8]}
        return Tagger(
            terms=[{"type": "DisCo", "nuisance": "mass", "hold": {"sample": 300}}, chased], **common
        )
    critic = {"type": "Conditional", "hidden": [8], "steps": 2, "batch": 200}
    terms = [{"type": "KL"}, {"type": "SupervisedAlignment"}]
    terms += [{"type": "TotalCorrelation", "beta": 5, "estimator": critic}]
    represent = {"latents": 3, "hidden": [8], "terms": terms, "training": {**short, "keep": "best"}}
    return Excised(representation=represent, found=0.0, **common)


def cut_training(folder: Path, name: str, *, kill_at: int = 0) -> tuple[dict, list, torch.Tensor]:
    """Train with checkpoints in `folder`; die by SIGKILL once `kill_at` epochs are over."""
    epochs = 0

    def progress(*told: object) -> None:
        nonlocal epochs
        epochs += 1
        if epochs == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    torch.manual_seed(5)
    method = made_method(name)
    play = Play(seed=3, folder=folder, progress=progress)
    method.learn(Data(made_events(900, seed=3), made_events(600, seed=4)), play)
    return dict(method.state_dict()), play.history, torch.rand(3)


@pytest.fixture(name="cut_training")
def _cut_training():
    return cut_training


SHORT = {"epochs": 8, "batch": 512, "lr": 5e-3, "average": 0.9}
NET = {"type": "MLP", "hidden": [24, 24]}
CRITIC = {"type": "Conditional", "hidden": [24], "steps": 3, "batch": 512}
SPECS: dict[str, dict] = {
    "plain": {"type": "Tagger"},
    "disco": {"type": "Tagger", "terms": [{"type": "DisCo", "nuisance": "mass", "strength": 10}]},
    "pivot": {"type": "Tagger", "terms": [{"type": "GMM", "nuisance": "mass", "hidden": [24], "batch": 512}]},
    "double": {"type": "DoubleDisCo", "terms": [{"type": "DisCo", "nuisance": "mass", "strength": 10}]},
    "excised": {
        "type": "Excised",
        "representation": {
            "latents": 2,
            "hidden": [24],
            "terms": [
                {"type": "KL"},
                {"type": "SupervisedAlignment"},
                {"type": "TotalCorrelation", "beta": 30, "estimator": CRITIC},
            ],
            "training": {**SHORT, "epochs": 16, "clip": 1.0},
        },
    },
    "anomaly": {
        "type": "Anomaly",
        "representation": {
            "latents": 2,
            "hidden": [24],
            "terms": [{"type": "KL"}, {"type": "SupervisedAlignment", "signal": 0.0}],
            "training": {**SHORT, "clip": 1.0},
        },
    },
}


@pytest.fixture(scope="session", params=list(SPECS))
def learned(request) -> tuple[str, Method, list]:
    """Each method, trained once on the toy."""
    return request.param, *learn(request.param)


@pytest.fixture(scope="session")
def excised() -> tuple[Method, list]:
    return learn("excised")


@cache
def learn(name: str) -> tuple[Method, list]:
    torch.manual_seed(1)
    method = build_method(name)
    play = Play(seed=1)
    method.learn(toy_data(), play)
    return method.eval(), play.history


def build_method(name: str) -> Method:
    common = {} if name == "anomaly" else {"training": SHORT, "network": NET}
    return catalogue.build(
        {**common, **SPECS[name]},
        home="hepdecorr.learning.methods",
        features=FEATURES,
        nuisances=["mass"],
    )


@pytest.fixture(scope="session")
def build():
    return build_method


@pytest.fixture(scope="session")
def card() -> Card:
    return made_card()
