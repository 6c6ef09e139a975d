"""From a table and a method's YAML to a trained tagger with its card: what the command line calls."""

from __future__ import annotations

import hashlib
import inspect
import json
import logging
import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor

from hepdecorr import __version__, catalogue
from hepdecorr.card import Card, Feature, Input, Nuisance
from hepdecorr.errors import InputError
from hepdecorr.learning import vetting
from hepdecorr.learning.batches import Batch, Data, Events, labels, product
from hepdecorr.learning.coding import Codes
from hepdecorr.learning.export import CONTEXT, export
from hepdecorr.learning.form import Form
from hepdecorr.learning.further_scores import further_points, further_scores
from hepdecorr.learning.layout import PREFIX, Layout
from hepdecorr.learning.methods.judging import chunks
from hepdecorr.learning.methods.method import Method
from hepdecorr.learning.methods.revealing import gap
from hepdecorr.learning.players import Progress
from hepdecorr.learning.posthoc import Chain, fitted
from hepdecorr.learning.reweighting import Reweighting
from hepdecorr.learning.streaming import Streamed
from hepdecorr.learning.training import Play
from hepdecorr.learning.whole import Whole
from hepdecorr.learning.working_points import working_points
from hepdecorr.table import Selection, Split, Table
from hepdecorr.validation.measures.ranking import auc

log = logging.getLogger(__name__)

METHODS = "hepdecorr.learning.methods"
IN_MEMORY = 2_000_000_000  # bytes of training events above which shards are streamed
DEVICES = ("auto", "cpu", "cuda", "gpu", "mps")


class Trained(NamedTuple):
    """A trained method with all that its card has to say about the training."""

    method: Method
    history: list[dict[str, Any]]  # one entry a stage, JSON-able
    data: Data
    spec: dict[str, Any]
    seed: int
    seconds: float
    layout: Layout
    split: Split
    posthoc: Chain | None = None  # fitted
    cpu_seconds: float | None = None  # of this process; None where the training went on from a checkpoint

    @property
    def stable(self) -> bool:
        """Whether no stage complained."""
        return all(stage["stable"] for stage in self.history)


