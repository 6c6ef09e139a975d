"""Sections of a report that come with jets: the literature's working point, pT, images, shifts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hepdecorr.errors import InputError
from hepdecorr.validation import captions, latents, page, plots, tables
from hepdecorr.validation.content import Figures, ReportInput
from hepdecorr.validation.measures import Evaluation, plain
from hepdecorr.validation.plots.spectra import rejections
from hepdecorr.validation.shifts import Shifted
from hepdecorr.validation.shifts import shifted as measured_shifts
from hepdecorr.validation.titles import titled

Taggers = Mapping[str, Sequence[Evaluation]]


def half_signal(
    content: ReportInput, chosen: Taggers, figures: Figures, axis: Mapping[str, Any], *, stem: str
) -> list[str]:
    """The table, and where the content has them the curve, the spectra by pT and the efficiencies."""
    mapped = {name: [one for one in seeds if one.nuisance == stem] for name, seeds in content.mapped.items()}
    mapped = {name: seeds for name, seeds in mapped.items() if seeds}
    titles = {titled(name): seeds for name, seeds in chosen.items()}
    body = [page.heading("Literature's working point", level=3), *tables.half_signal(titles, mapped)]
    if content.series or mapped:
        body += _curve(content, chosen, mapped, figures, stem=stem)
    if stem in content.seconds:
        body += _by_second(content, chosen, figures, axis, stem=stem)
    return body


def _curve(
    content: ReportInput, chosen: Taggers, mapped: Taggers, figures: Figures, *, stem: str
) -> list[str]:
    series: dict[str, list[tuple[str, Sequence[Evaluation]]]] = {}
    for name, points in content.series.items():
        if missing := [tagger for _, tagger in points if tagger not in chosen]:
            raise InputError(
                f"report: series {name!r} names {missing[0]!r}, which was not measured for {stem}"
            )
        series[name] = [(label, chosen[tagger]) for label, tagger in points]
    joined = {tagger for points in content.series.values() for _, tagger in points}
    series |= {titled(name): [(titled(name), seeds)] for name, seeds in chosen.items() if name not in joined}
    if all(one.half_signal.sculpting is None for seeds in chosen.values() for one in seeds):
        return []
    stars = [(f"{name}, quantile map", seeds) for name, seeds in mapped.items()]
    return [figures.add(plots.half_signal_curve(series, baselines=stars), "halfcurve", stem)]


def _by_second(
    content: ReportInput, chosen: Taggers, figures: Figures, axis: Mapping[str, Any], *, stem: str
) -> list[str]:
    second = content.seconds[stem]
    cuts = {
        name: seeds[0].half_signal.sculpting for name, seeds in chosen.items() if name in content.scores[stem]
    }
    used = {name: one for name, one in cuts.items() if one is not None}
    if not used:
        return []
    scores = {name: content.scores[stem][name] for name in used}
    thresholds = {name: one.threshold for name, one in used.items()}
    span = next(iter(used.values())).range
    drawn = plots.efficiencies(scores, thresholds=thresholds, range=span, second=second, **axis)
    panels = [
        figures.add(
            plots.sliced_spectra(scores[name], second, threshold=cut, range=span, title=name, **axis),
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
        page.folded_markup(title, "\n".join(panels)) if len(panels) > 2 else "\n".join(panels),
    ]


def images(content: ReportInput, figures: Figures) -> list[str]:
    """Average jet images of every tagger at 50 % signal efficiency, or else the tightest cut filled."""
    filled = content.images
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
        drawn = plots.jet_images(
            filled, tagger=name, labels=labels, category=shown, title=f"{name}, {_cut(shown)}"
        )
        body.append(figures.add(drawn, "images", name, tagger=name))
    return body


def _cut(category: str) -> str:
    point = category.removeprefix("pass ")
    try:
        return f"cut at {100 * float(point):g} % rejection"
    except ValueError:
        return f"cut at {point}{' efficiency' if point.endswith('signal') else ''}"


def shifted(
    content: ReportInput, figures: Figures, axis: Mapping[str, Any], *, stem: str, chosen: Taggers
) -> list[str]:
    """The table of what the shifts change, and the shifted spectra of every tagger."""
    found = _shifted(content, stem)
    if not found:
        return []
    filled, rejection = content.histograms[stem], found[0].rejection
    labels = _labels(content, stem)
    body = [
        page.heading("Systematic shifts", level=3),
        page.paragraph(captions.SHIFTS),
        tables.shifted(found),
    ]
    panels = [
        figures.add(
            plots.shifted_spectra(
                filled, tagger=name, labels=labels, rejection=rejection, title=name, **axis
            ),
            "shifts",
            f"{stem}_{name}",
            tagger=name,
            rejection=100 * rejection,
        )
        for name in dict.fromkeys(one.tagger for one in found)
        if name in chosen
    ]
    return [*body, *panels]


def _shifted(content: ReportInput, nuisance: str) -> list[Shifted]:
    """At the filled rejection next to 95 %, as in the trade-off."""
    filled = content.histograms.get(nuisance)
    if filled is None or not plots.shifts(filled) or not rejections(filled):
        return []
    rejection = min(rejections(filled), key=lambda value: abs(value - 0.95))
    labels = _labels(content, nuisance)
    return [
        one
        for name in filled.axes["tagger"]
        for one in measured_shifts(filled, tagger=name, labels=labels, rejection=rejection)
    ]


def _labels(content: ReportInput, nuisance: str) -> dict[str, int]:
    known = list(content.histograms[nuisance].axes["dataset"])
    return {name: label for name, label in content.labels.items() if name in known}


def metrics(content: ReportInput) -> dict[str, Any]:
    """What these sections add to metrics.json; nothing where there is nothing of it."""
    shifts = {name: _shifted(content, name) for name in content.histograms}
    found = {
        "mapped": {name: [one.to_dict() for one in seeds] for name, seeds in content.mapped.items()},
        "series": plain(content.series),
        "shifts": {name: [one.to_dict() for one in many] for name, many in shifts.items() if many},
        "latents": latents.metrics(content.latents),
    }
    return {key: value for key, value in found.items() if value}
