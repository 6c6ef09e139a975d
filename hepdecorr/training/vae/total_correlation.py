"""Total correlation between the sensitive latents and the others, by an estimator of choice.

Estimators of the dependence between blocks of latents, for TotalCorrelation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hepdecorr import registry
from hepdecorr.errors import InputError, located, suggest
from hepdecorr.training.data.batches import Batch
from hepdecorr.training.losses.base import weighted_mean
from hepdecorr.training.losses.information import UNIT_GAUSSIAN_ENTROPY, differential_entropy
from hepdecorr.training.losses.nuisance_transform import NuisanceTransform
from hepdecorr.training.losses.predictive_adversaries import bin_index, init_mixture_components, mixture_nll
from hepdecorr.training.losses.schedules import AdversaryUpdate, Schedule
from hepdecorr.training.networks.mlp import mlp_layers
from hepdecorr.training.optim import full_precision
from hepdecorr.training.vae.base import LatentLayout, LatentPosterior, LatentTerm
from hepdecorr.training.vae.discrete_latents import DiscreteValues
from hepdecorr.training.vae.tc_decomposition import stratified_total_correlation

__all__ = ["ConditionalCritic", "DensityRatio", "DistanceCorrelation", "StratifiedSampling"]


ESTIMATORS_MODULE = "hepdecorr.training.vae.total_correlation"


class TotalCorrelation(LatentTerm):
    """beta x the dependence between the sensitive latents and the rest; `of: all`, among all.

    estimator (a name, or `{type: name, ...}`):
    Stratified, as published: blind in more than a few dimensions, where it tends to I(x; z_S) whatever
    the dependence.  Ratio: a critic tells joint from shuffled latents (FactorVAE).  Conditional: a
    critic guesses the nuisance (or z_S) from the rest: bounds I(nuisance; rest), a stand-in for TC.
    Distance: squared distance correlation, which loses power in more than about eight dimensions.
    """

    def __init__(
        self,
        beta: float = 400.0,
        *,
        latent_dim: int,
        sensitive: int,
        nuisances: Sequence[str],
        num_values: Sequence[int] = (),
        estimator: str | Mapping[str, Any] = "ConditionalCritic",
        dimensions: str = "sensitive",
        start: float = 1 / 12,
        ramp: float = 1 / 6,
        classes: str = "background",
        base: Any = None,
    ) -> None:
        super().__init__(schedule=Schedule(float(beta), start, ramp), classes=classes)
        if dimensions not in ("sensitive", "all"):
            raise InputError(f"TotalCorrelation: dimensions must be sensitive or all, not {dimensions!r}")
        layout = LatentLayout(
            latent_dim, sensitive if dimensions == "sensitive" else latent_dim, list(nuisances), num_values
        )
        with located("estimator"):
            self.estimator = registry.build(
                estimator, namespace=ESTIMATORS_MODULE, base=base, layout=layout, start=start
            )
        self.critic_update = getattr(self.estimator, "critic_update", None)

    def fit(self, batch: Batch, *, num_events: int) -> None:
        """Passed on to the estimator."""
        seen = (
            num_events if self.classes == "all" else round(num_events * float((batch.y == 0).float().mean()))
        )
        self.estimator.fit(batch, num_events=seen)

    def penalty(self, latent: LatentPosterior, batch: Batch) -> Tensor:
        """In nats, but for Distance."""
        return self.estimator.penalty(*self.select_events(latent, batch))  # type: ignore[no-any-return]

    def critic_loss(self, latent: LatentPosterior, batch: Batch) -> Tensor:
        """The critic's loss."""
        return self.estimator.critic_loss(*self.select_events(latent, batch))  # type: ignore[no-any-return]

    def baseline_loss(self, latent: LatentPosterior, batch: Batch) -> float | None:
        """The loss of a blind critic, where it is known."""
        if self.critic_update is None:
            return None
        return self.estimator.baseline_loss(*self.select_events(latent, batch))  # type: ignore[no-any-return]


class StratifiedSampling(nn.Module):
    """Minibatch stratified sampling (Chen et al. 1802.04942, appendix C.2)."""

    def __init__(self, *, layout: LatentLayout) -> None:
        super().__init__()
        self.layout, self.num_events = layout, 0

    def fit(self, batch: Batch, *, num_events: int) -> None:  # noqa: ARG002
        self.num_events = num_events

    def penalty(self, latent: LatentPosterior, batch: Batch) -> Tensor:
        return stratified_total_correlation(
            latent, sensitive=self.layout.sensitive, num_events=self.num_events, w=batch.w
        )


