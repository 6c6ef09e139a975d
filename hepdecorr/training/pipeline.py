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

from hepdecorr import __version__, registry
from hepdecorr.errors import InputError, suggest
from hepdecorr.model_card import Feature, ModelCard, ModelInput, Nuisance
from hepdecorr.stats.roc import auc
from hepdecorr.table import Selection, Split, Table
from hepdecorr.training.data import checks
from hepdecorr.training.data.batches import Batch, EventDataset, multiply_weights, validate_labels
from hepdecorr.training.data.chunks import score_chunks
from hepdecorr.training.data.group_index import GroupIndex
from hepdecorr.training.data.layout import CONSTITUENT_PREFIX, ColumnLayout, RowPacking
from hepdecorr.training.data.reweighting import Reweighting
from hepdecorr.training.data.splits import DataSplits
from hepdecorr.training.data.streaming import StreamingDataset
from hepdecorr.training.export.card import (
    compute_extra_scores,
    compute_extra_working_points,
    compute_working_points,
)
from hepdecorr.training.export.group_codes import CodeLookup
from hepdecorr.training.export.tagger import CONTEXT_INPUT, export_tagger
from hepdecorr.training.methods.base import Method
from hepdecorr.training.methods.latent_excision import mig_entry
from hepdecorr.training.objective import ProgressFn
from hepdecorr.training.posthoc import PosthocChain, fit_chain
from hepdecorr.training.trainer import Trainer

log = logging.getLogger(__name__)

METHODS_MODULE = "hepdecorr.training.methods"
MAX_IN_MEMORY_BYTES = 2_000_000_000  # bytes of training events above which shards are streamed
DEVICES = ("auto", "cpu", "cuda", "gpu", "mps")


class TrainingResult(NamedTuple):
    """A trained method with all that its card has to say about the training."""

    method: Method
    history: list[dict[str, Any]]  # one entry a stage, JSON-able
    data: DataSplits
    spec: dict[str, Any]
    seed: int
    seconds: float
    layout: ColumnLayout
    split: Split
    posthoc: PosthocChain | None = None  # fitted
    cpu_seconds: float | None = None  # of this process; None where the training went on from a checkpoint

    @property
    def converged(self) -> bool:
        """Whether no stage complained."""
        return all(stage["converged"] for stage in self.history)


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
    report_progress: ProgressFn | None = None,
    features: Sequence[str] | None = None,
    constituents: Sequence[str] | None = None,
    nuisances: Sequence[str] | None = None,
    base: Path | None = None,
    pretrained_folder: Path | None = None,
    stream: bool | None = None,
) -> TrainingResult:
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
    posthoc = (
        PosthocChain.from_config(maps, table_nuisances=table.column_names("nuisance"), base=base)
        if maps is not None
        else None
    )
    chosen, seen = given.pop("features", None), given.pop("constituents", None)
    layout = ColumnLayout.from_table(
        table,
        features=chosen if chosen is not None else features,
        constituents=seen if seen is not None else constituents,
        length=given.pop("length", None),
        nuisances=given.pop("nuisances", nuisances),
        balance=bool(given.pop("balance", False)),
    )
    wanted = given.pop("reweight", None)
    reweight = (
        Reweighting.from_config(wanted, table_nuisances=table.column_names("nuisance")) if wanted else None
    )
    if not layout.features and not layout.constituents:
        raise InputError(
            f"{table.folder}: no features and no constituents to learn from; name some in the config, and "
            "not 'features: []' for a tagger without constituents"
        )
    fabric = _build_fabric(device, devices, precision)
    with _seeded_torch_rng(seed):
        method = _build_method(given, layout, base=base, pretrained_folder=pretrained_folder)
        layout = replace(layout, allow_background_only=not method.needs_signal)
        if method.needs_groups:
            layout = layout.with_grouped_batches(str(given.get("type")))
        data = load_splits(table, layout, split=split, stream=stream, reweight=reweight)
        checks.check_training_data(method, data)
        settings = {
            "folder": folder,
            "report_progress": report_progress,
            "seed": seed,
            "fingerprint": _fingerprint(spec, table, layout, split, seed),
        }
        # What an earlier process spent before it was stopped is not known.
        resumed = folder is not None and any(folder.glob("*.pt"))
        start, spent = time.monotonic(), time.process_time()
        if devices == 1:
            history = _fit_method(fabric, method, data, settings)
        else:
            state, history = fabric.launch(
                partial(_fit_in_process, method=method, data=data, settings=settings)
            )
            method.load_state_dict({k: torch.from_numpy(v) for k, v in state.items()})
            # Of the method that learned, in another process, only its weights and its history came back.
            method.metrics = {k: v for stage in history for k, v in stage.get("metrics", {}).items()}
        seconds = time.monotonic() - start
    method = method.cpu().eval()
    if posthoc is not None:
        fit_chain.fit(posthoc, method, table=table, layout=layout, split=split)
    cpu_seconds = None if resumed or devices > 1 else time.process_time() - spent
    return TrainingResult(
        method, history, data, dict(spec), seed, seconds, layout, split, posthoc, cpu_seconds
    )


