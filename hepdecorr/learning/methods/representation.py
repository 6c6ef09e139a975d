"""A variational autoencoder whose first latents are meant to carry the nuisances."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hepdecorr import catalogue
from hepdecorr.errors import InputError
from hepdecorr.learning.batches import Batch, Data
from hepdecorr.learning.latents import published
from hepdecorr.learning.latents.decomposition import total_correlation
from hepdecorr.learning.latents.discrete import Relaxed
from hepdecorr.learning.latents.term import Classes, Latent, LatentTerm, weighted_mean
from hepdecorr.learning.methods.method import read_training
from hepdecorr.learning.networks.inputs import read_inputs
from hepdecorr.learning.networks.mlp import layers
from hepdecorr.learning.networks.principal import fitted_on
from hepdecorr.learning.players import Player, Verdict
from hepdecorr.learning.training import Play

DEFAULTS = {"epochs": 12, "batch": 2048, "average": 0.998, "clip": 5.0, "weight_decay": 1e-4, "keep": "last"}
TERMS: tuple[Mapping[str, Any], ...] = (
    {"type": "KL"},
    {"type": "SupervisedAlignment"},
    {"type": "TotalCorrelation"},
)
LOG_VAR = (-8.0, 2.0)
CONTEXT = ("features", "nuisances", "terms", "base")  # arguments that do not stand beside a published type
SLACK = 0.05  # nats by which a critic may miss before the game is called unstable


class Representation(nn.Module):
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
        terms: Sequence[Mapping[str, Any]] = TERMS,
        given: str = "all",
        training: Mapping[str, Any] | None = None,
        base: Path | None = None,
    ) -> None:
        super().__init__()
        if latents < 1 or variance <= 0 or given not in ("all", "background"):
            raise InputError(
                "representation: latents must be at least 1, variance positive and given all or background"
            )
        self.relaxed, values = _relaxed(discrete or {}, nuisances)
        self.places = [k for k, count in enumerate(values) if count]  # of the discrete nuisances
        self.sensitive = sensitive or values.count(0)
        self.dims, self.variance, self.given = self.sensitive + latents, variance, given
        self.inputs = read_inputs(features, inputs)
        count, classes = len(features), sum(values)
        leaving, entering = 2 * self.dims + classes, self.dims + classes
        self.net = nn.ModuleDict(
            {
                "encoder": layers(count, leaving, hidden=hidden, activation=activation),
                "decoder": layers(entering, count, hidden=tuple(hidden)[::-1], activation=activation),
            }
        )
        self.terms = nn.ModuleDict()
        for k, spec in enumerate(terms):
            term = catalogue.build(
                spec, home="hepdecorr.learning.latents", base=base,
                latents=self.dims, sensitive=self.sensitive, nuisances=list(nuisances), values=values,
            )  # fmt: skip
            name = type(term).__name__.lower()
            self.terms[f"{name}_{k}" if name in self.terms else name] = term
        self.recipe, self.moves = read_training(
            training, where="method: representation: training", defaults=DEFAULTS
        )

    def learn(self, data: Data, play: Play) -> None:
        """One stage, 'representation'."""
        sample = data.train.sample(generator=play.generator)
        self.inputs.fit(fitted_on(self.inputs, sample).x)
        for k, one in zip(self.places, self.relaxed, strict=True):
            one.fit(sample.z[:, k], sample.w)  # type: ignore[operator]
        players: dict[str, Player] = {}
        for name, term in self._each():
            term.fit(sample, rows=len(data.train))
            if term.chasing is not None:
                players[name] = term.chasing.player(term, self._chaser(term))
        players["vae"] = Player(self.net, lambda b: self._describe(b, play.passed), moves=self.moves)
        play(
            players,
            data,
            self.recipe,
            stage="representation",
            judge=lambda latest: self._judge(data.validation.all, latest, rows=len(data.train)),
            settled=max((t.settled for _, t in self._each()), default=0.0),
        )

    def encode(self, x: Tensor) -> Latent:
        """Posterior of raw features (n, f), with a draw from it."""
        return self._posterior(self.inputs(x))

    def mean(self, x: Tensor) -> Tensor:
        """Posterior means, shape (n, dims)."""
        return self.net["encoder"](self.inputs(x))[:, : self.dims]  # type: ignore[no-any-return]

    def expected(self, scaled: Tensor) -> Latent:
        """Posterior of preprocessed features, with its mean in place of a draw."""
        mean, log_var, logits = self._answer(scaled)
        classes = tuple(Classes(t, t.softmax(1), one.log_prior) for one, t in self._apart(logits))
        return Latent(mean, log_var, mean, classes)

    def decode(self, latent: Latent) -> Tensor:
        """Mean of p(x|z) on standardised features, (n, f), of the draws in `latent`."""
        parts = [latent.sample, *(c.sample for c in latent.classes)]
        return self.net["decoder"](torch.cat(parts, 1)).float()  # type: ignore[no-any-return]

    def _answer(self, scaled: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Means and logarithms of variances (n, dims), and the logits of all discrete latents."""
        answer = self.net["encoder"](scaled).float()
        mean, log_var, logits = answer.split([self.dims, self.dims, answer.shape[1] - 2 * self.dims], 1)
        # A soft clamp that gives 0 for 0: a hard one has no gradient to come back with.
        low, high = LOG_VAR
        return mean, low + (high - low) * torch.sigmoid(log_var + math.log(-low / high)), logits

    def _posterior(self, scaled: Tensor) -> Latent:
        mean, log_var, logits = self._answer(scaled)
        sample = mean + (0.5 * log_var).exp() * torch.randn_like(mean)
        return Latent(mean, log_var, sample, tuple(one(part) for one, part in self._apart(logits)))

    def _apart(self, logits: Tensor) -> Iterator[tuple[Relaxed, Tensor]]:
        """Each discrete latent with its own logits."""
        start = 0
        for one in self.relaxed:
            if isinstance(one, Relaxed):
                stop = start + len(one.log_prior)
                yield one, logits[:, start:stop]
                start = stop

    def _each(self) -> list[tuple[str, LatentTerm]]:
        return [(name, term) for name, term in self.terms.items() if isinstance(term, LatentTerm)]

    def reconstruction(self, latent: Latent, scaled: Tensor) -> Tensor:
        """-log p(x|z) of standardised features but for a constant, (n,), in nats."""
        return ((self.decode(latent) - scaled) ** 2).sum(1) / (2 * self.variance)

    def _describe(self, b: Batch, passed: float) -> dict[str, Tensor]:
        if self.given == "background":
            b = b.take(b.y == 0)
        scaled = self.inputs(b.x)
        latent = self._posterior(scaled)
        bill = {"reconstruct": weighted_mean(self.reconstruction(latent, scaled), b.w)}
        for name, term in self._each():
            bill[name] = term.cost(latent, b, passed=passed)
        return bill

    def _chaser(self, term: LatentTerm) -> Any:
        given = "background" in (term.given, self.given)

        def chase(b: Batch) -> dict[str, Tensor]:
            own = b.take(b.y == 0) if given else b
            with torch.no_grad():
                latent = self.encode(own.x)
            return {"chase": term.chase(latent, own)}

        return chase

    def _judge(self, validation: Batch, latest: Mapping[str, float], *, rows: int) -> Verdict:
        """The whole bill at full strength, with every estimate of the dependence beside it."""
        if self.given == "background":
            validation = validation.take(validation.y == 0)
        step = -(-len(validation.y) // 4096)
        bills, complaints = [], []
        for k in range(min(step, 4)):
            b = validation.take(slice(k, None, step))
            bill = {name: float(value) for name, value in self._describe(b, 1.0).items()}
            latent = self.encode(b.x)
            bill["tc_stratified"] = float(total_correlation(latent, sensitive=self.sensitive, rows=rows))
            for name, term in self._each():
                floor = term.floor(latent, b)
                if floor is not None:
                    bill[f"{name}/floor"] = floor
            bills.append(bill)
        figures = {name: sum(b[name] for b in bills) / len(bills) for name in bills[0]}
        for name, _ in self._each():
            chase = latest.get(f"{name}/chase", 0.0)
            floor = figures.get(f"{name}/floor", chase)
            if chase > floor + SLACK:
                complaints.append(
                    f"{name}: the critic is behind a blind guess ({chase:.3f} against {floor:.3f})"
                )
        criterion = figures["reconstruct"] + sum(figures[name] for name, _ in self._each())
        return Verdict(criterion, figures, "; ".join(complaints))


def represent(
    spec: Mapping[str, Any] | str | None,
    *,
    features: Sequence[str],
    nuisances: Sequence[str],
    base: Path | None = None,
    **fixed: Any,
) -> Representation:
    """The representation of a block of YAML: `{type: BetaTCVAE, beta: 6, latents: 10}` or `{terms: [...]}`.

    type: a published one, whose arguments stand beside those of Representation; or a class of one's own,
    'path/file.py:Name'.  fixed: arguments that the method that asks gives.
    """
    given = {"type": spec} if isinstance(spec, str) else dict(spec or {})
    name = given.pop("type", "Representation")
    if not isinstance(name, str):
        raise InputError(f"representation: type must be a name, not {name!r}")
    if name != "Representation" and ":" not in name:
        given |= {"terms": _published(name, given)}
    kind = name if ":" in name else f"{Representation.__module__}:Representation"
    made: Representation = catalogue.build(
        {"type": kind, **given, **fixed},
        home=Representation.__module__,
        base=base,
        features=list(features),
        nuisances=list(nuisances),
    )
    return made


def _published(name: str, given: dict[str, Any]) -> list[dict[str, Any]]:
    """The terms of a published representation; its arguments are taken out of `given`."""
    if "terms" in given:
        raise InputError(f"representation: {name} has its own terms; leave out 'type' or 'terms'")
    make = catalogue.find(name, home=published.__name__)
    own = inspect.signature(make).parameters
    known = [*own, *(p for p in inspect.signature(Representation).parameters if p not in CONTEXT)]
    for key in given:
        if key not in known:
            raise InputError(f"{name} takes no {key!r}{catalogue.suggest(key, known)}")
    terms: list[dict[str, Any]] = make(**{key: given.pop(key) for key in [*given] if key in own})
    return terms


def _relaxed(discrete: Mapping[str, Any], nuisances: Sequence[str]) -> tuple[nn.ModuleList, list[int]]:
    """The discrete latents in the order of the nuisances; of each nuisance, how many values, 0 for many."""
    for name in discrete:
        if name not in nuisances:
            raise InputError(f"discrete: no nuisance {name!r}{catalogue.suggest(name, nuisances)}")
    made, values = [], []
    for name in nuisances:
        rule = discrete.get(name, 0)
        given = dict(rule) if isinstance(rule, Mapping) else {"count": rule}
        values.append(given.get("count", 0))
        if name in discrete:
            made.append(catalogue.build({"type": "Relaxed", **given}, home=Relaxed.__module__, name=name))
    return nn.ModuleList(made), values
