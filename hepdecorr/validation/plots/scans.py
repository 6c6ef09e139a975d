"""What becomes of a tagger as one value of its config changes, and which of many taggers lead."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, StrMethodFormatter

from hepdecorr.errors import InputError
from hepdecorr.validation.measures import Evaluation, Measured, over_seeds
from hepdecorr.validation.plots.style import COLOURS, LINES, MARKERS, figure, styled

MANY = 10  # series above which the legend would hide the points


class Step(NamedTuple):
    """One value of a scan with what was measured there: one evaluation, and one MIG, per seed."""

    value: Any
    seeds: Sequence[Evaluation]
    migs: Sequence[float] = ()


@styled
def scan_curves(
    lines: Mapping[str, Sequence[Step]], *, title: str, rejection: float, reference: Sequence[Evaluation] = ()
) -> Figure:
    """AUC, 1/JSD at one background rejection, and MIG where there is one, against the value of a key.

    lines: label -> steps in the order to join, one line for each setting of the other keys.  Bars are the
    spread over seeds, or the statistical interval of one.  1/JSD: open where no sculpting is resolved; the
    dashed line is the statistical limit 1/floor, grey what 68.3 % of taggers without sculpting read.
    reference: evaluations of a plain tagger, whose AUC is drawn as a level.
    """
    steps = [step for line in lines.values() for step in line]
    if not any(step.seeds for step in steps):
        raise InputError("scan_curves: nothing was measured; train at least one point")
    migs = any(step.migs for step in steps)
    drawn = figure(3.9 * (3 if migs else 2) + 0.3, 3.6)
    axes: list[Axes] = list(drawn.subplots(1, 3 if migs else 2))
    place = places([step.value for step in steps])
    for number, (label, line) in enumerate(lines.items()):
        style: dict[str, Any] = {
            "color": COLOURS[number % len(COLOURS)],
            "marker": MARKERS[number % len(MARKERS)],
            "linestyle": LINES[number % len(LINES)],
            "linewidth": 1.1,
        }
        kept = [step for step in line if step.seeds]
        x = [place.at(step.value) for step in kept]
        bars(axes[0], x, [_middle([one.auc for one in step.seeds]) for step in kept], label=label, **style)
        _inverse_jsd(axes[1], x, [step.seeds for step in kept], rejection=rejection, style=style)
        own = [step for step in kept if step.migs]
        if migs:
            found = [_spread(step.migs) for step in own]
            bars(axes[2], [place.at(step.value) for step in own], found, **style)
    if reference:
        level = float(np.mean([one.auc.value for one in reference]))
        axes[0].axhline(level, color="0.4", linewidth=0.9, linestyle=(0, (4, 3)), label="plain")
    _limit(axes[1], lines, rejection=rejection)
    names = ["AUC", rf"1/JSD at {100 * rejection:g} % rejection [nats$^{{-1}}$]", "MIG"]
    _plain_numbers(axes[1])
    for ax, name in zip(axes, names, strict=False):
        ax.set_ylabel(name)
        ax.set_xlabel(title)
        place.frame(ax)
    axes[1].legend(loc="best")
    if len(lines) > 1 or reference:
        axes[0].legend(loc="best")
    return drawn


class Places(NamedTuple):
    """Where values stand on an axis: themselves, or in their order where they are no numbers."""

    values: list[Any]
    numeric: bool
    logarithmic: bool

    def at(self, value: Any) -> float:
        return float(value) if self.numeric else float(self.values.index(value))

    def frame(self, ax: Axes) -> None:
        if self.logarithmic:
            ax.set_xscale("log")
        elif not self.numeric:
            ax.set_xticks(range(len(self.values)), [str(value) for value in self.values], fontsize=8)
            ax.xaxis.set_tick_params(which="minor", bottom=False, top=False)
        if len(self.values) == 1:
            ax.margins(x=0.5)


def places(given: Sequence[Any]) -> Places:
    """Where values, of which some may repeat, stand on an axis."""
    values: list[Any] = []
    for value in given:
        if value not in values:
            values.append(value)
    numeric = all(isinstance(one, (int, float)) and not isinstance(one, bool) for one in values)
    positive = numeric and min(values) > 0
    return Places(values, numeric, positive and max(values) / min(values) > 8)


def bars(ax: Axes, x: Sequence[float], found: Sequence[Measured], **style: Any) -> None:
    """Joined points with their intervals; nothing where there are none."""
    if not found:
        return
    ends = np.array([[one.value - one.low, one.high - one.value] for one in found]).T
    ax.errorbar(
        x, [one.value for one in found], yerr=np.maximum(np.nan_to_num(ends), 0), markersize=5, **style
    )


def _inverse_jsd(
    ax: Axes,
    x: Sequence[float],
    many: Sequence[Sequence[Evaluation]],
    *,
    rejection: float,
    style: Mapping[str, Any],
) -> None:
    found = [inverse_jsd(seeds, rejection) for seeds in many]
    bars(ax, x, [one for one, _ in found], **style)
    open_ = [k for k, (_, resolved) in enumerate(found) if not resolved]
    ax.plot(
        [x[k] for k in open_],
        [found[k][0].value for k in open_],
        linestyle="",
        marker=style["marker"],
        markersize=5,
        markerfacecolor="white",
        markeredgecolor=style["color"],
        zorder=4,
    )
    ax.set_yscale("log")


def inverse_jsd(seeds: Sequence[Evaluation], rejection: float) -> tuple[Measured, bool]:
    """1/JSD in 1/nats, and whether sculpting is resolved in most seeds.

    Over seeds: geometric mean and spread; of one seed its statistical interval, cut at ten times the value.
    """
    points = [one.at(rejection) for one in seeds]
    inverse = [point[1].jsd.scaled(_nats(point[1].log_base)).inverse() for point in points]
    resolved = sum(point[2] <= 0.05 for point in points) > len(points) / 2
    if len(inverse) == 1:
        one = inverse[0]
        return Measured(one.value, one.low, min(one.high, 10 * one.value)), resolved
    logs = np.log([one.value for one in inverse])
    centre, spread = float(logs.mean()), float(logs.std(ddof=1))
    return Measured(*(math.exp(centre + side * spread) for side in (0, -1, 1))), resolved


def _limit(ax: Axes, lines: Mapping[str, Sequence[Step]], *, rejection: float) -> None:
    """The band of 1/floor, the mean over all that was measured: it depends on how many events pass alone."""
    limits = [limit(one, rejection) for line in lines.values() for step in line for one in step.seeds]
    middle, low, high = (float(np.exp(np.mean(np.log(side)))) for side in zip(*limits, strict=True))
    ax.axhspan(low, high, color="0.6", alpha=0.35, linewidth=0, zorder=0)
    ax.axhline(middle, color="0.25", linewidth=1, linestyle="--", zorder=1, label="statistical limit")


def limit(one: Evaluation, rejection: float) -> tuple[float, float, float]:
    """1/floor in 1/nats with its 68.3 %: what a tagger without sculpting reads on this sample."""
    found = one.at(rejection)[1]
    scale = _nats(found.log_base)
    low, high = found.floor_interval
    return 1 / (found.floor * scale), 1 / (high * scale), 1 / max(low * scale, 1e-12)


def _nats(log_base: str) -> float:
    return math.log(2) if log_base == "2" else 1.0


def _middle(measured: Sequence[Measured]) -> Measured:
    """Mean and spread over the seeds; one seed with its own interval."""
    return measured[0] if len(measured) == 1 else _spread([one.value for one in measured])


def _spread(values: Sequence[float]) -> Measured:
    found = over_seeds(values)
    std = found.std or 0.0
    return Measured(found.mean, found.mean - std, found.mean + std, std)


@styled
def pareto(
    series: Mapping[str, Sequence[tuple[str, Sequence[Evaluation]]]],
    *,
    rejection: float,
    against: str = "auc",
) -> Figure:
    """1/JSD at one rejection against AUC, or against signal efficiency there; up and to the right leads.

    series: name -> (label, one evaluation per seed); points of one series are joined, such as a scan's.
    against: 'auc' or 'efficiency'.  The thick grey line is the front: what no other point beats in both,
    where all that stand at the statistical limit count as equal in 1/JSD.  Open: no sculpting is resolved.
    """
    points = [(name, label, seeds) for name, row in series.items() for label, seeds in row if seeds]
    if not points:
        raise InputError("pareto: nothing was measured; give at least one tagger")
    many = len(series) > MANY
    drawn = figure(8.6 if many else 6.4, 4.8)
    ax = drawn.subplots()
    found = {
        (name, label): (_across(seeds, rejection, against), *inverse_jsd(seeds, rejection))
        for name, label, seeds in points
    }
    for number, (name, row) in enumerate(series.items()):
        made = [(label, *found[name, label]) for label, seeds in row if seeds]
        style: dict[str, Any] = {
            "color": COLOURS[number % len(COLOURS)],
            "marker": MARKERS[(number + number // len(COLOURS)) % len(MARKERS)],
        }
        line = LINES[number % len(LINES)]
        ax.plot(
            [one[1].value for one in made],
            [one[2].value for one in made],
            color=style["color"],
            linewidth=1,
            linestyle=line,
        )
        for place, (label, x, y, resolved) in enumerate(made):
            _point(ax, x, y, resolved, style, name=name if place == 0 else "")
            if len(made) > 1:
                offset: dict[str, Any] = {"xytext": (5, 4), "textcoords": "offset points", "fontsize": 7.5}
                ax.annotate(label, (x.value, y.value), color="0.25", **offset)
    limits = [limit(one, rejection) for _, _, seeds in points for one in seeds]
    middle, low, high = (float(np.exp(np.mean(np.log(side)))) for side in zip(*limits, strict=True))
    ax.axhspan(low, high, color="0.6", alpha=0.35, linewidth=0, zorder=0)
    ax.axhline(middle, color="0.25", linewidth=1, linestyle="--", zorder=1, label="statistical limit")
    ax.set_yscale("log")
    ax.margins(x=0.12, y=0.12)
    _front(ax, [(x.value, y.value if resolved else middle) for x, y, resolved in found.values()])
    _plain_numbers(ax)
    title = "AUC" if against == "auc" else f"Signal efficiency at {100 * rejection:g} % rejection"
    ax.set_xlabel(title)
    ax.set_ylabel(rf"1/JSD at {100 * rejection:g} % rejection [nats$^{{-1}}$]")
    if many:
        ax.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=7.5, frameon=False)
    else:
        ax.legend(loc="best", frameon=True, framealpha=0.9, edgecolor="none")
    return drawn


def _across(seeds: Sequence[Evaluation], rejection: float, against: str) -> Measured:
    return _middle([one.auc if against == "auc" else one.at(rejection)[0].efficiency for one in seeds])


def _point(
    ax: Axes, x: Measured, y: Measured, resolved: bool, style: Mapping[str, Any], *, name: str
) -> None:
    ax.errorbar(
        [x.value],
        [y.value],
        xerr=[[max(x.value - x.low, 0)], [max(x.high - x.value, 0)]],
        yerr=[[max(y.value - y.low, 0)], [max(y.high - y.value, 0)]],
        markerfacecolor=style["color"] if resolved else "white",
        markersize=6,
        linestyle="",
        linewidth=0.9,
        label=name or None,
        zorder=3,
        **style,
    )


def _front(ax: Axes, points: Sequence[tuple[float, float]]) -> None:
    """From the left end of the axes over the best points down to their lower end."""
    best = front(points)
    (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    x = [left, *(points[k][0] for k in best), points[best[-1]][0]]
    y = [points[best[0]][1], *(points[k][1] for k in best), bottom]
    ax.step(x, y, where="pre", color="0.6", linewidth=4, alpha=0.5, zorder=0.8, label="front")
    ax.set_xlim(left, right)
    ax.set_ylim(bottom, top)


def _plain_numbers(ax: Axes) -> None:
    """On a logarithmic axis numbers without powers; where it is short, between the decades as well."""
    ax.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    low, high = ax.get_ylim()
    ax.yaxis.set_minor_formatter(StrMethodFormatter("{x:g}") if high / low < 9 else NullFormatter())


def front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Which points no other beats in both coordinates, by rising first coordinate."""
    found, most = [], -math.inf
    for k in sorted(range(len(points)), key=lambda k: points[k], reverse=True):
        if points[k][1] > most:
            found.append(k)
            most = points[k][1]
    return found[::-1]
