"""From scores and histograms to the report."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import hist
import numpy as np
from rich.console import Console

from hepdecorr.card import Card
from hepdecorr.cli import further, grouping, measuring, signals
from hepdecorr.cli.measuring import weights
from hepdecorr.cli.stamps import Stamp, versions
from hepdecorr.cli.training import histories
from hepdecorr.config import Config
from hepdecorr.errors import InputError
from hepdecorr.table import EVENT_IDS, Table
from hepdecorr.validation.latents import Latents
from hepdecorr.validation.plots import Second, quantile_edges
from hepdecorr.validation.plots.scores import Scores
from hepdecorr.validation.report import ReportInput, report


def write(config: Config, *, folder: Path, models: Mapping[str, Path], console: Console) -> Path:
    """Measure the taggers (TAGGER-SEED -> model folder) on the evaluated events and write the report."""
    from hepdecorr.cli import bins
    from hepdecorr.columnar import histograms, images
    from hepdecorr.columnar.tagger import OnnxTagger

    evaluated = config.output_folder / "evaluation"
    scores = Table.open(evaluated / "scores")
    if missing := [name for name in models if name not in scores.names("score")]:
        raise InputError(
            f"{evaluated}: {missing[0]} is not in it; run 'hepdecorr evaluate {config.path.name}'"
        )
    cards = {name: OnnxTagger(path, base=config.base).card for name, path in models.items()}
    more = {} if config.report.further == "none" else further.found(scores, models)
    others = {name: more[name] for name in further.chosen(config, more)}  # measured as taggers are
    wanted = [*models, *more, *config.nuisances, "label", "weight", *EVENT_IDS, "dataset"]
    wanted += scores.names("group")
    events = scores.read(wanted)
    about = cards | further.cards(cards, others)
    measured, mapped = measuring.measure(config, events, about, console=console)
    places = signals.signals(scores)
    by_sample = signals.measured(config, events, [*models, *more], signals=places, console=console)
    first = _first(models)
    every = _first([*models, *others])
    stages = histories(config, first)
    filled = histograms.load(evaluated / "histograms.zip")
    filled = {k: renamed(h, first if k == images.NAME else every) for k, h in filled.items()}
    content = ReportInput(
        name=config.title or config.name,
        taggers=measured,
        config_text=config.text + "".join(f"\n# --set {o}" for o in config.overrides),
        images=filled.pop(images.NAME, None),
        histograms={nuisance: filled[nuisance] for nuisance in config.protected},
        labels={name: int(meta["label"]) for name, meta in scores.datasets.items()},
        titles={c.name: c.title for c in scores.columns if c.role == "nuisance" and c.title},
        scores={
            nuisance: {
                tagger: Scores(events[name], events["label"], events[nuisance], weights(events))
                for tagger, name in _first([*models, *more]).items()
            }
            for nuisance in config.protected
        },
        histories={tagger: curves(stages[name]) for tagger, name in first.items()},
        completeness=_completeness(config),
        cards={name: json.loads(card.to_json()) for name, card in cards.items()},
        versions=versions(),
        provenance={"config": config.path.name, "evaluation": scores.provenance["fingerprint"]},
        seconds=_seconds(config, events, scores),
        slices=(slices := bins.slices(config, events)),
        in_slices=bins.measured(events, slices, [*models, *others], weight=weights(events)),
        plane=bins.plane(config, {tagger: models[name] for tagger, name in first.items()}),
        mapped=mapped,
        series=_series(config, first),
        latents=_latents(models, cards),
        by_sample=by_sample,
        behind=signals.behind(config, events, [*models, *more], by_sample, signals=places),
        correlations=signals.correlations(config, events, [*models, *more], console=console),
        spectra=further.spectra(config, every),
        groups=grouping.between(config, events, models, others, scores=scores, console=console),
        sample=f"the test events of {', '.join(scores.datasets)}",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    with console.status("drawing the report"):
        return report(folder, content)


def _first(names: Iterable[str]) -> dict[str, str]:
    """Of each tagger or further score, the name with its first seed."""
    found: dict[str, str] = {}
    for name in names:
        found.setdefault(further.tagger_of(name), name)
    return found


def _seconds(config: Config, events: Mapping[str, Any], scores: Table) -> dict[str, Second]:
    """For each protected nuisance another one, to look in bins of it: one with slices before all others."""
    found = {}
    for name in config.protected:
        others = sorted(
            (n for n in config.nuisances if n != name), key=lambda n: not config.nuisances[n].slices
        )
        if not config.objects or not others:
            continue
        column, values = scores.column(others[0]), events[others[0]]
        edges = config.nuisances[others[0]].slices or quantile_edges(values, weight=weights(events))
        found[name] = Second(values, edges, column.title or others[0], column.unit)
    return found


def _series(config: Config, taggers: Mapping[str, str]) -> dict[str, list[tuple[str, str]]]:
    """The series of the config, (label, tagger), as far as the taggers are reported."""
    found = {
        name: [(label, tagger) for label, tagger in row.items() if tagger in taggers]
        for name, row in config.report.series.items()
    }
    return {name: row for name, row in found.items() if row}


def _latents(models: Mapping[str, Path], cards: Mapping[str, Card]) -> dict[str, list[Latents]]:
    """By tagger, what each of its seeds reveals, where the training left it beside the card."""
    found: dict[str, list[Latents]] = {}
    for name, folder in models.items():
        if (one := revealed(folder, cards[name])) is not None:
            found.setdefault(further.tagger_of(name), []).append(one)
    return found


def revealed(folder: Path, card: Card) -> Latents | None:
    """The latents that lie beside a tagger; None where it has none."""
    path = folder / "latents.npz"
    if not path.is_file():
        return None
    with np.load(path, allow_pickle=False) as arrays:
        return Latents.of(dict(arrays), features=card.feature_names)


def renamed(filled: hist.Hist[Any], chosen: Mapping[str, str]) -> hist.Hist[Any]:
    """The histogram with only the taggers `chosen`, {new name: old name}."""
    axes = [
        hist.axis.StrCategory(list(chosen), growth=True, name="tagger") if axis.name == "tagger" else axis
        for axis in filled.axes
    ]
    result: hist.Hist[Any] = hist.Hist(*axes, storage=hist.storage.Weight())
    names = [axis.name for axis in filled.axes]
    where = names.index("tagger")
    order = [list(filled.axes[where]).index(old) for old in chosen.values()]
    result.view(flow=True)[...] = np.take(filled.view(flow=True), order, axis=where)
    return result


def curves(stages: list[dict[str, Any]]) -> dict[str, list[float]]:
    """Curves of all stages, by 'panel/curve'; what was not a number that epoch is a gap."""
    found = {}
    for stage in stages:
        prefix = f"{stage['stage']}: " if len(stages) > 1 else ""
        for name, values in stage["curves"].items():
            player, _, term = name.partition("/")
            found[f"{prefix}{player}/{term}"] = [math.nan if v is None else v for v in values]
    return found


def _completeness(config: Config) -> dict[str, Any]:
    found = {}
    for step, name in (("table", "training table"), ("evaluation", "evaluation")):
        stamp = Stamp.read(config.output_folder / step / "stamp.json") or {}
        if "completeness" in stamp:
            found[name] = stamp["completeness"]
    return found
