"""What jets add to the report: the curve at 50 % signal efficiency, slices in pT, average images, shifts."""

from __future__ import annotations

import io
import json
import math

import hist
import matplotlib as mpl
import numpy as np
import pytest

from hepdecorr.errors import InputError
from hepdecorr.validation import content as content_module
from hepdecorr.validation import plots
from hepdecorr.validation.measures import evaluate, floor, jsd, quantile_map
from hepdecorr.validation.plots import Scores, Second
from hepdecorr.validation.report import ReportInput, report
from hepdecorr.validation.shifts import shifted

RANGE, EDGES = (50.0, 300.0), (450.0, 600.0, 900.0)
LABELS = {"qcd": 0, "w": 1}
AXIS = {"nuisance": "Jet mass", "unit": "GeV"}
QUICK = {"range": RANGE, "rejections": (0.9,), "bins": 25, "permutations": 99, "replicas": 100}
SHIFTS = {"nominal": 0.0, "up": 0.4, "down": -0.4}


class Toy:
    """Jets with weights that fall with pT, and scores that see the mass more or less."""

    def __init__(self, seed=0, background=2500, signal=1000):
        random = np.random.default_rng(seed)
        self.label = np.repeat([0, 1], [background, signal])
        self.pt = 450 + random.exponential(200, len(self.label)).clip(0, 440)
        falling = 50 + 250 * random.beta(1.1, 3, background)
        self.mass = np.concatenate([falling, random.normal(82, 8, signal).clip(50, 300)])
        self.weight = np.where(self.label == 0, (450 / self.pt) ** 4, 1.0)
        peak = np.exp(-0.5 * np.square((self.mass - 82) / 15))
        free = random.normal(size=len(self.label)) + 2 * self.label
        self.logit = {"plain": free + 2 * peak, "weak": free + 0.7 * peak, "strong": free}

    def scores(self, name):
        return Scores(self.logit[name], self.label, self.mass, self.weight)

    @property
    def second(self):
        return Second(self.pt, EDGES, "$p_T$", "GeV")


@pytest.fixture(scope="module")
def toy():
    return Toy()


@pytest.fixture(scope="module")
def measured(toy):
    settings = QUICK | {"name": "mass", "unit": "GeV", "dcor_permutations": 2}
    arrays = (toy.label, toy.mass, toy.weight)
    found = {name: [evaluate(logit, *arrays, **settings)] for name, logit in toy.logit.items()}
    again = Toy(1)
    found["strong"].append(
        evaluate(again.logit["strong"], again.label, again.mass, again.weight, seed=1, **settings)
    )
    mapped = quantile_map(toy.logit["plain"], toy.mass, toy.label, weight=toy.weight)
    return found, {"plain": [evaluate(mapped, *arrays, **settings)]}


@pytest.fixture(scope="module")
def filled(toy):
    """Sculpting histogram with shifts; a shift moves the scores."""
    names = ("dataset", "systematic", "tagger", "category")
    made = hist.Hist(
        *(hist.axis.StrCategory([], growth=True, name=n) for n in names),
        hist.axis.Regular(25, *RANGE, name="mass", label="Jet mass [GeV]"),
        storage=hist.storage.Weight(),
    )  # fmt: skip
    for shift, move in SHIFTS.items():
        for dataset, label in LABELS.items():
            above = toy.logit["plain"] + move > 2.0
            for category, chosen in {"before": True, "pass 0.9": above, "fail 0.9": ~above}.items():
                of = (toy.label == label) & chosen
                made.fill(
                    dataset=dataset, systematic=shift, tagger="plain", category=category,
                    mass=toy.mass[of] + (200 if shift == "up" else 0), weight=toy.weight[of],
                )  # fmt: skip
    return made


@pytest.fixture(scope="module")
def images():
    made = hist.Hist(
        *(hist.axis.StrCategory([], growth=True, name=n) for n in ("dataset", "tagger", "category")),
        hist.axis.Regular(5, -1, 1, name="deta", label="x"),
        hist.axis.Regular(5, -1, 1, name="dphi", label="y"),
        storage=hist.storage.Weight(),
    )
    random = np.random.default_rng(0)
    for dataset in LABELS:
        for category, jets in {"before": 400, "pass 50 % signal": 100, "pass 0.9": 50}.items():
            place = {"dataset": dataset, "tagger": "plain", "category": category}
            x, y = random.normal(0, 0.3, (2, 20 * jets))
            made.fill(**place, deta=x, dphi=y, weight=1 / 20)
            made.fill(**place | {"category": f"jets {category}"}, deta=[-0.9], dphi=[-0.9], weight=[jets])
    return made


