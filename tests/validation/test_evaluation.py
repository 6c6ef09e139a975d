"""One tagger, everything; several working points and seeds."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from hepdecorr.errors import InputError
from hepdecorr.validation.measures import evaluate, holm, over_seeds, plain, resolved, significant, verdict

RANGE = (5.2, 5.29)
QUICK = {"range": RANGE, "bins": 20, "permutations": 49, "replicas": 100, "dcor_permutations": 5}


def test_holm_by_hand():
    # 0.01 * 4, 0.02 * 3, 0.03 * 2, and the last not below the one before.
    assert holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []
    assert resolved([0.03, 0.01, 0.04, 0.02]) == [False, True, False, False]


@pytest.mark.parametrize("bad", [[-0.1], [1.1], [float("nan")]])
def test_holm_refuses_what_is_no_probability(bad):
    with pytest.raises(InputError, match="not p-values"):
        holm(bad)


def test_over_seeds():
    spread = over_seeds([1.0, 2.0, 4.0])
    assert (spread.mean, spread.std, spread.least, spread.most, spread.n) == pytest.approx(
        (7 / 3, 1.5275, 1, 4, 3), rel=1e-4
    )
    assert over_seeds([1.0]).std is None
    with pytest.raises(InputError, match="one figure per seed"):
        over_seeds([])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.01234, "0.012"),
        (170.2, "170"),
        (1.0, "1.0"),
        (0.0, "0"),
        (3.2e-7, "3.2e-07"),
        (-0.00456, "-0.0046"),
    ],
)
def test_significant_digits(value, text):
    assert significant(value) == text


def test_verdicts_never_praise_a_figure_at_its_floor(taggers):
    sculpted, flat = taggers["plain"][0], taggers["flat"][0]
    assert sculpted.sculpts
    assert not flat.sculpts
    assert sculpted.verdicts[1].startswith("sculpts: JSD")
    assert "floors, p =" in sculpted.verdicts[1]
    assert all("no sculpting resolved (floor" in text for text in flat.verdicts)
    assert all(
        significant(one.excess_upper) in text for one, text in zip(flat.sculpting, flat.verdicts, strict=True)
    )
    assert verdict(sculpted.sculpting[1], 0.2).startswith("no sculpting resolved")


def test_evaluation_is_coherent(taggers):
    one = taggers["plain"][0]
    point, sculpted, p_value, text = one.at(0.9)
    assert point.threshold == sculpted.threshold == one.profiles[1].threshold
    assert text == one.verdicts[1]
    assert p_value == one.p_holm[1] >= sculpted.p_value
    assert (one.background_events, one.signal_events) == (4000, 1500)
    assert one.auc.low < one.auc.value < one.auc.high
    assert one.closures[0].rejection == 0.9
    assert one.half_signal.inverse_jsd_nats.value == pytest.approx(1 / one.half_signal.sculpting.jsd.value)
    assert one.half_signal.inverse_jsd_bits.value == pytest.approx(
        np.log(2) * one.half_signal.inverse_jsd_nats.value
    )
    assert one.dcor2.p_value < 0.05
    assert one.audit.p_value < 0.05
    with pytest.raises(InputError, match=r"measured were 0\.5, 0\.9"):
        one.at(0.95)


def test_evaluation_is_json_and_repeats_itself(make_sample, taggers):
    written = json.loads(json.dumps(taggers["plain"][0].to_dict()))
    assert {"auc", "sculpting", "half_signal", "dcor2", "audit", "roc", "p_holm"} <= set(written)
    for one in [*written["sculpting"], written["half_signal"]["sculpting"]]:
        assert {
            "log_base",
            "bins",
            "range",
            "threshold",
            "n_pass",
            "n_fail",
            "floor",
            "p_value",
            "weighted",
        } <= set(one)
    columns = make_sample(4, background=600, signal=200)
    assert (
        evaluate(**columns, rejections=(0.5,), **QUICK).to_dict()
        == evaluate(**columns, rejections=(0.5,), **QUICK).to_dict()
    )


def test_weights_reach_every_measure(make_sample):
    columns = make_sample(5, background=1500, signal=300)
    weight = np.random.default_rng(0).exponential(size=1800)
    one = evaluate(**columns, weight=weight, rejections=(0.5,), **QUICK)
    assert one.weighted
    assert one.sculpting[0].weighted
    assert one.background_effective < 1000
    bare = evaluate(**columns, rejections=(0.5,), **QUICK)
    assert one.sculpting[0].floor > 1.5 * bare.sculpting[0].floor
    assert one.auc.value != bare.auc.value
    assert one.dcor2.dcor2.value != bare.dcor2.dcor2.value


def test_a_small_background_is_evaluated_without_the_audit(make_sample, caplog):
    one = evaluate(**make_sample(6, background=150, signal=50), rejections=(0.5,), **QUICK)
    assert one.audit is None
    assert "No independence audit" in caplog.text


def test_perfect_separation_leaves_no_half_signal_spectrum(make_sample, caplog):
    columns = make_sample(7, background=800, signal=100)
    columns["logit"] = columns["logit"] + 50 * columns["label"]
    one = evaluate(**columns, rejections=(0.5,), **QUICK)
    assert one.half_signal.sculpting is None
    assert one.auc.value == 1.0
    assert json.loads(json.dumps(one.to_dict()))["half_signal"]["inverse_jsd_nats"]["value"] is None
    assert "50 % signal efficiency" in caplog.text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": np.zeros(300)}, "no signal events"),
        ({"label": np.ones(300)}, "no background events"),
        ({"logit": np.full(300, np.inf)}, "logit: 300 of 300"),
        ({"rejections": ()}, "no rejections"),
        ({"rejections": (0.9999,)}, "no event passes"),
    ],
)
def test_unusable_input_is_explained(make_sample, change, message):
    arguments = make_sample(8, background=200, signal=100) | {"rejections": (0.5,)} | QUICK | change
    with pytest.raises(InputError, match=message):
        evaluate(**arguments)


def test_plain_makes_json_of_anything():
    thing = {1: np.float32(0.5), "a": [np.int64(3), float("inf"), None, True], "b": np.array([1.0, np.nan])}
    assert json.loads(json.dumps(plain(thing))) == {"1": 0.5, "a": [3, None, None, True], "b": [1.0, None]}


def test_neither_torch_nor_coffea_is_imported():
    code = (
        "import sys; import hepdecorr.validation.report, hepdecorr.validation.measures; "
        "print(sorted({'torch', 'coffea', 'awkward', 'uproot'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
