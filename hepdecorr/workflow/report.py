"""Scores, further ones too, against each signal dataset by itself, and against the nuisances by rank.

What a report shows in bins of the nuisance, and over the plane of the features where these are two.

From scores and histograms to the report.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import hist
import numpy as np
from rich.console import Console

from hepdecorr.config.schema import Config
from hepdecorr.errors import InputError
from hepdecorr.evaluation.metrics import (
    Estimate,
    InBins,
    NuisanceBins,
    PerSignal,
    evaluate_in_bins,
    evaluate_per_signal,
    mean_auc_difference,
    rank_correlation,
)
from hepdecorr.evaluation.plots import DecisionSurface, SecondVariable, quantile_edges
from hepdecorr.evaluation.plots.scores import TaggerScores
from hepdecorr.evaluation.report.content import atomic_write
from hepdecorr.evaluation.report.decorrelation import DecorrelationReport, write_decorrelation_report
from hepdecorr.evaluation.report.latents import LatentSample
from hepdecorr.model_card import ModelCard
from hepdecorr.table import EVENT_IDS, Selection, Table
from hepdecorr.workflow import evaluate_metrics, extra_scores, groups, progress
from hepdecorr.workflow.cache import CacheStamp, library_versions
from hepdecorr.workflow.evaluate_metrics import event_weights
from hepdecorr.workflow.extra_scores import strip_seed
from hepdecorr.workflow.train_jobs import load_histories

NUM_REPLICAS = 50  # of a rank correlation's bootstrap: its error to 10 %


def signal_datasets(scores: Table) -> dict[str, int]:
    """The signal datasets by title, or by name where titles repeat, each with its place in the table."""
    own = {name: str(about.get("title") or name) for name, about in scores.datasets.items()}
    own = {name: title for name, title in own.items() if scores.datasets[name].get("label") == 1}
    places = {name: number for number, name in enumerate(scores.datasets)}
    twice = len(set(own.values())) < len(own)
    return {name if twice else title: places[name] for name, title in own.items()}


def measure_signals(
    config: Config,
    events: Mapping[str, Any],
    names: Iterable[str],
    *,
    signals: Mapping[str, int],
    console: Console,
) -> dict[str, list[PerSignal]]:
    """By TAGGER or TAGGER.NAME one for each seed; nothing for a single signal.

    events: scores by `names`, label, weight and 'dataset'.  What was measured before, with the same arrays,
    settings and code, is read from OUTPUT/metrics_cache.
    """
    if len(signals) < 2:
        return {}
    sample = _signal_indices(events, signals)
    settings: dict[str, Any] = {"signal_names": list(signals), "rejections": list(config.working_points)}
    found: dict[str, list[PerSignal]] = {}
    names = list(names)
    with progress.progress_bars(console) as bars:
        task = bars.add_task("measure by signal", total=len(names), note="")
        for name in names:
            arrays = (events[name], events["label"], sample, evaluate_metrics.event_weights(events))
            path = (
                config.output_folder
                / "metrics_cache"
                / f"{evaluate_metrics.cache_key(arrays, settings, None)}.json"
            )
            if (one := evaluate_metrics.load_cached(PerSignal, path)) is None:
                with progress.prefix_errors(name):
                    one = evaluate_per_signal(*arrays, **settings)
                atomic_write(path, one.to_json().encode())
            found.setdefault(strip_seed(name), []).append(one)
            bars.advance(task)
    return found


def auc_deficit_to_best(
    config: Config,
    events: Mapping[str, Any],
    names: Iterable[str],
    results: Mapping[str, Sequence[PerSignal]],
    *,
    signals: Mapping[str, int],
) -> dict[str, list[Estimate]]:
    """How far the mean AUC of each score is behind the best one's, seed by seed on the same events.

    found: of `measured`. The best is that of the largest mean over its seeds; it has none itself, nor has a
    score of other seeds.
    """
    if not results:
        return {}
    best = max(results, key=lambda name: float(np.mean([one.mean_auc.value for one in results[name]])))
    columns: dict[str, list[str]] = {}
    for name in names:
        columns.setdefault(strip_seed(name), []).append(name)
    sample, weight = _signal_indices(events, signals), evaluate_metrics.event_weights(events)
    told: dict[str, list[Estimate]] = {}
    for name, own in columns.items():
        if name == best or [_parse_seed(one) for one in own] != [_parse_seed(one) for one in columns[best]]:
            continue
        for leader, one in zip(columns[best], own, strict=True):
            arrays = (events[leader], events[one], events["label"], sample, weight)
            settings: dict[str, Any] = {"num_signals": len(signals)}
            path = (
                config.output_folder
                / "metrics_cache"
                / f"{evaluate_metrics.cache_key(arrays, settings, None)}.json"
            )
            if (known := evaluate_metrics.load_cached(Estimate, path)) is None:
                known = mean_auc_difference(arrays[:2], *arrays[2:], **settings)
                atomic_write(path, known.to_json().encode())
            told.setdefault(name, []).append(known)
    return told


def _parse_seed(name: str) -> str:
    """SEED of TAGGER-SEED or TAGGER-SEED.NAME."""
    return name.partition("-")[2].partition(".")[0]


def _signal_indices(events: Mapping[str, Any], signals: Mapping[str, int]) -> Any:
    """Of every event the place of its dataset among the signals; of background it says nothing."""
    last = max(int(np.max(events["dataset"], initial=0)), *signals.values())
    place = np.zeros(last + 1, dtype=np.int64)
    place[list(signals.values())] = np.arange(len(signals))
    return place[events["dataset"]]


def measure_rank_correlations(
    config: Config, events: Mapping[str, Any], names: Iterable[str], *, console: Console
) -> dict[str, dict[str, list[Estimate]]]:
    """By nuisance and TAGGER or TAGGER.NAME the rank correlation in background, one for each seed.

    Kept as `measured` keeps its figures; a score that is constant has none.
    """
    weight, background = evaluate_metrics.event_weights(events), events["label"] == 0
    w = None if weight is None else weight[background]
    found: dict[str, dict[str, list[Estimate]]] = {nuisance: {} for nuisance in config.protected_nuisances}
    asked = [(name, nuisance) for name in names for nuisance in config.protected_nuisances]
    with progress.progress_bars(console) as bars:
        task = bars.add_task("correlate by rank", total=len(asked), note="")
        for name, nuisance in asked:
            arrays = (events[name][background], events[nuisance][background], w)
            settings: dict[str, Any] = {"replicas": NUM_REPLICAS}
            path = (
                config.output_folder
                / "metrics_cache"
                / f"{evaluate_metrics.cache_key(arrays, settings, None)}.json"
            )
            if (one := evaluate_metrics.load_cached(Estimate, path)) is None and np.ptp(arrays[0]) > 0:
                with progress.prefix_errors(name):
                    one = rank_correlation(*arrays[:2], weight=w, **settings)
                atomic_write(path, one.to_json().encode())
            if one is not None:
                found[nuisance].setdefault(strip_seed(name), []).append(one)
            bars.advance(task)
    return found


NUM_GRID_POINTS = 161  # points of the grid along each feature
MAX_SURFACE_EVENTS = 5000  # among which the figure looks for points to show
COVERED_QUANTILES = (0.002, 0.998)  # of the events, by the plane


def nuisance_bins(config: Config, events: Mapping[str, Any]) -> dict[str, NuisanceBins]:
    """Bins of each protected nuisance that has some: its `slices`, or its values where they are few."""
    found = {
        name: NuisanceBins.from_values(events[name], spec.bin_edges)
        for name, spec in config.protected_nuisances.items()
        if len(events[name])
    }
    return {name: one for name, one in found.items() if one is not None}


def measure_in_bins(
    events: Mapping[str, Any], binnings: Mapping[str, NuisanceBins], models: Iterable[str], *, weight: Any
) -> dict[str, dict[str, list[InBins]]]:
    """Nuisance -> tagger -> its figures in bins, one for each seed; models: names TAGGER-SEED."""
    found: dict[str, dict[str, list[InBins]]] = {nuisance: {} for nuisance in binnings}
    for model in models:
        for nuisance, bins in binnings.items():
            one = evaluate_in_bins(
                events[model], events["label"], events[nuisance], weight, nuisance_bins=bins, name=nuisance
            )
            found[nuisance].setdefault(strip_seed(model), []).append(one)
    return found


def compute_decision_surface(config: Config, models: Mapping[str, Path]) -> DecisionSurface | None:
    """The taggers (name -> folder) on a grid of their two features, with some test events.

    None where the features are not two, rows have constituents, or there is no table to take events from.
    """
    from hepdecorr.columnar.tagger import OnnxTagger

    try:
        table = Table.open(config.output_folder / "table")
    except InputError:
        return None  # a report can be made where only the scores are
    names = table.column_names("feature")
    taggers = {name: OnnxTagger(path, base=config.base) for name, path in models.items()}
    # A point of the plane belongs to no group.
    taggers = {name: one for name, one in taggers.items() if one.card.context is None}
    if len(names) != 2 or any(one.card.constituents or not one.feature_names for one in taggers.values()):
        return None
    if not taggers:
        return None
    chosen = Selection("test", config.table_split)
    rows = table.read([*names, *config.protected_nuisances, "label"], select=chosen)
    if not len(rows["label"]):
        return None
    # Rows stand dataset by dataset: some of everywhere, in an order that is the same each time.
    order = np.random.default_rng(0).permutation(len(rows["label"]))[:MAX_SURFACE_EVENTS]
    points = np.stack([rows[name][order] for name in names], 1).astype(np.float64)
    x, y = (_grid_axis(points[:, k]) for k in (0, 1))
    grid = dict(zip(names, np.stack(np.meshgrid(x, y), -1).reshape(-1, 2).T.astype(np.float32), strict=True))
    # A tagger may take one of the two alone.
    logits = {name: one.logits(one.feature_matrix(grid)).astype(np.float64) for name, one in taggers.items()}
    return DecisionSurface(
        x=x,
        y=y,
        logits={name: one.reshape(len(y), len(x)) for name, one in logits.items()},
        points=points,
        label=rows["label"][order],
        nuisances={name: rows[name][order] for name in config.protected_nuisances},
        titles=(_axis_title(table, names[0]), _axis_title(table, names[1])),
    )


def _grid_axis(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    low, high = np.quantile(values, COVERED_QUANTILES)
    margin = 0.03 * (high - low) or 1.0
    return np.linspace(low - margin, high + margin, NUM_GRID_POINTS)


def _axis_title(table: Table, name: str) -> str:
    column = table.column(name)
    return f"{column.title or name} [{column.unit}]" if column.unit else column.title or name


def build_report(config: Config, *, folder: Path, models: Mapping[str, Path], console: Console) -> Path:
    """Measure the taggers (TAGGER-SEED -> model folder) on the evaluated events and write the report."""
    from hepdecorr.columnar import histograms, jet_images
    from hepdecorr.columnar.tagger import OnnxTagger

    evaluated = config.output_folder / "evaluation"
    scores = Table.open(evaluated / "scores")
    if missing := [name for name in models if name not in scores.column_names("score")]:
        raise InputError(
            f"{evaluated}: {missing[0]} is not in it; run 'hepdecorr evaluate {config.path.name}'"
        )
    cards = {name: OnnxTagger(path, base=config.base).card for name, path in models.items()}
    more = {} if config.report.extra_scores == "none" else extra_scores.find_extra_scores(scores, models)
    others = {
        name: more[name] for name in extra_scores.select_extra_scores(config, more)
    }  # measured as taggers are
    wanted = [*models, *more, *config.nuisances, "label", "weight", *EVENT_IDS, "dataset"]
    wanted += scores.column_names("group")
    events = scores.read(wanted)
    about = cards | extra_scores.make_extra_score_cards(cards, others)
    measured, mapped = evaluate_metrics.evaluate_taggers(config, events, about, console=console)
    places = signal_datasets(scores)
    by_sample = measure_signals(config, events, [*models, *more], signals=places, console=console)
    first = _first_seed_names(models)
    every = _first_seed_names([*models, *others])
    stages = load_histories(config, first)
    filled = histograms.load(evaluated / "histograms.zip")
    filled = {
        k: select_taggers(h, first if k == jet_images.HISTOGRAM_NAME else every) for k, h in filled.items()
    }
    content = DecorrelationReport(
        name=config.title or config.name,
        taggers=measured,
        config_text=config.text + "".join(f"\n# --set {o}" for o in config.overrides),
        jet_images=filled.pop(jet_images.HISTOGRAM_NAME, None),
        histograms={nuisance: filled[nuisance] for nuisance in config.protected_nuisances},
        labels={name: int(meta["label"]) for name, meta in scores.datasets.items()},
        titles={c.name: c.title for c in scores.columns if c.role == "nuisance" and c.title},
        scores={
            nuisance: {
                tagger: TaggerScores(events[name], events["label"], events[nuisance], event_weights(events))
                for tagger, name in _first_seed_names([*models, *more]).items()
            }
            for nuisance in config.protected_nuisances
        },
        histories={tagger: collect_curves(stages[name]) for tagger, name in first.items()},
        completeness=_read_completeness(config),
        cards={name: json.loads(card.to_json()) for name, card in cards.items()},
        versions=library_versions(),
        provenance={"config": config.path.name, "evaluation": scores.provenance["fingerprint"]},
        second_variables=_second_variables(config, events, scores),
        nuisance_bins=(slices := nuisance_bins(config, events)),
        in_bins=measure_in_bins(events, slices, [*models, *others], weight=event_weights(events)),
        decision_surface=compute_decision_surface(
            config, {tagger: models[name] for tagger, name in first.items()}
        ),
        quantile_mapped=mapped,
        series=_reported_series(config, first),
        latents=_collect_latents(models, cards),
        per_signal=by_sample,
        auc_deficits=auc_deficit_to_best(config, events, [*models, *more], by_sample, signals=places),
        rank_correlations=measure_rank_correlations(config, events, [*models, *more], console=console),
        spectra_panels=extra_scores.select_spectra_panels(config, every),
        groups=groups.measure_between_groups(config, events, models, others, scores=scores, console=console),
        sample_description=f"the test events of {', '.join(scores.datasets)}",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    with console.status("drawing the report"):
        return write_decorrelation_report(folder, content)


def _first_seed_names(names: Iterable[str]) -> dict[str, str]:
    """Of each tagger or further score, the name with its first seed."""
    found: dict[str, str] = {}
    for name in names:
        found.setdefault(extra_scores.strip_seed(name), name)
    return found


def _second_variables(config: Config, events: Mapping[str, Any], scores: Table) -> dict[str, SecondVariable]:
    """For each protected nuisance another one, to look in bins of it: one with slices before all others."""
    found = {}
    for name in config.protected_nuisances:
        others = sorted(
            (n for n in config.nuisances if n != name), key=lambda n: not config.nuisances[n].bin_edges
        )
        if not config.objects or not others:
            continue
        column, values = scores.column(others[0]), events[others[0]]
        edges = config.nuisances[others[0]].bin_edges or quantile_edges(values, weight=event_weights(events))
        found[name] = SecondVariable(values, edges, column.title or others[0], column.unit)
    return found


def _reported_series(config: Config, taggers: Mapping[str, str]) -> dict[str, list[tuple[str, str]]]:
    """The series of the config, (label, tagger), as far as the taggers are reported."""
    found = {
        name: [(label, tagger) for label, tagger in row.items() if tagger in taggers]
        for name, row in config.report.series.items()
    }
    return {name: row for name, row in found.items() if row}


def _collect_latents(
    models: Mapping[str, Path], cards: Mapping[str, ModelCard]
) -> dict[str, list[LatentSample]]:
    """By tagger, what each of its seeds reveals, where the training left it beside the card."""
    found: dict[str, list[LatentSample]] = {}
    for name, folder in models.items():
        if (one := load_latents(folder, cards[name])) is not None:
            found.setdefault(extra_scores.strip_seed(name), []).append(one)
    return found


def load_latents(folder: Path, card: ModelCard) -> LatentSample | None:
    """The latents that lie beside a tagger; None where it has none."""
    path = folder / "latents.npz"
    if not path.is_file():
        return None
    with np.load(path, allow_pickle=False) as arrays:
        return LatentSample.from_arrays(dict(arrays), features=card.feature_names)


def select_taggers(histogram: hist.Hist[Any], old_names: Mapping[str, str]) -> hist.Hist[Any]:
    """The histogram with only the taggers `chosen`, {new name: old name}."""
    axes = [
        hist.axis.StrCategory(list(old_names), growth=True, name="tagger") if axis.name == "tagger" else axis
        for axis in histogram.axes
    ]
    result: hist.Hist[Any] = hist.Hist(*axes, storage=hist.storage.Weight())
    names = [axis.name for axis in histogram.axes]
    where = names.index("tagger")
    order = [list(histogram.axes[where]).index(old) for old in old_names.values()]
    result.view(flow=True)[...] = np.take(histogram.view(flow=True), order, axis=where)
    return result


def collect_curves(stages: list[dict[str, Any]]) -> dict[str, list[float]]:
    """Curves of all stages, by 'panel/curve'; what was not a number that epoch is a gap."""
    found = {}
    for stage in stages:
        prefix = f"{stage['stage']}: " if len(stages) > 1 else ""
        for name, values in stage["curves"].items():
            player, _, term = name.partition("/")
            found[f"{prefix}{player}/{term}"] = [math.nan if v is None else v for v in values]
    return found


def _read_completeness(config: Config) -> dict[str, Any]:
    found = {}
    for step, name in (("table", "training table"), ("evaluation", "evaluation")):
        stamp = CacheStamp.read_content(config.output_folder / step / "stamp.json") or {}
        if "completeness" in stamp:
            found[name] = stamp["completeness"]
    return found
