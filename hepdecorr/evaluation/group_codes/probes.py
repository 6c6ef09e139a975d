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
from hepdecorr.evaluation.group_codes.inference import bootstrap_ratio, sum_by_group
from hepdecorr.stats.results import Array, Estimate, Indices

NUM_RANDOM_FEATURES = 96
RIDGE_STRENGTHS = tuple(10.0 ** np.arange(-4, 5))
MIN_GROUPS = 20  # groups that a probe needs
NUM_INFORMATION_BINS = 10  # of a true variable, equally full, in an information
MAX_FIT_EVENTS = 40_000  # events on which a probe of instances is fitted


class GroupHalves(NamedTuple):
    """Masks of groups: those a probe is fitted on, and those that judge it."""

    fit: np.typing.NDArray[np.bool_]
    test: np.typing.NDArray[np.bool_]


def split_groups(num_groups: int, *, seed: int = 0) -> GroupHalves:
    """The groups, halved at random; InputError where there are too few to fit anything."""
    if num_groups < MIN_GROUPS:
        raise InputError(f"{num_groups} groups to test with; probes need at least {MIN_GROUPS}")
    fit = np.random.default_rng(seed).permutation(num_groups) < num_groups // 2
    return GroupHalves(fit, ~fit)


class ProbeResult(NamedTuple):
    """1 - R^2 of the mean over the variables, and of each."""

    mean: Estimate
    per_variable: tuple[Estimate, ...]


def standardise_codes(code: Array, fit_mask: np.typing.NDArray[np.bool_]) -> Array:
    """Each dimension with mean 0 and deviation 1 over the rows to fit on; constant ones are 0."""
    spread = code[fit_mask].std(axis=0)
    return np.asarray((code - code[fit_mask].mean(axis=0)) / np.where(spread > 1e-12, spread, np.inf))


def random_features(code: Array, *, seed: int = 0, size: int = NUM_RANDOM_FEATURES) -> Array:
    """max(W c + b, 0) of standardised codes (n, d), (n, size), float32."""
    random = np.random.default_rng(seed)
    weight = random.standard_normal((code.shape[1], size))
    # Bends within two deviations of the centre.
    offset = random.uniform(-2, 2, size) * np.linalg.norm(weight, axis=0)
    bent = code.astype(np.float32) @ weight.astype(np.float32) + offset.astype(np.float32)
    return np.asarray(np.maximum(bent, 0))


def run_probe(
    inputs: Array,
    truth: Array,
    halves: GroupHalves,
    *,
    linear: bool,
    group_index: Indices | None = None,
    num_groups: int = 0,
    seed: int = 0,
) -> ProbeResult:
    """How much of each variable (n, t) is left when it is predicted from `inputs` (n, d), taken as they are.

    unit: (n,), the group of each row where rows are events, and `units` how many there are; halved: of the
    rows.  The interval is a bootstrap of groups.
    """
    model = LinearRegression() if linear else RidgeCV(RIDGE_STRENGTHS)
    fit = np.flatnonzero(halves.fit)
    if len(fit) > MAX_FIT_EVENTS:
        fit = np.sort(np.random.default_rng(seed).permutation(fit)[:MAX_FIT_EVENTS])
    mean, spread = truth[fit].mean(axis=0), truth[fit].std(axis=0)
    if np.any(spread <= 0):
        raise InputError("a true variable is the same in all groups: nothing of it can be predicted")
    model.fit(inputs[fit], (truth[fit] - mean) / spread)
    test = halves.test
    wanted = (truth[test] - mean) / spread
    found = np.asarray(model.predict(inputs[test])).reshape(wanted.shape)
    left, all_of_it = np.square(wanted - found), np.square(wanted - wanted.mean(axis=0))
    if group_index is not None:
        own = group_index[test]
        left, all_of_it = (
            np.stack([sum_by_group(column, own, num_groups) for column in part.T], axis=1)
            for part in (left, all_of_it)
        )
    each = tuple(bootstrap_ratio(a, b, seed=seed) for a, b in zip(left.T, all_of_it.T, strict=True))
    # The variables count alike.
    share = all_of_it.sum(axis=0)
    mean_of_all = bootstrap_ratio((left / share).sum(axis=1), (all_of_it / share).sum(axis=1), seed=seed)
    return ProbeResult(mean_of_all, each)


def probe_group_code(code: Array, truth: Array, halves: GroupHalves, *, linear: bool = True) -> ProbeResult:
    """U-probing (5): the true group variables (groups, t) from the group's code (groups, d).

    With linear=True that of the authors' code.  A variable whose sign does not act, as sigma of exam scores
    of which the data know sigma^2 alone, cannot be predicted by any probe: an error of 1 is then right, and
    the square of the variable tells.
    """
    ready = standardise_codes(code, halves.fit)
    inputs = ready if linear else np.concatenate([ready, random_features(ready)], axis=1)
    return run_probe(inputs, truth, halves, linear=linear)


def probe_instance_codes(
    instance: Array, truth: Array, group_index: Indices, halves: GroupHalves, *, linear: bool = True
) -> ProbeResult:
    """V-probing as in the authors' table: the true instance variables (n, s) from the event's code (n, d).

    Lower is better.  halved: of the groups.
    """
    rows = GroupHalves(halves.fit[group_index], halves.test[group_index])
    ready = standardise_codes(instance, rows.fit)
    inputs = ready if linear else np.concatenate([ready, random_features(ready, size=32)], axis=1)
    return run_probe(inputs, truth, rows, linear=linear, group_index=group_index, num_groups=len(halves.fit))


