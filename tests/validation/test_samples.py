"""Several signals against one background: areas, their covariance, and the mean over them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from hepdecorr.errors import InputError
from hepdecorr.validation import measures, page, plots, samples
from hepdecorr.validation.content import Figures
from hepdecorr.validation.measures import Measured, by_sample, mean_auc_difference, rank_correlation
from hepdecorr.validation.plots.scores import Scores
from hepdecorr.validation.plots.style import look
from hepdecorr.validation.report import ReportInput, report
from hepdecorr.validation.titles import tagger_of, titled, words

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


def test_the_difference_of_two_scores_on_the_same_events() -> None:
    """Its error is that of a bootstrap of the events, smaller than of scores that share nothing."""
    logit, label, sample = events(8, background=800, signal=150)
    other = logit + 0.5 * np.random.default_rng(9).normal(size=len(logit))
    found = mean_auc_difference((logit, other), label, sample, signals=3)
    first, second = (by_sample(one, label, sample, names=NAMES).mean_auc for one in (logit, other))
    assert found.value == pytest.approx(first.value - second.value, abs=1e-12)
    random, draws = np.random.default_rng(10), []
    groups = [np.flatnonzero(label == 0), *(np.flatnonzero((label == 1) & (sample == k)) for k in range(3))]
    for _ in range(500):
        background, *own = (random.choice(one, len(one)) for one in groups)
        areas = []
        for score in (logit, other):
            ordered = np.sort(score[background])
            areas.append(np.mean([np.searchsorted(ordered, score[one]).mean() / len(ordered) for one in own]))
        draws.append(areas[0] - areas[1])
    assert found.std == pytest.approx(np.std(draws), rel=0.15)
    assert found.std < 0.8 * np.hypot(first.std, second.std)


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


def content(taggers, **more):
    """A report's input with a tagger, a further score of it, and two signals."""
    names = ("W, 80 GeV", "top")
    by = {}
    for name, seeds in (("flat", (1, 2)), ("plain", (5,)), ("flat.kl", (3, 4))):
        by[name] = []
        for seed in seeds:
            logit, label, sample = events(seed, background=400, signal=100)
            own = (label == 0) | (sample < 2)
            by[name].append(by_sample(logit[own], label[own], sample[own], names=names, rejections=(0.9,)))
    behind = {"plain": [Measured(0.123, 0.12, 0.126, 0.003)]}
    return ReportInput(name="anomaly", taggers=taggers, by_sample=by, behind=behind, **more)


def test_every_score_stands_for_every_signal(tmp_path) -> None:
    given = content({})
    table = "".join(samples.section(given, Figures(tmp_path)))
    # A tagger's further scores stand beside it.
    assert table.index(">flat<") < table.index(">flat: KL<") < table.index(">plain<")
    means = [one.mean_auc.value for one in given.by_sample["flat.kl"]]
    assert f"<td>{page.plus_minus(np.mean(means), np.std(means, ddof=1))}</td>" in table
    assert "<td>0.1230 ± 0.0030</td><td>0.0030</td>" in table
    found = samples.metrics(given)["by_sample"]["flat.kl"]
    assert found["mean_auc"]["mean"] == pytest.approx(np.mean(means))
    assert found["seeds"][1]["samples"][1]["name"] == "top"
    assert len(found["seeds"][0]["covariance"]) == 2
    names = {one.name for one in tmp_path.iterdir()}
    assert {"matrix.pdf", "rocsample_W_80_GeV.png", "rocscore_flat_KL.png"} <= names


