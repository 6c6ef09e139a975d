"""Sections of a report on bins of the nuisance, and on the plane of two features where there are just two.

Sections of a report that come with jets: the literature's working point, pT, images, shifts.

One folder that proves it: report.html, figures/ as PDF and PNG, metrics.json.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import hist

from hepdecorr.errors import InputError
from hepdecorr.evaluation import plots
from hepdecorr.evaluation.metrics import (
    Evaluation,
    InBins,
    MutualInformation,
    format_significant,
    to_jsonable,
)
from hepdecorr.evaluation.metrics.systematics import SystematicEffect
from hepdecorr.evaluation.metrics.systematics import measure_systematics as measured_shifts
from hepdecorr.evaluation.plots import DecisionSurface
from hepdecorr.evaluation.plots.scores import TaggerScores
from hepdecorr.evaluation.plots.spectra import filled_rejections
from hepdecorr.evaluation.report import groups, latents, page, per_signal, tables, texts
from hepdecorr.evaluation.report.content import DecorrelationReport, FigureStore, atomic_write, render_figure
from hepdecorr.evaluation.report.page import TableCell, parent_tagger, score_title
from hepdecorr.evaluation.report.texts import SUMMARY_TEXT

__all__ = [
    "DecorrelationReport",
    "atomic_write",
    "collect_metrics",
    "render_figure",
    "write_decorrelation_report",
]


def decision_surface_section(
    content: DecorrelationReport, figures: FigureStore, axis: Mapping[str, Any], *, stem: str
) -> list[str]:
    """The score of every tagger over the plane of its features; nothing where these are not two."""
    known = [
        name
        for name in (content.decision_surface.logits if content.decision_surface else ())
        if name in content.taggers
    ]
    if content.decision_surface is None or not known or stem not in content.decision_surface.nuisances:
        return []
    shown: DecisionSurface = content.decision_surface._replace(
        logits={name: content.decision_surface.logits[name] for name in known}
    )
    drawn = plots.plot_decision_surface(
        shown, nuisance=stem, nuisance_bins=content.nuisance_bins.get(stem), title=axis["nuisance"]
    )
    return [page.heading("Decision surface", level=3), figures.add(drawn, "surface", stem)]


def bins_section(
    content: DecorrelationReport, figures: FigureStore, axis: Mapping[str, Any], *, stem: str
) -> list[str]:
    """What the score is worth, and what it tells, in bins of the nuisance; nothing where there are none."""
    slices = content.nuisance_bins.get(stem)
    if slices is None:
        return []
    body = [page.heading("In bins of the protected variable", level=3)]
    if scores := {k: one for k, one in content.scores.get(stem, {}).items() if k in content.taggers}:
        drawn = plots.plot_density_by_nuisance(scores, nuisance_bins=slices, title=axis["nuisance"])
        body.append(figures.add(drawn, "byslice", stem))
    measured = content.in_bins.get(stem, {})
    if measured:
        first = {name: seeds[0] for name, seeds in measured.items()}
        drawn = plots.plot_metrics_in_bins(first, nuisance_bins=slices, **axis)
        body += [figures.add(drawn, "inslices", stem), information_table(measured)]
        body.append(page.paragraph(texts.INFORMATION_TEXT, css_class="soft"))
    return body


def information_table(taggers: Mapping[str, Sequence[InBins]]) -> str:
    """One row per tagger: the mutual information of score and bin, of all events and of each class."""
    kinds = list(next(iter(taggers.values()))[0].information)
    header = ["Tagger", *(f"I(score; bin), {kind} [nats] (p)" for kind in kinds)]
    header += [f"the same, {kind}, equal bins" for kind in kinds]
    rows: list[list[str | TableCell]] = []
    for name, seeds in taggers.items():
        found = [[one.information[kind] for one in seeds] for kind in kinds]
        found += [[one.equal_bin_information[kind] for one in seeds] for kind in kinds]
        rows.append([name, *(_information_cell([one for one in many if one is not None]) for many in found)])
    return page.html_table(header, rows)


def _information_cell(information: Sequence[MutualInformation]) -> str:
    if not information:
        return "–"
    # Of several seeds the least: a family-wise statement is left to the tables of sculpting.
    p = min(one.p_value for one in information)
    said = f"p {format_significant(p, 2)}" if p >= 1e-4 else "p < 0.0001"
    return f"{page.format_over_seeds([one.nats for one in information])} ({said})"


def bin_metrics(content: DecorrelationReport) -> dict[str, Any]:
    """What these sections add to metrics.json; nothing where there is nothing of it."""
    found = {nuisance: to_jsonable(taggers) for nuisance, taggers in content.in_bins.items() if taggers}
    return {"in_slices": found} if found else {}


EvaluationsByTagger = Mapping[str, Sequence[Evaluation]]


def r50_section(
    content: DecorrelationReport,
    evaluations: EvaluationsByTagger,
    figures: FigureStore,
    axis: Mapping[str, Any],
    *,
    stem: str,
) -> list[str]:
    """The table, and where the content has them the curve, the spectra by pT and the efficiencies."""
    mapped = {
        name: [one for one in seeds if one.nuisance == stem]
        for name, seeds in content.quantile_mapped.items()
    }
    mapped = {name: seeds for name, seeds in mapped.items() if seeds}
    titles = {score_title(name): seeds for name, seeds in evaluations.items()}
    body = [page.heading("Literature's working point", level=3), *tables.r50_table(titles, mapped)]
    if content.series or mapped:
        body += _r50_figures(content, evaluations, mapped, figures, stem=stem)
    if stem in content.second_variables:
        body += _second_variable_figures(content, evaluations, figures, axis, stem=stem)
    return body


def _r50_figures(
    content: DecorrelationReport,
    evaluations: EvaluationsByTagger,
    quantile_mapped: EvaluationsByTagger,
    figures: FigureStore,
    *,
    stem: str,
) -> list[str]:
    series: dict[str, list[tuple[str, Sequence[Evaluation]]]] = {}
    for name, points in content.series.items():
        if missing := [tagger for _, tagger in points if tagger not in evaluations]:
            raise InputError(
                f"report: series {name!r} names {missing[0]!r}, which was not measured for {stem}"
            )
        series[name] = [(label, evaluations[tagger]) for label, tagger in points]
    joined = {tagger for points in content.series.values() for _, tagger in points}
    series |= {
        score_title(name): [(score_title(name), seeds)]
        for name, seeds in evaluations.items()
        if name not in joined
    }
    if all(
        one.at_half_signal_efficiency.sculpting is None for seeds in evaluations.values() for one in seeds
    ):
        return []
    stars = [(f"{name}, quantile map", seeds) for name, seeds in quantile_mapped.items()]
    return [figures.add(plots.plot_r50_curve(series, baselines=stars), "halfcurve", stem)]


def _second_variable_figures(
    content: DecorrelationReport,
    evaluations: EvaluationsByTagger,
    figures: FigureStore,
    axis: Mapping[str, Any],
    *,
    stem: str,
) -> list[str]:
    second = content.second_variables[stem]
    cuts = {
        name: seeds[0].at_half_signal_efficiency.sculpting
        for name, seeds in evaluations.items()
        if name in content.scores[stem]
    }
    used = {name: one for name, one in cuts.items() if one is not None}
    if not used:
        return []
    scores = {name: content.scores[stem][name] for name in used}
    thresholds = {name: one.threshold for name, one in used.items()}
    span = next(iter(used.values())).range
    drawn = plots.plot_efficiencies(scores, thresholds=thresholds, range=span, second=second, **axis)
    panels = [
        figures.add(
            plots.plot_spectra_in_bins(scores[name], second, threshold=cut, range=span, title=name, **axis),
            "slices",
            f"{stem}_{name}",
            tagger=name,
            second=second.title or "the second variable",
        )
        for name, cut in thresholds.items()
    ]
    title = f"Spectra in bins of {second.title or 'the second variable'} ({len(panels)})"
    return [
        figures.add(drawn, "efficiencies", stem),
        page.details(title, "\n".join(panels)) if len(panels) > 2 else "\n".join(panels),
    ]


def jet_images_section(content: DecorrelationReport, figures: FigureStore) -> list[str]:
    """Average jet images of every tagger at 50 % signal efficiency, or else the tightest cut filled."""
    filled = content.jet_images
    if filled is None:
        return []
    names = [name for name in filled.axes["tagger"] if name in content.taggers] or list(filled.axes["tagger"])
    passing = [name for name in filled.axes["category"] if name.startswith("pass ")]
    if not passing:
        return []
    named = [name for name in passing if name.endswith("signal")]
    shown = named[0] if named else max(passing, key=lambda name: float(name.split()[1]))
    labels = {name: label for name, label in content.labels.items() if name in list(filled.axes["dataset"])}
    body = [page.heading("Average jets", anchor="images")]
    for name in names:
        drawn = plots.plot_jet_images(
            filled, tagger=name, labels=labels, category=shown, title=f"{name}, {_describe_cut(shown)}"
        )
        body.append(figures.add(drawn, "images", name, tagger=name))
    return body


def _describe_cut(category: str) -> str:
    point = category.removeprefix("pass ")
    try:
        return f"cut at {100 * float(point):g} % rejection"
    except ValueError:
        return f"cut at {point}{' efficiency' if point.endswith('signal') else ''}"


def systematics_section(
    content: DecorrelationReport,
    figures: FigureStore,
    axis: Mapping[str, Any],
    *,
    stem: str,
    evaluations: EvaluationsByTagger,
) -> list[str]:
    """The table of what the shifts change, and the shifted spectra of every tagger."""
    found = _measure_all_systematics(content, stem)
    if not found:
        return []
    filled, rejection = content.histograms[stem], found[0].rejection
    labels = _dataset_labels(content, stem)
    body = [
        page.heading("Systematic shifts", level=3),
        page.paragraph(texts.SYSTEMATICS_TEXT),
        tables.systematics_table(found),
    ]
    panels = [
        figures.add(
            plots.plot_systematic_spectra(
                filled, tagger=name, labels=labels, rejection=rejection, title=name, **axis
            ),
            "shifts",
            f"{stem}_{name}",
            tagger=name,
            rejection=100 * rejection,
        )
        for name in dict.fromkeys(one.tagger for one in found)
        if name in evaluations
    ]
    return [*body, *panels]


def _measure_all_systematics(content: DecorrelationReport, nuisance: str) -> list[SystematicEffect]:
    """At the filled rejection next to 95 %, as in the trade-off."""
    filled = content.histograms.get(nuisance)
    if filled is None or not plots.systematic_names(filled) or not filled_rejections(filled):
        return []
    rejection = min(filled_rejections(filled), key=lambda value: abs(value - 0.95))
    labels = _dataset_labels(content, nuisance)
    return [
        one
        for name in filled.axes["tagger"]
        for one in measured_shifts(filled, tagger=name, labels=labels, rejection=rejection)
    ]


def _dataset_labels(content: DecorrelationReport, nuisance: str) -> dict[str, int]:
    known = list(content.histograms[nuisance].axes["dataset"])
    return {name: label for name, label in content.labels.items() if name in known}


def jet_metrics(content: DecorrelationReport) -> dict[str, Any]:
    """What these sections add to metrics.json; nothing where there is nothing of it."""
    shifts = {name: _measure_all_systematics(content, name) for name in content.histograms}
    found = {
        "mapped": {name: [one.to_dict() for one in seeds] for name, seeds in content.quantile_mapped.items()},
        "series": to_jsonable(content.series),
        "shifts": {name: [one.to_dict() for one in many] for name, many in shifts.items() if many},
        "latents": latents.latent_metrics(content.latents),
    }
    return {key: value for key, value in found.items() if value}


NOTE_REJECTION = 0.9  # background rejection that notes in panels are about


def write_decorrelation_report(folder: Path, content: DecorrelationReport) -> Path:
    """Write the report into the folder (made if need be) and return report.html's path.

    Every file is replaced in one step, the page last: a reader never meets a half-written report. InputError
    when there is no evaluation.
    """
    if not content.taggers or not all(content.taggers.values()):
        lacking = [name for name, seeds in content.taggers.items() if not seeds] or ["any tagger"]
        raise InputError(f"report: no evaluations of {', '.join(lacking)}; measure before reporting")
    figures = FigureStore(folder / "figures")
    nuisances = list(dict.fromkeys(one.nuisance for seeds in content.taggers.values() for one in seeds))
    body = [
        page.heading(content.name, level=1),
        page.paragraph(_subtitle(content, nuisances), css_class="soft"),
    ]
    body += tables.incomplete_warnings(content.completeness)
    for nuisance in nuisances:
        body += _nuisance_section(content, nuisance, figures)
    body += per_signal.per_signal_section(content, figures)
    body += groups.groups_section(content.groups, figures, _nuisance_axes(content))
    body += jet_images_section(content, figures)
    body += latents.latents_section(content.latents, figures, _nuisance_axes(content))
    body += _training_section(content, figures)
    body += _provenance_section(content)
    atomic_write(folder / "metrics.json", (json.dumps(collect_metrics(content), indent=1) + "\n").encode())
    atomic_write(
        folder / "report.html", page.html_page(f"{content.name}: decorrelation report", body).encode()
    )
    return folder / "report.html"


def collect_metrics(content: DecorrelationReport) -> dict[str, Any]:
    """Everything measured, JSON-able; figures and histograms excluded."""
    return {
        "version": 1,
        "name": content.name,
        "created": content.created,
        "versions": to_jsonable(content.versions),
        "provenance": to_jsonable(content.provenance),
        "completeness": to_jsonable(content.completeness),
        "cards": to_jsonable(content.cards),
        "taggers": {name: [one.to_dict() for one in seeds] for name, seeds in content.taggers.items()},
        "config": content.config_text,
    } | _collect_section_metrics(content)


def _collect_section_metrics(content: DecorrelationReport) -> dict[str, Any]:
    found = jet_metrics(content) | bin_metrics(content)
    return found | per_signal.per_signal_metrics(content) | groups.group_metrics(content.groups)


def _subtitle(content: DecorrelationReport, nuisances: Sequence[str]) -> str:
    first = next(iter(content.taggers.values()))[0]
    events = f"{first.background_events:,} background and {first.signal_events:,} signal events"
    weighted = "weighted" if first.weighted else "unweighted"
    made = f" {content.created}" if content.created else ""
    return (
        f"Taggers: {len(content.taggers)}. Protected: {', '.join(nuisances)}. "
        f"Measured on {content.sample_description}: {events}, {weighted}.{made}"
    )


def _nuisance_axes(content: DecorrelationReport) -> dict[str, dict[str, Any]]:
    """Title and unit of every nuisance's axis."""
    units = {one.nuisance: one.unit for seeds in content.taggers.values() for one in seeds}
    return {name: {"nuisance": content.titles.get(name, name), "unit": unit} for name, unit in units.items()}