def pool_instance_codes(
    instance: Array, group_index: Indices, halves: GroupHalves, *, seed: int = 0
) -> Array:
    """The instance codes of each group as numbers that do not depend on their order, (groups, p).

    Means over the events of the codes and of random features of them.  The authors' probe sums a linear layer
    over the events, Linear -> sum -> Linear with 32 hidden: their means; the features see spread and shape.
    """
    ready = standardise_codes(instance, halves.fit[group_index])
    order, counts = np.argsort(group_index, kind="stable"), np.bincount(group_index)
    ready, starts = ready[order], np.cumsum(counts) - counts
    parts = (ready, random_features(ready, seed=seed))
    sums = [np.add.reduceat(part, starts, axis=0, dtype=np.float64) for part in parts]
    return standardise_codes(np.concatenate(sums, axis=1) / counts[:, None], halves.fit)


def probe_pooled_codes(
    pooled_codes: Array, truth: Array, halves: GroupHalves, *, num_linear_dims: int = 0
) -> ProbeResult:
    """V-probing as the authors' figures have it: the true group variables from the group's instance codes.

    pool: the codes as `pooled` has them.  Higher is better: they tell nothing of their group.  linear: of so
    many dimensions of the instance codes their mean alone, by least squares.
    """
    return run_probe(
        pooled_codes[:, :num_linear_dims] if num_linear_dims else pooled_codes,
        truth,
        halves,
        linear=bool(num_linear_dims),
    )


class BinnedVariable(NamedTuple):
    """In which bin each value (groups,) of a variable lies, and how likely each bin is, on groups to fit on.

    Bins are equally full as far as values differ: of a variable of few values (an era) each has one.
    """

    bin_index: Indices  # (groups,), of the bins that are filled, from 0
    bin_probability: Array  # (bins,)

    @classmethod
    def from_truth(cls, truth: Array, fit_mask: np.typing.NDArray[np.bool_]) -> Self:
        """InputError for a variable that is the same in all groups to fit on."""
        edges = np.quantile(truth[fit_mask], np.arange(1, NUM_INFORMATION_BINS) / NUM_INFORMATION_BINS)
        place = np.searchsorted(edges, truth, side="right")
        filled, counts = np.unique(place[fit_mask], return_counts=True)
        if len(filled) < 2:
            raise InputError("a true variable is the same in all groups: nothing can be told of it")
        # What no group to fit on has joins the next bin.
        return cls(np.searchsorted(filled, place).clip(max=len(filled) - 1), counts / counts.sum())

    @property
    def entropy(self) -> float:
        """Nats; ln BINS for a variable whose values all differ."""
        return float(-self.bin_probability @ np.log(self.bin_probability))


def predictive_information(inputs: Array, binned: BinnedVariable, halves: GroupHalves) -> Array:
    """What `inputs` (groups, d) tell of the bin of a variable, nats, for each group of the test.

    The logarithm of the probability that a fitted logistic regression gives to the bin in which it is, over
    that of the bin; its mean is a lower bound on their mutual information (Barber and Agakov, NeurIPS 2003).
    No sign has to be known for that.
    """
    model = LogisticRegression(C=1.0, max_iter=300, tol=1e-3)
    model.fit(inputs[halves.fit], binned.bin_index[halves.fit])
    # A probability that rounds to zero would count as minus infinity.
    chance = np.log(np.maximum(model.predict_proba(inputs[halves.test]), np.finfo(np.float64).tiny))
    own = binned.bin_index[halves.test]
    return np.asarray(chance[np.arange(len(own)), own] - np.log(binned.bin_probability[own]))


class GroupCodeGap(NamedTuple):
    """MIG of the group code, and the informations it is made of, nats, of each group variable."""

    mig: Estimate
    group_information: tuple[Estimate, ...]  # I(u; variable)
    instance_information: tuple[Estimate, ...]  # I(v of the whole group; variable)
    entropy: tuple[float, ...]  # H(variable)


def group_code_gap(code: Array, pooled_codes: Array, truth: Array, halves: GroupHalves) -> GroupCodeGap:
    """(I(u; t) - I(v; t)) / H(t), mean over the true group variables t (the authors' later draft, MIG_u).

    v stands for all instance codes of a group together, as `pooled` has them.  Both informations are lower
    bounds, those of `told`, of random features of the codes.
    """
    ready = standardise_codes(code, halves.fit)
    of_u = standardise_codes(np.concatenate([ready, random_features(ready)], axis=1), halves.fit)
    ones = np.ones(int(halves.test.sum()))
    binned = [BinnedVariable.from_truth(t, halves.fit) for t in truth.T]
    by_u: Sequence[Array] = [predictive_information(of_u, one, halves) for one in binned]
    by_v: Sequence[Array] = [predictive_information(pooled_codes, one, halves) for one in binned]
    shares = [(a - b) / one.entropy for a, b, one in zip(by_u, by_v, binned, strict=True)]
    return GroupCodeGap(
        bootstrap_ratio(np.mean(shares, axis=0), ones),
        tuple(bootstrap_ratio(one, ones) for one in by_u),
        tuple(bootstrap_ratio(one, ones) for one in by_v),
        tuple(one.entropy for one in binned),
    )
