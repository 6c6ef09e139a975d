"""Spread between groups: closed forms, simulations of a known spread, and what cannot be measured."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from hepdecorr.errors import InputError
from hepdecorr.validation.measures import Protected
from hepdecorr.validation.measures.between import (
    Moments,
    _heterogeneity,
    _null,
    _variance,
    between,
    bootstrap,
    smaller,
)
from hepdecorr.validation.measures.by_group import ByGroup, by_group, slices_of
from hepdecorr.validation.measures.explained import explained, terms, trend
from hepdecorr.validation.measures.grouped import Grouped
from hepdecorr.validation.measures.steadier import steadier

FEW = {"permutations": 200, "replicas": 200}


def passing(random, *, groups=80, events=60.0, mean=0.3, spread=0.05):
    """Passing events of groups of very different size, whose efficiencies are of a beta distribution."""
    size = random.poisson(events * random.uniform(0.1, 2.0, groups)) + 1
    share = np.full(groups, mean)
    if spread:
        both = mean * (1 - mean) / spread**2 - 1
        share = random.beta(mean * both, (1 - mean) * both, groups)
    group = np.repeat(np.arange(groups), size)
    return (random.random(len(group)) < share[group]).astype(float), group


def test_the_figures_are_those_of_the_analysis_of_variance():
    random = np.random.default_rng(0)
    y, group = passing(random)
    y += random.normal(size=len(y))
    apart = [y[group == one] for one in np.unique(group)]
    n = np.array([len(one) for one in apart])
    within = sum(((one - one.mean()) ** 2).sum() for one in apart) / (len(y) - len(n))
    among = sum(len(one) * (one.mean() - y.mean()) ** 2 for one in apart) / (len(n) - 1)
    lever = (n.sum() - (n**2).sum() / n.sum()) / (len(n) - 1)
    found = between(y, group, **FEW)
    assert found.variance.value == pytest.approx((among - within) / lever)
    assert found.spread.value == pytest.approx(math.sqrt(found.variance.value))
    assert found.chance == pytest.approx(math.sqrt(within / lever))
    assert (found.groups, found.events, found.mean) == (80, len(y), pytest.approx(y.mean()))
    moments = Moments.of(y, group, None, groups=80)
    np.testing.assert_allclose(moments.mean, [one.mean() for one in apart])
    assert _heterogeneity(moments) / 79 == pytest.approx(stats.f_oneway(*apart).statistic)
    # The value in the bootstrap's one draw of each group once, but for its factor k / (k - 1).
    once = bootstrap(moments, np.ones((1, 80)))[0]
    assert once == pytest.approx((among * 80 / 79 - within) / lever)


def test_far_from_zero_no_digit_is_lost_and_units_go_along():
    y, group = passing(np.random.default_rng(1))
    plain, moved = between(y, group, **FEW), between(1e6 + y, group, **FEW)
    assert moved.variance.value == pytest.approx(plain.variance.value, rel=1e-6)
    assert moved.p_value == pytest.approx(plain.p_value)
    scaled = between(1000 * y, group, **FEW)
    assert scaled.spread.value == pytest.approx(plain.scaled(1000.0).spread.value)
    assert scaled.upper == pytest.approx(plain.scaled(1000.0).upper)


def test_neither_the_order_of_events_nor_the_names_of_groups_matter():
    random = np.random.default_rng(2)
    y, group = passing(random)
    order = random.permutation(len(y))
    assert between(y[order], 1000 - 7 * group[order], **FEW).variance.value == pytest.approx(
        between(y, group, **FEW).variance.value
    )


@pytest.mark.parametrize("spread", [0.0, 0.02, 0.06])
def test_a_known_spread_is_found_within_its_error(spread):
    """Mean, error, interval and limit over repeated samples of groups of very different size."""
    random = np.random.default_rng(3)
    many = [between(*passing(random, spread=spread), **FEW, seed=k) for k in range(150)]
    values = np.array([one.variance.value for one in many])
    assert abs(values.mean() - spread**2) < 4 * values.std() / math.sqrt(150)
    assert np.mean([one.variance.std for one in many]) == pytest.approx(values.std(), rel=0.25)
    inside = np.mean([one.variance.low <= spread**2 <= one.variance.high for one in many])
    assert 0.55 < inside < 0.8
    assert np.mean([one.upper >= spread for one in many]) > 0.9
    assert np.median([one.upper for one in many]) < spread + 2 * np.median([one.chance for one in many])


def test_below_zero_the_sign_is_kept_and_the_limit_positive():
    group = np.repeat(np.arange(30), 20)
    y = np.tile([0.0, 1.0], 300)  # each group has exactly one half
    found = between(y, group, **FEW)
    assert found.variance.value == pytest.approx(-0.25 * 20 / 19 / 20)
    assert found.spread.value == pytest.approx(-math.sqrt(0.25 / 19))
    assert found.p_value == 1
    assert 0 < found.upper < found.chance


def uniform(p_values):
    # Few permutations: their p-values are discrete.
    jittered = np.asarray(p_values) - np.random.default_rng(9).random(len(p_values)) / 201
    return stats.kstest(jittered, "uniform").pvalue


@pytest.mark.parametrize("kind", ["efficiency", "values", "weighted"])
def test_without_dependence_the_p_value_is_uniform(kind):
    random = np.random.default_rng(4)
    found = []
    for k in range(100):
        y, group = passing(random, groups=25, events=20.0, spread=0.0, mean=0.1)
        weight = None
        if kind == "values":
            y = random.exponential(size=len(y))
        if kind == "weighted":  # what passes is lighter
            weight = random.uniform(0.5, 1.5, len(y)) * (1 - 0.5 * y)
        found.append(between(y, group, weight, permutations=200, replicas=2, seed=k).p_value)
    assert uniform(found) > 1e-3


def test_with_dependence_it_is_small():
    y, group = passing(np.random.default_rng(5), spread=0.1)
    found = between(y, group, **FEW)
    n, passed = (np.bincount(group, weights=w) for w in (None, y))
    q = stats.chi2_contingency(np.stack([passed, n - passed])).statistic
    assert found.p_value < 1e-10
    # Far out the tail of chi-squared, which the permutations follow.
    assert math.log(found.p_value) == pytest.approx(stats.chi2.logsf(q, 79), rel=0.2)
    weight = np.random.default_rng(6).uniform(0.5, 1.5, len(y))
    assert between(y, group, weight, **FEW).p_value < 1e-10


def test_numbers_of_passing_events_are_drawn_as_events_are():
    """The short cut for 0 and 1, against permutations of the events themselves."""
    y, group = passing(np.random.default_rng(7), groups=10, events=15.0)
    counted = _null(y, group, None, groups=10, size=3000, random=np.random.default_rng(0))
    random = np.random.default_rng(1)
    moved = [_heterogeneity(Moments.of(random.permutation(y), group, None, groups=10)) for _ in range(1500)]
    assert stats.ks_2samp(counted, moved).pvalue > 1e-3


def test_equal_weights_are_none_and_others_count_effectively():
    random = np.random.default_rng(8)
    y, group = passing(random)
    assert between(y, group, np.full(len(y), 3.0), **FEW) == between(y, group, **FEW)
    weight = random.uniform(0.1, 2.0, len(y))
    found = between(y, group, weight, **FEW)
    counts = [weight[group == one].sum() ** 2 / (weight[group == one] ** 2).sum() for one in range(80)]
    assert found.effective == pytest.approx(sum(counts))
    assert found.effective < 0.85 * len(y)


def test_weights_that_go_with_the_values_leave_no_bias():
    """Passing events half as heavy as others: the errors of the groups' means are those of their weights."""
    random = np.random.default_rng(9)
    values = []
    for _ in range(200):
        y, group = passing(random, spread=0.0, mean=0.2)
        weight = random.exponential(size=len(y)) * np.where(y > 0, 0.5, 1.0)
        values.append(_variance(Moments.of(y, group, weight, groups=80)))
    spread = np.std(values) / math.sqrt(200)
    # Of a ratio of sums in small groups a bias of second order remains.
    assert abs(np.mean(values)) < 4 * spread + 1e-4


