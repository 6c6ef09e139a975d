"""Scores, further ones too, against each signal dataset by itself, and against the nuisances by rank."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from rich.console import Console

from hepdecorr.cli import measuring, show
from hepdecorr.cli.further import tagger_of
from hepdecorr.config import Config
from hepdecorr.table import Table
from hepdecorr.validation.content import write
from hepdecorr.validation.measures import BySample, Measured, by_sample, mean_auc_difference, rank_correlation

REPLICAS = 50  # of a rank correlation's bootstrap: its error to 10 %


def signals(scores: Table) -> dict[str, int]:
    """The signal datasets by title, or by name where titles repeat, each with its place in the table."""
    own = {name: str(about.get("title") or name) for name, about in scores.datasets.items()}
    own = {name: title for name, title in own.items() if scores.datasets[name].get("label") == 1}
    places = {name: number for number, name in enumerate(scores.datasets)}
    twice = len(set(own.values())) < len(own)
    return {name if twice else title: places[name] for name, title in own.items()}


def measured(
    config: Config,
    events: Mapping[str, Any],
    names: Iterable[str],
    *,
    signals: Mapping[str, int],
    console: Console,
) -> dict[str, list[BySample]]:
    """By TAGGER or TAGGER.NAME one for each seed; nothing for a single signal.

    events: scores by `names`, label, weight and 'dataset'.  What was measured before, with the same arrays,
    settings and code, is read from OUTPUT/measured.
    """
    if len(signals) < 2:
        return {}
    sample = _samples(events, signals)
    settings: dict[str, Any] = {"names": list(signals), "rejections": list(config.working_points)}
    found: dict[str, list[BySample]] = {}
    names = list(names)
    with show.progress(console) as bars:
        task = bars.add_task("measure by signal", total=len(names), note="")
        for name in names:
            arrays = (events[name], events["label"], sample, measuring.weights(events))
            path = config.output_folder / "measured" / f"{measuring.key(arrays, settings, None)}.json"
            if (one := measuring.kept(BySample, path)) is None:
                with show.blamed(name):
                    one = by_sample(*arrays, **settings)
                write(path, one.to_json().encode())
            found.setdefault(tagger_of(name), []).append(one)
            bars.advance(task)
    return found


def behind(
    config: Config,
    events: Mapping[str, Any],
    names: Iterable[str],
    found: Mapping[str, Sequence[BySample]],
    *,
    signals: Mapping[str, int],
) -> dict[str, list[Measured]]:
    """How far the mean AUC of each score is behind the best one's, seed by seed on the same events.

    found: of `measured`. The best is that of the largest mean over its seeds; it has none itself, nor has a
    score of other seeds.
    """
    if not found:
        return {}
    best = max(found, key=lambda name: float(np.mean([one.mean_auc.value for one in found[name]])))
    columns: dict[str, list[str]] = {}
    for name in names:
        columns.setdefault(tagger_of(name), []).append(name)
    sample, weight = _samples(events, signals), measuring.weights(events)
    told: dict[str, list[Measured]] = {}
    for name, own in columns.items():
        if name == best or [_seed(one) for one in own] != [_seed(one) for one in columns[best]]:
            continue
        for leader, one in zip(columns[best], own, strict=True):
            arrays = (events[leader], events[one], events["label"], sample, weight)
            settings: dict[str, Any] = {"signals": len(signals)}
            path = config.output_folder / "measured" / f"{measuring.key(arrays, settings, None)}.json"
            if (known := measuring.kept(Measured, path)) is None:
                known = mean_auc_difference(arrays[:2], *arrays[2:], **settings)
                write(path, known.to_json().encode())
            told.setdefault(name, []).append(known)
    return told


def _seed(name: str) -> str:
    """SEED of TAGGER-SEED or TAGGER-SEED.NAME."""
    return name.partition("-")[2].partition(".")[0]


def _samples(events: Mapping[str, Any], signals: Mapping[str, int]) -> Any:
    """Of every event the place of its dataset among the signals; of background it says nothing."""
    last = max(int(np.max(events["dataset"], initial=0)), *signals.values())
    place = np.zeros(last + 1, dtype=np.int64)
    place[list(signals.values())] = np.arange(len(signals))
    return place[events["dataset"]]


def correlations(
    config: Config, events: Mapping[str, Any], names: Iterable[str], *, console: Console
) -> dict[str, dict[str, list[Measured]]]:
    """By nuisance and TAGGER or TAGGER.NAME the rank correlation in background, one for each seed.

    Kept as `measured` keeps its figures; a score that is constant has none.
    """
    weight, background = measuring.weights(events), events["label"] == 0
    w = None if weight is None else weight[background]
    found: dict[str, dict[str, list[Measured]]] = {nuisance: {} for nuisance in config.protected}
    asked = [(name, nuisance) for name in names for nuisance in config.protected]
    with show.progress(console) as bars:
        task = bars.add_task("correlate by rank", total=len(asked), note="")
        for name, nuisance in asked:
            arrays = (events[name][background], events[nuisance][background], w)
            settings: dict[str, Any] = {"replicas": REPLICAS}
            path = config.output_folder / "measured" / f"{measuring.key(arrays, settings, None)}.json"
            if (one := measuring.kept(Measured, path)) is None and np.ptp(arrays[0]) > 0:
                with show.blamed(name):
                    one = rank_correlation(*arrays[:2], weight=w, **settings)
                write(path, one.to_json().encode())
            if one is not None:
                found[nuisance].setdefault(tagger_of(name), []).append(one)
            bars.advance(task)
    return found
