"""Curves that set taggers side by side: ROC, efficiency against the nuisance, JSD against AUC.

Areas under ROC curves as a matrix: scores down, signals across.

The literature's figure: background rejection at 50 % signal efficiency against 1/JSD.

How well the ABCD method closes on background.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter, StrMethodFormatter

from hepdecorr.errors import InputError
from hepdecorr.evaluation.metrics import Estimate, R50Point
from hepdecorr.evaluation.metrics.abcd import Abcd
from hepdecorr.evaluation.metrics.evaluation import Evaluation
from hepdecorr.evaluation.plots.style import (
    COLOURS,
    LINE_STYLES,
    MARKERS,
    add_legend,
    add_legend_above,
    axis_label,
    line_style,
    marker_style,
    new_figure,
    panel_grid,
    with_style,
)
from hepdecorr.stats.efficiency import EfficiencyProfile
from hepdecorr.stats.multiple_testing import aggregate_seeds
from hepdecorr.stats.results import Array
from hepdecorr.stats.roc import Roc


@with_style
def plot_roc_curves(
    curves: Mapping[str, Sequence[Roc]], *, min_signal_efficiency: float = 0.0, title: str = ""
) -> Figure:
    """Background rejection 1 / (background efficiency) against signal efficiency, logarithmic.

    curves: tagger -> one curve per seed. Band: the seeds' range, or the statistical error of a single seed.
    least: the lowest signal efficiency drawn.
    """
    drawn = new_figure(5.4, 4.4)
    ax = drawn.subplots()
    x: Array = np.linspace(max(min_signal_efficiency, 0.01), 1.0, 400)
    for number, (name, seeds) in enumerate(curves.items()):
        middle = np.mean([_log_rejection(one, one.signal_efficiency, x) for one in seeds], axis=0)
        edges = (
            [_log_rejection(seeds[0], side, x) for side in (seeds[0].low, seeds[0].high)]
            if len(seeds) == 1
            else [_log_rejection(one, one.signal_efficiency, x) for one in seeds]
        )
        style = line_style(number)
        ax.fill_between(
            x, *np.exp([np.min(edges, axis=0), np.max(edges, axis=0)]), color=style["color"], alpha=0.2
        )
        ax.plot(x, np.exp(middle), label=name, **style)
    ax.plot(x, 1 / x, color="0.6", linewidth=0.8, linestyle=(0, (1, 2)), label="no separation")
    ax.set_yscale("log")
    ax.set_xlim(min_signal_efficiency, 1)
    ax.set_ylim(bottom=1)
    ax.set_xlabel("Signal efficiency")
    ax.set_ylabel("Background rejection 1 / efficiency")
    ax.set_title(title, loc="left")
    add_legend(drawn, ax, "best")  # a weak score has its curve where a good one leaves room
    return drawn


def _log_rejection(roc: Roc, signal_efficiency: Array, x: Array) -> Array:
    """log(1 / background efficiency) at the signal efficiencies x; NaN where fewer than three events pass."""
    filled = roc.background_efficiency > 0
    rising = np.maximum.accumulate(signal_efficiency[filled])
    logs = np.log(roc.background_efficiency[filled])
    found = np.interp(x, rising, logs)
    return np.asarray(np.where(found < logs.min() + np.log(3), np.nan, -found))


@with_style
def plot_efficiency_profiles(
    profiles: Mapping[str, Sequence[EfficiencyProfile]], *, nuisance: str = "", unit: str = ""
) -> Figure:
    """Background efficiency in bins of the nuisance at several rejections, one panel per tagger.

    The dashed lines are the efficiencies asked for: points on their line mean that the cut does not see the
    nuisance. Bars are Clopper-Pearson; a bin where nothing passes shows its upper end alone.
    """
    drawn, axes = panel_grid(len(profiles), width=3.0, height=3.3)
    for ax, (name, points) in zip(axes, profiles.items(), strict=True):
        for number, one in enumerate(points):
            _draw_profile(ax, one, number)
        ax.set_yscale("log")
        ax.set_title(name, loc="left")
        ax.set_xlabel(axis_label(nuisance, unit))
        ax.set_xlim(points[0].edges[0], points[0].edges[-1])
    least = min(1 - one.rejection for points in profiles.values() for one in points)
    axes[0].set_ylim(least / 6, 2)
    axes[0].set_ylabel("Background efficiency")
    add_legend_above(drawn, axes[0])
    return drawn


def _draw_profile(ax: Axes, profile: EfficiencyProfile, index: int) -> None:
    colour, centres = COLOURS[index % len(COLOURS)], (profile.edges[:-1] + profile.edges[1:]) / 2
    ax.axhline(1 - profile.rejection, color=colour, linewidth=0.8, linestyle=(0, (4, 3)))
    seen = profile.efficiency > 0
    bars = np.abs(np.stack([profile.efficiency - profile.low, profile.high - profile.efficiency]))
    ax.errorbar(
        centres[seen],
        profile.efficiency[seen],
        yerr=bars[:, seen],
        fmt=MARKERS[index % len(MARKERS)],
        color=colour,
        markersize=3,
        linewidth=0.9,
        label=f"{100 * profile.rejection:g} % rejection",
    )
    empty = ~seen & (profile.events > 0)
    ax.plot(
        centres[empty], profile.high[empty], linestyle="", marker="v", markerfacecolor="none", color=colour
    )


@with_style
def plot_trade_off(
    evaluations: Mapping[str, Sequence[Evaluation]],
    *,
    rejection: float,
    titles: Mapping[str, str] | None = None,
) -> Figure:
    """JSD at one background rejection against AUC, one point per tagger with its seeds' spread.

    Resolved sculpting (in most seeds) is a filled point; its bars are the spread over seeds, or for a single
    seed the statistical error. Otherwise an open marker with an arrow stands at floor + 95 % limit: within
    the hatched region nothing can be told from no sculpting.
    """
    drawn = new_figure(5.8, 4.4)
    ax = drawn.subplots()
    floors, tops = [], []
    for number, (name, seeds) in enumerate(evaluations.items()):
        points = [one.at_rejection(rejection) for one in seeds]
        floors += [point[1].floor for point in points]
        resolved = sum(point[2] <= 0.05 for point in points) > len(points) / 2
        x, x_error = _mean_with_spread([one.auc.value for one in seeds], seeds[0].auc.std or 0.0)
        style: dict[str, Any] = {**marker_style(number), "markersize": 6}
        colour = style["color"]
        style |= {"linestyle": "", "linewidth": 1, "label": (titles or {}).get(name, name)}
        if resolved:
            y, y_error = _mean_with_spread(
                [point[1].jsd.value for point in points], points[0][1].jsd.std or 0.0
            )
            # On a logarithmic scale a bar that reaches zero would vanish.
            ax.errorbar([x], [y], xerr=[x_error], yerr=[[min(y_error, 0.9 * y)], [y_error]], **style)
        else:
            y = float(np.median([point[1].floor + point[1].excess_upper for point in points]))
            ax.errorbar([x], [y], xerr=[x_error], markerfacecolor="white", **style)
            foot = float(np.median([point[1].floor for point in points]))
            ax.annotate("", (x, foot), (x, y), arrowprops={"arrowstyle": "->", "color": colour, "shrinkA": 3})
        tops.append(y)
    floor = float(np.median(floors))
    low, high = floor / 3, 3 * max([*tops, floor])
    ax.axhspan(low, floor, facecolor="0.93", edgecolor="0.75", hatch="///", linewidth=0)
    ax.axhline(floor, color="0.35", linewidth=1, linestyle="--")
    place: dict[str, Any] = {
        "xycoords": ax.get_yaxis_transform(),
        "xytext": (-4, -4),
        "textcoords": "offset points",
    }
    ax.annotate("statistical floor", (1, floor), ha="right", va="top", fontsize=8.5, **place)
    ax.set_yscale("log")
    ax.set_ylim(low, high)
    ax.margins(x=0.12)
    ax.set_xlabel("AUC")
    unit = "nats" if next(iter(evaluations.values()))[0].sculpting[0].log_base == "e" else "bits"
    ax.set_ylabel(f"JSD of the background at {100 * rejection:g} % rejection [{unit}]")
    add_legend(drawn, ax, "best", max_entries=4)
    return drawn


def _mean_with_spread(values: Sequence[float], single_seed_error: float) -> tuple[float, float]:
    spread = aggregate_seeds(values)
    return spread.mean, single_seed_error if spread.std is None else spread.std


MEAN_COLUMN = "mean"
GREY_FRACTION = 0.5  # of all greys that are used: black figures stay legible on them
MAX_LINE_LENGTH = 11  # letters of a signal's title in one line


class AucRow(NamedTuple):
    """Of one score: the area for each signal and, last, their mean; errors beside; (signals + 1,) each."""

    values: Sequence[float]
    errors: Sequence[float]


@with_style
def plot_auc_matrix(
    rows: Mapping[str, AucRow], *, signals: Sequence[str], score_groups: Mapping[str, str] | None = None
) -> Figure:
    """One row a score, one column a signal, the mean over signals last; the darker the larger.

    Every cell holds the area and, below, its error; the largest of a column is bold. groups: score -> what
    it belongs to; a line parts the groups.
    """
    if not rows or not signals:
        raise InputError("auc_matrix: no scores or no signals; give at least one of each")
    names, columns = list(rows), [*signals, MEAN_COLUMN]
    values: Array = np.array([rows[name].values for name in names], dtype=np.float64)
    if values.shape != (len(names), len(columns)):
        raise InputError(f"auc_matrix: areas of shape {values.shape}, not {(len(names), len(columns))}")
    left = 0.5 + 0.075 * max(len(name) for name in names)
    drawn = new_figure(left + 0.82 * len(columns) + 0.9, 1.1 + 0.4 * len(names))
    ax = drawn.subplots()
    # Grey of rising depth: what is printed without colour is the same figure.
    low, high = min(float(np.nanmin(values)), 0.5), max(float(np.nanmax(values)), 0.55)
    image = ax.pcolormesh(values, cmap="Greys", vmin=low, vmax=low + (high - low) / GREY_FRACTION)
    best = np.nanmax(np.round(values, 3), axis=0)
    for (row, column), value in np.ndenumerate(values):
        if not math.isfinite(value):
            continue
        about: dict[str, Any] = {"ha": "center", "color": "black"}
        weight = "bold" if round(value, 3) == best[column] and len(names) > 1 else "normal"
        ax.text(column + 0.5, row + 0.46, f"{value:.3f}", va="bottom", fontsize=8.5, weight=weight, **about)
        error = rows[names[row]].errors[column]
        ax.text(column + 0.5, row + 0.54, f"± {error:.3f}", va="top", fontsize=6.5, **about)
    ax.set_xticks(np.arange(len(columns)) + 0.5, [_wrap_title(name) for name in columns], fontsize=8.5)
    ax.set_yticks(np.arange(len(names)) + 0.5, names, fontsize=8.5)
    ax.tick_params(which="both", length=0, labeltop=True, labelbottom=False)
    ax.minorticks_off()
    ax.invert_yaxis()
    ax.axvline(len(signals), color="black", linewidth=1.5)
    parts = [(score_groups or {}).get(name, name) for name in names]
    for row in range(1, len(names)):
        if parts[row] != parts[row - 1]:
            ax.axhline(row, color="black" if len(set(parts)) < len(names) else "0.7", linewidth=0.8)
    bar = drawn.colorbar(image, ax=ax, label="AUC", pad=0.01, aspect=30)
    bar.ax.set_ylim(low, high)
    return drawn


def _wrap_title(title: str) -> str:
    # What stands between dollars is one word: mathtext cannot be broken.
    words = title.split("$")
    whole = "$".join(w.replace(" ", "\0") if k % 2 else w for k, w in enumerate(words))
    return textwrap.fill(whole, MAX_LINE_LENGTH, break_long_words=False, break_on_hyphens=False).replace(
        "\0", " "
    )


LabelledEvaluations = Sequence[tuple[str, Sequence[Evaluation]]]
_NARROW, _WIDE = 0.68, 0.95


def _to_bits(inverse: Any) -> Any:
    return inverse * math.log(2)


def _to_nats(inverse: Any) -> Any:
    return inverse / math.log(2)


def _format_minor_tick(value: float, _: Any) -> str:
    """2 and 5 of every decade."""
    leading = value / 10 ** math.floor(math.log10(value) + 1e-9)
    return f"{value:g}" if round(leading, 6) in (2, 5) else ""


class _R50CurvePoint(NamedTuple):
    label: str
    x: Estimate  # 1/JSD in 1/nats
    y: Estimate  # R50
    at_limit: bool
    r50_points: list[R50Point]


@with_style
def plot_r50_curve(
    series: Mapping[str, LabelledEvaluations], *, baselines: LabelledEvaluations = (), title: str = ""
) -> Figure:
    """R50 against 1/JSD at 50 % signal efficiency, both logarithmic; up and to the right is better.

    series: name -> (label, one evaluation per seed) in the order to join, for instance of rising strength.
    baselines: markers of their own, such as a quantile map of the plain tagger. Bars are the spread over
    seeds, or the statistical interval of one. Filled: sculpting is resolved (in most seeds); open: 1/JSD is
    at its statistical limit. The hatched region begins at that limit, 1/floor, which the R50 of each point
    sets by how many background events it lets pass; grey: 68.3 % of what is read there without sculpting.
    """
    drawn = new_figure(6.2, 4.8)
    ax = drawn.subplots()
    found: list[_R50CurvePoint] = []
    for number, (name, points) in enumerate(series.items()):
        made = [one for one in (_make_curve_point(*point) for point in points) if one is not None]
        found += made
        colour = COLOURS[number % len(COLOURS)]
        ax.plot(
            [one.x.value for one in made],
            [one.y.value for one in made],
            color=colour,
            linestyle=LINE_STYLES[number % len(LINE_STYLES)],
            linewidth=1,
        )
        for place, one in enumerate(made):
            _draw_curve_point(
                ax, one, index=number, name=name if place == 0 else "", annotate=len(points) > 1
            )
    for number, point in enumerate(baselines):
        star = _make_curve_point(*point)
        if star is not None:
            found.append(star)
            _draw_curve_point(
                ax, star, index=len(series) + number, name=star.label, annotate=False, marker="*", size=11
            )
    if not found:
        raise InputError("half_signal_curve: nothing to draw; no background passes at 50 % signal efficiency")
    ax.set_xscale("log")
    ax.set_yscale("log")
    _set_axis_limits(ax, found)
    _draw_statistical_limit(ax, found)
    ax.set_xlabel(r"1 / JSD at 50 % signal efficiency [nats$^{-1}$]")
    ax.set_ylabel(r"Background rejection at 50 % signal efficiency, $R_{50}$")
    bits = ax.secondary_xaxis("top", functions=(_to_bits, _to_nats))
    bits.set_xlabel(r"1 / JSD [bits$^{-1}$]")
    ax.tick_params(axis="x", which="both", top=False)
    for axis in (ax.xaxis, ax.yaxis, bits.xaxis):
        axis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.set_minor_formatter(NullFormatter())
    low, high = ax.get_ylim()
    if high / low < 30:
        ax.yaxis.set_minor_formatter(FuncFormatter(_format_minor_tick))
    legend = ax.legend(loc="best", title=title or None, frameon=True, framealpha=0.9, edgecolor="none")
    legend.set_zorder(5)
    return drawn


def _make_curve_point(label: str, evaluations: Sequence[Evaluation]) -> _R50CurvePoint | None:
    halves = [
        one.at_half_signal_efficiency
        for one in evaluations
        if one.at_half_signal_efficiency.sculpting is not None
    ]
    if not halves:
        return None
    return _R50CurvePoint(
        label,
        _geometric_mean([one.inverse_jsd_nats for one in halves]),
        _geometric_mean([one.r50 for one in halves]),
        sum(one.at_limit for one in halves) >= len(halves) / 2,
        halves,
    )


def _geometric_mean(estimates: Sequence[Estimate]) -> Estimate:
    """Geometric mean and spread over the seeds; one seed as it is."""
    if len(estimates) == 1:
        return estimates[0]
    logs = np.log([one.value for one in estimates])
    centre, spread = float(logs.mean()), float(logs.std(ddof=1))
    return Estimate(*(math.exp(centre + side * spread) for side in (0, -1, 1)))


def _draw_curve_point(
    ax: Axes,
    point: _R50CurvePoint,
    *,
    index: int,
    name: str,
    annotate: bool,
    marker: str = "",
    size: float = 6,
) -> None:
    colour = COLOURS[index % len(COLOURS)]
    # An end at infinity would blow up the axis: the bar stops at one decade.
    ends = [[[m.value - m.low], [min(m.high, 10 * m.value) - m.value]] for m in (point.x, point.y)]
    ax.errorbar(
        [point.x.value],
        [point.y.value],
        xerr=ends[0],
        yerr=ends[1],
        fmt=marker or MARKERS[index % len(MARKERS)],
        markersize=size,
        color=colour,
        markerfacecolor="white" if point.at_limit else colour,
        linewidth=0.9,
        label=name or None,
        zorder=3,
    )
    if annotate:
        ax.annotate(
            point.label,
            (point.x.value, point.y.value),
            xytext=(6, 5),
            textcoords="offset points",
            fontsize=7.5,
            color="0.25",
            zorder=4,
        )


def _set_axis_limits(ax: Axes, points: Sequence[_R50CurvePoint]) -> None:
    x = [one.x.value for one in points] + [
        half.inverse_floor_nats for one in points for half in one.r50_points
    ]
    y = [one.y.value for one in points]
    ax.set_xlim(min(x) / 2.2, max(x) * 3)
    ax.set_ylim(max(min(y) / 1.8, 1.0), max(y) * 2.2)


def _draw_statistical_limit(ax: Axes, points: Sequence[_R50CurvePoint]) -> None:
    """1/floor against R50, a line through all the points' own: fewer events pass at a higher R50."""
    halves = [half for one in points for half in one.r50_points]
    r50 = np.log([half.r50.value for half in halves])
    ends = np.array([[half.inverse_floor_nats, *half.inverse_floor_interval_nats] for half in halves]).T
    with np.errstate(divide="ignore"):
        middle, low, high = np.log(ends)
    y: Array = np.geomspace(*ax.get_ylim(), 50)
    # One point tells the height alone; the floor goes as 1 / n_pass, and n_pass as 1 / R50.
    slope = -1.0 if np.ptp(r50) < 0.1 else float(np.polyfit(r50, middle, 1)[0])
    x = np.exp(np.mean(middle - slope * r50) + slope * np.log(y))
    below, above = (np.exp(np.mean(side - middle)) for side in (low, high))
    right = ax.get_xlim()[1]
    style: dict[str, Any] = {"edgecolor": "0.75", "linewidth": 0, "zorder": 0}
    ax.fill_betweenx(y, x, np.maximum(x, right), facecolor="0.95", hatch="///", **style)
    ax.fill_betweenx(y, x * below, x * above, color="0.6", alpha=0.45, linewidth=0, zorder=0.5)
    ax.plot(x, y, color="0.25", linewidth=1, linestyle="--", zorder=1, label="statistical limit")


