"""Jets that were made beside true ones: spectra of what they are, and their average images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from hepdecorr.validation.measures.likeness import Sample
from hepdecorr.validation.measures.numbers import Array
from hepdecorr.validation.plots.spectra import Spectrum, draw_after, draw_before, draw_ratio
from hepdecorr.validation.plots.style import axis_label, figure, legend_above, styled

_DECADES = 4.0


class Axis(NamedTuple):
    """How an observable is drawn."""

    title: str
    unit: str
    edges: Array
    log: bool = False  # both axes


@styled
def made_spectra(samples: Mapping[str, Mapping[str, Sample]], axes: Mapping[str, Axis]) -> Figure:
    """A panel an observable: its spectrum in each kind of jets, and below the ratio to the first kind.

    samples: kind of jets -> observable -> values; the first kind is that of true jets.  What lies outside the
    axis is in its first and last bin.  Errors are statistical, of jets.
    """
    kinds, across = list(samples), 3
    down = -(-len(axes) // across)
    drawn = figure(3.4 * across + 0.3, 4.1 * down + 0.3)
    panels = drawn.subplots(2 * down, across, squeeze=False, height_ratios=(2.6, 1) * down)
    for number, (name, axis) in enumerate(axes.items()):
        upper, lower = (panels[2 * (number // across) + k, number % across] for k in (0, 1))
        spectra = [_filled(samples[kind][name], axis.edges) for kind in kinds]
        draw_before(upper, spectra[0], label=kinds[0])
        for k, (kind, found) in enumerate(zip(kinds[1:], spectra[1:], strict=True)):
            draw_after(upper, found, k, label=kind)
            draw_ratio(lower, found, spectra[0], k, of=len(kinds) - 1)
        lower.axhline(1, color="0.4", linewidth=0.8)
        lower.set_xlabel(axis_label(axis.title, axis.unit))
        lower.set_ylabel(f"/ {kinds[0]}", loc="center")
        for ax in (upper, lower):
            ax.set_xlim(axis.edges[0], axis.edges[-1])
            if axis.log:
                ax.set_xscale("log")
        upper.tick_params(labelbottom=False)
        if axis.log:
            upper.set_yscale("log")
        else:
            upper.set_ylim(0, 1.45 * max(float(one.shape.max()) for one in spectra))
        if number % across == 0:
            upper.set_ylabel("Fraction")
    for spare in range(len(axes), across * down):
        for k in (0, 1):
            panels[2 * (spare // across) + k, spare % across].set_visible(False)
    legend_above(drawn, panels[0, 0])
    return drawn


@styled
def made_images(images: Mapping[str, Array], edges: Array) -> Figure:
    """Average images in the same colours: kind of jets -> mean share of the jet's pT, (deta, dphi)."""
    top = max(*(float(one.max()) for one in images.values()), np.finfo(float).tiny)
    norm = LogNorm(top * 10**-_DECADES, top)
    drawn = figure(3.1 * len(images) + 0.8, 3.5)
    axes = drawn.subplots(1, len(images), squeeze=False, sharex=True, sharey=True)[0]
    for ax, (kind, image) in zip(axes, images.items(), strict=True):
        pixels = np.maximum(image.T, top * 10**-_DECADES)
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


def _filled(sample: Sample, edges: Sequence[float] | Array) -> Spectrum:
    """The spectrum of a sample; what lies beyond goes to the ends."""
    bounds = np.asarray(edges, dtype=np.float64)
    bins = len(bounds) - 1
    place = np.clip(np.searchsorted(bounds, sample.values, side="right") - 1, 0, bins - 1)
    # The values of one jet come together: its square counts in each bin, not those of its constituents.
    cell = sample.owner * bins + place
    occupied, inverse = np.unique(cell, return_inverse=True)
    content = np.bincount(inverse, sample.weight[sample.owner] * sample.share, minlength=len(occupied))
    values, variances = (np.bincount(occupied % bins, one, minlength=bins) for one in (content, content**2))
    return Spectrum(bounds, np.asarray(values, np.float64), np.asarray(variances, np.float64))
