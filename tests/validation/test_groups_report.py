"""Figures between groups show what is in the arrays, and the report says in words what was found."""

from __future__ import annotations

import io
import json
import math
from dataclasses import replace

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest

from hepdecorr.errors import InputError
from hepdecorr.validation import grouped, plots
from hepdecorr.validation.content import Figures
from hepdecorr.validation.group_content import BetweenGroups
from hepdecorr.validation.group_tables import times
from hepdecorr.validation.measures import Codes, Grouped, Measured, Protected, by_group, recovered, steadier
from hepdecorr.validation.measures.between import Smaller
from hepdecorr.validation.measures.recovered import under
from hepdecorr.validation.report import ReportInput, report

RANGE = (5.2, 5.29)
AXIS = {"nuisance": r"$M_{bc}$", "unit": "GeV"}
FEW = {"permutations": 100, "replicas": 100}


def sample(*, groups=40, events=150, seed=0):
    """Groups with a hidden scale: 'plain' sees it and bends the mass with it, 'context' hardly does."""
    random = np.random.default_rng(seed)
    group = np.repeat(np.arange(groups), events)
    scale = 0.02 * random.normal(size=groups)[group]
    label = (random.random(len(group)) < 0.4).astype(float)
    mass = RANGE[0] + (RANGE[1] - RANGE[0]) * random.beta(1.0, 1.3, len(group))
    score = random.normal(size=len(group)) + 2 * label
    pull = 1 + 20 * (mass - 5.24)
    logits = {"plain": score + 30 * scale * pull, "context": score + 3 * scale}
    protected = {"m_bc": Protected(mass, RANGE, 20)}
    return Grouped.of(label, group + 200001, protected=protected, conditions={"scale": scale}), logits


def codes(events, *, seed, groups=60):
    random = np.random.default_rng(seed)
    truth = events.conditions["scale"] if events else 0.02 * random.normal(size=groups)
    seen = truth + 0.004 * random.normal(size=len(truth))
    log_var = np.full((len(truth), 1), 2 * math.log(0.2))
    return Codes.of(50 * seen[:, None], log_var, truth, np.full(len(truth), 150))


@pytest.fixture(scope="module")
def groups():
    events, logits = sample()
    found = {name: by_group(one, events, rejections=(0.5, 0.9), **FEW) for name, one in logits.items()}
    ratio = steadier(*((logits[name], found[name]) for name in ("plain", "context")), events, replicas=100)
    fit, test = codes(None, seed=1), codes(events, seed=2)
    one = recovered(fit, test, replicas=50)
    return BetweenGroups(
        named="run",
        events=events,
        measured={"plain": [found["plain"]], "context": [found["context"], found["context"]]},
        logits=logits,
        reference="plain",
        ratios={"context": [ratio, ratio]},
        recovered={"context": {"scale": [one, one]}},
        mapped={"context": {"scale": under(fit, test)}},
        thinned={"context": {"scale": [replace(one, events=75.0), one]}},
        rejection=0.9,
        titles={"scale": ("Photon scale $s$", "")},
        notes=["spread_2: its events differ"],
    )


def passing(groups):
    return {name: one > groups.measured[name][0].at(0.9).threshold for name, one in groups.logits.items()}


def drawings(groups):
    scale, passed = groups.events.conditions["scale"], passing(groups)
    return {
        "condition": lambda: plots.efficiency_against_condition(passed, groups.events, scale, title="Scale"),
        "group": lambda: plots.efficiency_by_group(
            passed, groups.events, kind="signal", notes={"plain": "spread 9 %"}, of="run"
        ),
        "thirds": lambda: plots.spectra_in_slices(
            passed, groups.events, scale, variable="m_bc", notes={"plain": "JSD"}, title="Scale", **AXIS
        ),
        "resolution": lambda: plots.resolution_by_events(groups.thinned, titles=groups.titles),
        "recovered": lambda: plots.recovered_condition(groups.mapped["context"], title="scale", unit="GeV"),
    }


