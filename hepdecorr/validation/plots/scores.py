"""What the score looks like: by class, and against the nuisance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.ndimage import gaussian_filter

from hepdecorr.validation.measures.efficiency import Tail, indices
from hepdecorr.validation.measures.events import checked
from hepdecorr.validation.measures.numbers import Array, Measured
from hepdecorr.validation.plots.style import COLOURS, LINES, axis_label, grid, legend_above, styled

LOGIT = r"Logit $\log\,p\,/\,(1-p)$"
QUANTILES = (0.5, 0.9, 0.99)
CONTAINED = (0.97, 0.9, 0.7, 0.5, 0.3, 0.1)


class Scores(NamedTuple):
    """One tagger's logits with the labels, the nuisance and the weights of the events; (events,) each."""

    logit: npt.ArrayLike
    label: npt.ArrayLike
    nuisance: npt.ArrayLike
    weight: npt.ArrayLike | None = None


@styled
def density(
    scores: Mapping[str, Scores],
    *,
    range: tuple[float, float],  # noqa: A002  the name numpy and hist use
    nuisance: str = "",
    unit: str = "",
    bins: int = 60,
) -> Figure:
    """Smoothed two-dimensional density of nuisance and logit, background only, one panel per tagger.

    Contours hold 10, 30, 50, 70, 90 and 97 % of the events; the lines are the median, the 90 % and the 99 %
    quantile of the logit in bins of the nuisance, level where the score does not see it.
    """
    drawn, axes = grid(len(scores), width=3.0, height=3.3, share=False)
    for ax, (name, one) in zip(axes, scores.items(), strict=True):
        logit, label, z, w = checked(one.weight, logit=one.logit, label=one.label, nuisance=one.nuisance)
        kept = (label == 0) & (z >= range[0]) & (z <= range[1])
        draw_density(ax, logit[kept], z[kept], w[kept], span=range, bins=bins)
        ax.set_title(name, loc="left")
        ax.set_xlabel(axis_label(nuisance, unit))
        ax.set_xlim(range)
    axes[0].set_ylabel(LOGIT)
    legend_above(drawn, axes[0])
    return drawn


@styled
def rank_density(
    scores: Mapping[str, Scores],
    *,
    correlations: Mapping[str, Measured],
    range: tuple[float, float],  # noqa: A002  the name numpy and hist use
    nuisance: str = "",
    unit: str = "",
    bins: int = 50,
) -> Figure:
    """Like `density` with every score by its rank in background, which says nothing of its scale.

    correlations: rank correlation of each score and the nuisance.
    """
    drawn, axes = grid(len(scores), width=2.6, height=2.8, share=False)
    for number, (ax, (name, one)) in enumerate(zip(axes, scores.items(), strict=True)):
        logit, label, z, w = checked(one.weight, logit=one.logit, label=one.label, nuisance=one.nuisance)
        own = label == 0
        rank = _ranks(logit[own], w[own])
        kept = (z[own] >= range[0]) & (z[own] <= range[1])
        for quantile in QUANTILES:
            ax.axhline(quantile, color="0.5", linewidth=0.7, linestyle=":", zorder=3)
        draw_density(ax, rank[kept], z[own][kept], w[own][kept], span=range, bins=bins)
        found = correlations[name]
        said = rf"$\rho_S$ ${found.value:+.3f}$ ± {found.std or 0:.3f}"
        ax.set_title(f"{name}\n{said}", loc="left", fontsize=9)
        ax.set_xlim(range)
        ax.set_ylim(0, 1)
        ax.tick_params(labelleft=number % 4 == 0)
        if number + 4 >= len(axes):
            ax.set_xlabel(axis_label(nuisance, unit))
    axes[0].set_ylabel("Rank of the score")
    legend_above(drawn, axes[0])
    return drawn


def _ranks(values: Array, weight: Array) -> Array:
    """Share of the weight below each value, and half of what is tied with it."""
    unique, place = np.unique(values, return_inverse=True)
    here = np.bincount(place, weights=weight, minlength=len(unique))
    return np.asarray(((np.cumsum(here) - here / 2) / here.sum())[place])


