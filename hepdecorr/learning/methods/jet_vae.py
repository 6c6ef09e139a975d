"""Anomalous jets by a variational autoencoder that learns what background looks like."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hepdecorr.errors import InputError
from hepdecorr.learning import weights
from hepdecorr.learning.anomaly.annealing import Annealing
from hepdecorr.learning.anomaly.beta import Beta
from hepdecorr.learning.anomaly.building import Making, check_terms, number, read_exposures
from hepdecorr.learning.anomaly.generating import JetGenerator
from hepdecorr.learning.anomaly.jets import Framing
from hepdecorr.learning.anomaly.loss import Loss
from hepdecorr.learning.anomaly.mixture import Density
from hepdecorr.learning.anomaly.scores import SCORES
from hepdecorr.learning.anomaly.variational import Variational
from hepdecorr.learning.anomaly.vetting import check_outliers, excluded, match, told_of
from hepdecorr.learning.batches import Batch, Data, Events
from hepdecorr.learning.holding import Scorer
from hepdecorr.learning.latents.term import weighted_mean
from hepdecorr.learning.methods.dues import Dues
from hepdecorr.learning.methods.judging import Costs
from hepdecorr.learning.methods.method import Arrays, Method, read_training
from hepdecorr.learning.methods.tagger import build_terms, read_holds
from hepdecorr.learning.methods.vae_judging import VAEJudge, figures_of, tell
from hepdecorr.learning.networks.cloud import needed
from hepdecorr.learning.players import Player
from hepdecorr.learning.seen import seen
from hepdecorr.learning.training import Play

log = logging.getLogger(__name__)

# Adam from 1e-3, ten times less at each third of the stage: 30 and 60 of 90 epochs in the paper.
DEFAULTS = {"epochs": 60, "batch": 500, "lr": 1e-3, "optimizer": "adam", "weight_decay": 0.0}
DEFAULTS |= {"schedule": "steps", "final": 0.01}
GAUSSIAN = "mean square"  # the distance that is the logarithm of one
REVEALED = 20_000  # background events whose latents are kept for the report


class JetVAE(Method):
    """An autoencoder of QCD jets, alone or exposed to outliers (Cheng, 2007.01850, and slides, ML4Jets 2020).

    When to use it: to find jets that are not background without saying what they are.

    It learns from background: distance + beta KL, the distance |xhat - x|^2 / 4n of n constituents.  network:
    {type: FullyConnected} or another of learning/networks/autoencoders; latents: its dimensions.  frame:
    arguments of JetFrame, {length: 20, boost: rest}.  condition: features of a row that encoder and decoder
    are told; inputs: how those are scaled.  beta, reduction: see Beta; beta_anneal: how beta comes in, see
    Annealing.  exposure: {type: KLOE, margin: 1, strength: 2}, {type: MSEOE}, or a list of such: events of
    label 1 are the outliers, which nothing else learns from.

    score: which of mse, kl, nll, sumsq, density the logit is made of, as of Standard.  All of them leave the
    graph beside it, and `means` (n, latents); with `reconstruct` also input_momenta and output_momenta
    (n, length, 4), GeV in the frame of the jet, zero where there is no constituent.  density: of Mixture,
    {components: 8}.  terms: on the logit of background, as of Tagger; weigh: as of Tagger.

    start_from: a trained JetVAE to go on from, with its scalings: another tagger of the config, of the same
    seed, or the path of its folder, in which {seed} stands for that of this training.
    """

    def __init__(
        self,
        *,
        features: Sequence[str] = (),
        constituents: Sequence[str] = (),
        length: int = 0,
        nuisances: Sequence[str] = (),
        network: Mapping[str, Any] | str = "FullyConnected",
        latents: int = 10,
        frame: Mapping[str, Any] | None = None,
        condition: Sequence[str] = (),
        inputs: Mapping[str, Any] | None = None,
        beta: float = 0.1,
        reduction: str = "mean",
        beta_anneal: Mapping[str, Any] | str = "constant",
        exposure: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
        score: str = "mse",
        density: Mapping[str, Any] | None = None,
        reconstruct: bool = True,
        terms: Sequence[Mapping[str, Any]] = (),
        weigh: float = 0.0,
        start_from: str = "",
        training: Mapping[str, Any] | None = None,
        base: Path | None = None,
        origin: Path | None = None,
    ) -> None:
        super().__init__()
        needed(constituents, by="JetVAE")
        self.density = Density.read(density)
        make = Making(network, latents, base)
        self.framing = Framing(
            features, constituents, length, frame=frame, condition=condition, inputs=inputs, per=make.per
        )
        made = make(length=self.framing.length, condition=len(self.framing.names))
        price = Beta(number(beta, key="beta"), reduction, latents)
        self.vae = Variational(made, beta=price, score=score, components=self.density.components)
        self.growing = Annealing.read(beta_anneal, where="beta_anneal")
        self.exposures = read_exposures(exposure, base=base)
        self.needs_signal = bool(self.exposures)
        if not isinstance(reconstruct, bool):
            raise InputError(f"reconstruct is true or false, not {reconstruct!r}")
        self.reconstruct = reconstruct
        self.beside = (*SCORES, "means", *(("input_momenta", "output_momenta") if reconstruct else ()))
        self.terms = nn.ModuleDict(build_terms(terms, nuisances=nuisances, base=base))
        check_terms(self.terms, score=score)
        self.dues = Dues(
            self.terms, read_holds(terms, list(self.terms)), scorer=Scorer(self.vae, self._logit)
        )
        self.weigh, self._nuisances = number(weigh, key="weigh"), list(nuisances)
        if not 0 <= self.weigh < math.inf:
            raise InputError(f"weigh is {self.weigh:g}; it must be finite and not negative")
        self._start = origin or ((base or Path()) / start_from if start_from else None)
        self.recipe, self.moves = read_training(training, where="method: training", defaults=DEFAULTS)

    def learn(self, data: Data, play: Play) -> None:
        """One stage, 'vae'."""
        self.to(play.device)
        seed = play.generator.initial_seed()
        log.info(self._told_of_beta())
        sample = data.train.sample(generator=play.generator)
        if self.exposures:
            check_outliers(sample)
        if self._start is not None:
            start = Path(str(self._start).replace("{seed}", str(seed)))
            weights.load(start, self._parts(), about=self.framing.settings)
        else:
            self.framing.fit(sample.take(sample.y == 0))
            self.vae.network.fit(self.framing.nothing)
        viewed = seen(data, self.framing.flat, names=self.framing.columns, factor=lambda flat: flat[:, -1])
        every = viewed.train.all if isinstance(viewed.train, Events) else viewed.train.sample()
        self.measured = {"excluded": excluded(every, viewed.validation.all)}
        record = self._play(viewed, every, play, seed=seed)
        self._settle(viewed, every, seed=seed)
        record["measured"] = self.measured
        record["told"] = [self._told_of_beta(), *told_of(record, self.exposures)]

    def _play(self, data: Data, every: Batch, play: Play, *, seed: int) -> dict[str, Any]:
        turns = data.train.turns(self.recipe.batch)
        epochs = self.recipe.lasting(turns).epochs
        matched = match(self.exposures, every, nuisances=data.validation.nuisances, seed=seed)
        loss = Loss(self.vae, self.framing.jets, self.growing, self.exposures, self.dues, epochs, matched)
        self.dues.begin(every, data, play, turns=turns)
        annealings = {"beta_anneal": self.growing}
        annealings |= {f"exposure: {name}: anneal": one.annealing for name, one in self.exposures.items()}
        first = max(one.first(epochs=epochs, where=where) for where, one in annealings.items())
        pay = Player(self.vae, lambda b: loss.bill(b, play), moves=self.moves, leaves=self.dues.leaves)
        costs = Costs(
            data.validation.nuisances, terms=dict(self.dues.each()), held=self.dues.held, weigh=self.weigh
        )
        judge = VAEJudge(
            loss, data.validation.all, costs=costs, epoch=lambda: max(1, round(play.passed * epochs))
        )
        record = play(
            self.dues.table(pay, play, name="vae"),
            data,
            self.recipe,
            stage="vae",
            judge=judge,
            settled=max(first, self.dues.settled),
            companions=self.dues.companions,
        )
        self.dues.end()
        return record

    @torch.no_grad()
    def _settle(self, data: Data, every: Batch, *, seed: int) -> None:
        """What is fitted on the trained network: the density of its latents and the scale of the logit."""
        self.vae.eval().requires_grad_(False)
        b, own = data.validation.all, every.take(every.y == 0)
        step = max(1, len(own.y) // (2 * self.density.sample))
        some = own.take(slice(None, None, step))
        means = tell(self.vae, self.framing.jets, some.x).mean
        self.vae.mixture.fit(means.cpu().numpy(), some.w.cpu().numpy(), seed=seed, most=self.density.sample)
        told = tell(self.vae, self.framing.jets, b.x)
        self.vae.standard.fit(told.scores[self.vae.standard.score][b.y == 0], b.w[b.y == 0])
        price = self.vae.beta
        self.measured |= figures_of(told, b) | {"beta": price.value, "reduction": price.reduction}
        if self.vae.network.trained_by == GAUSSIAN:
            self.measured["beta_of_elbo"] = price.elbo(self.framing.length)
        if self.vae.network.trained_by != self.vae.network.judged_by:
            self.measured["distance"] = (
                f"{self.vae.network.judged_by}, trained by {self.vae.network.trained_by}"
            )

    def logit(self, x: Tensor) -> Tensor:
        """Shape (n,); larger for what is more unusual."""
        return self.vae.logit(self.framing(x)[0])

    def further(self, x: Tensor) -> tuple[Tensor, ...]:
        """What `beside` names."""
        return self.answers(x)[1:]

    def answers(self, x: Tensor) -> tuple[Tensor, ...]:
        """The logit, every score as it is (n,), means (n, latents), and momenta (n, length, 4)."""
        jets, momenta = self.framing(x)
        told = self.vae.tell(jets)
        logit = self.vae.standard(told.scores[self.vae.standard.score])
        answers = (logit, *(told.scores[name] for name in SCORES), told.mean)
        if not self.reconstruct:
            return answers
        there = self.vae.network.made(told.decoded, jets.mask)[..., None]
        return *answers, momenta, torch.where(there, self.framing.frame.unscale(told.decoded), 0.0)

    @torch.no_grad()
    def reveal(self, validation: Batch) -> Arrays:
        """Of n background events mean (n, d), nuisance and weight, and the means of kl (d,) and mse."""
        b = validation.take(validation.y == 0)
        b = b.take(slice(None, None, max(1, -(-len(b.y) // REVEALED))))
        flat = self.framing.flat(b.x)
        told, w = tell(self.vae, self.framing.jets, flat), (b.w * flat[:, -1]).clamp_min(0)
        kl = torch.stack([weighted_mean(one, w) for one in told.kl.T])
        shown = {"mean": told.mean, "nuisance": b.z, "weight": w, "kl": kl}
        shown["mse"] = weighted_mean(told.scores["mse"], w)
        return {name: value.cpu().numpy() for name, value in shown.items()} | {
            "nuisances": np.array(self._nuisances)
        }

    def generator(self) -> JetGenerator:
        """The decoder, from latents to GeV in the frame."""
        return JetGenerator(self.framing, self.vae.network, latents=self.vae.beta.latents)

    def weights(self) -> Arrays:
        """Network, scalings and density, by name."""
        return weights.arrays(self._parts(), about=self.framing.settings)

    def _told_of_beta(self) -> str:
        kind = self.vae.network.trained_by
        told = self.vae.beta.told(self.framing.length)
        return told if kind == GAUSSIAN else f"{told}, if its distance, {kind}, were a Gaussian's mean square"

    def _parts(self) -> dict[str, nn.Module]:
        return {"framing": self.framing, "vae": self.vae}

    def _logit(self, flat: Tensor) -> Tensor:
        return self.vae.logit(self.framing.jets(flat))
