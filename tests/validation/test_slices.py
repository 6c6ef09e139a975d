"""In bins of the nuisance: figures against closed forms, pictures that show what is in the arrays."""

from __future__ import annotations

import io
import itertools
import json
import math

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from scipy import stats
from scipy.special import expit
from sklearn.metrics import accuracy_score, log_loss, roc_auc_score

from hepdecorr.errors import InputError
from hepdecorr.validation import measures, plots
from hepdecorr.validation.measures import Slices
from hepdecorr.validation.plots import Plane, Scores
from hepdecorr.validation.report import ReportInput, report

EDGES = (-2.0, -0.5, 0.5, 2.0)


def toy(events=6000, *, seed=0, pull=1.0):
    """logit ~ N(2 label - 1 + pull z label, 1), z ~ N(0, 1): only the signal's depends on z."""
    random = np.random.default_rng(seed)
    label, z = random.integers(0, 2, events), random.standard_normal(events)
    return random.standard_normal(events) + 2 * label - 1 + pull * z * label, label, z


def test_bins_are_values_where_these_are_few():
    slices = Slices.of([3, 0, 1, 1, 0])
    assert slices.edges == (-0.5, 0.5, 2.0, 4.0)
    assert slices.titles == ("= 0", "= 1", "= 3")
    np.testing.assert_array_equal(slices.places([0, 1, 3, -1, 4]), [0, 1, 2, -1, -1])
    assert Slices.of(np.arange(20)) is None
    assert Slices.of([1.0, 1.0]) is None
    asked = Slices.of(np.arange(20), EDGES)
    assert asked.titles == ("-2 to -0.5", "-0.5 to 0.5", "0.5 to 2")
    np.testing.assert_allclose(asked.centres, [-1.25, 0, 1.25])
    np.testing.assert_array_equal(asked.places([-2, -0.5, 1.9, 2, -3]), [0, 1, 2, -1, -1])
    with pytest.raises(InputError, match="do not ascend"):
        Slices.of([1.0], [0, 1, 1])


def test_the_figures_of_a_bin_are_those_of_scikit_learn():
    logit, label, z = toy()
    weight = np.random.default_rng(1).uniform(0.5, 2, len(z))
    found = measures.in_slices(logit, label, z, weight, slices=Slices.of(z, EDGES))
    for one, (low, high) in zip(found.slices, itertools.pairwise(EDGES), strict=True):
        own = (z >= low) & (z < high)
        y, x, w = label[own], logit[own], weight[own]
        assert one.auc.value == pytest.approx(roc_auc_score(y, x, sample_weight=w))
        assert one.accuracy.value == pytest.approx(accuracy_score(y, x > 0, sample_weight=w))
        assert one.cross_entropy.value == pytest.approx(log_loss(y, expit(x), sample_weight=w))
        assert (one.background_events, one.signal_events) == ((y == 0).sum(), (y == 1).sum())
    # The higher z, the easier.
    aucs = [one.auc.value for one in found.slices]
    assert aucs == sorted(aucs)


def test_the_errors_of_a_bin_are_those_of_repeated_samples():
    repeated = [
        measures.in_slices(*toy(800, seed=seed), slices=Slices((-9.0, 9.0), ("all",))).slices[0]
        for seed in range(150)
    ]
    for name in ("accuracy", "cross_entropy"):
        values = [getattr(one, name) for one in repeated]
        assert np.mean([one.std for one in values]) == pytest.approx(
            np.std([one.value for one in values]), rel=0.2
        )


def test_information_of_gaussians():
    """I = -ln(1 - rho^2) / 2, of which 40 x 40 quantile bins keep nearly all."""
    random = np.random.default_rng(2)
    x, n = random.standard_normal((2, 40_000))
    z = 0.6 * x + 0.8 * n
    place = np.searchsorted(np.quantile(z, np.arange(1, 40) / 40), z)
    found = measures.information(x, place, bins=40)
    assert found.nats.value == pytest.approx(-0.5 * math.log(1 - 0.36), rel=0.05)
    assert found.p_value < 1e-10
    weighted = measures.information(x, place, weight=np.full(len(x), 3.0), bins=40)
    assert weighted.nats.value == pytest.approx(found.nats.value)


