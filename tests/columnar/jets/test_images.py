"""Average jet images: turned upright, one jet as one jet, and the same in one chunk as in many."""

from __future__ import annotations

import math

import awkward as ak
import numpy as np
import pytest

from hepdecorr.columnar import images, objects
from hepdecorr.errors import InputError

AXIS = (0.4, 3.1)  # close to where phi jumps
SPEC = {"collection": "FatJet"}


def events(jets):
    """One event a jet, of constituents (pt, deta, dphi) about AXIS, as PFNano keeps them."""
    columns = [np.array(jet, dtype=float).reshape(-1, 3) for jet in jets]
    fine = [(one[:, 2] + AXIS[1] + np.pi) % (2 * np.pi) - np.pi for one in columns]
    candidates = {
        "pt": [one[:, 0] for one in columns],
        "eta": [one[:, 1] + AXIS[0] for one in columns],
        "phi": fine,
    }
    links = {
        "jetIdx": [np.zeros(len(one), dtype=np.int32) for one in columns],
        "pFCandsIdx": [np.arange(len(one), dtype=np.int32) for one in columns],
    }
    fat = {"pt": [[500.0]] * len(jets), "eta": [[AXIS[0]]] * len(jets), "phi": [[AXIS[1]]] * len(jets)}
    return ak.zip(
        {
            "FatJet": ak.zip({k: ak.Array(v) for k, v in fat.items()}),
            "FatJetPFCands": ak.zip({k: ak.Array(v) for k, v in links.items()}),
            "PFCands": ak.zip({k: ak.Array(v) for k, v in candidates.items()}),
        },
        depth_limit=1,
    )


def rows(jets):
    return objects.rows(events(jets), SPEC)


def turn(jet, angle):
    sine, cosine = math.sin(angle), math.cos(angle)
    return [(pt, cosine * x - sine * y, sine * x + cosine * y) for pt, x, y in jet]


def random_jets(size, seed=0):
    random = np.random.default_rng(seed)
    return [
        np.column_stack([random.exponential(20, n) + 1, random.normal(0, 0.2, n), random.normal(0, 0.1, n)])
        for n in random.integers(2, 20, size)
    ]


TWO_PRONGS = [(300.0, 0.3, 0.0), (100.0, -0.35, 0.0)]


@pytest.mark.parametrize("angle", np.linspace(0, 2 * math.pi, 9) + 0.1)
def test_two_prongs_stand_upright_with_the_harder_above(angle):
    found = images.turned(rows([turn(TWO_PRONGS, angle)]))
    assert found.deta == pytest.approx([0.0, 0.0], abs=1e-9)
    assert found.dphi == pytest.approx([0.3, -0.35])
    assert found.share == pytest.approx([0.75, 0.25])


def test_the_principal_axis_by_singular_values():
    jets = random_jets(30)
    found = images.turned(rows(jets))
    for number, jet in enumerate(jets):
        pt, place = jet[:, 0], jet[:, 1:]
        _, _, directions = np.linalg.svd(place * np.sqrt(pt)[:, None], full_matrices=False)
        mine = found.row == number
        order = np.argsort(-pt, kind="stable")
        assert np.abs(found.dphi[mine]) == pytest.approx(np.abs(place @ directions[0])[order])
        assert np.abs(found.deta[mine]) == pytest.approx(np.abs(place @ directions[1])[order])
        # A turn, not a reflection: areas keep their sign.
        first, second = place[order][0], place[order][1]
        area = first[0] * second[1] - first[1] * second[0]
        mine = np.flatnonzero(mine)[:2]
        turned = np.linalg.det(np.column_stack([found.deta[mine], found.dphi[mine]]))
        assert turned == pytest.approx(area)
        assert pt[order] @ np.sign(found.dphi[found.row == number]) >= 0


def filled(jets, weight, logit, **settings):
    return images.fill(
        rows(jets),
        dataset="qcd",
        weight=np.asarray(weight),
        logits={"plain": np.asarray(logit), "flat": -np.asarray(logit)},
        thresholds={name: {0.5: 0.0, images.HALF_SIGNAL: 0.5} for name in ("plain", "flat")},
        **settings,
    )


def content(histogram, category, tagger="plain"):
    return histogram[{"dataset": "qcd", "tagger": tagger, "category": category}]


def test_average_image_by_hand():
    jets = [TWO_PRONGS, turn(TWO_PRONGS, 1.0), [(50.0, 0.0, 0.0)], [(10.0, 0.0, 1.5)]]
    weight, logit = [1.0, 2.0, 4.0, 8.0], [1.0, -1.0, 0.2, 3.0]
    found = filled(jets, weight, logit, pixels=5, radius=1.0)
    before = content(found, "before").values()
    # Three quarters of the pt in the pixel above the middle, a quarter below; 1.5 is outside.
    assert before[2, 3] == pytest.approx(3 * 0.75)
    assert before[2, 1] == pytest.approx(3 * 0.25)
    assert before[2, 2] == 4.0
    assert before.sum() == pytest.approx(7.0)
    assert content(found, "jets before").sum().value == 15.0
    assert content(found, "jets before").sum().variance == 85.0
    assert content(found, "pass 0.5").values().sum() == pytest.approx(5.0)
    assert content(found, "jets pass 0.5").sum().value == 13.0
    assert content(found, "jets pass 50 % signal").sum().value == 9.0
    assert content(found, "jets pass 0.5", "flat").sum().value == 2.0
    assert content(found, "pass 0.5").variances()[2, 3] == pytest.approx(0.75**2)


def test_chunks_add_up_to_the_whole():
    jets, random = random_jets(60), np.random.default_rng(1)
    weight, logit = random.exponential(size=60), random.normal(size=60)
    whole = filled(jets, weight, logit)
    parts = [filled(jets[one], weight[one], logit[one]) for one in (slice(25), slice(25, 26), slice(26, 60))]
    added = parts[0] + parts[1] + parts[2]
    np.testing.assert_allclose(added.values(), whole.values())
    np.testing.assert_allclose(added.variances(), whole.variances())
    assert content(whole, "jets before").sum().value == pytest.approx(weight.sum())


def test_jets_without_constituents_do_not_count_and_no_jets_give_nothing():
    found = filled([TWO_PRONGS, []], [1.0, 5.0], [1.0, 1.0])
    assert content(found, "jets before").sum().value == 1.0
    nothing = images.fill(
        rows([TWO_PRONGS])[:0], dataset="qcd", weight=np.empty(0), logits={"a": np.empty(0)},
        thresholds={"a": {0.5: 0.0}},
    )  # fmt: skip
    assert nothing.sum(flow=True).value == 0
    assert (nothing + nothing).sum().value == 0


@pytest.mark.parametrize("change", [{"pixels": 1}, {"radius": 0.0}, {"radius": 4.0}])
def test_no_image_without_pixels(change):
    with pytest.raises(InputError, match="images: "):
        filled([TWO_PRONGS], [1.0], [1.0], **change)
