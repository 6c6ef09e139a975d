"""One tagger against the nuisance and a second variable, such as jet mass and pT, from arrays."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hepdecorr.errors import InputError
from hepdecorr.validation.measures.efficiency import Profile, Tail, profile
from hepdecorr.validation.measures.events import checked
from hepdecorr.validation.measures.numbers import Array
from hepdecorr.validation.plots.scores import Scores
from hepdecorr.validation.plots.spectra import Spectrum, draw_after, draw_before, draw_ratio
from hepdecorr.validation.plots.style import COLOURS, LINES, MARKERS, axis_label, figure, styled

BINS = 25
Mask = npt.NDArray[np.bool_]


class Second(NamedTuple):
    """A second variable of the events, (events,), such as the jets' pT, and the bins to divide it into."""

    values: npt.ArrayLike
    edges: Sequence[float]  # ascending
    title: str = ""
    unit: str = ""

    def slices(self) -> list[tuple[str, Mask]]:
        """Label and events of every bin."""
        values, edges = np.asarray(self.values, dtype=np.float64), list(self.edges)
        if len(edges) < 2 or not np.all(np.diff(edges) > 0):
            raise InputError(f"{self.title or 'second variable'}: edges {edges} do not ascend")
        unit = f" {self.unit}" if self.unit else ""
        return [
            (f"{low:g}–{high:g}{unit}", (values >= low) & (values < high))
            for low, high in itertools.pairwise(edges)
        ]


def quantile_edges(
    values: npt.ArrayLike, *, bins: int = 4, weight: npt.ArrayLike | None = None
) -> list[float]:
    """Edges of bins that hold about the same sum of weights, rounded to two digits, from least to most.

    Fewer bins where one value holds most of the weight.
    """
    v, w = checked(weight, values=values)
    tail = Tail(v, w)
    inner = tail.quantiles(1 - np.arange(1, bins) / bins)
    # All of one value tell no digit: then the range does, or the value itself.
    size = np.ptp(inner) or np.ptp(v) or np.max(np.abs(v)) or 1.0
    scale = 10.0 ** (np.floor(np.log10(size)) - 1)
    edges = [np.floor(v.min() / scale) * scale, *np.round(inner / scale) * scale]
    edges.append((np.floor(v.max() / scale) + 1) * scale)
    return sorted({float(f"{one:.10g}") for one in edges})


@styled
def sliced_spectra(
    one: Scores,
    second: Second,
    *,
    threshold: float,
    range: tuple[float, float],  # noqa: A002  the name numpy and hist use
    bins: int = BINS,
    cut: str = "the cut",
    title: str = "",
    nuisance: str = "",
    unit: str = "",
) -> Figure:
    """The nuisance's spectrum before and after a cut, in bins of the second variable, one column each.

    Rows: background, its ratio pass / fail, signal. Spectra are normalised to one.
    """
    logit, label, z, w = checked(one.weight, logit=one.logit, label=one.label, nuisance=one.nuisance)
    slices = second.slices()
    drawn = figure(2.6 * len(slices) + 0.6, 6.2)
    axes = drawn.subplots(
        3, len(slices), squeeze=False, sharex=True, sharey="row", height_ratios=(2.2, 1.1, 1.6)
    )
    edges = np.linspace(*range, bins + 1)
    reaches = []
    for (name, inside), (upper, lower, bottom) in zip(slices, axes.T, strict=True):
        spectra = [
            [
                _spectrum(z[chosen], w[chosen], edges)
                for chosen in (of, of & (logit > threshold), of & ~(logit > threshold))
            ]
            for of in (inside & (label == 0), inside & (label == 1))
        ]
        for ax, (before, after, _), kind in (
            (upper, spectra[0], "background"),
            (bottom, spectra[1], "signal"),
        ):
            draw_before(ax, before, label=f"{kind}, before")
            draw_after(ax, after, int(kind == "signal"), label=f"after {cut}")
        draw_ratio(lower, spectra[0][1], spectra[0][2], 0, of=1)
        reaches.append(max(1 - lower.get_ylim()[0], lower.get_ylim()[1] - 1))
        lower.axhline(1, color="0.4", linewidth=0.8)
        upper.set_title(name, loc="left")
        bottom.set_xlabel(axis_label(nuisance, unit))
        bottom.set_xlim(*range)
    # Each panel asked for its own reach; with a shared axis the last would win.
    axes[1, 0].set_ylim(max(1 - max(reaches), 0.0), min(1 + max(reaches), 6.0))
    _rows(axes, title=f"{title}, " if title else "", second=second)
    return drawn


