"""Weights that bring the spectra of the classes together where a method learns to tell them apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from hepdecorr.catalogue import suggest
from hepdecorr.errors import InputError

OF = ("background", "signal", "both")
TO = ("signal", "background", "flat")
CLASSES = {"background": 0, "signal": 1}
KEYS = ("nuisances", "of", "to", "bins", "cap")
EDGE = 0.005  # of a spectrum on either side: 'flat' spans what is between
APART = 0.01  # share of a spectrum within the other's range below which there is nothing to bring together

Array = NDArray[np.float64]


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
    of: str = "signal"
    to: str = "background"
    bins: int = 40
    cap: float = 10.0

    @classmethod
    def read(cls, spec: Mapping[str, Any], *, known: Sequence[str]) -> Self:
        """From the block `reweight`; `known` are the table's nuisances."""
        for key in spec:
            if key not in KEYS:
                raise InputError(f"reweight: there is no {key!r}{suggest(str(key), KEYS)}")
        names = spec.get("nuisances", ())
        names = (names,) if isinstance(names, str) else tuple(names)
        if not 1 <= len(names) <= 2:
            raise InputError(f"reweight: nuisances must name one or two variables, not {len(names)}")
        for name in names:
            if name not in known:
                raise InputError(f"reweight: {name!r} is no nuisance of the table{suggest(str(name), known)}")
        return cls(names, **{k: v for k, v in spec.items() if k != "nuisances"})

    def __post_init__(self) -> None:
        for key, value, allowed in (("of", self.of, OF), ("to", self.to, TO)):
            if value not in allowed:
                raise InputError(f"reweight: {key}: no {value!r}{suggest(str(value), allowed)}")
        if self.of == self.to:
            raise InputError(f"reweight: of {self.of} to {self.to} changes nothing")
        if type(self.bins) is not int or self.bins < 2:
            raise InputError(f"reweight: bins must be a whole number above 1, not {self.bins!r}")
        if type(self.cap) not in (int, float) or not self.cap > 1:
            raise InputError(f"reweight: cap must be a number above 1, not {self.cap!r}")

    def fit(self, z: Array, label: NDArray[Any], w: Array) -> Rule:
        """The factors from training events: z (n, variables), label (n,) of 0 and 1, w (n,)."""
        parts = {k: (z[label == k].astype(np.float64), np.maximum(0, w[label == k])) for k in (0, 1)}
        for name, k in CLASSES.items():
            if not parts[k][1].sum() > 0:
                raise InputError(f"reweight: the weights of {name} in the training events sum to nothing")
        changed = [k for name, k in CLASSES.items() if self.of in (name, "both") and self.to != name]
        return Rule(self.nuisances, {k: self._factor(parts, k) for k in changed})

    def _factor(self, parts: Mapping[int, tuple[Array, Array]], label: int) -> Factor:
        own, w = parts[label]
        if (count := int(np.count_nonzero(w))) < self.bins:
            name = next(name for name, k in CLASSES.items() if k == label)
            raise InputError(
                f"reweight: {count} {name} events to train on for {self.bins} bins; lower 'bins', or check "
                "the selection and the files of that class"
            )
        reference = _even(own, w) if self.to == "flat" else parts[CLASSES[self.to]]
        if self.to != "flat":
            self._check_overlap(parts[label], reference)
        cells = Cells.of(own, w, reference, bins=self.bins)
        shares = [cells.shares(*part) for part in ((own, w), reference)]
        # Where the class has nothing there is nothing to weigh; the cap bounds the ratio elsewhere.
        ratio = np.divide(shares[1], shares[0], out=np.ones_like(shares[0]), where=shares[0] > 0)
        factor = Factor(cells, ratio, np.inf, 1.0)
        capped = replace(factor, most=self.cap * float((w * factor(own, w)).mean()))
        return replace(capped, mean=float((w * capped(own, w)).sum() / w.sum()))

    def _check_overlap(self, own: tuple[Array, Array], reference: tuple[Array, Array]) -> None:
        for k, name in enumerate(self.nuisances):
            z, w = own[0][:, k], own[1]
            low, high = _quantiles(reference[0][:, k], reference[1], np.array([EDGE, 1 - EDGE]))
            if w[(low <= z) & (z <= high)].sum() < APART * w.sum():
                raise InputError(
                    f"reweight: {name!r} of {self.of} and of {self.to} have no overlap: the former lies in "
                    f"[{z.min():.4g}, {z.max():.4g}], the latter mostly in [{low:.4g}, {high:.4g}]; no "
                    "weight makes one of the other: check the files, or select both in the same range"
                )