def test_the_ratio_of_two_spreads_and_its_error():
    """Two efficiencies of the same groups, one three times as steady, over repeated samples."""
    random = np.random.default_rng(10)
    found = []
    for k in range(100):
        group = np.repeat(np.arange(100), 300)
        shift = random.normal(size=100)[group]
        both = [(random.random(len(group)) < 0.5 + size * shift).astype(float) for size in (0.15, 0.05)]
        moments = [Moments.of(one, group, None, groups=100) for one in both]
        upper = between(both[1], group, permutations=100, replicas=2).upper
        found.append(smaller(*moments, upper=upper, replicas=200, seed=k))
    values = np.array([one.times.value for one in found])
    assert np.median(values) == pytest.approx(3.0, abs=0.15)
    assert 0.55 < np.mean([one.times.low <= 3 <= one.times.high for one in found]) < 0.8
    assert np.mean([one.least <= 3 for one in found]) > 0.9
    # In the same draws of groups: two errors apart would be larger, since the groups are the same.
    assert np.mean([one.times.std for one in found]) == pytest.approx(values.std(), rel=0.3)


def test_a_spread_that_is_not_seen_bounds_the_ratio():
    random = np.random.default_rng(11)
    group = np.repeat(np.arange(60), 50)
    seen = (random.random(3000) < 0.5 + 0.2 * random.normal(size=60)[group]).astype(float)
    flat = np.tile([0.0, 1.0], 1500)
    upper = between(flat, group, **FEW).upper
    first, second = (Moments.of(one, group, None, groups=60) for one in (seen, flat))
    found = smaller(first, second, upper=upper, replicas=200)
    assert found.times.value == math.inf
    assert found.times.std is None
    assert found.least == pytest.approx(math.sqrt(_variance(first)) / upper)
    assert found.to_dict()["times"]["value"] is None


