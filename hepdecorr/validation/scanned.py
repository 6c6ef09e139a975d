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
from hepdecorr.validation import latent_scan, page, plots
from hepdecorr.validation.content import Figures, write
from hepdecorr.validation.latents import Latents
from hepdecorr.validation.measures import Evaluation, Measured, over_seeds, plain, significant
from hepdecorr.validation.page import Cell, across
from hepdecorr.validation.plots.scans import Step, inverse_jsd, limit
from hepdecorr.validation.tables import overall


@dataclass(frozen=True)
class PointResult:
    """One combination of values: its evaluations, one per seed and nuisance, and its cards, one per seed."""

    label: str
    values: Mapping[str, Any]
    evaluations: Sequence[Evaluation] = ()
    cards: Sequence[Mapping[str, Any]] = ()
    folders: Sequence[str] = ()  # of its taggers, from the analysis' output
    failures: Sequence[str] = ()  # why a seed has no tagger
    latents: Sequence[Latents] = ()  # of the seeds whose tagger has a representation

    def of(self, nuisance: str) -> list[Evaluation]:
        """The evaluations of one nuisance, one per seed."""
        return [one for one in self.evaluations if one.nuisance == nuisance]

    @property
    def migs(self) -> list[float]:
        """MIG of every seed's representation; empty for a tagger without one."""
        return migs(self.cards)

    @property
    def cpu_seconds(self) -> list[float]:
        """Of the trainings of which it is known."""
        return cpu_seconds(self.cards)


@dataclass(frozen=True)
class ScanInput:
    """What the page says.  keys: of the tagger's block; titles: short names of them.

    histories: label -> what a training kept of each stage, of the first seed.
    """

    name: str
    title: str
    tagger: str
    keys: Sequence[str]
    titles: Mapping[str, str]
    points: Sequence[PointResult]
    others: Mapping[str, Sequence[Evaluation]] = field(default_factory=dict)  # to draw into the front
    histories: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    command: str = ""
    config_text: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    table: str = ""  # fingerprint
    created: str = ""
    rejection: float | None = None  # of the figures; default: the highest


def write_scan(folder: Path, content: ScanInput) -> Path:
    """Write the page, its figures and its numbers; InputError when nothing was measured."""
    measured = [one for point in content.points for one in point.evaluations]
    if not measured:
        raise InputError(f"scan {content.name}: nothing was measured; train at least one point")
    figures = Figures(folder / "figures")
    body = [
        page.heading(f"{content.title}: scan of {content.tagger}", level=1),
        page.paragraph(_subtitle(content, measured[0]), kind="soft"),
    ]
    failures = [f"{point.label}: {reason}" for point in content.points for reason in point.failures]
    body += [page.warning(f"Incomplete. {failure}") for failure in failures]
    for nuisance in dict.fromkeys(one.nuisance for one in measured):
        body += _nuisance(content, nuisance, figures)
    body += _trainings(content, figures)
    body += provenance(content.command, content.versions, content.config_text, table=content.table)
    write(folder / "points.csv", _csv(content).encode())
    write(folder / "points.json", (json.dumps(numbers(content), indent=1) + "\n").encode())
    title = f"{content.title}: scan of {content.tagger}"
    write(folder / "scan.html", page.page(title, body).encode())
    return folder / "scan.html"


def provenance(command: str, versions: Mapping[str, str], config_text: str, *, table: str = "") -> list[str]:
    """What was run, so that a stranger can do it again."""
    about = {"command": command} | ({"table": table} if table else {})
    return [
        page.heading("What was run"),
        page.mapping("Run", about),
        page.mapping("Versions", dict(versions)),
        page.folded("Configuration", config_text),
    ]


def cpu_seconds(cards: Sequence[Mapping[str, Any]]) -> list[float]:
    """CPU-seconds of the trainings that recorded them."""
    found = [dict(card.get("training", {})).get("cpu_seconds") for card in cards]
    return [float(one) for one in found if one is not None]