class DensityRatio(nn.Module):
    """A critic D tells z from z with each sensitive dimension shuffled over the batch.

    At its optimum D is the log density ratio and E[D(z)] the total correlation (Kim, Mnih 1802.05983,
    eqs. 2-3, there with all dimensions shuffled).  As in their algorithm 2 the shuffled events are others
    than those they are told from: one half of the critic's batch each.
    """

    def __init__(
        self,
        *,
        layout: LatentLayout,
        start: float,
        hidden: Sequence[int] = (128, 128),
        steps_per_batch: int = 5,
        batch_size: int = 1024,
        optimizer: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.sensitive = layout.sensitive
        self.net = mlp_layers(layout.latent_dim, 1, hidden=hidden)
        self.critic_update = AdversaryUpdate(
            steps_per_batch, batch_size, start=start, optimizer=optimizer, where="DensityRatio"
        )

    def fit(self, batch: Batch, *, num_events: int) -> None:
        pass

    def penalty(self, latent: LatentPosterior, batch: Batch) -> Tensor:
        return weighted_mean(self.net(latent.sample).squeeze(-1), batch.w.clamp_min(0))

    def critic_loss(self, latent: LatentPosterior, batch: Batch) -> Tensor:
        # Every other event, so that both halves have the same share of signal.
        z, other = latent.sample[::2], latent.sample[1::2]
        w, other_w = batch.w[::2].clamp_min(0), batch.w[1::2].clamp_min(0)
        orders = _draw_permutations(other_w, self.sensitive)
        moved = torch.stack([other[order, k] for k, order in enumerate(orders)], 1)
        shuffled = torch.cat([moved, other[:, self.sensitive :]], 1)
        joint = F.softplus(-self.net(z)).squeeze(-1)
        apart = F.softplus(self.net(shuffled)).squeeze(-1)
        w_apart = other_w if self.sensitive < z.shape[1] else torch.ones_like(other_w)
        return 0.5 * (weighted_mean(joint, w) + weighted_mean(apart, w_apart))

    def baseline_loss(self, latent: LatentPosterior, batch: Batch) -> float:  # noqa: ARG002
        return math.log(2)


class ConditionalCritic(nn.Module):
    """A critic q(target | rest), a Gaussian mixture or a softmax over quantile bins.

    E[log q] + H(target) is a lower bound of I(target; rest) (Barber, Agakov 2003), tight for a good
    critic.  target 'nuisance': the background rank itself, which stands in for the z_S that is aligned with
    it: then this is not the published TC_S but I(nuisance; rest), and it uses the nuisance and, by
    `given: background`, the class label; signal is not looked at.  'latent': z_S, whose entropy is taken as
    that of a unit Gaussian.  Several targets are summed, which bounds no joint information.
    sees 'mean': the posterior means, which are what the classifier is given later (independent samples
    do not make independent means); or 'sample'.  A nuisance of few values is guessed by a softmax over them.
    """

    def __init__(
        self,
        *,
        layout: LatentLayout,
        start: float,
        density: str = "gmm",
        target: str = "nuisance",
        critic_input: str = "mean",
        components: int = 8,
        bins: int = 20,
        hidden: Sequence[int] = (128, 128),
        steps_per_batch: int = 5,
        batch_size: int = 1024,
        optimizer: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        kinds = (
            (density, ("gmm", "softmax")),
            (target, ("nuisance", "latent")),
            (critic_input, ("mean", "sample")),
        )
        for value, known in kinds:
            if value not in known:
                raise InputError(f"Conditional: no {value!r}{suggest(value, known)}")
        rest = layout.latent_dim - layout.sensitive
        if rest < 1 or (target == "latent" and density == "softmax"):
            raise InputError(
                "Conditional: it needs latents beside the sensitive ones, and density gmm for target latent"
            )
        self.density, self.target, self.critic_input, self.bins = density, target, critic_input, bins
        self.sensitive = layout.sensitive
        counts = tuple(layout.num_values) or (0,) * len(layout.nuisances)
        self.num_values = counts if target == "nuisance" else (0,) * layout.sensitive
        self.output_sizes = [
            count or (3 * components if density == "gmm" else bins) for count in self.num_values
        ]
        self.net = mlp_layers(rest, sum(self.output_sizes), hidden=hidden)
        if density == "gmm" and not any(self.num_values):
            init_mixture_components(cast("nn.Linear", self.net[-1]), components)
        self.nuisance_transforms = nn.ModuleList(
            DiscreteValues(count, name=name)
            if count
            else NuisanceTransform("probit" if density == "gmm" else "rank")
            for name, count in zip(layout.nuisances, counts, strict=True)
        )
        self.critic_update = AdversaryUpdate(
            steps_per_batch, batch_size, start=start, optimizer=optimizer, where="ConditionalCritic"
        )

    def fit(self, batch: Batch, *, num_events: int) -> None:  # noqa: ARG002
        background = batch.y == 0
        for k, scaling in enumerate(self.nuisance_transforms):
            if isinstance(scaling, DiscreteValues):
                scaling.fit(batch.z[:, k])
            else:
                scaling.fit(batch.z[background, k], batch.w[background])  # type: ignore[operator]

    def critic_loss(self, latent: LatentPosterior, batch: Batch) -> Tensor:
        return weighted_mean(self._event_nll(latent, batch), batch.w)

    def penalty(self, latent: LatentPosterior, batch: Batch) -> Tensor:
        targets = self._targets(latent, batch)
        blind = UNIT_GAUSSIAN_ENTROPY if self.density == "gmm" else math.log(self.bins)
        entropy = sum(
            categorical_entropy(t, batch.w, count) if count else blind
            for t, count in zip(targets.T, self.num_values, strict=True)
        )
        return entropy - self.critic_loss(latent, batch)

    def baseline_loss(self, latent: LatentPosterior, batch: Batch) -> float:
        nats = 0.0
        for t, count in zip(self._targets(latent, batch).T, self.num_values, strict=True):
            if count:
                nats += categorical_entropy(t, batch.w, count)
            else:
                nats += differential_entropy(t, batch.w) if self.density == "gmm" else math.log(self.bins)
        return nats

    def _targets(self, latent: LatentPosterior, batch: Batch) -> Tensor:
        if self.target == "latent":
            return latent.sample[:, : self.sensitive]
        return torch.stack([scaling(batch.z[:, k]) for k, scaling in enumerate(self.nuisance_transforms)], 1)

    def _event_nll(self, latent: LatentPosterior, batch: Batch) -> Tensor:
        rest = (latent.mean if self.critic_input == "mean" else latent.sample)[:, self.sensitive :]
        answers, targets = self.net(rest).split(self.output_sizes, 1), self._targets(latent, batch)
        nats = torch.zeros_like(rest[:, 0])
        for answer, target, count in zip(answers, targets.T, self.num_values, strict=True):
            if count:
                nats = nats + F.cross_entropy(answer.float(), target.long(), reduction="none")
            elif self.density == "gmm":
                nats = nats + mixture_nll(answer, target)
            else:
                nats = nats + F.cross_entropy(answer.float(), bin_index(target, self.bins), reduction="none")
        return nats


class DistanceCorrelation(nn.Module):
    """Squared distance correlation between the nuisances' background ranks and the remaining means."""

    def __init__(self, *, layout: LatentLayout) -> None:
        super().__init__()
        self.sensitive = layout.sensitive
        self.nuisance_transforms = nn.ModuleList(NuisanceTransform("rank") for _ in layout.nuisances)

    def fit(self, batch: Batch, *, num_events: int) -> None:  # noqa: ARG002
        background = batch.y == 0
        for k, scaling in enumerate(self.nuisance_transforms):
            scaling.fit(batch.z[background, k], batch.w[background])  # type: ignore[operator]

    def penalty(self, latent: LatentPosterior, batch: Batch) -> Tensor:
        z = torch.stack([scaling(batch.z[:, k]) for k, scaling in enumerate(self.nuisance_transforms)], 1)
        return block_distance_correlation(latent.mean[:, self.sensitive :], z, batch.w)


def _draw_permutations(w: Tensor, num_permutations: int) -> list[Tensor]:
    """`count` times the events in an order by lot, or where their weights differ events drawn by weight.

    To weigh a shuffled event by all those it is made of would do as well on average; but a product of ten
    weights is mostly noise.
    """
    if not w.sum() > 0 or (w == w[0]).all():
        return [torch.randperm(len(w), device=w.device) for _ in range(num_permutations)]
    return [torch.multinomial(w, len(w), replacement=True) for _ in range(num_permutations)]


def categorical_entropy(index: Tensor, w: Tensor, num_classes: int) -> float:
    """Entropy in nats of classes numbered from 0, (n,), by their shares of the weight."""
    shares = torch.zeros(num_classes, device=w.device).index_add(0, index.long(), w.float().clamp_min(0))
    shares = shares / shares.sum().clamp_min(torch.finfo(shares.dtype).tiny)
    return float(-torch.xlogy(shares, shares).sum())


def block_distance_correlation(s: Tensor, z: Tensor, w: Tensor) -> Tensor:
    """Weighted squared distance correlation of vectors (n, p) and (n, q) (Szekely et al. 2007)."""
    w = w / w.sum()

    def centred(t: Tensor) -> Tensor:
        # No n x n x p of differences, and a gradient of 0 where two points coincide.
        a = torch.cdist(t, t, compute_mode="donot_use_mm_for_euclid_dist")
        row = a @ w
        return a - row[:, None] - row[None] + w @ row

    with full_precision(s):
        a, b, pairs = centred(s), centred(z), w[:, None] * w[None]
        scale = ((pairs * a * a).sum() * (pairs * b * b).sum() + 1e-20).sqrt()
        return (pairs * a * b).sum() / scale