@dataclass(frozen=True)
class Rule:
    """The factor on the weight of each event; by class, 1 for one that is not changed."""

    nuisances: tuple[str, ...]
    factors: Mapping[int, Factor]

    def __call__(self, z: Array, label: NDArray[Any], w: Array) -> Array:
        """Shape (n,), of weighted mean one in each class of the training events."""
        r = np.ones(len(label))
        for k, factor in self.factors.items():
            own = label == k
            r[own] = factor(z[own].astype(np.float64), np.maximum(0, w[own]))
        return r


@dataclass(frozen=True)
class Factor:
    """A ratio of spectra; together with the event's own weight not above `most`; in units of `mean`."""

    cells: Cells
    ratio: Array
    most: float
    mean: float

    def __call__(self, z: Array, w: Array) -> Array:
        ratio = self.cells.look_up(self.ratio, z)
        return np.asarray(ratio * np.minimum(1, self.most / np.maximum(w * ratio, 1e-300)) / self.mean)


@dataclass(frozen=True)
class Cells:
    """Bins of the first variable with edges (k - 1,), or in each of them bins of the second (k, m - 1)."""

    first: Array
    second: Array | None
    middles: Array | None  # of the bins of the only variable

    @classmethod
    def of(cls, own: Array, w: Array, reference: tuple[Array, Array], *, bins: int) -> Self:
        """Cells of equal content of both spectra together, each of summed weight one."""
        z = np.concatenate([own, reference[0]])
        w = np.concatenate([w / w.sum(), reference[1] / reference[1].sum()])
        each = bins if z.shape[1] == 1 else max(2, round((10 * bins) ** 0.5))
        inner = np.arange(1, each) / each
        first = np.unique(_quantiles(z[:, 0], w, inner))
        first = first[first > z[:, 0].min()]  # ties take bins away; none that is left is empty
        place = np.searchsorted(first, z[:, 0], side="right")
        slices = [(z[place == k], w[place == k]) for k in range(len(first) + 1)]
        if z.shape[1] == 1:
            middles = [_quantiles(part[:, 0], own_w, np.array([0.5]))[0] for part, own_w in slices]
            return cls(first, None, np.array(middles))
        return cls(first, np.array([_quantiles(part[:, 1], own_w, inner) for part, own_w in slices]), None)

    def places(self, z: Array) -> NDArray[np.int64]:
        """Index of the cell of each event."""
        row = np.searchsorted(self.first, z[:, 0], side="right")
        if self.second is None:
            return np.asarray(row)
        column = np.empty(len(z), np.int64)
        for k, edges in enumerate(self.second):
            own = row == k
            column[own] = np.searchsorted(edges, z[own, 1], side="right")
        return np.asarray(row * (self.second.shape[1] + 1) + column)

    def shares(self, z: Array, w: Array) -> Array:
        """Share of the weight in each cell."""
        number = len(self.first) + 1
        if self.second is not None:
            number *= self.second.shape[1] + 1
        return np.asarray(np.bincount(self.places(z), weights=w, minlength=number) / w.sum(), np.float64)

    def look_up(self, values: Array, z: Array) -> Array:
        """The value at each event: interpolated for one variable, that of its cell for two."""
        if self.middles is not None:
            return np.asarray(np.interp(z[:, 0], self.middles, values), np.float64)
        return np.asarray(values[self.places(z)])


def _even(own: Array, w: Array) -> tuple[Array, Array]:
    """A grid of points that fills the range of the spectrum evenly, all of one weight."""
    axes = []
    for column in own.T:
        low, high = _quantiles(column, w, np.array([EDGE, 1 - EDGE]))
        number = 20_000 if own.shape[1] == 1 else 400
        axes.append(low + (high - low) * (np.arange(number) + 0.5) / number)
    grid = np.stack([axis.ravel() for axis in np.meshgrid(*axes, indexing="ij")], 1)
    return grid, np.ones(len(grid))


def _quantiles(z: Array, w: Array, at: Array) -> Array:
    order = z.argsort(kind="stable")
    grown = w[order].cumsum()
    return np.asarray(z[order][np.searchsorted(grown, at * grown[-1]).clip(0, len(z) - 1)])
