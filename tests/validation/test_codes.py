"""Measures of group and instance codes against a Gaussian model whose every figure is known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hepdecorr.catalogue import load_file
from hepdecorr.errors import InputError
from hepdecorr.validation.measures import code_likelihood, code_probes
from hepdecorr.validation.measures.code_evaluation import FIGURES, CodeMeasures, Truth, evaluate_codes
from hepdecorr.validation.measures.codes import (
    Inferred,
    Normal,
    of_units,
    partners,
    reconstruction,
    translate,
    translation_error,
)
from hepdecorr.validation.measures.numbers import Measured

model = load_file(Path(__file__).with_name("gaussian_groups.py"))
A, B, NOISE, TAU2 = model.A, model.B, model.NOISE, model.TAU2
drawn, exact, log_likelihoods, variance_of_u = (
    model.drawn,
    model.exact,
    model.log_likelihoods,
    model.variance_of_u,
)
GROUPS, SIZE = 1200, 8
V = float(variance_of_u(np.array(SIZE)))  # of u, given the events
V_OF_V = NOISE**2 / TAU2 + (A * B / TAU2) ** 2 * V  # of v, given them


@pytest.fixture(scope="module")
def sample():
    return drawn(GROUPS, seed=1, size=SIZE)


def assert_near(found: Measured, expected: float, *, sigmas: float = 4.0) -> None:
    assert found.std is not None
    assert 0 < found.std < 0.2 * max(abs(expected), 0.1)
    assert found.value == pytest.approx(expected, abs=sigmas * found.std)


def error(one, sample, *, samples: bool, pairs=None, process=None) -> Measured:
    pairs = pairs or partners(one.groups)
    process = process or sample.truth.process
    made = translate(
        one, process, group_truth=sample.u, instance_truth=sample.v, pairs=pairs, samples=samples
    )
    return translation_error(one, made, pairs)


def test_reconstruction_is_that_of_the_closed_form(sample) -> None:
    # E (x - a E[u|x])^2 = tau^2 - a^2 V, of which noise^2 / tau^2 is left.
    means = (NOISE**2 / TAU2) ** 2 * (TAU2 - A**2 * V)
    assert_near(reconstruction(exact(sample), samples=False), means)
    # What is drawn adds the variance of a u + b v, given the events.
    random = A**2 * V * (1 - B**2 / TAU2) ** 2 + B**2 * NOISE**2 / TAU2
    assert_near(reconstruction(exact(sample)), means + random)
    half = reconstruction(exact(sample, scale=np.array([2.0])))
    assert half.value == pytest.approx(reconstruction(exact(sample)).value / 4)


def test_translation_error_is_that_of_the_closed_form(sample) -> None:
    means = A**2 * V + B**2 * V_OF_V
    assert_near(error(exact(sample), sample, samples=False), means)
    # A draw from the exact posterior is as far from its mean as the truth is.
    assert_near(error(exact(sample), sample, samples=True), 2 * means)


def test_a_tagger_that_takes_all_for_instance_translates_nothing(sample) -> None:
    # u unused, v = x: what comes out is x itself, and the error that of x against 2 independent groups.
    blind = exact(
        sample,
        code=Normal(np.zeros((GROUPS, 1)), np.zeros((GROUPS, 1))),
        encode=lambda rows, u: Normal(sample.x[rows], np.full((len(rows), 1), -40.0)),
        decode=lambda u, v: v,
    )
    assert reconstruction(blind).value < 1e-6
    assert_near(error(blind, sample, samples=False), 2 * A**2 + NOISE**2)


def test_translation_takes_the_instance_of_the_source_and_the_group_of_the_target(sample) -> None:
    known = exact(
        sample,
        code=Normal(sample.u, np.full_like(sample.u, -40.0)),
        encode=lambda rows, u: Normal(sample.v[rows], np.full((len(rows), 1), -40.0)),
    )
    pairs = partners(GROUPS)
    assert error(known, sample, samples=False).value < 1e-12
    # Into its own group, or with other events' instances, it would be another number.
    own = pairs._replace(target=np.arange(GROUPS))
    made = translate(known, sample.truth.process, group_truth=sample.u, instance_truth=sample.v, pairs=own)
    assert np.allclose(made.made, A * sample.u[sample.group] + B * sample.v, atol=1e-6)
    crossed = translation_error(
        known,
        made._replace(true=A * sample.u[pairs.target[sample.group]] + B * sample.v),
        pairs,
    )
    assert_near(crossed, 2 * A**2)


@pytest.mark.parametrize("groups", [2, 3, 10, 11])
def test_partners_are_other_groups_and_each_group_is_in_one_unit(groups: int) -> None:
    found = partners(groups, seed=3)
    assert sorted(found.target) == list(range(groups))
    assert (found.target != np.arange(groups)).all()
    np.testing.assert_array_equal(found.unit[found.target], found.unit)
    sizes = np.bincount(found.unit)
    assert sorted(sizes) == [2] * (groups // 2 - groups % 2) + [3] * (groups % 2)
    if groups > 3:
        assert not np.array_equal(found.target, partners(groups, seed=4).target)


def test_the_importance_weighted_likelihood_of_exact_posteriors_is_exact(sample) -> None:
    few = drawn(30, seed=2)
    random = np.random.default_rng(0)
    found = code_likelihood.group_likelihoods(exact(few), np.arange(2, 30), 3, 2, random)
    np.testing.assert_allclose(found, log_likelihoods(few)[2:], atol=1e-9)
    whole = code_likelihood.likelihood(exact(few), draws_of_u=2, draws_of_v=2)
    assert whole.value == pytest.approx(log_likelihoods(few).sum() / len(few.x), abs=1e-9)
    assert_near(code_likelihood.elbo(exact(sample)), log_likelihoods(sample).sum() / len(sample.x))


def test_a_wrong_posterior_lowers_the_elbo_and_importance_weights_make_up_for_it() -> None:
    few = drawn(120, seed=3)
    right = exact(few)
    wide = Normal(right.code.mean + 0.3, right.code.log_var + 0.5)
    wrong = exact(
        few,
        code=wide,
        encode=lambda rows, u: Normal(right.encode(rows, u).mean, right.encode(rows, u).log_var + 0.8),
    )
    truth = log_likelihoods(few).sum() / len(few.x)
    bound = code_likelihood.elbo(wrong, samples=20).value
    loose, close = (code_likelihood.likelihood(wrong, draws_of_u=k, draws_of_v=k).value for k in (3, 60))
    # KL of the wrong posteriors from the right ones, an event.
    per_event = 0.5 * (np.exp(0.8) - 1 - 0.8)
    shift = 0.3**2 / np.exp(right.code.log_var)
    of_groups = 0.5 * (np.exp(0.5) - 1 - 0.5 + shift).sum() / len(few.x)
    assert bound == pytest.approx(truth - per_event - of_groups, abs=0.02)
    assert bound < loose < close < truth + 0.005
    assert close == pytest.approx(truth, abs=0.02)


def test_a_likelihood_without_a_variance_says_what_it_needs(sample) -> None:
    with pytest.raises(InputError, match="needs the variance"):
        code_likelihood.elbo(exact(sample, variance=None))
    with pytest.raises(InputError, match="one prior for all events"):
        code_likelihood.elbo(exact(sample, by_class=True))


def test_probes_find_what_the_posterior_leaves_open(sample) -> None:
    one = exact(sample)
    found = evaluate_codes(one, sample.truth)
    assert_near(found.figures["u_probe"], V)
    assert_near(found.figures["v_prediction"], V_OF_V)
    # A draw is correlated with the truth by 1 - V.
    assert_near(found.figures["u_probe_samples"], 1 - (1 - V) ** 2)
    assert_near(found.figures["v_prediction_samples"], 1 - (1 - V_OF_V) ** 2)
    for name in ("u_probe", "v_prediction"):
        assert found.figures[f"{name}_features"].value == pytest.approx(found.figures[name].value, rel=0.1)
    assert found.details["u_probe"].keys() == {"u"}
    assert found.details["u_probe_squares"].keys() == {"u^2"}


def test_a_shuffled_code_tells_nothing(sample) -> None:
    one = exact(sample)
    other = np.random.default_rng(5).permutation(GROUPS)
    shuffled = evaluate_codes(
        exact(sample, code=one.code.take(other), encode=lambda rows, u: one.encode(rows[::-1], u)),
        sample.truth,
    )
    for name in ("u_probe", "u_probe_features", "v_prediction", "v_prediction_features"):
        assert shuffled.figures[name].value == pytest.approx(1, abs=0.05)
    assert shuffled.figures["mig_group"].value < 0.05


def test_the_group_hidden_in_instance_codes_is_found(sample) -> None:
    halved = code_probes.halves(GROUPS)
    clean = np.random.default_rng(3).standard_normal(sample.v.shape)
    u = sample.u[sample.group]

    def pool(code: np.ndarray) -> np.ndarray:
        return code_probes.pooled(code, sample.group, halved)

    assert code_probes.v_probe(pool(clean), sample.u, halved).mean.value > 0.95
    # In their mean, and in their spread alone, which a linear probe does not see.
    assert code_probes.v_probe(pool(clean + u), sample.u, halved).mean.value < 0.25
    spread = clean * np.exp(u)
    assert code_probes.v_probe(pool(spread), sample.u, halved).mean.value < 0.5
    assert code_probes.v_probe(pool(spread), sample.u, halved, linear=1).mean.value > 0.9


def test_the_probe_of_a_group_does_not_depend_on_the_order_of_its_events(sample) -> None:
    halved = code_probes.halves(GROUPS)
    code = sample.v + 0.5 * sample.u[sample.group]
    order = np.random.default_rng(4).permutation(len(code))
    one, two = (
        code_probes.pooled(v, group, halved)
        for v, group in ((code, sample.group), (code[order], sample.group[order]))
    )
    np.testing.assert_allclose(one, two, atol=1e-4)


def test_a_variable_whose_sign_does_not_act_is_seen_in_its_square() -> None:
    random = np.random.default_rng(6)
    sigma = random.standard_normal((2000, 1))
    code = sigma**2 + 0.1 * random.standard_normal(sigma.shape)
    halved = code_probes.halves(2000)
    for linear in (True, False):
        assert code_probes.u_probe(code, sigma, halved, linear=linear).mean.value == pytest.approx(1, abs=0.1)
    assert code_probes.u_probe(code, sigma**2, halved, linear=False).mean.value < 0.03
    # An information needs no sign: nearly the ten bins, but for the sign, ln 10 - ln 2.
    told = code_probes.told(
        code_probes.standardised(np.log(np.maximum(code, 1e-2)), halved.fit),
        code_probes.Binned.of(sigma[:, 0], halved.fit),
        halved,
    )
    assert 0.5 < told.mean() < np.log(5)


def test_the_group_gap_is_that_of_informations(sample) -> None:
    halved = code_probes.halves(GROUPS)
    noise = np.random.default_rng(7).standard_normal(sample.v.shape)
    pool = code_probes.pooled(noise, sample.group, halved)
    told = code_probes.pooled(noise + 3 * sample.u[sample.group], sample.group, halved)
    right = code_probes.group_gap(sample.u, pool, sample.u, halved)
    turned = code_probes.group_gap(noise[:GROUPS], told, sample.u, halved)
    assert right.gap.value > 0.6
    assert turned.gap.value < -0.3
    for found in (right, turned):
        by_hand = (found.group[0].value - found.instance[0].value) / np.log(10)
        assert found.gap.value == pytest.approx(by_hand)
    # Of a Gaussian of correlation r with the truth there are -ln(1 - r^2) / 2 nats, and the bound is below.
    noisy = sample.u + 0.5 * noise[:GROUPS]
    found = code_probes.group_gap(noisy, pool, sample.u, halved).group[0]
    assert 0.6 * 0.5 * np.log(5) < found.value < 0.5 * np.log(5) + 0.05


def test_of_a_variable_of_few_values_no_code_tells_more_than_its_entropy() -> None:
    random, groups = np.random.default_rng(9), 400
    era = random.integers(0, 3, groups).astype(np.float64)
    halved = code_probes.halves(groups)
    code = era[:, None] + 0.01 * random.standard_normal((groups, 1))
    found = code_probes.group_gap(code, random.standard_normal((groups, 4)), era[:, None], halved)
    assert found.entropy[0] == pytest.approx(np.log(3), abs=0.02)
    assert 0.9 < found.group[0].value / np.log(3) < 1.01
    assert found.instance[0].value < 0.05
    assert 0.9 < found.gap.value < 1.1
    # A value that only groups of the test have, and a variable that has one value.
    era[np.flatnonzero(halved.test)[0]] = -1.0
    assert np.isfinite(code_probes.group_gap(code, code, era[:, None], halved).gap.value)
    with pytest.raises(InputError, match="the same in all groups"):
        code_probes.group_gap(code, code, np.ones((groups, 1)), halved)


def test_a_variable_that_never_changes_is_left_out(sample) -> None:
    one = exact(sample)
    found = evaluate_codes(one, replace(sample.truth, group=np.ones((one.groups, 1))))
    for name in ("u_probe", "v_probe", "mig_group"):
        assert "the same in all groups" in found.left_out[name]
    assert "reconstruction" in found.figures
    # One whose sign alone differs has squares that do not.
    signs = np.sign(sample.u)
    found = evaluate_codes(one, replace(sample.truth, group=signs))
    assert {"u_probe", "v_probe"} <= set(found.figures)
    assert {"u_probe_squares", "v_probe_squares"} <= set(found.left_out)


def test_with_a_prior_for_each_class_no_divergence_from_one_is_given() -> None:
    one = replace(exact(drawn(30, seed=3, size=4)), by_class=True)
    found = evaluate_codes(one)
    assert {"elbo", "likelihood", "kl_instance"} <= set(found.left_out)
    assert "kl_group" in found.figures


def test_no_probe_is_judged_on_what_it_was_fitted_on() -> None:
    """Codes of many dimensions that tell nothing: a fit explains its own half, and not the other."""
    random, groups = np.random.default_rng(10), 60
    halved, truth = code_probes.halves(groups), random.standard_normal((groups, 1))
    code = random.standard_normal((groups, 20))
    assert code_probes.u_probe(code, truth, halved).mean.value > 1.3
    assert code_probes.v_prediction(code, truth, np.arange(groups), halved).mean.value > 1.3
    assert code_probes.told(code, code_probes.Binned.of(truth[:, 0], halved.fit), halved).mean() < -0.3


def test_errors_are_those_of_groups() -> None:
    random = np.random.default_rng(8)
    common = np.repeat(random.standard_normal(400), 25)  # events of a group are alike
    values = common.reshape(400, 25).sum(axis=1)
    found = of_units(values, np.full(400, 25.0), replicas=1000)
    assert found.std == pytest.approx(np.std(values / 25) / 20, rel=0.1)
    assert of_units(values, np.full(400, 25.0)) == of_units(values, np.full(400, 25.0))


def test_what_cannot_be_measured_is_said(sample) -> None:
    real = evaluate_codes(exact(sample))
    assert {"reconstruction", "elbo", "likelihood", "kl_group", "kl_instance"} <= set(real.figures)
    assert "groups.truth.group" in real.left_out["u_probe"]
    assert "groups.truth.instance" in real.left_out["v_prediction"]
    # One latent has no gap; every figure is there or its absence explained.
    assert "at least two" in evaluate_codes(exact(sample), sample.truth).left_out["mig"]
    assert set(real.figures) | set(real.left_out) == set(FIGURES)
    assert CodeMeasures.from_json(real.to_json()) == real


def test_a_tagger_that_gives_less_is_measured_in_what_it_gives() -> None:
    few = drawn(60, seed=9)
    silent = evaluate_codes(exact(few, encode=None), few.truth)
    assert {"u_probe", "kl_group"} <= set(silent.figures)
    assert "no instance codes" in silent.left_out["v_probe"]
    undecoded = evaluate_codes(exact(few, decode=None), few.truth)
    assert {"u_probe", "v_prediction", "v_probe", "mig_group"} <= set(undecoded.figures)
    for name in ("reconstruction", "translation", "elbo", "likelihood"):
        assert "no decoder" in undecoded.left_out[name]
    unknown = Truth(few.u, few.v, ("u",), ("v",))
    assert "groups.truth.process" in evaluate_codes(exact(few), unknown).left_out["translation"]
    alone = evaluate_codes(exact(drawn(10)))
    assert "reconstruction" in alone.figures
    assert "at least 20" in evaluate_codes(exact(drawn(10)), drawn(10).truth).left_out["u_probe"]


def test_input_that_does_not_fit_is_refused(sample) -> None:
    one = exact(sample)
    with pytest.raises(InputError, match="group numbers must be 0 to"):
        Inferred(one.x, one.group + 1, one.code)
    with pytest.raises(InputError, match="give both"):
        Inferred(one.x[1:], one.group, one.code)
    with pytest.raises(InputError, match="not finite"):
        Inferred(np.full_like(one.x, np.nan), one.group, one.code)
    with pytest.raises(InputError, match="give at least two"):
        partners(1)
    with pytest.raises(InputError, match="at least 20"):
        code_probes.halves(19)
    with pytest.raises(InputError, match="same in all groups"):
        code_probes.u_probe(sample.u, np.ones_like(sample.u), code_probes.halves(GROUPS))
