"""Sections of a report on many scores: for each of several signals, and by rank against a nuisance."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hepdecorr.evaluation import plots
from hepdecorr.evaluation.metrics import Estimate, PerSignal, aggregate_seeds, format_significant, to_jsonable
from hepdecorr.evaluation.report import page, texts
from hepdecorr.evaluation.report.content import DecorrelationReport, FigureStore
from hepdecorr.evaluation.report.page import mathtext_to_text, parent_tagger, score_title

ResultsByScore = Mapping[str, Sequence[PerSignal]]

MAX_CURVES = 12  # curves in one figure that can still be told apart


def per_signal_section(content: DecorrelationReport, figures: FigureStore) -> list[str]:
    """Matrix and table of the areas, efficiencies of each signal, ROC curves both ways round."""
    if not content.per_signal:
        return []
    order = list(dict.fromkeys(parent_tagger(name) for name in content.per_signal))
    names = sorted(content.per_signal, key=lambda name: order.index(parent_tagger(name)))
    known = {score_title(name): content.per_signal[name] for name in names}
    signals = [one.name for one in next(iter(known.values()))[0].signals]
    groups = {score_title(name): parent_tagger(name) for name in names}
    areas = {name: _auc_row(seeds, signals) for name, seeds in known.items()}
    body = [page.heading("By signal sample", anchor="samples"), page.paragraph(texts.PER_SIGNAL_TEXT)]
    drawn = plots.plot_auc_matrix(areas, signals=signals, score_groups=groups)
    behind = {score_title(name): seeds for name, seeds in content.auc_deficits.items()}
    body += [figures.add(drawn, "matrix"), _auc_table(known, signals, behind)]
    rejections = [one.rejection for one in next(iter(known.values()))[0].signals[0].signal_efficiency]
    for rejection in rejections:
        title = f"Signal efficiency at {100 * rejection:g} % background rejection, by signal"
        body.append(page.details(title, _efficiency_table(known, signals, rejection)))
    body.append(page.details("R50 by signal", _r50_table(known, signals)))
    return body + _roc_figures(content, known, signals, figures)


def rank_correlation_section(
    content: DecorrelationReport,
    figures: FigureStore,
    axis: Mapping[str, Any],
    *,
    stem: str,
    span: tuple[float, float],
) -> list[str]:
    """Every score against a nuisance by its rank in background, and the table of rank correlations."""
    known = content.rank_correlations.get(stem, {})
    if not known:
        return []
    rows: list[list[str | page.TableCell]] = [
        [page.TableCell(score_title(name)), str(len(seeds)), page.format_over_seeds(seeds)]
        for name, seeds in known.items()
    ]
    body = [
        page.heading("Rank correlation", level=3),
        page.html_table(["<Score", "seeds", "rank correlation"], rows),
    ]
    scores = [name for name in content.scores.get(stem, {}) if name in known]
    for start in range(0, len(scores), MAX_CURVES):
        part = scores[start : start + MAX_CURVES]
        drawn = plots.plot_rank_density(
            {score_title(name): content.scores[stem][name] for name in part},
            correlations={score_title(name): known[name][0] for name in part},
            range=span,
            **axis,
        )
        body.append(figures.add(drawn, "ranks", f"{stem}_{start}" if start else stem, nuisance=stem))
    return body


def per_signal_metrics(content: DecorrelationReport) -> dict[str, Any]:
    """What these sections add to metrics.json; nothing where there is nothing of it."""
    found = {
        name: {
            "behind": content.auc_deficits.get(name, ()),
            "mean_auc": aggregate_seeds([one.mean_auc.value for one in seeds]).to_dict(),
            "seeds": [one.to_dict() for one in seeds],
        }
        for name, seeds in content.per_signal.items()
    }
    told: dict[str, Any] = {"by_sample": found, "rank_correlation": content.rank_correlations}
    return {name: to_jsonable(one) for name, one in told.items() if one}


def _auc_row(results: Sequence[PerSignal], signals: Sequence[str]) -> plots.AucRow:
    """Means over the seeds; errors: what the seeds' common events leave, and their spread, in quadrature."""
    many = [[one.find_signal(name).auc for one in results] for name in signals]
    many.append([one.mean_auc for one in results])
    spreads = [aggregate_seeds([one.value for one in own]) for own in many]
    errors = [
        math.sqrt(np.mean([(one.std or 0.0) ** 2 for one in own]) + (spread.std or 0.0) ** 2)
        for own, spread in zip(many, spreads, strict=True)
    ]
    return plots.AucRow([one.mean for one in spreads], errors)


