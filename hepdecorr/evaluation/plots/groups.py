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
from hepdecorr.evaluation.groups.code_regression import CodeRegression, PredictedCondition
from hepdecorr.evaluation.groups.events import GroupedEvents
from hepdecorr.evaluation.groups.spread import GroupMoments
from hepdecorr.evaluation.groups.stability import CLASS_LABELS, N_TERCILES, condition_terciles
from hepdecorr.evaluation.plots.spectra import Spectrum, draw_ratio
from hepdecorr.evaluation.plots.style import (
    BEFORE_CUT_COLOUR,
    MARKERS,
    add_legend_above,
    axis_label,
    draw_steps,
    line_style,
    marker_style,
    new_figure,
    panel_grid,
    with_style,
)
from hepdecorr.stats.results import Array

NUM_CONDITION_BINS = 10  # of groups along a condition
MAX_PULL = 5.0  # deviations that a panel of pulls shows
TERCILE_TITLES = ("lowest third", "middle third", "highest third")
Mask = npt.NDArray[np.bool_]


@with_style
def plot_efficiency_against_condition(
    passing: Mapping[str, Mask],
    events: GroupedEvents,
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
    kinds = [kind for kind in ("signal", "background") if np.any(events.label == CLASS_LABELS[kind])]
    drawn = new_figure(5.6, 2.7 * len(kinds) + 0.7)
    axes = drawn.subplots(len(kinds), 1, squeeze=False, sharex=True)[:, 0]
    for ax, kind in zip(axes, kinds, strict=True):
        own = events.label == CLASS_LABELS[kind]
        for number, (name, passed) in enumerate(passing.items()):
            found = GroupMoments.from_events(
                passed[own].astype(np.float64),
                events.group_index[own],
                events.select_weights(own),
                num_groups=events.num_groups,
            )
            _draw_binned_efficiency(ax, found, condition, number, num_curves=len(passing), label=name)
        ax.set_ylabel(f"{kind.capitalize()} efficiency")
        low, high = ax.get_ylim()
        ax.set_ylim(max(low - 0.1 * (high - low), 0), high + 0.1 * (high - low))
    axes[-1].set_xlabel(axis_label(title, unit))
    add_legend_above(drawn, axes[0])
    return drawn


def _draw_binned_efficiency(
    ax: Axes, moments: GroupMoments, condition: Array, index: int, *, num_curves: int, label: str
) -> None:
    filled = moments.size > 0
    order = np.flatnonzero(filled)[np.argsort(condition[filled], kind="stable")]
    style: dict[str, Any] = {**marker_style(index), "linestyle": "none"}
    parts = [part for part in np.array_split(order, min(NUM_CONDITION_BINS, len(order))) if len(part)]
    reach = np.ptp(condition[filled]) / NUM_CONDITION_BINS
    x, y, errors = [], [], []
    for part in parts:
        n, m = moments.size[part], moments.mean[part]
        mean = float(np.average(m, weights=n))
        # Of a weighted mean of groups: from their scatter, at least from chance.
        scatter = np.sum(np.square(n * (m - mean))) / n.sum() ** 2 * len(part) / max(len(part) - 1, 1)
        x.append(float(np.average(condition[part], weights=n)))
        y.append(mean)
        errors.append(float(np.sqrt(max(scatter, moments.pooled_variance / n.sum()))))
    shift = (index - (num_curves - 1) / 2) * 0.12 * reach
    ax.errorbar(np.array(x) + shift, np.array(y), yerr=np.array(errors), label=label, linewidth=0.9, **style)
    ax.axhline(
        float(np.average(moments.mean, weights=moments.size)),
        linewidth=0.8,
        zorder=-1,
        **line_style(index),
    )


@with_style
def plot_efficiency_by_group(
    passing: Mapping[str, Mask],
    events: GroupedEvents,
    *,
    class_name: str,
    notes: Mapping[str, str] | None = None,
    group_label: str = "group",
) -> Figure:
    """Efficiency of 'signal' or 'background' in every group, in their order, one row per tagger.

    passing: tagger -> (events,); notes: tagger -> a line about it. Bands: what counting alone leaves within
    one and two deviations about the efficiency of all. Right: the deviations in units of that error, with
    the unit normal that they follow where groups differ by chance alone.
    """
    own = events.label == CLASS_LABELS[class_name]
    if not own.any():
        raise InputError(f"efficiency by {group_label}: no {class_name} events")
    drawn = new_figure(7.6, 2.0 * len(passing) + 0.6)
    axes = drawn.subplots(len(passing), 2, squeeze=False, sharex="col", sharey="col", width_ratios=(3.4, 1))
    for number, ((name, passed), (left, right)) in enumerate(zip(passing.items(), axes, strict=True)):
        found = GroupMoments.from_events(
            passed[own].astype(np.float64),
            events.group_index[own],
            events.select_weights(own),
            num_groups=events.num_groups,
        )
        filled = np.flatnonzero(found.size > 0)
        mean, error = float(np.average(found.mean, weights=found.size)), found.mean_errors[filled]
        place = np.arange(len(filled), dtype=np.float64)
        edges = np.arange(len(filled) + 1) - 0.5
        for many, shade in ((2, "0.9"), (1, "0.8")):
            ends = [np.append(mean + sign * many * error, mean) for sign in (-1, 1)]
            left.fill_between(edges, *ends, step="post", color=shade, linewidth=0)
        # Many groups are a cloud: smaller points, drawn as pixels.
        size = float(np.clip(60 / np.sqrt(len(filled)), 1.2, 4))
        style = {**marker_style(number), "linestyle": "none", "markersize": size, "markeredgewidth": 0}
        left.plot(place, found.mean[filled], rasterized=len(filled) > 500, **style)
        left.axhline(mean, color="0.3", linewidth=0.8)
        left.set_xlim(-0.5, len(filled) - 0.5)
        left.set_title(name, loc="left")
        if notes and name in notes:
            left.set_title(notes[name], loc="right", fontsize=8)
        _draw_pulls(right, (found.mean[filled] - mean) / error, number)
    axes[len(passing) // 2, 0].set_ylabel(f"{class_name.capitalize()} efficiency")
    axes[-1, 0].set_xlabel(f"Place of the {group_label} in their order")
    axes[-1, 1].set_xlabel("Pull")
    return drawn


def _draw_pulls(ax: Axes, pulls: Array, index: int) -> None:
    edges = np.linspace(-MAX_PULL, MAX_PULL, 21)
    counts, _ = np.histogram(np.clip(pulls, -MAX_PULL + 1e-9, MAX_PULL - 1e-9), bins=edges)
    draw_steps(ax, edges, counts, **line_style(index))
    x = np.linspace(-MAX_PULL, MAX_PULL, 101)
    ax.plot(x, stats.norm.pdf(x) * len(pulls) * (edges[1] - edges[0]), color="0.4", linewidth=0.9)
    ax.set_xlim(-MAX_PULL, MAX_PULL)
    ax.set_ylim(bottom=0)
    ax.tick_params(labelleft=False)


@with_style
def plot_spectra_in_terciles(
    passing: Mapping[str, Mask],
    events: GroupedEvents,
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
    drawn = new_figure(2.9 * len(columns) + 0.5, 4.6)
    axes = drawn.subplots(2, len(columns), squeeze=False, sharex=True, sharey="row", height_ratios=(2.2, 1))
    fewest = min(int(np.count_nonzero(one)) for one in columns.values())
    bins = _choose_bins(fewest, spectrum.bins)  # the same for all, so that heights compare
    edges = np.linspace(*spectrum.range, bins + 1)
    place = condition_terciles(condition, events)
    reaches = []
    for (name, chosen), (upper, lower) in zip(columns.items(), axes.T, strict=True):
        parts = [_fill_spectrum(z, events, chosen & (place == part), edges) for part in range(N_TERCILES)]
        for number, (one, label) in enumerate(zip(parts, TERCILE_TITLES, strict=True)):
            _draw_spectrum(upper, one, number, label=label)
            if number != 1:
                draw_ratio(lower, one, parts[1], number, num_curves=N_TERCILES)
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
    add_legend_above(drawn, axes[0, 0])
    drawn.suptitle(f"Thirds of {title}" if title else "", fontsize=10, x=0.02, ha="left")
    return drawn


def _choose_bins(num_events: int, max_bins: int) -> int:
    """As many as leave a third some fifteen events in each, joined from `most` where that can be."""
    wanted = max(min(max_bins, num_events // (15 * N_TERCILES)), 5)
    return max(
        (one for one in range(1, max_bins + 1) if max_bins % one == 0 and one <= wanted), default=wanted
    )


def _fill_spectrum(z: Array, events: GroupedEvents, mask: Mask, edges: Array) -> Spectrum:
    w = np.ones(int(mask.sum())) if events.weight is None else events.weight[mask]
    values, squares = (np.histogram(z[mask], bins=edges, weights=one)[0] for one in (w, w**2))
    return Spectrum(edges, values, squares)


def _draw_spectrum(ax: Axes, spectrum: Spectrum, index: int, *, label: str) -> None:
    if index == 1:
        ax.stairs(spectrum.normalised_values, spectrum.edges, fill=True, color=BEFORE_CUT_COLOUR, label=label)
        return
    style = line_style(index)
    draw_steps(ax, spectrum.edges, spectrum.normalised_values, **style)
    bars = {"fmt": MARKERS[index], "markersize": 2.4, "linewidth": 0.7, "color": style["color"]}
    ax.errorbar(
        spectrum.centres, spectrum.normalised_values, yerr=spectrum.normalised_errors, label=label, **bars
    )


@with_style
def plot_predicted_condition(
    predictions: Mapping[str, PredictedCondition],
    *,
    notes: Mapping[str, str] | None = None,
    title: str = "",
    unit: str = "",
) -> Figure:
    """The code of each group, mapped to the condition, against the true condition; one column per tagger.

    Bars: the posterior's deviation after calibration. Below: pulls against the truth, with bands of one and
    two deviations; those beyond the axis stand at its edge.
    """
    drawn = new_figure(3.3 * len(predictions) + 0.6, 4.8)
    axes = drawn.subplots(
        2, len(predictions), squeeze=False, sharex=True, sharey="row", height_ratios=(2.4, 1)
    )
    for number, ((name, one), (upper, lower)) in enumerate(zip(predictions.items(), axes.T, strict=True)):
        style: dict[str, Any] = {**marker_style(number), "linestyle": "none", "markersize": 2.4}
        upper.errorbar(one.truth, one.value, yerr=one.std, elinewidth=0.5, alpha=0.7, **style)
        ends = np.array([one.truth.min(), one.truth.max()])
        upper.plot(ends, ends, color="0.3", linewidth=0.9, linestyle=(0, (4, 3)))
        upper.set_title(name, loc="left")
        if notes and name in notes:
            upper.text(0.04, 0.96, notes[name], transform=upper.transAxes, fontsize=8, va="top")
        for many, shade in ((2, "0.93"), (1, "0.85")):
            lower.axhspan(-many, many, color=shade, linewidth=0)
        pulls = np.clip(one.pull, -MAX_PULL, MAX_PULL)
        lower.plot(one.truth, pulls, **{**style, "markersize": 2.0})
        lower.set_ylim(-MAX_PULL, MAX_PULL)
        lower.set_xlabel(axis_label(title or "Truth", unit))
    axes[0, 0].set_ylabel(axis_label("From the code", unit))
    axes[1, 0].set_ylabel("Pull", loc="center")
    return drawn


@with_style
def plot_resolution_by_events(
    regressions: Mapping[str, Mapping[str, Sequence[CodeRegression]]],
    *,
    titles: Mapping[str, tuple[str, str]],
) -> Figure:
    """Resolution of each condition, over the spread of the truth, by the number of events of a group.

    found: tagger -> condition -> of codes of ever more events. One panel a condition.
    """
    conditions = list(dict.fromkeys(name for many in regressions.values() for name in many))
    drawn, axes = panel_grid(len(conditions), width=3.6, height=3.2)
    for ax, condition in zip(axes, conditions, strict=True):
        for number, (name, many) in enumerate(regressions.items()):
            points = many.get(condition, ())
            if not points:
                continue
            x = np.array([one.events for one in points])
            scale = np.array([one.truth_spread for one in points])
            y = np.array([one.resolution.value for one in points]) / scale
            ends = [[one.resolution.low for one in points], [one.resolution.high for one in points]]
            bars = np.abs(np.array(ends) / scale - y)
            ax.errorbar(
                x, y, yerr=bars, label=name, linewidth=0.9, markersize=4, **_line_and_marker_style(number)
            )
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
    add_legend_above(drawn, axes[0])
    return drawn


def _line_and_marker_style(index: int) -> dict[str, Any]:
    return {**line_style(index), "marker": marker_style(index)["marker"]}


__all__ = [
    "plot_efficiency_against_condition",
    "plot_efficiency_by_group",
    "plot_predicted_condition",
    "plot_resolution_by_events",
    "plot_spectra_in_terciles",
]