def _nuisance_section(content: DecorrelationReport, nuisance: str, figures: FigureStore) -> list[str]:
    chosen = {
        name: [one for one in seeds if one.nuisance == nuisance] for name, seeds in content.taggers.items()
    }
    chosen = {name: seeds for name, seeds in chosen.items() if seeds}
    first = next(iter(chosen.values()))[0]
    axis = _nuisance_axes(content)[nuisance]
    shown = {score_title(name): seeds for name, seeds in chosen.items()}
    body = [page.heading(f"Protected variable: {nuisance}", anchor=nuisance)]
    body += [page.heading("Summary", level=3), tables.summary_table(shown)]
    body.append(page.paragraph(SUMMARY_TEXT, css_class="soft"))
    body += [
        page.heading("Sculpting", level=3),
        page.paragraph(tables.jsd_definition(first)),
        tables.sculpting_table(shown),
    ]
    if nuisance in content.histograms:
        body += _spectra_figures(content, content.histograms[nuisance], chosen, axis, figures, stem=nuisance)
    body += _comparison_figures(shown, axis, figures, stem=nuisance)
    if nuisance in content.scores:
        body += _score_figures(content.scores[nuisance], chosen, axis, figures, stem=nuisance)
    body += per_signal.rank_correlation_section(
        content, figures, axis, stem=nuisance, span=first.sculpting[0].range
    )
    body += decision_surface_section(content, figures, axis, stem=nuisance)
    body += bins_section(content, figures, axis, stem=nuisance)
    body += [page.heading("Working points", level=3), *tables.closure_tables(shown)]
    body += r50_section(content, chosen, figures, axis, stem=nuisance)
    return body + systematics_section(content, figures, axis, stem=nuisance, evaluations=chosen)