def train(
    spec: Mapping[str, Any],
    *,
    table: Table,
    split: Split,
    seed: int,
    device: str = "auto",
    devices: int = 1,
    precision: str = "32-true",
    folder: Path | None = None,
    progress: Progress | None = None,
    features: Sequence[str] | None = None,
    constituents: Sequence[str] | None = None,
    nuisances: Sequence[str] | None = None,
    base: Path | None = None,
    origin: Path | None = None,
    stream: bool | None = None,
) -> Trained:
    """Train the method `spec`, `{type: Tagger, ...}`, on the training part of `table`.

    Beside the method's own arguments `spec` may hold `features`, `constituents` and `nuisances` (choices from
    the table's, default all), `length` (so many constituents, at most the table's), `balance` (equal summed
    weight of both classes), `reweight` (see Reweighting) and `posthoc` (transforms of the score, fitted
    afterwards on the background that trained and validated).

    Checkpoints go to `folder`; called again with the same spec,
    table and seed, training goes on from the last one, bit for bit on one device.  stream: read shards
    as they are needed; default, when the events take more than 2 GB.  The same seed, data and spec give
    the same weights on a CPU, and torch's own random state is left as it was.  origin: folder of the trained
    tagger that `start_from` names, for a method that goes on from one.
    """
    given = dict(spec)
    maps = given.pop("posthoc", None)
    posthoc = Chain.read(maps, known=table.names("nuisance"), base=base) if maps is not None else None
    chosen, seen = given.pop("features", None), given.pop("constituents", None)
    layout = Layout.of(
        table,
        features=chosen if chosen is not None else features,
        constituents=seen if seen is not None else constituents,
        length=given.pop("length", None),
        nuisances=given.pop("nuisances", nuisances),
        balance=bool(given.pop("balance", False)),
    )
    wanted = given.pop("reweight", None)
    reweight = Reweighting.read(wanted, known=table.names("nuisance")) if wanted else None
    if not layout.features and not layout.constituents:
        raise InputError(
            f"{table.folder}: no features and no constituents to learn from; name some in the config, and "
            "not 'features: []' for a tagger without constituents"
        )
    fabric = _fabric(device, devices, precision)
    with _seeded(seed):
        method = _method(given, layout, base=base, origin=origin)
        layout = replace(layout, alone=not method.needs_signal)
        if method.whole:
            layout = layout.with_whole(str(given.get("type")))
        data = load(table, layout, split=split, stream=stream, reweight=reweight)
        vetting.check(method, data)
        settings = {
            "folder": folder,
            "progress": progress,
            "seed": seed,
            "fingerprint": _fingerprint(spec, table, layout, split, seed),
        }
        # What an earlier process spent before it was stopped is not known.
        resumed = folder is not None and any(folder.glob("*.pt"))
        start, spent = time.monotonic(), time.process_time()
        if devices == 1:
            history = _learn(fabric, method, data, settings)
        else:
            state, history = fabric.launch(partial(_learn_apart, method=method, data=data, settings=settings))
            method.load_state_dict({k: torch.from_numpy(v) for k, v in state.items()})
            # Of the method that learned, in another process, only its weights and its history came back.
            method.measured = {k: v for stage in history for k, v in stage.get("measured", {}).items()}
        seconds = time.monotonic() - start
    method = method.cpu().eval()
    if posthoc is not None:
        fitted.fit(posthoc, method, table=table, layout=layout, split=split)
    cpu_seconds = None if resumed or devices > 1 else time.process_time() - spent
    return Trained(method, history, data, dict(spec), seed, seconds, layout, split, posthoc, cpu_seconds)


def _method(
    spec: Mapping[str, Any], layout: Layout, *, base: Path | None, origin: Path | None = None
) -> Method:
    method: Method = catalogue.build(
        spec,
        home=METHODS,
        base=base,
        features=list(layout.features),
        constituents=list(layout.constituents),
        length=layout.length,
        nuisances=list(layout.nuisances),
        origin=origin,
    )
    if not isinstance(method, Method):
        raise InputError(f"{spec.get('type')} is no method: it must derive from {METHODS}.Method")
    if layout.constituents and "constituents" not in inspect.signature(type(method).__init__).parameters:
        raise InputError(
            f"{spec.get('type')} takes no constituents; give it the argument 'constituents', or write "
            "'constituents: []' in the tagger's block"
        )
    return method


def load(
    table: Table,
    layout: Layout,
    *,
    split: Split,
    stream: bool | None = None,
    reweight: Reweighting | None = None,
) -> Data:
    """Training and validation events of a table, the latter weighed by the rule of the former."""
    if stream is None:
        stream = 4 * table.rows * layout.width > IN_MEMORY
    select, rule = Selection("train", split), None
    if reweight is not None:
        arrays = table.read([*reweight.nuisances, "label", *layout.weights], select=select)
        z = np.stack([arrays[name] for name in reweight.nuisances], 1)
        rule = reweight.fit(z, labels(arrays["label"]), product(arrays, layout.weights))
    kind = Streamed if stream else Events.from_table
    training = kind(table, layout, select=select, rule=rule)
    judging = Selection("validation", split)
    data = Data(training, Events.from_table(table, layout, select=judging, rule=rule))
    if data.train.whole and data.validation.whole:
        _apart(data.train.whole, data.validation.whole, table)
    return data


def _apart(train: Whole, validation: Whole, table: Table) -> None:
    both = np.intersect1d(train.ids.numpy(), validation.ids.numpy(), assume_unique=True)
    if len(both):
        raise InputError(
            f"{table.folder}: {len(both)} groups, as {both[0]}, stand in training and in validation, so that "
            "neither holds them whole; let the fold of a row follow from its group alone: table.fold(group)"
        )


