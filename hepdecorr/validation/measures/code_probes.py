"""Probes: how much of the true group and instance variables can be read from the codes of a tagger.

A probe is fitted on half of the groups and judged on the other half.  Errors are in units of the variance of
what is predicted, that is 1 - R^2: 0 for all, 1 for nothing.  (For unit normal variables, as those of exam
scores, they are the mean squared errors of the authors.)  'Linear' is least squares; 'features' is ridge
regression on the codes and on random features of them, max(W c + b, 0) (Rahimi and Recht, NeurIPS 2008),
which finds any smooth dependence; the strength of the ridge is chosen on the first half.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Self

import numpy as np
from sklearn.linear_model import LinearRegression, LogisticRegression, RidgeCV

from hepdecorr.errors import InputError
from hepdecorr.validation.measures.codes import in_groups, of_units
from hepdecorr.validation.measures.numbers import Array, Indices, Measured

FEATURES = 96
RIDGES = tuple(10.0 ** np.arange(-4, 5))
LEAST = 20  # groups that a probe needs
BINS = 10  # of a true variable, equally full, in an information
MOST = 40_000  # events on which a probe of instances is fitted


class Halves(NamedTuple):
    """Masks of groups: those a probe is fitted on, and those that judge it."""

    fit: np.typing.NDArray[np.bool_]
    test: np.typing.NDArray[np.bool_]


def halves(groups: int, *, seed: int = 0) -> Halves:
    """The groups, halved at random; InputError where there are too few to fit anything."""
    if groups < LEAST:
        raise InputError(f"{groups} groups to test with; probes need at least {LEAST}")
    fit = np.random.default_rng(seed).permutation(groups) < groups // 2
    return Halves(fit, ~fit)


class Probed(NamedTuple):
    """1 - R^2 of the mean over the variables, and of each."""

    mean: Measured
    each: tuple[Measured, ...]


def standardised(code: Array, fit: np.typing.NDArray[np.bool_]) -> Array:
    """Each dimension with mean 0 and deviation 1 over the rows to fit on; constant ones are 0."""
    spread = code[fit].std(axis=0)
    return np.asarray((code - code[fit].mean(axis=0)) / np.where(spread > 1e-12, spread, np.inf))


def random_features(code: Array, *, seed: int = 0, size: int = FEATURES) -> Array:
    """max(W c + b, 0) of standardised codes (n, d), (n, size), float32."""
    random = np.random.default_rng(seed)
    weight = random.standard_normal((code.shape[1], size))
    # Bends within two deviations of the centre.
    offset = random.uniform(-2, 2, size) * np.linalg.norm(weight, axis=0)
    bent = code.astype(np.float32) @ weight.astype(np.float32) + offset.astype(np.float32)
    return np.asarray(np.maximum(bent, 0))


def probe(
    inputs: Array,
    truth: Array,
    halved: Halves,
    *,
    linear: bool,
    unit: Indices | None = None,
    units: int = 0,
    seed: int = 0,
) -> Probed:
    """How much of each variable (n, t) is left when it is predicted from `inputs` (n, d), taken as they are.

    unit: (n,), the group of each row where rows are events, and `units` how many there are; halved: of the
    rows.  The interval is a bootstrap of groups.
    """
    model = LinearRegression() if linear else RidgeCV(RIDGES)
    fit = np.flatnonzero(halved.fit)
    if len(fit) > MOST:
        fit = np.sort(np.random.default_rng(seed).permutation(fit)[:MOST])
    mean, spread = truth[fit].mean(axis=0), truth[fit].std(axis=0)
    if np.any(spread <= 0):
        raise InputError("a true variable is the same in all groups: nothing of it can be predicted")
    model.fit(inputs[fit], (truth[fit] - mean) / spread)
    test = halved.test
    wanted = (truth[test] - mean) / spread
    found = np.asarray(model.predict(inputs[test])).reshape(wanted.shape)
    left, all_of_it = np.square(wanted - found), np.square(wanted - wanted.mean(axis=0))
    if unit is not None:
        own = unit[test]
        left, all_of_it = (
            np.stack([in_groups(column, own, units) for column in part.T], axis=1)
            for part in (left, all_of_it)
        )
    each = tuple(of_units(a, b, seed=seed) for a, b in zip(left.T, all_of_it.T, strict=True))
    # The variables count alike.
    share = all_of_it.sum(axis=0)
    mean_of_all = of_units((left / share).sum(axis=1), (all_of_it / share).sum(axis=1), seed=seed)
    return Probed(mean_of_all, each)


def u_probe(code: Array, truth: Array, halved: Halves, *, linear: bool = True) -> Probed:
    """U-probing (5): the true group variables (groups, t) from the group's code (groups, d).

    With linear=True that of the authors' code.  A variable whose sign does not act, as sigma of exam scores
    of which the data know sigma^2 alone, cannot be predicted by any probe: an error of 1 is then right, and
    the square of the variable tells.
    """
    ready = standardised(code, halved.fit)
    inputs = ready if linear else np.concatenate([ready, random_features(ready)], axis=1)
    return probe(inputs, truth, halved, linear=linear)


def v_prediction(
    instance: Array, truth: Array, group: Indices, halved: Halves, *, linear: bool = True
) -> Probed:
    """V-probing as in the authors' table: the true instance variables (n, s) from the event's code (n, d).

    Lower is better.  halved: of the groups.
    """
    rows = Halves(halved.fit[group], halved.test[group])
    ready = standardised(instance, rows.fit)
    inputs = ready if linear else np.concatenate([ready, random_features(ready, size=32)], axis=1)
    return probe(inputs, truth, rows, linear=linear, unit=group, units=len(halved.fit))


def pooled(instance: Array, group: Indices, halved: Halves, *, seed: int = 0) -> Array:
    """The instance codes of each group as numbers that do not depend on their order, (groups, p).

    Means over the events of the codes and of random features of them.  The authors' probe sums a linear layer
    over the events, Linear -> sum -> Linear with 32 hidden: their means; the features see spread and shape.
    """
    ready = standardised(instance, halved.fit[group])
    order, counts = np.argsort(group, kind="stable"), np.bincount(group)
    ready, starts = ready[order], np.cumsum(counts) - counts
    parts = (ready, random_features(ready, seed=seed))
    sums = [np.add.reduceat(part, starts, axis=0, dtype=np.float64) for part in parts]
    return standardised(np.concatenate(sums, axis=1) / counts[:, None], halved.fit)


def v_probe(pool: Array, truth: Array, halved: Halves, *, linear: int = 0) -> Probed:
    """V-probing as the authors' figures have it: the true group variables from the group's instance codes.

    pool: the codes as `pooled` has them.  Higher is better: they tell nothing of their group.  linear: of so
    many dimensions of the instance codes their mean alone, by least squares.
    """
    return probe(pool[:, :linear] if linear else pool, truth, halved, linear=bool(linear))


class Binned(NamedTuple):
    """In which bin each value (groups,) of a variable lies, and how likely each bin is, on groups to fit on.

    Bins are equally full as far as values differ: of a variable of few values (an era) each has one.
    """

    place: Indices  # (groups,), of the bins that are filled, from 0
    share: Array  # (bins,)

    @classmethod
    def of(cls, truth: Array, fit: np.typing.NDArray[np.bool_]) -> Self:
        """InputError for a variable that is the same in all groups to fit on."""
        edges = np.quantile(truth[fit], np.arange(1, BINS) / BINS)
        place = np.searchsorted(edges, truth, side="right")
        filled, counts = np.unique(place[fit], return_counts=True)
        if len(filled) < 2:
            raise InputError("a true variable is the same in all groups: nothing can be told of it")
        # What no group to fit on has joins the next bin.
        return cls(np.searchsorted(filled, place).clip(max=len(filled) - 1), counts / counts.sum())

    @property
    def entropy(self) -> float:
        """Nats; ln BINS for a variable whose values all differ."""
        return float(-self.share @ np.log(self.share))


def told(inputs: Array, binned: Binned, halved: Halves) -> Array:
    """What `inputs` (groups, d) tell of the bin of a variable, nats, for each group of the test.

    The logarithm of the probability that a fitted logistic regression gives to the bin in which it is, over
    that of the bin; its mean is a lower bound on their mutual information (Barber and Agakov, NeurIPS 2003).
    No sign has to be known for that.
    """
    model = LogisticRegression(C=1.0, max_iter=300, tol=1e-3)
    model.fit(inputs[halved.fit], binned.place[halved.fit])
    # A probability that rounds to zero would count as minus infinity.
    chance = np.log(np.maximum(model.predict_proba(inputs[halved.test]), np.finfo(np.float64).tiny))
    own = binned.place[halved.test]
    return np.asarray(chance[np.arange(len(own)), own] - np.log(binned.share[own]))


class GroupGap(NamedTuple):
    """MIG of the group code, and the informations it is made of, nats, of each group variable."""

    gap: Measured
    group: tuple[Measured, ...]  # I(u; variable)
    instance: tuple[Measured, ...]  # I(v of the whole group; variable)
    entropy: tuple[float, ...]  # H(variable)


def group_gap(code: Array, pool: Array, truth: Array, halved: Halves) -> GroupGap:
    """(I(u; t) - I(v; t)) / H(t), mean over the true group variables t (the authors' later draft, MIG_u).

    v stands for all instance codes of a group together, as `pooled` has them.  Both informations are lower
    bounds, those of `told`, of random features of the codes.
    """
    ready = standardised(code, halved.fit)
    of_u = standardised(np.concatenate([ready, random_features(ready)], axis=1), halved.fit)
    ones = np.ones(int(halved.test.sum()))
    binned = [Binned.of(t, halved.fit) for t in truth.T]
    by_u: Sequence[Array] = [told(of_u, one, halved) for one in binned]
    by_v: Sequence[Array] = [told(pool, one, halved) for one in binned]
    shares = [(a - b) / one.entropy for a, b, one in zip(by_u, by_v, binned, strict=True)]
    return GroupGap(
        of_units(np.mean(shares, axis=0), ones),
        tuple(of_units(one, ones) for one in by_u),
        tuple(of_units(one, ones) for one in by_v),
        tuple(one.entropy for one in binned),
    )
