"""Tables between groups: measures in, markup out."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from hepdecorr.validation.measures import Between, ByGroup, Recovered, Smaller, Steadier, significant
from hepdecorr.validation.measures.by_group import Spectrum
from hepdecorr.validation.measures.explained import Explained
from hepdecorr.validation.page import Cell, across, table
from hepdecorr.validation.titles import titled

Measures = Mapping[str, Sequence[ByGroup]]
Ratios = Mapping[str, Sequence[Sequence[Steadier]]]
Codes = Mapping[str, Mapping[str, Sequence[Recovered]]]
Row = list[str | Cell]

SMALL = 0.05  # GeV, below which a spread is told in MeV


def percent(value: float) -> str:
    """A share in per cent."""
    return f"{significant(100 * value, 3)} %"


def spread(seeds: Sequence[ByGroup], rejection: float, kind: str) -> str:
    """Of an efficiency, in per cent; its limit where nothing is resolved."""
    found = [one.at(rejection).of(kind) for one in seeds]
    known = [one for one in found if one is not None]
    if not known:
        return "not measured"
    if not any(one.differs(kind, rejection) for one in seeds):
        return f"< {percent(max(one.upper for one in known))} (95 %)"
    return f"{across([one.spread.scaled(100) for one in known])} %"


def efficiencies(
    measured: Measures, ratios: Ratios, *, kind: str, titles: Mapping[str, str], reference: str
) -> str:
    """One row per tagger and rejection for 'signal' or 'background'; empty where neither has such events."""
    header = ["Tagger", "rejection", "efficiency [%]", "spread [%]", "95 % limit", "chance [%]", "p (Holm)"]
    header += [f"times smaller than {reference}"] if ratios else []
    if titles:
        header += [f"spread that follows {' and '.join(titles.values())} [%]", "95 % limit", "p (Holm)"]
        header += [f"times smaller than {reference}"] if ratios else []
    header += [f"change for one deviation of {title} [%]" for title in titles.values()]
    rows: list[Row] = []
    for name, seeds in measured.items():
        for rejection in (one.rejection for one in seeds[0].efficiencies):
            points = [one.at(rejection) for one in seeds]
            found = [one for point in points if (one := point.of(kind)) is not None]
            if not found:
                continue
            row = _between(name, rejection, found)
            row.insert(2, significant(100 * _mean([one.mean for one in found]), 3))
            named = f"{kind} {rejection:g}"
            row.append(_p([one.p_holm[named] for one in seeds if named in one.p_holm]))
            if ratios:
                row.append(_ratio(ratios.get(name, ()), rejection, lambda one: one.of(kind)))
            if titles:
                row += _explained([point.explained.get(kind) for point in points], seeds, kind, rejection)
            if titles and ratios:
                row.append(_ratio(ratios.get(name, ()), rejection, lambda one: one.explained.get(kind)))
            for condition in titles:
                lines = [point.trends[condition].get(kind) for point in points]
                row.append(across([one.change.scaled(100) for one in lines if one is not None]))
            rows.append([*row, _verdict(seeds, kind, rejection)])
    return table([*header, "<Verdict"], rows) if rows else ""


def spectra(
    measured: Measures,
    ratios: Ratios,
    *,
    variable: str,
    unit: str,
    titles: Mapping[str, str],
    reference: str,
) -> str:
    """A row before any cut, then one per tagger and rejection: mean, width, thirds of each condition."""
    every = [one for seeds in measured.values() for found in seeds for one in found.spectra[variable]]
    factor, shown = _unit(every, unit)
    header = ["Tagger", "rejection", f"spread of the mean{shown}", "95 % limit", f"chance{shown}", "p (Holm)"]
    header += [f"times smaller than {reference}"] if ratios else []
    header += [f"spread of the width{shown}", "95 % limit", "p (Holm)"]
    for title in titles.values():
        header += [f"JSD by {title} [nats]", "floor", "excess, 95 % limit", "p (Holm)"]
    rows: list[Row] = []
    for number, (name, seeds) in enumerate(measured.items()):
        for place, first in enumerate(seeds[0].spectra[variable]):
            if first.rejection == 0 and number > 0:
                continue  # the same for every tagger
            points = [one.spectra[variable][place] for one in seeds if place < len(one.spectra[variable])]
            label = "before the cut" if first.rejection == 0 else name
            rows.append(_spectrum(label, points, seeds, variable, factor, list(titles)))
            if ratios:
                about = ratios.get(name, ()) if first.rejection > 0 else ()
                rows[-1].insert(6, _ratio(about, first.rejection, lambda one: one.means.get(variable)))
    return table(header, rows)


def codes(found: Codes, *, titles: Mapping[str, tuple[str, str]]) -> str:
    """One row per tagger and condition: how well it is recovered and whether the stated error is right."""
    header = ["Tagger", "<Condition", "groups (map)", "correlation", "resolution", "truth", "bias"]
    header += ["calibration", "pull: mean", "width", "calibrated width"]
    header += ["within 1 σ [%]", "within 2 σ", "calibrated, 1 σ", "calibrated, 2 σ"]
    rows: list[Row] = []
    for name, conditions in found.items():
        for condition, seeds in conditions.items():
            title, unit = titles[condition]
            first = seeds[0]
            row: Row = [titled(name), Cell(f"{title} [{unit}]" if unit else title)]
            row.append(f"{first.groups:,} ({first.fitted_on:,})")
            row += [across([one.correlation for one in seeds]), across([one.resolution for one in seeds])]
            row += [significant(first.truth_spread, 3), across([one.bias for one in seeds])]
            row += [
                across([getattr(one, figure) for one in seeds])
                for figure in ("calibration", "pull_mean", "pull_width", "calibrated_width")
            ]
            row += [across([one.coverage[level].scaled(100) for one in seeds]) for level in first.coverage]
            row += [
                across([one.calibrated_coverage[level].scaled(100) for one in seeds])
                for level in first.calibrated_coverage
            ]
            rows.append(row)
    return table(header, rows)


def codes_by_size(found: Codes, *, titles: Mapping[str, tuple[str, str]]) -> str:
    """The same in slices of group size, of the first seed."""
    header = ["Tagger", "<Condition", "events", "groups", "resolution", "stated, calibrated", "pull width"]
    rows: list[Row] = [
        [
            titled(name),
            Cell(titles[condition][0]),
            f"{one.low:,}–{one.high:,}",
            f"{one.groups:,}",
            across([one.resolution]),
            significant(one.stated, 3),
            across([one.pull_width]),
        ]
        for name, conditions in found.items()
        for condition, seeds in conditions.items()
        for one in seeds[0].by_size
    ]
    return table(header, rows)


def codes_of_fewer(found: Codes, *, titles: Mapping[str, tuple[str, str]]) -> str:
    """The same of codes that are made of fewer events of each group."""
    header = ["Tagger", "<Condition", "events (median)", "groups", "correlation", "resolution", "truth"]
    header += ["pull width", "calibrated"]
    rows: list[Row] = [
        [
            titled(name),
            Cell(titles[condition][0]),
            f"{one.events:,.0f}",
            f"{one.groups:,}",
            across([one.correlation]),
            across([one.resolution]),
            significant(one.truth_spread, 3),
            across([one.pull_width]),
            across([one.calibrated_width]),
        ]
        for name, conditions in found.items()
        for condition, many in conditions.items()
        for one in many
    ]
    return table(header, rows)


def times(ratios: Sequence[Smaller]) -> str:
    """How many times smaller; a limit where a spread is not above chance in some draws."""
    if not ratios:
        return "–"
    if all(math.isfinite(one.times.high) for one in ratios):
        return across([one.times for one in ratios])
    least = min(one.least for one in ratios)
    # A bound below one says nothing: of the reference, too, no spread is resolved.
    return f"> {significant(least)}" if least >= 1 else "–"


def _between(name: str, rejection: float, found: Sequence[Between], factor: float = 100.0) -> Row:
    return [
        titled(name),
        f"{100 * rejection:g} %" if rejection > 0 else "–",
        across([one.spread.scaled(factor) for one in found]),
        significant(factor * max(one.upper for one in found), 3),
        significant(factor * _mean([one.chance for one in found]), 3),
    ]


def _spectrum(
    label: str,
    points: Sequence[Spectrum],
    seeds: Sequence[ByGroup],
    variable: str,
    factor: float,
    conditions: Sequence[str],
) -> Row:
    rejection = points[0].rejection

    def adjusted(figure: str, plain: Sequence[float]) -> str:
        name = f"{variable} {figure} {rejection:g}"
        # Before the cuts there is no family: what the groups bring along is no figure of a tagger.
        known = [one.p_holm[name] for one in seeds if name in one.p_holm]
        return _p(known or plain)

    means = [one.mean for one in points if one.mean is not None]
    widths = [one.width for one in points if one.width is not None]
    row: Row = [titled(label), f"{100 * rejection:g} %" if rejection > 0 else "–", "–", "–", "–", "–"]
    if means:
        row = [*_between(label, rejection, means, factor), adjusted("mean", [one.p_value for one in means])]
    row += (
        [*_between(label, rejection, widths, factor)[2:4], adjusted("width", [one.p_value for one in widths])]
        if widths
        else ["–"] * 3
    )
    for condition in conditions:
        found = [one for point in points if (one := point.slices.get(condition)) is not None]
        row += (
            [
                across([one.jsd for one in found]),
                significant(_mean([one.floor for one in found])),
                significant(max(one.excess_upper for one in found)),
                adjusted(condition, [one.p_value for one in found]),
            ]
            if found
            else ["–"] * 4
        )
    return row


def _ratio(
    seeds: Sequence[Sequence[Steadier]], rejection: float, figure: Callable[[Steadier], Smaller | None]
) -> str:
    points = [one for seed in seeds for one in seed if abs(one.rejection - rejection) < 1e-9]
    return times([found for one in points if (found := figure(one)) is not None])


def _explained(
    points: Sequence[Explained | None], seeds: Sequence[ByGroup], kind: str, rejection: float
) -> Row:
    found = [one for one in points if one is not None]
    if not found:
        return ["–"] * 3
    named = f"{kind} explained {rejection:g}"
    return [
        across([one.spread.scaled(100) for one in found]),
        significant(100 * max(one.upper for one in found), 3),
        _p([one.p_holm[named] for one in seeds if named in one.p_holm]),
    ]


def _verdict(seeds: Sequence[ByGroup], kind: str, rejection: float) -> Cell:
    """What is seen; where nothing is, the smaller of the limits is not that of the whole spread."""
    bad = sum(one.differs(kind, rejection) for one in seeds)
    if not bad:
        found = [spread for one in seeds if (spread := one.at(rejection).of(kind)) is not None]
        limit = percent(max(one.upper for one in found))
        return Cell(f"no dependence resolved (spread below {limit})", "good")
    if len(seeds) > 1:
        return Cell(f"differs in {bad} of {len(seeds)} seeds", "bad")
    follows = seeds[0].resolved(f"{kind} explained {rejection:g}")
    return Cell("follows the conditions" if follows else "differs between groups", "bad")


def _unit(every: Sequence[Spectrum], unit: str) -> tuple[float, str]:
    largest = max((abs(one.mean.spread.value) for one in every if one.mean is not None), default=0.0)
    factor = 1000.0 if unit == "GeV" and largest < SMALL else 1.0
    shown = "MeV" if factor > 1 else unit
    return factor, f" [{shown}]" if shown else ""


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))


def _p(values: Sequence[float]) -> str:
    """One p-value, or the median with the range of several."""
    if not values:
        return "–"
    middle, least, most = (significant(float(v), 2) for v in (np.median(values), min(values), max(values)))
    return middle if len(values) == 1 else f"{middle} [{least}, {most}]"