def test_a_trend_is_the_line_through_the_groups():
    random = np.random.default_rng(12)
    y, group = passing(random)
    condition = random.normal(size=80)
    moments = Moments.of(y, group, None, groups=80)
    found = trend(moments, condition)
    slope = np.polyfit(condition, moments.mean, 1, w=np.sqrt(moments.size))[0]
    about = condition - np.average(condition, weights=moments.size)
    deviation = math.sqrt(np.average(about**2, weights=moments.size))
    assert found.change.value == pytest.approx(slope * deviation)
    assert found.p_value > 1e-3
    tilted = Moments.of(y + condition[group], group, None, groups=80)
    assert trend(tilted, condition).change.value == pytest.approx(slope * deviation + deviation)
    assert trend(tilted, condition).p_value < 1e-10
    assert trend(tilted, np.ones(80)) is None


def test_what_is_explained_is_that_of_a_regression():
    random = np.random.default_rng(20)
    y, group = passing(random)
    first, second = random.normal(size=80), random.exponential(size=80)
    moments = Moments.of(y, group, None, groups=80)
    found = explained(moments, [first, second], replicas=50)
    n, m = moments.size, moments.mean
    design = np.column_stack([np.ones(80), first, second, first**2, first * second, second**2])
    root = np.sqrt(n)[:, None]
    beta = np.linalg.lstsq(root * design, root[:, 0] * m, rcond=None)[0]
    fit = design @ beta
    residual = n @ (m - fit) ** 2 / (80 - 6)
    of_fit = n @ (fit - np.average(m, weights=n)) ** 2
    assert found.terms == 5
    assert found.variance.value == pytest.approx((of_fit - 5 * residual) / n.sum())
    assert found.p_value == pytest.approx(stats.f.sf(of_fit / 5 / residual, 5, 74))
    # Units and origins of the conditions do not matter, and one twice is one.
    again = explained(moments, [first, 100 + 7 * second, -first], replicas=50)
    assert again.variance.value == pytest.approx(found.variance.value)
    assert again.terms == 5


