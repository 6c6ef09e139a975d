"""The literature's figure: background rejection at 50 % signal efficiency against 1/JSD."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter, StrMethodFormatter

from hepdecorr.errors import InputError
from hepdecorr.validation.measures import Evaluation, HalfSignal, Measured
from hepdecorr.validation.measures.numbers import Array
from hepdecorr.validation.plots.style import COLOURS, LINES, MARKERS, figure, styled

Points = Sequence[tuple[str, Sequence[Evaluation]]]
_NARROW, _WIDE = 0.68, 0.95


def _to_bits(inverse: Any) -> Any:
    return inverse * math.log(2)


def _to_nats(inverse: Any) -> Any:
    return inverse / math.log(2)


def _some_minor(value: float, _: Any) -> str:
    """2 and 5 of every decade."""
    leading = value / 10 ** math.floor(math.log10(value) + 1e-9)
    return f"{value:g}" if round(leading, 6) in (2, 5) else ""


class _Point(NamedTuple):
    label: str
    x: Measured  # 1/JSD in 1/nats
    y: Measured  # R50
    at_limit: bool
    halves: list[HalfSignal]


@styled
def half_signal_curve(series: Mapping[str, Points], *, baselines: Points = (), title: str = "") -> Figure:
    """R50 against 1/JSD at 50 % signal efficiency, both logarithmic; up and to the right is better.

    series: name -> (label, one evaluation per seed) in the order to join, for instance of rising strength.
    baselines: markers of their own, such as a quantile map of the plain tagger. Bars are the spread over
    seeds, or the statistical interval of one. Filled: sculpting is resolved (in most seeds); open: 1/JSD is
    at its statistical limit. The hatched region begins at that limit, 1/floor, which the R50 of each point
    sets by how many background events it lets pass; grey: 68.3 % of what is read there without sculpting.
    """
    drawn = figure(6.2, 4.8)
    ax = drawn.subplots()
    found: list[_Point] = []
    for number, (name, points) in enumerate(series.items()):
        made = [one for one in (_point(*point) for point in points) if one is not None]
        found += made
        colour = COLOURS[number % len(COLOURS)]
        ax.plot(
            [one.x.value for one in made],
            [one.y.value for one in made],
            color=colour,
            linestyle=LINES[number % len(LINES)],
            linewidth=1,
        )
        for place, one in enumerate(made):
            _mark(ax, one, number=number, name=name if place == 0 else "", annotate=len(points) > 1)
    for number, point in enumerate(baselines):
        star = _point(*point)
        if star is not None:
            found.append(star)
            _mark(ax, star, number=len(series) + number, name=star.label, annotate=False, marker="*", size=11)
    if not found:
        raise InputError("half_signal_curve: nothing to draw; no background passes at 50 % signal efficiency")
    ax.set_xscale("log")
    ax.set_yscale("log")
    _frame(ax, found)
    _limit(ax, found)
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
        ax.yaxis.set_minor_formatter(FuncFormatter(_some_minor))
    legend = ax.legend(loc="best", title=title or None, frameon=True, framealpha=0.9, edgecolor="none")
    legend.set_zorder(5)
    return drawn


def _point(label: str, seeds: Sequence[Evaluation]) -> _Point | None:
    halves = [one.half_signal for one in seeds if one.half_signal.sculpting is not None]
    if not halves:
        return None
    return _Point(
        label,
        _middle([one.inverse_jsd_nats for one in halves]),
        _middle([one.r50 for one in halves]),
        sum(one.at_limit for one in halves) >= len(halves) / 2,
        halves,
    )


def _middle(measured: Sequence[Measured]) -> Measured:
    """Geometric mean and spread over the seeds; one seed as it is."""
    if len(measured) == 1:
        return measured[0]
    logs = np.log([one.value for one in measured])
    centre, spread = float(logs.mean()), float(logs.std(ddof=1))
    return Measured(*(math.exp(centre + side * spread) for side in (0, -1, 1)))


def _mark(
    ax: Axes, one: _Point, *, number: int, name: str, annotate: bool, marker: str = "", size: float = 6
) -> None:
    colour = COLOURS[number % len(COLOURS)]
    # An end at infinity would blow up the axis: the bar stops at one decade.
    ends = [[[m.value - m.low], [min(m.high, 10 * m.value) - m.value]] for m in (one.x, one.y)]
    ax.errorbar(
        [one.x.value],
        [one.y.value],
        xerr=ends[0],
        yerr=ends[1],
        fmt=marker or MARKERS[number % len(MARKERS)],
        markersize=size,
        color=colour,
        markerfacecolor="white" if one.at_limit else colour,
        linewidth=0.9,
        label=name or None,
        zorder=3,
    )
    if annotate:
        ax.annotate(
            one.label,
            (one.x.value, one.y.value),
            xytext=(6, 5),
            textcoords="offset points",
            fontsize=7.5,
            color="0.25",
            zorder=4,
        )


def _frame(ax: Axes, found: Sequence[_Point]) -> None:
    x = [one.x.value for one in found] + [half.inverse_floor_nats for one in found for half in one.halves]
    y = [one.y.value for one in found]
    ax.set_xlim(min(x) / 2.2, max(x) * 3)
    ax.set_ylim(max(min(y) / 1.8, 1.0), max(y) * 2.2)


def _limit(ax: Axes, found: Sequence[_Point]) -> None:
    """1/floor against R50, a line through all the points' own: fewer events pass at a higher R50."""
    halves = [half for one in found for half in one.halves]
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
