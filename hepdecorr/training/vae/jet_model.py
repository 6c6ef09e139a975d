"""The weight of the KL against the reconstruction, and what it means.

The parts of a variational autoencoder of jets as YAML names them.

A variational autoencoder of jets: network, price of the latents, and the scores that it gives.

The loss of a variational autoencoder with outlier exposure, batch by batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from hepdecorr import registry
from hepdecorr.errors import InputError, located, suggest
from hepdecorr.training.data.batches import Batch
from hepdecorr.training.losses import Exposure, JetLosses
from hepdecorr.training.losses.base import Term, weighted_mean
from hepdecorr.training.losses.decorrelation import DecorrelationLoss
from hepdecorr.training.losses.outlier_exposure import MatchedOutliers, safe_loss
from hepdecorr.training.losses.schedules import AnnealingSchedule
from hepdecorr.training.networks.autoencoders import Autoencoder
from hepdecorr.training.trainer import Trainer
from hepdecorr.training.vae.anomaly_scores import LatentGMM, ScoreStandardizer
from hepdecorr.training.vae.base import LatentPosterior
from hepdecorr.training.vae.jet_inputs import JetInputs
from hepdecorr.training.vae.latent_terms import gaussian_kl

KL_REDUCTIONS = ("sum", "mean")


@dataclass(frozen=True)
class KLWeight:
    """beta x KL of the loss |xhat - x|^2 / 4n + beta KL (Cheng's slides, 'From Autoencoder to VAE').

    reduction: of the KL over `latents` dimensions.  The slide writes D_KL, a 'sum'; the author's code takes
    the 'mean', so that its beta of 0.1 with 10 latents is one of 0.01 in the slide's formula.
    """

    value: float
    reduction: str
    latent_dim: int

    def __post_init__(self) -> None:
        if self.reduction not in KL_REDUCTIONS:
            raise InputError(f"reduction: no {self.reduction!r}{suggest(str(self.reduction), KL_REDUCTIONS)}")
        if not 0 < self.value < math.inf:
            raise InputError(
                f"beta is {self.value:g} and must be above 0 and finite: without a price on the KL the "
                "latents have no prior to be unusual for; 0.01 to 1 are usual"
            )

    def reduce_kl(self, kl: Tensor) -> Tensor:
        """KL as the loss takes it, (n,), of that of each dimension (n, d)."""
        return kl.sum(1) if self.reduction == "sum" else kl.mean(1)

    def elbo_beta(self, num_constituents: int) -> float:
        """The same beta in nats of an ELBO, for which 1 is a true one, with `length` = n constituents.

        A decoder p(x|z) = N(xhat, 1) on the 4n scaled numbers has -log p = |xhat - x|^2 / 2 but for a
        constant, which is 2n times the loss: the KL, summed, then has the weight 2n beta (sum) or
        2n beta / d (mean).  It is also the variance of the Gaussian whose ELBO with beta = 1 this is.
        """
        summed = self.value if self.reduction == "sum" else self.value / self.latent_dim
        return 2 * num_constituents * summed

    def describe(self, num_constituents: int) -> str:
        """What it means, in a sentence."""
        return (
            f"beta {self.value:g} with KL as {self.reduction} over {self.latent_dim} latents is beta "
            f"{self.elbo_beta(num_constituents):.4g} in the ELBO of a Gaussian of unit variance on "
            f"{4 * num_constituents} numbers"
        )


AUTOENCODERS_MODULE = "hepdecorr.training.vae.networks"
EXPOSURES_MODULE = "hepdecorr.training.losses.outlier_exposure"
UNTRAINED_SCORES = {"sumsq": "no network makes it", "density": "it is fitted after the training"}


@dataclass(frozen=True)
class AutoencoderFactory:
    """The block `network: {type: ...}`, before it is known how long jets are."""

    spec: Mapping[str, Any] | str
    latent_dim: int
    base: Path | None = None

    def __post_init__(self) -> None:
        spec: Any = self.spec  # from YAML, where both may be anything
        latents: Any = self.latent_dim
        named = spec.get("type") if isinstance(spec, Mapping) else spec
        if not isinstance(named, str):
            raise InputError(f"network must be as {{type: FullyConnected}}, not {self.spec!r}")
        if not isinstance(latents, int) or isinstance(latents, bool) or latents < 1:
            raise InputError(f"latents must be a whole number of at least 1, not {self.latent_dim!r}")

    @property
    def scale_per(self) -> str:
        """How the network wants its jets scaled, see JetFrame."""
        name = self.spec if isinstance(self.spec, str) else self.spec.get("type")
        kind = registry.find(str(name), namespace=AUTOENCODERS_MODULE, base=self.base)
        return str(getattr(kind, "scale_per", Autoencoder.scale_per))

    def __call__(self, *, length: int, condition_dim: int) -> Autoencoder:
        """The network; InputError where it is none of the kind."""
        about = {"length": length, "latent_dim": self.latent_dim, "condition_dim": condition_dim}
        with located("network"):
            made = registry.build(self.spec, namespace=AUTOENCODERS_MODULE, base=self.base, **about)
        if not isinstance(made, Autoencoder):
            raise InputError(f"network {self.spec}: it must derive from {AUTOENCODERS_MODULE}.Autoencoder")
        return made


def build_exposures(spec: Any, *, base: Path | None) -> dict[str, Exposure]:
    """The exposures of the block `exposure`, one or a list, by the names that the curves carry."""
    specs = [spec] if isinstance(spec, Mapping | str) else spec or []
    if not isinstance(specs, Sequence) or not all(isinstance(one, Mapping | str) for one in specs):
        raise InputError(f"exposure must be as {{type: KLOE, margin: 1}}, or a list of such, not {spec!r}")
    built: dict[str, Exposure] = {}
    for i, one in enumerate(specs):
        try:
            with located("exposure", *([i] if specs is spec else [])):
                made = registry.build(one, namespace=EXPOSURES_MODULE, base=base)
        except TypeError as err:
            raise InputError(f"exposure: {one}: a value is of the wrong type: {err}") from err
        if not isinstance(made, Exposure):
            raise InputError(f"exposure: {one}: it must derive from {EXPOSURES_MODULE}.Exposure")
        name = type(made).__name__.lower()
        built[f"{name}_{len(built) + 1}" if name in built else name] = made
    return built


def parse_number(value: Any, *, key: str) -> float:
    """The value of a key of the block; InputError where it is no number."""
    try:
        return float(value)
    except (TypeError, ValueError):
        raise InputError(f"{key} must be a number, not {value!r}") from None


def check_score_terms(terms: nn.ModuleDict, *, score: str) -> None:
    """InputError where a term could move nothing, or would look at outliers."""
    for term in terms.values():
        if not isinstance(term, Term):
            continue
        name = type(term).__name__
        if score in UNTRAINED_SCORES:
            raise InputError(
                f"{name}: score {score} cannot be moved by a term, for {UNTRAINED_SCORES[score]}; take "
                "mse, kl "
                "or nll, or a map of the score (posthoc)"
            )
        if term.classes != "background":
            raise InputError(
                f"{name}: classes: {term.classes}, and JetVAE knows no signal: its terms look at "
                "background alone"
            )


class VAEOutput(NamedTuple):
    """What it says of n jets, at the mean of their posteriors."""

    mean: Tensor  # (n, d)
    kl: Tensor  # (n, d), of each dimension, in nats
    decoded: Tensor  # (n, length, 4), scaled
    scores: dict[str, Tensor]  # each (n,)


class JetVAEModel(nn.Module):
    """What one player moves; the buffers of the scores travel with its weights."""

    def __init__(self, network: Autoencoder, *, beta: KLWeight, score: str, components: int) -> None:
        super().__init__()
        self.network, self.beta = network, beta
        self.standardizer = ScoreStandardizer(score)
        self.latent_gmm = LatentGMM(components, beta.latent_dim)

    def encode(self, jets: JetInputs) -> LatentPosterior:
        """Posterior with a draw from it."""
        mean, log_var = self.network.encode(jets.x, jets.mask, jets.condition)
        return LatentPosterior(mean, log_var, mean + (0.5 * log_var).exp() * torch.randn_like(mean))

    def distance(self, latent: Tensor, jets: JetInputs) -> Tensor:
        """Of the jets decoded from latents (n, d) from what they are, (n,)."""
        return self.network.distance(self.network.decode(latent, jets.condition), jets.x, jets.mask).float()

    def forward_at_mean(self, jets: JetInputs) -> VAEOutput:
        """Everything, without a draw."""
        mean, log_var = self.network.encode(jets.x, jets.mask, jets.condition)
        kl = _latent_kl(mean, log_var)
        decoded = self.network.decode(mean, jets.condition)
        mse = self.network.distance(decoded, jets.x, jets.mask).float()
        scores = {
            "mse": mse,
            "kl": kl.sum(1),
            "nll": mse + self.beta.value * self.beta.reduce_kl(kl),
            "sumsq": jets.x.square().sum((1, 2)),
            "density": self.latent_gmm(mean),
        }
        return VAEOutput(mean, kl, decoded, scores)

    def score(self, jets: JetInputs, latent: LatentPosterior | None = None) -> Tensor:
        """The chosen score alone, (n,), of what `encode` has given, if it has."""
        if latent is None:
            mean, log_var = self.network.encode(jets.x, jets.mask, jets.condition)
            latent = LatentPosterior(mean, log_var, mean)
        if self.standardizer.score == "sumsq":
            return jets.x.square().sum((1, 2))
        if self.standardizer.score == "density":
            return self.latent_gmm(latent.mean)  # type: ignore[no-any-return]
        kl = _latent_kl(latent.mean, latent.log_var)
        if self.standardizer.score == "kl":
            return kl.sum(1)
        mse = self.distance(latent.mean, jets)
        return mse if self.standardizer.score == "mse" else mse + self.beta.value * self.beta.reduce_kl(kl)

    def logit(self, jets: JetInputs) -> Tensor:
        """The chosen score as a logit, (n,)."""
        return self.standardizer(self.score(jets))  # type: ignore[no-any-return]


def _latent_kl(mean: Tensor, log_var: Tensor) -> Tensor:
    """KL of each dimension (n, d); near 0, where latents are not in use, float32 would leave a few digits."""
    wide = torch.float32 if mean.device.type == "mps" else torch.float64
    return gaussian_kl(LatentPosterior(mean.to(wide), log_var.to(wide), mean)).float()


@dataclass(frozen=True)
class JetVAELoss:
    """distance + beta KL of background, what outliers cost by each exposure, and the terms on the score.

    jets: flat rows -> Jets.  growing: how beta comes in.  exposures: by name; matched: the outliers drawn for
    those that ask for it.  epochs: of the stage.  Jets count by w r; terms see w alone.
    """

    vae: JetVAEModel
    make_jets: Callable[[Tensor], JetInputs]
    beta_schedule: AnnealingSchedule
    exposures: Mapping[str, Exposure]
    decorrelation_loss: DecorrelationLoss
    num_epochs: int
    matched_outliers: Mapping[str, MatchedOutliers] = field(default_factory=dict)

    def training_loss(self, batch: Batch, trainer: Trainer) -> dict[str, Tensor]:
        """What a batch of flat rows costs now."""
        self.decorrelation_loss.update_multipliers(trainer)
        inside = batch.take((batch.y == 0).nonzero()[:, 0])
        jets = self.make_jets(inside.x)
        latent = self.vae.encode(jets)
        known = JetLosses(
            self.vae.distance(latent.sample, jets), gaussian_kl(latent), inside.w * inside.loss_weight
        )
        share = self.beta_schedule.value(trainer.progress, num_epochs=self.num_epochs)
        bill = {
            "mse": weighted_mean(known.mse, known.w),
            "kl": share * self.vae.beta.value * weighted_mean(self.vae.beta.reduce_kl(known.kl), known.w),
        }
        bill |= self._exposure_losses(batch, known, trainer)
        return bill | self._decorrelation_penalties(jets, latent, inside, trainer)

    def validation_loss(self, batch: Batch) -> dict[str, Tensor]:
        """The bill of validation events at full strength, without what terms cost."""
        inside, outside = batch.take(batch.y == 0), batch.take(batch.y == 1)
        known = self._jet_losses(inside, reconstruct=True)
        bill = {
            "reconstruction": weighted_mean(known.mse, known.w),
            "kl": self.vae.beta.value * weighted_mean(self.vae.beta.reduce_kl(known.kl), known.w),
        }
        for name, exposure in self.exposures.items():
            own = (
                self.matched_outliers[name].with_spectrum_weights(outside)
                if name in self.matched_outliers
                else outside
            )
            bill[name] = self._exposure_loss(exposure, own, known)
        return bill

    def schedules_complete(self, epoch: int) -> bool:
        """Whether every weight was full during this epoch."""
        every = [self.beta_schedule, *(one.schedule for one in self.exposures.values())]
        return all(one.is_full(epoch, num_epochs=self.num_epochs) for one in every)

    def _exposure_losses(self, batch: Batch, background: JetLosses, trainer: Trainer) -> dict[str, Tensor]:
        bill = {}
        outside = batch.take((batch.y == 1).nonzero()[:, 0]) if self.exposures else batch
        epoch = min(self.num_epochs - 1, int(trainer.progress * self.num_epochs + 1e-9))
        for name, exposure in self.exposures.items():
            share = exposure.schedule.value(trainer.progress, num_epochs=self.num_epochs)
            if not share or not exposure.strength:
                bill[name] = background.kl.new_zeros(())
                continue
            own = outside
            if name in self.matched_outliers:
                own = self.matched_outliers[name].draw_batch(
                    len(outside.y), epoch=epoch, iteration=trainer.iteration
                )
            bill[name] = share * self._exposure_loss(exposure, own, background)
        return bill

    def _exposure_loss(self, exposure: Exposure, outliers: Batch, background: JetLosses) -> Tensor:
        if not len(outliers.y):
            return background.kl.sum() * 0
        return exposure.strength * safe_loss(
            exposure, self._jet_losses(outliers, reconstruct=exposure.needs_reconstruction), background
        )

    def _jet_losses(self, batch: Batch, *, reconstruct: bool) -> JetLosses:
        jets = self.make_jets(batch.x)
        latent = self.vae.encode(jets)
        kl = gaussian_kl(latent)
        mse = self.vae.distance(latent.sample, jets) if reconstruct else kl.new_zeros(0)
        return JetLosses(mse, kl, batch.w * batch.loss_weight)

    def _decorrelation_penalties(
        self, jets: JetInputs, latent: LatentPosterior, background: Batch, trainer: Trainer
    ) -> dict[str, Tensor]:
        if not self.decorrelation_loss.items():
            return {}
        score = self.vae.score(jets, latent)
        self.vae.standardizer.update(score, background.w)
        return self.decorrelation_loss.compute_penalties(self.vae.standardizer(score), background, trainer)
