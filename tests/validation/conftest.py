"""Made samples with known answers."""

from __future__ import annotations

import hist
import numpy as np
import pytest

from hepdecorr.validation import measures

RANGE = (5.2, 5.29)
REJECTIONS = (0.5, 0.9)


def mass(size, random):
    """A falling spectrum on RANGE."""
    return RANGE[0] + (RANGE[1] - RANGE[0]) * random.beta(1.0, 1.3, size)


def sample(seed=0, *, background=4000, signal=1500, sculpting=0.0):
    """Columns of a toy: the background's logit sees the mass with strength `sculpting`."""
    random = np.random.default_rng(seed)
    z = np.concatenate([mass(background, random), random.normal(5.28, 0.003, signal).clip(RANGE[0], 5.2899)])
    label = np.repeat([0.0, 1.0], [background, signal])
    logit = random.normal(size=len(z)) + 3 * label
    pull = np.exp(-0.5 * np.square((z - 5.28) / 0.004))
    return {"logit": logit + sculpting * pull * (label == 0), "label": label, "nuisance": z}


@pytest.fixture(scope="session")
def taggers():
    """Two evaluated taggers, the second with two seeds."""
    settings = {"range": RANGE, "rejections": REJECTIONS, "bins": 20, "permutations": 199, "replicas": 200}
    settings |= {"dcor_permutations": 50, "name": "mbc", "unit": "GeV", "thresholds": {0.9: 1.28}}
    plain = measures.evaluate(**sample(1, sculpting=2.0), **settings)
    flat = [measures.evaluate(**sample(seed), seed=seed, **settings) for seed in (2, 3)]
    return {"plain": [plain], "flat": flat}


@pytest.fixture(scope="session")
def make_sample():
    return sample


@pytest.fixture(scope="session")
def samples():
    return {"plain": sample(1, sculpting=2.0), "flat": sample(2)}


@pytest.fixture(scope="session")
def histogram(samples):
    """The sculpting histogram of both taggers."""
    filled = hist.Hist(
        hist.axis.StrCategory([], growth=True, name="dataset"),
        hist.axis.StrCategory([], growth=True, name="tagger"),
        hist.axis.StrCategory([], growth=True, name="category"),
        hist.axis.Regular(20, *RANGE, name="mbc", label=r"$M_{bc}$"),
        storage=hist.storage.Weight(),
    )
    for tagger, columns in samples.items():
        background = columns["logit"][columns["label"] == 0]
        cuts = {rejection: np.quantile(background, rejection) for rejection in REJECTIONS}
        for dataset, label in (("continuum", 0), ("signal", 1)):
            chosen = columns["label"] == label
            z, logit = columns["nuisance"][chosen], columns["logit"][chosen]
            filled.fill(dataset=dataset, tagger=tagger, category="before", mbc=z)
            for rejection, cut in cuts.items():
                filled.fill(
                    dataset=dataset, tagger=tagger, category=f"pass {rejection:g}", mbc=z[logit > cut]
                )
                filled.fill(
                    dataset=dataset, tagger=tagger, category=f"fail {rejection:g}", mbc=z[logit <= cut]
                )
    return filled
