"""Weights that bring the spectra of the classes together where a method learns to tell them apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from hepdecorr.errors import InputError, suggest

CLASS_CHOICES = ("background", "signal", "both")
TARGET_CHOICES = ("signal", "background", "flat")
CLASS_LABELS = {"background": 0, "signal": 1}
REWEIGHT_KEYS = ("nuisances", "classes", "target", "bins", "cap")
TAIL_FRACTION = 0.005  # of a spectrum on either side: 'flat' spans what is between
MIN_OVERLAP = (
    0.01  # share of a spectrum within the other's range below which there is nothing to bring together
)

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Reweighting:
    """What is to be weighed, and to what.

    nuisances: one or two variables.  of: the class whose spectrum is changed, or both.  to: the spectrum of
    'signal' or 'background', or 'flat' in the variables.  bins: for one variable, of equal content of
    both spectra together; the ratio of the spectra is interpolated between the bins' medians.  For two, 10 x
    bins cells: slices of equal content in the first variable, cut into parts of equal content in the second;
    the ratio is constant in each.  cap: no event gets more than so many times the mean of its class, with its
    own weight counted, as that mean is before the cap; the mean is then brought back to one.

    It is a factor on the loss of the classification alone.  What protects a nuisance, and every measure,
    keeps the physical weights: independence of the background that there is, not of one that is made up.
    """

    nuisances: tuple[str, ...]
    classes: str = "signal"
    target: str = "background"
    bins: int = 40
    cap: float = 10.0

    @classmethod
    def from_config(cls, spec: Mapping[str, Any], *, table_nuisances: Sequence[str]) -> Self:
        """From the block `reweight`; `known` are the table's nuisances."""
        for key in spec:
            if key not in REWEIGHT_KEYS:
                raise InputError(f"reweight: there is no {key!r}{suggest(str(key), REWEIGHT_KEYS)}")
        names = spec.get("nuisances", ())
        names = (names,) if isinstance(names, str) else tuple(names)
        if not 1 <= len(names) <= 2:
            raise InputError(f"reweight: nuisances must name one or two variables, not {len(names)}")
        for name in names:
            if name not in table_nuisances:
                raise InputError(
                    f"reweight: {name!r} is no nuisance of the table{suggest(str(name), table_nuisances)}"
                )
        return cls(names, **{k: v for k, v in spec.items() if k != "nuisances"})

    def __post_init__(self) -> None:
        for key, value, allowed in (
            ("classes", self.classes, CLASS_CHOICES),
            ("target", self.target, TARGET_CHOICES),
        ):
            if value not in allowed:
                raise InputError(f"reweight: {key}: no {value!r}{suggest(str(value), allowed)}")
        if self.classes == self.target:
            raise InputError(f"reweight: of {self.classes} to {self.target} changes nothing")
        if type(self.bins) is not int or self.bins < 2:
            raise InputError(f"reweight: bins must be a whole number above 1, not {self.bins!r}")
        if type(self.cap) not in (int, float) or not self.cap > 1:
            raise InputError(f"reweight: cap must be a number above 1, not {self.cap!r}")

    def fit(self, z: FloatArray, label: NDArray[Any], w: FloatArray) -> FittedReweighting:
        """The factors from training events: z (n, variables), label (n,) of 0 and 1, w (n,)."""
        parts = {k: (z[label == k].astype(np.float64), np.maximum(0, w[label == k])) for k in (0, 1)}
        for name, k in CLASS_LABELS.items():
            if not parts[k][1].sum() > 0:
                raise InputError(f"reweight: the weights of {name} in the training events sum to nothing")
        changed = [
            k for name, k in CLASS_LABELS.items() if self.classes in (name, "both") and self.target != name
        ]
        return FittedReweighting(self.nuisances, {k: self._fit_ratio(parts, k) for k in changed})

    def _fit_ratio(self, spectra: Mapping[int, tuple[FloatArray, FloatArray]], label: int) -> SpectrumRatio:
        own, w = spectra[label]
        if (count := int(np.count_nonzero(w))) < self.bins:
            name = next(name for name, k in CLASS_LABELS.items() if k == label)
            raise InputError(
                f"reweight: {count} {name} events to train on for {self.bins} bins; lower 'bins', or check "
                "the selection and the files of that class"
            )
        reference = _uniform_grid(own, w) if self.target == "flat" else spectra[CLASS_LABELS[self.target]]
        if self.target != "flat":
            self._check_overlap(spectra[label], reference)
        cells = SpectrumBins.from_spectra(own, w, reference, bins=self.bins)
        shares = [cells.bin_fractions(*part) for part in ((own, w), reference)]
        # Where the class has nothing there is nothing to weigh; the cap bounds the ratio elsewhere.
        ratio = np.divide(shares[1], shares[0], out=np.ones_like(shares[0]), where=shares[0] > 0)
        factor = SpectrumRatio(cells, ratio, np.inf, 1.0)
        capped = replace(factor, max_weight=self.cap * float((w * factor(own, w)).mean()))
        return replace(capped, mean_weight=float((w * capped(own, w)).sum() / w.sum()))

    def _check_overlap(
        self, spectrum: tuple[FloatArray, FloatArray], reference: tuple[FloatArray, FloatArray]
    ) -> None:
        for k, name in enumerate(self.nuisances):
            z, w = spectrum[0][:, k], spectrum[1]
            low, high = _weighted_quantiles(
                reference[0][:, k], reference[1], np.array([TAIL_FRACTION, 1 - TAIL_FRACTION])
            )
            if w[(low <= z) & (z <= high)].sum() < MIN_OVERLAP * w.sum():
                raise InputError(
                    f"reweight: {name!r} of {self.classes} and of {self.target} have no overlap: the former "
                    f"lies in "
                    f"[{z.min():.4g}, {z.max():.4g}], the latter mostly in [{low:.4g}, {high:.4g}]; no "
                    "weight makes one of the other: check the files, or select both in the same range"
                )


