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
from hepdecorr.columnar.features import stored_substructure
from hepdecorr.columnar.features.branches import Floats, Ints
from hepdecorr.columnar.histograms import BEFORE, pass_category
from hepdecorr.errors import InputError

HISTOGRAM_NAME = "average jet images"  # among the histograms of an evaluation
NUM_PIXELS = 41  # odd: the jet axis is the middle of a pixel
HALF_SIGNAL_CUT = "50 % signal"  # the name of a cut that is not a background rejection

ThresholdsByTagger = Mapping[str, Mapping[float, float] | Mapping[float | str, float]]


class RotatedConstituents(NamedTuple):
    """Every constituent of every jet, flat: its jet, its turned place about the axis, its share of the pt."""

    jet_index: Ints
    deta: Floats
    dphi: Floats
    pt_fraction: Floats


def cut_category(working_point: float | str) -> str:
    """Category of what passes: 'pass 0.95' for a background rejection, 'pass NAME' for another cut."""
    return f"pass {working_point}" if isinstance(working_point, str) else pass_category(working_point)


def jet_weight_category(category: str) -> str:
    """The category that holds the sum of weights of the jets in category `name`."""
    return f"jets {category}"


def make_image_histogram(
    *,
    datasets: Sequence[str],
    taggers: Sequence[str],
    working_points: Sequence[float | str],
    radius: float = 1.0,
    num_pixels: int = NUM_PIXELS,
) -> hist.Hist[Any]:
    """An empty histogram of images by dataset, tagger and category; all categories are there from the start.

    The pixels cover -radius to radius in both directions.
    """
    if num_pixels < 2 or not 0 < radius < math.pi:
        raise InputError(
            f"images: {num_pixels} pixels to radius {radius:g}; take at least two, and a radius below pi"
        )
    names = [BEFORE, *(cut_category(point) for point in working_points)]
    axes: list[Any] = [
        hist.axis.StrCategory(list(datasets), growth=True, name="dataset", label="dataset"),
        hist.axis.StrCategory(list(taggers), growth=True, name="tagger", label="tagger"),
        hist.axis.StrCategory(
            [*names, *map(jet_weight_category, names)], growth=True, name="category", label="category"
        ),
        hist.axis.Regular(num_pixels, -radius, radius, name="deta", label=r"$\Delta\eta$, turned"),
        hist.axis.Regular(num_pixels, -radius, radius, name="dphi", label=r"$\Delta\phi$, turned"),
    ]
    made: hist.Hist[Any] = hist.Hist(*axes, storage=hist.storage.Weight())
    return made


def fill_images(
    rows: Any,
    *,
    dataset: str,
    weight: NDArray[Any],
    logits: Mapping[str, NDArray[Any]],
    thresholds: ThresholdsByTagger,
    radius: float | None = None,
    num_pixels: int = NUM_PIXELS,
) -> hist.Hist[Any]:
    """The images of one chunk of a dataset, of all jets and of those above each threshold of each tagger.

    rows: from objects.rows; `weight` and `logits` (by tagger) have shape (rows,); `thresholds` are {tagger:
    {background rejection, or the name of a cut such as HALF_SIGNAL: threshold}}, the same for every chunk.
    Jets without constituents have no image and do not count; pt beyond `radius`, by default that of the jets,
    is in no pixel.
    """
    radius = stored_substructure.jet_radius(rows) if radius is None else radius
    cloud = rotate_constituents(rows)
    points = list(dict.fromkeys(point for cuts in thresholds.values() for point in cuts))
    filled = make_image_histogram(
        datasets=[dataset], taggers=list(logits), working_points=points, radius=radius, num_pixels=num_pixels
    )
    pixel = compute_pixel_indices(cloud, radius=radius, num_pixels=num_pixels)
    seen = np.bincount(cloud.jet_index, minlength=len(weight)) > 0
    everything = _ChunkImages(cloud, pixel, np.asarray(weight, dtype=np.float64), seen, num_pixels)
    before = everything.compute_image(seen)
    for number, (tagger, logit) in enumerate(logits.items()):
        names = list(filled.axes["category"])
        chosen = {BEFORE: before} | {
            cut_category(point): everything.compute_image(seen & (np.asarray(logit) > threshold))
            for point, threshold in thresholds[tagger].items()
        }
        for name, found in chosen.items():
            for kind, (value, variance) in zip((name, jet_weight_category(name)), found, strict=True):
                place = filled.view()[0, number, names.index(kind)]
                place["value"], place["variance"] = value, variance
    return filled


