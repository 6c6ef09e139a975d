"""The nuisance's spectrum before and after the cut: what sculpting looks like.

Background spectra of a few scores side by side: with and without outlier exposure, for instance.

What named shifts of the events do to the spectrum that a cut leaves.
"""

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
from hepdecorr.evaluation.plots.style import (
    BEFORE_CUT_COLOUR,
    COLOURS,
    MARKERS,
    add_legend_above,
    axis_label,
    draw_steps,
    line_style,
    new_figure,
    with_style,
)
from hepdecorr.stats.results import Array

__all__ = ["Spectrum", "filled_rejections", "plot_overview", "plot_sculpting_spectra", "select_spectrum"]


CLASS_TITLES = {0: "Background", 1: "Signal"}


@dataclass(frozen=True)
class Spectrum:
    """Contents and variances of one histogram."""

    edges: Array
    values: Array
    variances: Array

    @property
    def normalised_values(self) -> Array:
        """Contents normalised to one."""
        return np.asarray(self.values / max(self.values.sum(), np.finfo(float).tiny))

    @property
    def normalised_errors(self) -> Array:
        """Statistical error of `shape`."""
        return np.asarray(np.sqrt(self.variances) / max(self.values.sum(), np.finfo(float).tiny))

    @property
    def centres(self) -> Array:
        return np.asarray((self.edges[:-1] + self.edges[1:]) / 2)

    def ratio(self, other: Spectrum) -> tuple[Array, Array]:
        """Ratio of the shapes and its error; NaN where either is empty."""
        filled = (self.values > 0) & (other.values > 0)
        with np.errstate(invalid="ignore", divide="ignore"):
            value = self.normalised_values / other.normalised_values
            error = value * np.sqrt(self.variances / self.values**2 + other.variances / other.values**2)
        return np.where(filled, value, np.nan), np.where(filled, error, np.nan)

    def rebin(self, factor: int) -> Spectrum:
        """Every `by` bins joined; as it is where they do not divide."""
        if factor < 2 or len(self.values) % factor:
            return self
        joined = (
            np.asarray(column).reshape(-1, factor).sum(axis=1) for column in (self.values, self.variances)
        )
        return Spectrum(self.edges[::factor], *joined)