def _auc_table(
    results: ResultsByScore, signals: Sequence[str], auc_deficits: Mapping[str, Sequence[Estimate]]
) -> str:
    header = ["<Score", "seeds", "mean AUC", "its statistical error"]
    header += [
        *(["behind the best", "its statistical error"] if auc_deficits else []),
        *map(mathtext_to_text, signals),
    ]
    rows: list[list[str | page.TableCell]] = []
    for name, seeds in results.items():
        errors = [one.mean_auc.std or 0.0 for one in seeds]
        row: list[str | page.TableCell] = [page.TableCell(name), str(len(seeds))]
        row += [
            page.format_over_seeds([one.mean_auc for one in seeds]),
            format_significant(sum(errors) / len(errors)),
        ]
        if auc_deficits:
            row += _deficit_cells(auc_deficits.get(name, ()))
        rows.append(
            [
                *row,
                *(
                    page.format_over_seeds([one.find_signal(signal).auc for one in seeds])
                    for signal in signals
                ),
            ]
        )
    return page.html_table(header, rows)


def _deficit_cells(deficits: Sequence[Estimate]) -> list[str]:
    if not deficits:
        return ["–", "–"]
    return [
        page.format_over_seeds(deficits),
        format_significant(sum(one.std or 0.0 for one in deficits) / len(deficits)),
    ]


def _efficiency_table(results: ResultsByScore, signals: Sequence[str], rejection: float) -> str:
    return _signal_table(
        {
            name: [[one.find_signal(s).at_rejection(rejection) for one in seeds] for s in signals]
            for name, seeds in results.items()
        },
        signals,
    )


def _r50_table(results: ResultsByScore, signals: Sequence[str]) -> str:
    return _signal_table(
        {
            name: [[one.find_signal(s).r50 for one in seeds] for s in signals]
            for name, seeds in results.items()
        },
        signals,
    )


def _signal_table(cells: Mapping[str, Sequence[Sequence[Estimate | None]]], signals: Sequence[str]) -> str:
    rows: list[list[str | page.TableCell]] = [
        [
            page.TableCell(name),
            *(page.format_over_seeds([one for one in own if one is not None]) for own in row),
        ]
        for name, row in cells.items()
    ]
    return page.html_table(["<Score", *map(mathtext_to_text, signals)], rows)


def _roc_figures(
    content: DecorrelationReport, results: ResultsByScore, signals: Sequence[str], figures: FigureStore
) -> list[str]:
    """Every score at one signal, then every signal for one score; of many scores the taggers' own alone."""
    names = list(results)
    if len(names) > MAX_CURVES:
        names = [name for name in names if name in content.taggers and name in content.per_signal]
    by_signal, by_score = [], []
    for signal in signals:
        for start in range(0, len(names), MAX_CURVES):
            curves = {
                name: [one.find_signal(signal).roc for one in results[name]]
                for name in names[start:][:MAX_CURVES]
            }
            drawn = plots.plot_roc_curves(curves, title=signal)
            by_signal.append(
                figures.add(drawn, "rocsample", mathtext_to_text(signal), signal=mathtext_to_text(signal))
            )
    for name in names:
        curves = {signal: [one.find_signal(signal).roc for one in results[name]] for signal in signals}
        by_score.append(figures.add(plots.plot_roc_curves(curves, title=name), "rocscore", name, score=name))
    return [
        page.details(f"ROC curves of each signal ({len(by_signal)})", "\n".join(by_signal)),
        page.details(f"ROC curves of each score ({len(by_score)})", "\n".join(by_score)),
    ]
