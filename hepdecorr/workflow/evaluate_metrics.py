"""Measures taggers on the events they were tested on, several at a time, and keeps what it has measured."""

from __future__ import annotations

import hashlib
import multiprocessing
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import threadpoolctl
from rich.console import Console

from hepdecorr.config.schema import Config
from hepdecorr.evaluation.metrics import Evaluation, evaluate, quantile_mapped_logit
from hepdecorr.evaluation.report.content import atomic_write
from hepdecorr.model_card import ModelCard
from hepdecorr.stats.results import ResultRecord
from hepdecorr.table import EVENT_IDS, assign_folds
from hepdecorr.workflow import progress
from hepdecorr.workflow.cache import digest, source_digest
from hepdecorr.workflow.extra_scores import strip_seed

RecordT = TypeVar("RecordT", bound=ResultRecord)
EvaluationKey = tuple[str, str, bool]  # column of the logit, nuisance, whether after a quantile map


def evaluate_taggers(
    config: Config, events: Mapping[str, Any], cards: Mapping[str, ModelCard], *, console: Console
) -> tuple[dict[str, list[Evaluation]], dict[str, list[Evaluation]]]:
    """By tagger, for each of its seeds and each nuisance; then the same of the quantile maps asked for.

    events: logits by the names of `cards` (TAGGER-SEED), nuisances, label, weight and event numbers.  What
    was measured before, with the same arrays, settings and code, is read from OUTPUT/metrics_cache.
    """
    asked: list[EvaluationKey] = [
        (name, nuisance, False) for name in cards for nuisance in config.protected_nuisances
    ]
    asked += [(name, z, True) for name, z, _ in asked if strip_seed(name) in config.report.quantile_mapped]
    found = _evaluate_cached(config, events, cards, asked, console=console)
    sorted_out: tuple[dict[str, list[Evaluation]], dict[str, list[Evaluation]]] = ({}, {})
    for name, nuisance, mapped in asked:
        sorted_out[mapped].setdefault(strip_seed(name), []).append(found[name, nuisance, mapped])
    return sorted_out


def evaluate_models(
    config: Config, events: Mapping[str, Any], cards: Mapping[str, ModelCard], *, console: Console
) -> dict[str, list[Evaluation]]:
    """Like `measure`, by the names of `cards`, one evaluation per nuisance, without maps."""
    asked: list[EvaluationKey] = [
        (name, nuisance, False) for name in cards for nuisance in config.protected_nuisances
    ]
    found = _evaluate_cached(config, events, cards, asked, console=console)
    return {name: [found[name, nuisance, False] for nuisance in config.protected_nuisances] for name in cards}


def _evaluate_cached(
    config: Config,
    events: Mapping[str, Any],
    cards: Mapping[str, ModelCard],
    evaluation_keys: Sequence[EvaluationKey],
    *,
    console: Console,
) -> dict[EvaluationKey, Evaluation]:
    found: dict[EvaluationKey, Evaluation] = {}
    work = {}
    for one in evaluation_keys:
        arrays, settings, half = _make_task(config, events, cards, one)
        path = config.output_folder / "metrics_cache" / f"{cache_key(arrays, settings, half)}.json"
        if (known := load_cached(Evaluation, path)) is not None:
            found[one] = known
        else:
            work[one] = (path, arrays, settings, half)
    if work:
        _evaluate_missing(config, work, found, console=console)
    return found


def event_weights(events: Mapping[str, Any]) -> Any:
    """Weights of the events; None where all are equal."""
    # Equal weights are none: counts have exact permutations and intervals, sums of weights have not.
    weight = events["weight"]
    return None if len(weight) == 0 or (weight == weight[0]).all() else weight