def finish(
    trained: Trained,
    *,
    name: str,
    folder: Path,
    table: Table,
    nuisances: Sequence[Nuisance],
    config_hash: str,
    rejections: Sequence[float] = (0.5, 0.9, 0.95, 0.99, 0.995),
    title: str = "",
    description: str = "",
    conventions: Mapping[str, str] | None = None,
    measured: Mapping[str, Any] | None = None,
    objects: Mapping[str, Any] | None = None,
) -> Path:
    """Export the trained method with its card to `folder` and return the folder.

    objects: what a row of the table is, where it is not an event: the section `objects` of the config.
    Thresholds are fixed on the background of the validation events, on the score behind its transforms, and
    with codes of whole validation groups.
    """
    validation = trained.data.validation.all
    rows = Codes.of(trained.method, validation.x, validation.group).rows(validation.x, validation.group)
    logit = logits(trained.method, rows)
    label, weight = validation.y.numpy(), validation.w.numpy().astype(np.float64)
    points = partial(working_points, label=label, weight=weight, rejections=rejections)
    further = further_scores(trained.method, rows, spec=trained.spec)
    beside: dict[str, Any] = {}
    if trained.posthoc is not None:
        own = fitted.validation(trained.posthoc, table=table, split=trained.split)
        if (order := trained.data.validation.order) is not None:
            own = {key: values[order.numpy()] for key, values in own.items()}
        names = fitted.sources(trained.posthoc, nuisances)
        logit, beside = fitted.behind(trained.posthoc, logit, own, points=points, names=names, about=name)
    arrays = trained.method.reveal(validation)
    found = gap(arrays)
    if label.any():
        found = {"validation_auc": auc(logit, label, weight=np.abs(weight)).value, **found}
    kept = [{"stage": s["stage"], "kept": s["kept"], "epochs": len(s["complaints"])} for s in trained.history]
    card = Card(
        name=name,
        title=title,
        description=description,
        method=_plain(trained.spec),
        seed=trained.seed,
        inputs=inputs(trained, table, nuisances, axis="rows" if objects else "events"),
        outputs=("score", "logit", *trained.method.beside),
        nuisances=tuple(nuisances),
        objects=_plain(objects or {}),
        conventions=dict(conventions or {}),
        table_fingerprint=table.fingerprint,
        config_hash=config_hash,
        versions=versions(),
        working_points=(own_points := points(logit)),
        further_points=further_points(
            further, partial(points, rejections=[point.rejection for point in own_points])
        ),
        measured={**found, **trained.method.measured, **(measured or {})},
        training={
            "stages": kept,
            "stable": trained.stable,
            "reasons": [s["reason"] for s in trained.history if s["reason"]],
            "events": len(trained.data.train),
            "seconds": round(trained.seconds, 1),
            "cpu_seconds": None if trained.cpu_seconds is None else round(trained.cpu_seconds, 2),
        },
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    some = {"sample": validation.x[:2048], "group": validation.group[:2048]}
    about = {**some, "of": group_names(table), "arrays": arrays, **beside}
    try:
        return export(trained.method, card=card, folder=folder, **about)
    except InputError as err:
        if trained.stable:
            raise
        # Numbers that have run away are why a graph is not exact.
        raise InputError(f"{'; '.join(card.training['reasons'])}; then {err}") from None


def group_names(table: Table) -> list[str]:
    """The features whose values name the groups of a table, which its column of groups has for a title."""
    columns = [table.column(name) for name in table.names("group")[:1]]
    return [name for column in columns for name in (column.title or column.name).split(", ")]


def inputs(trained: Trained, table: Table, nuisances: Sequence[Nuisance], *, axis: str) -> tuple[Input, ...]:
    """The inputs of the graph; `axis` is what the card calls its rows."""
    form: Form = trained.data.train.form

    def described(names: Sequence[str], prefix: str = "") -> tuple[Feature, ...]:
        return tuple(Feature(name=name, unit=table.column(prefix + name).unit) for name in names)

    found = []
    if form.features:
        found.append(Input(axes=(axis, "features"), features=described(form.features)))
    if form.constituents:
        kept: dict[str, Any] = {"length": form.length, "order": "pt descending"}
        axes = (axis, "constituents", "features")
        seen = described(form.constituents, PREFIX)
        found.append(Input(name="constituents", axes=axes, features=seen, **kept))
        found.append(Input(name="mask", axes=axes[:2], features=(), **kept))
    if trained.method.context:
        codes = tuple(Feature(name=f"code_{k}") for k in range(trained.method.context))
        found.append(Input(name=CONTEXT, axes=(axis, "codes"), features=codes))
    chain = trained.posthoc
    if chain is not None and chain.into == "graph":
        pairs = zip(fitted.sources(chain, nuisances), chain.nuisances, strict=True)
        wanted = tuple(Feature(name=source, unit=table.column(name).unit) for source, name in pairs)
        found.append(Input(name="nuisances", axes=(axis, "features"), features=wanted))
    return tuple(found)


@torch.no_grad()
def logits(method: Method, events: Batch | Tensor) -> np.ndarray[Any, Any]:
    """Logits of many events, or of rows as `logit` takes them, float32 of shape (n,), in chunks."""
    if isinstance(events, Batch):
        events = Codes.of(method, events.x, events.group).rows(events.x, events.group)
    return torch.cat([method.logit(part) for part in chunks(events)]).float().cpu().numpy()


def versions() -> dict[str, str]:
    """What the tagger was made with."""
    packages = ("torch", "lightning-fabric", "onnx", "onnxscript", "numpy", "pyarrow")
    return {
        "hepdecorr": __version__,
        "python": platform.python_version(),
        **{p: metadata.version(p) for p in packages},
    }


def _learn(fabric: Fabric, method: Method, data: Data, settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    play = Play(fabric=fabric, **settings)
    on_device = Data(data.train.to(fabric.device), data.validation.to(fabric.device))
    torch.set_flush_denormal(True)  # small weights of adversaries otherwise cost a factor in time
    try:
        method.learn(on_device, play)
    finally:
        torch.set_flush_denormal(False)
    return play.history


def _learn_apart(fabric: Fabric, *, method: Method, data: Data, settings: Mapping[str, Any]) -> Any:
    """One of several processes; what it returns must travel back."""
    torch.manual_seed(
        settings["seed"] + 7919 * fabric.global_rank
    )  # draws differ, the order of events does not
    quiet = dict(settings) if fabric.is_global_zero else {**settings, "progress": None}
    history = _learn(fabric, method, data, quiet)
    return {k: v.cpu().numpy() for k, v in method.state_dict().items()}, history


def _fabric(device: str, devices: int, precision: str) -> Fabric:
    if device not in DEVICES:
        raise InputError(f"no device {device!r}{catalogue.suggest(device, DEVICES)}")
    if device in ("cuda", "gpu") and not torch.cuda.is_available():
        raise InputError("device cuda: torch sees no GPU here; use device: auto or cpu")
    try:
        strategy = "auto" if devices == 1 else "ddp_fork"
        return Fabric(accelerator=device, devices=devices, precision=precision, strategy=strategy)  # type: ignore[arg-type]
    except (ValueError, RuntimeError) as err:
        raise InputError(f"device {device!r}, devices {devices}, precision {precision!r}: {err}") from None


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        yield


def _fingerprint(spec: Mapping[str, Any], table: Table, layout: Layout, split: Split, seed: int) -> str:
    parts = [
        _plain(spec),
        table.fingerprint,
        asdict(layout),
        asdict(split),
        seed,
        __version__,
        torch.__version__,
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def _plain(spec: Mapping[str, Any]) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(dict(spec), default=str))
    return plain
