"""Average jet images before and after a cut.

Jets that were made beside true ones: spectra of what they are, and their average images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import hist
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm, LogNorm
from matplotlib.figure import Figure

from hepdecorr.errors import InputError
from hepdecorr.evaluation.metrics.two_sample import ObservableSample
from hepdecorr.evaluation.plots.spectra import (
    CLASS_TITLES,
    Spectrum,
    draw_after,
    draw_before,
    draw_ratio,
    require_categories,
)
from hepdecorr.evaluation.plots.style import add_legend_above, axis_label, new_figure, with_style
from hepdecorr.stats.results import Array

_COLOUR_DECADES = 4.0
_RATIO_BANDS = (0.25, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0)
_MAX_RATIO_ERROR = 0.4  # relative error beyond which a ratio is not drawn


class JetImage(NamedTuple):
    """Mean share of the jet's pt in each pixel, (deta, dphi), and its statistical error."""

    pt_fraction: Array
    error: Array


@with_style
def plot_jet_images(
    histogram: hist.Hist[Any],
    *,
    tagger: str,
    labels: Mapping[str, int],
    category: str,
    title: str = "",
) -> Figure:
    """One row a class: the average image of all jets, of those that pass, and the ratio of the two.

    filled: axes dataset, tagger, category, deta, dphi, from columnar/images.py; labels: dataset -> 0
    (background) or 1 (signal); category: 'pass 0.95', 'pass 50 % signal'. A pixel is the mean share of the
    jet's pt in it. Colours grow darker with the share, and brighter with the ratio, in bands of a factor
    1.4; hatched: the ratio's error is above 40 %.
    """
    present = [label for label in (0, 1) if label in labels.values()]
    drawn = new_figure(9.6, 2.75 * len(present) + 0.5)
    axes = drawn.subplots(len(present), 3, squeeze=False, sharex=True, sharey=True)
    images = {}
    for label in present:
        datasets = [name for name, value in labels.items() if value == label]
        images[label] = [
            average_jet_image(histogram, tagger=tagger, category=name, datasets=datasets)
            for name in ("before", category)
        ]
    top = max(float(one.pt_fraction.max()) for pair in images.values() for one in pair)
    if top <= 0:
        raise InputError(f"jet_images: no {tagger} image in {category!r} holds any pt; check weights and cut")
    norm = LogNorm(top * 10**-_COLOUR_DECADES, top)
    edges = [np.asarray(histogram.axes[name].edges) for name in ("deta", "dphi")]
    for row, (label, pair) in zip(axes, images.items(), strict=True):
        for ax, image, name in zip(row, pair, ("before", "after"), strict=False):
            # What is empty is the palest, as what is below the scale.
            pixels = np.maximum(image.pt_fraction.T, top * 10**-_COLOUR_DECADES)
            shares = ax.pcolormesh(*edges, pixels, norm=norm, cmap="Blues", rasterized=True)
            _label_panel(ax, f"{CLASS_TITLES[label]}, {name}")
        levels = _draw_image_ratio(row[2], pair[0], pair[1], edges)
        _label_panel(row[2], f"{CLASS_TITLES[label]}, after / before")
        row[0].set_ylabel(histogram.axes["dphi"].label)
    for ax in axes[-1]:
        ax.set_xlabel(histogram.axes["deta"].label)
    settings: dict[str, Any] = {"shrink": 0.9, "aspect": 30, "pad": 0.015}
    drawn.colorbar(shares, ax=axes[:, :2], label=r"Mean share of the jet's $p_T$", extend="min", **settings)
    bands = drawn.colorbar(levels, ax=axes[:, 2], label="After / before", extend="both", **settings)
    bands.set_ticks(list(_RATIO_BANDS), labels=[f"{one:g}" for one in _RATIO_BANDS])
    bands.ax.minorticks_off()
    if title:
        drawn.suptitle(title, x=0.01, ha="left", fontsize=11)
    return drawn


def average_jet_image(
    histogram: hist.Hist[Any], *, tagger: str, category: str, datasets: Sequence[str]
) -> JetImage:
    """The average image of a category over datasets: content / sum of the jets' weights.

    Where no jet passes it is zero. InputError names what is missing.
    """
    require_categories(histogram, tagger=[tagger], category=[category, f"jets {category}"], dataset=datasets)
    parts: list[list[Any]] = [
        [histogram[{"tagger": tagger, "category": name, "dataset": one}] for one in datasets]
        for name in (category, f"jets {category}")
    ]
    total = float(sum(part.values().sum() for part in parts[1]))
    shares = np.sum([part.values() for part in parts[0]], axis=0)
    errors = np.sqrt(np.sum([part.variances() for part in parts[0]], axis=0))
    if total <= 0:
        return JetImage(np.zeros_like(shares), np.zeros_like(shares))
    return JetImage(shares / total, errors / total)


