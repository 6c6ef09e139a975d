"""One folder that proves it: report.html, figures/ as PDF and PNG, metrics.json."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import hist

from hepdecorr.errors import InputError
from hepdecorr.validation import grouped, latents, page, plots, samples, sections, sliced, tables
from hepdecorr.validation.captions import SUMMARY
from hepdecorr.validation.content import Figures, ReportInput, rendered, write
from hepdecorr.validation.measures import Evaluation, plain
from hepdecorr.validation.plots.scores import Scores
from hepdecorr.validation.titles import tagger_of, titled

NOTED = 0.9  # background rejection that notes in panels are about


def report(folder: Path, content: ReportInput) -> Path:
    """Write the report into the folder (made if need be) and return report.html's path.

    Every file is replaced in one step, the page last: a reader never meets a half-written report. InputError
    when there is no evaluation.
    """
    if not content.taggers or not all(content.taggers.values()):
        lacking = [name for name, seeds in content.taggers.items() if not seeds] or ["any tagger"]
        raise InputError(f"report: no evaluations of {', '.join(lacking)}; measure before reporting")
    figures = Figures(folder / "figures")
    nuisances = list(dict.fromkeys(one.nuisance for seeds in content.taggers.values() for one in seeds))
    body = [page.heading(content.name, level=1), page.paragraph(_subtitle(content, nuisances), kind="soft")]
    body += tables.incomplete(content.completeness)
    for nuisance in nuisances:
        body += _nuisance(content, nuisance, figures)
    body += samples.section(content, figures)
    body += grouped.section(content.groups, figures, _axes(content))
    body += sections.images(content, figures)
    body += latents.section(content.latents, figures, _axes(content))
    body += _trainings(content, figures)
    body += _provenance(content)
    write(folder / "metrics.json", (json.dumps(metrics(content), indent=1) + "\n").encode())
    write(folder / "report.html", page.page(f"{content.name}: decorrelation report", body).encode())
    return folder / "report.html"


def metrics(content: ReportInput) -> dict[str, Any]:
    """Everything measured, JSON-able; figures and histograms excluded."""
    return {
        "version": 1,
        "name": content.name,
        "created": content.created,
        "versions": plain(content.versions),
        "provenance": plain(content.provenance),
        "completeness": plain(content.completeness),
        "cards": plain(content.cards),
        "taggers": {name: [one.to_dict() for one in seeds] for name, seeds in content.taggers.items()},
        "config": content.config_text,
    } | _by_section(content)


def _by_section(content: ReportInput) -> dict[str, Any]:
    found = sections.metrics(content) | sliced.metrics(content)
    return found | samples.metrics(content) | grouped.metrics(content.groups)


def _subtitle(content: ReportInput, nuisances: Sequence[str]) -> str:
    first = next(iter(content.taggers.values()))[0]
    events = f"{first.background_events:,} background and {first.signal_events:,} signal events"
    weighted = "weighted" if first.weighted else "unweighted"
    made = f" {content.created}" if content.created else ""
    return (
        f"Taggers: {len(content.taggers)}. Protected: {', '.join(nuisances)}. "
        f"Measured on {content.sample}: {events}, {weighted}.{made}"
    )


def _axes(content: ReportInput) -> dict[str, dict[str, Any]]:
    """Title and unit of every nuisance's axis."""
    units = {one.nuisance: one.unit for seeds in content.taggers.values() for one in seeds}
    return {name: {"nuisance": content.titles.get(name, name), "unit": unit} for name, unit in units.items()}


def _nuisance(content: ReportInput, nuisance: str, figures: Figures) -> list[str]:
    chosen = {
        name: [one for one in seeds if one.nuisance == nuisance] for name, seeds in content.taggers.items()
    }
    chosen = {name: seeds for name, seeds in chosen.items() if seeds}
    first = next(iter(chosen.values()))[0]
    axis = _axes(content)[nuisance]
    shown = {titled(name): seeds for name, seeds in chosen.items()}
    body = [page.heading(f"Protected variable: {nuisance}", anchor=nuisance)]
    body += [page.heading("Summary", level=3), tables.summary(shown)]
    body.append(page.paragraph(SUMMARY, kind="soft"))
    body += [
        page.heading("Sculpting", level=3),
        page.paragraph(tables.definition(first)),
        tables.sculpting(shown),
    ]
    if nuisance in content.histograms:
        body += _spectra(content, content.histograms[nuisance], chosen, axis, figures, stem=nuisance)
    body += _comparison(shown, axis, figures, stem=nuisance)
    if nuisance in content.scores:
        body += _scores(content.scores[nuisance], chosen, axis, figures, stem=nuisance)
    body += samples.by_rank(content, figures, axis, stem=nuisance, span=first.sculpting[0].range)
    body += sliced.plane(content, figures, axis, stem=nuisance)
    body += sliced.in_slices(content, figures, axis, stem=nuisance)
    body += [page.heading("Working points", level=3), *tables.closures(shown)]
    body += sections.half_signal(content, chosen, figures, axis, stem=nuisance)
    return body + sections.shifted(content, figures, axis, stem=nuisance, chosen=chosen)


