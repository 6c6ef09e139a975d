"""The independence audit: can a fresh adversary read the nuisance from the frozen score?

Two figures, by two ways to use the events. The **gain** is cross-fitted: what an adversary that learned on
the other folds saves in log loss on the fold held out, a lower bound of the mutual information in nats. It
is of second order in the dependence and pays for all that was learned in vain, so it is a poor test. The
**p-value** asks instead whether the held-out events go with what the adversary learned, whatever its
calibration: T = sum_i D(s_i, c_i), D = log q(c|s) / p(c) centred over the events and over the bins c of the
nuisance. Without dependence T has mean zero given everything that was learned, and its variance is that of
a permutation (Hoeffding, Ann. Math. Statist. 22 (1951) 558, theorem 2), so it is of first order and blind to
scale. Each fold is predicted from those *before* it: only then are the folds' T a martingale, and their sum
normal where there are many events (the prequential principle; Dawid, J. R. Statist. Soc. A 147 (1984) 278);
cross-fitted ones help each other by chance and would raise too many alarms. Three adversaries look for
different things, and the smallest of their p-values is adjusted by Sidak's formula.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression

from hepdecorr.errors import InputError
from hepdecorr.validation.measures.events import checked, effective, sums
from hepdecorr.validation.measures.numbers import ONE_SIGMA, Array, Indices, Measured, Record

# The trees take at most 255 distinct values; half of them resolve the tail of the score, where methods fail.
CELLS = 240
STAGES = 60
# Inverse regularisation of the smooth adversary: a weak trend is learned only by a modest one.
STRENGTHS = (3e-4, 3e-3, 1.0)
TAILS = (0.05, 0.01)  # shares of the background, highest in score, that the adversary of the tail sees apart


@dataclass(frozen=True)
class Audit(Record):
    """What a fresh adversary learns about the nuisance from the score, in nats per background event."""

    gain: Measured  # floor - loss, held out; near or below zero when there is nothing to learn
    loss: float  # held-out log loss of the adversary
    floor: float  # held-out log loss of the class frequencies: the entropy of the binned nuisance
    p_value: float  # against independence: the smallest of the three below, by Sidak's formula
    p_trend: float  # a slope or bend of the score with the nuisance
    p_tail: float  # the highest scores alone
    p_shape: float  # anything, by boosted trees
    nuisance_bins: int
    folds: int
    events: int
    seed: int


def audit(
    logit: npt.ArrayLike,
    nuisance: npt.ArrayLike,
    *,
    weight: npt.ArrayLike | None = None,
    nuisance_bins: int = 10,
    folds: int = 5,
    seed: int = 0,
) -> Audit:
    """Train a new adversary on the frozen score and compare its held-out loss with its floor.

    logit, nuisance, weight: (events,), background only. The adversary, a logistic regression on the score's
    rank or gradient-boosted trees, predicts the quantile bin of the nuisance. For the gain each fold is
    judged by what was learned on the others; which of the two, and how many trees, is decided on one of
    these. The adversary a tagger was trained with cannot stand in: one that lags behind sees nothing.
    InputError for a constant score or nuisance, or too few events for the folds.
    """
    score, z, w = checked(weight, logit=logit, nuisance=nuisance)
    cell, target = _cells(score), _quantile_bins(z, w, nuisance_bins)
    classes = int(target.max()) + 1
    if cell.max() == 0 or classes < 2:
        raise InputError("audit: the score or the nuisance is constant; there is nothing to learn from")
    if folds < 3 or len(score) < 20 * folds * classes:
        raise InputError(
            f"audit: {len(score)} background events for {folds} folds and {classes} nuisance bins; give "
            f"at least {20 * folds * classes} events and three folds, or fewer nuisance bins"
        )
    fold = np.random.default_rng(seed).permutation(len(score)) % folds
    shape = (folds, int(cell.max()) + 1, classes)
    place = np.ravel_multi_index((fold, cell, target), shape)
    # One row per (cell, class) grows the same trees as one row per event.
    weights, squares = (sums(place, values, math.prod(shape)).reshape(shape) for values in (w, w**2))
    gains, base = _held_out(weights, events=effective(w), seed=seed)
    gain = float(np.sum(weights * gains) / weights.sum())
    std = float(np.sqrt(np.sum(squares * np.square(gains - gain))) / weights.sum())
    floor = float(np.sum(weights * base) / weights.sum())
    p_values = _tested(weights, squares, events=effective(w), seed=seed)
    return Audit(
        gain=Measured(gain, gain - std, gain + std, std, ONE_SIGMA),
        loss=floor - gain,
        floor=floor,
        # 1 - (1 - p)^3 loses its digits for a small p.
        p_value=float(-np.expm1(len(p_values) * np.log1p(-min(*p_values, 1 - 1e-12)))),
        p_trend=p_values[0],
        p_tail=p_values[1],
        p_shape=p_values[2],
        nuisance_bins=classes,
        folds=folds,
        events=len(score),
        seed=seed,
    )


def _tested(weights: Array, squares: Array, *, events: float, seed: int) -> tuple[float, float, float]:
    """p-values of the adversaries of trend, tail and shape; each fold is predicted from those before it."""
    found, total = np.zeros(3), 0.0
    for held in range(1, len(weights)):
        train = weights[:held].sum(axis=0)
        # Later folds know better what to look for; that much is known before they are looked at.
        total += held
        for number, ratio in enumerate(_directions(train, events=events * held / len(weights), seed=seed)):
            found[number] += math.sqrt(held) * _agreement(ratio, weights[held], squares[held])
    trend, tail, shape = (float(p) for p in stats.norm.sf(found / math.sqrt(total)))
    return trend, tail, shape


def _directions(train: Array, *, events: float, seed: int) -> Iterator[Array]:
    """What the adversaries of trend, tail and shape take for log q(c|s) / p(c), (cells, classes)."""
    share = train / train.sum()
    cells, classes = share.sum(axis=1), share.sum(axis=0)
    rank = np.cumsum(cells) - cells / 2
    rank = (rank * events + 0.5) / (events + 1)
    normal = stats.norm.ppf(rank)
    for seen in (
        [normal, np.square(normal), -np.log1p(-rank)],
        [rank > 1 - part for part in TAILS],
    ):
        # To first order the log likelihood ratio is linear in the score's functions: no fit is needed.
        table = np.column_stack([np.ones_like(rank), *seen]) * np.sqrt(cells)[:, None]
        own = np.linalg.qr(table)[0][:, 1:] / np.sqrt(np.maximum(cells, 1e-12))[:, None]
        own[cells == 0] = 0.0
        yield own @ (own.T @ share) / np.maximum(classes, 1 / events)
    prior = np.log((classes * events + 1) / (events + len(classes)))
    yield _trees(train, prior, events=events, seed=seed)[-1] - prior


def _agreement(ratio: Array, weights: Array, squares: Array) -> float:
    """How far held-out events go with a table (cells, classes), in standard deviations of a permutation."""
    share = weights / weights.sum()
    cells, classes = share.sum(axis=1), share.sum(axis=0)
    centred = ratio - (ratio @ classes)[:, None] - (cells @ ratio)[None, :] + float(cells @ ratio @ classes)
    # Over all permutations, not of the events as they lie: where a heavy event happens to be missing, these
    # would call small what is none.
    variance = float(squares.sum(axis=1) @ np.square(centred) @ squares.sum(axis=0)) / float(squares.sum())
    return float(np.sum(weights * centred)) / math.sqrt(variance) if variance > 0 else 0.0


def _held_out(weights: Array, *, events: float, seed: int) -> tuple[Array, Array]:
    """For every fold, cell and class: log-likelihood gained by its adversary, and the floor's log loss."""
    folds, cells, classes = weights.shape
    gains, base = np.zeros_like(weights), np.zeros_like(weights)
    for held in range(folds):
        judge = (held + 1) % folds
        train = weights.sum(axis=0) - weights[held] - weights[judge]
        # One pseudo-event per class: a class may be missing from a fold.
        prior = train.sum(axis=0) + train.sum() / events
        prior = np.log(prior / prior.sum())
        base[held] = -prior
        best, most = np.zeros((cells, classes)), 0.0
        for log_probability in _adversaries(train, prior, events=events, seed=seed):
            gained = float(np.sum(weights[judge] * (log_probability - prior)))
            if gained > most:
                best, most = log_probability - prior, gained
        gains[held] = best
    return gains, base


