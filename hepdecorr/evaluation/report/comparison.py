"""Taggers side by side: compare.html, figures/, compare.csv, compare.json."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hepdecorr.evaluation import plots
from hepdecorr.evaluation.metrics import (
    Estimate,
    Evaluation,
    PairedComparison,
    PairedDifference,
    format_significant,
    to_jsonable,
)
from hepdecorr.evaluation.report import page
from hepdecorr.evaluation.report.content import FigureStore, atomic_write
from hepdecorr.evaluation.report.page import TableCell, format_over_seeds
from hepdecorr.evaluation.report.scan import (
    card_migs,
    format_cpu_seconds,
    provenance_section,
    training_cpu_seconds,
)
from hepdecorr.evaluation.report.tables import sculpting_cell
from hepdecorr.stats.multiple_testing import ALPHA, holm

NO_DEPENDENCE = "finds nothing"


@dataclass(frozen=True)
class ComparedTagger:
    """One tagger or scan point: evaluations, one per seed and nuisance, and cards, one per seed."""

    evaluations: Sequence[Evaluation]
    cards: Sequence[Mapping[str, Any]] = ()
    series: str = ""  # points of one scan are joined in the figures

    def for_nuisance(self, nuisance: str) -> list[Evaluation]:
        """The evaluations of one nuisance, one per seed."""
        return [one for one in self.evaluations if one.nuisance == nuisance]

    @property
    def migs(self) -> list[float]:
        """MIG of every seed's representation; empty for a tagger without one."""
        return card_migs(self.cards)


@dataclass(frozen=True)
class ComparisonReport:
    """What the page says."""

    title: str
    taggers: Mapping[str, ComparedTagger]
    differences: PairedComparison
    command: str = ""
    config_text: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    sample_description: str = "the test events"
    created: str = ""

    @property
    def nuisances(self) -> list[str]:
        """The protected variables, in order."""
        return list(
            dict.fromkeys(one.nuisance for tagger in self.taggers.values() for one in tagger.evaluations)
        )


def write_comparison_report(folder: Path, content: ComparisonReport) -> Path:
    """Write the page, its figures and its numbers, the page last."""
    figures = FigureStore(folder / "figures")
    body = [
        page.heading(f"{content.title}: comparison", level=1),
        page.paragraph(_subtitle(content), css_class="soft"),
    ]
    for nuisance in content.nuisances:
        body += _nuisance_section(content, nuisance, figures)
    body += _differences_section(content)
    body += provenance_section(content.command, content.versions, content.config_text)
    atomic_write(folder / "compare.csv", _comparison_csv(content).encode())
    atomic_write(folder / "compare.json", (json.dumps(comparison_to_dict(content), indent=1) + "\n").encode())
    atomic_write(folder / "compare.html", page.html_page(f"{content.title}: comparison", body).encode())
    return folder / "compare.html"


def comparison_to_dict(content: ComparisonReport) -> dict[str, Any]:
    """Everything measured, JSON-able."""
    return {
        "version": 1,
        "command": content.command,
        "created": content.created,
        "versions": dict(content.versions),
        "config": content.config_text,
        "taggers": {
            name: {
                "evaluations": [one.to_dict() for one in tagger.evaluations],
                "mig": tagger.migs,
                "cpu_seconds": training_cpu_seconds(tagger.cards),
                "cards": to_jsonable(list(tagger.cards)),
                "audit": {z: audit_cell(tagger.for_nuisance(z)).content for z in content.nuisances},
            }
            for name, tagger in content.taggers.items()
        },
        "differences": content.differences.to_dict(),
    }


def table_header(content: ComparisonReport, nuisance: str) -> list[str]:
    """Titles of the columns of `rows`; one of text begins with '<'."""
    shown = _measured_rejections(content, nuisance)
    first = ["Tagger", "seeds", "AUC", "R50"]
    for one in shown:
        first += [f"signal efficiency at {100 * one:g} %"]
    for one in shown:
        first += [f"excess JSD at {100 * one:g} % [1e-3 nats]"]
    latent = any(tagger.migs for tagger in content.taggers.values())
    return [
        *first,
        *(["MIG"] if latent else []),
        "CPU-seconds",
        "<Independence audit",
        "<Verdict on sculpting",
    ]