def test_the_matrix_holds_what_was_measured() -> None:
    """Means over seeds; errors of statistics and of seeds in quadrature; the largest of a column in bold."""
    seeds = content({}).by_sample
    rows = {name: samples._areas(seeds[name], ("W, 80 GeV", "top")) for name in ("flat", "plain")}
    values = [one.of("top").auc.value for one in seeds["flat"]]
    assert rows["flat"].values[1] == pytest.approx(np.mean(values))
    errors = [one.of("top").auc.std for one in seeds["flat"]]
    assert rows["flat"].errors[1] ** 2 == pytest.approx(np.var(values, ddof=1) + np.mean(np.square(errors)))
    # Seeds that agree leave what the events are worth.
    twice = samples._areas([seeds["flat"][0]] * 2, ("W, 80 GeV", "top"))
    assert twice.errors[2] == pytest.approx(seeds["flat"][0].mean_auc.std)
    assert rows["plain"].errors[2] == pytest.approx(seeds["plain"][0].mean_auc.std)
    drawn = plots.auc_matrix(rows, signals=("W, 80 GeV", "top"))
    texts = [text.get_text() for text in drawn.axes[0].texts]
    assert f"{np.mean(values):.3f}" in texts
    assert [tick.get_text() for tick in drawn.axes[0].get_xticklabels()] == ["W, 80 GeV", "top", "mean"]
    bold = {text.get_text() for text in drawn.axes[0].texts if text.get_weight() == "bold"}
    assert bold == {f"{max(row.values[k] for row in rows.values()):.3f}" for k in range(3)}
    with pytest.raises(InputError, match="no scores or no signals"):
        plots.auc_matrix({}, signals=("W",))


def test_a_report_of_many_scores(tmp_path, taggers, histogram, make_sample) -> None:
    """Areas by signal, ranks against the nuisance, spectra side by side."""
    columns = make_sample(1, background=2000, signal=300, sculpting=2.0)
    shown = {"plain": Scores(**columns), "plain.mse": Scores(**{**columns, "logit": -columns["logit"]})}
    own = columns["label"] == 0
    found = rank_correlation(columns["logit"][own], columns["nuisance"][own], replicas=20)
    known = {"plain": [found], "plain.mse": [Measured(-found.value, -found.high, -found.low, found.std)]}
    given = content(
        {"plain": taggers["plain"]},
        histograms={"mbc": histogram},
        labels={"continuum": 0, "signal": 1},
        scores={"mbc": shown},
        correlations={"mbc": known},
        spectra={"With and without": ["plain", "flat"]},
    )
    text = report(tmp_path, given).read_text(encoding="utf-8")
    assert "With and without: background before and after cuts" in text
    assert "By signal sample" in text
    assert page.plus_minus(-found.value, found.std) in text
    written = json.loads((tmp_path / "metrics.json").read_text())
    assert written["rank_correlation"]["mbc"]["plain.mse"][0]["value"] == -found.value
    assert set(written["by_sample"]) == {"flat", "plain", "flat.kl"}
    names = {one.name for one in (tmp_path / "figures").iterdir()}
    assert {"ranks_mbc.png", "beside_mbc_With_and_without.pdf", "matrix.png"} <= names


def test_panels_of_ranks_and_of_spectra(histogram, make_sample) -> None:
    one = Scores(**make_sample(1, background=2000, signal=300, sculpting=2.0))
    drawn = plots.rank_density(
        {"a": one}, correlations={"a": Measured(0.25, 0.24, 0.26, 0.01)}, range=(5.2, 5.29)
    )
    assert "+0.250" in drawn.axes[0].get_title(loc="left")
    labels = {"continuum": 0, "signal": 1}
    drawn = plots.side_by_side(histogram, scores={"plain": "A", "flat": "B"}, labels=labels)
    assert [ax.get_title(loc="left") for ax in drawn.axes[:2]] == ["A", "B"]
    # One scale for all, so that what sculpts is seen to.
    assert drawn.axes[2].get_ylim() == drawn.axes[3].get_ylim()
    with pytest.raises(InputError, match="no background"):
        plots.side_by_side(histogram, scores={"plain": "A"}, labels={"signal": 1})


@pytest.mark.parametrize(
    ("name", "title", "tagger"),
    [("vae.kl", "vae: KL", "vae"), ("a.b.mse", "a.b: MSE", "a.b"), ("a.b", "a.b", "a.b"), ("kl", "kl", "kl")],
)
def test_further_scores_have_titles(name: str, title: str, tagger: str) -> None:
    assert (titled(name), tagger_of(name)) == (title, tagger)


def test_mathtext_is_words_on_the_page() -> None:
    assert words(r"$H \to hh$ (20 GeV)") == "H → hh (20 GeV)"
    assert words(r"$B^0 \to \mu\mu$") == "B^0 → μμ"
    assert words("W (80 GeV)") == "W (80 GeV)"


def test_many_curves_differ_in_colour_or_line() -> None:
    looks = {(str(look(k)["color"]), str(look(k)["linestyle"])) for k in range(24)}
    assert len(looks) == 24
