"""The score over the plane of two features, and what it is in each bin of the nuisance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from scipy.special import expit

from hepdecorr.errors import InputError
from hepdecorr.evaluation.metrics.in_bins import CLASS_SELECTIONS, InBins, NuisanceBins
from hepdecorr.evaluation.plots.scores import TaggerScores
from hepdecorr.evaluation.plots.style import (
    COLOURS,
    LINE_STYLES,
    MARKERS,
    add_legend_above,
    axis_label,
    line_style,
    new_figure,
    panel_grid,
    with_style,
)
from hepdecorr.stats.arrays import validate_arrays
from hepdecorr.stats.results import Array, Estimate

MAX_EVENTS_PER_BIN = 120  # drawn of each bin of the nuisance
SCORE_LEVELS = np.linspace(0, 1, 11)


class DecisionSurface(NamedTuple):
    """The plane of an analysis with two features: logits on a grid, and some events."""

    x: Array  # (nx,), ascending
    y: Array  # (ny,)
    logits: Mapping[str, Array]  # tagger -> (ny, nx)
    points: Array  # (events, 2)
    label: Array  # (events,)
    nuisances: Mapping[str, Array]  # name -> (events,)
    titles: tuple[str, str] = ("", "")


@with_style
def plot_decision_surface(
    decision_surface: DecisionSurface,
    *,
    nuisance: str,
    nuisance_bins: NuisanceBins | None = None,
    title: str = "",
) -> Figure:
    """Each tagger's score over the plane of its two features, and events by class and bin of the nuisance.

    Lines join points of equal score, every 0.1.  Filled markers are signal, open ones background; their
    shape and colour tell the bin.  title: of the nuisance.
    """
    if not decision_surface.logits:
        raise InputError("surface: no taggers given")
    drawn, axes = panel_grid(len(decision_surface.logits), width=3.2, height=3.2)
    for ax, (name, logit) in zip(axes, decision_surface.logits.items(), strict=True):
        score = expit(logit)
        # Half of the greys: the points have to stand out from them.
        ax.contourf(
            decision_surface.x,
            decision_surface.y,
            score,
            levels=SCORE_LEVELS,
            cmap="Greys",
            vmin=-0.1,
            vmax=2.2,
        )
        if np.ptp(score) > 0:
            lines = ax.contour(
                decision_surface.x,
                decision_surface.y,
                score,
                levels=SCORE_LEVELS[1:-1],
                colors="0.25",
                linewidths=0.7,
            )
            ax.clabel(lines, levels=SCORE_LEVELS[1:-1:2], fontsize=7, fmt="%g")
        _draw_events(ax, decision_surface, decision_surface.nuisances[nuisance], nuisance_bins)
        ax.set(xlim=decision_surface.x[[0, -1]], ylim=decision_surface.y[[0, -1]])
        ax.set_title(name, loc="left")
        ax.set_xlabel(decision_surface.titles[0])
    axes[0].set_ylabel(decision_surface.titles[1])
    handles = [
        _legend_entry("0.3", "o", hollow=True, label="background"),
        _legend_entry("0.3", "o", label="signal"),
    ]
    for number, name in enumerate(nuisance_bins.titles if nuisance_bins else ()):
        handles.append(
            _legend_entry(
                _bin_colour(number, nuisance_bins), MARKERS[number % len(MARKERS)], label=f"{title} {name}"
            )
        )
    drawn.legend(handles=handles, loc="outside upper center", ncols=min(len(handles), 4))
    return drawn


def _draw_events(
    ax: Axes, decision_surface: DecisionSurface, nuisance: Array, nuisance_bins: NuisanceBins | None
) -> None:
    place = nuisance_bins.bin_indices(nuisance) if nuisance_bins else np.zeros(len(nuisance), dtype=np.int64)
    for number in range(len(nuisance_bins.titles) if nuisance_bins else 1):
        colour = _bin_colour(number, nuisance_bins)
        own = np.flatnonzero(place == number)[:MAX_EVENTS_PER_BIN]
        for value in (0, 1):
            shown = decision_surface.points[own[decision_surface.label[own] == value]]
            ax.plot(
                *shown.T,
                linestyle="",
                marker=MARKERS[number % len(MARKERS)],
                markersize=2.6,
                markeredgewidth=0.6,
                color=colour,
                markerfacecolor=colour if value else "none",
                rasterized=True,
            )


def _bin_colour(index: int, nuisance_bins: NuisanceBins | None) -> Any:
    """Dark to light along the nuisance, so that grey tells it, too."""
    count = len(nuisance_bins.titles) if nuisance_bins else 1
    return mpl.colormaps["plasma"](0.8 * index / max(count - 1, 1))


def _legend_entry(colour: Any, marker: str, *, label: str, hollow: bool = False) -> Line2D:
    face = "none" if hollow else colour
    return Line2D([], [], linestyle="", marker=marker, color=colour, markerfacecolor=face, label=label)


@with_style
def plot_density_by_nuisance(
    scores: Mapping[str, TaggerScores], *, nuisance_bins: NuisanceBins, title: str = "", bins: int = 40
) -> Figure:
    """The score's density in each bin of the nuisance: columns are taggers, rows all events and each class.

    Curves that lie on each other say that the score does not tell the bin.  A bin with fewer than ten events
    of the row is left out.  title: of the nuisance.
    """
    drawn = new_figure(2.7 * len(scores) + 0.5, 5.8)
    axes = drawn.subplots(3, len(scores), squeeze=False, sharex=True)
    for column, (name, one) in enumerate(scores.items()):
        logit, label, z, w = validate_arrays(
            one.weight, logit=one.logit, label=one.label, nuisance=one.nuisance
        )
        place, score = nuisance_bins.bin_indices(z), expit(logit)
        for ax, (kind, value) in zip(axes[:, column], CLASS_SELECTIONS.items(), strict=True):
            of = np.ones(len(score), dtype=np.bool_) if value is None else label == value
            _draw_bin_densities(ax, score[of], place[of], w[of], nuisance_bins, title=title, bins=bins)
            ax.set_ylim(bottom=0)
            if column == 0:
                ax.set_ylabel("all events" if value is None else kind, loc="center")
        axes[0, column].set_title(name, loc="left")
        axes[-1, column].set_xlabel("Score")
    axes[0, 0].set_xlim(0, 1)
    add_legend_above(drawn, max(axes.flat, key=lambda ax: len(ax.get_legend_handles_labels()[0])))
    return drawn


def _draw_bin_densities(
    ax: Axes,
    score: Array,
    bin_index: npt.NDArray[Any],
    w: Array,
    nuisance_bins: NuisanceBins,
    *,
    title: str,
    bins: int,
) -> None:
    for number, name in enumerate(nuisance_bins.titles):
        own = bin_index == number
        if np.count_nonzero(own) < 10:
            continue
        values, edges = np.histogram(score[own], bins=bins, range=(0, 1), weights=w[own], density=True)
        ax.stairs(
            values,
            edges,
            baseline=None,
            color=_bin_colour(number, nuisance_bins),
            linestyle=LINE_STYLES[number % len(LINE_STYLES)],
            label=f"{title} {name}",
        )


@with_style
def plot_metrics_in_bins(
    taggers: Mapping[str, InBins], *, nuisance_bins: NuisanceBins, nuisance: str = "", unit: str = ""
) -> Figure:
    """AUC, accuracy and cross-entropy of every tagger in each bin of the nuisance, with statistical errors.

    taggers: name -> its figures in `slices`.  A bin with one class alone has no AUC.
    """
    drawn = new_figure(8.6, 3.0)
    axes = drawn.subplots(1, 3, sharex=True)
    width = float(np.diff(nuisance_bins.edges).min())
    for ax, (key, label) in zip(axes, BIN_METRIC_LABELS.items(), strict=True):
        for number, (name, one) in enumerate(taggers.items()):
            shift = 0.08 * width * (number - (len(taggers) - 1) / 2)
            _draw_bin_metric(
                ax, nuisance_bins.centres + shift, [getattr(part, key) for part in one.bins], number, name
            )
        ax.set_ylabel(label)
        ax.set_xlabel(axis_label(nuisance, unit))
        ax.set_xlim(nuisance_bins.edges[0], nuisance_bins.edges[-1])
    add_legend_above(drawn, axes[1])
    return drawn


BIN_METRIC_LABELS = {"auc": "AUC", "accuracy": "Accuracy", "cross_entropy": "Cross-entropy [nats]"}


def _draw_bin_metric(ax: Axes, x: Array, estimates: list[Estimate | None], index: int, name: str) -> None:
    seen = [(at, one) for at, one in zip(x, estimates, strict=True) if one is not None]
    heights = np.array([one.value for _, one in seen])
    bars = np.abs([[one.value - one.low for _, one in seen], [one.high - one.value for _, one in seen]])
    ax.errorbar(
        [at for at, _ in seen],
        heights,
        yerr=bars.reshape(2, -1),
        marker=MARKERS[index % len(MARKERS)],
        markerfacecolor=COLOURS[index % len(COLOURS)] if index % 2 == 0 else "white",
        label=name,
        **line_style(index),
    )
