"""Sections of a report on many scores: for each of several signals, and by rank against a nuisance."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hepdecorr.validation import captions, page, plots
from hepdecorr.validation.content import Figures, ReportInput
from hepdecorr.validation.measures import BySample, Measured, over_seeds, plain, significant
from hepdecorr.validation.titles import tagger_of, titled, words

Scores = Mapping[str, Sequence[BySample]]

TOGETHER = 12  # curves in one figure that can still be told apart


def section(content: ReportInput, figures: Figures) -> list[str]:
    """Matrix and table of the areas, efficiencies of each signal, ROC curves both ways round."""
    if not content.by_sample:
        return []
    order = list(dict.fromkeys(tagger_of(name) for name in content.by_sample))
    names = sorted(content.by_sample, key=lambda name: order.index(tagger_of(name)))
    known = {titled(name): content.by_sample[name] for name in names}
    signals = [one.name for one in next(iter(known.values()))[0].samples]
    groups = {titled(name): tagger_of(name) for name in names}
    areas = {name: _areas(seeds, signals) for name, seeds in known.items()}
    body = [page.heading("By signal sample", anchor="samples"), page.paragraph(captions.BY_SAMPLE)]
    drawn = plots.auc_matrix(areas, signals=signals, groups=groups)
    behind = {titled(name): seeds for name, seeds in content.behind.items()}
    body += [figures.add(drawn, "matrix"), _table(known, signals, behind)]
    rejections = [one.rejection for one in next(iter(known.values()))[0].samples[0].signal_efficiency]
    for rejection in rejections:
        title = f"Signal efficiency at {100 * rejection:g} % background rejection, by signal"
        body.append(page.folded_markup(title, _efficiencies(known, signals, rejection)))
    body.append(page.folded_markup("R50 by signal", _r50(known, signals)))
    return body + _curves(content, known, signals, figures)


def by_rank(
    content: ReportInput,
    figures: Figures,
    axis: Mapping[str, Any],
    *,
    stem: str,
    span: tuple[float, float],
) -> list[str]:
    """Every score against a nuisance by its rank in background, and the table of rank correlations."""
    known = content.correlations.get(stem, {})
    if not known:
        return []
    rows: list[list[str | page.Cell]] = [
        [page.Cell(titled(name)), str(len(seeds)), page.across(seeds)] for name, seeds in known.items()
    ]
    body = [
        page.heading("Rank correlation", level=3),
        page.table(["<Score", "seeds", "rank correlation"], rows),
    ]
    scores = [name for name in content.scores.get(stem, {}) if name in known]
    for start in range(0, len(scores), TOGETHER):
        part = scores[start : start + TOGETHER]
        drawn = plots.rank_density(
            {titled(name): content.scores[stem][name] for name in part},
            correlations={titled(name): known[name][0] for name in part},
            range=span,
            **axis,
        )
        body.append(figures.add(drawn, "ranks", f"{stem}_{start}" if start else stem, nuisance=stem))
    return body


def metrics(content: ReportInput) -> dict[str, Any]:
    """What these sections add to metrics.json; nothing where there is nothing of it."""
    found = {
        name: {
            "behind": content.behind.get(name, ()),
            "mean_auc": over_seeds([one.mean_auc.value for one in seeds]).to_dict(),
            "seeds": [one.to_dict() for one in seeds],
        }
        for name, seeds in content.by_sample.items()
    }
    told: dict[str, Any] = {"by_sample": found, "rank_correlation": content.correlations}
    return {name: plain(one) for name, one in told.items() if one}


def _areas(seeds: Sequence[BySample], signals: Sequence[str]) -> plots.Areas:
    """Means over the seeds; errors: what the seeds' common events leave, and their spread, in quadrature."""
    many = [[one.of(name).auc for one in seeds] for name in signals]
    many.append([one.mean_auc for one in seeds])
    spreads = [over_seeds([one.value for one in own]) for own in many]
    errors = [
        math.sqrt(np.mean([(one.std or 0.0) ** 2 for one in own]) + (spread.std or 0.0) ** 2)
        for own, spread in zip(many, spreads, strict=True)
    ]
    return plots.Areas([one.mean for one in spreads], errors)


def _table(known: Scores, signals: Sequence[str], behind: Mapping[str, Sequence[Measured]]) -> str:
    header = ["<Score", "seeds", "mean AUC", "its statistical error"]
    header += [*(["behind the best", "its statistical error"] if behind else []), *map(words, signals)]
    rows: list[list[str | page.Cell]] = []
    for name, seeds in known.items():
        errors = [one.mean_auc.std or 0.0 for one in seeds]
        row: list[str | page.Cell] = [page.Cell(name), str(len(seeds))]
        row += [page.across([one.mean_auc for one in seeds]), significant(sum(errors) / len(errors))]
        if behind:
            row += _difference(behind.get(name, ()))
        rows.append([*row, *(page.across([one.of(signal).auc for one in seeds]) for signal in signals)])
    return page.table(header, rows)


def _difference(seeds: Sequence[Measured]) -> list[str]:
    if not seeds:
        return ["–", "–"]
    return [page.across(seeds), significant(sum(one.std or 0.0 for one in seeds) / len(seeds))]


def _efficiencies(known: Scores, signals: Sequence[str], rejection: float) -> str:
    return _by_signal(
        {
            name: [[one.of(s).at(rejection) for one in seeds] for s in signals]
            for name, seeds in known.items()
        },
        signals,
    )


def _r50(known: Scores, signals: Sequence[str]) -> str:
    return _by_signal(
        {name: [[one.of(s).r50 for one in seeds] for s in signals] for name, seeds in known.items()}, signals
    )


def _by_signal(cells: Mapping[str, Sequence[Sequence[Measured | None]]], signals: Sequence[str]) -> str:
    rows: list[list[str | page.Cell]] = [
        [page.Cell(name), *(page.across([one for one in own if one is not None]) for own in row)]
        for name, row in cells.items()
    ]
    return page.table(["<Score", *map(words, signals)], rows)


def _curves(content: ReportInput, known: Scores, signals: Sequence[str], figures: Figures) -> list[str]:
    """Every score at one signal, then every signal for one score; of many scores the taggers' own alone."""
    names = list(known)
    if len(names) > TOGETHER:
        names = [name for name in names if name in content.taggers and name in content.by_sample]
    by_signal, by_score = [], []
    for signal in signals:
        for start in range(0, len(names), TOGETHER):
            curves = {name: [one.of(signal).roc for one in known[name]] for name in names[start:][:TOGETHER]}
            drawn = plots.roc_curves(curves, title=signal)
            by_signal.append(figures.add(drawn, "rocsample", words(signal), signal=words(signal)))
    for name in names:
        curves = {signal: [one.of(signal).roc for one in known[name]] for signal in signals}
        by_score.append(figures.add(plots.roc_curves(curves, title=name), "rocscore", name, score=name))
    return [
        page.folded_markup(f"ROC curves of each signal ({len(by_signal)})", "\n".join(by_signal)),
        page.folded_markup(f"ROC curves of each score ({len(by_score)})", "\n".join(by_score)),
    ]
