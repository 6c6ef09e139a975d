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

from hepdecorr.validation import page, plots
from hepdecorr.validation.content import Figures, write
from hepdecorr.validation.measures import Comparison, Difference, Evaluation, Measured, plain, significant
from hepdecorr.validation.measures.compare import ALPHA, holm
from hepdecorr.validation.page import Cell, across
from hepdecorr.validation.scanned import cost, cpu_seconds, migs, provenance
from hepdecorr.validation.tables import overall

NOTHING = "finds nothing"


@dataclass(frozen=True)
class Compared:
    """One tagger or scan point: evaluations, one per seed and nuisance, and cards, one per seed."""

    evaluations: Sequence[Evaluation]
    cards: Sequence[Mapping[str, Any]] = ()
    series: str = ""  # points of one scan are joined in the figures

    def of(self, nuisance: str) -> list[Evaluation]:
        """The evaluations of one nuisance, one per seed."""
        return [one for one in self.evaluations if one.nuisance == nuisance]

    @property
    def migs(self) -> list[float]:
        """MIG of every seed's representation; empty for a tagger without one."""
        return migs(self.cards)


@dataclass(frozen=True)
class CompareInput:
    """What the page says."""

    title: str
    taggers: Mapping[str, Compared]
    differences: Comparison
    command: str = ""
    config_text: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    sample: str = "the test events"
    created: str = ""

    @property
    def nuisances(self) -> list[str]:
        """The protected variables, in order."""
        return list(
            dict.fromkeys(one.nuisance for tagger in self.taggers.values() for one in tagger.evaluations)
        )


def write_comparison(folder: Path, content: CompareInput) -> Path:
    """Write the page, its figures and its numbers, the page last."""
    figures = Figures(folder / "figures")
    body = [
        page.heading(f"{content.title}: comparison", level=1),
        page.paragraph(_subtitle(content), kind="soft"),
    ]
    for nuisance in content.nuisances:
        body += _nuisance(content, nuisance, figures)
    body += _differences(content)
    body += provenance(content.command, content.versions, content.config_text)
    write(folder / "compare.csv", _csv(content).encode())
    write(folder / "compare.json", (json.dumps(numbers(content), indent=1) + "\n").encode())
    write(folder / "compare.html", page.page(f"{content.title}: comparison", body).encode())
    return folder / "compare.html"


def numbers(content: CompareInput) -> dict[str, Any]:
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
                "cpu_seconds": cpu_seconds(tagger.cards),
                "cards": plain(list(tagger.cards)),
                "audit": {z: audited(tagger.of(z)).content for z in content.nuisances},
            }
            for name, tagger in content.taggers.items()
        },
        "differences": content.differences.to_dict(),
    }


def header(content: CompareInput, nuisance: str) -> list[str]:
    """Titles of the columns of `rows`; one of text begins with '<'."""
    shown = _rejections(content, nuisance)
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


def rows(content: CompareInput, nuisance: str) -> list[list[str | Cell]]:
    """One row per tagger: means with their spread over seeds, or the statistical error of one."""
    shown = _rejections(content, nuisance)
    latent = any(tagger.migs for tagger in content.taggers.values())
    found = []
    for name, tagger in content.taggers.items():
        seeds = tagger.of(nuisance)
        row: list[str | Cell] = [name, str(len(seeds)), across([one.auc for one in seeds])]
        row.append(across([one.half_signal.r50 for one in seeds]))
        row += [across([one.at(value)[0].efficiency for one in seeds]) for value in shown]
        row += [_excess(seeds, value) for value in shown]
        if latent:
            row.append(across([Measured(one, one, one) for one in tagger.migs]))
        found.append([*row, cost(cpu_seconds(tagger.cards)), audited(seeds), overall(seeds)])
    return found


