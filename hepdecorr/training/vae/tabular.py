"""A variational autoencoder whose first latents are meant to carry the nuisances."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hepdecorr import registry
from hepdecorr.errors import InputError, located, suggest
from hepdecorr.training.data.batches import Batch
from hepdecorr.training.data.splits import DataSplits
from hepdecorr.training.losses.base import weighted_mean
from hepdecorr.training.methods.base import training_from_config
from hepdecorr.training.networks.mlp import mlp_layers
from hepdecorr.training.networks.preprocessing import build_preprocessor, scaling_sample
from hepdecorr.training.objective import Objective, ValidationResult
from hepdecorr.training.trainer import Trainer
from hepdecorr.training.vae import presets
from hepdecorr.training.vae.base import CategoricalPosterior, LatentPosterior, LatentTerm
from hepdecorr.training.vae.discrete_latents import RelaxedCategorical
from hepdecorr.training.vae.tc_decomposition import stratified_total_correlation

DEFAULT_TRAINING = {
    "epochs": 12,
    "batch_size": 2048,
    "ema_decay": 0.998,
    "grad_clip": 5.0,
    "weight_decay": 1e-4,
    "select": "last",
}
DEFAULT_TERMS: tuple[Mapping[str, Any], ...] = (
    {"type": "KL"},
    {"type": "SupervisedAlignment"},
    {"type": "TotalCorrelation"},
)
LOG_VAR_RANGE = (-8.0, 2.0)
CONTEXT_ARGUMENTS = (
    "features",
    "nuisances",
    "terms",
    "base",
)  # arguments that do not stand beside a published type
CRITIC_TOLERANCE = 0.05  # nats by which a critic may miss before the game is called unstable


class TabularVAE(nn.Module):
    """Encoder and decoder of widths `hidden`, `sensitive` + `latents` latent dimensions.

    variance: of the Gaussian p(x|z) on standardised features; it sets what reconstruction weighs
    against the terms.  terms: the latent terms, default KL, alignment and conditional critic.
    discrete: {nuisance: number of its values}, or {nuisance: {count: ..., temperature: ..., prior: ...}}, for
    nuisances that get a relaxed discrete latent in place of a dimension (see Relaxed).  given: learn from
    'all' events or from 'background' only.
    """

    def __init__(
        self,
        *,
        features: Sequence[str],
        nuisances: Sequence[str],
        latents: int = 16,
        sensitive: int = 0,
        discrete: Mapping[str, Any] | None = None,
        hidden: Sequence[int] = (128, 128),
        activation: str = "silu",
        variance: float = 0.1,
        inputs: Mapping[str, Any] | None = None,
        terms: Sequence[Mapping[str, Any]] = DEFAULT_TERMS,
        classes: str = "all",
        training: Mapping[str, Any] | None = None,
        base: Path | None = None,
    ) -> None:
        super().__init__()
        if latents < 1 or variance <= 0 or classes not in ("all", "background"):
            raise InputError(
                "representation: latents must be at least 1, variance positive and classes all or background"
            )
        self.categorical_latents, values = _build_categorical_latents(discrete or {}, nuisances)
        self.discrete_columns = [k for k, count in enumerate(values) if count]  # of the discrete nuisances
        self.sensitive = sensitive or values.count(0)
        self.latent_dim, self.variance, self.classes = self.sensitive + latents, variance, classes
        self.inputs = build_preprocessor(features, inputs)
        count, num_classes = len(features), sum(values)
        leaving, entering = 2 * self.latent_dim + num_classes, self.latent_dim + num_classes
        self.net = nn.ModuleDict(
            {
                "encoder": mlp_layers(count, leaving, hidden=hidden, activation=activation),
                "decoder": mlp_layers(entering, count, hidden=tuple(hidden)[::-1], activation=activation),
            }
        )
        self.terms = nn.ModuleDict()
        for k, spec in enumerate(terms):
            with located("terms", k):
                term = registry.build(
                    spec, namespace="hepdecorr.training.vae", base=base,
                    latent_dim=self.latent_dim, sensitive=self.sensitive, nuisances=list(nuisances),
                    num_values=values,
                )  # fmt: skip
            name = type(term).__name__.lower()
            self.terms[f"{name}_{k}" if name in self.terms else name] = term
        self.training_config, self.optimizer_config = training_from_config(
            training, where="method: representation: training", defaults=DEFAULT_TRAINING
        )

    def fit(self, data: DataSplits, trainer: Trainer) -> None:
        """One stage, 'representation'."""
        sample = data.train.sample(generator=trainer.generator)
        self.inputs.fit(scaling_sample(self.inputs, sample).x)
        for k, one in zip(self.discrete_columns, self.categorical_latents, strict=True):
            one.fit(sample.z[:, k], sample.w)  # type: ignore[operator]
        players: dict[str, Objective] = {}
        for name, term in self._latent_terms():
            term.fit(sample, num_events=len(data.train))
            if term.critic_update is not None:
                players[name] = term.critic_update.build_objective(term, self._critic_loss(term))
        players["vae"] = Objective(
            self.net, lambda b: self._loss(b, trainer.progress), optimizer=self.optimizer_config
        )
        trainer.fit_stage(
            players,
            data,
            self.training_config,
            name="representation",
            validate=lambda latest: self._validate(data.validation.all, latest, num_events=len(data.train)),
            select_after=max((t.warmup_end for _, t in self._latent_terms()), default=0.0),
        )

    def encode(self, x: Tensor) -> LatentPosterior:
        """Posterior of raw features (n, f), with a draw from it."""
        return self._sample_posterior(self.inputs(x))

    def posterior_mean(self, x: Tensor) -> Tensor:
        """Posterior means, shape (n, dims)."""
        return self.net["encoder"](self.inputs(x))[:, : self.latent_dim]  # type: ignore[no-any-return]

    def posterior_at_mean(self, scaled: Tensor) -> LatentPosterior:
        """Posterior of preprocessed features, with its mean in place of a draw."""
        mean, log_var, logits = self._encode_parameters(scaled)
        classes = tuple(
            CategoricalPosterior(t, t.softmax(1), one.log_prior)
            for one, t in self._split_categorical_logits(logits)
        )
        return LatentPosterior(mean, log_var, mean, classes)

    def decode(self, latent: LatentPosterior) -> Tensor:
        """Mean of p(x|z) on standardised features, (n, f), of the draws in `latent`."""
        parts = [latent.sample, *(c.sample for c in latent.categorical)]
        return self.net["decoder"](torch.cat(parts, 1)).float()  # type: ignore[no-any-return]

    def _encode_parameters(self, scaled: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Means and logarithms of variances (n, dims), and the logits of all discrete latents."""
        answer = self.net["encoder"](scaled).float()
        mean, log_var, logits = answer.split(
            [self.latent_dim, self.latent_dim, answer.shape[1] - 2 * self.latent_dim], 1
        )
        # A soft clamp that gives 0 for 0: a hard one has no gradient to come back with.
        low, high = LOG_VAR_RANGE
        return mean, low + (high - low) * torch.sigmoid(log_var + math.log(-low / high)), logits

    def _sample_posterior(self, scaled: Tensor) -> LatentPosterior:
        mean, log_var, logits = self._encode_parameters(scaled)
        sample = mean + (0.5 * log_var).exp() * torch.randn_like(mean)
        return LatentPosterior(
            mean, log_var, sample, tuple(one(part) for one, part in self._split_categorical_logits(logits))
        )

    def _split_categorical_logits(self, logits: Tensor) -> Iterator[tuple[RelaxedCategorical, Tensor]]:
        """Each discrete latent with its own logits."""
        start = 0
        for one in self.categorical_latents:
            if isinstance(one, RelaxedCategorical):
                stop = start + len(one.log_prior)
                yield one, logits[:, start:stop]
                start = stop

    def _latent_terms(self) -> list[tuple[str, LatentTerm]]:
        return [(name, term) for name, term in self.terms.items() if isinstance(term, LatentTerm)]

    def reconstruction_loss(self, latent: LatentPosterior, scaled: Tensor) -> Tensor:
        """-log p(x|z) of standardised features but for a constant, (n,), in nats."""
        return ((self.decode(latent) - scaled) ** 2).sum(1) / (2 * self.variance)

    def _loss(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        if self.classes == "background":
            batch = batch.take(batch.y == 0)
        scaled = self.inputs(batch.x)
        latent = self._sample_posterior(scaled)
        bill = {"reconstruction": weighted_mean(self.reconstruction_loss(latent, scaled), batch.w)}
        for name, term in self._latent_terms():
            bill[name] = term.weighted_penalty(latent, batch, progress=progress)
        return bill

    def _critic_loss(self, term: LatentTerm) -> Any:
        given = "background" in (term.classes, self.classes)

        def chase(b: Batch) -> dict[str, Tensor]:
            own = b.take(b.y == 0) if given else b
            with torch.no_grad():
                latent = self.encode(own.x)
            return {"loss": term.critic_loss(latent, own)}

        return chase

    def _validate(
        self, validation: Batch, last_metrics: Mapping[str, float], *, num_events: int
    ) -> ValidationResult:
        """The whole bill at full strength, with every estimate of the dependence beside it."""
        if self.classes == "background":
            validation = validation.take(validation.y == 0)
        step = -(-len(validation.y) // 4096)
        bills, complaints = [], []
        for k in range(min(step, 4)):
            b = validation.take(slice(k, None, step))
            bill = {name: float(value) for name, value in self._loss(b, 1.0).items()}
            latent = self.encode(b.x)
            bill["tc_stratified"] = float(
                stratified_total_correlation(latent, sensitive=self.sensitive, num_events=num_events)
            )
            for name, term in self._latent_terms():
                floor = term.baseline_loss(latent, b)
                if floor is not None:
                    bill[f"{name}/baseline_loss"] = floor
            bills.append(bill)
        figures = {name: sum(b[name] for b in bills) / len(bills) for name in bills[0]}
        for name, _ in self._latent_terms():
            chase = last_metrics.get(f"{name}/loss", 0.0)
            floor = figures.get(f"{name}/baseline_loss", chase)
            if chase > floor + CRITIC_TOLERANCE:
                complaints.append(
                    f"{name}: the critic is behind a blind guess ({chase:.3f} against {floor:.3f})"
                )
        criterion = figures["reconstruction"] + sum(figures[name] for name, _ in self._latent_terms())
        return ValidationResult(criterion, figures, "; ".join(complaints))


def build_vae(
    spec: Mapping[str, Any] | str | None,
    *,
    features: Sequence[str],
    nuisances: Sequence[str],
    base: Path | None = None,
    **fixed_arguments: Any,
) -> TabularVAE:
    """The representation of a block of YAML: `{type: BetaTCVAE, beta: 6, latents: 10}` or `{terms: [...]}`.

    type: a published one, whose arguments stand beside those of Representation; or a class of one's own,
    'path/file.py:Name'.  fixed: arguments that the method that asks gives.
    """
    given = {"type": spec} if isinstance(spec, str) else dict(spec or {})
    name = given.pop("type", "TabularVAE")
    if not isinstance(name, str):
        raise InputError(f"representation: type must be a name, not {name!r}")
    if name != "TabularVAE" and ":" not in name:
        given |= {"terms": _preset_terms(name, given)}
    kind = name if ":" in name else f"{TabularVAE.__module__}:TabularVAE"
    with located("representation"):
        made: TabularVAE = registry.build(
            {"type": kind, **given, **fixed_arguments},
            namespace=TabularVAE.__module__,
            base=base,
            features=list(features),
            nuisances=list(nuisances),
        )
    return made


def _preset_terms(preset: str, arguments: dict[str, Any]) -> list[dict[str, Any]]:
    """The terms of a published representation; its arguments are taken out of `given`."""
    if "terms" in arguments:
        raise InputError(f"representation: {preset} has its own terms; leave out 'type' or 'terms'")
    make = registry.find(preset, namespace=presets.__name__)
    own = inspect.signature(make).parameters
    known = [*own, *(p for p in inspect.signature(TabularVAE).parameters if p not in CONTEXT_ARGUMENTS)]
    for key in arguments:
        if key not in known:
            raise InputError(f"{preset} takes no {key!r}{suggest(key, known)}")
    terms: list[dict[str, Any]] = make(**{key: arguments.pop(key) for key in [*arguments] if key in own})
    return terms


def _build_categorical_latents(
    discrete: Mapping[str, Any], nuisances: Sequence[str]
) -> tuple[nn.ModuleList, list[int]]:
    """The discrete latents in the order of the nuisances; of each nuisance, how many values, 0 for many."""
    for name in discrete:
        if name not in nuisances:
            raise InputError(f"discrete: no nuisance {name!r}{suggest(name, nuisances)}")
    made, values = [], []
    for name in nuisances:
        rule = discrete.get(name, 0)
        given = dict(rule) if isinstance(rule, Mapping) else {"count": rule}
        values.append(given.get("count", 0))
        if name in discrete:
            with located("discrete", name):
                made.append(
                    registry.build(
                        {"type": "RelaxedCategorical", **given},
                        namespace=RelaxedCategorical.__module__,
                        name=name,
                    )
                )
    return nn.ModuleList(made), values