def _spectra_figures(
    content: DecorrelationReport,
    histogram: hist.Hist[Any],
    evaluations: Mapping[str, Sequence[Evaluation]],
    axis: Mapping[str, Any],
    figures: FigureStore,
    *,
    stem: str,
) -> list[str]:
    names = [name for name in histogram.axes["tagger"] if name in evaluations] or list(
        histogram.axes["tagger"]
    )
    points = plots.filled_rejections(histogram)
    if not points or not names:
        return []
    labels = {
        name: label for name, label in content.labels.items() if name in list(histogram.axes["dataset"])
    }
    tightest = points[-1]
    notes = {name: tables.panel_note(evaluations[name], tightest) for name in names if name in evaluations}
    titles = {name: score_title(name) for name in names}
    about: dict[str, Any] = {"taggers": names, "titles": titles, "notes": notes, **axis}
    drawn = plots.plot_overview(histogram, labels=labels, rejection=tightest, **about)
    first = figures.add(drawn, "overview", stem, rejection=100 * tightest)
    others = [
        figures.add(
            plots.plot_sculpting_spectra(
                histogram, tagger=name, labels=labels, title=score_title(name), **axis
            ),
            "spectra",
            f"{stem}_{name}",
            tagger=score_title(name),
        )
        for name in names
    ]
    beside = _side_by_side_figures(content, histogram, evaluations, axis, figures, stem=stem)
    return [first, *beside, page.details(f"Spectra of every tagger ({len(names)})", "\n".join(others))]


