"""How much alike two samples are in one observable: Wasserstein's distance and the JSD, with their floors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hepdecorr.errors import InputError
from hepdecorr.validation.measures.divergence import jsd
from hepdecorr.validation.measures.events import checked, sums
from hepdecorr.validation.measures.numbers import ONE_SIGMA, Array, Indices, Measured, Record

REPLICAS = 200
_SIGNIFICANT = 0.05

Distance = Callable[[Array, Array], float]  # of the weights that all jets have in the one and in the other


@dataclass(frozen=True)
class Sample:
    """Values of an observable, each with the jet it belongs to: one a jet, or one for each constituent.

    values, owner: (k,); weight: (jets,), of the jets.  share: (k,), what a value counts in its jet.
    """

    values: Array
    owner: Indices
    weight: Array
    share: Array

    @classmethod
    def of_jets(cls, values: npt.ArrayLike, weight: npt.ArrayLike | None = None) -> Sample:
        """One value a jet."""
        found, w = checked(weight, values=values)
        return cls(found, np.arange(len(found)), w, np.ones(len(found)))

    @classmethod
    def of_parts(
        cls,
        values: npt.ArrayLike,
        owner: npt.ArrayLike,
        weight: npt.ArrayLike,
        share: npt.ArrayLike | None = None,
    ) -> Sample:
        """Values (k,) of constituents and the jets they belong to, whose weights (jets,) count."""
        found, counts = checked(share, values=values)
        _, jets = checked(weight, jets=weight)
        return cls(found, np.asarray(owner, dtype=np.int64), jets, counts)

    @property
    def jets(self) -> int:
        """How many jets there are, those without a value among them."""
        return len(self.weight)


@dataclass(frozen=True)
class Likeness(Record):
    """Distances between two samples of an observable.

    The floors are what two samples of these sizes come to where both are drawn from what is here together,
    jet by jet; p-values are against that.  w1 is in the unit of the observable.
    """

    w1: Measured | None  # Wasserstein's distance, None where values are places without a distance
    w1_floor: float
    w1_p: float
    jsd: Measured  # nats
    jsd_floor: float
    jsd_p: float
    bins: int
    range: tuple[float, float]
    jets: tuple[int, int]
    replicas: int
    seed: int

    @property
    def resolved(self) -> bool:
        """Whether they differ by more than chance, in either distance (Bonferroni)."""
        smallest = min(self.jsd_p, self.w1_p if self.w1 is not None else 1.0)
        return smallest < _SIGNIFICANT / (2 if self.w1 is not None else 1)


def likeness(
    one: Sample,
    other: Sample,
    *,
    edges: npt.ArrayLike,
    metric: bool = True,
    paired: bool = False,
    replicas: int = REPLICAS,
    seed: int = 0,
) -> Likeness:
    """Distances of `other` from `one`.

    W1 = integral |F - G| dx of the two distribution functions (Wasserstein; Vallender, Theory Probab. Appl.
    18 (1974) 784), of all values; the JSD in the bins of `edges`, to whose first and last what lies outside
    goes.  metric: whether values have a distance at all, pixels have none.  Errors by a Poisson bootstrap of
    the jets; `paired`: jet i of one is jet i of the other, both are drawn together.  Floors by exchanging
    jets between the samples.
    """
    bounds = np.asarray(edges, dtype=np.float64)
    if bounds.ndim != 1 or len(bounds) < 3 or not (np.diff(bounds) > 0).all():
        raise InputError("likeness: edges must rise, and make two bins at least")
    if paired and one.jets != other.jets:
        raise InputError(f"likeness: {one.jets} and {other.jets} jets cannot be pairs; give as many of each")
    pool = _Pool(one, other)
    measured = [pool.w1()] if metric else []
    measured.append(pool.jsd(bounds))
    random = np.random.default_rng(seed)

    def of(weights: tuple[Array, Array]) -> list[float]:
        return [distance(*weights) for distance in measured]

    found = of(_apart(one.weight, other.weight))
    drawn = np.array([of(_bootstrap(one, other, paired, random)) for _ in range(replicas)])
    null = np.array([of(_exchanged(one, other, random)) for _ in range(replicas)])
    told = [
        Measured(value, max(value - std, 0.0), value + std, float(std), ONE_SIGMA)
        for value, std in zip(found, drawn.std(axis=0), strict=True)
    ]
    floors = null.mean(axis=0)
    p = (1 + (null >= np.array(found)).sum(axis=0)) / (1 + replicas)
    return Likeness(
        w1=told[0] if metric else None,
        w1_floor=float(floors[0]) if metric else float("nan"),
        w1_p=float(p[0]) if metric else float("nan"),
        jsd=told[-1],
        jsd_floor=float(floors[-1]),
        jsd_p=float(p[-1]),
        bins=len(bounds) - 1,
        range=(float(bounds[0]), float(bounds[-1])),
        jets=(one.jets, other.jets),
        replicas=replicas,
        seed=seed,
    )


class _Pool:
    """Both samples together, as functions of the weights that jets have in the one and in the other."""

    def __init__(self, one: Sample, other: Sample) -> None:
        self.values = np.concatenate([one.values, other.values])
        self.owner = np.concatenate([one.owner, other.owner + one.jets])
        self.share = np.concatenate([one.share, other.share])

    def w1(self) -> Distance:
        order = np.argsort(self.values, kind="stable")
        gaps, owner, share = np.diff(self.values[order]), self.owner[order], self.share[order]

        def distance(first: Array, second: Array) -> float:
            below = [np.cumsum(jets[owner] * share) for jets in (first, second)]
            if not all(len(part) and part[-1] > 0 for part in below):
                raise InputError("likeness: one of the two samples is empty")
            f, g = (part / part[-1] for part in below)
            return float((np.abs(f - g)[:-1] * gaps).sum())

        return distance

    def jsd(self, edges: Array) -> Distance:
        bins = len(edges) - 1
        place = np.clip(np.searchsorted(edges, self.values, side="right") - 1, 0, bins - 1)

        def distance(first: Array, second: Array) -> float:
            spectra = (sums(place, jets[self.owner] * self.share, bins) for jets in (first, second))
            return float(jsd(*spectra))

        return distance


def _bootstrap(one: Sample, other: Sample, paired: bool, random: np.random.Generator) -> tuple[Array, Array]:
    first = random.poisson(1.0, one.jets)
    second = first if paired else random.poisson(1.0, other.jets)
    return _apart(one.weight * first, other.weight * second)


def _exchanged(one: Sample, other: Sample, random: np.random.Generator) -> tuple[Array, Array]:
    pool = np.concatenate([one.weight, other.weight])
    first = np.zeros(len(pool), dtype=np.bool_)
    first[random.permutation(len(pool))[: one.jets]] = True
    return np.where(first, pool, 0.0), np.where(first, 0.0, pool)


def _apart(first: Array, second: Array) -> tuple[Array, Array]:
    """Weights of all jets, once as they count in the one sample and once as in the other."""
    return np.concatenate([first, 0 * second]), np.concatenate([0 * first, second])
