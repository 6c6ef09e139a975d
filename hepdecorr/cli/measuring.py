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

from hepdecorr.card import Card
from hepdecorr.cli import show
from hepdecorr.cli.further import tagger_of
from hepdecorr.cli.stamps import code, digest
from hepdecorr.config import Config
from hepdecorr.table import EVENT_IDS, fold
from hepdecorr.validation.content import write
from hepdecorr.validation.measures import Evaluation, evaluate, quantile_map
from hepdecorr.validation.measures.numbers import Record

Kept = TypeVar("Kept", bound=Record)
Asked = tuple[str, str, bool]  # column of the logit, nuisance, whether after a quantile map


def measure(
    config: Config, events: Mapping[str, Any], cards: Mapping[str, Card], *, console: Console
) -> tuple[dict[str, list[Evaluation]], dict[str, list[Evaluation]]]:
    """By tagger, for each of its seeds and each nuisance; then the same of the quantile maps asked for.

    events: logits by the names of `cards` (TAGGER-SEED), nuisances, label, weight and event numbers.  What
    was measured before, with the same arrays, settings and code, is read from OUTPUT/measured.
    """
    asked: list[Asked] = [(name, nuisance, False) for name in cards for nuisance in config.protected]
    asked += [(name, z, True) for name, z, _ in asked if tagger_of(name) in config.report.mapped]
    found = _measured(config, events, cards, asked, console=console)
    sorted_out: tuple[dict[str, list[Evaluation]], dict[str, list[Evaluation]]] = ({}, {})
    for name, nuisance, mapped in asked:
        sorted_out[mapped].setdefault(tagger_of(name), []).append(found[name, nuisance, mapped])
    return sorted_out


def one_by_one(
    config: Config, events: Mapping[str, Any], cards: Mapping[str, Card], *, console: Console
) -> dict[str, list[Evaluation]]:
    """Like `measure`, by the names of `cards`, one evaluation per nuisance, without maps."""
    asked: list[Asked] = [(name, nuisance, False) for name in cards for nuisance in config.protected]
    found = _measured(config, events, cards, asked, console=console)
    return {name: [found[name, nuisance, False] for nuisance in config.protected] for name in cards}


def _measured(
    config: Config,
    events: Mapping[str, Any],
    cards: Mapping[str, Card],
    asked: Sequence[Asked],
    *,
    console: Console,
) -> dict[Asked, Evaluation]:
    found: dict[Asked, Evaluation] = {}
    work = {}
    for one in asked:
        arrays, settings, half = _work(config, events, cards, one)
        path = config.output_folder / "measured" / f"{key(arrays, settings, half)}.json"
        if (known := kept(Evaluation, path)) is not None:
            found[one] = known
        else:
            work[one] = (path, arrays, settings, half)
    if work:
        _measure_all(config, work, found, console=console)
    return found


def weights(events: Mapping[str, Any]) -> Any:
    """Weights of the events; None where all are equal."""
    # Equal weights are none: counts have exact permutations and intervals, sums of weights have not.
    weight = events["weight"]
    return None if len(weight) == 0 or (weight == weight[0]).all() else weight


def _measure_all(
    config: Config,
    work: Mapping[Asked, tuple[Path, Any, Any, Any]],
    found: dict[Asked, Evaluation],
    *,
    console: Console,
) -> None:
    workers = min(config.training.jobs, len(work))
    with show.progress(console) as bars:
        task = bars.add_task("measure", total=len(work), note="")
        done = _one_by_one(work) if workers == 1 else _side_by_side(work, workers)
        for one, ready in done:
            with show.blamed(_place(config, one)):
                found[one] = ready()
            write(work[one][0], found[one].to_json().encode())
            bars.advance(task)


def _one_by_one(work: Mapping[Asked, tuple[Path, Any, Any, Any]]) -> Iterator[tuple[Asked, Any]]:
    # A process of its own would only cost its start.
    with threadpoolctl.threadpool_limits(limits=1):
        for one, (_, *rest) in work.items():
            yield one, partial(_evaluated, *rest)


def _side_by_side(
    work: Mapping[Asked, tuple[Path, Any, Any, Any]], workers: int
) -> Iterator[tuple[Asked, Any]]:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_alone) as pool:
        futures = {pool.submit(_evaluated, *rest): one for one, (_, *rest) in work.items()}
        for future in as_completed(futures):
            yield futures[future], future.result


def _work(
    config: Config, events: Mapping[str, Any], cards: Mapping[str, Card], one: Asked
) -> tuple[tuple[Any, ...], dict[str, Any], Any]:
    name, nuisance, mapped = one
    arrays = (events[name], events["label"], events[nuisance].astype(np.float64), weights(events))
    return arrays, _settings(config, cards[name], nuisance), _halves(events) if mapped else None


def key(arrays: tuple[Any, ...], settings: Mapping[str, Any], half: Any) -> str:
    """Digest of all that a measured figure depends on."""
    content = hashlib.sha256()
    for array in (*arrays, half):
        content.update(b"none" if array is None else np.ascontiguousarray(array).tobytes())
    # JSON knows keys of text alone.
    told = {k: sorted(v.items()) if isinstance(v, Mapping) else v for k, v in settings.items()}
    return digest(content.hexdigest(), told, code("measure"))[:32]


def kept(kind: type[Kept], path: Path) -> Kept | None:
    """What was measured before; None where there is nothing that can be read."""
    try:
        return kind.from_json(path.read_text())
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _place(config: Config, asked: Asked) -> str:
    name, nuisance, mapped = asked
    return f"{config.at('report', 'mapped') if mapped else config.at('nuisances', nuisance)}: {name}"


def _settings(config: Config, card: Card, nuisance: str) -> dict[str, Any]:
    spec = config.protected[nuisance]
    return {
        "range": (spec.low, spec.high),
        "bins": spec.bins,
        "rejections": tuple(config.working_points),
        "thresholds": {p.rejection: p.threshold for p in card.working_points},
        "name": nuisance,
        "unit": next(n.unit for n in card.nuisances if n.name == nuisance),
    }


def _halves(events: Mapping[str, Any]) -> Any:
    """Half of the events with all of their entries, or of groups, by a hash that is not that of the folds."""
    sides = ["group"] if "group" in events else EVENT_IDS
    return fold(*(events[name] for name in sides), folds=2, salt=1) == 0


def _evaluated(arrays: tuple[Any, ...], settings: dict[str, Any], half: Any) -> Evaluation:
    if half is None:
        return evaluate(*arrays, **settings)
    logit, label, nuisance, weight = arrays
    mapped = quantile_map(logit, nuisance, label, weight=weight, half=half)
    # The card's thresholds are on the score without the map.
    return evaluate(mapped, label, nuisance, weight, **{**settings, "thresholds": {}})


def _alone() -> None:
    # Worker processes with several threads each only wait for one another.
    threadpoolctl.threadpool_limits(limits=1)