def _evaluate_missing(
    config: Config,
    tasks: Mapping[EvaluationKey, tuple[Path, Any, Any, Any]],
    results: dict[EvaluationKey, Evaluation],
    *,
    console: Console,
) -> None:
    workers = min(config.resources.jobs, len(tasks))
    with progress.progress_bars(console) as bars:
        task = bars.add_task("measure", total=len(tasks), note="")
        done = _run_serial(tasks) if workers == 1 else _run_parallel(tasks, workers)
        for one, ready in done:
            with progress.prefix_errors(_config_location(config, one)):
                results[one] = ready()
            atomic_write(tasks[one][0], results[one].to_json().encode())
            bars.advance(task)


def _run_serial(
    tasks: Mapping[EvaluationKey, tuple[Path, Any, Any, Any]],
) -> Iterator[tuple[EvaluationKey, Any]]:
    # A process of its own would only cost its start.
    with threadpoolctl.threadpool_limits(limits=1):
        for one, (_, *rest) in tasks.items():
            yield one, partial(_evaluate_task, *rest)


def _run_parallel(
    tasks: Mapping[EvaluationKey, tuple[Path, Any, Any, Any]], workers: int
) -> Iterator[tuple[EvaluationKey, Any]]:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_limit_threads) as pool:
        futures = {pool.submit(_evaluate_task, *rest): one for one, (_, *rest) in tasks.items()}
        for future in as_completed(futures):
            yield futures[future], future.result


def _make_task(
    config: Config, events: Mapping[str, Any], cards: Mapping[str, ModelCard], evaluation_key: EvaluationKey
) -> tuple[tuple[Any, ...], dict[str, Any], Any]:
    name, nuisance, mapped = evaluation_key
    arrays = (events[name], events["label"], events[nuisance].astype(np.float64), event_weights(events))
    return arrays, _evaluation_settings(config, cards[name], nuisance), _half_mask(events) if mapped else None


def cache_key(arrays: tuple[Any, ...], settings: Mapping[str, Any], half_mask: Any) -> str:
    """Digest of all that a measured figure depends on."""
    content = hashlib.sha256()
    for array in (*arrays, half_mask):
        content.update(b"none" if array is None else np.ascontiguousarray(array).tobytes())
    # JSON knows keys of text alone.
    told = {k: sorted(v.items()) if isinstance(v, Mapping) else v for k, v in settings.items()}
    return digest(content.hexdigest(), told, source_digest("metrics"))[:32]


def load_cached(record_type: type[RecordT], path: Path) -> RecordT | None:
    """What was measured before; None where there is nothing that can be read."""
    try:
        return record_type.from_json(path.read_text())
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _config_location(config: Config, evaluation_key: EvaluationKey) -> str:
    name, nuisance, mapped = evaluation_key
    place = ("report", "quantile_mapped") if mapped else ("nuisances", nuisance)
    return f"{config.location_of(*place)}: {name}"


def _evaluation_settings(config: Config, card: ModelCard, nuisance: str) -> dict[str, Any]:
    spec = config.protected_nuisances[nuisance]
    return {
        "range": (spec.low, spec.high),
        "bins": spec.bins,
        "rejections": tuple(config.working_points),
        "thresholds": {p.rejection: p.threshold for p in card.working_points},
        "name": nuisance,
        "unit": next(n.unit for n in card.nuisances if n.name == nuisance),
    }


def _half_mask(events: Mapping[str, Any]) -> Any:
    """Half of the events with all of their entries, or of groups, by a hash that is not that of the folds."""
    sides = ["group"] if "group" in events else EVENT_IDS
    return assign_folds(*(events[name] for name in sides), folds=2, salt=1) == 0


def _evaluate_task(arrays: tuple[Any, ...], settings: dict[str, Any], half_mask: Any) -> Evaluation:
    if half_mask is None:
        return evaluate(*arrays, **settings)
    logit, label, nuisance, weight = arrays
    mapped = quantile_mapped_logit(logit, nuisance, label, weight=weight, half_mask=half_mask)
    # The card's thresholds are on the score without the map.
    return evaluate(mapped, label, nuisance, weight, **{**settings, "thresholds": {}})


def _limit_threads() -> None:
    # Worker processes with several threads each only wait for one another.
    threadpoolctl.threadpool_limits(limits=1)
