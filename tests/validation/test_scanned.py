"""Records that are read back, figures of scans and fronts, and the pages of scans and comparisons."""

from __future__ import annotations

import dataclasses
import json
import math

import matplotlib.pyplot as plt
import numpy as np
import pytest

from hepdecorr.errors import InputError
from hepdecorr.validation import comparison, latent_scan, plots, scanned
from hepdecorr.validation.comparison import Compared, CompareInput
from hepdecorr.validation.latents import Latents
from hepdecorr.validation.measures import Evaluation, paired
from hepdecorr.validation.plots import Step, front
from hepdecorr.validation.plots.scans import inverse_jsd, limit
from hepdecorr.validation.scanned import PointResult, ScanInput

CARD = {"seed": 1, "measured": {"mig": {"value": 0.07}}, "training": {"cpu_seconds": 12.5, "stages": []}}


def test_an_evaluation_is_read_back_to_the_last_bit(taggers):
    one = taggers["plain"][0]
    far = dataclasses.replace(one.half_signal, inverse_floor_nats=math.inf, p_value=math.nan)
    one = dataclasses.replace(one, half_signal=far)
    again = Evaluation.from_json(one.to_json())
    assert again.to_json() == one.to_json()
    assert type(again.sculpting[0]) is type(one.sculpting[0])
    assert again.sculpting[0] == one.sculpting[0]
    assert again.half_signal.inverse_floor_nats == math.inf
    assert math.isnan(again.half_signal.p_value)
    np.testing.assert_array_equal(again.roc.low, one.roc.low)
    assert again.at(0.9)[3] == one.at(0.9)[3]
    with pytest.raises((KeyError, TypeError, ValueError)):
        Evaluation.from_json('{"nuisance": "m"}')


def test_the_front_is_what_no_other_point_beats():
    points = [(0.9, 100.0), (0.95, 50.0), (0.93, 40.0), (0.99, 5.0), (0.9, 90.0), (0.99, 4.0)]
    assert front(points) == [0, 1, 3]
    assert front([(1.0, 1.0), (1.0, 1.0)]) in ([0], [1])
    random = np.random.default_rng(0).random((40, 2))
    best = front([tuple(one) for one in random])
    beaten = [any((other > one).all() for other in random) for one in random]
    assert sorted(best) == [k for k in range(40) if not beaten[k]]


def test_scan_curves_show_what_was_measured_with_the_limit(taggers):
    flat, plain = taggers["flat"], taggers["plain"]
    lines = {"a": [Step(1, plain, [0.05]), Step(100, flat, [0.06, 0.08])], "b": [Step(10, flat[:1], [0.1])]}
    drawn = plots.scan_curves(lines, title="strength", rejection=0.9, reference=plain)
    auc, inverse, mig = drawn.axes
    assert [ax.get_xscale() for ax in drawn.axes] == ["log"] * 3
    assert all(ax.get_xlabel() == "strength" for ax in drawn.axes)
    assert mig.get_ylabel() == "MIG"
    x, y = (np.asarray(one, float) for one in auc.lines[0].get_data())
    np.testing.assert_allclose(x, [1, 100])
    np.testing.assert_allclose(y, [plain[0].auc.value, np.mean([one.auc.value for one in flat])])
    level = next(line for line in inverse.lines if line.get_label() == "statistical limit").get_ydata()[0]
    everyone = [*plain, *flat, flat[0]]
    assert level == pytest.approx(np.exp(np.mean(np.log([1 / one.at(0.9)[1].floor for one in everyone]))))
    assert len(plots.scan_curves({"a": [Step(1, flat)]}, title="x", rejection=0.9).axes) == 2
    named = plots.scan_curves({"a": [Step("[64]", flat), Step("[128]", plain)]}, title="x", rejection=0.9)
    assert [tick.get_text() for tick in named.axes[0].get_xticklabels()] == ["[64]", "[128]"]
    assert plt.get_fignums() == []
    with pytest.raises(InputError, match="nothing was measured"):
        plots.scan_curves({"a": [Step(1, [])]}, title="x", rejection=0.9)