def _side_by_side_figures(
    content: DecorrelationReport,
    histogram: hist.Hist[Any],
    evaluations: Mapping[str, Sequence[Evaluation]],
    axis: Mapping[str, Any],
    figures: FigureStore,
    *,
    stem: str,
) -> list[str]:
    """The spectra that are asked for side by side; below each title how much its score sculpts at 90 %."""
    labels = {
        name: label for name, label in content.labels.items() if name in list(histogram.axes["dataset"])
    }
    near = min(plots.filled_rejections(histogram), key=lambda value: abs(value - NOTE_REJECTION))
    body = []
    for title, names in content.spectra_panels.items():
        notes = {
            name: f"at {100 * near:g} %:\n{tables.panel_note(evaluations[name], near)}"
            for name in names
            if name in evaluations
        }
        scores = {name: score_title(name) for name in names}
        drawn = plots.plot_spectra_side_by_side(histogram, scores=scores, labels=labels, notes=notes, **axis)
        body.append(figures.add(drawn, "beside", f"{stem}_{title}", title=title))
    return body


def _comparison_figures(
    evaluations: Mapping[str, Sequence[Evaluation]],
    axis: Mapping[str, Any],
    figures: FigureStore,
    *,
    stem: str,
) -> list[str]:
    first = next(iter(evaluations.values()))[0]
    rejections = [one.rejection for one in first.sculpting]
    shown = min(rejections, key=lambda value: abs(value - 0.95))
    profiles = {name: seeds[0].profiles for name, seeds in evaluations.items()}
    curves = {name: [one.roc for one in seeds] for name, seeds in evaluations.items()}
    return [
        figures.add(plots.plot_trade_off(evaluations, rejection=shown), "tradeoff", stem),
        figures.add(plots.plot_efficiency_profiles(profiles, **axis), "efficiency", stem),
        figures.add(plots.plot_roc_curves(curves), "roc", stem),
    ]