def _draw_image_ratio(ax: Axes, before: JetImage, after: JetImage, edges: Sequence[Array]) -> Any:
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = after.pt_fraction / before.pt_fraction
        error = np.hypot(after.error / after.pt_fraction, before.error / before.pt_fraction)
    sure = (before.pt_fraction > 0) & (after.pt_fraction > 0) & (error < _MAX_RATIO_ERROR)
    ax.patch.set(facecolor="0.93", edgecolor="0.75", hatch="////")
    return ax.pcolormesh(
        *edges,
        np.ma.masked_array(ratio, ~sure).T,
        norm=BoundaryNorm(_RATIO_BANDS, 256, extend="both"),
        cmap="cividis",
        rasterized=True,
    )


def _label_panel(ax: Axes, text: str) -> None:
    ax.set_title(text, loc="left", fontsize=10)
    ax.set_aspect("equal")
    ax.minorticks_off()


class ObservableAxis(NamedTuple):
    """How an observable is drawn."""

    title: str
    unit: str
    edges: Array
    log_scale: bool = False  # both axes


@with_style
def plot_generated_spectra(
    samples: Mapping[str, Mapping[str, ObservableSample]], axes: Mapping[str, ObservableAxis]
) -> Figure:
    """A panel an observable: its spectrum in each kind of jets, and below the ratio to the first kind.

    samples: kind of jets -> observable -> values; the first kind is that of true jets.  What lies outside the
    axis is in its first and last bin.  Errors are statistical, of jets.
    """
    kinds, across = list(samples), 3
    down = -(-len(axes) // across)
    drawn = new_figure(3.4 * across + 0.3, 4.1 * down + 0.3)
    panels = drawn.subplots(2 * down, across, squeeze=False, height_ratios=(2.6, 1) * down)
    for number, (name, axis) in enumerate(axes.items()):
        upper, lower = (panels[2 * (number // across) + k, number % across] for k in (0, 1))
        spectra = [_fill_spectrum(samples[kind][name], axis.edges) for kind in kinds]
        draw_before(upper, spectra[0], label=kinds[0])
        for k, (kind, found) in enumerate(zip(kinds[1:], spectra[1:], strict=True)):
            draw_after(upper, found, k, label=kind)
            draw_ratio(lower, found, spectra[0], k, num_curves=len(kinds) - 1)
        lower.axhline(1, color="0.4", linewidth=0.8)
        lower.set_xlabel(axis_label(axis.title, axis.unit))
        lower.set_ylabel(f"/ {kinds[0]}", loc="center")
        for ax in (upper, lower):
            ax.set_xlim(axis.edges[0], axis.edges[-1])
            if axis.log_scale:
                ax.set_xscale("log")
        upper.tick_params(labelbottom=False)
        if axis.log_scale:
            upper.set_yscale("log")
        else:
            upper.set_ylim(0, 1.45 * max(float(one.normalised_values.max()) for one in spectra))
        if number % across == 0:
            upper.set_ylabel("Fraction")
    for spare in range(len(axes), across * down):
        for k in (0, 1):
            panels[2 * (spare // across) + k, spare % across].set_visible(False)
    add_legend_above(drawn, panels[0, 0])
    return drawn


@with_style
def plot_generated_images(images: Mapping[str, Array], edges: Array) -> Figure:
    """Average images in the same colours: kind of jets -> mean share of the jet's pT, (deta, dphi)."""
    top = max(*(float(one.max()) for one in images.values()), np.finfo(float).tiny)
    norm = LogNorm(top * 10**-_COLOUR_DECADES, top)
    drawn = new_figure(3.1 * len(images) + 0.8, 3.5)
    axes = drawn.subplots(1, len(images), squeeze=False, sharex=True, sharey=True)[0]
    for ax, (kind, image) in zip(axes, images.items(), strict=True):
        pixels = np.maximum(image.T, top * 10**-_COLOUR_DECADES)
        shares = ax.pcolormesh(edges, edges, pixels, norm=norm, cmap="Blues", rasterized=True)
        ax.set_title(kind, loc="left", fontsize=10)
        ax.set_aspect("equal")
        ax.minorticks_off()
        ax.locator_params(nbins=4)
        ax.set_xlabel(r"$\Delta\eta$, turned")
    axes[0].set_ylabel(r"$\Delta\phi$, turned")
    drawn.colorbar(
        shares, ax=list(axes), label=r"Mean share of the jet's $p_T$", extend="min", aspect=30, pad=0.015
    )
    return drawn


def _fill_spectrum(sample: ObservableSample, edges: Sequence[float] | Array) -> Spectrum:
    """The spectrum of a sample; what lies beyond goes to the ends."""
    bounds = np.asarray(edges, dtype=np.float64)
    bins = len(bounds) - 1
    place = np.clip(np.searchsorted(bounds, sample.values, side="right") - 1, 0, bins - 1)
    # The values of one jet come together: its square counts in each bin, not those of its constituents.
    cell = sample.jet_index * bins + place
    occupied, inverse = np.unique(cell, return_inverse=True)
    content = np.bincount(
        inverse, sample.weight[sample.jet_index] * sample.value_weight, minlength=len(occupied)
    )
    values, variances = (np.bincount(occupied % bins, one, minlength=bins) for one in (content, content**2))
    return Spectrum(bounds, np.asarray(values, np.float64), np.asarray(variances, np.float64))
