"""What every latent term shares.

Kullback-Leibler divergence from the prior, weighed or held at a capacity.

Supervised alignment of sensitive dimensions with nuisances.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from hepdecorr.errors import InputError, suggest
from hepdecorr.training.data.batches import Batch
from hepdecorr.training.losses.base import weighted_mean
from hepdecorr.training.losses.nuisance_transform import NuisanceTransform
from hepdecorr.training.losses.schedules import Schedule
from hepdecorr.training.vae.base import LatentPosterior, LatentTerm
from hepdecorr.training.vae.discrete_latents import DiscreteValues, categorical_cross_entropy, categorical_kl


class KL(LatentTerm):
    """beta x KL(q(latent|x) || prior), summed over dimensions, in closed form; beta = 1 is the ELBO's.

    beta above 1 is the beta-VAE's (Higgins et al., ICLR 2017, eq. 4).  The KL of discrete latents counts too.
    """

    def __init__(
        self, beta: float = 1.0, *, start: float = 0.0, ramp: float = 0.0, classes: str = "all"
    ) -> None:
        super().__init__(schedule=Schedule(float(beta), start, ramp), classes=classes)

    def penalty(self, latent: LatentPosterior, batch: Batch) -> Tensor:
        """Mean over events, in nats."""
        latent, batch = self.select_events(latent, batch)
        nats = gaussian_kl(latent).sum(1)
        for classes in latent.categorical:
            nats = nats + categorical_kl(classes)
        return weighted_mean(nats, batch.w)


class Capacity(LatentTerm):
    """gamma |KL - C(t)|: C grows evenly from 0 to `capacity` nats over the fraction `ramp` of the training.

    Burgess et al. (1804.03599, eq. 8), KL the mean over the batch.  Discrete latents are held at a capacity
    of their own, as in JointVAE (Dupont, 1804.00104, eq. 7): `discrete` nats each, at most log C.
    """

    def __init__(
        self,
        gamma: float = 100.0,
        *,
        capacity: float = 25.0,
        discrete: float = float("inf"),
        ramp: float = 0.5,
        classes: str = "all",
    ) -> None:
        super().__init__(schedule=Schedule(float(gamma), 0.0, 0.0), classes=classes)
        if capacity < 0 or discrete < 0 or not 0 <= ramp <= 1:
            raise InputError(
                "Capacity: capacity and discrete are nats and cannot be negative, ramp is a fraction of the "
                f"training from 0 to 1; they are {capacity:g}, {discrete:g} and {ramp:g}"
            )
        self.capacity, self.discrete, self.ramp = float(capacity), float(discrete), float(ramp)

    @property
    def warmup_end(self) -> float:
        """When the capacity is full."""
        return self.ramp

    def penalty(self, latent: LatentPosterior, batch: Batch) -> Tensor:
        """The misses at full capacity, in nats."""
        return self._capacity_gap(latent, batch, capacity_fraction=1.0)

    def weighted_penalty(self, latent: LatentPosterior, batch: Batch, *, progress: float) -> Tensor:
        """gamma times the misses at the capacity of this moment."""
        share = min(1.0, progress / self.ramp) if self.ramp else 1.0
        return self.schedule.strength * self._capacity_gap(latent, batch, capacity_fraction=share)

    def _capacity_gap(self, latent: LatentPosterior, batch: Batch, *, capacity_fraction: float) -> Tensor:
        latent, batch = self.select_events(latent, batch)
        missed = (
            weighted_mean(gaussian_kl(latent).sum(1), batch.w) - capacity_fraction * self.capacity
        ).abs()
        for classes in latent.categorical:
            # The most that a class can tell, whatever was asked.
            most = min(self.discrete, math.log(classes.logits.shape[1]))
            missed = (
                missed + (weighted_mean(categorical_kl(classes), batch.w) - capacity_fraction * most).abs()
            )
        return missed


def gaussian_kl(latent: LatentPosterior) -> Tensor:
    """KL of each dimension's posterior from a unit Gaussian, (n, d), in nats."""
    return 0.5 * (latent.mean**2 + latent.log_var.exp() - 1 - latent.log_var)


ALIGNMENT_FORMS = ("probit", "bernoulli")


class SupervisedAlignment(LatentTerm):
    """Sensitive dimension i is made to carry nuisance i; v is the nuisance's background rank.

    form 'bernoulli': minus R_s of Tan, Urquijo (2020, eq. 6), cross-entropy of v and sigmoid(mean).
    Its optimum, mean = logit(v), has deviation 1.81 and is at odds with the prior.  form 'probit':
    squared distance of the mean from Phi^-1(v), which fits the prior exactly.  A nuisance of few values has a
    discrete latent instead, and pays its cross-entropy with the true value.  signal: weight of signal events
    beside background's 1.
    """

    def __init__(
        self,
        strength: float = 20.0,
        *,
        nuisances: Sequence[str],
        sensitive: int,
        num_values: Sequence[int] = (),
        form: str = "probit",
        signal_weight: float = 0.2,
        start: float = 0.0,
        ramp: float = 0.0,
    ) -> None:
        super().__init__(schedule=Schedule(float(strength), start, ramp))
        if form not in ALIGNMENT_FORMS:
            raise InputError(f"SupervisedAlignment: no form {form!r}{suggest(form, ALIGNMENT_FORMS)}")
        counts = tuple(num_values) or (0,) * len(nuisances)
        if sensitive < counts.count(0):
            raise InputError(
                f"SupervisedAlignment: {counts.count(0)} nuisances need as many sensitive latents, "
                f"not {sensitive}"
            )
        self.form, self.signal_weight = form, float(signal_weight)
        self.nuisance_transforms = nn.ModuleList(
            DiscreteValues(count, name=name)
            if count
            else NuisanceTransform("probit" if form == "probit" else "rank")
            for name, count in zip(nuisances, counts, strict=True)
        )

    def fit(self, batch: Batch, *, num_events: int) -> None:  # noqa: ARG002
        """Ranks from background."""
        background = batch.y == 0
        for k, scaling in enumerate(self.nuisance_transforms):
            if isinstance(scaling, DiscreteValues):
                scaling.fit(batch.z[:, k])
            else:
                scaling.fit(batch.z[background, k], batch.w[background])  # type: ignore[operator]

    def penalty(self, latent: LatentPosterior, batch: Batch) -> Tensor:
        """Sum over nuisances of the mean over background plus `signal` x the mean over signal."""
        price = latent.mean.new_zeros(())
        background = batch.w * (batch.y == 0)
        for distance in self._alignment_losses(latent, batch):
            price = price + weighted_mean(distance, background)
            if self.signal_weight:
                price = price + self.signal_weight * weighted_mean(distance, batch.w - background)
        return price

    def _alignment_losses(self, latent: LatentPosterior, batch: Batch) -> Iterator[Tensor]:
        """Of each nuisance, how far its latent is from it, (n,)."""
        single, discrete = iter(latent.mean.T), iter(latent.categorical)
        for k, scaling in enumerate(self.nuisance_transforms):
            v = scaling(batch.z[:, k])
            if isinstance(scaling, DiscreteValues):
                yield categorical_cross_entropy(next(discrete), v)
            elif self.form == "probit":
                yield (next(single) - v) ** 2
            else:
                yield F.binary_cross_entropy_with_logits(next(single), v, reduction="none")