def test_terms_of_few_values_are_fewer():
    era = np.arange(12) % 3
    assert terms([era.astype(float)], np.ones(12)).shape == (12, 3)
    assert terms([(era > 0).astype(float)], np.ones(12)).shape == (12, 2)
    assert terms([np.ones(12)], np.ones(12)).shape == (12, 1)
    columns = terms([era.astype(float), np.arange(12.0)], np.arange(1.0, 13.0))
    gram = columns.T @ (columns * np.arange(1.0, 13.0)[:, None]) / 78
    np.testing.assert_allclose(gram, np.eye(columns.shape[1]), atol=1e-9)


@pytest.mark.parametrize("size", [0.0, 0.04])
def test_a_known_part_that_follows_a_condition_is_found(size):
    """Half of the spread is the condition's, to both of its sides; the other half has no known cause."""
    random = np.random.default_rng(21)
    found, truth = [], []
    for k in range(150):
        group = np.repeat(np.arange(80), random.poisson(60, 80) + 1)
        condition = random.uniform(-1, 1, size=80)
        shape = (condition**2 - 1 / 3) / math.sqrt(4 / 45)  # of mean 0 and variance 1
        share = 0.4 + size * shape + 0.04 * random.normal(size=80)
        y = (random.random(len(group)) < share[group]).astype(float)
        moments = Moments.of(y, group, None, groups=80)
        found.append(explained(moments, [condition], replicas=100, seed=k))
        truth.append(size**2 * np.cov(shape, aweights=moments.size, ddof=0))
    values = np.array([one.variance.value for one in found])
    assert abs(np.mean(values - truth)) < 4 * np.std(values - truth) / math.sqrt(150)
    assert np.mean([one.upper >= size for one in found]) > 0.9
    if not size:
        assert stats.kstest([one.p_value for one in found], "uniform").pvalue > 1e-3
    else:
        inside = np.mean([one.variance.low <= size**2 <= one.variance.high for one in found])
        assert 0.5 < inside < 0.85
        assert np.mean([one.p_value < 0.01 for one in found]) > 0.9


def test_too_few_groups_explain_nothing():
    y, group = passing(np.random.default_rng(22), groups=5)
    moments = Moments.of(y, group, None, groups=5)
    assert explained(moments, [np.arange(5.0)]) is None
    assert explained(moments, [np.ones(5)]) is None


def sample(random, *, groups=60, events=120):
    """Two scores, of which one sees the condition; the mass of the background moves with it a little."""
    group = np.repeat(np.arange(groups), events)
    scale = random.normal(size=groups)[group]
    label = (random.random(len(group)) < 0.4).astype(float)
    mass = 5.2 + 0.09 * random.beta(1.0, 1.3, len(group))
    score = random.normal(size=len(group)) + 2 * label
    events = Grouped.of(
        label,
        3 * group + 7,
        protected={"mass": Protected(mass, (5.2, 5.29), 20)},
        conditions={"scale": scale},
    )
    return events, score + 0.5 * scale, score, score + 60 * (mass - 5.24) * scale


@pytest.fixture(scope="module")
def measured():
    events, sees, blind, bends = sample(np.random.default_rng(13))
    found = {
        name: by_group(score, events, rejections=(0.5, 0.9), **FEW)
        for name, score in {"sees": sees, "blind": blind, "bends": bends}.items()
    }
    return events, {"sees": sees, "blind": blind, "bends": bends}, found