@with_style
def plot_abcd_closure(scans: Mapping[str, Abcd], *, tolerance: float = 0.1) -> Figure:
    """Predicted over observed background in region A, above, and signal's share in it, below.

    scans: tagger -> closure at cuts of rising rejection. within: the band of closures that is shaded.
    """
    if not scans:
        raise InputError("abcd_closure: no tagger given; measure one with measures.abcd")
    drawn = new_figure(5.4, 5.0)
    above, below = drawn.subplots(2, sharex=True, height_ratios=(2, 1))
    above.axhspan(1 - tolerance, 1 + tolerance, color="0.9", zorder=-2)
    above.axhline(1, color="0.4", linewidth=0.9, linestyle=(0, (4, 3)))
    for number, (name, scan) in enumerate(scans.items()):
        style = line_style(number)
        share = np.array([one.background_efficiency for one in scan.regions])
        closure = [one.closure for one in scan.regions]
        errors = np.array([[c.value - c.low, c.high - c.value] for c in closure]).T
        above.errorbar(share, [c.value for c in closure], yerr=errors, marker="o", label=name, **style)
        below.plot(share, [one.signal_efficiency for one in scan.regions], marker="o", **style)
    below.set_xscale("log")
    below.set_xlabel("Background efficiency of region A")
    above.set_ylabel("Predicted / observed")
    below.set_ylabel("Signal efficiency")
    above.legend(loc="best")
    return drawn
