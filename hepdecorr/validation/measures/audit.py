"""The independence audit: can a fresh adversary read the nuisance from the frozen score?"""

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


@dataclass(frozen=True)
class Audit(Record):
    """What a fresh adversary learns about the nuisance from the score, in nats per background event."""

    gain: Measured  # floor - loss, held out; near or below zero when there is nothing to learn
    loss: float  # held-out log loss of the adversary
    floor: float  # held-out log loss of the class frequencies: the entropy of the binned nuisance
    p_value: float  # one-sided, against gain <= 0: a z-test on the paired losses of held-out events
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
    rank or gradient-boosted trees, predicts the quantile bin of the nuisance. Each fold is judged by what was
    learned on the others; which of the two, and how many trees, is decided on one of these. The gain is thus
    a lower bound of the mutual information. The adversary a tagger was trained with cannot stand in: one that
    lags behind sees nothing. InputError for a constant score or nuisance, or too few events for the folds.
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
    return Audit(
        gain=Measured(gain, gain - std, gain + std, std, ONE_SIGMA),
        loss=floor - gain,
        floor=floor,
        p_value=float(stats.norm.sf(gain / std)) if std > 0 else 1.0,
        nuisance_bins=classes,
        folds=folds,
        events=len(score),
        seed=seed,
    )


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
    trees.fit(rows[cell], target, sample_weight=weight)
    probabilities = list(trees.staged_predict_proba(rows))
    for strength in STRENGTHS:
        line = LogisticRegression(C=strength, max_iter=300)
        probabilities.append(line.fit(smooth[cell], target, sample_weight=weight).predict_proba(smooth))
    for probability in probabilities:
        full = np.tile(prior, (len(train), 1))
        full[:, trees.classes_] = np.log(np.maximum(probability, 1e-12))
        yield full


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
