"""The nuisance's spectrum before and after the cut: what sculpting looks like."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import hist
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hepdecorr.errors import InputError
from hepdecorr.validation.measures.numbers import Array
from hepdecorr.validation.plots.style import BEFORE, COLOURS, MARKERS, axis_label, figure, look, steps, styled

CLASSES = {0: "Background", 1: "Signal"}


@dataclass(frozen=True)
class Spectrum:
    """Contents and variances of one histogram."""

    edges: Array
    values: Array
    variances: Array

    @property
    def shape(self) -> Array:
        """Contents normalised to one."""
        return np.asarray(self.values / max(self.values.sum(), np.finfo(float).tiny))

    @property
    def error(self) -> Array:
        """Statistical error of `shape`."""
        return np.asarray(np.sqrt(self.variances) / max(self.values.sum(), np.finfo(float).tiny))

    @property
    def centres(self) -> Array:
        return np.asarray((self.edges[:-1] + self.edges[1:]) / 2)

    def ratio(self, other: Spectrum) -> tuple[Array, Array]:
        """Ratio of the shapes and its error; NaN where either is empty."""
        filled = (self.values > 0) & (other.values > 0)
        with np.errstate(invalid="ignore", divide="ignore"):
            value = self.shape / other.shape
            error = value * np.sqrt(self.variances / self.values**2 + other.variances / other.values**2)
        return np.where(filled, value, np.nan), np.where(filled, error, np.nan)

    def rebinned(self, by: int) -> Spectrum:
        """Every `by` bins joined; as it is where they do not divide."""
        if by < 2 or len(self.values) % by:
            return self
        joined = (np.asarray(column).reshape(-1, by).sum(axis=1) for column in (self.values, self.variances))
        return Spectrum(self.edges[::by], *joined)


def spectrum(
    filled: hist.Hist[Any],
    *,
    tagger: str,
    category: str,
    datasets: Sequence[str],
    systematic: str = "nominal",
) -> Spectrum:
    """One spectrum of a sculpting histogram, summed over datasets; InputError names what is missing.

    filled: axes dataset, tagger, category (StrCategory) and the nuisance, Weight storage; with an axis
    systematic too, one of these. Events outside the axis are left out, as in the JSD.
    """
    asked: dict[str, Sequence[str]] = {"tagger": [tagger], "category": [category], "dataset": datasets}
    place: dict[str, Any] = {"tagger": tagger, "category": category}
    if "systematic" in filled.axes.name:
        asked["systematic"], place["systematic"] = [systematic], systematic
    require(filled, **asked)
    where: list[Any] = [{**place, "dataset": name} for name in datasets]
    rows: list[Any] = [filled[one] for one in where]
    edges = np.asarray(rows[0].axes[0].edges, dtype=np.float64)
    values = np.sum([row.values() for row in rows], axis=0)
    return Spectrum(edges, values, np.sum([row.variances() for row in rows], axis=0))


def require(filled: hist.Hist[Any], **asked: Sequence[str]) -> None:
    """InputError unless the axes of names hold what is asked, by axis, and something is asked of each."""
    for name, wanted in asked.items():
        known = list(filled.axes[name])
        missing = [one for one in wanted if one not in known]
        if missing or not wanted:
            raise InputError(f"histogram: no {name} {', '.join(missing)!r}; it has {', '.join(known)}")


def rejections(filled: hist.Hist[Any]) -> list[float]:
    """The working points of a sculpting histogram, from its categories 'pass 0.95'."""
    return sorted(float(name.split()[1]) for name in filled.axes["category"] if name.startswith("pass "))


@styled
def sculpting_spectra(
    filled: hist.Hist[Any],
    *,
    tagger: str,
    labels: Mapping[str, int],
    points: Sequence[float] | None = None,
    title: str = "",
    nuisance: str = "",
    unit: str = "",
) -> Figure:
    """Spectra before and after cuts at several background rejections, with the ratio pass / fail below.

    filled: see `spectrum`; labels: dataset -> 0 (background) or 1 (signal); points: background rejections, by
    default at most three of those filled. A background ratio flat at one is what 'no sculpting' looks like.
    Ratios join two bins where there are many.
    """
    chosen = some(rejections(filled)) if points is None else list(points)
    present = [label for label in (0, 1) if label in labels.values()]
    drawn = figure(4.6 * len(present) + 0.2, 5.2)
    axes = drawn.subplots(2, len(present), squeeze=False, sharex=True, height_ratios=(2.4, 1))
    for column, label in enumerate(present):
        datasets = [name for name, value in labels.items() if value == label]
        upper, lower = axes[0, column], axes[1, column]
        before = spectrum(filled, tagger=tagger, category="before", datasets=datasets)
        draw_before(upper, before, label="before")
        other = "fail" if label == 0 else "before"
        for number, point in enumerate(chosen):
            category = f"{other} {point:g}" if label == 0 else other
            passing = spectrum(filled, tagger=tagger, category=f"pass {point:g}", datasets=datasets)
            reference = spectrum(filled, tagger=tagger, category=category, datasets=datasets)
            draw_after(upper, passing, number, label=f"after {100 * point:g} % rejection")
            draw_ratio(lower, passing, reference, number, of=len(chosen))
        lower.set_ylabel(f"pass / {other}", loc="center")
        _finish(upper, before, title=f"{CLASSES[label]}{', ' + title if title else ''}")
        lower.axhline(1, color="0.4", linewidth=0.8)
        lower.set_xlabel(axis_label(nuisance or filled.axes[-1].label, unit))
        lower.set_xlim(before.edges[0], before.edges[-1])
    axes[0, 0].set_ylabel(per_bin(filled, unit))
    drawn.align_ylabels()
    return drawn


@styled
def overview(
    filled: hist.Hist[Any],
    *,
    labels: Mapping[str, int],
    rejection: float,
    taggers: Sequence[str] | None = None,
    titles: Mapping[str, str] | None = None,
    notes: Mapping[str, str] | None = None,
    nuisance: str = "",
    unit: str = "",
) -> Figure:
    """Taggers side by side: background (above) and signal (below) before and after one rejection.

    notes: a line per tagger for its background panel, for instance the verdict. At most four taggers a row.
    """
    names = list(filled.axes["tagger"]) if taggers is None else list(taggers)
    present = [label for label in (0, 1) if label in labels.values()]
    across = min(len(names), 4)
    blocks = math.ceil(len(names) / across)
    heights = [2.6 if label == 0 else 1.7 for label in present] * blocks
    drawn = figure(2.75 * across + 0.5, sum(heights) + 0.5)
    axes = drawn.subplots(
        len(heights), across, squeeze=False, sharex=True, sharey="row", height_ratios=heights
    )
    for spare in range(len(names), across * blocks):
        for row in range(len(present)):
            axes[(spare // across) * len(present) + row, spare % across].set_visible(False)
    for number, name in enumerate(names):
        for row, label in enumerate(present):
            ax = axes[(number // across) * len(present) + row, number % across]
            datasets = [dataset for dataset, value in labels.items() if value == label]
            before = spectrum(filled, tagger=name, category="before", datasets=datasets)
            after = spectrum(filled, tagger=name, category=f"pass {rejection:g}", datasets=datasets)
            draw_before(ax, before, label=f"{CLASSES[label].lower()}, before")
            draw_after(ax, after, label, label=f"after {100 * rejection:g} % rejection")
            _finish(ax, before, title=(titles or {}).get(name, name) if row == 0 else "")
            _panel_labels(
                ax, first=number % across == 0, last=row == len(present) - 1 and number + across >= len(names)
            )
            if row == 0 and notes and name in notes:
                ax.text(0.04, 0.76, notes[name], transform=ax.transAxes, fontsize=7.5, va="top", wrap=True)
    if notes and 0 in present:
        # Panels of a row share their scale: room above the highest spectrum for what is said of it.
        for block in range(blocks):
            ax = axes[block * len(present), 0]
            ax.set_ylim(0, 1.3 * ax.get_ylim()[1])
    for ax in axes[-1]:
        ax.set_xlabel(axis_label(nuisance or filled.axes[-1].label, unit))
    axes[0, 0].set_ylabel(per_bin(filled, unit))
    return drawn


def _panel_labels(ax: Axes, *, first: bool, last: bool) -> None:
    ax.tick_params(labelleft=first, labelbottom=last)


def draw_before(ax: Axes, spectrum: Spectrum, *, label: str) -> None:
    ax.stairs(spectrum.shape, spectrum.edges, fill=True, color=BEFORE, label=label)
    steps(ax, spectrum.edges, spectrum.shape, color="0.45", linewidth=0.8)


def draw_after(ax: Axes, after: Spectrum, number: int, *, label: str) -> None:
    style = look(number)
    steps(ax, after.edges, after.shape, **style)
    ax.errorbar(
        after.centres,
        after.shape,
        yerr=after.error,
        fmt=MARKERS[number % len(MARKERS)],
        markersize=2.6,
        color=style["color"],
        linewidth=0.7,
        label=label,
    )


def draw_ratio(ax: Axes, passing: Spectrum, reference: Spectrum, number: int, *, of: int) -> None:
    by = 2 if len(passing.values) > 30 else 1
    passing = passing.rebinned(by)
    value, error = passing.ratio(reference.rebinned(by))
    shift = (number - (of - 1) / 2) * 0.2 * np.diff(passing.edges)
    ax.errorbar(
        passing.centres + shift,
        value,
        yerr=error,
        fmt=MARKERS[number % len(MARKERS)],
        color=COLOURS[number % len(COLOURS)],
        markersize=2.8,
        linewidth=0.8,
    )
    # One wild, nearly empty bin must not flatten all the others.
    good = np.isfinite(value) & (error < 0.6)
    reach = max(0.25, 1.15 * float(np.max(np.abs(value[good] - 1) + error[good]))) if good.any() else 1.0
    low, high = ax.get_ylim() if number else (1.0, 1.0)
    ax.set_ylim(max(min(low, 1 - reach), 0.0), min(max(high, 1 + reach), 8.0))


def _finish(ax: Axes, before: Spectrum, *, title: str) -> None:
    ax.set_xlim(before.edges[0], before.edges[-1])
    ax.set_title(title, loc="left")
    _, high = ax.dataLim.intervaly
    ax.set_ylim(0, max(1.35 * high, ax.get_ylim()[1]) if high > 0 else 1)
    ax.legend(loc="upper left")


def per_bin(filled: hist.Hist[Any], unit: str) -> str:
    """Label of an axis of shares of events."""
    width = float(np.diff(filled.axes[-1].edges)[0])
    if unit == "GeV" and width < 0.1:
        width, unit = 1000 * width, "MeV"
    return f"Fraction of events / {width:.3g} {unit}".rstrip()


def some(points: list[float]) -> list[float]:
    """At most three working points: the ends and the middle."""
    return points if len(points) <= 3 else [points[0], points[len(points) // 2], points[-1]]


__all__ = ["Spectrum", "overview", "rejections", "sculpting_spectra", "spectrum"]