def _spectra(
    content: ReportInput,
    filled: hist.Hist[Any],
    chosen: Mapping[str, Sequence[Evaluation]],
    axis: Mapping[str, Any],
    figures: Figures,
    *,
    stem: str,
) -> list[str]:
    names = [name for name in filled.axes["tagger"] if name in chosen] or list(filled.axes["tagger"])
    points = plots.rejections(filled)
    if not points or not names:
        return []
    labels = {name: label for name, label in content.labels.items() if name in list(filled.axes["dataset"])}
    tightest = points[-1]
    notes = {name: tables.note(chosen[name], tightest) for name in names if name in chosen}
    titles = {name: titled(name) for name in names}
    about: dict[str, Any] = {"taggers": names, "titles": titles, "notes": notes, **axis}
    drawn = plots.overview(filled, labels=labels, rejection=tightest, **about)
    first = figures.add(drawn, "overview", stem, rejection=100 * tightest)
    others = [
        figures.add(
            plots.sculpting_spectra(filled, tagger=name, labels=labels, title=titled(name), **axis),
            "spectra",
            f"{stem}_{name}",
            tagger=titled(name),
        )
        for name in names
    ]
    beside = _side_by_side(content, filled, chosen, axis, figures, stem=stem)
    return [first, *beside, page.folded_markup(f"Spectra of every tagger ({len(names)})", "\n".join(others))]


def _side_by_side(
    content: ReportInput,
    filled: hist.Hist[Any],
    chosen: Mapping[str, Sequence[Evaluation]],
    axis: Mapping[str, Any],
    figures: Figures,
    *,
    stem: str,
) -> list[str]:
    """The spectra that are asked for side by side; below each title how much its score sculpts at 90 %."""
    labels = {name: label for name, label in content.labels.items() if name in list(filled.axes["dataset"])}
    near = min(plots.rejections(filled), key=lambda value: abs(value - NOTED))
    body = []
    for title, names in content.spectra.items():
        notes = {
            name: f"at {100 * near:g} %:\n{tables.note(chosen[name], near)}"
            for name in names
            if name in chosen
        }
        scores = {name: titled(name) for name in names}
        drawn = plots.side_by_side(filled, scores=scores, labels=labels, notes=notes, **axis)
        body.append(figures.add(drawn, "beside", f"{stem}_{title}", title=title))
    return body


def _comparison(
    chosen: Mapping[str, Sequence[Evaluation]], axis: Mapping[str, Any], figures: Figures, *, stem: str
) -> list[str]:
    first = next(iter(chosen.values()))[0]
    rejections = [one.rejection for one in first.sculpting]
    shown = min(rejections, key=lambda value: abs(value - 0.95))
    profiles = {name: seeds[0].profiles for name, seeds in chosen.items()}
    curves = {name: [one.roc for one in seeds] for name, seeds in chosen.items()}
    return [
        figures.add(plots.trade_off(chosen, rejection=shown), "tradeoff", stem),
        figures.add(plots.efficiency_profiles(profiles, **axis), "efficiency", stem),
        figures.add(plots.roc_curves(curves), "roc", stem),
    ]


def _scores(
    scores: Mapping[str, Scores],
    chosen: Mapping[str, Sequence[Evaluation]],
    axis: Mapping[str, Any],
    figures: Figures,
    *,
    stem: str,
) -> list[str]:
    first = next(iter(chosen.values()))[0]
    # A further score is no logit: it is shown by its rank.
    own = {name: one for name, one in scores.items() if name in chosen and tagger_of(name) == name}
    if not own:
        return []
    cuts = {name: [one.threshold for one in chosen[name][0].sculpting] for name in own}
    span, nuisance, unit = first.sculpting[0].range, axis["nuisance"], axis["unit"]
    return [
        figures.add(plots.density(own, range=span, nuisance=nuisance, unit=unit), "density", stem),
        figures.add(plots.score_distributions(own, thresholds=cuts), "scores", stem),
    ]


def _trainings(content: ReportInput, figures: Figures) -> list[str]:
    if not content.histories:
        return []
    body = [page.heading("Training", anchor="training")]
    for name, history in content.histories.items():
        drawn = plots.training_history(history, turns=content.turns.get(name, ()))
        body.append(figures.add(drawn, "training", name, tagger=name))
    return body


def _provenance(content: ReportInput) -> list[str]:
    body = [page.heading("What was run", anchor="provenance"), *tables.completeness(content.completeness)]
    if content.versions:
        body.append(page.mapping("Versions", content.versions))
    if content.provenance:
        body.append(page.mapping("Provenance", content.provenance))
    for name, card in content.cards.items():
        body.append(page.folded(f"Card of {name}", json.dumps(plain(card), indent=1, ensure_ascii=False)))
    if content.config_text:
        body.append(page.folded("Configuration", content.config_text))
    return body


__all__ = ["ReportInput", "metrics", "rendered", "report", "write"]
