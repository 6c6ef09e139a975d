"""Average jet images before and after a cut."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import hist
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm, LogNorm
from matplotlib.figure import Figure

from hepdecorr.errors import InputError
from hepdecorr.validation.measures.numbers import Array
from hepdecorr.validation.plots.spectra import CLASSES, require
from hepdecorr.validation.plots.style import figure, styled

_DECADES = 4.0
_BANDS = (0.25, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0)
_UNCERTAIN = 0.4  # relative error beyond which a ratio is not drawn


class Image(NamedTuple):
    """Mean share of the jet's pt in each pixel, (deta, dphi), and its statistical error."""

    share: Array
    error: Array


@styled
def jet_images(
    filled: hist.Hist[Any],
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
    drawn = figure(9.6, 2.75 * len(present) + 0.5)
    axes = drawn.subplots(len(present), 3, squeeze=False, sharex=True, sharey=True)
    images = {}
    for label in present:
        datasets = [name for name, value in labels.items() if value == label]
        images[label] = [
            average(filled, tagger=tagger, category=name, datasets=datasets) for name in ("before", category)
        ]
    top = max(float(one.share.max()) for pair in images.values() for one in pair)
    if top <= 0:
        raise InputError(f"jet_images: no {tagger} image in {category!r} holds any pt; check weights and cut")
    norm = LogNorm(top * 10**-_DECADES, top)
    edges = [np.asarray(filled.axes[name].edges) for name in ("deta", "dphi")]
    for row, (label, pair) in zip(axes, images.items(), strict=True):
        for ax, image, name in zip(row, pair, ("before", "after"), strict=False):
            # What is empty is the palest, as what is below the scale.
            pixels = np.maximum(image.share.T, top * 10**-_DECADES)
            shares = ax.pcolormesh(*edges, pixels, norm=norm, cmap="Blues", rasterized=True)
            _label(ax, f"{CLASSES[label]}, {name}")
        levels = _ratio(row[2], pair[0], pair[1], edges)
        _label(row[2], f"{CLASSES[label]}, after / before")
        row[0].set_ylabel(filled.axes["dphi"].label)
    for ax in axes[-1]:
        ax.set_xlabel(filled.axes["deta"].label)
    settings: dict[str, Any] = {"shrink": 0.9, "aspect": 30, "pad": 0.015}
    drawn.colorbar(shares, ax=axes[:, :2], label=r"Mean share of the jet's $p_T$", extend="min", **settings)
    bands = drawn.colorbar(levels, ax=axes[:, 2], label="After / before", extend="both", **settings)
    bands.set_ticks(list(_BANDS), labels=[f"{one:g}" for one in _BANDS])
    bands.ax.minorticks_off()
    if title:
        drawn.suptitle(title, x=0.01, ha="left", fontsize=11)
    return drawn


def average(filled: hist.Hist[Any], *, tagger: str, category: str, datasets: Sequence[str]) -> Image:
    """The average image of a category over datasets: content / sum of the jets' weights.

    Where no jet passes it is zero. InputError names what is missing.
    """
    require(filled, tagger=[tagger], category=[category, f"jets {category}"], dataset=datasets)
    parts: list[list[Any]] = [
        [filled[{"tagger": tagger, "category": name, "dataset": one}] for one in datasets]
        for name in (category, f"jets {category}")
    ]
    total = float(sum(part.values().sum() for part in parts[1]))
    shares = np.sum([part.values() for part in parts[0]], axis=0)
    errors = np.sqrt(np.sum([part.variances() for part in parts[0]], axis=0))
    if total <= 0:
        return Image(np.zeros_like(shares), np.zeros_like(shares))
    return Image(shares / total, errors / total)


def _ratio(ax: Axes, before: Image, after: Image, edges: Sequence[Array]) -> Any:
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = after.share / before.share
        error = np.hypot(after.error / after.share, before.error / before.share)
    sure = (before.share > 0) & (after.share > 0) & (error < _UNCERTAIN)
    ax.patch.set(facecolor="0.93", edgecolor="0.75", hatch="////")
    return ax.pcolormesh(
        *edges,
        np.ma.masked_array(ratio, ~sure).T,
        norm=BoundaryNorm(_BANDS, 256, extend="both"),
        cmap="cividis",
        rasterized=True,
    )


def _label(ax: Axes, text: str) -> None:
    ax.set_title(text, loc="left", fontsize=10)
    ax.set_aspect("equal")
    ax.minorticks_off()
