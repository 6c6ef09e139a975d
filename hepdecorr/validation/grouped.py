"""Section of a report on what changes from group to group, such as from run to run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from hepdecorr.validation import group_captions, page, plots
from hepdecorr.validation.content import Figures
from hepdecorr.validation.group_content import ROWS, BetweenGroups
from hepdecorr.validation.group_tables import (
    codes,
    codes_by_size,
    codes_of_fewer,
    efficiencies,
    percent,
    spectra,
    spread,
    times,
)
from hepdecorr.validation.measures import plain, significant
from hepdecorr.validation.titles import titled, words

OVERLAID = 8


def section(
    groups: BetweenGroups | None, figures: Figures, axes: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    """All of it; nothing where events have no groups. axes: protected variable -> title and unit."""
    if groups is None:
        return []
    body = [page.heading(f"Between groups ({groups.named})", anchor="groups"), _sizes(groups)]
    body += [page.warning(note) for note in groups.notes]
    if groups.measured:
        body += _efficiency(groups, figures)
        for variable in groups.events.protected:
            axis = axes.get(variable, {"nuisance": variable, "unit": ""})
            body += _spectra(groups, variable, figures, axis)
    if groups.recovered:
        body += _recovered(groups, figures)
    return body


def metrics(groups: BetweenGroups | None) -> dict[str, Any]:
    """What the section adds to metrics.json; nothing where there are no groups."""
    if groups is None:
        return {}
    found = {
        "of": groups.named,
        "sizes": groups.events.sizes,
        "reference": groups.reference,
        "taggers": groups.measured,
        "times_smaller": groups.ratios,
        "recovered": groups.recovered,
        "recovered_of_fewer_events": groups.thinned,
        "notes": groups.notes,
    }
    return {"groups": plain(found)}


def _sizes(groups: BetweenGroups) -> str:
    found = groups.events.sizes
    told = (
        f"{found.groups:,} groups of {groups.named}, of {found.least:,} to {found.most:,} events (median "
        f"{found.median:,.0f})."
    )
    for many, what in (
        (found.alone, "of a single event"),
        (found.without_background, "without background"),
        (found.without_signal, "without signal"),
    ):
        told += f" {many:,} {what}." if many else ""
    return page.paragraph(told)


def _efficiency(groups: BetweenGroups, figures: Figures) -> list[str]:
    shown = _rejection(groups)
    body = [page.heading("Efficiency", level=3)]
    body += [page.paragraph(_said(groups, name, shown)) for name in groups.measured]
    for kind in ("signal", "background"):
        about = {"kind": kind, "reference": groups.reference}
        if table := efficiencies(groups.measured, groups.ratios, titles=_titles(groups), **about):
            body += [page.paragraph(f"{kind.capitalize()}:"), table]
    body.append(page.paragraph(group_captions.SPREAD.format(of=groups.named), kind="soft"))
    passing = _passing(groups, shown, list(groups.logits)[:OVERLAID])
    for condition, values in groups.events.conditions.items():
        title, unit = groups.title(condition)
        drawn = plots.efficiency_against_condition(passing, groups.events, values, title=title, unit=unit)
        body.append(figures.add(drawn, "condition", condition, condition=words(title), rejection=100 * shown))
    for kind in ("signal", "background"):
        few = [name for name in groups.few if groups.measured[name][0].at(shown).of(kind) is not None]
        if not few:
            continue
        notes = {titled(name): f"spread {spread(groups.measured[name], shown, kind)}" for name in few}
        rows = _passing(groups, shown, few)
        drawn = plots.efficiency_by_group(rows, groups.events, kind=kind, notes=notes, of=groups.named)
        body.append(
            figures.add(
                drawn, "bygroup", kind, kind=kind.capitalize(), of=groups.named, rejection=100 * shown
            )
        )
    return body


def _said(groups: BetweenGroups, name: str, rejection: float) -> str:
    """One tagger in plain words, of its first seed, at one rejection."""
    one, told, of = groups.measured[name][0], [], groups.named
    point = one.at(rejection)
    for kind in ("signal", "background"):
        if (found := point.of(kind)) is None:
            continue
        what = f"{kind} efficiency" + (f" of {percent(found.mean)}" if kind == "signal" else "")
        follows = one.resolved(f"{kind} explained {rejection:g}")
        if one.resolved(f"{kind} {rejection:g}"):
            size = page.across([found.spread.scaled(100)])
            text = f"{what} differs from {of} to {of} by {size} % beyond chance"
        else:
            text = f"no difference of {what} between all groups is resolved"
            text += f": below {percent(found.upper)} (95 %)"
        text += _beside_reference(groups, name, rejection, kind)
        if follows and (known := point.explained[kind]) is not None:
            size = page.across([known.spread.scaled(100)])
            text += f"; with the known conditions it changes by {size} %"
            text += _beside_reference(groups, name, rejection, kind, explained=True)
        told.append(text)
    seeds = f" (first of {len(groups.measured[name])} seeds)" if len(groups.measured[name]) > 1 else ""
    head = f"{titled(name)}{seeds}, at {100 * rejection:g} % background rejection"
    return f"{head}: {'. And '.join(told) or 'too few events'}."


def _beside_reference(
    groups: BetweenGroups, name: str, rejection: float, kind: str, *, explained: bool = False
) -> str:
    seeds = groups.ratios.get(name, ())
    points = [one for one in seeds[0] if abs(one.rejection - rejection) < 1e-9] if seeds else []
    ratio = (points[0].explained.get(kind) if explained else points[0].of(kind)) if points else None
    if ratio is None or ratio.least < 1:
        return ""
    least = f"at least {significant(ratio.least)} times"
    if not math.isfinite(ratio.times.high):
        return f", {least} less than with {groups.reference} (95 %)"
    return f", {times([ratio])} times less than with {groups.reference} ({least}, 95 %)"


def _spectra(groups: BetweenGroups, variable: str, figures: Figures, axis: Mapping[str, Any]) -> list[str]:
    body = [
        page.heading(f"What passes: {variable} of the background", level=3),
        spectra(
            groups.measured,
            groups.ratios,
            variable=variable,
            unit=axis["unit"],
            titles=_titles(groups),
            reference=groups.reference,
        ),
        page.paragraph(group_captions.SPECTRA.format(variable=variable), kind="soft"),
    ]
    shown = _rejection(groups)
    few = _passing(groups, shown, groups.few)
    for condition, values in groups.events.conditions.items():
        notes = {"before the cut": _divergence(groups, next(iter(groups.measured)), variable, 0.0, condition)}
        notes |= {titled(name): _divergence(groups, name, variable, shown, condition) for name in groups.few}
        title = groups.title(condition)[0]
        drawn = plots.spectra_in_slices(
            few,
            groups.events,
            values,
            variable=variable,
            notes=notes,
            title=title,
            **axis,
        )
        about = {"condition": words(title), "rejection": 100 * shown, "nuisance": variable}
        body.append(figures.add(drawn, "thirds", f"{variable}_{condition}", **about))
    return body


def _divergence(groups: BetweenGroups, name: str, variable: str, rejection: float, condition: str) -> str:
    points = groups.measured[name][0].spectra.get(variable, ())
    found = next((one.slices.get(condition) for one in points if abs(one.rejection - rejection) < 1e-9), None)
    if found is None:
        return ""
    p = groups.measured[name][0].p_holm.get(f"{variable} {condition} {rejection:g}", found.p_value)
    if p > 0.05:
        return f"no difference resolved\nexcess < {significant(found.excess_upper)} nats"
    return f"JSD {significant(found.jsd.value)} nats\n= {significant(found.in_floors)} floors"


def _recovered(groups: BetweenGroups, figures: Figures) -> list[str]:
    titles = {name: groups.title(name) for many in groups.recovered.values() for name in many}
    named = {name: (words(title), unit) for name, (title, unit) in titles.items()}
    body = [
        page.heading("Codes and true conditions", level=3),
        codes(groups.recovered, titles=named),
        page.paragraph(group_captions.CODES.format(of=groups.named), kind="soft"),
    ]
    if groups.thinned:
        body.append(page.paragraph(group_captions.THINNED.format(of=groups.named)))
        body.append(codes_of_fewer(groups.thinned, titles=named))
        drawn = plots.resolution_by_events(
            {titled(name): one for name, one in groups.thinned.items()}, titles=titles
        )
        body.append(figures.add(drawn, "resolution", of=groups.named))
    sizes = codes_by_size(groups.recovered, titles=named)
    body.append(page.folded_markup(f"By number of events of the {groups.named}", sizes))
    for condition, (title, unit) in titles.items():
        own = {name: one[condition] for name, one in groups.mapped.items() if condition in one}
        chosen = [name for name in groups.few if name in own] or list(own)[:ROWS]
        if not chosen:
            continue
        notes = {
            titled(name): f"correlation {page.across([groups.recovered[name][condition][0].correlation])}"
            for name in chosen
        }
        drawn = plots.recovered_condition(
            {titled(name): own[name] for name in chosen}, notes=notes, title=title, unit=unit
        )
        body.append(figures.add(drawn, "recovered", condition, condition=words(title), of=groups.named))
    return body


def _titles(groups: BetweenGroups) -> dict[str, str]:
    """Of every condition, as tables have it."""
    return {name: words(groups.title(name)[0]) for name in groups.events.conditions}


def _rejection(groups: BetweenGroups) -> float:
    known = [one.rejection for one in next(iter(groups.measured.values()))[0].efficiencies]
    return min(known, key=lambda one: abs(one - groups.rejection))


def _passing(groups: BetweenGroups, rejection: float, names: Sequence[str]) -> dict[str, Any]:
    """Title of each tagger -> (events,) whether its first seed lets each pass; none where there is no cut."""
    cuts = {name: groups.measured[name][0].at(rejection).threshold for name in names if name in groups.logits}
    return {titled(name): groups.logits[name] > cut for name, cut in cuts.items() if math.isfinite(cut)}