def test_information_is_what_the_bin_says_of_a_label():
    """A score that is the bin itself tells its whole entropy."""
    place = np.repeat([0, 1, 2], [5000, 3000, 2000])
    found = measures.information(place.astype(float), place, bins=50)
    share = np.array([0.5, 0.3, 0.2])
    assert found.nats.value == pytest.approx(-(share * np.log(share)).sum(), abs=1e-3)


def test_without_dependence_the_p_value_is_uniform_and_the_value_zero():
    random = np.random.default_rng(3)
    found = [
        measures.information(random.standard_normal(2000), random.integers(0, 4, 2000)) for _ in range(300)
    ]
    assert stats.kstest([one.p_value for one in found], "uniform").pvalue > 1e-3
    values = np.array([one.nats.value for one in found])
    assert abs(values.mean()) < 4 * values.std() / math.sqrt(300)
    assert np.mean([one.nats.std for one in found]) == pytest.approx(values.std(), rel=0.25)


def test_information_stands_apart_for_each_class():
    found = measures.in_slices(*toy(20_000), slices=Slices.of([], EDGES)).information
    assert found["background"].p_value > 1e-3
    assert found["signal"].p_value < 1e-10
    assert found["signal"].nats.value > found["all"].nats.value > 0.01
    # Dependence of the label alone: none within the classes.
    _, label, z = toy(20_000)
    shifted = z + 2 * label
    logit = np.random.default_rng(4).standard_normal(len(z)) + 3 * label
    apart = measures.in_slices(logit, label, shifted, slices=Slices.of([], (-2, 0, 1, 2, 4))).information
    assert apart["all"].p_value < 1e-10
    assert min(apart["background"].p_value, apart["signal"].p_value) > 1e-3


def test_equal_bins_of_the_score_do_not_see_what_quantiles_do():
    """Scores that are all but 0 and 1, and in their last digits the nuisance."""
    _, label, z = toy(5000)
    found = measures.in_slices(40 * (2 * label - 1) + z, label, z, slices=Slices.of([], EDGES))
    assert found.information["all"].nats.value > 0.5
    assert found.equal["all"].p_value > 1e-3
    assert found.equal["all"].nats.value < 0.01
    assert found.equal["background"].nats.value == 0  # one bin


def test_a_bin_or_class_that_is_not_there_has_no_figures():
    logit, label, z = toy(500)
    found = measures.in_slices(
        logit[label == 1], label[label == 1], z[label == 1], slices=Slices.of([], (-2, 2, 50, 60))
    )
    assert [one.auc for one in found.slices] == [None] * 3
    assert found.slices[0].accuracy is not None
    assert found.slices[2].accuracy is found.slices[2].cross_entropy is None
    assert found.information["background"] is None
    json.dumps(found.to_dict())


@pytest.fixture(scope="module")
def shown():
    """Two taggers in the plane: one that looks at the nuisance, one that does not."""
    logit, label, z = toy(3000)
    x, y = np.linspace(-3, 3, 41), np.linspace(-2, 2, 31)
    upper = {"sees": np.add.outer(2 * y, x), "blind": np.add.outer(0 * y, x)}
    points = np.random.default_rng(0).standard_normal((3000, 2))
    plane = Plane(x, y, upper, points, label, {"z": z}, ("x1 [GeV]", "x2"))
    scores = {"sees": Scores(logit, label, z), "blind": Scores(toy(3000, pull=0)[0], label, z)}
    return plane, scores, Slices.of(z, EDGES)


def drawings(shown):
    plane, scores, slices = shown
    taggers = {
        name: measures.in_slices(one.logit, one.label, one.nuisance, slices=slices)
        for name, one in scores.items()
    }
    return {
        "surface": lambda: plots.surface(plane, nuisance="z", slices=slices, title="$z$"),
        "density": lambda: plots.density_by_nuisance(scores, slices=slices, title="$z$"),
        "in_slices": lambda: plots.in_slices(taggers, slices=slices, nuisance="$z$", unit="GeV"),
    }