def select_spectrum(
    histogram: hist.Hist[Any],
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
    if "systematic" in histogram.axes.name:
        asked["systematic"], place["systematic"] = [systematic], systematic
    require_categories(histogram, **asked)
    where: list[Any] = [{**place, "dataset": name} for name in datasets]
    rows: list[Any] = [histogram[one] for one in where]
    edges = np.asarray(rows[0].axes[0].edges, dtype=np.float64)
    values = np.sum([row.values() for row in rows], axis=0)
    return Spectrum(edges, values, np.sum([row.variances() for row in rows], axis=0))


def require_categories(histogram: hist.Hist[Any], **required: Sequence[str]) -> None:
    """InputError unless the axes of names hold what is asked, by axis, and something is asked of each."""
    for name, wanted in required.items():
        known = list(histogram.axes[name])
        missing = [one for one in wanted if one not in known]
        if missing or not wanted:
            raise InputError(f"histogram: no {name} {', '.join(missing)!r}; it has {', '.join(known)}")


def filled_rejections(histogram: hist.Hist[Any]) -> list[float]:
    """The working points of a sculpting histogram, from its categories 'pass 0.95'."""
    return sorted(float(name.split()[1]) for name in histogram.axes["category"] if name.startswith("pass "))


@with_style
def plot_sculpting_spectra(
    histogram: hist.Hist[Any],
    *,
    tagger: str,
    labels: Mapping[str, int],
    rejections: Sequence[float] | None = None,
    title: str = "",
    nuisance: str = "",
    unit: str = "",
) -> Figure:
    """Spectra before and after cuts at several background rejections, with the ratio pass / fail below.

    filled: see `spectrum`; labels: dataset -> 0 (background) or 1 (signal); points: background rejections, by
    default at most three of those filled. A background ratio flat at one is what 'no sculpting' looks like.
    Ratios join two bins where there are many.
    """
    chosen = select_working_points(filled_rejections(histogram)) if rejections is None else list(rejections)
    present = [label for label in (0, 1) if label in labels.values()]
    drawn = new_figure(4.6 * len(present) + 0.2, 5.2)
    axes = drawn.subplots(2, len(present), squeeze=False, sharex=True, height_ratios=(2.4, 1))
    for column, label in enumerate(present):
        datasets = [name for name, value in labels.items() if value == label]
        upper, lower = axes[0, column], axes[1, column]
        before = select_spectrum(histogram, tagger=tagger, category="before", datasets=datasets)
        draw_before(upper, before, label="before")
        other = "fail" if label == 0 else "before"
        for number, point in enumerate(chosen):
            category = f"{other} {point:g}" if label == 0 else other
            passing = select_spectrum(histogram, tagger=tagger, category=f"pass {point:g}", datasets=datasets)
            reference = select_spectrum(histogram, tagger=tagger, category=category, datasets=datasets)
            draw_after(upper, passing, number, label=f"after {100 * point:g} % rejection")
            draw_ratio(lower, passing, reference, number, num_curves=len(chosen))
        lower.set_ylabel(f"pass / {other}", loc="center")
        _finish_panel(upper, before, title=f"{CLASS_TITLES[label]}{', ' + title if title else ''}")
        lower.axhline(1, color="0.4", linewidth=0.8)
        lower.set_xlabel(axis_label(nuisance or histogram.axes[-1].label, unit))
        lower.set_xlim(before.edges[0], before.edges[-1])
    axes[0, 0].set_ylabel(fraction_axis_label(histogram, unit))
    drawn.align_ylabels()
    return drawn


@with_style
def plot_overview(
    histogram: hist.Hist[Any],
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
    names = list(histogram.axes["tagger"]) if taggers is None else list(taggers)
    present = [label for label in (0, 1) if label in labels.values()]
    across = min(len(names), 4)
    blocks = math.ceil(len(names) / across)
    heights = [2.6 if label == 0 else 1.7 for label in present] * blocks
    drawn = new_figure(2.75 * across + 0.5, sum(heights) + 0.5)
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
            before = select_spectrum(histogram, tagger=name, category="before", datasets=datasets)
            after = select_spectrum(histogram, tagger=name, category=f"pass {rejection:g}", datasets=datasets)
            draw_before(ax, before, label=f"{CLASS_TITLES[label].lower()}, before")
            draw_after(ax, after, label, label=f"after {100 * rejection:g} % rejection")
            _finish_panel(ax, before, title=(titles or {}).get(name, name) if row == 0 else "")
            _set_tick_labels(
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
        ax.set_xlabel(axis_label(nuisance or histogram.axes[-1].label, unit))
    axes[0, 0].set_ylabel(fraction_axis_label(histogram, unit))
    return drawn


def _set_tick_labels(ax: Axes, *, first: bool, last: bool) -> None:
    ax.tick_params(labelleft=first, labelbottom=last)


def draw_before(ax: Axes, spectrum: Spectrum, *, label: str) -> None:
    ax.stairs(spectrum.normalised_values, spectrum.edges, fill=True, color=BEFORE_CUT_COLOUR, label=label)
    draw_steps(ax, spectrum.edges, spectrum.normalised_values, color="0.45", linewidth=0.8)


def draw_after(ax: Axes, spectrum: Spectrum, index: int, *, label: str) -> None:
    style = line_style(index)
    draw_steps(ax, spectrum.edges, spectrum.normalised_values, **style)
    ax.errorbar(
        spectrum.centres,
        spectrum.normalised_values,
        yerr=spectrum.normalised_errors,
        fmt=MARKERS[index % len(MARKERS)],
        markersize=2.6,
        color=style["color"],
        linewidth=0.7,
        label=label,
    )


def draw_ratio(ax: Axes, passing: Spectrum, reference: Spectrum, index: int, *, num_curves: int) -> None:
    by = 2 if len(passing.values) > 30 else 1
    passing = passing.rebin(by)
    value, error = passing.ratio(reference.rebin(by))
    shift = (index - (num_curves - 1) / 2) * 0.2 * np.diff(passing.edges)
    ax.errorbar(
        passing.centres + shift,
        value,
        yerr=error,
        fmt=MARKERS[index % len(MARKERS)],
        color=COLOURS[index % len(COLOURS)],
        markersize=2.8,
        linewidth=0.8,
    )
    # One wild, nearly empty bin must not flatten all the others.
    good = np.isfinite(value) & (error < 0.6)
    reach = max(0.25, 1.15 * float(np.max(np.abs(value[good] - 1) + error[good]))) if good.any() else 1.0
    low, high = ax.get_ylim() if index else (1.0, 1.0)
    ax.set_ylim(max(min(low, 1 - reach), 0.0), min(max(high, 1 + reach), 8.0))


def _finish_panel(ax: Axes, before: Spectrum, *, title: str) -> None:
    ax.set_xlim(before.edges[0], before.edges[-1])
    ax.set_title(title, loc="left")
    _, high = ax.dataLim.intervaly
    ax.set_ylim(0, max(1.35 * high, ax.get_ylim()[1]) if high > 0 else 1)
    ax.legend(loc="upper left")


def fraction_axis_label(histogram: hist.Hist[Any], unit: str) -> str:
    """Label of an axis of shares of events."""
    width = float(np.diff(histogram.axes[-1].edges)[0])
    if unit == "GeV" and width < 0.1:
        width, unit = 1000 * width, "MeV"
    return f"Fraction of events / {width:.3g} {unit}".rstrip()


def select_working_points(points: list[float]) -> list[float]:
    """At most three working points: the ends and the middle."""
    return points if len(points) <= 3 else [points[0], points[len(points) // 2], points[-1]]


@with_style
def plot_spectra_side_by_side(
    histogram: hist.Hist[Any],
    *,
    scores: Mapping[str, str],
    labels: Mapping[str, int],
    rejections: Sequence[float] | None = None,
    notes: Mapping[str, str] | None = None,
    nuisance: str = "",
    unit: str = "",
) -> Figure:
    """One column a score: background before and after cuts, and below what passes over what fails.

    filled: see `spectrum`; scores: name on the axis of taggers -> title; labels: dataset -> 0 or 1; points:
    background rejections, by default at most three of those filled; notes: by name, a line for its panel.
    """
    datasets = [name for name, value in labels.items() if value == 0]
    if not scores or not datasets:
        raise InputError("side_by_side: no scores or no background; give at least one of each")
    chosen = select_working_points(filled_rejections(histogram)) if rejections is None else list(rejections)
    drawn = new_figure(3.3 * len(scores) + 0.6, 5.0)
    axes = drawn.subplots(2, len(scores), squeeze=False, sharex=True, sharey="row", height_ratios=(2.2, 1))
    top, reach = 0.0, [1.0, 1.0]
    for column, (name, title) in enumerate(scores.items()):
        upper, lower = axes[0, column], axes[1, column]
        before = select_spectrum(histogram, tagger=name, category="before", datasets=datasets)
        draw_before(upper, before, label="before")
        top = max(top, float(before.normalised_values.max()))
        for number, point in enumerate(chosen):
            passing, failing = (
                select_spectrum(histogram, tagger=name, category=f"{which} {point:g}", datasets=datasets)
                for which in ("pass", "fail")
            )
            draw_after(upper, passing, number, label=f"after {100 * point:g} % rejection")
            draw_ratio(lower, passing, failing, number, num_curves=len(chosen))
            top = max(top, float(passing.normalised_values.max()))
            low, high = lower.get_ylim()
            reach = [min(reach[0], low), max(reach[1], high)]
        upper.set_title(title, loc="left")
        if notes and name in notes:
            about: dict[str, Any] = {"fontsize": 8, "ha": "right", "va": "top"}
            upper.text(0.96, 0.96, notes[name], transform=upper.transAxes, **about)
        lower.axhline(1, color="0.4", linewidth=0.8)
        lower.set_xlabel(axis_label(nuisance or histogram.axes[-1].label, unit))
        lower.set_xlim(before.edges[0], before.edges[-1])
    axes[0, 0].set_ylim(0, 1.5 * top)
    # Panels share their scale, so that what sculpts is seen to.
    axes[1, 0].set_ylim(*reach)
    axes[0, 0].set_ylabel(fraction_axis_label(histogram, unit))
    axes[1, 0].set_ylabel("pass / fail", loc="center")
    add_legend_above(drawn, axes[0, 0])
    return drawn


NOMINAL = "nominal"
_REBIN_FACTOR = 2  # bins joined in the ratio
_MAX_RATIO_ERROR = 0.4  # relative error beyond which a ratio is not drawn


def systematic_names(histogram: hist.Hist[Any]) -> list[str]:
    """The shifts of a sculpting histogram, without the nominal one; none without an axis `systematic`."""
    if "systematic" not in histogram.axes.name:
        return []
    return [name for name in histogram.axes["systematic"] if name != NOMINAL]


@with_style
def plot_systematic_spectra(
    histogram: hist.Hist[Any],
    *,
    tagger: str,
    labels: Mapping[str, int],
    rejection: float,
    systematics: Sequence[str] | None = None,
    title: str = "",
    nuisance: str = "",
    unit: str = "",
) -> Figure:
    """The spectra after one cut, nominal and shifted, with shifted / nominal below; background and signal.

    filled: axes dataset, systematic, tagger, category and the nuisance. The content is not normalised: a
    shift of the efficiency shows as well as one of the shape. Band: the nominal statistical error; the
    shifted events are the same ones, so that shifts far smaller than it may mean something.
    """
    chosen = systematic_names(histogram) if systematics is None else list(systematics)
    if not chosen:
        raise InputError(
            "shifted_spectra: the histogram has no shifts; evaluate with 'systematics' in the config"
        )
    present = [label for label in (0, 1) if label in labels.values()]
    drawn = new_figure(4.6 * len(present) + 0.2, 5.0)
    axes = drawn.subplots(2, len(present), squeeze=False, sharex=True, height_ratios=(2.0, 1.2))
    for (upper, lower), label in zip(axes.T, present, strict=True):
        settings: dict[str, Any] = {"tagger": tagger, "category": f"pass {rejection:g}"}
        settings["datasets"] = [name for name, value in labels.items() if value == label]
        nominal = select_spectrum(histogram, **settings)
        whole = max(float(nominal.values.sum()), np.finfo(float).tiny)
        upper.stairs(
            nominal.values / whole, nominal.edges, fill=True, color=BEFORE_CUT_COLOUR, label="nominal"
        )
        coarse = nominal.rebin(_REBIN_FACTOR)
        error = _relative_errors(coarse)
        reach = 0.15
        lower.stairs(1 + error, coarse.edges, baseline=1 - error, fill=True, color="0.85")
        for number, name in enumerate(chosen):
            shifted = select_spectrum(histogram, systematic=name, **settings)
            draw_steps(upper, shifted.edges, shifted.values / whole, label=name, **line_style(number))
            with np.errstate(divide="ignore", invalid="ignore"):
                ratio = shifted.rebin(_REBIN_FACTOR).values / coarse.values
            ratio = np.where(np.isfinite(error), ratio, np.nan)
            draw_steps(lower, coarse.edges, ratio, **line_style(number))
            reach = max(reach, _ratio_axis_range(ratio, error))
        lower.axhline(1, color="0.4", linewidth=0.8)
        lower.set_ylim(1 - min(reach, 0.95), 1 + reach)
        lower.set_ylabel("shifted / nominal", loc="center")
        lower.set_xlabel(axis_label(nuisance or histogram.axes[-1].label, unit))
        lower.set_xlim(nominal.edges[0], nominal.edges[-1])
        upper.set_ylim(0, 1.4 * max(float(nominal.values.max()) / whole, upper.get_ylim()[1] / 1.05))
        upper.set_title(f"{CLASS_TITLES[label]}{', ' + title if title else ''}", loc="left")
        upper.legend(loc="upper right", ncols=2 if len(chosen) > 3 else 1)
    axes[0, 0].set_ylabel(f"After {100 * rejection:g} % rejection / nominal sum")
    drawn.align_ylabels()
    return drawn


def _relative_errors(nominal: Spectrum) -> Array:
    """Relative errors; NaN where they are so large that a ratio says nothing."""
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.sqrt(nominal.variances) / nominal.values
    return np.where(error < _MAX_RATIO_ERROR, error, np.nan)


def _ratio_axis_range(ratio: Array, error: Array) -> float:
    """How far the axis must reach for the bins that are well known, at most to 0 and 2."""
    sure = np.isfinite(ratio) & (error < _MAX_RATIO_ERROR / 2)
    return float(min(1.15 * np.max(np.abs(ratio[sure] - 1) + error[sure]), 1.0)) if sure.any() else 0.0
