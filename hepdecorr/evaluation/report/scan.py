"""The folder of a scan: scan.html, figures/ as PDF and PNG, points.json and points.csv."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hepdecorr.errors import InputError
from hepdecorr.evaluation import plots
from hepdecorr.evaluation.metrics import (
    Estimate,
    Evaluation,
    aggregate_seeds,
    format_significant,
    to_jsonable,
)
from hepdecorr.evaluation.plots.scans import ScanPoint, inverse_jsd, statistical_limit
from hepdecorr.evaluation.report import latents as latents_module
from hepdecorr.evaluation.report import page
from hepdecorr.evaluation.report.content import FigureStore, atomic_write
from hepdecorr.evaluation.report.latents import LatentSample
from hepdecorr.evaluation.report.page import TableCell, format_over_seeds
from hepdecorr.evaluation.report.tables import sculpting_cell


@dataclass(frozen=True)
class PointResult:
    """One combination of values: its evaluations, one per seed and nuisance, and its cards, one per seed."""

    label: str
    values: Mapping[str, Any]
    evaluations: Sequence[Evaluation] = ()
    cards: Sequence[Mapping[str, Any]] = ()
    folders: Sequence[str] = ()  # of its taggers, from the analysis' output
    failures: Sequence[str] = ()  # why a seed has no tagger
    latents: Sequence[LatentSample] = ()  # of the seeds whose tagger has a representation

    def for_nuisance(self, nuisance: str) -> list[Evaluation]:
        """The evaluations of one nuisance, one per seed."""
        return [one for one in self.evaluations if one.nuisance == nuisance]

    @property
    def migs(self) -> list[float]:
        """MIG of every seed's representation; empty for a tagger without one."""
        return card_migs(self.cards)

    @property
    def cpu_seconds(self) -> list[float]:
        """Of the trainings of which it is known."""
        return training_cpu_seconds(self.cards)


@dataclass(frozen=True)
class ScanReport:
    """What the page says.  keys: of the tagger's block; titles: short names of them.

    histories: label -> what a training kept of each stage, of the first seed.
    """

    name: str
    title: str
    tagger: str
    keys: Sequence[str]
    titles: Mapping[str, str]
    points: Sequence[PointResult]
    reference_evaluations: Mapping[str, Sequence[Evaluation]] = field(
        default_factory=dict
    )  # to draw into the front
    histories: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    command: str = ""
    config_text: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    table_fingerprint: str = ""  # fingerprint
    created: str = ""
    rejection: float | None = None  # of the figures; default: the highest


def write_scan_report(folder: Path, content: ScanReport) -> Path:
    """Write the page, its figures and its numbers; InputError when nothing was measured."""
    measured = [one for point in content.points for one in point.evaluations]
    if not measured:
        raise InputError(f"scan {content.name}: nothing was measured; train at least one point")
    figures = FigureStore(folder / "figures")
    body = [
        page.heading(f"{content.title}: scan of {content.tagger}", level=1),
        page.paragraph(_subtitle(content, measured[0]), css_class="soft"),
    ]
    failures = [f"{point.label}: {reason}" for point in content.points for reason in point.failures]
    body += [page.warning(f"Incomplete. {failure}") for failure in failures]
    for nuisance in dict.fromkeys(one.nuisance for one in measured):
        body += _nuisance_section(content, nuisance, figures)
    body += _training_section(content, figures)
    body += provenance_section(
        content.command, content.versions, content.config_text, table_fingerprint=content.table_fingerprint
    )
    atomic_write(folder / "points.csv", _points_csv(content).encode())
    atomic_write(folder / "points.json", (json.dumps(scan_to_dict(content), indent=1) + "\n").encode())
    title = f"{content.title}: scan of {content.tagger}"
    atomic_write(folder / "scan.html", page.html_page(title, body).encode())
    return folder / "scan.html"


def provenance_section(
    command: str, versions: Mapping[str, str], config_text: str, *, table_fingerprint: str = ""
) -> list[str]:
    """What was run, so that a stranger can do it again."""
    about = {"command": command} | ({"table": table_fingerprint} if table_fingerprint else {})
    return [
        page.heading("What was run"),
        page.key_value_table("Run", about),
        page.key_value_table("Versions", dict(versions)),
        page.details_pre("Configuration", config_text),
    ]


def training_cpu_seconds(cards: Sequence[Mapping[str, Any]]) -> list[float]:
    """CPU-seconds of the trainings that recorded them."""
    found = [dict(card.get("training", {})).get("cpu_seconds") for card in cards]
    return [float(one) for one in found if one is not None]


def card_migs(cards: Sequence[Mapping[str, Any]]) -> list[float]:
    """Mutual information gaps of the representations that have one."""
    found = [dict(card.get("metrics", {})).get("mig") for card in cards]
    return [float(one["value"] if isinstance(one, Mapping) else one) for one in found if one is not None]


