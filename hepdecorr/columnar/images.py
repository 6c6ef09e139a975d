"""Average jet images: where in a jet its pt is, before and after a cut, as a histogram that chunks add up to.

    filled = images.fill(rows, dataset="qcd", weight=weight, logits=logits, thresholds=thresholds)

A pixel holds the sum over jets of weight times the share of the constituents' pt in it. The sums of the jets'
weights stand beside it, in categories of their own ('jets before', 'jets pass 0.95'), so that after any
number of additions the average image is content / `jets`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import hist
import numpy as np
from numpy.typing import NDArray

from hepdecorr.columnar import constituents
from hepdecorr.columnar.features import jet_stored
from hepdecorr.columnar.features.branches import Floats, Ints
from hepdecorr.columnar.histograms import BEFORE, passed
from hepdecorr.errors import InputError

NAME = "average jet images"  # among the histograms of an evaluation
PIXELS = 41  # odd: the jet axis is the middle of a pixel
HALF_SIGNAL = "50 % signal"  # the name of a cut that is not a background rejection

Thresholds = Mapping[str, Mapping[float, float] | Mapping[float | str, float]]


class Cloud(NamedTuple):
    """Every constituent of every jet, flat: its jet, its turned place about the axis, its share of the pt."""

    row: Ints
    deta: Floats
    dphi: Floats
    share: Floats


def category(point: float | str) -> str:
    """Category of what passes: 'pass 0.95' for a background rejection, 'pass NAME' for another cut."""
    return f"pass {point}" if isinstance(point, str) else passed(point)


def jets(name: str) -> str:
    """The category that holds the sum of weights of the jets in category `name`."""
    return f"jets {name}"


def empty(
    *,
    datasets: Sequence[str],
    taggers: Sequence[str],
    points: Sequence[float | str],
    radius: float = 1.0,
    pixels: int = PIXELS,
) -> hist.Hist[Any]:
    """An empty histogram of images by dataset, tagger and category; all categories are there from the start.

    The pixels cover -radius to radius in both directions.
    """
    if pixels < 2 or not 0 < radius < math.pi:
        raise InputError(
            f"images: {pixels} pixels to radius {radius:g}; take at least two, and a radius below pi"
        )
    names = [BEFORE, *(category(point) for point in points)]
    axes: list[Any] = [
        hist.axis.StrCategory(list(datasets), growth=True, name="dataset", label="dataset"),
        hist.axis.StrCategory(list(taggers), growth=True, name="tagger", label="tagger"),
        hist.axis.StrCategory([*names, *map(jets, names)], growth=True, name="category", label="category"),
        hist.axis.Regular(pixels, -radius, radius, name="deta", label=r"$\Delta\eta$, turned"),
        hist.axis.Regular(pixels, -radius, radius, name="dphi", label=r"$\Delta\phi$, turned"),
    ]
    made: hist.Hist[Any] = hist.Hist(*axes, storage=hist.storage.Weight())
    return made


def fill(
    rows: Any,
    *,
    dataset: str,
    weight: NDArray[Any],
    logits: Mapping[str, NDArray[Any]],
    thresholds: Thresholds,
    radius: float | None = None,
    pixels: int = PIXELS,
) -> hist.Hist[Any]:
    """The images of one chunk of a dataset, of all jets and of those above each threshold of each tagger.

    rows: from objects.rows; `weight` and `logits` (by tagger) have shape (rows,); `thresholds` are {tagger:
    {background rejection, or the name of a cut such as HALF_SIGNAL: threshold}}, the same for every chunk.
    Jets without constituents have no image and do not count; pt beyond `radius`, by default that of the jets,
    is in no pixel.
    """
    radius = jet_stored.radius(rows) if radius is None else radius
    cloud = turned(rows)
    points = list(dict.fromkeys(point for cuts in thresholds.values() for point in cuts))
    filled = empty(datasets=[dataset], taggers=list(logits), points=points, radius=radius, pixels=pixels)
    pixel = places(cloud, radius=radius, pixels=pixels)
    seen = np.bincount(cloud.row, minlength=len(weight)) > 0
    everything = _Chunk(cloud, pixel, np.asarray(weight, dtype=np.float64), seen, pixels)
    before = everything.contents(seen)
    for number, (tagger, logit) in enumerate(logits.items()):
        names = list(filled.axes["category"])
        chosen = {BEFORE: before} | {
            category(point): everything.contents(seen & (np.asarray(logit) > threshold))
            for point, threshold in thresholds[tagger].items()
        }
        for name, found in chosen.items():
            for kind, (value, variance) in zip((name, jets(name)), found, strict=True):
                place = filled.view()[0, number, names.index(kind)]
                place["value"], place["variance"] = value, variance
    return filled


def turned(rows: Any) -> Cloud:
    """The constituents of each row about its jet's axis, their main direction upright, harder half up.

    The main direction is the pt-weighted principal axis through the jet axis, (Delta eta, Delta phi); a turn,
    never a reflection. Shares are of the constituents' sum of pt.
    """
    found = constituents.of(rows)
    size = len(found.start) - 1
    row = np.repeat(np.arange(size), np.diff(found.start))
    x = found.eta - constituents.jet(rows, "eta")[row]
    y = found.phi - constituents.jet(rows, "phi")[row]
    return turned_of(row, found.pt, x, y, size=size)


def turned_of(row: Ints, pt: Floats, deta: Floats, dphi: Floats, *, size: int) -> Cloud:
    """As `turned`, from flat columns: of constituents their jet (one of `size`), pt, place about its axis."""
    x, y = deta, (dphi + np.pi) % (2 * np.pi) - np.pi

    def total(values: Floats) -> Floats:
        return np.asarray(np.bincount(row, pt * values, minlength=size), dtype=np.float64)

    angle = np.pi / 2 - 0.5 * np.arctan2(2 * total(x * y), total(x**2) - total(y**2))
    along = x * np.sin(angle)[row] + y * np.cos(angle)[row]
    angle += np.where(total(np.sign(along)) < 0, np.pi, 0.0)
    sine, cosine = np.sin(angle)[row], np.cos(angle)[row]
    share = pt / total(np.ones(len(pt)))[row]
    return Cloud(row, x * cosine - y * sine, x * sine + y * cosine, share)


def places(cloud: Cloud, *, radius: float, pixels: int = PIXELS) -> Ints:
    """Flat pixel of every constituent; pixels**2 for one beyond the image."""
    column, line = (
        np.floor((one + radius) * (pixels / (2 * radius))).astype(np.int64)
        for one in (cloud.deta, cloud.dphi)
    )
    inside = (column >= 0) & (column < pixels) & (line >= 0) & (line < pixels)
    return np.where(inside, column * pixels + line, pixels**2)


class _Chunk(NamedTuple):
    cloud: Cloud
    pixel: Ints
    weight: Floats
    seen: NDArray[np.bool_]
    pixels: int

    def contents(self, chosen: NDArray[np.bool_]) -> tuple[tuple[Floats, Floats], tuple[Floats, Floats]]:
        """Image and jets' weights of the chosen jets, each with its variances; (pixels, pixels)."""
        weight = np.where(chosen, self.weight, 0.0)
        each = weight[self.cloud.row] * self.cloud.share
        size = self.pixels**2
        image, squares = (
            np.bincount(self.pixel, one, minlength=size + 1)[:size]
            .astype(np.float64)
            .reshape(self.pixels, self.pixels)
            for one in (each, each**2)
        )
        # Which pixel holds the jets' weights means nothing: only the sum over pixels is read.
        count, count_squares = np.zeros_like(image), np.zeros_like(image)
        count[0, 0], count_squares[0, 0] = weight.sum(), np.square(weight).sum()
        return (image, squares), (count, count_squares)
