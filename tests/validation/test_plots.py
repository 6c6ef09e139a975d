"""Figures: drawn without a warning, labelled, and without traces in the caller's matplotlib."""

from __future__ import annotations

import io

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure

from hepdecorr.errors import InputError
from hepdecorr.validation import plots
from hepdecorr.validation.plots import Scores

RANGE = (5.2, 5.29)
LABELS = {"continuum": 0, "signal": 1}
AXIS = {"nuisance": r"$M_{bc}$", "unit": "GeV"}
HISTORY = {
    "tagger/loss": {"1": 0.5, "2": 0.4, "3": None},
    "tagger/validation loss": [0.6, 0.5],
    "adversary/loss": {1: 2.2, 2: 2.3},
}


@pytest.fixture
def scores(samples):
    return {name: Scores(one["logit"], one["label"], one["nuisance"]) for name, one in samples.items()}


def drawings(taggers, histogram, scores):
    first = {name: seeds[0] for name, seeds in taggers.items()}
    return {
        "spectra": lambda: plots.sculpting_spectra(histogram, tagger="plain", labels=LABELS, **AXIS),
        "overview": lambda: plots.overview(
            histogram, labels=LABELS, rejection=0.9, notes={"plain": "sculpts"}, **AXIS
        ),
        "roc": lambda: plots.roc_curves(
            {name: [one.roc for one in seeds] for name, seeds in taggers.items()}
        ),
        "efficiency": lambda: plots.efficiency_profiles(
            {name: one.profiles for name, one in first.items()}, **AXIS
        ),
        "tradeoff": lambda: plots.trade_off(taggers, rejection=0.9),
        "density": lambda: plots.density(scores, range=RANGE, **AXIS),
        "scores": lambda: plots.score_distributions(scores, thresholds={"plain": [0.0, 1.28]}),
        "history": lambda: plots.training_history(
            HISTORY, turns=[(1, 1, "tagger"), (2, 2, "adversary")], references={"adversary/floor": 2.303}
        ),
    }


NAMES = ("spectra", "overview", "roc", "efficiency", "tradeoff", "density", "scores", "history")


@pytest.mark.parametrize("name", NAMES)
def test_every_figure_has_labels_and_leaves_no_trace(name, taggers, histogram, scores):
    before = dict(mpl.rcParams)
    drawn = drawings(taggers, histogram, scores)[name]()
    assert isinstance(drawn, Figure)
    assert dict(mpl.rcParams) == before
    assert plt.get_fignums() == []
    shown = [ax for ax in drawn.axes if ax.get_visible()]
    assert shown
    assert all(ax.has_data() for ax in shown)
    assert any(ax.get_xlabel() for ax in shown)
    assert name == "history" or any(ax.get_ylabel() for ax in shown)
    for kind in ("png", "svg"):
        stream = io.BytesIO()
        drawn.savefig(stream, format=kind, dpi=50)
        assert stream.getbuffer().nbytes > 5000


@pytest.mark.parametrize("name", ["spectra", "overview", "efficiency", "density"])
def test_units_stand_on_the_axis(name, taggers, histogram, scores):
    drawn = drawings(taggers, histogram, scores)[name]()
    assert r"$M_{bc}$ [GeV]" in {ax.get_xlabel() for ax in drawn.axes}


def test_spectra_show_the_contents_of_the_histogram(histogram, samples):
    passing = plots.spectrum(histogram, tagger="plain", category="pass 0.9", datasets=["continuum"])
    plain = samples["plain"]
    background = plain["label"] == 0
    cut = np.quantile(plain["logit"][background], 0.9)
    counted, _ = np.histogram(plain["nuisance"][background & (plain["logit"] > cut)], bins=20, range=RANGE)
    np.testing.assert_array_equal(passing.values, counted)
    np.testing.assert_array_equal(passing.variances, counted)
    assert passing.shape.sum() == pytest.approx(1)
    both = plots.spectrum(histogram, tagger="plain", category="before", datasets=["continuum", "signal"])
    assert both.values.sum() == 5500
    ratio, error = both.ratio(both)
    np.testing.assert_allclose(ratio[both.values > 0], 1)
    np.testing.assert_allclose(error, np.sqrt(2 / both.values))
    assert plots.rejections(histogram) == [0.5, 0.9]


def test_the_peak_stands_in_the_overview(histogram):
    drawn = plots.overview(histogram, labels=LABELS, rejection=0.9)
    steps = {
        ax.get_title(loc="left"): ax.patches[-1].get_data().values
        for ax in drawn.axes
        if ax.get_title(loc="left")
    }
    assert steps["plain"].max() > 1.5 * steps["flat"].max()


def test_missing_parts_of_a_histogram_are_named(histogram):
    with pytest.raises(InputError, match="no tagger 'pivot'; it has plain, flat"):
        plots.spectrum(histogram, tagger="pivot", category="before", datasets=["signal"])
    with pytest.raises(InputError, match=r"no category 'pass 0.99'"):
        plots.overview(histogram, labels=LABELS, rejection=0.99)


def test_more_taggers_than_columns_take_another_row(taggers, samples):
    one = taggers["plain"][0]
    drawn = plots.efficiency_profiles({f"tagger {i}": one.profiles for i in range(5)}, **AXIS)
    visible = [ax for ax in drawn.axes if ax.get_visible()]
    assert len(visible) == 5
    assert len({round(ax.get_position().y0, 3) for ax in visible}) == 2


@pytest.mark.parametrize(
    ("values", "scale"), [([0.01, 2.0], "log"), ([1.0, 2.0], "linear"), ([-0.01, 2.0], "linear")]
)
def test_a_training_of_values_that_are_far_apart_is_logarithmic(values, scale):
    drawn = plots.training_history({"vae/mse": values})
    assert drawn.axes[0].get_yscale() == scale


def test_many_curves_of_a_training_have_their_legend_beside_them():
    drawn = plots.training_history({f"valid/curve {k}": [1.0 + k, 2.0 + k] for k in range(9)})
    (ax,) = drawn.axes
    drawn.canvas.draw()
    assert len(ax.get_legend().get_texts()) == 9
    assert ax.get_legend().get_window_extent().x0 > ax.get_window_extent().x1 - 20


def test_history_without_values_is_refused():
    with pytest.raises(InputError, match="train at least one epoch"):
        plots.training_history({"tagger/loss": {}})