def _score_figures(
    scores: Mapping[str, TaggerScores],
    evaluations: Mapping[str, Sequence[Evaluation]],
    axis: Mapping[str, Any],
    figures: FigureStore,
    *,
    stem: str,
) -> list[str]:
    first = next(iter(evaluations.values()))[0]
    # A further score is no logit: it is shown by its rank.
    own = {name: one for name, one in scores.items() if name in evaluations and parent_tagger(name) == name}
    if not own:
        return []
    cuts = {name: [one.threshold for one in evaluations[name][0].sculpting] for name in own}
    span, nuisance, unit = first.sculpting[0].range, axis["nuisance"], axis["unit"]
    return [
        figures.add(plots.plot_score_density(own, range=span, nuisance=nuisance, unit=unit), "density", stem),
        figures.add(plots.plot_score_distributions(own, thresholds=cuts), "scores", stem),
    ]


def _training_section(content: DecorrelationReport, figures: FigureStore) -> list[str]:
    if not content.histories:
        return []
    body = [page.heading("Training", anchor="training")]
    for name, history in content.histories.items():
        drawn = plots.plot_training_history(history, objective_spans=content.objective_spans.get(name, ()))
        body.append(figures.add(drawn, "training", name, tagger=name))
    return body


def _provenance_section(content: DecorrelationReport) -> list[str]:
    body = [
        page.heading("What was run", anchor="provenance"),
        *tables.completeness_tables(content.completeness),
    ]
    if content.versions:
        body.append(page.key_value_table("Versions", content.versions))
    if content.provenance:
        body.append(page.key_value_table("Provenance", content.provenance))
    for name, card in content.cards.items():
        body.append(
            page.details_pre(f"Card of {name}", json.dumps(to_jsonable(card), indent=1, ensure_ascii=False))
        )
    if content.config_text:
        body.append(page.details_pre("Configuration", content.config_text))
    return body
