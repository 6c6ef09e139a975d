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
from hepdecorr.training import checkpoints
from hepdecorr.training.data.batches import Batch, EventDataset
from hepdecorr.training.data.checks import (
    build_matched_outliers,
    check_outliers,
    count_excluded,
    training_notes,
)
from hepdecorr.training.data.mapped import map_features
from hepdecorr.training.data.splits import DataSplits
from hepdecorr.training.export.decoders import JetVAEGenerator
from hepdecorr.training.losses import Scorer
from hepdecorr.training.losses.base import weighted_mean
from hepdecorr.training.losses.decorrelation import DecorrelationLoss
from hepdecorr.training.losses.schedules import AnnealingSchedule
from hepdecorr.training.methods.base import Method, NamedArrays, training_from_config
from hepdecorr.training.methods.tagger import build_constraint_configs, build_terms
from hepdecorr.training.networks.preprocessing import require_constituents
from hepdecorr.training.objective import Objective
from hepdecorr.training.trainer import Trainer
from hepdecorr.training.vae.anomaly_scores import SCORES, LatentDensityConfig
from hepdecorr.training.vae.jet_inputs import JetPreprocessor
from hepdecorr.training.vae.jet_model import (
    AutoencoderFactory,
    JetVAELoss,
    JetVAEModel,
    KLWeight,
    build_exposures,
    check_score_terms,
    parse_number,
)
from hepdecorr.training.validation import DependenceCriterion, VAEValidator, forward_in_chunks, vae_metrics

log = logging.getLogger(__name__)