def table_rows(content: ComparisonReport, nuisance: str) -> list[list[str | TableCell]]:
    """One row per tagger: means with their spread over seeds, or the statistical error of one."""
    shown = _measured_rejections(content, nuisance)
    latent = any(tagger.migs for tagger in content.taggers.values())
    found = []
    for name, tagger in content.taggers.items():
        seeds = tagger.for_nuisance(nuisance)
        row: list[str | TableCell] = [name, str(len(seeds)), format_over_seeds([one.auc for one in seeds])]
        row.append(format_over_seeds([one.at_half_signal_efficiency.r50 for one in seeds]))
        row += [
            format_over_seeds([one.at_rejection(value)[0].efficiency for one in seeds]) for value in shown
        ]
        row += [_excess_cell(seeds, value) for value in shown]
        if latent:
            row.append(format_over_seeds([Estimate(one, one, one) for one in tagger.migs]))
        found.append(
            [
                *row,
                format_cpu_seconds(training_cpu_seconds(tagger.cards)),
                audit_cell(seeds),
                sculpting_cell(seeds),
            ]
        )
    return found


def brief_table(content: ComparisonReport, nuisance: str) -> tuple[list[str], list[list[str | TableCell]]]:
    """Header and rows of what a terminal has room for; all else is in the files."""
    shown = _measured_rejections(content, nuisance)
    some = list(dict.fromkeys([shown[0], shown[len(shown) // 2], shown[-1]]))
    excess = [f"{100 * one:g} %" for one in some]
    excess[0] = f"excess JSD [1e-3 nats] {excess[0]}"
    last = f"efficiency {100 * shown[-1]:g} %"
    head = ["Tagger", "AUC", last, *excess, "CPU-s", "<audit", "<sculpting resolved at"]
    found: list[list[str | TableCell]] = []
    for name, tagger in content.taggers.items():
        seeds = tagger.for_nuisance(nuisance)
        audit, sculpts = audit_cell(seeds), sculpting_cell(seeds)
        found.append(
            [
                name,
                format_over_seeds([one.auc for one in seeds]),
                format_over_seeds([one.at_rejection(shown[-1])[0].efficiency for one in seeds]),
                *(_excess_cell(seeds, value, with_p_value=False) for value in some),
                format_cpu_seconds(training_cpu_seconds(tagger.cards)).partition(" [")[0],
                TableCell("nothing" if audit.css_class == "good" else "dependence", audit.css_class),
                TableCell(
                    "none" if sculpts.css_class == "good" else sculpts.content.partition("at ")[2],
                    sculpts.css_class,
                ),
            ]
        )
    return head, found


def audit_cell(evaluations: Sequence[Evaluation]) -> TableCell:
    """What a fresh adversary and the distance correlation find, Holm-adjusted over both and all seeds."""
    tests = [("distance correlation", one.dcor2.p_value) for one in evaluations]
    parts = ("trend", "tail", "shape")
    for one in evaluations:
        if one.audit is not None:
            least = min(parts, key=lambda name: float(getattr(one.audit, f"p_{name}")))
            tests.append((f"adversary, {least}", one.audit.p_value))
    adjusted = holm([p for _, p in tests])
    found = [(name, p) for (name, _), p in zip(tests, adjusted, strict=True) if p <= ALPHA]
    if not found:
        least = format_significant(min(adjusted)) if tests else "–"
        return TableCell(f"{NO_DEPENDENCE} (p = {least})", "good")
    names = {name: min(p for other, p in found if other == name) for name, _ in found}
    told = "; ".join(f"{name} (p = {_format_p_value(p)})" for name, p in names.items())
    gains = [one.audit.gain for one in evaluations if one.audit is not None]
    size = f"; gain {format_over_seeds(gains)} nats" if gains else ""
    return TableCell(f"finds dependence: {told}{size}", "bad")


def sorted_differences(content: ComparisonReport, metric: str) -> list[PairedDifference]:
    """The differences in one figure, the surest first."""
    found = [one for one in content.differences.differences if one.metric == metric]
    return sorted(found, key=lambda one: one.p_value)


def verdict_cell(difference: PairedDifference) -> TableCell:
    """Which of two taggers is ahead in a figure, or that they are not separable."""
    if not difference.significant:
        return TableCell("not separable")
    # A smaller JSD is better.
    ahead = (
        difference.first
        if (difference.value.value > 0) != difference.metric.startswith("jsd")
        else difference.second
    )
    # Of one training each, the events tell; another training may turn the order.
    alone = ", of these trainings" if max(difference.num_seeds) == 1 else ""
    return TableCell(f"{ahead} is better{alone}", "good")


def difference_row(difference: PairedDifference) -> list[str | TableCell]:
    """A difference as a row: pair, value, interval, p, verdict."""
    pair = f"{difference.first} − {difference.second}"
    value, low, high = (
        format_significant(end, 3)
        for end in (difference.value.value, difference.value.low, difference.value.high)
    )
    seeds = f"{difference.num_seeds[0]} / {difference.num_seeds[1]}"
    return [
        pair,
        value,
        f"[{low}, {high}]",
        seeds,
        _format_p_value(difference.p_holm),
        verdict_cell(difference),
    ]


def _excess_cell(
    evaluations: Sequence[Evaluation], rejection: float, *, with_p_value: bool = True
) -> str | TableCell:
    """Excess over the floor, and where it is not resolved its upper limit, with its `p` if wanted."""
    points = [one.at_rejection(rejection) for one in evaluations]
    thousand = [1e3 * (math.log(2) if point[1].log_base == "2" else 1.0) for point in points]
    if sum(point[2] <= ALPHA for point in points) > len(points) / 2:
        measured = [
            Estimate(e * s, (e - d) * s, (e + d) * s)
            for e, d, s in (
                (point[1].excess, point[1].jsd.std or 0.0, s)
                for point, s in zip(points, thousand, strict=True)
            )
        ]
        return format_over_seeds(measured)
    most = max(point[1].excess_upper * s for point, s in zip(points, thousand, strict=True))
    least = f" (p = {_format_p_value(min(point[2] for point in points))})" if with_p_value else ""
    return f"< {format_significant(most)}{least}"


def _format_p_value(value: float) -> str:
    return "< 1e-10" if value < 1e-10 else format_significant(value)


def _measured_rejections(content: ComparisonReport, nuisance: str) -> list[float]:
    first = next(
        tagger.for_nuisance(nuisance) for tagger in content.taggers.values() if tagger.for_nuisance(nuisance)
    )
    return [one.rejection for one in first[0].sculpting]


def _subtitle(content: ComparisonReport) -> str:
    first = next(iter(content.taggers.values())).evaluations[0]
    events = f"{first.background_events:,} background and {first.signal_events:,} signal events"
    return f"{len(content.taggers)} taggers on {content.sample_description}: {events}. {content.created}"


TABLE_TEXT = (
    "Mean ± spread over seeds, or the 68.3 % interval of one. Excess JSD: beyond its floor, which a tagger "
    "without sculpting reads; '<' where no sculpting is resolved (Holm over the working points of a tagger): "
    "the 95 % upper limit, the largest of the seeds, with the smallest adjusted p. Independence audit, on "
    "background: a fresh adversary on the frozen score, and the unbiased distance correlation by "
    "permutation, Holm-adjusted over both and all seeds. CPU-seconds: of one training."
)
DIFFERENCES_TEXT = (
    "Differences on the same events, drawn again together ({replicas} times), and over seeds: with several "
    "of them the spread of their trainings is in the interval; with one it is not, and another seed may turn "
    "the order. Intervals 95 %; p: Holm-adjusted over all pairs of a figure. 'Not separable': p > 0.05."
)


def _nuisance_section(content: ComparisonReport, nuisance: str, figures: FigureStore) -> list[str]:
    rejection = max(_measured_rejections(content, nuisance))
    series: dict[str, list[tuple[str, Sequence[Evaluation]]]] = {}
    for name, tagger in content.taggers.items():
        series.setdefault(tagger.series or name, []).append((name, tagger.for_nuisance(nuisance)))
    body = [page.heading(f"Protected variable: {nuisance}")]
    body += [
        page.html_table(table_header(content, nuisance), table_rows(content, nuisance)),
        page.paragraph(TABLE_TEXT, css_class="soft"),
    ]
    for against, title in (("auc", "AUC"), ("efficiency", "signal efficiency")):
        drawn = plots.plot_pareto(series, rejection=rejection, against=against)
        about: dict[str, Any] = {"nuisance": nuisance, "rejection": 100 * rejection, "against": title}
        body.append(figures.add(drawn, "pareto", f"{nuisance}_{against}", **about))
    return body


def _differences_section(content: ComparisonReport) -> list[str]:
    if not content.differences.differences:
        return []
    body = [page.heading("Which differences are more than noise")]
    body.append(
        page.paragraph(DIFFERENCES_TEXT.format(replicas=content.differences.replicas), css_class="soft")
    )
    columns = ["Pair", "difference", "95 %", "seeds", "p (Holm)", "<Verdict"]
    for figure in content.differences.metrics:
        markup = page.html_table(
            columns, [difference_row(one) for one in sorted_differences(content, figure)]
        )
        here = sorted_differences(content, figure)
        apart = sum(one.significant for one in here)
        title = f"{figure}: {apart} of {len(here)} pairs separable"
        body.append(markup if figure == "auc" else page.details(title, markup))
        if figure == "auc":
            body.insert(-1, page.paragraph(title))
    return body


def _comparison_csv(content: ComparisonReport) -> str:
    stream = io.StringIO()
    out = csv.writer(stream, lineterminator="\n")
    for number, nuisance in enumerate(content.nuisances):
        if number == 0:
            out.writerow(
                ["nuisance", *(title.removeprefix("<") for title in table_header(content, nuisance))]
            )
        for row in table_rows(content, nuisance):
            out.writerow([nuisance, *(cell.content if isinstance(cell, TableCell) else cell for cell in row)])
    return stream.getvalue()
