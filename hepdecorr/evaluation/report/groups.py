"""What a report says of groups of events, such as runs.

Tables between groups: measures in, markup out.

Section of a report on what changes from group to group, such as from run to run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from hepdecorr.evaluation import plots
from hepdecorr.evaluation.groups import (
    BetweenGroupSpread,
    CodeRegression,
    GroupStability,
    SpreadRatio,
    StabilityRatios,
)
from hepdecorr.evaluation.groups.condition_regression import ConditionRegression
from hepdecorr.evaluation.groups.stability import GroupSpectrum
from hepdecorr.evaluation.metrics import format_significant, to_jsonable
from hepdecorr.evaluation.report import page, texts
from hepdecorr.evaluation.report.content import MAX_TAGGERS_SHOWN, FigureStore, GroupReport
from hepdecorr.evaluation.report.page import (
    TableCell,
    format_over_seeds,
    html_table,
    mathtext_to_text,
    score_title,
)

StabilityByTagger = Mapping[str, Sequence[GroupStability]]
RatiosByTagger = Mapping[str, Sequence[Sequence[StabilityRatios]]]
RegressionsByTagger = Mapping[str, Mapping[str, Sequence[CodeRegression]]]
TableRow = list[str | TableCell]

MEV_THRESHOLD = 0.05  # GeV, below which a spread is told in MeV


def format_percent(value: float) -> str:
    """A share in per cent."""
    return f"{format_significant(100 * value, 3)} %"


def format_spread(stability: Sequence[GroupStability], rejection: float, class_name: str) -> str:
    """Of an efficiency, in per cent; its limit where nothing is resolved."""
    found = [one.at_rejection(rejection).for_class(class_name) for one in stability]
    known = [one for one in found if one is not None]
    if not known:
        return "not measured"
    if not any(one.depends_on_group(class_name, rejection) for one in stability):
        return f"< {format_percent(max(one.upper_limit for one in known))} (95 %)"
    return f"{format_over_seeds([one.spread.scaled(100) for one in known])} %"


def efficiency_table(
    stability: StabilityByTagger,
    ratios: RatiosByTagger,
    *,
    class_name: str,
    titles: Mapping[str, str],
    reference: str,
) -> str:
    """One row per tagger and rejection for 'signal' or 'background'; empty where neither has such events."""
    header = ["Tagger", "rejection", "efficiency [%]", "spread [%]", "95 % limit", "chance [%]", "p (Holm)"]
    header += [f"times smaller than {reference}"] if ratios else []
    if titles:
        header += [f"spread that follows {' and '.join(titles.values())} [%]", "95 % limit", "p (Holm)"]
        header += [f"times smaller than {reference}"] if ratios else []
    header += [f"change for one deviation of {title} [%]" for title in titles.values()]
    rows: list[TableRow] = []
    for name, seeds in stability.items():
        for rejection in (one.rejection for one in seeds[0].efficiencies):
            points = [one.at_rejection(rejection) for one in seeds]
            found = [one for point in points if (one := point.for_class(class_name)) is not None]
            if not found:
                continue
            row = _spread_cells(name, rejection, found)
            row.insert(2, format_significant(100 * _mean([one.mean for one in found]), 3))
            named = f"{class_name} {rejection:g}"
            row.append(_format_p_values([one.p_holm[named] for one in seeds if named in one.p_holm]))
            if ratios:
                row.append(
                    _ratio_cell(ratios.get(name, ()), rejection, lambda one: one.for_class(class_name))
                )
            if titles:
                row += _regression_cells(
                    [point.condition_regression.get(class_name) for point in points],
                    seeds,
                    class_name,
                    rejection,
                )
            if titles and ratios:
                row.append(
                    _ratio_cell(
                        ratios.get(name, ()), rejection, lambda one: one.condition_regression.get(class_name)
                    )
                )
            for condition in titles:
                lines = [point.trends[condition].get(class_name) for point in points]
                row.append(format_over_seeds([one.change.scaled(100) for one in lines if one is not None]))
            rows.append([*row, _dependence_cell(seeds, class_name, rejection)])
    return html_table([*header, "<Verdict"], rows) if rows else ""


def spectra_table(
    stability: StabilityByTagger,
    ratios: RatiosByTagger,
    *,
    variable: str,
    unit: str,
    titles: Mapping[str, str],
    reference: str,
) -> str:
    """A row before any cut, then one per tagger and rejection: mean, width, thirds of each condition."""
    every = [one for seeds in stability.values() for found in seeds for one in found.spectra[variable]]
    factor, shown = _spectrum_unit(every, unit)
    header = ["Tagger", "rejection", f"spread of the mean{shown}", "95 % limit", f"chance{shown}", "p (Holm)"]
    header += [f"times smaller than {reference}"] if ratios else []
    header += [f"spread of the width{shown}", "95 % limit", "p (Holm)"]
    for title in titles.values():
        header += [f"JSD by {title} [nats]", "floor", "excess, 95 % limit", "p (Holm)"]
    rows: list[TableRow] = []
    for number, (name, seeds) in enumerate(stability.items()):
        for place, first in enumerate(seeds[0].spectra[variable]):
            if first.rejection == 0 and number > 0:
                continue  # the same for every tagger
            points = [one.spectra[variable][place] for one in seeds if place < len(one.spectra[variable])]
            label = "before the cut" if first.rejection == 0 else name
            rows.append(_spectrum_row(label, points, seeds, variable, factor, list(titles)))
            if ratios:
                about = ratios.get(name, ()) if first.rejection > 0 else ()
                rows[-1].insert(6, _ratio_cell(about, first.rejection, lambda one: one.means.get(variable)))
    return html_table(header, rows)


def code_table(regressions: RegressionsByTagger, *, titles: Mapping[str, tuple[str, str]]) -> str:
    """One row per tagger and condition: how well it is recovered and whether the stated error is right."""
    header = ["Tagger", "<Condition", "groups (map)", "correlation", "resolution", "truth", "bias"]
    header += ["calibration", "pull: mean", "width", "calibrated width"]
    header += ["within 1 σ [%]", "within 2 σ", "calibrated, 1 σ", "calibrated, 2 σ"]
    rows: list[TableRow] = []
    for name, conditions in regressions.items():
        for condition, seeds in conditions.items():
            title, unit = titles[condition]
            first = seeds[0]
            row: TableRow = [score_title(name), TableCell(f"{title} [{unit}]" if unit else title)]
            row.append(f"{first.groups:,} ({first.fit_groups:,})")
            row += [
                format_over_seeds([one.correlation for one in seeds]),
                format_over_seeds([one.resolution for one in seeds]),
            ]
            row += [format_significant(first.truth_spread, 3), format_over_seeds([one.bias for one in seeds])]
            row += [
                format_over_seeds([getattr(one, figure) for one in seeds])
                for figure in ("calibration", "pull_mean", "pull_width", "calibrated_pull_width")
            ]
            row += [
                format_over_seeds([one.coverage[level].scaled(100) for one in seeds])
                for level in first.coverage
            ]
            row += [
                format_over_seeds([one.calibrated_coverage[level].scaled(100) for one in seeds])
                for level in first.calibrated_coverage
            ]
            rows.append(row)
    return html_table(header, rows)


def code_size_table(regressions: RegressionsByTagger, *, titles: Mapping[str, tuple[str, str]]) -> str:
    """The same in slices of group size, of the first seed."""
    header = ["Tagger", "<Condition", "events", "groups", "resolution", "stated, calibrated", "pull width"]
    rows: list[TableRow] = [
        [
            score_title(name),
            TableCell(titles[condition][0]),
            f"{one.min_events:,}–{one.max_events:,}",
            f"{one.groups:,}",
            format_over_seeds([one.resolution]),
            format_significant(one.stated_error, 3),
            format_over_seeds([one.pull_width]),
        ]
        for name, conditions in regressions.items()
        for condition, seeds in conditions.items()
        for one in seeds[0].size_bins
    ]
    return html_table(header, rows)


def thinned_code_table(regressions: RegressionsByTagger, *, titles: Mapping[str, tuple[str, str]]) -> str:
    """The same of codes that are made of fewer events of each group."""
    header = ["Tagger", "<Condition", "events (median)", "groups", "correlation", "resolution", "truth"]
    header += ["pull width", "calibrated"]
    rows: list[TableRow] = [
        [
            score_title(name),
            TableCell(titles[condition][0]),
            f"{one.events:,.0f}",
            f"{one.groups:,}",
            format_over_seeds([one.correlation]),
            format_over_seeds([one.resolution]),
            format_significant(one.truth_spread, 3),
            format_over_seeds([one.pull_width]),
            format_over_seeds([one.calibrated_pull_width]),
        ]
        for name, conditions in regressions.items()
        for condition, many in conditions.items()
        for one in many
    ]
    return html_table(header, rows)


def format_ratio(ratios: Sequence[SpreadRatio]) -> str:
    """How many times smaller; a limit where a spread is not above chance in some draws."""
    if not ratios:
        return "–"
    if all(math.isfinite(one.ratio.high) for one in ratios):
        return format_over_seeds([one.ratio for one in ratios])
    least = min(one.lower_limit for one in ratios)
    # A bound below one says nothing: of the reference, too, no spread is resolved.
    return f"> {format_significant(least)}" if least >= 1 else "–"


def _spread_cells(
    name: str, rejection: float, spreads: Sequence[BetweenGroupSpread], factor: float = 100.0
) -> TableRow:
    return [
        score_title(name),
        f"{100 * rejection:g} %" if rejection > 0 else "–",
        format_over_seeds([one.spread.scaled(factor) for one in spreads]),
        format_significant(factor * max(one.upper_limit for one in spreads), 3),
        format_significant(factor * _mean([one.statistical_spread for one in spreads]), 3),
    ]


def _spectrum_row(
    label: str,
    points: Sequence[GroupSpectrum],
    stability: Sequence[GroupStability],
    variable: str,
    factor: float,
    conditions: Sequence[str],
) -> TableRow:
    rejection = points[0].rejection

    def adjusted(figure: str, plain: Sequence[float]) -> str:
        name = f"{variable} {figure} {rejection:g}"
        # Before the cuts there is no family: what the groups bring along is no figure of a tagger.
        known = [one.p_holm[name] for one in stability if name in one.p_holm]
        return _format_p_values(known or plain)

    means = [one.mean for one in points if one.mean is not None]
    widths = [one.width for one in points if one.width is not None]
    row: TableRow = [
        score_title(label),
        f"{100 * rejection:g} %" if rejection > 0 else "–",
        "–",
        "–",
        "–",
        "–",
    ]
    if means:
        row = [
            *_spread_cells(label, rejection, means, factor),
            adjusted("mean", [one.p_value for one in means]),
        ]
    row += (
        [
            *_spread_cells(label, rejection, widths, factor)[2:4],
            adjusted("width", [one.p_value for one in widths]),
        ]
        if widths
        else ["–"] * 3
    )
    for condition in conditions:
        found = [one for point in points if (one := point.tercile_divergence.get(condition)) is not None]
        row += (
            [
                format_over_seeds([one.jsd for one in found]),
                format_significant(_mean([one.floor for one in found])),
                format_significant(max(one.excess_upper for one in found)),
                adjusted(condition, [one.p_value for one in found]),
            ]
            if found
            else ["–"] * 4
        )
    return row


def _ratio_cell(
    ratios: Sequence[Sequence[StabilityRatios]],
    rejection: float,
    select_ratio: Callable[[StabilityRatios], SpreadRatio | None],
) -> str:
    points = [one for seed in ratios for one in seed if abs(one.rejection - rejection) < 1e-9]
    return format_ratio([found for one in points if (found := select_ratio(one)) is not None])


def _regression_cells(
    points: Sequence[ConditionRegression | None],
    stability: Sequence[GroupStability],
    class_name: str,
    rejection: float,
) -> TableRow:
    found = [one for one in points if one is not None]
    if not found:
        return ["–"] * 3
    named = f"{class_name} explained {rejection:g}"
    return [
        format_over_seeds([one.spread.scaled(100) for one in found]),
        format_significant(100 * max(one.upper_limit for one in found), 3),
        _format_p_values([one.p_holm[named] for one in stability if named in one.p_holm]),
    ]


def _dependence_cell(stability: Sequence[GroupStability], class_name: str, rejection: float) -> TableCell:
    """What is seen; where nothing is, the smaller of the limits is not that of the whole spread."""
    bad = sum(one.depends_on_group(class_name, rejection) for one in stability)
    if not bad:
        found = [
            spread
            for one in stability
            if (spread := one.at_rejection(rejection).for_class(class_name)) is not None
        ]
        limit = format_percent(max(one.upper_limit for one in found))
        return TableCell(f"no dependence resolved (spread below {limit})", "good")
    if len(stability) > 1:
        return TableCell(f"differs in {bad} of {len(stability)} seeds", "bad")
    follows = stability[0].is_significant(f"{class_name} explained {rejection:g}")
    return TableCell("follows the conditions" if follows else "differs between groups", "bad")


def _spectrum_unit(spectra: Sequence[GroupSpectrum], unit: str) -> tuple[float, str]:
    largest = max((abs(one.mean.spread.value) for one in spectra if one.mean is not None), default=0.0)
    factor = 1000.0 if unit == "GeV" and largest < MEV_THRESHOLD else 1.0
    shown = "MeV" if factor > 1 else unit
    return factor, f" [{shown}]" if shown else ""


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))


def _format_p_values(values: Sequence[float]) -> str:
    """One p-value, or the median with the range of several."""
    if not values:
        return "–"
    middle, least, most = (
        format_significant(float(v), 2) for v in (np.median(values), min(values), max(values))
    )
    return middle if len(values) == 1 else f"{middle} [{least}, {most}]"


MAX_OVERLAID = 8


def groups_section(
    groups: GroupReport | None, figures: FigureStore, axes: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    """All of it; nothing where events have no groups. axes: protected variable -> title and unit."""
    if groups is None:
        return []
    body = [page.heading(f"Between groups ({groups.group_label})", anchor="groups"), _size_paragraph(groups)]
    body += [page.warning(note) for note in groups.notes]
    if groups.stability:
        body += _efficiency_section(groups, figures)
        for variable in groups.events.protected:
            axis = axes.get(variable, {"nuisance": variable, "unit": ""})
            body += _spectra_section(groups, variable, figures, axis)
    if groups.regressions:
        body += _code_section(groups, figures)
    return body


def group_metrics(groups: GroupReport | None) -> dict[str, Any]:
    """What the section adds to metrics.json; nothing where there are no groups."""
    if groups is None:
        return {}
    found = {
        "of": groups.group_label,
        "sizes": groups.events.sizes,
        "reference": groups.reference,
        "taggers": groups.stability,
        "times_smaller": groups.ratios,
        "recovered": groups.regressions,
        "recovered_of_fewer_events": groups.thinned_regressions,
        "notes": groups.notes,
    }
    return {"groups": to_jsonable(found)}


def _size_paragraph(groups: GroupReport) -> str:
    found = groups.events.sizes
    told = (
        f"{found.num_groups:,} groups of {groups.group_label}, "
        f"of {found.min_events:,} to {found.max_events:,} events (median "
        f"{found.median_events:,.0f})."
    )
    for many, what in (
        (found.num_single_event, "of a single event"),
        (found.num_without_background, "without background"),
        (found.num_without_signal, "without signal"),
    ):
        told += f" {many:,} {what}." if many else ""
    return page.paragraph(told)


def _efficiency_section(groups: GroupReport, figures: FigureStore) -> list[str]:
    shown = _nearest_rejection(groups)
    body = [page.heading("Efficiency", level=3)]
    body += [page.paragraph(_describe_tagger(groups, name, shown)) for name in groups.stability]
    for kind in ("signal", "background"):
        about = {"class_name": kind, "reference": groups.reference}
        if table := efficiency_table(
            groups.stability, groups.ratios, titles=_condition_titles(groups), **about
        ):
            body += [page.paragraph(f"{kind.capitalize()}:"), table]
    body.append(page.paragraph(texts.GROUP_SPREAD_TEXT.format(of=groups.group_label), css_class="soft"))
    passing = _pass_masks(groups, shown, list(groups.logits)[:MAX_OVERLAID])
    for condition, values in groups.events.conditions.items():
        title, unit = groups.condition_title(condition)
        drawn = plots.plot_efficiency_against_condition(
            passing, groups.events, values, title=title, unit=unit
        )
        body.append(
            figures.add(
                drawn, "condition", condition, condition=mathtext_to_text(title), rejection=100 * shown
            )
        )
    for kind in ("signal", "background"):
        few = [
            name
            for name in groups.shown_taggers
            if groups.stability[name][0].at_rejection(shown).for_class(kind) is not None
        ]
        if not few:
            continue
        notes = {
            score_title(name): f"spread {format_spread(groups.stability[name], shown, kind)}" for name in few
        }
        rows = _pass_masks(groups, shown, few)
        drawn = plots.plot_efficiency_by_group(
            rows, groups.events, class_name=kind, notes=notes, group_label=groups.group_label
        )
        body.append(
            figures.add(
                drawn, "bygroup", kind, kind=kind.capitalize(), of=groups.group_label, rejection=100 * shown
            )
        )
    return body


def _describe_tagger(groups: GroupReport, tagger: str, rejection: float) -> str:
    """One tagger in plain words, of its first seed, at one rejection."""
    one, told, of = groups.stability[tagger][0], [], groups.group_label
    point = one.at_rejection(rejection)
    for kind in ("signal", "background"):
        if (found := point.for_class(kind)) is None:
            continue
        what = f"{kind} efficiency" + (f" of {format_percent(found.mean)}" if kind == "signal" else "")
        follows = one.is_significant(f"{kind} explained {rejection:g}")
        if one.is_significant(f"{kind} {rejection:g}"):
            size = page.format_over_seeds([found.spread.scaled(100)])
            text = f"{what} differs from {of} to {of} by {size} % beyond chance"
        else:
            text = f"no difference of {what} between all groups is resolved"
            text += f": below {format_percent(found.upper_limit)} (95 %)"
        text += _describe_ratio(groups, tagger, rejection, kind)
        if follows and (known := point.condition_regression[kind]) is not None:
            size = page.format_over_seeds([known.spread.scaled(100)])
            text += f"; with the known conditions it changes by {size} %"
            text += _describe_ratio(groups, tagger, rejection, kind, use_regression=True)
        told.append(text)
    seeds = f" (first of {len(groups.stability[tagger])} seeds)" if len(groups.stability[tagger]) > 1 else ""
    head = f"{score_title(tagger)}{seeds}, at {100 * rejection:g} % background rejection"
    return f"{head}: {'. And '.join(told) or 'too few events'}."


def _describe_ratio(
    groups: GroupReport, tagger: str, rejection: float, class_name: str, *, use_regression: bool = False
) -> str:
    seeds = groups.ratios.get(tagger, ())
    points = [one for one in seeds[0] if abs(one.rejection - rejection) < 1e-9] if seeds else []
    ratio = (
        (
            points[0].condition_regression.get(class_name)
            if use_regression
            else points[0].for_class(class_name)
        )
        if points
        else None
    )
    if ratio is None or ratio.lower_limit < 1:
        return ""
    least = f"at least {format_significant(ratio.lower_limit)} times"
    if not math.isfinite(ratio.ratio.high):
        return f", {least} less than with {groups.reference} (95 %)"
    return f", {format_ratio([ratio])} times less than with {groups.reference} ({least}, 95 %)"


def _spectra_section(
    groups: GroupReport, variable: str, figures: FigureStore, axis: Mapping[str, Any]
) -> list[str]:
    body = [
        page.heading(f"What passes: {variable} of the background", level=3),
        spectra_table(
            groups.stability,
            groups.ratios,
            variable=variable,
            unit=axis["unit"],
            titles=_condition_titles(groups),
            reference=groups.reference,
        ),
        page.paragraph(texts.GROUP_SPECTRA_TEXT.format(variable=variable), css_class="soft"),
    ]
    shown = _nearest_rejection(groups)
    few = _pass_masks(groups, shown, groups.shown_taggers)
    for condition, values in groups.events.conditions.items():
        notes = {
            "before the cut": _divergence_note(groups, next(iter(groups.stability)), variable, 0.0, condition)
        }
        notes |= {
            score_title(name): _divergence_note(groups, name, variable, shown, condition)
            for name in groups.shown_taggers
        }
        title = groups.condition_title(condition)[0]
        drawn = plots.plot_spectra_in_terciles(
            few,
            groups.events,
            values,
            variable=variable,
            notes=notes,
            title=title,
            **axis,
        )
        about = {"condition": mathtext_to_text(title), "rejection": 100 * shown, "nuisance": variable}
        body.append(figures.add(drawn, "thirds", f"{variable}_{condition}", **about))
    return body


def _divergence_note(
    groups: GroupReport, tagger: str, variable: str, rejection: float, condition: str
) -> str:
    points = groups.stability[tagger][0].spectra.get(variable, ())
    found = next(
        (one.tercile_divergence.get(condition) for one in points if abs(one.rejection - rejection) < 1e-9),
        None,
    )
    if found is None:
        return ""
    p = groups.stability[tagger][0].p_holm.get(f"{variable} {condition} {rejection:g}", found.p_value)
    if p > 0.05:
        return f"no difference resolved\nexcess < {format_significant(found.excess_upper)} nats"
    return f"JSD {format_significant(found.jsd.value)} nats\n= {format_significant(found.floor_ratio)} floors"


def _code_section(groups: GroupReport, figures: FigureStore) -> list[str]:
    titles = {name: groups.condition_title(name) for many in groups.regressions.values() for name in many}
    named = {name: (mathtext_to_text(title), unit) for name, (title, unit) in titles.items()}
    body = [
        page.heading("Codes and true conditions", level=3),
        code_table(groups.regressions, titles=named),
        page.paragraph(texts.GROUP_CODES_TEXT.format(of=groups.group_label), css_class="soft"),
    ]
    if groups.thinned_regressions:
        body.append(page.paragraph(texts.THINNED_CODES_TEXT.format(of=groups.group_label)))
        body.append(thinned_code_table(groups.thinned_regressions, titles=named))
        drawn = plots.plot_resolution_by_events(
            {score_title(name): one for name, one in groups.thinned_regressions.items()}, titles=titles
        )
        body.append(figures.add(drawn, "resolution", of=groups.group_label))
    sizes = code_size_table(groups.regressions, titles=named)
    body.append(page.details(f"By number of events of the {groups.group_label}", sizes))
    for condition, (title, unit) in titles.items():
        own = {name: one[condition] for name, one in groups.predictions.items() if condition in one}
        chosen = [name for name in groups.shown_taggers if name in own] or list(own)[:MAX_TAGGERS_SHOWN]
        if not chosen:
            continue
        notes = {
            score_title(
                name
            ): f"correlation {page.format_over_seeds([groups.regressions[name][condition][0].correlation])}"
            for name in chosen
        }
        drawn = plots.plot_predicted_condition(
            {score_title(name): own[name] for name in chosen}, notes=notes, title=title, unit=unit
        )
        body.append(
            figures.add(
                drawn, "recovered", condition, condition=mathtext_to_text(title), of=groups.group_label
            )
        )
    return body


def _condition_titles(groups: GroupReport) -> dict[str, str]:
    """Of every condition, as tables have it."""
    return {name: mathtext_to_text(groups.condition_title(name)[0]) for name in groups.events.conditions}


def _nearest_rejection(groups: GroupReport) -> float:
    known = [one.rejection for one in next(iter(groups.stability.values()))[0].efficiencies]
    return min(known, key=lambda one: abs(one - groups.rejection))


def _pass_masks(groups: GroupReport, rejection: float, taggers: Sequence[str]) -> dict[str, Any]:
    """Title of each tagger -> (events,) whether its first seed lets each pass; none where there is no cut."""
    cuts = {
        name: groups.stability[name][0].at_rejection(rejection).threshold
        for name in taggers
        if name in groups.logits
    }
    return {score_title(name): groups.logits[name] > cut for name, cut in cuts.items() if math.isfinite(cut)}