def _adversaries(train: Array, prior: Array, *, events: float, seed: int) -> Iterator[Array]:
    """Log probabilities (cells, classes) of a smooth adversary and of trees after every stage of boosting."""
    cell, target = np.nonzero(train)
    # Weights in effective events: the regularisation is meant in these.
    weight = train[cell, target] * events / train.sum()
    occupied = train.sum(axis=1) + train.sum() / events
    rank = (np.cumsum(occupied) - occupied / 2) / occupied.sum()
    normal = stats.norm.ppf(rank)
    # A slope, a bend, and the tail: few parameters see a weak trend that trees lose among their leaves.
    smooth = np.column_stack([normal, np.square(normal), -np.log1p(-rank)])
    yield from _trees(train, prior, events=events, seed=seed)
    for strength in STRENGTHS:
        line = LogisticRegression(C=strength, max_iter=300).fit(smooth[cell], target, sample_weight=weight)
        yield _logarithms(line.predict_proba(smooth), prior, line.classes_)


def _trees(train: Array, prior: Array, *, events: float, seed: int) -> list[Array]:
    """Log probabilities (cells, classes) of boosted trees after every stage."""
    cell, target = np.nonzero(train)
    trees = HistGradientBoostingClassifier(
        max_iter=STAGES,
        learning_rate=0.07,
        max_leaf_nodes=4,
        min_samples_leaf=1,
        l2_regularization=20.0,
        early_stopping=False,
        random_state=seed,
    )
    rows = np.arange(len(train), dtype=np.float64)[:, None]
    trees.fit(rows[cell], target, sample_weight=train[cell, target] * events / train.sum())
    return [_logarithms(one, prior, trees.classes_) for one in trees.staged_predict_proba(rows)]