@pytest.mark.parametrize("name", ["surface", "density", "in_slices"])
def test_every_figure_is_labelled_and_leaves_no_trace(name, shown):
    before = dict(mpl.rcParams)
    drawn = drawings(shown)[name]()
    assert dict(mpl.rcParams) == before
    assert plt.get_fignums() == []
    visible = [ax for ax in drawn.axes if ax.get_visible()]
    assert all(ax.has_data() for ax in visible)
    assert any(ax.get_xlabel() for ax in visible)
    assert any(ax.get_ylabel() for ax in visible)
    texts = [text.get_text() for legend in drawn.legends for text in legend.get_texts()]
    assert ("sees" if name == "in_slices" else "$z$ -2 to -0.5") in texts
    stream = io.BytesIO()
    drawn.savefig(stream, format="png", dpi=40)
    assert stream.getbuffer().nbytes > 5000


def test_the_surface_shows_the_score_and_the_points(shown):
    plane, _, slices = shown
    drawn = plots.surface(plane, nuisance="z", slices=slices)
    sees, blind = drawn.axes
    assert [ax.get_title(loc="left") for ax in drawn.axes] == ["sees", "blind"]
    assert (sees.get_xlabel(), sees.get_ylabel()) == ("x1 [GeV]", "x2")
    assert len(sees.lines) == 2 * len(slices.titles)
    place = slices.places(plane.nuisances["z"])
    signal = (place == 1) & (plane.label == 1)
    drawn_signal = np.stack(sees.lines[3].get_data(), 1)
    assert {tuple(p) for p in drawn_signal} <= {tuple(p) for p in plane.points[signal]}
    # The line of score 1/2: x1 = 0 where the tagger is blind, x1 = -2 x2 where it sees.
    for ax, slope in ((blind, 0), (sees, -2)):
        lines = next(c for c in ax.collections if len(getattr(c, "levels", [])) == 9)
        x, y = lines.get_paths()[4].vertices.T
        np.testing.assert_allclose(x, slope * y, atol=0.02)
    with pytest.raises(InputError, match="no taggers"):
        plots.surface(plane._replace(logits={}), nuisance="z")


def test_a_flat_tagger_and_no_bins_are_drawn_too(shown):
    plane, _, _ = shown
    flat = plane._replace(logits={"flat": np.zeros_like(plane.logits["blind"])})
    drawn = plots.surface(flat, nuisance="z")
    assert len(drawn.axes[0].lines) == 2


def test_densities_are_those_of_the_bins(shown):
    _, scores, slices = shown
    drawn = plots.density_by_nuisance(scores, slices=slices, bins=20)
    of_signal = drawn.axes[4]  # third row, first column
    values = of_signal.patches[0].get_data().values
    own = (slices.places(scores["sees"].nuisance) == 0) & (scores["sees"].label == 1)
    counted, _ = np.histogram(expit(scores["sees"].logit[own]), bins=20, range=(0, 1), density=True)
    np.testing.assert_allclose(values, counted)


def test_the_report_tells_of_bins_and_plane(tmp_path, taggers, shown, samples):
    plane, _, _ = shown
    one = samples["flat"]
    slices = {"mbc": Slices.of(one["nuisance"], [5.2, 5.25, 5.29])}
    found = measures.in_slices(one["logit"], one["label"], one["nuisance"], slices=slices["mbc"], name="mbc")
    content = ReportInput(
        name="bins",
        taggers={"flat": taggers["flat"]},
        scores={"mbc": {"flat": Scores(one["logit"], one["label"], one["nuisance"])}},
        slices=slices,
        in_slices={"mbc": {"flat": [found, found]}},
        plane=plane._replace(logits={"flat": plane.logits["blind"]}, nuisances={"mbc": plane.nuisances["z"]}),
    )
    text = report(tmp_path, content).read_text()
    assert "Decision surface" in text
    assert "I(score; bin), signal [nats] (p)" in text
    figures = {file.name for file in (tmp_path / "figures").iterdir()}
    assert {"surface_mbc.png", "byslice_mbc.png", "inslices_mbc.png"} <= figures
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["in_slices"]["mbc"]["flat"][0] == found.to_dict()
