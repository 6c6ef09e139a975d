"""Curves that set taggers side by side: ROC, efficiency against the nuisance, JSD against AUC."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hepdecorr.validation.measures.compare import over_seeds
from hepdecorr.validation.measures.efficiency import Profile
from hepdecorr.validation.measures.evaluation import Evaluation
from hepdecorr.validation.measures.numbers import Array
from hepdecorr.validation.measures.ranking import Roc
from hepdecorr.validation.plots.style import (
    COLOURS,
    MARKERS,
    axis_label,
    figure,
    grid,
    legend_above,
    legend_where,
    look,
    marker,
    styled,
)


@styled
def roc_curves(curves: Mapping[str, Sequence[Roc]], *, least: float = 0.0, title: str = "") -> Figure:
    """Background rejection 1 / (background efficiency) against signal efficiency, logarithmic.

    curves: tagger -> one curve per seed. Band: the seeds' range, or the statistical error of a single seed.
    least: the lowest signal efficiency drawn.
    """
    drawn = figure(5.4, 4.4)
    ax = drawn.subplots()
    x: Array = np.linspace(max(least, 0.01), 1.0, 400)
    for number, (name, seeds) in enumerate(curves.items()):
        middle = np.mean([_log_rejection(one, one.signal_efficiency, x) for one in seeds], axis=0)
        edges = (
            [_log_rejection(seeds[0], side, x) for side in (seeds[0].low, seeds[0].high)]
            if len(seeds) == 1
            else [_log_rejection(one, one.signal_efficiency, x) for one in seeds]
        )
        style = look(number)
        ax.fill_between(
            x, *np.exp([np.min(edges, axis=0), np.max(edges, axis=0)]), color=style["color"], alpha=0.2
        )
        ax.plot(x, np.exp(middle), label=name, **style)
    ax.plot(x, 1 / x, color="0.6", linewidth=0.8, linestyle=(0, (1, 2)), label="no separation")
    ax.set_yscale("log")
    ax.set_xlim(least, 1)
    ax.set_ylim(bottom=1)
    ax.set_xlabel("Signal efficiency")
    ax.set_ylabel("Background rejection 1 / efficiency")
    ax.set_title(title, loc="left")
    legend_where(drawn, ax, "best")  # a weak score has its curve where a good one leaves room
    return drawn


def _log_rejection(one: Roc, signal_efficiency: Array, x: Array) -> Array:
    """log(1 / background efficiency) at the signal efficiencies x; NaN where fewer than three events pass."""
    filled = one.background_efficiency > 0
    rising = np.maximum.accumulate(signal_efficiency[filled])
    logs = np.log(one.background_efficiency[filled])
    found = np.interp(x, rising, logs)
    return np.asarray(np.where(found < logs.min() + np.log(3), np.nan, -found))


@styled
def efficiency_profiles(
    profiles: Mapping[str, Sequence[Profile]], *, nuisance: str = "", unit: str = ""
) -> Figure:
    """Background efficiency in bins of the nuisance at several rejections, one panel per tagger.

    The dashed lines are the efficiencies asked for: points on their line mean that the cut does not see the
    nuisance. Bars are Clopper-Pearson; a bin where nothing passes shows its upper end alone.
    """
    drawn, axes = grid(len(profiles), width=3.0, height=3.3)
    for ax, (name, points) in zip(axes, profiles.items(), strict=True):
        for number, one in enumerate(points):
            _profile(ax, one, number)
        ax.set_yscale("log")
        ax.set_title(name, loc="left")
        ax.set_xlabel(axis_label(nuisance, unit))
        ax.set_xlim(points[0].edges[0], points[0].edges[-1])
    least = min(1 - one.rejection for points in profiles.values() for one in points)
    axes[0].set_ylim(least / 6, 2)
    axes[0].set_ylabel("Background efficiency")
    legend_above(drawn, axes[0])
    return drawn


def _profile(ax: Axes, one: Profile, number: int) -> None:
    colour, centres = COLOURS[number % len(COLOURS)], (one.edges[:-1] + one.edges[1:]) / 2
    ax.axhline(1 - one.rejection, color=colour, linewidth=0.8, linestyle=(0, (4, 3)))
    seen = one.efficiency > 0
    bars = np.abs(np.stack([one.efficiency - one.low, one.high - one.efficiency]))
    ax.errorbar(
        centres[seen],
        one.efficiency[seen],
        yerr=bars[:, seen],
        fmt=MARKERS[number % len(MARKERS)],
        color=colour,
        markersize=3,
        linewidth=0.9,
        label=f"{100 * one.rejection:g} % rejection",
    )
    empty = ~seen & (one.events > 0)
    ax.plot(centres[empty], one.high[empty], linestyle="", marker="v", markerfacecolor="none", color=colour)


@styled
def trade_off(
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
    drawn = figure(5.8, 4.4)
    ax = drawn.subplots()
    floors, tops = [], []
    for number, (name, seeds) in enumerate(evaluations.items()):
        points = [one.at(rejection) for one in seeds]
        floors += [point[1].floor for point in points]
        resolved = sum(point[2] <= 0.05 for point in points) > len(points) / 2
        x, x_error = _with_spread([one.auc.value for one in seeds], seeds[0].auc.std or 0.0)
        style: dict[str, Any] = {**marker(number), "markersize": 6}
        colour = style["color"]
        style |= {"linestyle": "", "linewidth": 1, "label": (titles or {}).get(name, name)}
        if resolved:
            y, y_error = _with_spread([point[1].jsd.value for point in points], points[0][1].jsd.std or 0.0)
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
    legend_where(drawn, ax, "best", few=4)
    return drawn


def _with_spread(values: Sequence[float], single: float) -> tuple[float, float]:
    spread = over_seeds(values)
    return spread.mean, single if spread.std is None else spread.std
