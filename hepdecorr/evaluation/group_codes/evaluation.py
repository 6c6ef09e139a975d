"""All measures of a tagger's group and instance codes on held-out groups; what cannot be measured is said."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from hepdecorr.errors import InputError
from hepdecorr.evaluation.group_codes import likelihood, probes
from hepdecorr.evaluation.group_codes.inference import (
    CodeInference,
    ForwardModel,
    bootstrap_ratio,
    reconstruction_error,
    sum_by_group,
    translate_events,
    translation_error,
    translation_pairs,
)
from hepdecorr.evaluation.group_codes.probes import GroupHalves
from hepdecorr.stats.mutual_information import mig
from hepdecorr.stats.results import Array, Estimate, ResultRecord


class MetricInfo(NamedTuple):
    """What a measure is called, and which way is better: -1 lower, 1 higher, 0 neither."""

    title: str
    direction: int


CODE_METRICS: Mapping[str, MetricInfo] = {
    "reconstruction": MetricInfo("reconstruction error", -1),
    "translation": MetricInfo("translation error", -1),
    "u_probe": MetricInfo("U-probe, linear", -1),
    "v_prediction": MetricInfo("V-probe: v from its code", -1),
    "v_probe": MetricInfo("V-probe: group from instance codes", 1),
    "elbo": MetricInfo("ELBO [nats an event]", 1),
    "likelihood": MetricInfo("importance-weighted likelihood [nats an event]", 1),
    "mig_group": MetricInfo("MIG of the group code", 1),
    "mig": MetricInfo("MIG of its latents", 1),
    "reconstruction_means": MetricInfo("reconstruction error, means", -1),
    "translation_means": MetricInfo("translation error, means", -1),
    "u_probe_samples": MetricInfo("U-probe, linear, of draws", -1),
    "u_probe_features": MetricInfo("U-probe, random features", -1),
    "u_probe_squares": MetricInfo("U-probe of the squares", -1),
    "v_prediction_samples": MetricInfo("V-probe: v from a draw of its code", -1),
    "v_prediction_features": MetricInfo("V-probe: v from its code, random features", -1),
    "v_probe_squares": MetricInfo("V-probe: squares of the group's variables from instance codes", 1),
    "kl_group": MetricInfo("KL of the group code [nats a group]", 0),
    "kl_instance": MetricInfo("KL of the instance code [nats an event]", 0),
}
PUBLISHED_METRICS = (
    "reconstruction",
    "translation",
    "u_probe",
    "v_prediction",
)  # of the authors' table, in its order
PANEL_METRICS = (
    "reconstruction",
    "translation",
    "u_probe",
    "v_prediction",
    "v_probe",
)  # of figures 4 to 6, and both V


@dataclass(frozen=True)
class TrueVariables:
    """True variables of groups (groups, t) and of instances (n, s), and the process of both, where known."""

    group: Array | None = None
    instance: Array | None = None
    group_names: tuple[str, ...] = ()
    instance_names: tuple[str, ...] = ()
    forward_model: ForwardModel | None = None


@dataclass(frozen=True)
class CodeEvaluation(ResultRecord):
    """Figures of one tagger by the names of FIGURES, those left out with the reason, and details.

    details: measure -> variable -> figure, such as the U-probe of sigma, or what the code tells of mu.
    """

    metrics: dict[str, Estimate]
    skipped: dict[str, str]
    details: dict[str, dict[str, Estimate]]
    groups: int
    events: int
    seed: int


@dataclass
class _EvaluationState:
    """The figures found so far; a fault of the input leaves those out that it concerns."""

    inference: CodeInference
    truth: TrueVariables
    seed: int
    metrics: dict[str, Estimate] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    details: dict[str, dict[str, Estimate]] = field(default_factory=dict)
    pooled_codes: Array | None = None

    def run_step(self, names: tuple[str, ...], step: Callable[[], Mapping[str, Estimate]]) -> None:
        try:
            self.metrics |= step()
        except InputError as reason:
            self.skipped |= dict.fromkeys(names, str(reason))


def evaluate_codes(
    inference: CodeInference, truth: TrueVariables | None = None, *, seed: int = 0
) -> CodeEvaluation:
    """Every figure of FIGURES that the tagger and the known truth allow; the others are in `left_out`.

    Drawing, halving of the groups and bootstrap follow from `seed`: every tagger is to be measured with the
    same, so that what the groups bring to their differences drops out.
    """
    work = _EvaluationState(inference, truth or TrueVariables(), seed)
    work.run_step(("reconstruction", "reconstruction_means"), lambda: _reconstruction_errors(work))
    work.run_step(("translation", "translation_means"), lambda: _translation_errors(work))
    work.run_step(("elbo", "likelihood"), lambda: _likelihood_bounds(work))
    work.run_step(("u_probe", "u_probe_samples", "u_probe_features"), lambda: _u_probes(work))
    work.run_step(("u_probe_squares",), lambda: _u_probe_squares(work))
    work.run_step(
        ("v_prediction", "v_prediction_samples", "v_prediction_features"), lambda: _v_predictions(work)
    )
    work.run_step(("v_probe",), lambda: _v_probe(work, "v_probe"))
    work.run_step(("v_probe_squares",), lambda: _v_probe(work, "v_probe_squares", squares=True))
    work.run_step(("mig_group",), lambda: _group_code_mig(work))
    work.run_step(("mig",), lambda: _latent_mig(work))
    work.run_step(("kl_group", "kl_instance"), lambda: _kl_divergences(work))
    ordered = {name: work.metrics[name] for name in CODE_METRICS if name in work.metrics}
    return CodeEvaluation(ordered, work.skipped, work.details, inference.num_groups, len(inference.x), seed)


def _reconstruction_errors(state: _EvaluationState) -> dict[str, Estimate]:
    return {
        "reconstruction": reconstruction_error(state.inference, seed=state.seed),
        "reconstruction_means": reconstruction_error(state.inference, sample=False, seed=state.seed),
    }


def _translation_errors(state: _EvaluationState) -> dict[str, Estimate]:
    group, instance = _group_truth(state), _instance_truth(state)
    if state.truth.forward_model is None:
        raise InputError("the true process is not known; name it as groups.truth.forward_model")
    pairs = translation_pairs(state.inference.num_groups, seed=state.seed)
    found = {}
    for name, samples in (("translation", True), ("translation_means", False)):
        translated = translate_events(
            state.inference,
            state.truth.forward_model,
            group_truth=group,
            instance_truth=instance,
            pairs=pairs,
            sample=samples,
            seed=state.seed,
        )
        found[name] = translation_error(state.inference, translated, pairs, seed=state.seed)
    return found


def _likelihood_bounds(state: _EvaluationState) -> dict[str, Estimate]:
    return {
        "elbo": likelihood.elbo(state.inference, seed=state.seed),
        "likelihood": likelihood.importance_weighted_likelihood(state.inference, seed=state.seed),
    }


def _u_probes(state: _EvaluationState) -> dict[str, Estimate]:
    group, halved = _group_truth(state), _group_halves(state)
    code, names = state.inference.group_posterior.mean, state.truth.group_names
    linear = probes.probe_group_code(code, group, halved)
    drawn = probes.probe_group_code(
        state.inference.group_posterior.sample(np.random.default_rng(state.seed)), group, halved
    )
    features = probes.probe_group_code(code, group, halved, linear=False)
    state.details["u_probe"] = dict(zip(names, linear.per_variable, strict=True))
    state.details["u_probe_features"] = dict(zip(names, features.per_variable, strict=True))
    return {"u_probe": linear.mean, "u_probe_samples": drawn.mean, "u_probe_features": features.mean}


def _u_probe_squares(state: _EvaluationState) -> dict[str, Estimate]:
    group, halved = _group_truth(state), _group_halves(state)
    squares = probes.probe_group_code(state.inference.group_posterior.mean, group**2, halved, linear=False)
    state.details["u_probe_squares"] = dict(
        zip(_squared_names(state.truth.group_names), squares.per_variable, strict=True)
    )
    return {"u_probe_squares": squares.mean}


def _v_predictions(state: _EvaluationState) -> dict[str, Estimate]:
    instance, halved = _instance_truth(state), _group_halves(state)
    (_, means), (_, draws) = (
        state.inference.draw_codes(sample=samples, seed=state.seed) for samples in (False, True)
    )
    found = {}
    for name, code, linear in (
        ("v_prediction", means, True),
        ("v_prediction_samples", draws, True),
        ("v_prediction_features", means, False),
    ):
        probed = probes.probe_instance_codes(
            code, instance, state.inference.group_index, halved, linear=linear
        )
        state.details[name] = dict(zip(state.truth.instance_names, probed.per_variable, strict=True))
        found[name] = probed.mean
    return found


def _v_probe(state: _EvaluationState, name: str, *, squares: bool = False) -> dict[str, Estimate]:
    group, names = _group_truth(state), state.truth.group_names
    wanted, titles = (group**2, _squared_names(names)) if squares else (group, names)
    probed = probes.probe_pooled_codes(_pool_codes(state), wanted, _group_halves(state))
    state.details[name] = dict(zip(titles, probed.per_variable, strict=True))
    return {name: probed.mean}


def _group_code_mig(state: _EvaluationState) -> dict[str, Estimate]:
    group, halved = _group_truth(state), _group_halves(state)
    found = probes.group_code_gap(state.inference.group_posterior.mean, _pool_codes(state), group, halved)
    names = state.truth.group_names
    state.details["information_group"] = dict(zip(names, found.group_information, strict=True))
    state.details["information_instance"] = dict(zip(names, found.instance_information, strict=True))
    return {"mig_group": found.mig}


def _latent_mig(state: _EvaluationState) -> dict[str, Estimate]:
    return {"mig": mig(state.inference.group_posterior.mean, _group_truth(state), seed=state.seed).mig}


def _kl_divergences(state: _EvaluationState) -> dict[str, Estimate]:
    one = state.inference
    found = {
        "kl_group": bootstrap_ratio(
            one.group_posterior.kl_to_standard_normal(), np.ones(one.num_groups), seed=state.seed
        )
    }
    if one.has_class_priors:
        state.skipped["kl_instance"] = "p(v) of this tagger is one for each class, and no unit Gaussian"
    elif one.encode is not None:
        inner = one.infer_instances(one.group_posterior.mean).kl_to_standard_normal()
        found["kl_instance"] = bootstrap_ratio(
            sum_by_group(inner, one.group_index, one.num_groups), one.group_sizes, seed=state.seed
        )
    return found


def _pool_codes(state: _EvaluationState) -> Array:
    """Instance codes of each group as the model draws them, to ask what they know of it.

    Means would not do: those of an exact posterior are shrunk, by an amount that tells of the group however
    little it is, and a probe that sees no noise reads it.
    """
    if state.pooled_codes is None:
        _, drawn = state.inference.draw_codes(sample=True, seed=state.seed)
        state.pooled_codes = probes.pool_instance_codes(
            drawn, state.inference.group_index, _group_halves(state)
        )
    return state.pooled_codes


def _group_halves(state: _EvaluationState) -> GroupHalves:
    return probes.split_groups(state.inference.num_groups, seed=state.seed)


def _group_truth(state: _EvaluationState) -> Array:
    if state.truth.group is None:
        raise InputError("the true variables of the groups are not known; name them in groups.truth.group")
    return state.truth.group


def _instance_truth(state: _EvaluationState) -> Array:
    if state.truth.instance is None:
        raise InputError("the true variables of instances are not known; name them in groups.truth.instance")
    return state.truth.instance


def _squared_names(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"{name}^2" for name in names)