@pytest.mark.parametrize("name", ["condition", "group", "thirds", "recovered", "resolution"])
def test_every_figure_is_labelled_and_leaves_no_trace(name, groups):
    before = dict(mpl.rcParams)
    drawn = drawings(groups)[name]()
    assert dict(mpl.rcParams) == before
    assert plt.get_fignums() == []
    assert all(ax.has_data() for ax in drawn.axes)
    assert any(ax.get_xlabel() for ax in drawn.axes)
    assert any(ax.get_ylabel() for ax in drawn.axes)
    stream = io.BytesIO()
    drawn.savefig(stream, format="png", dpi=40)
    assert stream.getbuffer().nbytes > 4000


def test_points_against_the_condition_are_those_of_the_groups(groups):
    drawn = drawings(groups)["condition"]()
    x, y = drawn.axes[0].containers[0].lines[0].get_data()  # signal, plain
    events, scale = groups.events, groups.events.conditions["scale"]
    own, passed = events.label == 1, passing(groups)["plain"]
    order = np.argsort(scale)[:4]  # ten bins of forty groups
    inside = own & np.isin(events.place, order)
    assert y[0] == pytest.approx(passed[inside].mean())
    assert np.corrcoef(x, y)[0, 1] > 0.9
    level = drawn.axes[0].lines
    assert any(np.allclose(line.get_ydata(), passed[own].mean()) for line in level)


def test_bars_follow_the_scatter_of_the_groups():
    """Groups that differ by much more than counting have bars of their own scatter."""
    random = np.random.default_rng(3)
    group = np.repeat(np.arange(100), 400)
    share = np.where(random.random(100) < 0.5, 0.2, 0.8)
    events = Grouped.of(np.ones(len(group)), group)
    passed = {"one": random.random(len(group)) < share[group]}
    drawn = plots.efficiency_against_condition(passed, events, np.arange(100.0))
    (bars,) = drawn.axes[0].containers[0].lines[2]
    lengths = [segment[1, 1] - segment[0, 1] for segment in bars.get_segments()]
    assert np.mean(lengths) == pytest.approx(2 * 0.3 / math.sqrt(10), rel=0.2)


def test_by_group_points_stand_in_the_order_of_the_groups(groups):
    drawn = drawings(groups)["group"]()
    left, right = drawn.axes[:2]
    events, own = groups.events, groups.events.label == 1
    share = [passing(groups)["plain"][own & (events.place == k)].mean() for k in range(40)]
    np.testing.assert_allclose(left.lines[0].get_ydata(), share)
    counts = right.patches[0].get_data().values
    assert counts.sum() == 40
    # Far more groups beyond two deviations than by chance, for the one that sees the condition.
    assert counts[:6].sum() + counts[-6:].sum() > 8
    calm = drawn.axes[3].patches[0].get_data().values
    assert calm[:6].sum() + calm[-6:].sum() <= 8
    only = Grouped.of(np.ones(4), [0, 0, 1, 1])
    with pytest.raises(InputError, match="no background events"):
        plots.efficiency_by_group({"one": np.ones(4, dtype=bool)}, only, kind="background")


def test_thirds_are_the_spectra_of_their_events(groups):
    drawn = drawings(groups)["thirds"]()
    assert [ax.get_title(loc="left") for ax in drawn.axes[:3]] == ["before the cut", "plain", "context"]
    events, scale = groups.events, groups.events.conditions["scale"]
    before = drawn.axes[0]
    shape = before.patches[0].get_data()  # the lowest third
    low = (events.label == 0) & (scale[events.place] <= np.quantile(scale[events.place], 1 / 3))
    counted, _ = np.histogram(events.protected["m_bc"].values[low], bins=shape.edges)
    assert np.corrcoef(counted, shape.values)[0, 1] > 0.97