def test_the_half_signal_point_says_whether_it_is_at_its_limit(measured):
    plain, strong = (measured[0][name][0].half_signal for name in ("plain", "strong"))
    assert not plain.at_limit
    assert plain.verdict.startswith("sculpts: JSD")
    assert plain.p_value == plain.sculpting.p_value
    assert strong.at_limit
    assert strong.verdict.startswith("no sculpting resolved")
    low, high = strong.inverse_floor_interval_nats
    assert low < strong.inverse_floor_nats < high
    assert plain.inverse_jsd_nats.value < low
    written = json.loads(json.dumps(strong.to_dict()))
    assert {"p_value", "verdict", "inverse_floor_interval_nats"} <= set(written)


def drawings(toy, measured, filled, images):
    found, mapped = measured
    series = {"DisCo": [("0", found["plain"]), ("1", found["weak"]), ("10", found["strong"])]}
    return {
        "curve": lambda: plots.half_signal_curve(series, baselines=[("map", mapped["plain"])]),
        "one point": lambda: plots.half_signal_curve({"plain": [("plain", found["plain"])]}),
        "slices": lambda: plots.sliced_spectra(
            toy.scores("plain"), toy.second, threshold=2.0, range=RANGE, title="plain", **AXIS
        ),
        "efficiencies": lambda: plots.efficiencies(
            {name: toy.scores(name) for name in toy.logit},
            thresholds=dict.fromkeys(toy.logit, 2.0),
            range=RANGE,
            second=toy.second,
            **AXIS,
        ),
        "images": lambda: plots.jet_images(
            images, tagger="plain", labels=LABELS, category="pass 0.9", title="plain"
        ),
        "shifts": lambda: plots.shifted_spectra(filled, tagger="plain", labels=LABELS, rejection=0.9, **AXIS),
    }


@pytest.mark.parametrize("name", ["curve", "one point", "slices", "efficiencies", "images", "shifts"])
def test_every_figure_is_labelled_and_leaves_no_trace(name, toy, measured, filled, images):
    before = dict(mpl.rcParams)
    drawn = drawings(toy, measured, filled, images)[name]()
    assert dict(mpl.rcParams) == before
    shown = [ax for ax in drawn.axes if ax.get_visible()]
    assert all(ax.has_data() for ax in shown)
    assert any(ax.get_xlabel() for ax in shown)
    assert any(ax.get_ylabel() for ax in shown)
    stream = io.BytesIO()
    drawn.savefig(stream, format="png", dpi=40)
    assert stream.getbuffer().nbytes > 3000


def test_the_curve_joins_its_points_and_marks_the_limit(measured):
    found, mapped = measured
    drawn = plots.half_signal_curve(
        {"DisCo": [("0", found["plain"]), ("10", found["strong"])]}, baselines=[("map", mapped["plain"])]
    )
    ax = drawn.axes[0]
    assert ax.get_xscale() == ax.get_yscale() == "log"
    joined = next(line for line in ax.lines if len(line.get_xdata()) == 2)
    first = found["plain"][0].half_signal
    assert joined.get_xdata()[0] == pytest.approx(first.inverse_jsd_nats.value)
    assert joined.get_ydata()[0] == pytest.approx(first.r50.value)
    # Two seeds: the geometric mean.
    both = [one.half_signal.r50.value for one in found["strong"]]
    assert joined.get_ydata()[1] == pytest.approx(math.sqrt(both[0] * both[1]))
    limit = next(line for line in ax.lines if line.get_label() == "statistical limit")
    nearest = np.argmin(np.abs(np.log(limit.get_ydata() / first.r50.value)))
    assert limit.get_xdata()[nearest] == pytest.approx(first.inverse_floor_nats, rel=0.35)


def test_slices_hold_the_jets_of_their_bin(toy):
    drawn = plots.sliced_spectra(toy.scores("plain"), toy.second, threshold=2.0, range=RANGE, bins=25)
    upper = drawn.axes[1]
    assert upper.get_title(loc="left") == "600–900 GeV"
    of = (toy.label == 0) & (toy.pt >= 600)
    counted, _ = np.histogram(toy.mass[of], bins=25, range=RANGE, weights=toy.weight[of])
    np.testing.assert_allclose(upper.patches[0].get_data().values, counted / counted.sum())


