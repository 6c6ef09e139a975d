"""How much alike two samples are in one observable: Wasserstein's distance and the JSD, with their floors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hepdecorr.errors import InputError
from hepdecorr.stats.arrays import binned_sums, validate_arrays
from hepdecorr.stats.divergence import jsd
from hepdecorr.stats.results import ONE_SIGMA, Array, Estimate, Indices, ResultRecord

NUM_REPLICAS = 200
_SIGNIFICANCE_LEVEL = 0.05

DistanceFn = Callable[[Array, Array], float]  # of the weights that all jets have in the one and in the other


@dataclass(frozen=True)
class ObservableSample:
    """Values of an observable, each with the jet it belongs to: one a jet, or one for each constituent.

    values, owner: (k,); weight: (jets,), of the jets.  share: (k,), what a value counts in its jet.
    """

    values: Array
    jet_index: Indices
    weight: Array
    value_weight: Array

    @classmethod
    def from_jets(cls, values: npt.ArrayLike, weight: npt.ArrayLike | None = None) -> ObservableSample:
        """One value a jet."""
        found, w = validate_arrays(weight, values=values)
        return cls(found, np.arange(len(found)), w, np.ones(len(found)))

    @classmethod
    def from_constituents(
        cls,
        values: npt.ArrayLike,
        jet_index: npt.ArrayLike,
        weight: npt.ArrayLike,
        value_weight: npt.ArrayLike | None = None,
    ) -> ObservableSample:
        """Values (k,) of constituents and the jets they belong to, whose weights (jets,) count."""
        found, counts = validate_arrays(value_weight, values=values)
        _, jets = validate_arrays(weight, jets=weight)
        return cls(found, np.asarray(jet_index, dtype=np.int64), jets, counts)

    @property
    def num_jets(self) -> int:
        """How many jets there are, those without a value among them."""
        return len(self.weight)


@dataclass(frozen=True)
class TwoSampleDistance(ResultRecord):
    """Distances between two samples of an observable.

    The floors are what two samples of these sizes come to where both are drawn from what is here together,
    jet by jet; p-values are against that.  w1 is in the unit of the observable.
    """

    w1: Estimate | None  # Wasserstein's distance, None where values are places without a distance
    w1_floor: float
    w1_p_value: float
    jsd: Estimate  # nats
    jsd_floor: float
    jsd_p_value: float
    bins: int
    range: tuple[float, float]
    num_jets: tuple[int, int]
    replicas: int
    seed: int

    @property
    def significant(self) -> bool:
        """Whether they differ by more than chance, in either distance (Bonferroni)."""
        smallest = min(self.jsd_p_value, self.w1_p_value if self.w1 is not None else 1.0)
        return smallest < _SIGNIFICANCE_LEVEL / (2 if self.w1 is not None else 1)


def two_sample_distance(
    reference: ObservableSample,
    other: ObservableSample,
    *,
    edges: npt.ArrayLike,
    has_distance: bool = True,
    paired: bool = False,
    replicas: int = NUM_REPLICAS,
    seed: int = 0,
) -> TwoSampleDistance:
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
    if paired and reference.num_jets != other.num_jets:
        raise InputError(
            f"likeness: {reference.num_jets} and {other.num_jets} jets cannot be pairs; give as many of each"
        )
    pool = _PooledSamples(reference, other)
    measured = [pool.make_w1()] if has_distance else []
    measured.append(pool.make_jsd(bounds))
    random = np.random.default_rng(seed)

    def of(weights: tuple[Array, Array]) -> list[float]:
        return [distance(*weights) for distance in measured]

    found = of(_split_weights(reference.weight, other.weight))
    drawn = np.array([of(_bootstrap_weights(reference, other, paired, random)) for _ in range(replicas)])
    null = np.array([of(_permute_weights(reference, other, random)) for _ in range(replicas)])
    told = [
        Estimate(value, max(value - std, 0.0), value + std, float(std), ONE_SIGMA)
        for value, std in zip(found, drawn.std(axis=0), strict=True)
    ]
    floors = null.mean(axis=0)
    p = (1 + (null >= np.array(found)).sum(axis=0)) / (1 + replicas)
    return TwoSampleDistance(
        w1=told[0] if has_distance else None,
        w1_floor=float(floors[0]) if has_distance else float("nan"),
        w1_p_value=float(p[0]) if has_distance else float("nan"),
        jsd=told[-1],
        jsd_floor=float(floors[-1]),
        jsd_p_value=float(p[-1]),
        bins=len(bounds) - 1,
        range=(float(bounds[0]), float(bounds[-1])),
        num_jets=(reference.num_jets, other.num_jets),
        replicas=replicas,
        seed=seed,
    )


class _PooledSamples:
    """Both samples together, as functions of the weights that jets have in the one and in the other."""

    def __init__(self, reference: ObservableSample, other: ObservableSample) -> None:
        self.values = np.concatenate([reference.values, other.values])
        self.jet_index = np.concatenate([reference.jet_index, other.jet_index + reference.num_jets])
        self.value_weight = np.concatenate([reference.value_weight, other.value_weight])

    def make_w1(self) -> DistanceFn:
        order = np.argsort(self.values, kind="stable")
        gaps, owner, share = np.diff(self.values[order]), self.jet_index[order], self.value_weight[order]

        def distance(first: Array, second: Array) -> float:
            below = [np.cumsum(jets[owner] * share) for jets in (first, second)]
            if not all(len(part) and part[-1] > 0 for part in below):
                raise InputError("likeness: one of the two samples is empty")
            f, g = (part / part[-1] for part in below)
            return float((np.abs(f - g)[:-1] * gaps).sum())

        return distance

    def make_jsd(self, edges: Array) -> DistanceFn:
        bins = len(edges) - 1
        place = np.clip(np.searchsorted(edges, self.values, side="right") - 1, 0, bins - 1)

        def distance(first: Array, second: Array) -> float:
            spectra = (
                binned_sums(place, jets[self.jet_index] * self.value_weight, bins) for jets in (first, second)
            )
            return float(jsd(*spectra))

        return distance


def _bootstrap_weights(
    reference: ObservableSample, other: ObservableSample, paired: bool, random: np.random.Generator
) -> tuple[Array, Array]:
    first = random.poisson(1.0, reference.num_jets)
    second = first if paired else random.poisson(1.0, other.num_jets)
    return _split_weights(reference.weight * first, other.weight * second)


def _permute_weights(
    reference: ObservableSample, other: ObservableSample, random: np.random.Generator
) -> tuple[Array, Array]:
    pool = np.concatenate([reference.weight, other.weight])
    first = np.zeros(len(pool), dtype=np.bool_)
    first[random.permutation(len(pool))[: reference.num_jets]] = True
    return np.where(first, pool, 0.0), np.where(first, 0.0, pool)


def _split_weights(first: Array, second: Array) -> tuple[Array, Array]:
    """Weights of all jets, once as they count in the one sample and once as in the other."""
    return np.concatenate([first, 0 * second]), np.concatenate([0 * first, second])