def test_resolutions_stand_at_their_numbers_of_events(groups):
    (ax,) = drawings(groups)["resolution"]().axes
    one = groups.thinned["context"]["scale"][1]
    x, y = ax.containers[0].lines[0].get_data()
    assert list(x) == [75, 150]
    assert y[1] == pytest.approx(one.resolution.value / one.truth_spread)
    assert ax.get_title(loc="left") == "Photon scale $s$"


def test_pulls_of_the_code_are_drawn_as_they_are(groups):
    drawn = plots.recovered_condition(groups.mapped["context"])
    upper, lower = drawn.axes
    one = groups.mapped["context"]["scale"]
    np.testing.assert_allclose(upper.containers[0].lines[0].get_data(), [one.truth, one.value])
    np.testing.assert_allclose(lower.lines[0].get_ydata(), (one.value - one.truth) / one.deviation)


@pytest.fixture(scope="module")
def written(tmp_path_factory, groups, taggers):
    folder = tmp_path_factory.mktemp("groups")
    content = ReportInput(name="runs", taggers={"flat": taggers["flat"]}, groups=groups)
    path = report(folder, content)
    return path.parent, path.read_text(encoding="utf-8")


def test_the_report_says_what_differs_between_groups(written):
    folder, text = written
    assert "40 groups of run, of 150 to 150 events (median 150)." in text
    assert "plain, at 90 % background rejection: signal efficiency of" in text
    assert "differs from run to run by" in text
    assert "times less than with plain" in text
    assert "before the cut" in text
    assert "change for one deviation of Photon scale s [%]" in text
    assert "JSD by Photon scale s [nats]" in text
    assert "spread_2: its events differ" in text
    assert "calibrated width" in text
    figures = {file.name for file in (folder / "figures").iterdir()}
    for name in (
        "condition_scale",
        "bygroup_signal",
        "bygroup_background",
        "thirds_m_bc_scale",
        "recovered_scale",
        "resolution",
    ):
        assert {f"{name}.pdf", f"{name}.png"} <= figures


def test_metrics_hold_all_of_it(written, groups):
    found = json.loads((written[0] / "metrics.json").read_text())["groups"]
    assert found["of"] == "run"
    assert found["sizes"]["groups"] == 40
    assert found["taggers"]["plain"][0] == groups.measured["plain"][0].to_dict()
    assert found["times_smaller"]["context"][0][1]["rejection"] == 0.9
    assert found["recovered"]["context"]["scale"][0]["fitted_on"] == 60
    assert [one["events"] for one in found["recovered_of_fewer_events"]["context"]["scale"]] == [75, 150]
    assert found["reference"] == "plain"


def told(folder, groups):
    """The section alone."""
    return "\n".join(grouped.section(groups, Figures(folder), {}))


def test_one_group_or_none_is_told(tmp_path):
    alone = BetweenGroups(
        "run", Grouped.of([0.0, 1.0], [7, 7]), {}, {}, notes=["The test events are of one run"]
    )
    text = told(tmp_path, alone)
    assert "1 groups of run, of 2 to 2 events" in text
    assert "The test events are of one run" in text
    assert not told(tmp_path, None)
    assert grouped.metrics(None) == {}


def test_groups_of_one_event_leave_words_alone(tmp_path):
    random = np.random.default_rng(5)
    events = Grouped.of(random.integers(0, 2, 200), np.arange(200))
    score = random.normal(size=200)
    found = by_group(score, events, rejections=(0.5,), **FEW)
    text = told(tmp_path, BetweenGroups("event", events, {"flat": [found]}, {"flat": score}))
    assert "200 of a single event." in text
    assert "too few events" in text
    assert not list(tmp_path.iterdir())


def test_times_smaller_are_a_limit_where_nothing_is_resolved():
    seen = Smaller(Measured(3.4, 3.1, 3.7, 0.3), 2.9)
    open_ended = Smaller(Measured(8.0, 5.0, math.inf), 4.0)
    assert times([seen]) == "3.40 ± 0.30"
    assert times([seen, open_ended]) == "> 2.9"
    assert times([]) == "–"