def brief(content: CompareInput, nuisance: str) -> tuple[list[str], list[list[str | Cell]]]:
    """Header and rows of what a terminal has room for; all else is in the files."""
    shown = _rejections(content, nuisance)
    some = list(dict.fromkeys([shown[0], shown[len(shown) // 2], shown[-1]]))
    excess = [f"{100 * one:g} %" for one in some]
    excess[0] = f"excess JSD [1e-3 nats] {excess[0]}"
    last = f"efficiency {100 * shown[-1]:g} %"
    head = ["Tagger", "AUC", last, *excess, "CPU-s", "<audit", "<sculpting resolved at"]
    found: list[list[str | Cell]] = []
    for name, tagger in content.taggers.items():
        seeds = tagger.of(nuisance)
        audit, sculpts = audited(seeds), overall(seeds)
        found.append(
            [
                name,
                across([one.auc for one in seeds]),
                across([one.at(shown[-1])[0].efficiency for one in seeds]),
                *(_excess(seeds, value, p=False) for value in some),
                cost(cpu_seconds(tagger.cards)).partition(" [")[0],
                Cell("nothing" if audit.kind == "good" else "dependence", audit.kind),
                Cell("none" if sculpts.kind == "good" else sculpts.content.partition("at ")[2], sculpts.kind),
            ]
        )
    return head, found


def audited(seeds: Sequence[Evaluation]) -> Cell:
    """What a fresh adversary and the distance correlation find, Holm-adjusted over both and all seeds."""
    tests = [("distance correlation", one.dcor2.p_value) for one in seeds]
    parts = ("trend", "tail", "shape")
    for one in seeds:
        if one.audit is not None:
            least = min(parts, key=lambda name: float(getattr(one.audit, f"p_{name}")))
            tests.append((f"adversary, {least}", one.audit.p_value))
    adjusted = holm([p for _, p in tests])
    found = [(name, p) for (name, _), p in zip(tests, adjusted, strict=True) if p <= ALPHA]
    if not found:
        least = significant(min(adjusted)) if tests else "–"
        return Cell(f"{NOTHING} (p = {least})", "good")
    names = {name: min(p for other, p in found if other == name) for name, _ in found}
    told = "; ".join(f"{name} (p = {_p(p)})" for name, p in names.items())
    gains = [one.audit.gain for one in seeds if one.audit is not None]
    size = f"; gain {across(gains)} nats" if gains else ""
    return Cell(f"finds dependence: {told}{size}", "bad")


def separable(content: CompareInput, figure: str) -> list[Difference]:
    """The differences in one figure, the surest first."""
    found = [one for one in content.differences.differences if one.figure == figure]
    return sorted(found, key=lambda one: one.p_value)


def said(one: Difference) -> Cell:
    """Which of two taggers is ahead in a figure, or that they are not separable."""
    if not one.separable:
        return Cell("not separable")
    # A smaller JSD is better.
    ahead = one.first if (one.value.value > 0) != one.figure.startswith("jsd") else one.second
    # Of one training each, the events tell; another training may turn the order.
    alone = ", of these trainings" if max(one.seeds) == 1 else ""
    return Cell(f"{ahead} is better{alone}", "good")


def told(one: Difference) -> list[str | Cell]:
    """A difference as a row: pair, value, interval, p, verdict."""
    pair = f"{one.first} − {one.second}"
    value, low, high = (significant(end, 3) for end in (one.value.value, one.value.low, one.value.high))
    seeds = f"{one.seeds[0]} / {one.seeds[1]}"
    return [pair, value, f"[{low}, {high}]", seeds, _p(one.p_holm), said(one)]


def _excess(seeds: Sequence[Evaluation], rejection: float, *, p: bool = True) -> str | Cell:
    """Excess over the floor, and where it is not resolved its upper limit, with its `p` if wanted."""
    points = [one.at(rejection) for one in seeds]
    thousand = [1e3 * (math.log(2) if point[1].log_base == "2" else 1.0) for point in points]
    if sum(point[2] <= ALPHA for point in points) > len(points) / 2:
        measured = [
            Measured(e * s, (e - d) * s, (e + d) * s)
            for e, d, s in (
                (point[1].excess, point[1].jsd.std or 0.0, s)
                for point, s in zip(points, thousand, strict=True)
            )
        ]
        return across(measured)
    most = max(point[1].excess_upper * s for point, s in zip(points, thousand, strict=True))
    least = f" (p = {_p(min(point[2] for point in points))})" if p else ""
    return f"< {significant(most)}{least}"


def _p(value: float) -> str:
    return "< 1e-10" if value < 1e-10 else significant(value)


def _rejections(content: CompareInput, nuisance: str) -> list[float]:
    first = next(tagger.of(nuisance) for tagger in content.taggers.values() if tagger.of(nuisance))
    return [one.rejection for one in first[0].sculpting]


def _subtitle(content: CompareInput) -> str:
    first = next(iter(content.taggers.values())).evaluations[0]
    events = f"{first.background_events:,} background and {first.signal_events:,} signal events"
    return f"{len(content.taggers)} taggers on {content.sample}: {events}. {content.created}"


EXPLAINED = (
    "Mean ± spread over seeds, or the 68.3 % interval of one. Excess JSD: beyond its floor, which a tagger "
    "without sculpting reads; '<' where no sculpting is resolved (Holm over the working points of a tagger): "
    "the 95 % upper limit, the largest of the seeds, with the smallest adjusted p. Independence audit, on "
    "background: a fresh adversary on the frozen score, and the unbiased distance correlation by "
    "permutation, Holm-adjusted over both and all seeds. CPU-seconds: of one training."
)
DIFFERENCES = (
    "Differences on the same events, drawn again together ({replicas} times), and over seeds: with several "
    "of them the spread of their trainings is in the interval; with one it is not, and another seed may turn "
    "the order. Intervals 95 %; p: Holm-adjusted over all pairs of a figure. 'Not separable': p > 0.05."
)


def _nuisance(content: CompareInput, nuisance: str, figures: Figures) -> list[str]:
    rejection = max(_rejections(content, nuisance))
    series: dict[str, list[tuple[str, Sequence[Evaluation]]]] = {}
    for name, tagger in content.taggers.items():
        series.setdefault(tagger.series or name, []).append((name, tagger.of(nuisance)))
    body = [page.heading(f"Protected variable: {nuisance}")]
    body += [
        page.table(header(content, nuisance), rows(content, nuisance)),
        page.paragraph(EXPLAINED, kind="soft"),
    ]
    for against, title in (("auc", "AUC"), ("efficiency", "signal efficiency")):
        drawn = plots.pareto(series, rejection=rejection, against=against)
        about: dict[str, Any] = {"nuisance": nuisance, "rejection": 100 * rejection, "against": title}
        body.append(figures.add(drawn, "pareto", f"{nuisance}_{against}", **about))
    return body


def _differences(content: CompareInput) -> list[str]:
    if not content.differences.differences:
        return []
    body = [page.heading("Which differences are more than noise")]
    body.append(page.paragraph(DIFFERENCES.format(replicas=content.differences.replicas), kind="soft"))
    columns = ["Pair", "difference", "95 %", "seeds", "p (Holm)", "<Verdict"]
    for figure in content.differences.figures:
        markup = page.table(columns, [told(one) for one in separable(content, figure)])
        here = separable(content, figure)
        apart = sum(one.separable for one in here)
        title = f"{figure}: {apart} of {len(here)} pairs separable"
        body.append(markup if figure == "auc" else page.folded_markup(title, markup))
        if figure == "auc":
            body.insert(-1, page.paragraph(title))
    return body


def _csv(content: CompareInput) -> str:
    stream = io.StringIO()
    out = csv.writer(stream, lineterminator="\n")
    for number, nuisance in enumerate(content.nuisances):
        if number == 0:
            out.writerow(["nuisance", *(title.removeprefix("<") for title in header(content, nuisance))])
        for row in rows(content, nuisance):
            out.writerow([nuisance, *(cell.content if isinstance(cell, Cell) else cell for cell in row)])
    return stream.getvalue()