def format_cpu_seconds(seconds: Sequence[float]) -> str:
    """Mean and spread over the trainings, or that it was not recorded."""
    return format_over_seeds([Estimate(one, one, one) for one in seconds]) if seconds else "unknown"


def scan_to_dict(content: ScanReport) -> dict[str, Any]:
    """Everything measured, JSON-able."""
    return {
        "version": 1,
        "name": content.name,
        "tagger": content.tagger,
        "keys": list(content.keys),
        "command": content.command,
        "created": content.created,
        "versions": dict(content.versions),
        "table": content.table_fingerprint,
        "config": content.config_text,
        "points": [
            {
                "label": point.label,
                "values": to_jsonable(dict(point.values)),
                "evaluations": [one.to_dict() for one in point.evaluations],
                "mig": point.migs,
                "latents": latents_module.latent_scan_metrics(point.latents),
                "cpu_seconds": point.cpu_seconds,
                "folders": list(point.folders),
                "failures": list(point.failures),
                "cards": to_jsonable(list(point.cards)),
            }
            for point in content.points
        ],
    }


def _subtitle(content: ScanReport, first: Evaluation) -> str:
    events = f"{first.background_events:,} background and {first.signal_events:,} signal events"
    return (
        f"{len(content.points)} points of {', '.join(content.keys)}. Measured on the test events of the "
        f"training table: {events}. {content.created}"
    )


def _figure_rejection(content: ScanReport, evaluations: Sequence[Evaluation]) -> float:
    known = [one.rejection for one in evaluations[0].sculpting]
    wanted = max(known) if content.rejection is None else content.rejection
    return min(known, key=lambda value: abs(value - wanted))


def _nuisance_section(content: ScanReport, nuisance: str, figures: FigureStore) -> list[str]:
    points = [(point, point.for_nuisance(nuisance)) for point in content.points]
    rejection = _figure_rejection(content, next(seeds for _, seeds in points if seeds))
    body = [page.heading(f"Protected variable: {nuisance}"), _scan_table(content, points, rejection)]
    body += latents_module.latent_scan_section(
        [(point.values, point.latents) for point in content.points],
        titles=content.titles,
        tagger=content.tagger,
        nuisance=nuisance,
        figures=figures,
    )
    others = {
        name: [one for one in seeds if one.nuisance == nuisance]
        for name, seeds in content.reference_evaluations.items()
    }
    about: dict[str, Any] = {"nuisance": nuisance, "rejection": 100 * rejection}
    key = content.keys[0]
    drawn = plots.plot_scan_curves(
        _scan_lines(content, points), title=key, rejection=rejection, reference=others.get("plain", [])
    )
    body.append(figures.add(drawn, "scan", nuisance, tagger=content.tagger, scanned=key, **about))
    series: dict[str, list[tuple[str, Sequence[Evaluation]]]] = {
        f"scan of {content.tagger}": [(point.label, seeds) for point, seeds in points]
    }
    series |= {name: [(name, seeds)] for name, seeds in others.items() if seeds}
    for against, title in (("auc", "AUC"), ("efficiency", "signal efficiency")):
        drawn = plots.plot_pareto(series, rejection=rejection, against=against)
        body.append(figures.add(drawn, "pareto", f"{nuisance}_{against}", against=title, **about))
    return body


def _scan_lines(
    content: ScanReport, points: Sequence[tuple[PointResult, Sequence[Evaluation]]]
) -> dict[str, list[ScanPoint]]:
    """The first key along the axis; one line for each setting of the others."""
    first, *others = content.keys
    lines: dict[str, list[ScanPoint]] = {}
    for point, seeds in points:
        told = ", ".join(f"{content.titles[key]} = {point.values[key]}" for key in others)
        lines.setdefault(told or content.tagger, []).append(ScanPoint(point.values[first], seeds, point.migs))
    return lines


def _scan_table(
    content: ScanReport, points: Sequence[tuple[PointResult, Sequence[Evaluation]]], rejection: float
) -> str:
    at = f"at {100 * rejection:g} %"
    header = [*(content.titles[key] for key in content.keys), "seeds", "AUC", f"signal efficiency {at}"]
    header += [f"1/JSD {at} [1/nats]", f"limit {at}"]
    latent = any(point.migs for point, _ in points)
    header += [
        *(["MIG"] if latent else []),
        "epochs kept",
        "CPU-seconds",
        "<Verdict, over all working points",
    ]
    rows: list[Sequence[str | TableCell]] = []
    for point, seeds in points:
        values = [str(point.values[key]) for key in content.keys]
        if not seeds:
            lost = TableCell(f"failed: {point.failures[0]}" if point.failures else "not trained", "bad")
            rows.append([*values, "0", *["–"] * (len(header) - len(values) - 2), lost])
            continue
        inverse, _ = inverse_jsd(seeds, rejection)
        row = [*values, str(len(seeds)), format_over_seeds([one.auc for one in seeds])]
        row.append(format_over_seeds([one.at_rejection(rejection)[0].efficiency for one in seeds]))
        row += [_format_interval(inverse), format_significant(statistical_limit(seeds[0], rejection)[0], 3)]
        row += [_format_migs(point.migs)] if latent else []
        row += [_format_epochs(point.cards), format_cpu_seconds(point.cpu_seconds)]
        rows.append([*row, sculpting_cell(seeds)])
    return page.html_table(header, rows)