def test_a_tagger_that_sees_the_condition_differs_between_groups(measured):
    events, scores, found = measured
    sees, blind = found["sees"], found["blind"]
    for kind, label in (("signal", 1), ("background", 0)):
        assert sees.resolved(f"{kind} 0.9")
        assert not blind.resolved(f"{kind} 0.9")
        own = events.label == label
        cut = np.quantile(scores["sees"][events.label == 0], 0.9)
        alone = between(scores["sees"][own] > cut, events.place[own], **FEW)
        assert sees.at(0.9).of(kind).variance.value == pytest.approx(alone.variance.value, rel=0.02)
    assert sees.at(0.9).trends["scale"]["signal"].p_value < 1e-10
    assert sees.resolved("signal explained 0.9")
    assert sees.differs("signal", 0.9)
    assert not blind.differs("signal", 0.9)
    assert sees.sizes.groups == 60
    with pytest.raises(InputError, match=r"rejection 0.95 was not measured; 0.5, 0.9 were"):
        sees.at(0.95)


def test_a_cut_that_bends_the_spectrum_with_the_condition_is_seen(measured):
    _, _, found = measured
    before, _, after = found["bends"].spectra["mass"]
    assert before.rejection == 0
    assert after.rejection == 0.9
    assert found["bends"].resolved("mass scale 0.9")
    assert found["bends"].resolved("mass mean 0.9")
    assert after.slices["scale"].jsd.value > 5 * before.slices["scale"].jsd.value
    assert after.mean.spread.value > 3 * before.mean.upper
    assert not any(found["blind"].resolved(f"mass {figure} 0.9") for figure in ("mean", "width", "scale"))
    # What is there before the cut is no figure of the tagger.
    assert not any(name.endswith(" 0") for name in found["bends"].p_holm)


def test_p_values_are_adjusted_within_their_families(measured):
    found = measured[2]["blind"]
    names = {f"{kind} {one}" for kind in ("signal", "background") for one in (0.5, 0.9)}
    names |= {f"{kind} explained {one}" for kind in ("signal", "background") for one in (0.5, 0.9)}
    names |= {f"mass {figure} {one}" for figure in ("mean", "width", "scale") for one in (0.5, 0.9)}
    assert set(found.p_holm) == names
    own = [found.at(one) for one in (0.5, 0.9)]
    raw = [one.of(kind).p_value for one in own for kind in ("signal", "background")]
    raw += [one.explained[kind].p_value for one in own for kind in ("signal", "background")]
    adjusted = [p for name, p in found.p_holm.items() if "mass" not in name]
    assert min(adjusted) == pytest.approx(min(8 * min(raw), 1.0))


def test_the_width_of_what_passes_is_followed_apart_from_its_mean():
    random = np.random.default_rng(14)
    group = np.repeat(np.arange(80), 400)
    wide = np.exp(0.2 * random.normal(size=80))
    mass = wide[group] * random.normal(size=len(group))
    events = Grouped.of(np.zeros(len(group)), group, protected={"mass": Protected(mass, (-5.0, 5.0))})
    found = by_group(random.normal(size=len(group)), events, rejections=(0.5,), **FEW)
    _, after = found.spectra["mass"]
    assert after.width.spread.value == pytest.approx(np.std(wide), rel=0.25)
    assert found.resolved("mass width 0.5")
    assert after.mean.upper < after.width.spread.value / 3
    assert found.at(0.5).signal is None


def test_how_many_times_steadier(measured):
    events, scores, found = measured
    (low, tight) = steadier(*((scores[one], found[one]) for one in ("sees", "blind")), events, replicas=200)
    assert (low.rejection, tight.rejection) == (0.5, 0.9)
    ratio = tight.of("signal")
    one, other = (found[name].at(0.9).signal.variance.value for name in ("sees", "blind"))
    assert ratio.times.value == pytest.approx(math.sqrt(one / other) if other > 0 else math.inf)
    assert 1 < ratio.least < ratio.times.value
    assert tight.explained["signal"].least > 1
    (_, same) = steadier(*((scores["sees"], found["sees"]),) * 2, events, replicas=50)
    assert (same.signal.times.low, same.signal.times.value, same.signal.times.high) == (1, 1, 1)
    assert set(tight.means) == {"mass"}