def draw_density(ax: Axes, logit: Array, z: Array, w: Array, *, span: tuple[float, float], bins: int) -> None:
    """Contours of the smoothed density of (z, logit), and the logit's quantiles in bins of z."""
    low, high = np.quantile(logit, [0.0005, 0.9995])
    margin = 0.05 * max(high - low, 1e-6)
    counts, x_edges, y_edges = np.histogram2d(
        z, logit, bins=bins, range=[span, (low - margin, high + margin)], weights=w
    )
    # "nearest" keeps the density up to the ends of the range, where a kernel would let it sag.
    smooth = gaussian_filter(counts, 1.5, mode="nearest").T
    ordered = np.sort(smooth.ravel())[::-1]
    share = np.cumsum(ordered) / ordered.sum()
    levels = np.unique(ordered[np.minimum(np.searchsorted(share, CONTAINED), len(ordered) - 1)])
    x, y = (x_edges[:-1] + x_edges[1:]) / 2, (y_edges[:-1] + y_edges[1:]) / 2
    # The outermost centres are moved to the edges: contours otherwise leave a margin.
    x[[0, -1]] = span
    ax.contourf(x, y, smooth, levels=[*levels, max(smooth.max(), levels[-1]) * 1.001], cmap="Blues")
    ax.contour(x, y, smooth, levels=levels, colors="0.35", linewidths=0.4)
    for number, (quantile, (centres, heights)) in enumerate(quantile_lines(logit, z, w, span).items()):
        ax.plot(
            centres,
            heights,
            color=COLOURS[1],
            linestyle=LINES[number],
            label=f"{100 * quantile:g} % quantile",
        )


def quantile_lines(
    logit: Array, z: Array, w: Array, span: tuple[float, float]
) -> dict[float, tuple[Array, Array]]:
    """Centres of bins of z, and each of QUANTILES of the logit there; NaN where too few events tell it."""
    edges = np.linspace(*span, 16)
    place, centres = indices(z, edges), (edges[:-1] + edges[1:]) / 2
    lines = {}
    for quantile in QUANTILES:
        heights = np.full(len(centres), np.nan)
        for number in np.unique(place[place < len(centres)]):
            inside = place == number
            # A quantile with fewer than five events above it is noise.
            if np.count_nonzero(inside) * (1 - quantile) >= 5:
                heights[number] = Tail(logit[inside], w[inside]).quantiles(np.array([1 - quantile]))[0]
        lines[quantile] = (centres, heights)
    return lines


@styled
def score_distributions(
    scores: Mapping[str, Scores], *, thresholds: Mapping[str, Sequence[float]] | None = None, bins: int = 60
) -> Figure:
    """The logit's distribution in background and signal, one panel per tagger, with statistical errors.

    thresholds: tagger -> working points, drawn as vertical lines.
    """
    drawn, axes = grid(len(scores), width=3.0, height=3.0, share=False)
    for ax, (name, one) in zip(axes, scores.items(), strict=True):
        logit, label, _, w = checked(one.weight, logit=one.logit, label=one.label, nuisance=one.nuisance)
        span = tuple(np.quantile(logit, [0.0002, 0.9998]))
        for value, title, hatch in ((0, "background", ""), (1, "signal", "////")):
            chosen = label == value
            if chosen.any():
                _distribution(
                    ax, logit[chosen], w[chosen], value=value, title=title, hatch=hatch, span=span, bins=bins
                )
        for cut in (thresholds or {}).get(name, ()):
            ax.axvline(cut, color="0.4", linewidth=0.8, linestyle=":")
        ax.set_yscale("log")
        low, high = ax.get_ylim()
        ax.set_ylim(low, high * 8)
        ax.set_title(name, loc="left")
        ax.set_xlabel(LOGIT)
    axes[0].set_ylabel("Density")
    axes[0].legend(loc="upper right")
    return drawn


def _distribution(
    ax: Axes,
    logit: Array,
    w: Array,
    *,
    value: int,
    title: str,
    hatch: str,
    span: tuple[float, ...],
    bins: int,
) -> None:
    # What lies beyond the axis is shown in its last bins rather than lost.
    logit = np.clip(logit, span[0], span[1])
    contents, edges = np.histogram(logit, bins=bins, range=(span[0], span[1]), weights=w)
    squares, _ = np.histogram(logit, bins=edges, weights=w**2)
    scale = 1 / (w.sum() * np.diff(edges))
    colour = COLOURS[value]
    ax.stairs(
        contents * scale, edges, color=colour, hatch=hatch, fill=False, label=title, linestyle=LINES[value]
    )
    if not hatch:
        ax.stairs(contents * scale, edges, fill=True, color=colour, alpha=0.18)
    seen = contents > 0
    centres = (edges[:-1] + edges[1:]) / 2
    bars = np.sqrt(squares) * scale
    bars = np.stack([np.minimum(bars, 0.95 * contents * scale), bars])
    ax.errorbar(
        centres[seen],
        (contents * scale)[seen],
        yerr=bars[:, seen],
        fmt="",
        linestyle="",
        color=colour,
        linewidth=0.7,
    )