def _logarithms(probability: Array, prior: Array, classes: Indices) -> Array:
    """Where a class was not seen, its prior stands."""
    full = np.tile(prior, (len(probability), 1))
    full[:, classes] = np.log(np.maximum(probability, 1e-12))
    return full


def _cells(score: Array) -> Indices:
    """Score as a small integer growing with it: half the cells equal in rank, half ever finer at the top."""
    _, place = np.unique(score, return_inverse=True)
    counts = np.bincount(place)
    rank = (np.cumsum(counts) - counts / 2) / len(score)
    least = min(20 / len(score), 0.5)
    edges = np.concatenate([np.linspace(0, 1, CELLS // 2)[1:-1], 1 - np.geomspace(0.5, least, CELLS // 2)])
    cell = np.searchsorted(np.sort(edges), rank[place], side="right")
    return np.asarray(np.unique(cell, return_inverse=True)[1], dtype=np.int64)


def _quantile_bins(z: Array, weight: Array, bins: int) -> Indices:
    order = np.argsort(z, kind="stable")
    share = np.cumsum(weight[order]) / weight.sum()
    edges = np.unique(z[order][np.minimum(np.searchsorted(share, np.arange(1, bins) / bins), len(z) - 1)])
    return np.asarray(
        np.unique(np.searchsorted(edges, z, side="right"), return_inverse=True)[1], dtype=np.int64
    )