def _spectrum(z: Array, w: Array, edges: Array) -> Spectrum:
    values, squares = (np.histogram(z, bins=edges, weights=one)[0] for one in (w, w**2))
    return Spectrum(edges, values, squares)


def _rows(axes: Any, *, title: str, second: Second) -> None:
    for row, name in zip(axes, ("Background", "pass / fail", "Signal"), strict=True):
        row[0].set_ylabel(name, loc="center")
    for row in (axes[0], axes[2]):
        row[0].set_ylim(0, 1.5 * max(ax.dataLim.y1 for ax in row))
        row[0].legend(loc="upper right")
    first = axes[0][0]
    first.set_title(f"{title}{second.title} {first.get_title(loc='left')}".strip(), loc="left")


@styled
def efficiencies(
    scores: Mapping[str, Scores],
    *,
    thresholds: Mapping[str, float],
    range: tuple[float, float],  # noqa: A002  the name numpy and hist use
    second: Second | None = None,
    bins: int = 20,
    nuisance: str = "",
    unit: str = "",
) -> Figure:
    """Efficiency of signal and background at each tagger's threshold against the nuisance and the second.

    One row per tagger. Bars: Clopper-Pearson with effective counts; dashed: the efficiency of all events.
    """
    columns = 1 if second is None else 2
    drawn = figure(4.1 * columns + 0.4, 2.5 * len(scores) + 0.6)
    axes = drawn.subplots(len(scores), columns, squeeze=False, sharex="col", sharey=True)
    for row, (name, one) in zip(axes, scores.items(), strict=True):
        logit, label, z, w = checked(one.weight, logit=one.logit, label=one.label, nuisance=one.nuisance)
        for kind in (1, 0):
            of = label == kind
            settings: dict[str, Any] = {"threshold": thresholds[name], "weight": w[of]}
            _points(row[0], logit[of], z[of], kind, edges=np.linspace(*range, bins + 1), **settings)
            if second is not None:
                v = np.asarray(second.values, dtype=np.float64)[of]
                _points(row[1], logit[of], v, kind, edges=_fine(second.edges), **settings)
        row[0].text(0.03, 0.95, name, transform=row[0].transAxes, va="top", fontsize=10)
        row[0].set_ylabel("Efficiency")
    axes[0, 0].set_yscale("log")
    low = axes[0, 0].get_ylim()[0]
    axes[0, 0].set_ylim(max(low, 2e-5), 4)
    axes[-1, 0].set_xlabel(axis_label(nuisance, unit))
    if second is not None:
        axes[-1, 1].set_xlabel(axis_label(second.title, second.unit))
    handles, labels = axes[0, 0].get_legend_handles_labels()
    drawn.legend(handles, labels, loc="outside upper center", ncols=2)
    return drawn


def _fine(edges: Sequence[float], parts: int = 3) -> Array:
    """Every bin in so many."""
    return np.interp(np.arange(parts * (len(edges) - 1) + 1) / parts, np.arange(len(edges)), edges)


def _points(
    ax: Axes, logit: Array, values: Array, kind: int, *, edges: Array, threshold: float, weight: Array
) -> None:
    # Profiles have equal bins: unequal ones become equal by their number.
    place = np.interp(values, edges, np.arange(len(edges)), left=-1.0, right=float(len(edges)))
    found: Profile = profile(
        logit,
        place,
        threshold=threshold,
        rejection=np.nan,
        bins=len(edges) - 1,
        range=(0.0, len(edges) - 1.0),
        weight=weight,
    )
    colour, share = COLOURS[kind], Tail(logit, weight).efficiency(threshold)
    ax.axhline(share, color=colour, linewidth=0.8, linestyle=LINES[1])
    seen = found.efficiency > 0
    centres, half = (edges[:-1] + edges[1:]) / 2, np.diff(edges) / 2
    bars = np.abs(np.stack([found.efficiency - found.low, found.high - found.efficiency]))
    ax.errorbar(
        centres[seen],
        found.efficiency[seen],
        xerr=half[seen],
        yerr=bars[:, seen],
        fmt=MARKERS[kind],
        color=colour,
        markersize=3.4,
        markerfacecolor="white" if kind else colour,
        linewidth=0.8,
        label=("background", "signal")[kind],
    )
    empty = ~seen & (found.events > 0)
    ax.plot(centres[empty], found.high[empty], linestyle="", marker="v", markerfacecolor="none", color=colour)
    ax.set_xlim(edges[0], edges[-1])
