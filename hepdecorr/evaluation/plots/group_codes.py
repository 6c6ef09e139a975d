"""Codes of groups and instances: figures of many trainings as boxes, and translated groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hepdecorr.errors import InputError
from hepdecorr.evaluation.plots.style import COLOURS, MARKERS, new_figure, panel_grid, with_style
from hepdecorr.stats.results import Array, Estimate

DIRECTION_LABELS = {-1: "lower is better", 1: "higher is better", 0: ""}
_JITTER = 0.18


class BoxPanel(NamedTuple):
    """One figure: its title, which way is better (-1, 1, 0), of each tagger's trainings, and its floor."""

    title: str
    direction: int
    values: Mapping[str, Sequence[Estimate]]
    floor: float | None = None


class TranslatedGroup(NamedTuple):
    """Values of one feature in a source and in a target group, and of the source's events translated."""

    source: Array
    target: Array
    truth: Array
    predicted: Array


@with_style
def plot_box_panels(panels: Sequence[BoxPanel], *, titles: Mapping[str, str] | None = None) -> Figure:
    """One panel a figure, one box a tagger (figures 4 to 6 of the context-aware VAE's paper)."""
    if not panels:
        raise InputError("boxes: no figure was measured; give at least one")
    taggers = list(dict.fromkeys(name for panel in panels for name in panel.values))
    drawn, axes = panel_grid(
        len(panels),
        width=3.0,
        height=0.9 + 0.33 * len(taggers),
        columns=min(len(panels), 3),
        share_axes=False,
    )
    for number, (ax, panel) in enumerate(zip(axes, panels, strict=True)):
        for row, name in enumerate(taggers):
            _draw_box(ax, row, panel.values.get(name, ()))
        if panel.floor is not None:
            ax.axvline(panel.floor, color="0.35", linestyle=":", linewidth=1.2, zorder=0)
        ax.set_title(panel.title, loc="left", fontsize=9)
        ax.set_xlabel(DIRECTION_LABELS[panel.direction], fontsize=8.5)
        ax.set_ylim(len(taggers) - 0.4, -0.6)
        shown = [(titles or {}).get(name, name) for name in taggers]
        ax.set_yticks(range(len(taggers)), shown if number % 3 == 0 else [""] * len(taggers))
        ax.tick_params(axis="y", which="minor", length=0)
        ax.xaxis.set_tick_params(labelbottom=True)
    return drawn


def _draw_box(ax: Axes, row: int, estimates: Sequence[Estimate]) -> None:
    values = np.array([one.value for one in estimates if np.isfinite(one.value)])
    colour = COLOURS[row % len(COLOURS)]
    if len(values) == 1:
        one = estimates[0]
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


@with_style
def plot_translations(
    translated_groups: Mapping[str, Sequence[TranslatedGroup]],
    *,
    feature: str,
    titles: Mapping[str, str] | None = None,
) -> Figure:
    """One row a tagger, one panel a pair of groups (figure 3 of the context-aware VAE's paper)."""
    if not translated_groups or not all(translated_groups.values()):
        raise InputError("translations: no translated groups; give at least one pair for each tagger")
    across = max(len(pairs) for pairs in translated_groups.values())
    drawn = new_figure(2.4 * across + 0.8, 2.5 * len(translated_groups) + 0.5)
    axes = drawn.subplots(len(translated_groups), across, squeeze=False, sharex=True, sharey="col")
    kinds = ("source", "target", "truth", "predicted")
    for row, (name, pairs) in enumerate(translated_groups.items()):
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
            for true, made in zip(pair.truth, pair.predicted, strict=True):
                ax.plot([2, 3], [true, made], color="0.6", linewidth=0.5, zorder=0)
            ax.set_xlim(-0.5, 3.5)
            ax.set_xticks(range(len(kinds)), kinds, fontsize=8)
            ax.minorticks_off()
        axes[row][0].set_title((titles or {}).get(name, name), loc="left", fontsize=9)
        axes[row][0].set_ylabel(feature)
    return drawn