@dataclass(frozen=True)
class FittedReweighting:
    """The factor on the weight of each event; by class, 1 for one that is not changed."""

    nuisances: tuple[str, ...]
    ratios: Mapping[int, SpectrumRatio]

    def __call__(self, z: FloatArray, label: NDArray[Any], w: FloatArray) -> FloatArray:
        """Shape (n,), of weighted mean one in each class of the training events."""
        r = np.ones(len(label))
        for k, factor in self.ratios.items():
            own = label == k
            r[own] = factor(z[own].astype(np.float64), np.maximum(0, w[own]))
        return r


@dataclass(frozen=True)
class SpectrumRatio:
    """A ratio of spectra; together with the event's own weight not above `most`; in units of `mean`."""

    spectrum_bins: SpectrumBins
    ratio: FloatArray
    max_weight: float
    mean_weight: float

    def __call__(self, z: FloatArray, w: FloatArray) -> FloatArray:
        ratio = self.spectrum_bins.look_up(self.ratio, z)
        return np.asarray(
            ratio * np.minimum(1, self.max_weight / np.maximum(w * ratio, 1e-300)) / self.mean_weight
        )


@dataclass(frozen=True)
class SpectrumBins:
    """Bins of the first variable with edges (k - 1,), or in each of them bins of the second (k, m - 1)."""

    first_edges: FloatArray
    second_edges: FloatArray | None
    bin_medians: FloatArray | None  # of the bins of the only variable

    @classmethod
    def from_spectra(
        cls, values: FloatArray, w: FloatArray, reference: tuple[FloatArray, FloatArray], *, bins: int
    ) -> Self:
        """Cells of equal content of both spectra together, each of summed weight one."""
        z = np.concatenate([values, reference[0]])
        w = np.concatenate([w / w.sum(), reference[1] / reference[1].sum()])
        each = bins if z.shape[1] == 1 else max(2, round((10 * bins) ** 0.5))
        inner = np.arange(1, each) / each
        first = np.unique(_weighted_quantiles(z[:, 0], w, inner))
        first = first[first > z[:, 0].min()]  # ties take bins away; none that is left is empty
        place = np.searchsorted(first, z[:, 0], side="right")
        slices = [(z[place == k], w[place == k]) for k in range(len(first) + 1)]
        if z.shape[1] == 1:
            middles = [_weighted_quantiles(part[:, 0], own_w, np.array([0.5]))[0] for part, own_w in slices]
            return cls(first, None, np.array(middles))
        return cls(
            first, np.array([_weighted_quantiles(part[:, 1], own_w, inner) for part, own_w in slices]), None
        )

    def bin_indices(self, z: FloatArray) -> NDArray[np.int64]:
        """Index of the cell of each event."""
        row = np.searchsorted(self.first_edges, z[:, 0], side="right")
        if self.second_edges is None:
            return np.asarray(row)
        column = np.empty(len(z), np.int64)
        for k, edges in enumerate(self.second_edges):
            own = row == k
            column[own] = np.searchsorted(edges, z[own, 1], side="right")
        return np.asarray(row * (self.second_edges.shape[1] + 1) + column)

    def bin_fractions(self, z: FloatArray, w: FloatArray) -> FloatArray:
        """Share of the weight in each cell."""
        number = len(self.first_edges) + 1
        if self.second_edges is not None:
            number *= self.second_edges.shape[1] + 1
        return np.asarray(np.bincount(self.bin_indices(z), weights=w, minlength=number) / w.sum(), np.float64)

    def look_up(self, values: FloatArray, z: FloatArray) -> FloatArray:
        """The value at each event: interpolated for one variable, that of its cell for two."""
        if self.bin_medians is not None:
            return np.asarray(np.interp(z[:, 0], self.bin_medians, values), np.float64)
        return np.asarray(values[self.bin_indices(z)])


def _uniform_grid(values: FloatArray, w: FloatArray) -> tuple[FloatArray, FloatArray]:
    """A grid of points that fills the range of the spectrum evenly, all of one weight."""
    axes = []
    for column in values.T:
        low, high = _weighted_quantiles(column, w, np.array([TAIL_FRACTION, 1 - TAIL_FRACTION]))
        number = 20_000 if values.shape[1] == 1 else 400
        axes.append(low + (high - low) * (np.arange(number) + 0.5) / number)
    grid = np.stack([axis.ravel() for axis in np.meshgrid(*axes, indexing="ij")], 1)
    return grid, np.ones(len(grid))


def _weighted_quantiles(z: FloatArray, w: FloatArray, probabilities: FloatArray) -> FloatArray:
    order = z.argsort(kind="stable")
    grown = w[order].cumsum()
    return np.asarray(z[order][np.searchsorted(grown, probabilities * grown[-1]).clip(0, len(z) - 1)])