# Adam from 1e-3, ten times less at each third of the stage: 30 and 60 of 90 epochs in the paper.
DEFAULT_TRAINING = {"epochs": 60, "batch_size": 500, "lr": 1e-3, "optimizer": "adam", "weight_decay": 0.0}
DEFAULT_TRAINING |= {"schedule": "steps", "final_lr_fraction": 0.01}
GAUSSIAN_DISTANCE = "mean square"  # the distance that is the logarithm of one
MAX_DIAGNOSTIC_EVENTS = 20_000  # background events whose latents are kept for the report


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
        mi_weight: float = 0.0,
        start_from: str = "",
        training: Mapping[str, Any] | None = None,
        base: Path | None = None,
        pretrained_folder: Path | None = None,
    ) -> None:
        super().__init__()
        require_constituents(constituents, network_name="JetVAE")
        self.density_config = LatentDensityConfig.from_config(density)
        make = AutoencoderFactory(network, latents, base)
        self.preprocessor = JetPreprocessor(
            features,
            constituents,
            length,
            frame=frame,
            condition=condition,
            inputs=inputs,
            scale_per=make.scale_per,
        )
        made = make(length=self.preprocessor.length, condition_dim=len(self.preprocessor.condition_names))
        price = KLWeight(parse_number(beta, key="beta"), reduction, latents)
        self.vae = JetVAEModel(made, beta=price, score=score, components=self.density_config.components)
        self.beta_schedule = AnnealingSchedule.from_config(beta_anneal, where="beta_anneal")
        self.exposures = build_exposures(exposure, base=base)
        self.needs_signal = bool(self.exposures)
        if not isinstance(reconstruct, bool):
            raise InputError(f"reconstruct is true or false, not {reconstruct!r}")
        self.reconstruct = reconstruct
        self.aux_output_names = (
            *SCORES,
            "means",
            *(("input_momenta", "output_momenta") if reconstruct else ()),
        )
        self.terms = nn.ModuleDict(build_terms(terms, nuisances=nuisances, base=base))
        check_score_terms(self.terms, score=score)
        self.decorrelation_loss = DecorrelationLoss(
            self.terms,
            build_constraint_configs(terms, list(self.terms)),
            scorer=Scorer(self.vae, self._logit_from_flat),
        )
        self.mi_weight, self._nuisances = parse_number(mi_weight, key="mi_weight"), list(nuisances)
        if not 0 <= self.mi_weight < math.inf:
            raise InputError(f"mi_weight is {self.mi_weight:g}; it must be finite and not negative")
        self._pretrained_folder = pretrained_folder or ((base or Path()) / start_from if start_from else None)
        self.training_config, self.optimizer_config = training_from_config(
            training, where="method: training", defaults=DEFAULT_TRAINING
        )

    def fit(self, data: DataSplits, trainer: Trainer) -> None:
        """One stage, 'vae'."""
        self.to(trainer.device)
        seed = trainer.generator.initial_seed()
        log.info(self._describe_beta())
        sample = data.train.sample(generator=trainer.generator)
        if self.exposures:
            check_outliers(sample)
        if self._pretrained_folder is not None:
            start = Path(str(self._pretrained_folder).replace("{seed}", str(seed)))
            checkpoints.load_weights(start, self._state_modules(), metadata=self.preprocessor.settings)
        else:
            self.preprocessor.fit(sample.take(sample.y == 0))
            self.vae.network.fit(self.preprocessor.scaled_zero)
        viewed = map_features(
            data,
            self.preprocessor.flatten,
            names=self.preprocessor.flat_columns,
            weight_fn=lambda flat: flat[:, -1],
        )
        every = viewed.train.all if isinstance(viewed.train, EventDataset) else viewed.train.sample()
        self.metrics = {"excluded": count_excluded(every, viewed.validation.all)}
        record = self._fit_stage(viewed, every, trainer, seed=seed)
        self._fit_density_and_logit(viewed, every, seed=seed)
        record["metrics"] = self.metrics
        record["told"] = [self._describe_beta(), *training_notes(record, self.exposures)]

    def _fit_stage(
        self, data: DataSplits, train_events: Batch, trainer: Trainer, *, seed: int
    ) -> dict[str, Any]:
        turns = data.train.num_batches(self.training_config.batch_size)
        epochs = self.training_config.with_min_steps(turns).epochs
        matched = build_matched_outliers(
            self.exposures, train_events, nuisances=data.validation.nuisances, seed=seed
        )
        loss = JetVAELoss(
            self.vae,
            self.preprocessor.unflatten,
            self.beta_schedule,
            self.exposures,
            self.decorrelation_loss,
            epochs,
            matched,
        )
        self.decorrelation_loss.setup(train_events, data, trainer, num_batches=turns)
        annealings = {"beta_anneal": self.beta_schedule}
        annealings |= {f"exposure: {name}: anneal": one.schedule for name, one in self.exposures.items()}
        first = max(
            one.first_full_progress(num_epochs=epochs, where=where) for where, one in annealings.items()
        )
        pay = Objective(
            self.vae,
            lambda b: loss.training_loss(b, trainer),
            optimizer=self.optimizer_config,
            reversed_modules=self.decorrelation_loss.reversed_modules,
        )
        costs = DependenceCriterion(
            data.validation.nuisances,
            terms=dict(self.decorrelation_loss.items()),
            constraints=self.decorrelation_loss.constraints,
            mi_weight=self.mi_weight,
        )
        judge = VAEValidator(
            loss,
            data.validation.all,
            dependence_criterion=costs,
            current_epoch=lambda: max(1, round(trainer.progress * epochs)),
        )
        record = trainer.fit_stage(
            self.decorrelation_loss.build_objectives(pay, trainer, tagger_name="vae"),
            data,
            self.training_config,
            name="vae",
            validate=judge,
            select_after=max(first, self.decorrelation_loss.warmup_end),
            callbacks=self.decorrelation_loss.callbacks,
        )
        self.decorrelation_loss.teardown()
        return record

    @torch.no_grad()
    def _fit_density_and_logit(self, data: DataSplits, train_events: Batch, *, seed: int) -> None:
        """What is fitted on the trained network: the density of its latents and the scale of the logit."""
        self.vae.eval().requires_grad_(False)
        b, own = data.validation.all, train_events.take(train_events.y == 0)
        step = max(1, len(own.y) // (2 * self.density_config.sample_size))
        some = own.take(slice(None, None, step))
        means = forward_in_chunks(self.vae, self.preprocessor.unflatten, some.x).mean
        self.vae.latent_gmm.fit(
            means.cpu().numpy(), some.w.cpu().numpy(), seed=seed, max_points=self.density_config.sample_size
        )
        told = forward_in_chunks(self.vae, self.preprocessor.unflatten, b.x)
        self.vae.standardizer.fit(told.scores[self.vae.standardizer.score][b.y == 0], b.w[b.y == 0])
        price = self.vae.beta
        self.metrics |= vae_metrics(told, b) | {"beta": price.value, "reduction": price.reduction}
        if self.vae.network.training_distance == GAUSSIAN_DISTANCE:
            self.metrics["beta_of_elbo"] = price.elbo_beta(self.preprocessor.length)
        if self.vae.network.training_distance != self.vae.network.validation_distance:
            self.metrics["distance"] = (
                f"{self.vae.network.validation_distance}, trained by {self.vae.network.training_distance}"
            )

    def logit(self, x: Tensor) -> Tensor:
        """Shape (n,); larger for what is more unusual."""
        return self.vae.logit(self.preprocessor(x)[0])

    def aux_outputs(self, x: Tensor) -> tuple[Tensor, ...]:
        """What `beside` names."""
        return self.outputs(x)[1:]

    def outputs(self, x: Tensor) -> tuple[Tensor, ...]:
        """The logit, every score as it is (n,), means (n, latents), and momenta (n, length, 4)."""
        jets, momenta = self.preprocessor(x)
        told = self.vae.forward_at_mean(jets)
        logit = self.vae.standardizer(told.scores[self.vae.standardizer.score])
        answers = (logit, *(told.scores[name] for name in SCORES), told.mean)
        if not self.reconstruct:
            return answers
        there = self.vae.network.constituent_mask(told.decoded, jets.mask)[..., None]
        return *answers, momenta, torch.where(there, self.preprocessor.frame.unscale(told.decoded), 0.0)

    @torch.no_grad()
    def diagnostics(self, validation: Batch) -> NamedArrays:
        """Of n background events mean (n, d), nuisance and weight, and the means of kl (d,) and mse."""
        b = validation.take(validation.y == 0)
        b = b.take(slice(None, None, max(1, -(-len(b.y) // MAX_DIAGNOSTIC_EVENTS))))
        flat = self.preprocessor.flatten(b.x)
        told, w = (
            forward_in_chunks(self.vae, self.preprocessor.unflatten, flat),
            (b.w * flat[:, -1]).clamp_min(0),
        )
        kl = torch.stack([weighted_mean(one, w) for one in told.kl.T])
        shown = {"mean": told.mean, "nuisance": b.z, "weight": w, "kl": kl}
        shown["mse"] = weighted_mean(told.scores["mse"], w)
        return {name: value.cpu().numpy() for name, value in shown.items()} | {
            "nuisances": np.array(self._nuisances)
        }

    def export_generator(self) -> JetVAEGenerator:
        """The decoder, from latents to GeV in the frame."""
        return JetVAEGenerator(self.preprocessor, self.vae.network, latents=self.vae.beta.latent_dim)

    def state_arrays(self) -> NamedArrays:
        """Network, scalings and density, by name."""
        return checkpoints.collect_weights(self._state_modules(), metadata=self.preprocessor.settings)

    def _describe_beta(self) -> str:
        kind = self.vae.network.training_distance
        told = self.vae.beta.describe(self.preprocessor.length)
        return (
            told
            if kind == GAUSSIAN_DISTANCE
            else f"{told}, if its distance, {kind}, were a Gaussian's mean square"
        )

    def _state_modules(self) -> dict[str, nn.Module]:
        return {"framing": self.preprocessor, "vae": self.vae}

    def _logit_from_flat(self, flat: Tensor) -> Tensor:
        return self.vae.logit(self.preprocessor.unflatten(flat))
