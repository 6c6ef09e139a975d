"""What changes from group to group: efficiencies against a condition and by group, spectra in slices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter
from scipy import stats

from hepdecorr.errors import InputError
from hepdecorr.validation.measures.between import Moments
from hepdecorr.validation.measures.by_group import CLASSES, PARTS, slices_of
from hepdecorr.validation.measures.grouped import Grouped
from hepdecorr.validation.measures.numbers import Array
from hepdecorr.validation.measures.recovered import Mapped, Recovered
from hepdecorr.validation.plots.spectra import Spectrum, draw_ratio
from hepdecorr.validation.plots.style import (
    BEFORE,
    MARKERS,
    axis_label,
    figure,
    grid,
    legend_above,
    look,
    marker,
    steps,
    styled,
)

BINS = 10  # of groups along a condition
CLIPPED = 5.0  # deviations that a panel of pulls shows
PARTS_TITLES = ("lowest third", "middle third", "highest third")
Mask = npt.NDArray[np.bool_]


@styled
def efficiency_against_condition(
    passing: Mapping[str, Mask],
    events: Grouped,
    condition: Array,
    *,
    title: str = "",
    unit: str = "",
) -> Figure:
    """Efficiency of signal (above) and background against a condition of the groups, taggers overlaid.

    passing: tagger -> (events,) whether each passes; condition: (groups,). Points: bins with equal numbers of
    groups. Bars: what the groups of a bin leave of it, their spread included; without the spread they would
    be those of counting alone. Dashed: the efficiency of all groups together.
    """
    kinds = [kind for kind in ("signal", "background") if np.any(events.label == CLASSES[kind])]
    drawn = figure(5.6, 2.7 * len(kinds) + 0.7)
    axes = drawn.subplots(len(kinds), 1, squeeze=False, sharex=True)[:, 0]
    for ax, kind in zip(axes, kinds, strict=True):
        own = events.label == CLASSES[kind]
        for number, (name, passed) in enumerate(passing.items()):
            found = Moments.of(
                passed[own].astype(np.float64), events.place[own], events.weights(own), groups=events.groups
            )
            _binned(ax, found, condition, number, of=len(passing), label=name)
        ax.set_ylabel(f"{kind.capitalize()} efficiency")
        low, high = ax.get_ylim()
        ax.set_ylim(max(low - 0.1 * (high - low), 0), high + 0.1 * (high - low))
    axes[-1].set_xlabel(axis_label(title, unit))
    legend_above(drawn, axes[0])
    return drawn


def _binned(ax: Axes, found: Moments, condition: Array, number: int, *, of: int, label: str) -> None:
    filled = found.size > 0
    order = np.flatnonzero(filled)[np.argsort(condition[filled], kind="stable")]
    style: dict[str, Any] = {**marker(number), "linestyle": "none"}
    parts = [part for part in np.array_split(order, min(BINS, len(order))) if len(part)]
    reach = np.ptp(condition[filled]) / BINS
    x, y, errors = [], [], []
    for part in parts:
        n, m = found.size[part], found.mean[part]
        mean = float(np.average(m, weights=n))
        # Of a weighted mean of groups: from their scatter, at least from chance.
        scatter = np.sum(np.square(n * (m - mean))) / n.sum() ** 2 * len(part) / max(len(part) - 1, 1)
        x.append(float(np.average(condition[part], weights=n)))
        y.append(mean)
        errors.append(float(np.sqrt(max(scatter, found.pooled / n.sum()))))
    shift = (number - (of - 1) / 2) * 0.12 * reach
    ax.errorbar(np.array(x) + shift, np.array(y), yerr=np.array(errors), label=label, linewidth=0.9, **style)
    ax.axhline(
        float(np.average(found.mean, weights=found.size)),
        linewidth=0.8,
        zorder=-1,
        **look(number),
    )


@styled
def efficiency_by_group(
    passing: Mapping[str, Mask],
    events: Grouped,
    *,
    kind: str,
    notes: Mapping[str, str] | None = None,
    of: str = "group",
) -> Figure:
    """Efficiency of 'signal' or 'background' in every group, in their order, one row per tagger.

    passing: tagger -> (events,); notes: tagger -> a line about it. Bands: what counting alone leaves within
    one and two deviations about the efficiency of all. Right: the deviations in units of that error, with
    the unit normal that they follow where groups differ by chance alone.
    """
    own = events.label == CLASSES[kind]
    if not own.any():
        raise InputError(f"efficiency by {of}: no {kind} events")
    drawn = figure(7.6, 2.0 * len(passing) + 0.6)
    axes = drawn.subplots(len(passing), 2, squeeze=False, sharex="col", sharey="col", width_ratios=(3.4, 1))
    for number, ((name, passed), (left, right)) in enumerate(zip(passing.items(), axes, strict=True)):
        found = Moments.of(
            passed[own].astype(np.float64), events.place[own], events.weights(own), groups=events.groups
        )
        filled = np.flatnonzero(found.size > 0)
        mean, error = float(np.average(found.mean, weights=found.size)), found.error[filled]
        place = np.arange(len(filled), dtype=np.float64)
        edges = np.arange(len(filled) + 1) - 0.5
        for many, shade in ((2, "0.9"), (1, "0.8")):
            ends = [np.append(mean + sign * many * error, mean) for sign in (-1, 1)]
            left.fill_between(edges, *ends, step="post", color=shade, linewidth=0)
        # Many groups are a cloud: smaller points, drawn as pixels.
        size = float(np.clip(60 / np.sqrt(len(filled)), 1.2, 4))
        style = {**marker(number), "linestyle": "none", "markersize": size, "markeredgewidth": 0}
        left.plot(place, found.mean[filled], rasterized=len(filled) > 500, **style)
        left.axhline(mean, color="0.3", linewidth=0.8)
        left.set_xlim(-0.5, len(filled) - 0.5)
        left.set_title(name, loc="left")
        if notes and name in notes:
            left.set_title(notes[name], loc="right", fontsize=8)
        _pulls(right, (found.mean[filled] - mean) / error, number)
    axes[len(passing) // 2, 0].set_ylabel(f"{kind.capitalize()} efficiency")
    axes[-1, 0].set_xlabel(f"Place of the {of} in their order")
    axes[-1, 1].set_xlabel("Pull")
    return drawn


def _pulls(ax: Axes, pulls: Array, number: int) -> None:
    edges = np.linspace(-CLIPPED, CLIPPED, 21)
    counts, _ = np.histogram(np.clip(pulls, -CLIPPED + 1e-9, CLIPPED - 1e-9), bins=edges)
    steps(ax, edges, counts, **look(number))
    x = np.linspace(-CLIPPED, CLIPPED, 101)
    ax.plot(x, stats.norm.pdf(x) * len(pulls) * (edges[1] - edges[0]), color="0.4", linewidth=0.9)
    ax.set_xlim(-CLIPPED, CLIPPED)
    ax.set_ylim(bottom=0)
    ax.tick_params(labelleft=False)


@styled
def spectra_in_slices(
    passing: Mapping[str, Mask],
    events: Grouped,
    condition: Array,
    *,
    variable: str,
    notes: Mapping[str, str] | None = None,
    title: str = "",
    nuisance: str = "",
    unit: str = "",
) -> Figure:
    """Background's spectra in thirds of a condition: before the cuts, and what each tagger lets pass.

    passing: tagger -> (events,); condition: (groups,); variable: one of events.protected; notes: column ->
    what was measured. All normalised to one. Below: the lowest and the highest third over the middle one.
    """
    spectrum = events.protected[variable]
    z = np.asarray(spectrum.values, dtype=np.float64)
    background = events.label == 0
    columns = {"before the cut": background} | {name: background & one for name, one in passing.items()}
    drawn = figure(2.9 * len(columns) + 0.5, 4.6)
    axes = drawn.subplots(2, len(columns), squeeze=False, sharex=True, sharey="row", height_ratios=(2.2, 1))
    fewest = min(int(np.count_nonzero(one)) for one in columns.values())
    bins = _bins(fewest, spectrum.bins)  # the same for all, so that heights compare
    edges = np.linspace(*spectrum.range, bins + 1)
    place = slices_of(condition, events)
    reaches = []
    for (name, chosen), (upper, lower) in zip(columns.items(), axes.T, strict=True):
        parts = [_spectrum(z, events, chosen & (place == part), edges) for part in range(PARTS)]
        for number, (one, label) in enumerate(zip(parts, PARTS_TITLES, strict=True)):
            _shape(upper, one, number, label=label)
            if number != 1:
                draw_ratio(lower, one, parts[1], number, of=PARTS)
        reaches.append(max(1 - lower.get_ylim()[0], lower.get_ylim()[1] - 1))
        lower.axhline(1, color="0.4", linewidth=0.8)
        upper.set_title(name, loc="left")
        if notes and name in notes:
            upper.text(0.97, 0.96, notes[name], transform=upper.transAxes, fontsize=7.5, va="top", ha="right")
        lower.set_xlabel(axis_label(nuisance or variable, unit))
        lower.set_xlim(*spectrum.range)
    axes[0, 0].set_ylim(0, 1.35 * max(ax.dataLim.y1 for ax in axes[0]))
    axes[1, 0].set_ylim(max(1 - max(reaches), 0.0), min(1 + max(reaches), 4.0))
    axes[0, 0].set_ylabel("Background")
    axes[1, 0].set_ylabel("over middle", loc="center")
    legend_above(drawn, axes[0, 0])
    drawn.suptitle(f"Thirds of {title}" if title else "", fontsize=10, x=0.02, ha="left")
    return drawn


def _bins(events: int, most: int) -> int:
    """As many as leave a third some fifteen events in each, joined from `most` where that can be."""
    wanted = max(min(most, events // (15 * PARTS)), 5)
    return max((one for one in range(1, most + 1) if most % one == 0 and one <= wanted), default=wanted)


def _spectrum(z: Array, events: Grouped, chosen: Mask, edges: Array) -> Spectrum:
    w = np.ones(int(chosen.sum())) if events.weight is None else events.weight[chosen]
    values, squares = (np.histogram(z[chosen], bins=edges, weights=one)[0] for one in (w, w**2))
    return Spectrum(edges, values, squares)


def _shape(ax: Axes, one: Spectrum, number: int, *, label: str) -> None:
    if number == 1:
        ax.stairs(one.shape, one.edges, fill=True, color=BEFORE, label=label)
        return
    style = look(number)
    steps(ax, one.edges, one.shape, **style)
    bars = {"fmt": MARKERS[number], "markersize": 2.4, "linewidth": 0.7, "color": style["color"]}
    ax.errorbar(one.centres, one.shape, yerr=one.error, label=label, **bars)


@styled
def recovered_condition(
    found: Mapping[str, Mapped], *, notes: Mapping[str, str] | None = None, title: str = "", unit: str = ""
) -> Figure:
    """The code of each group, mapped to the condition, against the true condition; one column per tagger.

    Bars: the posterior's deviation after calibration. Below: pulls against the truth, with bands of one and
    two deviations; those beyond the axis stand at its edge.
    """
    drawn = figure(3.3 * len(found) + 0.6, 4.8)
    axes = drawn.subplots(2, len(found), squeeze=False, sharex=True, sharey="row", height_ratios=(2.4, 1))
    for number, ((name, one), (upper, lower)) in enumerate(zip(found.items(), axes.T, strict=True)):
        style: dict[str, Any] = {**marker(number), "linestyle": "none", "markersize": 2.4}
        upper.errorbar(one.truth, one.value, yerr=one.deviation, elinewidth=0.5, alpha=0.7, **style)
        ends = np.array([one.truth.min(), one.truth.max()])
        upper.plot(ends, ends, color="0.3", linewidth=0.9, linestyle=(0, (4, 3)))
        upper.set_title(name, loc="left")
        if notes and name in notes:
            upper.text(0.04, 0.96, notes[name], transform=upper.transAxes, fontsize=8, va="top")
        for many, shade in ((2, "0.93"), (1, "0.85")):
            lower.axhspan(-many, many, color=shade, linewidth=0)
        pulls = np.clip(one.pull, -CLIPPED, CLIPPED)
        lower.plot(one.truth, pulls, **{**style, "markersize": 2.0})
        lower.set_ylim(-CLIPPED, CLIPPED)
        lower.set_xlabel(axis_label(title or "Truth", unit))
    axes[0, 0].set_ylabel(axis_label("From the code", unit))
    axes[1, 0].set_ylabel("Pull", loc="center")
    return drawn


@styled
def resolution_by_events(
    found: Mapping[str, Mapping[str, Sequence[Recovered]]], *, titles: Mapping[str, tuple[str, str]]
) -> Figure:
    """Resolution of each condition, over the spread of the truth, by the number of events of a group.

    found: tagger -> condition -> of codes of ever more events. One panel a condition.
    """
    conditions = list(dict.fromkeys(name for many in found.values() for name in many))
    drawn, axes = grid(len(conditions), width=3.6, height=3.2)
    for ax, condition in zip(axes, conditions, strict=True):
        for number, (name, many) in enumerate(found.items()):
            points = many.get(condition, ())
            if not points:
                continue
            x = np.array([one.events for one in points])
            scale = np.array([one.truth_spread for one in points])
            y = np.array([one.resolution.value for one in points]) / scale
            ends = [[one.resolution.low for one in points], [one.resolution.high for one in points]]
            bars = np.abs(np.array(ends) / scale - y)
            ax.errorbar(x, y, yerr=bars, label=name, linewidth=0.9, markersize=4, **_joined(number))
            if number == 0:
                # Of a normal posterior precisions add up, that of the prior and of each event.
                fine = np.geomspace(x[0], x[-1])
                each = max(1 / y[-1] ** 2 - 1, 0.0) / x[-1]
                ax.plot(fine, 1 / np.sqrt(1 + each * fine), color="0.5", linewidth=0.9, linestyle=(0, (1, 2)))
        ax.set_xscale("log")
        # A decade or two: 20, 50, 100 as they are, since powers of ten beside each other overlap.
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.axhline(1, color="0.4", linewidth=0.8)
        ax.set_ylim(bottom=0)
        ax.set_title(titles.get(condition, (condition, ""))[0], loc="left")
        ax.set_xlabel("Events of a group")
    axes[0].set_ylabel("Resolution / spread of the truth")
    legend_above(drawn, axes[0])
    return drawn


def _joined(number: int) -> dict[str, Any]:
    return {**look(number), "marker": marker(number)["marker"]}


__all__ = [
    "efficiency_against_condition",
    "efficiency_by_group",
    "recovered_condition",
    "resolution_by_events",
    "spectra_in_slices",
]