def test_thirds_hold_a_third_each_or_whole_values():
    events, *_ = sample(np.random.default_rng(15))
    third = slices_of(events.conditions["scale"], events)
    assert np.bincount(third) / len(third) == pytest.approx(np.full(3, 1 / 3), abs=0.03)
    own = events.conditions["scale"][events.place]
    assert own[third == 0].max() < own[third == 1].min()
    assert own[third == 1].max() < own[third == 2].min()
    # An era that holds most of the events stands against the others, whichever it is.
    for era in (np.arange(60) >= 12, np.arange(60) >= 48):
        third = slices_of(era.astype(float), events)
        assert np.array_equal(third, np.where(era, 2, 0)[events.place])
    four = np.arange(60) // 15
    assert np.array_equal(slices_of(four.astype(float), events), np.array([0, 1, 1, 2])[four][events.place])


def test_measures_survive_being_written_and_read(measured):
    found = measured[2]["sees"]
    again = ByGroup.from_json(found.to_json())
    assert again.efficiencies == found.efficiencies
    assert again.to_dict() == found.to_dict()


def test_weighted_groups_are_measured_too():
    random = np.random.default_rng(16)
    group = np.repeat(np.arange(20), 60)
    label, weight = np.tile([0.0, 1.0], 600), random.uniform(0.5, 1.5, 1200)
    mass = random.uniform(0, 1, 1200)
    events = Grouped.of(
        label,
        group,
        weight,
        protected={"mass": Protected(mass, (0.0, 1.0), 5)},
        conditions={"era": group // 10},
    )
    found = by_group(random.normal(size=1200), events, rejections=(0.5,), permutations=50, replicas=50)
    assert found.at(0.5).signal.effective < 600
    assert found.spectra["mass"][1].slices["era"].weighted


def test_odd_groups_are_defined():
    """Groups of one event, of one class, and thousands of them."""
    random = np.random.default_rng(17)
    group = np.concatenate([np.arange(3000), np.repeat(np.arange(3000, 3020), 50)])
    label = np.concatenate([random.integers(0, 2, 3000), np.zeros(500), np.ones(500)])
    events = Grouped.of(label, group)
    assert events.sizes.alone == 3000
    assert events.sizes.without_background == int(label[:3000].sum()) + 10
    assert events.sizes.without_signal == 3000 - int(label[:3000].sum()) + 10
    found = by_group(random.normal(size=4000), events, rejections=(0.5, 0.9), permutations=2000)
    assert found.at(0.5).signal.permutations == 1_000_000 // 3020
    assert found.at(0.5).signal.groups == int(label[:3000].sum()) + 10
    assert found.p_holm["signal 0.5"] > 1e-3


def test_what_cannot_be_measured_is_said():
    y, group = passing(np.random.default_rng(18))
    with pytest.raises(InputError, match="of one group; a spread needs two"):
        between(y, np.zeros(len(y)))
    with pytest.raises(InputError, match=r"each of the .* groups has one event"):
        between(y, np.arange(len(y)))
    with pytest.raises(InputError, match=r"all .* values are 1; what does not vary"):
        between(np.ones(len(y)), group)
    with pytest.raises(InputError, match="pass one group per event"):
        between(y, group[:-1])
    first, second = (Moments.of(y, place, None, groups=n) for place, n in ((group % 3, 3), (group, 80)))
    with pytest.raises(InputError, match="3 groups of the reference, 80 of the other"):
        smaller(first, second, upper=1.0)
    one = Grouped.of(y, np.full(len(y), 5))
    with pytest.raises(InputError, match=r"all .* events are of group 5; flatness between groups needs two"):
        by_group(y, one)
    with pytest.raises(InputError, match="no background events"):
        by_group(y, Grouped.of(np.ones(len(y)), group))
    with pytest.raises(InputError, match="scores for"):
        by_group(y[:-1], Grouped.of(y, group))
    with pytest.raises(InputError, match=r"differ within the groups 0, 1, 2 and 77 more"):
        Grouped.of(y, group, conditions={"scale": np.arange(len(y))})
    with pytest.raises(InputError, match=r"values \[2.0\] found"):
        Grouped.of(y + 1, group)
