"""All measures of a tagger's group and instance codes on held-out groups; what cannot be measured is said."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from hepdecorr.errors import InputError
from hepdecorr.validation.measures import code_likelihood, code_probes
from hepdecorr.validation.measures.code_probes import Halves
from hepdecorr.validation.measures.codes import (
    Inferred,
    Process,
    in_groups,
    of_units,
    partners,
    reconstruction,
    translate,
    translation_error,
)
from hepdecorr.validation.measures.information import mig
from hepdecorr.validation.measures.numbers import Array, Measured, Record


class Figure(NamedTuple):
    """What a measure is called, and which way is better: -1 lower, 1 higher, 0 neither."""

    title: str
    better: int


FIGURES: Mapping[str, Figure] = {
    "reconstruction": Figure("reconstruction error", -1),
    "translation": Figure("translation error", -1),
    "u_probe": Figure("U-probe, linear", -1),
    "v_prediction": Figure("V-probe: v from its code", -1),
    "v_probe": Figure("V-probe: group from instance codes", 1),
    "elbo": Figure("ELBO [nats an event]", 1),
    "likelihood": Figure("importance-weighted likelihood [nats an event]", 1),
    "mig_group": Figure("MIG of the group code", 1),
    "mig": Figure("MIG of its latents", 1),
    "reconstruction_means": Figure("reconstruction error, means", -1),
    "translation_means": Figure("translation error, means", -1),
    "u_probe_samples": Figure("U-probe, linear, of draws", -1),
    "u_probe_features": Figure("U-probe, random features", -1),
    "u_probe_squares": Figure("U-probe of the squares", -1),
    "v_prediction_samples": Figure("V-probe: v from a draw of its code", -1),
    "v_prediction_features": Figure("V-probe: v from its code, random features", -1),
    "v_probe_squares": Figure("V-probe: squares of the group's variables from instance codes", 1),
    "kl_group": Figure("KL of the group code [nats a group]", 0),
    "kl_instance": Figure("KL of the instance code [nats an event]", 0),
}
PUBLISHED = (
    "reconstruction",
    "translation",
    "u_probe",
    "v_prediction",
)  # of the authors' table, in its order
PANELS = (
    "reconstruction",
    "translation",
    "u_probe",
    "v_prediction",
    "v_probe",
)  # of figures 4 to 6, and both V


@dataclass(frozen=True)
class Truth:
    """True variables of groups (groups, t) and of instances (n, s), and the process of both, where known."""

    group: Array | None = None
    instance: Array | None = None
    group_names: tuple[str, ...] = ()
    instance_names: tuple[str, ...] = ()
    process: Process | None = None


@dataclass(frozen=True)
class CodeMeasures(Record):
    """Figures of one tagger by the names of FIGURES, those left out with the reason, and details.

    details: measure -> variable -> figure, such as the U-probe of sigma, or what the code tells of mu.
    """

    figures: dict[str, Measured]
    left_out: dict[str, str]
    details: dict[str, dict[str, Measured]]
    groups: int
    events: int
    seed: int


@dataclass
class _Work:
    """The figures found so far; a fault of the input leaves those out that it concerns."""

    one: Inferred
    truth: Truth
    seed: int
    figures: dict[str, Measured] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    details: dict[str, dict[str, Measured]] = field(default_factory=dict)
    pool: Array | None = None

    def attempt(self, names: tuple[str, ...], step: Callable[[], Mapping[str, Measured]]) -> None:
        try:
            self.figures |= step()
        except InputError as reason:
            self.left_out |= dict.fromkeys(names, str(reason))


def evaluate_codes(one: Inferred, truth: Truth | None = None, *, seed: int = 0) -> CodeMeasures:
    """Every figure of FIGURES that the tagger and the known truth allow; the others are in `left_out`.

    Drawing, halving of the groups and bootstrap follow from `seed`: every tagger is to be measured with the
    same, so that what the groups bring to their differences drops out.
    """
    work = _Work(one, truth or Truth(), seed)
    work.attempt(("reconstruction", "reconstruction_means"), lambda: _reconstructions(work))
    work.attempt(("translation", "translation_means"), lambda: _translations(work))
    work.attempt(("elbo", "likelihood"), lambda: _likelihoods(work))
    work.attempt(("u_probe", "u_probe_samples", "u_probe_features"), lambda: _u_probes(work))
    work.attempt(("u_probe_squares",), lambda: _u_squares(work))
    work.attempt(
        ("v_prediction", "v_prediction_samples", "v_prediction_features"), lambda: _v_predictions(work)
    )
    work.attempt(("v_probe",), lambda: _v_probe(work, "v_probe"))
    work.attempt(("v_probe_squares",), lambda: _v_probe(work, "v_probe_squares", squares=True))
    work.attempt(("mig_group",), lambda: _group_gap(work))
    work.attempt(("mig",), lambda: _gap(work))
    work.attempt(("kl_group", "kl_instance"), lambda: _divergences(work))
    ordered = {name: work.figures[name] for name in FIGURES if name in work.figures}
    return CodeMeasures(ordered, work.left_out, work.details, one.groups, len(one.x), seed)


def _reconstructions(work: _Work) -> dict[str, Measured]:
    return {
        "reconstruction": reconstruction(work.one, seed=work.seed),
        "reconstruction_means": reconstruction(work.one, samples=False, seed=work.seed),
    }


def _translations(work: _Work) -> dict[str, Measured]:
    group, instance = _group_truth(work), _instance_truth(work)
    if work.truth.process is None:
        raise InputError("the true process is not known; name it as groups.truth.process")
    pairs = partners(work.one.groups, seed=work.seed)
    found = {}
    for name, samples in (("translation", True), ("translation_means", False)):
        translated = translate(
            work.one,
            work.truth.process,
            group_truth=group,
            instance_truth=instance,
            pairs=pairs,
            samples=samples,
            seed=work.seed,
        )
        found[name] = translation_error(work.one, translated, pairs, seed=work.seed)
    return found


def _likelihoods(work: _Work) -> dict[str, Measured]:
    return {
        "elbo": code_likelihood.elbo(work.one, seed=work.seed),
        "likelihood": code_likelihood.likelihood(work.one, seed=work.seed),
    }


def _u_probes(work: _Work) -> dict[str, Measured]:
    group, halved = _group_truth(work), _halves(work)
    code, names = work.one.code.mean, work.truth.group_names
    linear = code_probes.u_probe(code, group, halved)
    drawn = code_probes.u_probe(work.one.code.draw(np.random.default_rng(work.seed)), group, halved)
    features = code_probes.u_probe(code, group, halved, linear=False)
    work.details["u_probe"] = dict(zip(names, linear.each, strict=True))
    work.details["u_probe_features"] = dict(zip(names, features.each, strict=True))
    return {"u_probe": linear.mean, "u_probe_samples": drawn.mean, "u_probe_features": features.mean}


def _u_squares(work: _Work) -> dict[str, Measured]:
    group, halved = _group_truth(work), _halves(work)
    squares = code_probes.u_probe(work.one.code.mean, group**2, halved, linear=False)
    work.details["u_probe_squares"] = dict(zip(_squared(work.truth.group_names), squares.each, strict=True))
    return {"u_probe_squares": squares.mean}


def _v_predictions(work: _Work) -> dict[str, Measured]:
    instance, halved = _instance_truth(work), _halves(work)
    (_, means), (_, draws) = (work.one.drawn(samples=samples, seed=work.seed) for samples in (False, True))
    found = {}
    for name, code, linear in (
        ("v_prediction", means, True),
        ("v_prediction_samples", draws, True),
        ("v_prediction_features", means, False),
    ):
        probed = code_probes.v_prediction(code, instance, work.one.group, halved, linear=linear)
        work.details[name] = dict(zip(work.truth.instance_names, probed.each, strict=True))
        found[name] = probed.mean
    return found


def _v_probe(work: _Work, name: str, *, squares: bool = False) -> dict[str, Measured]:
    group, names = _group_truth(work), work.truth.group_names
    wanted, titles = (group**2, _squared(names)) if squares else (group, names)
    probed = code_probes.v_probe(_pooled(work), wanted, _halves(work))
    work.details[name] = dict(zip(titles, probed.each, strict=True))
    return {name: probed.mean}


def _group_gap(work: _Work) -> dict[str, Measured]:
    group, halved = _group_truth(work), _halves(work)
    found = code_probes.group_gap(work.one.code.mean, _pooled(work), group, halved)
    names = work.truth.group_names
    work.details["information_group"] = dict(zip(names, found.group, strict=True))
    work.details["information_instance"] = dict(zip(names, found.instance, strict=True))
    return {"mig_group": found.gap}


def _gap(work: _Work) -> dict[str, Measured]:
    return {"mig": mig(work.one.code.mean, _group_truth(work), seed=work.seed).mig}


def _divergences(work: _Work) -> dict[str, Measured]:
    one = work.one
    found = {"kl_group": of_units(one.code.divergence(), np.ones(one.groups), seed=work.seed)}
    if one.by_class:
        work.left_out["kl_instance"] = "p(v) of this tagger is one for each class, and no unit Gaussian"
    elif one.encode is not None:
        inner = one.instances(one.code.mean).divergence()
        found["kl_instance"] = of_units(in_groups(inner, one.group, one.groups), one.counts, seed=work.seed)
    return found


def _pooled(work: _Work) -> Array:
    """Instance codes of each group as the model draws them, to ask what they know of it.

    Means would not do: those of an exact posterior are shrunk, by an amount that tells of the group however
    little it is, and a probe that sees no noise reads it.
    """
    if work.pool is None:
        _, drawn = work.one.drawn(samples=True, seed=work.seed)
        work.pool = code_probes.pooled(drawn, work.one.group, _halves(work))
    return work.pool


def _halves(work: _Work) -> Halves:
    return code_probes.halves(work.one.groups, seed=work.seed)


def _group_truth(work: _Work) -> Array:
    if work.truth.group is None:
        raise InputError("the true variables of the groups are not known; name them in groups.truth.group")
    return work.truth.group


def _instance_truth(work: _Work) -> Array:
    if work.truth.instance is None:
        raise InputError("the true variables of instances are not known; name them in groups.truth.instance")
    return work.truth.instance


def _squared(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"{name}^2" for name in names)