def migs(cards: Sequence[Mapping[str, Any]]) -> list[float]:
    """Mutual information gaps of the representations that have one."""
    found = [dict(card.get("measured", {})).get("mig") for card in cards]
    return [float(one["value"] if isinstance(one, Mapping) else one) for one in found if one is not None]


def cost(seconds: Sequence[float]) -> str:
    """Mean and spread over the trainings, or that it was not recorded."""
    return across([Measured(one, one, one) for one in seconds]) if seconds else "unknown"


def numbers(content: ScanInput) -> dict[str, Any]:
    """Everything measured, JSON-able."""
    return {
        "version": 1,
        "name": content.name,
        "tagger": content.tagger,
        "keys": list(content.keys),
        "command": content.command,
        "created": content.created,
        "versions": dict(content.versions),
        "table": content.table,
        "config": content.config_text,
        "points": [
            {
                "label": point.label,
                "values": plain(dict(point.values)),
                "evaluations": [one.to_dict() for one in point.evaluations],
                "mig": point.migs,
                "latents": latent_scan.numbers(point.latents),
                "cpu_seconds": point.cpu_seconds,
                "folders": list(point.folders),
                "failures": list(point.failures),
                "cards": plain(list(point.cards)),
            }
            for point in content.points
        ],
    }


def _subtitle(content: ScanInput, first: Evaluation) -> str:
    events = f"{first.background_events:,} background and {first.signal_events:,} signal events"
    return (
        f"{len(content.points)} points of {', '.join(content.keys)}. Measured on the test events of the "
        f"training table: {events}. {content.created}"
    )


def _rejection(content: ScanInput, seeds: Sequence[Evaluation]) -> float:
    known = [one.rejection for one in seeds[0].sculpting]
    wanted = max(known) if content.rejection is None else content.rejection
    return min(known, key=lambda value: abs(value - wanted))


def _nuisance(content: ScanInput, nuisance: str, figures: Figures) -> list[str]:
    points = [(point, point.of(nuisance)) for point in content.points]
    rejection = _rejection(content, next(seeds for _, seeds in points if seeds))
    body = [page.heading(f"Protected variable: {nuisance}"), _table(content, points, rejection)]
    body += latent_scan.section(
        [(point.values, point.latents) for point in content.points],
        titles=content.titles,
        tagger=content.tagger,
        nuisance=nuisance,
        figures=figures,
    )
    others = {
        name: [one for one in seeds if one.nuisance == nuisance] for name, seeds in content.others.items()
    }
    about: dict[str, Any] = {"nuisance": nuisance, "rejection": 100 * rejection}
    key = content.keys[0]
    drawn = plots.scan_curves(
        _lines(content, points), title=key, rejection=rejection, reference=others.get("plain", [])
    )
    body.append(figures.add(drawn, "scan", nuisance, tagger=content.tagger, scanned=key, **about))
    series: dict[str, list[tuple[str, Sequence[Evaluation]]]] = {
        f"scan of {content.tagger}": [(point.label, seeds) for point, seeds in points]
    }
    series |= {name: [(name, seeds)] for name, seeds in others.items() if seeds}
    for against, title in (("auc", "AUC"), ("efficiency", "signal efficiency")):
        drawn = plots.pareto(series, rejection=rejection, against=against)
        body.append(figures.add(drawn, "pareto", f"{nuisance}_{against}", against=title, **about))
    return body


def _lines(
    content: ScanInput, points: Sequence[tuple[PointResult, Sequence[Evaluation]]]
) -> dict[str, list[Step]]:
    """The first key along the axis; one line for each setting of the others."""
    first, *others = content.keys
    lines: dict[str, list[Step]] = {}
    for point, seeds in points:
        told = ", ".join(f"{content.titles[key]} = {point.values[key]}" for key in others)
        lines.setdefault(told or content.tagger, []).append(Step(point.values[first], seeds, point.migs))
    return lines