def test_inverse_jsd_over_seeds_and_its_limit(taggers):
    plain, flat = taggers["plain"], taggers["flat"]
    one, resolved = inverse_jsd(plain, 0.9)
    assert resolved
    assert one.value == pytest.approx(1 / plain[0].at(0.9)[1].jsd.value)
    many, resolved = inverse_jsd(flat, 0.9)
    assert not resolved
    values = [1 / seed.at(0.9)[1].jsd.value for seed in flat]
    assert many.value == pytest.approx(math.sqrt(values[0] * values[1]))
    middle, low, high = limit(flat[0], 0.9)
    assert low < middle < high
    assert middle == pytest.approx(1 / flat[0].at(0.9)[1].floor)


@pytest.mark.parametrize("against", ["auc", "efficiency"])
def test_pareto_marks_what_is_not_resolved(taggers, against):
    series = {name: [(name, seeds)] for name, seeds in taggers.items()}
    drawn = plots.pareto(series, rejection=0.9, against=against)
    (ax,) = drawn.axes
    faces = {c.get_label(): c.lines[0].get_markerfacecolor() for c in ax.containers}
    assert faces["flat"] == "white"
    assert faces["plain"] != "white"
    assert ("AUC" in ax.get_xlabel()) == (against == "auc")
    with pytest.raises(InputError, match="nothing was measured"):
        plots.pareto({}, rejection=0.9)


def test_a_scan_of_a_grid_has_a_line_for_each_setting_of_the_other_key(taggers, tmp_path):
    points = [
        PointResult(f"p{a}{b}", {"terms.0.beta": a, "epochs": b}, taggers["flat"], [CARD, CARD])
        for a in (1, 2)
        for b in (8, 16)
    ]
    points.append(PointResult("lost", {"terms.0.beta": 3, "epochs": 8}, failures=["collapsed <b>"]))
    content = ScanInput(
        name="s", title="t <i>", tagger="flat", keys=["terms.0.beta", "epochs"],
        titles={"terms.0.beta": "beta", "epochs": "epochs"}, points=points,
        others={"plain": taggers["plain"]},
        command="hepdecorr scan", versions={"numpy": "2"},
    )  # fmt: skip
    assert list(scanned._lines(content, [(p, p.of("mbc")) for p in points])) == ["epochs = 8", "epochs = 16"]
    text = scanned.write_scan(tmp_path, content).read_text()
    assert "Incomplete. lost: collapsed &lt;b&gt;" in text
    assert "<b>" not in text
    assert "failed: collapsed" in text
    assert "12.50" in text or "12.5" in text
    told = json.loads((tmp_path / "points.json").read_text())
    assert told["points"][0]["mig"] == [0.07, 0.07]
    assert told["points"][0]["evaluations"][0] == taggers["flat"][0].to_dict()
    assert len((tmp_path / "points.csv").read_text().splitlines()) == 1 + 4 * 2
    with pytest.raises(InputError, match="nothing was measured"):
        scanned.write_scan(tmp_path, dataclasses.replace(content, points=points[-1:]))


def revealed(beta: float, seed: int) -> Latents:
    """One latent that follows the nuisance, of a KL that vanishes at beta 1, and one that never is in use."""
    random = np.random.default_rng(seed)
    z = random.normal(size=2000)
    used = max(1 - beta, 0.0)
    mean = np.stack([used * z + 0.5 * used * random.normal(size=2000), 1e-4 * z], 1)
    arrays = {"mean": mean, "nuisance": z[:, None], "weight": np.ones(2000), "nuisances": np.array(["mbc"])}
    arrays |= {"kl": np.array([2 * used, 0.001 * used]), "mse": np.array(0.1 + 0.1 * beta + 0.01 * seed)}
    return Latents.of(arrays, features=[])


