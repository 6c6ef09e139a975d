"""Estimators of the dependence between blocks of latents, for TotalCorrelation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hepdecorr.catalogue import suggest
from hepdecorr.errors import InputError
from hepdecorr.learning.batches import Batch
from hepdecorr.learning.latents.decomposition import total_correlation
from hepdecorr.learning.latents.discrete import Values
from hepdecorr.learning.latents.term import Latent, Layout, weighted_mean
from hepdecorr.learning.networks.mlp import layers
from hepdecorr.learning.precision import in_full
from hepdecorr.learning.terms.entropy import UNIT_GAUSSIAN, differential_entropy
from hepdecorr.learning.terms.gmm import mixture_loss, spread_components
from hepdecorr.learning.terms.nuisance import Nuisance
from hepdecorr.learning.terms.softmax import bin_of
from hepdecorr.learning.terms.strength import Chasing

__all__ = ["Conditional", "Distance", "Ratio", "Stratified"]


class Stratified(nn.Module):
    """Minibatch stratified sampling (Chen et al. 1802.04942, appendix C.2)."""

    def __init__(self, *, layout: Layout) -> None:
        super().__init__()
        self.layout, self.rows = layout, 0

    def fit(self, b: Batch, *, rows: int) -> None:  # noqa: ARG002
        self.rows = rows

    def price(self, latent: Latent, b: Batch) -> Tensor:
        return total_correlation(latent, sensitive=self.layout.sensitive, rows=self.rows, w=b.w)


class Ratio(nn.Module):
    """A critic D tells z from z with each sensitive dimension shuffled over the batch.

    At its optimum D is the log density ratio and E[D(z)] the total correlation (Kim, Mnih 1802.05983,
    eqs. 2-3, there with all dimensions shuffled).  As in their algorithm 2 the shuffled events are others
    than those they are told from: one half of the critic's batch each.
    """

    def __init__(
        self,
        *,
        layout: Layout,
        start: float,
        hidden: Sequence[int] = (128, 128),
        steps: int = 5,
        batch: int = 1024,
        moves: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.sensitive = layout.sensitive
        self.net = layers(layout.latents, 1, hidden=hidden)
        self.chasing = Chasing(steps, batch, start=start, moves=moves, where="Ratio")

    def fit(self, b: Batch, *, rows: int) -> None:
        pass

    def price(self, latent: Latent, b: Batch) -> Tensor:
        return weighted_mean(self.net(latent.sample).squeeze(-1), b.w.clamp_min(0))

    def chase(self, latent: Latent, b: Batch) -> Tensor:
        # Every other event, so that both halves have the same share of signal.
        z, other = latent.sample[::2], latent.sample[1::2]
        w, other_w = b.w[::2].clamp_min(0), b.w[1::2].clamp_min(0)
        orders = _shuffles(other_w, self.sensitive)
        moved = torch.stack([other[order, k] for k, order in enumerate(orders)], 1)
        shuffled = torch.cat([moved, other[:, self.sensitive :]], 1)
        joint = F.softplus(-self.net(z)).squeeze(-1)
        apart = F.softplus(self.net(shuffled)).squeeze(-1)
        w_apart = other_w if self.sensitive < z.shape[1] else torch.ones_like(other_w)
        return 0.5 * (weighted_mean(joint, w) + weighted_mean(apart, w_apart))

    def floor(self, latent: Latent, b: Batch) -> float:  # noqa: ARG002
        return math.log(2)


class Conditional(nn.Module):
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
        layout: Layout,
        start: float,
        density: str = "gmm",
        target: str = "nuisance",
        sees: str = "mean",
        components: int = 8,
        bins: int = 20,
        hidden: Sequence[int] = (128, 128),
        steps: int = 5,
        batch: int = 1024,
        moves: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        kinds = ((density, ("gmm", "softmax")), (target, ("nuisance", "latent")), (sees, ("mean", "sample")))
        for value, known in kinds:
            if value not in known:
                raise InputError(f"Conditional: no {value!r}{suggest(value, known)}")
        rest = layout.latents - layout.sensitive
        if rest < 1 or (target == "latent" and density == "softmax"):
            raise InputError(
                "Conditional: it needs latents beside the sensitive ones, and density gmm for target latent"
            )
        self.density, self.target, self.sees, self.bins = density, target, sees, bins
        self.sensitive = layout.sensitive
        counts = tuple(layout.values) or (0,) * len(layout.nuisances)
        self.counts = counts if target == "nuisance" else (0,) * layout.sensitive
        self.sizes = [count or (3 * components if density == "gmm" else bins) for count in self.counts]
        self.net = layers(rest, sum(self.sizes), hidden=hidden)
        if density == "gmm" and not any(self.counts):
            spread_components(cast("nn.Linear", self.net[-1]), components)
        self.scalings = nn.ModuleList(
            Values(count, name=name) if count else Nuisance("probit" if density == "gmm" else "rank")
            for name, count in zip(layout.nuisances, counts, strict=True)
        )
        self.chasing = Chasing(steps, batch, start=start, moves=moves, where="Conditional")

    def fit(self, b: Batch, *, rows: int) -> None:  # noqa: ARG002
        background = b.y == 0
        for k, scaling in enumerate(self.scalings):
            if isinstance(scaling, Values):
                scaling.fit(b.z[:, k])
            else:
                scaling.fit(b.z[background, k], b.w[background])  # type: ignore[operator]

    def chase(self, latent: Latent, b: Batch) -> Tensor:
        return weighted_mean(self._loss(latent, b), b.w)

    def price(self, latent: Latent, b: Batch) -> Tensor:
        targets = self._targets(latent, b)
        blind = UNIT_GAUSSIAN if self.density == "gmm" else math.log(self.bins)
        entropy = sum(
            shares_entropy(t, b.w, count) if count else blind
            for t, count in zip(targets.T, self.counts, strict=True)
        )
        return entropy - self.chase(latent, b)

    def floor(self, latent: Latent, b: Batch) -> float:
        nats = 0.0
        for t, count in zip(self._targets(latent, b).T, self.counts, strict=True):
            if count:
                nats += shares_entropy(t, b.w, count)
            else:
                nats += differential_entropy(t, b.w) if self.density == "gmm" else math.log(self.bins)
        return nats

    def _targets(self, latent: Latent, b: Batch) -> Tensor:
        if self.target == "latent":
            return latent.sample[:, : self.sensitive]
        return torch.stack([scaling(b.z[:, k]) for k, scaling in enumerate(self.scalings)], 1)

    def _loss(self, latent: Latent, b: Batch) -> Tensor:
        rest = (latent.mean if self.sees == "mean" else latent.sample)[:, self.sensitive :]
        answers, targets = self.net(rest).split(self.sizes, 1), self._targets(latent, b)
        nats = torch.zeros_like(rest[:, 0])
        for answer, target, count in zip(answers, targets.T, self.counts, strict=True):
            if count:
                nats = nats + F.cross_entropy(answer.float(), target.long(), reduction="none")
            elif self.density == "gmm":
                nats = nats + mixture_loss(answer, target)
            else:
                nats = nats + F.cross_entropy(answer.float(), bin_of(target, self.bins), reduction="none")
        return nats


class Distance(nn.Module):
    """Squared distance correlation between the nuisances' background ranks and the remaining means."""

    def __init__(self, *, layout: Layout) -> None:
        super().__init__()
        self.sensitive = layout.sensitive
        self.scalings = nn.ModuleList(Nuisance("rank") for _ in layout.nuisances)

    def fit(self, b: Batch, *, rows: int) -> None:  # noqa: ARG002
        background = b.y == 0
        for k, scaling in enumerate(self.scalings):
            scaling.fit(b.z[background, k], b.w[background])  # type: ignore[operator]

    def price(self, latent: Latent, b: Batch) -> Tensor:
        z = torch.stack([scaling(b.z[:, k]) for k, scaling in enumerate(self.scalings)], 1)
        return block_distance_correlation(latent.mean[:, self.sensitive :], z, b.w)


def _shuffles(w: Tensor, count: int) -> list[Tensor]:
    """`count` times the events in an order by lot, or where their weights differ events drawn by weight.

    To weigh a shuffled event by all those it is made of would do as well on average; but a product of ten
    weights is mostly noise.
    """
    if not w.sum() > 0 or (w == w[0]).all():
        return [torch.randperm(len(w), device=w.device) for _ in range(count)]
    return [torch.multinomial(w, len(w), replacement=True) for _ in range(count)]


def shares_entropy(index: Tensor, w: Tensor, count: int) -> float:
    """Entropy in nats of classes numbered from 0, (n,), by their shares of the weight."""
    shares = torch.zeros(count, device=w.device).index_add(0, index.long(), w.float().clamp_min(0))
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

    with in_full(s):
        a, b, pairs = centred(s), centred(z), w[:, None] * w[None]
        scale = ((pairs * a * a).sum() * (pairs * b * b).sum() + 1e-20).sqrt()
        return (pairs * a * b).sum() / scale