def _table(
    content: ScanInput, points: Sequence[tuple[PointResult, Sequence[Evaluation]]], rejection: float
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
    rows: list[Sequence[str | Cell]] = []
    for point, seeds in points:
        values = [str(point.values[key]) for key in content.keys]
        if not seeds:
            lost = Cell(f"failed: {point.failures[0]}" if point.failures else "not trained", "bad")
            rows.append([*values, "0", *["–"] * (len(header) - len(values) - 2), lost])
            continue
        inverse, _ = inverse_jsd(seeds, rejection)
        row = [*values, str(len(seeds)), across([one.auc for one in seeds])]
        row.append(across([one.at(rejection)[0].efficiency for one in seeds]))
        row += [_with_ends(inverse), significant(limit(seeds[0], rejection)[0], 3)]
        row += [_migs(point.migs)] if latent else []
        row += [_epochs(point.cards), cost(point.cpu_seconds)]
        rows.append([*row, overall(seeds)])
    return page.table(header, rows)


def _with_ends(one: Measured) -> str:
    return f"{significant(one.value, 3)} [{significant(one.low, 3)}, {significant(one.high, 3)}]"


def _migs(values: Sequence[float]) -> str:
    return across([Measured(one, one, one) for one in values]) if values else "–"


def _epochs(cards: Sequence[Mapping[str, Any]]) -> str:
    """Epochs kept of those trained, stage by stage, of the first seed; a star where it was not stable."""
    training = dict(cards[0].get("training", {})) if cards else {}
    told = ", ".join(f"{one['kept']}/{one['epochs']}" for one in training.get("stages", []))
    return (told or "–") + ("" if training.get("stable", True) else " *")


def _trainings(content: ScanInput, figures: Figures) -> list[str]:
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
        for reason in dict(card.get("training", {})).get("reasons", [])
    ]
    body = [page.heading("Training")]
    if curves:
        body.append(figures.add(plots.training_history(curves), "validation"))
    body += [page.paragraph(f"* Not stable: {reason}") for reason in reasons]
    return body if len(body) > 1 else []


def _csv(content: ScanInput) -> str:
    """One row per point, nuisance and rejection: means over seeds and their spread."""
    stream = io.StringIO()
    told = csv.writer(stream, lineterminator="\n")
    figures = ("auc", "signal_efficiency", "jsd_nats", "excess_nats", "inverse_jsd_nats")
    head = [*content.keys, "nuisance", "rejection", "seeds"]
    head += [part for name in figures for part in (name, f"{name}_error")]
    told.writerow([*head, "floor_nats", "excess_upper_nats", "p_holm_least", "mig", "cpu_seconds"])
    for point in content.points:
        for nuisance in dict.fromkeys(one.nuisance for one in point.evaluations):
            seeds = point.of(nuisance)
            for rejection in (one.rejection for one in seeds[0].sculpting):
                row = [*point.values.values(), nuisance, rejection, len(seeds), *_figures(seeds, rejection)]
                means = [
                    f"{over_seeds(one).mean:.6g}" if one else "" for one in (point.migs, point.cpu_seconds)
                ]
                told.writerow([*row, *means])
    return stream.getvalue()


def _figures(seeds: Sequence[Evaluation], rejection: float) -> list[str]:
    """The numbers of a row: over several seeds the error is their spread, of one the statistical one."""
    points = [one.at(rejection) for one in seeds]
    scale = [math.log(2) if point[1].log_base == "2" else 1.0 for point in points]
    jsds = [point[1].jsd.scaled(s) for point, s in zip(points, scale, strict=True)]
    excess = [
        Measured(point[1].excess * s, 0, 0, (point[1].jsd.std or 0) * s)
        for point, s in zip(points, scale, strict=True)
    ]
    found = []
    for measured in (
        [one.auc for one in seeds], [point[0].efficiency for point in points], jsds, excess
    ):  # fmt: skip
        spread = over_seeds([one.value for one in measured])
        found += [spread.mean, measured[0].std or 0.0 if spread.std is None else spread.std]
    inverse, _ = inverse_jsd(seeds, rejection)
    found += [inverse.value, (inverse.high - inverse.low) / 2]
    found.append(sum(point[1].floor * s for point, s in zip(points, scale, strict=True)) / len(points))
    found.append(max(point[1].excess_upper * s for point, s in zip(points, scale, strict=True)))
    return [f"{value:.6g}" for value in [*found, min(point[2] for point in points)]]