def rotate_constituents(rows: Any) -> RotatedConstituents:
    """The constituents of each row about its jet's axis, their main direction upright, harder half up.

    The main direction is the pt-weighted principal axis through the jet axis, (Delta eta, Delta phi); a turn,
    never a reflection. Shares are of the constituents' sum of pt.
    """
    found = constituents.get_constituents(rows)
    size = len(found.start) - 1
    row = np.repeat(np.arange(size), np.diff(found.start))
    x = found.eta - constituents.read_jet_branch(rows, "eta")[row]
    y = found.phi - constituents.read_jet_branch(rows, "phi")[row]
    return rotate_to_principal_axis(row, found.pt, x, y, num_jets=size)


def rotate_to_principal_axis(
    jet_index: Ints, pt: Floats, deta: Floats, dphi: Floats, *, num_jets: int
) -> RotatedConstituents:
    """As `turned`, from flat columns: of constituents their jet (one of `size`), pt, place about its axis."""
    x, y = deta, (dphi + np.pi) % (2 * np.pi) - np.pi

    def total(values: Floats) -> Floats:
        return np.asarray(np.bincount(jet_index, pt * values, minlength=num_jets), dtype=np.float64)

    angle = np.pi / 2 - 0.5 * np.arctan2(2 * total(x * y), total(x**2) - total(y**2))
    along = x * np.sin(angle)[jet_index] + y * np.cos(angle)[jet_index]
    angle += np.where(total(np.sign(along)) < 0, np.pi, 0.0)
    sine, cosine = np.sin(angle)[jet_index], np.cos(angle)[jet_index]
    share = pt / total(np.ones(len(pt)))[jet_index]
    return RotatedConstituents(jet_index, x * cosine - y * sine, x * sine + y * cosine, share)


def compute_pixel_indices(
    rotated: RotatedConstituents, *, radius: float, num_pixels: int = NUM_PIXELS
) -> Ints:
    """Flat pixel of every constituent; pixels**2 for one beyond the image."""
    column, line = (
        np.floor((one + radius) * (num_pixels / (2 * radius))).astype(np.int64)
        for one in (rotated.deta, rotated.dphi)
    )
    inside = (column >= 0) & (column < num_pixels) & (line >= 0) & (line < num_pixels)
    return np.where(inside, column * num_pixels + line, num_pixels**2)


class _ChunkImages(NamedTuple):
    rotated: RotatedConstituents
    pixel_index: Ints
    weight: Floats
    has_image: NDArray[np.bool_]
    num_pixels: int

    def compute_image(
        self, selected: NDArray[np.bool_]
    ) -> tuple[tuple[Floats, Floats], tuple[Floats, Floats]]:
        """Image and jets' weights of the chosen jets, each with its variances; (pixels, pixels)."""
        weight = np.where(selected, self.weight, 0.0)
        each = weight[self.rotated.jet_index] * self.rotated.pt_fraction
        size = self.num_pixels**2
        image, squares = (
            np.bincount(self.pixel_index, one, minlength=size + 1)[:size]
            .astype(np.float64)
            .reshape(self.num_pixels, self.num_pixels)
            for one in (each, each**2)
        )
        # Which pixel holds the jets' weights means nothing: only the sum over pixels is read.
        count, count_squares = np.zeros_like(image), np.zeros_like(image)
        count[0, 0], count_squares[0, 0] = weight.sum(), np.square(weight).sum()
        return (image, squares), (count, count_squares)