def test_edges_of_slices():
    edges = plots.quantile_edges(np.linspace(452.1, 897.3, 1000), bins=3)
    assert edges[0] <= 452.1
    assert edges[-1] > 897.3
    assert edges[1:3] == pytest.approx([600, 750], abs=5)
    flag, constant = np.repeat([0.0, 1.0], [90, 10]), np.full(5, 7.0)
    for values in (flag, constant, np.zeros(3), np.append(np.full(90, 1234.5), [1300.0, 1400.0])):
        slices = Second(values, plots.quantile_edges(values), "flag").slices()
        assert sum(int(inside.sum()) for _, inside in slices) == len(values)
    with pytest.raises(InputError, match="do not ascend"):
        Second([1.0], (2.0, 1.0), "pT").slices()


def test_the_average_image_is_content_by_jets(images):
    found = plots.average(images, tagger="plain", category="before", datasets=list(LABELS))
    place = {"tagger": "plain", "category": "before"}
    both = sum(images[{**place, "dataset": name}].values() for name in LABELS)
    np.testing.assert_allclose(found.share, both / 800)
    assert 0.95 < found.share.sum() <= 1.0
    with pytest.raises(InputError, match=r"no category 'pass 0\.5', jets pass 0\.5'|no category 'pass 0\.5"):
        plots.average(images, tagger="plain", category="pass 0.5", datasets=["qcd"])


def test_shifts_are_counted(toy, filled):
    found = {one.shift: one for one in shifted(filled, tagger="plain", labels=LABELS, rejection=0.9)}
    assert list(found) == ["nominal", "up", "down"]
    for name, move in SHIFTS.items():
        for label, value in ((0, found[name].background_efficiency), (1, found[name].signal_efficiency)):
            of = toy.label == label
            expected = np.average(toy.logit["plain"][of] + move > 2.0, weights=toy.weight[of])
            # 'up' also moves mass out of the range: it counts all the same.
            assert value == pytest.approx(expected)
    nominal = found["nominal"]
    assert found["down"].background_change == pytest.approx(
        found["down"].background_efficiency / nominal.background_efficiency - 1
    )
    of = toy.label == 0
    above = toy.logit["plain"] > 2.0
    spectra = [
        np.histogram(toy.mass[of & one], bins=25, range=RANGE, weights=toy.weight[of & one])[0]
        for one in (above, ~above)
    ]
    assert nominal.jsd == pytest.approx(jsd(*spectra))
    counts = [toy.weight[of & one].sum() ** 2 / (toy.weight[of & one] ** 2).sum() for one in (above, ~above)]
    assert nominal.floor == pytest.approx(floor(*counts, bins=25))
    assert found["down"].jsd_change == pytest.approx(found["down"].jsd - nominal.jsd)
    assert plots.shifts(filled) == ["up", "down"]
    assert plots.shifts(filled[{"systematic": "nominal"}]) == []
    with pytest.raises(InputError, match="has no shifts"):
        plots.shifted_spectra(filled[{"systematic": "nominal"}], tagger="plain", labels=LABELS, rejection=0.9)


def test_the_report_holds_it_all(tmp_path, monkeypatch, toy, measured, filled, images):
    # How figures become files is tested elsewhere, and slow.
    monkeypatch.setattr(content_module, "rendered", lambda _, kind: kind.encode())
    found, mapped = measured
    chosen = {name: found[name] for name in ("plain", "strong")}
    content = ReportInput(
        name="W jets",
        taggers=chosen,
        histograms={"mass": filled},
        labels=LABELS,
        scores={"mass": {"plain": toy.scores("plain")}},
        seconds={"mass": toy.second},
        images=images,
        mapped=mapped,
        series={"DisCo": [("10", "strong")]},
    )
    text = report(tmp_path, content).read_text(encoding="utf-8")
    figures = {one.name for one in (tmp_path / "figures").glob("*.png")}
    assert {
        "halfcurve_mass.png",
        "slices_mass_plain.png",
        "efficiencies_mass.png",
        "images_plain.png",
        "shifts_mass_plain.png",
    } <= figures
    for expected in (
        "plain, quantile map",
        "1/JSD at its statistical limit in 2 seeds",
        "a family of its own",
        "Systematic shifts",
        "Average jets",
    ):
        assert expected in text
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert [one["shift"] for one in metrics["shifts"]["mass"]] == ["nominal", "up", "down"]
    assert metrics["mapped"]["plain"][0]["half_signal"]["p_value"] > 0
    assert metrics["series"] == {"DisCo": [["10", "strong"]]}


def test_a_series_of_taggers_that_are_not_there_is_refused(tmp_path, measured):
    content = ReportInput(
        name="x", taggers={"plain": measured[0]["plain"]}, series={"DisCo": [("1", "pivot")]}
    )
    with pytest.raises(InputError, match="series 'DisCo' names 'pivot'"):
        report(tmp_path, content)