def _format_interval(estimate: Estimate) -> str:
    value, low, high = (format_significant(x, 3) for x in (estimate.value, estimate.low, estimate.high))
    return f"{value} [{low}, {high}]"


def _format_migs(values: Sequence[float]) -> str:
    return format_over_seeds([Estimate(one, one, one) for one in values]) if values else "–"


def _format_epochs(cards: Sequence[Mapping[str, Any]]) -> str:
    """Epochs kept of those trained, stage by stage, of the first seed; a star where it was not stable."""
    training = dict(cards[0].get("training", {})) if cards else {}
    told = ", ".join(f"{one['selected_epoch']}/{one['epochs']}" for one in training.get("stages", []))
    return (told or "–") + ("" if training.get("converged", True) else " *")


def _training_section(content: ScanReport, figures: FigureStore) -> list[str]:
    curves = {}
    for label, stages in content.histories.items():
        for stage in stages:
            values = dict(stage.get("curves", {})).get("valid/auc")
            if values:
                curves[f"{stage['stage']}: validation AUC/{label}"] = values
    reasons = [
        f"{point.label}, seed {card.get('seed')}: {reason}"
        for point in content.points
        for card in point.cards
        for reason in dict(card.get("training", {})).get("warnings", [])
    ]
    body = [page.heading("Training")]
    if curves:
        body.append(figures.add(plots.plot_training_history(curves), "validation"))
    body += [page.paragraph(f"* Not stable: {reason}") for reason in reasons]
    return body if len(body) > 1 else []


def _points_csv(content: ScanReport) -> str:
    """One row per point, nuisance and rejection: means over seeds and their spread."""
    stream = io.StringIO()
    told = csv.writer(stream, lineterminator="\n")
    figures = ("auc", "signal_efficiency", "jsd_nats", "excess_nats", "inverse_jsd_nats")
    head = [*content.keys, "nuisance", "rejection", "seeds"]
    head += [part for name in figures for part in (name, f"{name}_error")]
    told.writerow([*head, "floor_nats", "excess_upper_nats", "p_holm_least", "mig", "cpu_seconds"])
    for point in content.points:
        for nuisance in dict.fromkeys(one.nuisance for one in point.evaluations):
            seeds = point.for_nuisance(nuisance)
            for rejection in (one.rejection for one in seeds[0].sculpting):
                row = [
                    *point.values.values(),
                    nuisance,
                    rejection,
                    len(seeds),
                    *_csv_metrics(seeds, rejection),
                ]
                means = [
                    f"{aggregate_seeds(one).mean:.6g}" if one else ""
                    for one in (point.migs, point.cpu_seconds)
                ]
                told.writerow([*row, *means])
    return stream.getvalue()


def _csv_metrics(evaluations: Sequence[Evaluation], rejection: float) -> list[str]:
    """The numbers of a row: over several seeds the error is their spread, of one the statistical one."""
    points = [one.at_rejection(rejection) for one in evaluations]
    scale = [math.log(2) if point[1].log_base == "2" else 1.0 for point in points]
    jsds = [point[1].jsd.scaled(s) for point, s in zip(points, scale, strict=True)]
    excess = [
        Estimate(point[1].excess * s, 0, 0, (point[1].jsd.std or 0) * s)
        for point, s in zip(points, scale, strict=True)
    ]
    found = []
    for measured in (
        [one.auc for one in evaluations], [point[0].efficiency for point in points], jsds, excess
    ):  # fmt: skip
        spread = aggregate_seeds([one.value for one in measured])
        found += [spread.mean, measured[0].std or 0.0 if spread.std is None else spread.std]
    inverse, _ = inverse_jsd(evaluations, rejection)
    found += [inverse.value, (inverse.high - inverse.low) / 2]
    found.append(sum(point[1].floor * s for point, s in zip(points, scale, strict=True)) / len(points))
    found.append(max(point[1].excess_upper * s for point, s in zip(points, scale, strict=True)))
    return [f"{value:.6g}" for value in [*found, min(point[2] for point in points)]]
