"""Does the background factorise in the plane of two scores? The closure of the ABCD method.

Region A passes both cuts, B the first alone, C the second alone, D neither; if the two are independent on
background, N_A = N_B N_C / N_D (2007.14400), and three regions predict the fourth.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hepdecorr.errors import InputError
from hepdecorr.validation.measures.efficiency import Tail
from hepdecorr.validation.measures.events import checked, classes
from hepdecorr.validation.measures.numbers import Array, Measured, Record

_NAMES = ("A", "B", "C", "D")


@dataclass(frozen=True)
class Regions(Record):
    """One pair of cuts: what is predicted for region A and what is there; numbers are sums of weights."""

    first: float  # the cuts: an event passes above them
    second: float
    observed: Measured  # background in A
    predicted: Measured  # B C / D of background
    closure: Measured  # predicted / observed
    pull: float  # of ln(A D / B C), which is 0 where the two are independent, in its errors
    background: tuple[float, ...]  # in A, B, C, D
    signal: tuple[float, ...]  # in A, B, C, D
    signal_efficiency: float  # share of signal in A
    background_efficiency: float  # share of background in A
    contamination: float  # largest signal-to-background ratio of B, C, D relative to A's
    with_signal: float  # (B C / D of signal and background) / background observed: the closure as data see it


@dataclass(frozen=True)
class Abcd(Record):
    """The closure for pairs of cuts that each reject the same share of the background."""

    rejections: tuple[float, ...]  # of each cut alone
    regions: tuple[Regions, ...]

    @property
    def worst(self) -> Regions:
        """The cuts with the largest pull, of either sign."""
        return max(self.regions, key=lambda one: abs(one.pull))


def abcd(
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    label: npt.ArrayLike,
    *,
    rejections: Sequence[float] = (0.5, 0.7, 0.8, 0.9, 0.95),
    weight: npt.ArrayLike | None = None,
) -> Abcd:
    """The closure at cuts that each reject these shares of the background.

    first, second: two scores or logits, or a score and a variable; label (0 background, 1 signal), weight:
    (events,).  A rejection at which a region holds no background is left out.  InputError for unusable input,
    or when none is left.
    """
    f, g, y, w = checked(weight, first=first, second=second, label=label)
    background, _ = classes(y)
    tails = [Tail(t[background], w[background]) for t in (f, g)]
    found = []
    for rejection in rejections:
        cuts = [tail.threshold(1 - rejection) for tail in tails]
        if min(_counts(f, g, np.where(background, w, 0.0), *cuts)) > 0:
            found.append((float(rejection), regions(f, g, y, cuts=(cuts[0], cuts[1]), weight=w)))
    if not found:
        raise InputError(
            f"abcd: at no rejection of {list(rejections)} is there background in all four regions; ask for "
            "lower ones, or give more events"
        )
    return Abcd(tuple(r for r, _ in found), tuple(p for _, p in found))


def regions(
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    label: npt.ArrayLike,
    *,
    cuts: tuple[float, float],
    weight: npt.ArrayLike | None = None,
) -> Regions:
    """The closure at one pair of cuts.

    The relative variance of a region is sum w^2 / (sum w)^2, and those of regions add up.  Contamination is
    (N_s / N_b in a control region) / (N_s / N_b in A) (2007.14400); InputError where a region
    holds no background.
    """
    f, g, y, w = checked(weight, first=first, second=second, label=label)
    background, signal = classes(y)
    b, s = (_counts(f, g, np.where(mask, w, 0.0), *cuts) for mask in (background, signal))
    squares = _counts(f, g, np.where(background, np.square(w), 0.0), *cuts)
    if min(b) <= 0:
        empty = _NAMES[int(np.argmin(b))]
        raise InputError(f"abcd: no background in region {empty} at cuts {cuts[0]:.6g} and {cuts[1]:.6g}")
    relative = squares / np.square(b)
    predicted = b[1] * b[2] / b[3]
    total = math.sqrt(relative.sum())
    ratios = s / b
    with_signal = (b + s)[1] * (b + s)[2] / (b + s)[3]
    return Regions(
        first=float(cuts[0]),
        second=float(cuts[1]),
        observed=_measured(b[0], math.sqrt(relative[0])),
        predicted=_measured(predicted, math.sqrt(relative[1:].sum())),
        closure=_measured(predicted / b[0], total),
        pull=math.log(b[0] * b[3] / (b[1] * b[2])) / total,
        background=tuple(float(n) for n in b),
        signal=tuple(float(n) for n in s),
        signal_efficiency=float(s[0] / s.sum()),
        background_efficiency=float(b[0] / b.sum()),
        contamination=float(ratios[1:].max() / ratios[0]) if s[0] > 0 else math.inf,
        with_signal=float(with_signal / b[0]),
    )


def _measured(value: Any, relative: float) -> Measured:
    std = float(value) * relative
    return Measured(float(value), float(value) - std, float(value) + std, std)


def _counts(f: Array, g: Array, w: Array, first: float, second: float) -> Array:
    """Summed weights in A, B, C, D."""
    high, right = g > second, f > first
    return np.array([w[m].sum() for m in (right & high, right & ~high, ~right & high, ~right & ~high)])
