"""Several signals against one background: areas, their covariance, and the mean over them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from hepdecorr.errors import InputError
from hepdecorr.validation import measures
from hepdecorr.validation.measures import by_sample

NAMES = ("low", "high", "far")
SHIFTS = (0.3, 0.8, 1.5)


def events(seed=0, *, background=1500, signal=200):
    """Gaussian scores: of background about 0, of each signal about its shift."""
    random = np.random.default_rng(seed)
    sizes = [background, *[signal + 50 * k for k in range(len(NAMES))]]
    logit = np.concatenate(
        [random.normal(shift, size=n) for shift, n in zip((0, *SHIFTS), sizes, strict=True)]
    )
    kind = np.repeat(np.arange(-1, len(NAMES)), sizes)
    return logit, (kind >= 0).astype(float), np.maximum(kind, 0)


def test_each_sample_is_measured_as_if_it_were_alone() -> None:
    """By scikit-learn, by the functions of one signal, and near Phi(shift / root 2) of two Gaussians."""
    logit, label, sample = events(1)
    found = by_sample(logit, label, sample, names=NAMES, rejections=(0.9, 0.5))
    for number, (name, shift) in enumerate(zip(NAMES, SHIFTS, strict=True)):
        own = (label == 0) | (sample == number)
        one, y, x = found.of(name), label[own], logit[own]
        assert one.auc.value == pytest.approx(roc_auc_score(y, x), abs=1e-12)
        assert one.auc == measures.auc(x, y)
        assert one.auc.value == pytest.approx(norm.cdf(shift / np.sqrt(2)), abs=4 * one.auc.std)
        assert one.signal_efficiency[0] == measures.signal_efficiency(x, y, rejection=0.9)
        assert one.r50 == measures.rejection_factor(x, y)
    cuts = {one.signal_efficiency[0].threshold for one in found.samples}
    assert len(cuts) == 1
    assert "roc" not in found.to_dict()["samples"][0]


def test_the_covariance_is_that_of_a_joint_bootstrap() -> None:
    """Drawn again with the background they share: correlated, and the mean's error with them."""
    logit, label, sample = events(2)
    found = by_sample(logit, label, sample, names=NAMES)
    random = np.random.default_rng(3)
    parts = [logit[label == 0], *(logit[(label == 1) & (sample == k)] for k in range(3))]
    draws = []
    for _ in range(600):
        background, *signals = (random.choice(one, len(one)) for one in parts)
        ordered = np.sort(background)
        draws.append([np.searchsorted(ordered, one).mean() / len(ordered) for one in signals])
    expected = np.cov(np.array(draws).T)
    assert found.covariance == pytest.approx(expected, rel=0.25)
    assert expected[0, 2] > 0.1 * expected[2, 2]
    assert found.mean_auc.std == pytest.approx(np.std(np.mean(draws, axis=1)), rel=0.12)
    apart = np.sqrt(sum(one.auc.std**2 for one in found.samples)) / 3
    assert found.mean_auc.std > 1.05 * apart
    assert found.mean_auc.value == pytest.approx(np.mean([one.auc.value for one in found.samples]))


def test_weights_repeat_events() -> None:
    logit, label, sample = events(4, background=300, signal=80)
    times = np.random.default_rng(5).integers(1, 4, len(logit))
    weighted = by_sample(logit, label, sample, times, names=NAMES)
    repeated = by_sample(*(np.repeat(one, times) for one in (logit, label, sample)), names=NAMES)
    for one, other in zip(weighted.samples, repeated.samples, strict=True):
        assert one.auc.value == pytest.approx(other.auc.value, abs=1e-12)
    assert np.all(weighted.covariance.diagonal() > repeated.covariance.diagonal())


def test_a_sample_without_events_is_named() -> None:
    logit, label, sample = events(6, background=300, signal=20)
    with pytest.raises(InputError, match="signal 'none': no events of it"):
        by_sample(logit, label, sample, names=(*NAMES, "none"))
    with pytest.raises(InputError, match="no signal 'W'; measured were low, high, far"):
        by_sample(logit, label, sample, names=NAMES).of("W")


def test_a_score_that_says_nothing_has_no_cut() -> None:
    """As the KL of a posterior that has collapsed: areas of one half, nothing beyond them."""
    _, label, sample = events(7, background=100, signal=20)
    found = by_sample(np.zeros(len(label)), label, sample, names=NAMES, rejections=(0.9,))
    assert [one.auc.value for one in found.samples] == [0.5] * 3
    assert found.samples[0].at(0.9) is None
    assert found.samples[0].r50 is None
