"""Codes of groups and instances: figures of many trainings as boxes, and translated groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hepdecorr.errors import InputError
from hepdecorr.validation.measures.numbers import Array, Measured
from hepdecorr.validation.plots.style import COLOURS, MARKERS, figure, grid, styled

BETTER = {-1: "lower is better", 1: "higher is better", 0: ""}
_JITTER = 0.18


class Panel(NamedTuple):
    """One figure: its title, which way is better (-1, 1, 0), of each tagger's trainings, and its floor."""

    title: str
    better: int
    values: Mapping[str, Sequence[Measured]]
    floor: float | None = None


class Moved(NamedTuple):
    """Values of one feature in a source and in a target group, and of the source's events translated."""

    source: Array
    target: Array
    true: Array
    made: Array


@styled
def boxes(panels: Sequence[Panel], *, titles: Mapping[str, str] | None = None) -> Figure:
    """One panel a figure, one box a tagger (figures 4 to 6 of the context-aware VAE's paper)."""
    if not panels:
        raise InputError("boxes: no figure was measured; give at least one")
    taggers = list(dict.fromkeys(name for panel in panels for name in panel.values))
    drawn, axes = grid(
        len(panels), width=3.0, height=0.9 + 0.33 * len(taggers), columns=min(len(panels), 3), share=False
    )
    for number, (ax, panel) in enumerate(zip(axes, panels, strict=True)):
        for row, name in enumerate(taggers):
            _box(ax, row, panel.values.get(name, ()))
        if panel.floor is not None:
            ax.axvline(panel.floor, color="0.35", linestyle=":", linewidth=1.2, zorder=0)
        ax.set_title(panel.title, loc="left", fontsize=9)
        ax.set_xlabel(BETTER[panel.better], fontsize=8.5)
        ax.set_ylim(len(taggers) - 0.4, -0.6)
        shown = [(titles or {}).get(name, name) for name in taggers]
        ax.set_yticks(range(len(taggers)), shown if number % 3 == 0 else [""] * len(taggers))
        ax.tick_params(axis="y", which="minor", length=0)
        ax.xaxis.set_tick_params(labelbottom=True)
    return drawn


def _box(ax: Axes, row: int, found: Sequence[Measured]) -> None:
    values = np.array([one.value for one in found if np.isfinite(one.value)])
    colour = COLOURS[row % len(COLOURS)]
    if len(values) == 1:
        one = found[0]
        ends = [[max(one.value - one.low, 0)], [max(one.high - one.value, 0)]]
        ax.errorbar(values, [row], xerr=np.nan_to_num(ends), color=colour, marker="o", linestyle="none")
    elif len(values):
        ax.boxplot(
            values,
            positions=[row],
            orientation="horizontal",
            widths=0.6,
            manage_ticks=False,
            showfliers=False,
            medianprops={"color": "black", "linewidth": 1.4},
            boxprops={"color": colour},
            whiskerprops={"color": colour},
            capprops={"color": colour},
        )
        place = row + np.linspace(-_JITTER, _JITTER, len(values))
        ax.plot(
            values, place, linestyle="none", marker=MARKERS[row % len(MARKERS)], color=colour, markersize=2.5
        )


@styled
def translations(
    found: Mapping[str, Sequence[Moved]], *, feature: str, titles: Mapping[str, str] | None = None
) -> Figure:
    """One row a tagger, one panel a pair of groups (figure 3 of the context-aware VAE's paper)."""
    if not found or not all(found.values()):
        raise InputError("translations: no translated groups; give at least one pair for each tagger")
    across = max(len(pairs) for pairs in found.values())
    drawn = figure(2.4 * across + 0.8, 2.5 * len(found) + 0.5)
    axes = drawn.subplots(len(found), across, squeeze=False, sharex=True, sharey="col")
    kinds = ("source", "target", "true", "made")
    for row, (name, pairs) in enumerate(found.items()):
        for column, ax in enumerate(axes[row]):
            if column >= len(pairs):
                ax.set_visible(False)
                continue
            pair = pairs[column]
            for place, kind in enumerate(kinds):
                values = getattr(pair, kind)
                look = {"color": COLOURS[place], "marker": MARKERS[place], "linestyle": "none"}
                ax.plot(np.full(len(values), place), values, markersize=3.5, alpha=0.6, **look)
            # What belongs together, of the truth and of the tagger.
            for true, made in zip(pair.true, pair.made, strict=True):
                ax.plot([2, 3], [true, made], color="0.6", linewidth=0.5, zorder=0)
            ax.set_xlim(-0.5, 3.5)
            ax.set_xticks(range(len(kinds)), kinds, fontsize=8)
            ax.minorticks_off()
        axes[row][0].set_title((titles or {}).get(name, name), loc="left", fontsize=9)
        axes[row][0].set_ylabel(feature)
    return drawn