def _build_method(
    spec: Mapping[str, Any], layout: ColumnLayout, *, base: Path | None, pretrained_folder: Path | None = None
) -> Method:
    method: Method = registry.build(
        spec,
        namespace=METHODS_MODULE,
        base=base,
        features=list(layout.features),
        constituents=list(layout.constituents),
        length=layout.length,
        nuisances=list(layout.nuisances),
        origin=pretrained_folder,
    )
    if not isinstance(method, Method):
        raise InputError(f"{spec.get('type')} is no method: it must derive from {METHODS_MODULE}.Method")
    if layout.constituents and "constituents" not in inspect.signature(type(method).__init__).parameters:
        raise InputError(
            f"{spec.get('type')} takes no constituents; give it the argument 'constituents', or write "
            "'constituents: []' in the tagger's block"
        )
    return method


def load_splits(
    table: Table,
    layout: ColumnLayout,
    *,
    split: Split,
    stream: bool | None = None,
    reweight: Reweighting | None = None,
) -> DataSplits:
    """Training and validation events of a table, the latter weighed by the rule of the former."""
    if stream is None:
        stream = 4 * table.num_rows * layout.width > MAX_IN_MEMORY_BYTES
    select, rule = Selection("train", split), None
    if reweight is not None:
        arrays = table.read([*reweight.nuisances, "label", *layout.weight_columns], select=select)
        z = np.stack([arrays[name] for name in reweight.nuisances], 1)
        rule = reweight.fit(
            z, validate_labels(arrays["label"]), multiply_weights(arrays, layout.weight_columns)
        )
    kind = StreamingDataset if stream else EventDataset.from_table
    training = kind(table, layout, select=select, reweighting=rule)
    judging = Selection("validation", split)
    data = DataSplits(training, EventDataset.from_table(table, layout, select=judging, reweighting=rule))
    if data.train.group_index and data.validation.group_index:
        _check_disjoint_groups(data.train.group_index, data.validation.group_index, table)
    return data


def _check_disjoint_groups(train_groups: GroupIndex, validation_groups: GroupIndex, table: Table) -> None:
    both = np.intersect1d(train_groups.ids.numpy(), validation_groups.ids.numpy(), assume_unique=True)
    if len(both):
        raise InputError(
            f"{table.folder}: {len(both)} groups, as {both[0]}, stand in training and in validation, so that "
            "neither holds them whole; let the fold of a row follow from its group alone: table.fold(group)"
        )