def test_a_scan_tells_of_latents_that_vanish(taggers, tmp_path):
    """The largest correlation is that of a latent in use: the idle one follows the nuisance exactly."""
    one = latent_scan.step(0.5, [revealed(0.5, 1), revealed(0.5, 2)], "mbc")
    assert one.each == pytest.approx([1.0, 0.0005])
    assert one.kl.value == pytest.approx(1.0005)
    assert one.mse.value == pytest.approx(0.165)
    assert one.mse.std == pytest.approx(0.01 / math.sqrt(2))
    assert one.active.value == 1
    assert latent_scan.largest(revealed(0.5, 1), "mbc").value == pytest.approx(
        abs(revealed(0.5, 1).known["mbc"][0].value)
    )
    assert latent_scan.largest(revealed(2.0, 1), "mbc").value == 0.0
    points = [
        PointResult(f"{b}", {"beta": b}, taggers["flat"], latents=[revealed(b, 1), revealed(b, 2)])
        for b in (0.1, 0.5, 2.0)
    ]
    content = ScanInput(
        name="s", title="t", tagger="flat", keys=["beta"], titles={"beta": "beta"}, points=points
    )
    text = scanned.write_scan(tmp_path, content).read_text()
    assert "Representation" in text
    assert "latents in use" in text
    told = json.loads((tmp_path / "points.json").read_text())["points"]
    assert [len(point["latents"]) for point in told] == [2, 2, 2]
    assert told[2]["latents"][0]["kl"] == [0.0, 0.0]
    assert (tmp_path / "figures" / "latentscan_mbc.png").is_file()


def test_a_scan_of_latents_shows_reconstruction_against_correlation():
    steps = [latent_scan.step(b, [revealed(b, 1)], "mbc") for b in (0.1, 0.5, 2.0, 5.0)]
    drawn = plots.latent_scan({"vae": steps}, title="beta", nuisance="mbc", active=0.01)
    error, kl, active, correlation, plane = drawn.axes[:5]
    drawn_at = [
        [np.asarray(one, float) for one in ax.lines[0].get_data()] for ax in (error, correlation, plane)
    ]
    (x, errors), (_, correlations), (across, up) = drawn_at
    np.testing.assert_allclose(x, [0.1, 0.5, 2.0, 5.0])
    assert kl.get_yscale() == "log"
    assert active.lines[0].get_ydata()[-1] == 0
    np.testing.assert_allclose(across, correlations)
    np.testing.assert_allclose(up, errors)
    with pytest.raises(InputError, match="no representation"):
        plots.latent_scan({}, title="beta", nuisance="mbc", active=0.01)


def test_a_comparison_tells_the_audit_the_cost_and_what_is_separable(taggers, samples, tmp_path):
    flat, plain = ([one["logit"]] for one in (samples["flat"], samples["plain"]))
    differences = paired(
        {"plain": plain, "flat": flat}, samples["flat"]["label"], rejections=(0.9,), replicas=30
    )
    compared = {"plain": Compared(taggers["plain"]), "flat": Compared(taggers["flat"], [CARD])}
    content = CompareInput(
        title="t", taggers=compared, differences=differences, command="hepdecorr compare x"
    )
    plain_row, flat_row = comparison.rows(content, "mbc")
    head = comparison.header(content, "mbc")
    at = {name: k for k, name in enumerate(head)}
    assert plain_row[at["CPU-seconds"]] == "unknown"
    assert flat_row[at["CPU-seconds"]].startswith("12.5")
    assert plain_row[at["<Independence audit"]].content.startswith("finds dependence: ")
    assert flat_row[at["<Independence audit"]].content.startswith("finds nothing")
    assert str(flat_row[at["excess JSD at 90 % [1e-3 nats]"]]).startswith("< ")
    brief, (plain_row, flat_row) = comparison.brief(content, "mbc")
    of = {name: k for k, name in enumerate(brief)}
    assert [row[of["<audit"]].content for row in (plain_row, flat_row)] == ["dependence", "nothing"]
    assert flat_row[of["<sculpting resolved at"]].content == "none"
    assert plain_row[of["<sculpting resolved at"]].content.endswith(" %")
    assert flat_row[of["AUC"]] == comparison.rows(content, "mbc")[1][at["AUC"]]
    text = comparison.write_comparison(tmp_path, content).read_text()
    assert "hepdecorr compare x" in text
    assert {"compare.csv", "compare.html", "compare.json", "figures"} == {p.name for p in tmp_path.iterdir()}
    said = [comparison.said(one).content for one in differences.differences]
    assert all(one == "not separable" or one.endswith("is better, of these trainings") for one in said)
    jsd = dataclasses.replace(differences.differences[0], figure="jsd m 0.9", separable=True)
    jsd = dataclasses.replace(jsd, value=dataclasses.replace(jsd.value, value=0.1))
    # The smaller divergence is the better one.
    assert comparison.said(jsd).content == f"{jsd.second} is better, of these trainings"
    assert comparison.said(dataclasses.replace(jsd, seeds=(5, 5))).content == f"{jsd.second} is better"
