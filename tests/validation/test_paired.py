"""Differences of two taggers on the same events: their values, errors, coverage and verdicts."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from hepdecorr.errors import InputError
from hepdecorr.validation.measures import Protected, auc, paired, sculpting, signal_efficiency
from hepdecorr.validation.measures.divergence import jsd
from hepdecorr.validation.measures.paired import _adjusted, _difference

RANGE = (0.0, 1.0)


def events(seed, size=3000, *, better=0.0, seeds=1, jitter=0.0):
    """Two scores that share most of their noise; `better` moves the signal of the second one."""
    random = np.random.default_rng(seed)
    label = (random.random(size) < 0.4).astype(float)
    shared = random.normal(size=size) + 1.5 * label

    def score(move):
        drift = jitter * random.normal()
        return shared + 0.3 * random.normal(size=size) + (move + drift) * label

    return {
        "a": [score(0.0) for _ in range(seeds)],
        "b": [score(better) for _ in range(seeds)],
    }, label


def delong(first, second, label):
    """Standard deviation of the difference of two AUCs by its own formula (Biometrics 44 (1988) 837)."""
    signal, background = label == 1, label == 0
    placed = []
    for score in (first, second):
        s, b = score[signal][:, None], score[background][None, :]
        wins = (s > b) + 0.5 * (s == b)
        placed.append((wins.mean(axis=1), wins.mean(axis=0)))
    variance = [np.var(placed[0][i] - placed[1][i], ddof=1) / len(placed[0][i]) for i in (0, 1)]
    return math.sqrt(sum(variance))


def test_the_error_of_an_auc_difference_is_that_of_delong():
    logits, label = events(1)
    found = paired(logits, label, rejections=(0.9,), replicas=600).between("a", "b", "auc")
    first, second = logits["a"][0], logits["b"][0]
    assert found.value.std == pytest.approx(delong(first, second, label), rel=0.1)
    # Two separate errors would be several times as large.
    apart = math.hypot(auc(first, label).std, auc(second, label).std)
    assert found.value.std < 0.5 * apart


def test_values_are_those_of_the_measures_by_themselves():
    logits, label = events(2, seeds=2)
    z, weight = np.random.default_rng(0).random((2, len(label)))
    logits["b"][1] = np.round(logits["b"][1], 1)  # ties
    settings = {"rejections": (0.5, 0.9), "replicas": 2, "protected": {"m": Protected(z, RANGE, 20)}}
    found = paired(logits, label, weight=weight, **settings)
    background = label == 0
    for name, seeds in logits.items():
        for k, score in enumerate(seeds):
            assert found.values[name]["auc"][k] == pytest.approx(auc(score, label, weight=weight).value)
            for rejection in (0.5, 0.9):
                alone = signal_efficiency(score, label, rejection=rejection, weight=weight)
                told = found.values[name][f"efficiency {rejection}"][k]
                assert told == pytest.approx(alone.efficiency.value)
                cut = {"threshold": alone.threshold, "range": RANGE, "bins": 20}
                measured = sculpting(
                    score[background],
                    z[background],
                    weight=weight[background],
                    permutations=1,
                    replicas=50,
                    **cut,
                )
                assert found.values[name][f"jsd m {rejection}"][k] == pytest.approx(measured.jsd.value)
    difference = found.between("b", "a", "auc")
    assert difference.value.value == pytest.approx(
        np.mean(found.values["b"]["auc"]) - np.mean(found.values["a"]["auc"])
    )
    assert difference.value.low < difference.value.value < difference.value.high
    assert (difference.first, difference.seeds) == ("b", (2, 2))


def test_the_interval_covers_the_true_difference():
    better = 0.15
    spread = math.hypot(1, 0.3) * math.sqrt(2)
    truth = stats.norm.cdf((1.5 + better) / spread) - stats.norm.cdf(1.5 / spread)
    inside = 0
    for seed in range(150):
        logits, label = events(seed, 400, better=better)
        found = paired(logits, label, rejections=(), replicas=80, seed=seed).between("b", "a", "auc")
        inside += found.value.low <= truth <= found.value.high
    # 95 %: 142.5 of 150, standard deviation 2.7.
    assert 134 <= inside <= 150


def test_trainings_that_scatter_are_not_told_apart_by_the_events_alone():
    """Means of four trainings that differ by luck: events alone would call many of them different."""
    alone, both = 0, 0
    for seed in range(40):
        logits, label = events(seed, 1500, seeds=4, jitter=0.15)
        both += paired(logits, label, rejections=(), replicas=40).between("a", "b", "auc").separable
        first = {name: seeds[:1] for name, seeds in logits.items()}
        alone += paired(first, label, rejections=(), replicas=40).between("a", "b", "auc").separable
    assert both <= 6  # 5 % of 40 are 2
    assert alone > 12


def test_different_numbers_of_seeds_and_identical_scores():
    logits, label = events(3, seeds=3, jitter=0.1)
    found = paired({"a": logits["a"], "b": logits["b"][:2]}, label, rejections=(), replicas=30)
    assert found.differences[0].seeds == (3, 2)
    assert found.differences[0].value.std > 0
    same = paired({"a": logits["a"][:1], "b": logits["a"][:1]}, label, rejections=(0.9,), replicas=10)
    assert [(one.value.value, one.p_value, one.separable) for one in same.differences] == [(0, 1, False)] * 2


def test_what_differs_is_separable_and_holm_counts_the_pairs():
    logits, label = events(4, better=0.6)
    logits["c"] = logits["a"]
    found = paired(logits, label, rejections=(0.9,), replicas=60)
    assert found.between("b", "a", "auc").separable
    assert found.between("b", "a", "auc").value.low > 0
    assert not found.between("a", "c", "auc").separable
    first = found.between("a", "b", "auc")
    assert first.p_holm == pytest.approx(3 * first.p_value) or first.p_holm >= 2 * first.p_value
    with pytest.raises(InputError, match="no difference of 'a' and 'x'"):
        found.between("a", "x", "auc")


def test_a_sculpting_tagger_is_separable_from_one_that_does_not():
    random = np.random.default_rng(5)
    label = np.repeat([0.0, 1.0], [8000, 2000])
    z, noise = random.random(10_000), random.normal(size=10_000)
    logits = {"flat": [noise + 2 * label], "plain": [noise + 2 * label + 2 * (z > 0.8) * (label == 0)]}
    found = paired(logits, label, protected={"m": Protected(z, RANGE, 20)}, rejections=(0.9,), replicas=60)
    difference = found.between("plain", "flat", "jsd m 0.9")
    assert difference.separable
    cut = np.quantile(logits["plain"][0][:8000], 0.9)
    spectra = [
        np.histogram(z[:8000][chosen], bins=20, range=RANGE)[0]
        for chosen in (logits["plain"][0][:8000] > cut, logits["plain"][0][:8000] <= cut)
    ]
    assert found.values["plain"]["jsd m 0.9"][0] == pytest.approx(jsd(*spectra), rel=1e-3)


def test_entries_of_one_event_are_drawn_together():
    logits, label = events(6, 800)
    twice = {name: [np.repeat(seeds[0], 2)] for name, seeds in logits.items()}
    number = np.repeat(np.arange(800), 2)
    settings = {"rejections": (), "replicas": 300}
    single = paired(logits, label, **settings).differences[0].value.std
    grouped = paired(twice, np.repeat(label, 2), event=number, **settings).differences[0].value.std
    apart = paired(twice, np.repeat(label, 2), **settings).differences[0].value.std
    assert grouped == pytest.approx(single, rel=1e-9)
    assert apart == pytest.approx(single / math.sqrt(2), rel=0.2)


def test_what_cannot_be_compared_is_refused():
    logits, label = events(7, 200)
    with pytest.raises(InputError, match="no taggers, or one without scores"):
        paired({"a": []}, label)
    with pytest.raises(InputError, match="199 scores for 200 events"):
        paired({"a": [logits["a"][0][1:]]}, label)
    with pytest.raises(InputError, match=r"a: no background event passes or fails \(efficiency 0.999\)"):
        paired(logits, label, rejections=(0.999,))


def test_the_spread_of_trainings_is_added_and_p_values_are_adjusted_by_holm():
    draws = np.random.default_rng(0).normal(scale=0.001, size=(2, 300))
    seeds = np.array([0.90, 0.92, 0.91]), np.array([0.89, 0.90, 0.90])
    found = _difference(("a", seeds[0], draws[0]), ("b", seeds[1], draws[1]), figure="auc")
    events, trainings = np.var(draws[0] - draws[1], ddof=1), np.var(seeds[0] - seeds[1], ddof=1) / 3
    assert found.value.std == pytest.approx(np.sqrt(events + trainings))
    freedom = (events + trainings) ** 2 / (events**2 / 299 + trainings**2 / 2)
    assert found.p_value == pytest.approx(2 * stats.t(freedom).sf(found.value.value / found.value.std))
    three = [replace(found, p_value=p) for p in (0.04, 0.01, 0.03)]
    assert [one.p_holm for one in _adjusted(three)] == pytest.approx([0.06, 0.03, 0.06])
    assert [one.separable for one in _adjusted(three)] == [False, True, False]
