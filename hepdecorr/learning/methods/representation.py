"""A variational autoencoder whose first latents are meant to carry the nuisances."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hepdecorr import catalogue
from hepdecorr.errors import InputError
from hepdecorr.learning.batches import Batch, Data
from hepdecorr.learning.latents.decomposition import total_correlation
from hepdecorr.learning.latents.term import Latent, LatentTerm, weighted_mean
from hepdecorr.learning.methods.method import read_training
from hepdecorr.learning.networks.inputs import read_inputs
from hepdecorr.learning.networks.mlp import layers
from hepdecorr.learning.players import Player, Verdict
from hepdecorr.learning.training import Play

DEFAULTS = {"epochs": 12, "batch": 2048, "average": 0.998, "clip": 5.0, "weight_decay": 1e-4, "keep": "last"}
TERMS: tuple[Mapping[str, Any], ...] = (
    {"type": "KL"},
    {"type": "SupervisedAlignment"},
    {"type": "TotalCorrelation"},
)
LOG_VAR = (-8.0, 2.0)
SLACK = 0.05  # nats by which a critic may miss before the game is called unstable


class Representation(nn.Module):
    """Encoder and decoder of widths `hidden`, `sensitive` + `latents` latent dimensions.

    variance: of the Gaussian p(x|z) on standardised features; it sets what reconstruction weighs
    against the terms.  terms: the latent terms, default KL, alignment and conditional critic.
    """

    def __init__(
        self,
        *,
        features: Sequence[str],
        nuisances: Sequence[str],
        latents: int = 16,
        sensitive: int = 0,
        hidden: Sequence[int] = (128, 128),
        activation: str = "silu",
        variance: float = 0.1,
        inputs: Mapping[str, Any] | None = None,
        terms: Sequence[Mapping[str, Any]] = TERMS,
        training: Mapping[str, Any] | None = None,
        base: Path | None = None,
    ) -> None:
        super().__init__()
        if latents < 1 or variance <= 0:
            raise InputError("representation: latents must be at least 1 and variance positive")
        self.sensitive = sensitive or len(nuisances)
        self.dims, self.variance = self.sensitive + latents, variance
        self.inputs = read_inputs(features, inputs)
        count = len(features)
        self.net = nn.ModuleDict(
            {
                "encoder": layers(count, 2 * self.dims, hidden=hidden, activation=activation),
                "decoder": layers(self.dims, count, hidden=tuple(hidden)[::-1], activation=activation),
            }
        )
        self.terms = nn.ModuleDict()
        for k, spec in enumerate(terms):
            term = catalogue.build(
                spec, home="hepdecorr.learning.latents", base=base,
                latents=self.dims, sensitive=self.sensitive, nuisances=list(nuisances),
            )  # fmt: skip
            name = type(term).__name__.lower()
            self.terms[f"{name}_{k}" if name in self.terms else name] = term
        self.recipe, self.moves = read_training(
            training, where="method: representation: training", defaults=DEFAULTS
        )

    def learn(self, data: Data, play: Play) -> None:
        """One stage, 'representation'."""
        sample = data.train.sample(generator=play.generator)
        self.inputs.fit(sample.x)
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
            settled=max((t.growth.settled for _, t in self._each()), default=0.0),
        )

    def encode(self, x: Tensor) -> Latent:
        """Posterior of raw features (n, f), with a draw from it."""
        return self._posterior(self.inputs(x))

    def mean(self, x: Tensor) -> Tensor:
        """Posterior means, shape (n, dims)."""
        return self.net["encoder"](self.inputs(x))[:, : self.dims]  # type: ignore[no-any-return]

    def _posterior(self, scaled: Tensor) -> Latent:
        mean, log_var = self.net["encoder"](scaled).float().chunk(2, 1)
        # A soft clamp that gives 0 for 0: a hard one has no gradient to come back with.
        low, high = LOG_VAR
        log_var = low + (high - low) * torch.sigmoid(log_var + math.log(-low / high))
        return Latent(mean, log_var, mean + (0.5 * log_var).exp() * torch.randn_like(mean))

    def _each(self) -> list[tuple[str, LatentTerm]]:
        return [(name, term) for name, term in self.terms.items() if isinstance(term, LatentTerm)]

    def _describe(self, b: Batch, passed: float) -> dict[str, Tensor]:
        scaled = self.inputs(b.x)
        latent = self._posterior(scaled)
        squares = ((self.net["decoder"](latent.sample).float() - scaled) ** 2).sum(1)
        bill = {"reconstruct": weighted_mean(squares / (2 * self.variance), b.w)}
        for name, term in self._each():
            strength = term.growth.at(passed)
            bill[name] = strength * term.price(latent, b) if strength else scaled.new_zeros(())
        return bill

    def _chaser(self, term: LatentTerm) -> Any:
        def chase(b: Batch) -> dict[str, Tensor]:
            own = b.take(b.y == 0) if term.given == "background" else b
            with torch.no_grad():
                latent = self.encode(own.x)
            return {"chase": term.chase(latent, own)}

        return chase

    def _judge(self, validation: Batch, latest: Mapping[str, float], *, rows: int) -> Verdict:
        """The whole bill at full strength, with every estimate of the dependence beside it."""
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
