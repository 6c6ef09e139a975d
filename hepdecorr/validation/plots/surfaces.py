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
from hepdecorr.validation.measures.events import checked
from hepdecorr.validation.measures.numbers import Array, Measured
from hepdecorr.validation.measures.slices import CLASSES, InSlices, Slices
from hepdecorr.validation.plots.scores import Scores
from hepdecorr.validation.plots.style import (
    COLOURS,
    LINES,
    MARKERS,
    axis_label,
    figure,
    grid,
    legend_above,
    look,
    styled,
)

POINTS = 120  # drawn of each bin of the nuisance
LEVELS = np.linspace(0, 1, 11)


class Plane(NamedTuple):
    """The plane of an analysis with two features: logits on a grid, and some events."""

    x: Array  # (nx,), ascending
    y: Array  # (ny,)
    logits: Mapping[str, Array]  # tagger -> (ny, nx)
    points: Array  # (events, 2)
    label: Array  # (events,)
    nuisances: Mapping[str, Array]  # name -> (events,)
    titles: tuple[str, str] = ("", "")


@styled
def surface(plane: Plane, *, nuisance: str, slices: Slices | None = None, title: str = "") -> Figure:
    """Each tagger's score over the plane of its two features, and events by class and bin of the nuisance.

    Lines join points of equal score, every 0.1.  Filled markers are signal, open ones background; their
    shape and colour tell the bin.  title: of the nuisance.
    """
    if not plane.logits:
        raise InputError("surface: no taggers given")
    drawn, axes = grid(len(plane.logits), width=3.2, height=3.2)
    for ax, (name, logit) in zip(axes, plane.logits.items(), strict=True):
        score = expit(logit)
        # Half of the greys: the points have to stand out from them.
        ax.contourf(plane.x, plane.y, score, levels=LEVELS, cmap="Greys", vmin=-0.1, vmax=2.2)
        if np.ptp(score) > 0:
            lines = ax.contour(plane.x, plane.y, score, levels=LEVELS[1:-1], colors="0.25", linewidths=0.7)
            ax.clabel(lines, levels=LEVELS[1:-1:2], fontsize=7, fmt="%g")
        _points(ax, plane, plane.nuisances[nuisance], slices)
        ax.set(xlim=plane.x[[0, -1]], ylim=plane.y[[0, -1]])
        ax.set_title(name, loc="left")
        ax.set_xlabel(plane.titles[0])
    axes[0].set_ylabel(plane.titles[1])
    handles = [_key("0.3", "o", open_=True, label="background"), _key("0.3", "o", label="signal")]
    for number, name in enumerate(slices.titles if slices else ()):
        handles.append(_key(_shade(number, slices), MARKERS[number % len(MARKERS)], label=f"{title} {name}"))
    drawn.legend(handles=handles, loc="outside upper center", ncols=min(len(handles), 4))
    return drawn


def _points(ax: Axes, plane: Plane, nuisance: Array, slices: Slices | None) -> None:
    place = slices.places(nuisance) if slices else np.zeros(len(nuisance), dtype=np.int64)
    for number in range(len(slices.titles) if slices else 1):
        colour = _shade(number, slices)
        own = np.flatnonzero(place == number)[:POINTS]
        for value in (0, 1):
            shown = plane.points[own[plane.label[own] == value]]
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


def _shade(number: int, slices: Slices | None) -> Any:
    """Dark to light along the nuisance, so that grey tells it, too."""
    count = len(slices.titles) if slices else 1
    return mpl.colormaps["plasma"](0.8 * number / max(count - 1, 1))


def _key(colour: Any, marker: str, *, label: str, open_: bool = False) -> Line2D:
    face = "none" if open_ else colour
    return Line2D([], [], linestyle="", marker=marker, color=colour, markerfacecolor=face, label=label)


@styled
def density_by_nuisance(
    scores: Mapping[str, Scores], *, slices: Slices, title: str = "", bins: int = 40
) -> Figure:
    """The score's density in each bin of the nuisance: columns are taggers, rows all events and each class.

    Curves that lie on each other say that the score does not tell the bin.  A bin with fewer than ten events
    of the row is left out.  title: of the nuisance.
    """
    drawn = figure(2.7 * len(scores) + 0.5, 5.8)
    axes = drawn.subplots(3, len(scores), squeeze=False, sharex=True)
    for column, (name, one) in enumerate(scores.items()):
        logit, label, z, w = checked(one.weight, logit=one.logit, label=one.label, nuisance=one.nuisance)
        place, score = slices.places(z), expit(logit)
        for ax, (kind, value) in zip(axes[:, column], CLASSES.items(), strict=True):
            of = np.ones(len(score), dtype=np.bool_) if value is None else label == value
            _by_slice(ax, score[of], place[of], w[of], slices, title=title, bins=bins)
            ax.set_ylim(bottom=0)
            if column == 0:
                ax.set_ylabel("all events" if value is None else kind, loc="center")
        axes[0, column].set_title(name, loc="left")
        axes[-1, column].set_xlabel("Score")
    axes[0, 0].set_xlim(0, 1)
    legend_above(drawn, max(axes.flat, key=lambda ax: len(ax.get_legend_handles_labels()[0])))
    return drawn


def _by_slice(
    ax: Axes, score: Array, place: npt.NDArray[Any], w: Array, slices: Slices, *, title: str, bins: int
) -> None:
    for number, name in enumerate(slices.titles):
        own = place == number
        if np.count_nonzero(own) < 10:
            continue
        values, edges = np.histogram(score[own], bins=bins, range=(0, 1), weights=w[own], density=True)
        ax.stairs(
            values,
            edges,
            baseline=None,
            color=_shade(number, slices),
            linestyle=LINES[number % len(LINES)],
            label=f"{title} {name}",
        )


@styled
def in_slices(
    taggers: Mapping[str, InSlices], *, slices: Slices, nuisance: str = "", unit: str = ""
) -> Figure:
    """AUC, accuracy and cross-entropy of every tagger in each bin of the nuisance, with statistical errors.

    taggers: name -> its figures in `slices`.  A bin with one class alone has no AUC.
    """
    drawn = figure(8.6, 3.0)
    axes = drawn.subplots(1, 3, sharex=True)
    width = float(np.diff(slices.edges).min())
    for ax, (key, label) in zip(axes, PANELS.items(), strict=True):
        for number, (name, one) in enumerate(taggers.items()):
            shift = 0.08 * width * (number - (len(taggers) - 1) / 2)
            _series(ax, slices.centres + shift, [getattr(part, key) for part in one.slices], number, name)
        ax.set_ylabel(label)
        ax.set_xlabel(axis_label(nuisance, unit))
        ax.set_xlim(slices.edges[0], slices.edges[-1])
    legend_above(drawn, axes[1])
    return drawn


PANELS = {"auc": "AUC", "accuracy": "Accuracy", "cross_entropy": "Cross-entropy [nats]"}


def _series(ax: Axes, x: Array, measured: list[Measured | None], number: int, name: str) -> None:
    seen = [(at, one) for at, one in zip(x, measured, strict=True) if one is not None]
    heights = np.array([one.value for _, one in seen])
    bars = np.abs([[one.value - one.low for _, one in seen], [one.high - one.value for _, one in seen]])
    ax.errorbar(
        [at for at, _ in seen],
        heights,
        yerr=bars.reshape(2, -1),
        marker=MARKERS[number % len(MARKERS)],
        markerfacecolor=COLOURS[number % len(COLOURS)] if number % 2 == 0 else "white",
        label=name,
        **look(number),
    )