def export_trained(
    result: TrainingResult,
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
    metrics: Mapping[str, Any] | None = None,
    objects: Mapping[str, Any] | None = None,
) -> Path:
    """Export the trained method with its card to `folder` and return the folder.

    objects: what a row of the table is, where it is not an event: the section `objects` of the config.
    Thresholds are fixed on the background of the validation events, on the score behind its transforms, and
    with codes of whole validation groups.
    """
    validation = result.data.validation.all
    rows = CodeLookup.from_events(result.method, validation.x, validation.group).inputs_with_codes(
        validation.x, validation.group
    )
    logit = predict_logits(result.method, rows)
    label, weight = validation.y.numpy(), validation.w.numpy().astype(np.float64)
    points = partial(compute_working_points, label=label, weight=weight, rejections=rejections)
    further = compute_extra_scores(result.method, rows, spec=result.spec)
    beside: dict[str, Any] = {}
    if result.posthoc is not None:
        own = fit_chain.read_validation_nuisances(result.posthoc, table=table, split=result.split)
        if (order := result.data.validation.sort_order) is not None:
            own = {key: values[order.numpy()] for key, values in own.items()}
        names = fit_chain.source_features(result.posthoc, nuisances)
        logit, beside = fit_chain.apply_to_validation(
            result.posthoc, logit, own, find_working_points=points, feature_names=names, description=name
        )
    arrays = result.method.diagnostics(validation)
    found = mig_entry(arrays)
    if label.any():
        found = {"validation_auc": auc(logit, label, weight=np.abs(weight)).value, **found}
    kept = [
        {"stage": s["stage"], "selected_epoch": s["selected_epoch"], "epochs": len(s["warnings"])}
        for s in result.history
    ]
    card = ModelCard(
        name=name,
        title=title,
        description=description,
        method=_to_plain_dict(result.spec),
        seed=result.seed,
        inputs=build_card_inputs(result, table, nuisances, row_axis="rows" if objects else "events"),
        outputs=("score", "logit", *result.method.aux_output_names),
        nuisances=tuple(nuisances),
        objects=_to_plain_dict(objects or {}),
        conventions=dict(conventions or {}),
        table_fingerprint=table.fingerprint,
        config_hash=config_hash,
        versions=package_versions(),
        working_points=(own_points := points(logit)),
        extra_working_points=compute_extra_working_points(
            further, partial(points, rejections=[point.rejection for point in own_points])
        ),
        metrics={**found, **result.method.metrics, **(metrics or {})},
        training={
            "stages": kept,
            "converged": result.converged,
            "warnings": [s["warning"] for s in result.history if s["warning"]],
            "events": len(result.data.train),
            "seconds": round(result.seconds, 1),
            "cpu_seconds": None if result.cpu_seconds is None else round(result.cpu_seconds, 2),
        },
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    some = {"sample": validation.x[:2048], "group": validation.group[:2048]}
    about = {**some, "group_features": group_feature_names(table), "arrays": arrays, **beside}
    try:
        return export_tagger(result.method, card=card, folder=folder, **about)
    except InputError as err:
        if result.converged:
            raise
        # Numbers that have run away are why a graph is not exact.
        raise InputError(f"{'; '.join(card.training['reasons'])}; then {err}") from None


def group_feature_names(table: Table) -> list[str]:
    """The features whose values name the groups of a table, which its column of groups has for a title."""
    columns = [table.column(name) for name in table.column_names("group")[:1]]
    return [name for column in columns for name in (column.title or column.name).split(", ")]


def build_card_inputs(
    result: TrainingResult, table: Table, nuisances: Sequence[Nuisance], *, row_axis: str
) -> tuple[ModelInput, ...]:
    """The inputs of the graph; `axis` is what the card calls its rows."""
    form: RowPacking = result.data.train.packing

    def described(names: Sequence[str], prefix: str = "") -> tuple[Feature, ...]:
        return tuple(Feature(name=name, unit=table.column(prefix + name).unit) for name in names)

    found = []
    if form.features:
        found.append(ModelInput(axes=(row_axis, "features"), features=described(form.features)))
    if form.constituents:
        kept: dict[str, Any] = {"length": form.length, "order": "pt descending"}
        axes = (row_axis, "constituents", "features")
        seen = described(form.constituents, CONSTITUENT_PREFIX)
        found.append(ModelInput(name="constituents", axes=axes, features=seen, **kept))
        found.append(ModelInput(name="mask", axes=axes[:2], features=(), **kept))
    if result.method.context_dim:
        codes = tuple(Feature(name=f"code_{k}") for k in range(result.method.context_dim))
        found.append(ModelInput(name=CONTEXT_INPUT, axes=(row_axis, "codes"), features=codes))
    chain = result.posthoc
    if chain is not None and chain.export_format == "onnx":
        pairs = zip(fit_chain.source_features(chain, nuisances), chain.nuisances, strict=True)
        wanted = tuple(Feature(name=source, unit=table.column(name).unit) for source, name in pairs)
        found.append(ModelInput(name="nuisances", axes=(row_axis, "features"), features=wanted))
    return tuple(found)


@torch.no_grad()
def predict_logits(method: Method, events: Batch | Tensor) -> np.ndarray[Any, Any]:
    """Logits of many events, or of rows as `logit` takes them, float32 of shape (n,), in chunks."""
    if isinstance(events, Batch):
        events = CodeLookup.from_events(method, events.x, events.group).inputs_with_codes(
            events.x, events.group
        )
    return torch.cat([method.logit(part) for part in score_chunks(events)]).float().cpu().numpy()


def package_versions() -> dict[str, str]:
    """What the tagger was made with."""
    packages = ("torch", "lightning-fabric", "onnx", "onnxscript", "numpy", "pyarrow")
    return {
        "hepdecorr": __version__,
        "python": platform.python_version(),
        **{p: metadata.version(p) for p in packages},
    }


def _fit_method(
    fabric: Fabric, method: Method, data: DataSplits, settings: Mapping[str, Any]
) -> list[dict[str, Any]]:
    trainer = Trainer(fabric=fabric, **settings)
    on_device = DataSplits(data.train.to(fabric.device), data.validation.to(fabric.device))
    torch.set_flush_denormal(True)  # small weights of adversaries otherwise cost a factor in time
    try:
        method.fit(on_device, trainer)
    finally:
        torch.set_flush_denormal(False)
    return trainer.history


def _fit_in_process(fabric: Fabric, *, method: Method, data: DataSplits, settings: Mapping[str, Any]) -> Any:
    """One of several processes; what it returns must travel back."""
    torch.manual_seed(
        settings["seed"] + 7919 * fabric.global_rank
    )  # draws differ, the order of events does not
    quiet = dict(settings) if fabric.is_global_zero else {**settings, "report_progress": None}
    history = _fit_method(fabric, method, data, quiet)
    return {k: v.cpu().numpy() for k, v in method.state_dict().items()}, history


def _build_fabric(device: str, devices: int, precision: str) -> Fabric:
    if device not in DEVICES:
        raise InputError(f"no device {device!r}{suggest(device, DEVICES)}")
    if device in ("cuda", "gpu") and not torch.cuda.is_available():
        raise InputError("device cuda: torch sees no GPU here; use device: auto or cpu")
    try:
        strategy = "auto" if devices == 1 else "ddp_fork"
        return Fabric(accelerator=device, devices=devices, precision=precision, strategy=strategy)  # type: ignore[arg-type]
    except (ValueError, RuntimeError) as err:
        raise InputError(f"device {device!r}, devices {devices}, precision {precision!r}: {err}") from None


@contextmanager
def _seeded_torch_rng(seed: int) -> Iterator[None]:
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        yield


def _fingerprint(spec: Mapping[str, Any], table: Table, layout: ColumnLayout, split: Split, seed: int) -> str:
    parts = [
        _to_plain_dict(spec),
        table.fingerprint,
        asdict(layout),
        asdict(split),
        seed,
        __version__,
        torch.__version__,
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def _to_plain_dict(spec: Mapping[str, Any]) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(dict(spec), default=str))
    return plain
