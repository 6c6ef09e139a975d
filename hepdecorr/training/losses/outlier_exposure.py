"""Outliers drawn so that their spectrum is the background's.

What every outlier exposure shares.

Exposure of the latents.

Exposure of the reconstruction.
"""

from __future__ import annotations

import logging
import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from hepdecorr.errors import InputError, suggest
from hepdecorr.training.data.batches import Batch
from hepdecorr.training.data.reweighting import Reweighting
from hepdecorr.training.losses.base import weighted_mean
from hepdecorr.training.losses.schedules import AnnealingSchedule

log = logging.getLogger(__name__)

__all__ = ["KLOE", "MSEOE"]


MATCHING_METHODS = ("resample",)
REDRAW_CHOICES = ("epoch", "once")
MIN_EFFECTIVE_OUTLIERS = 200  # effective outliers below which a warning is given
EPOCH_SEED_STRIDE = 7919  # between the seeds of two epochs


@dataclass(frozen=True)
class MatchingConfig:
    """How outliers are brought to the background's spectrum of `nuisance`, one or two of them.

    how: 'resample' draws them, with replacement, as often as the ratio of the spectra and their weights say
    (the author's code trains on outliers that are distributed as the background is; the slides weigh them,
    which here is the tagger's block `reweight`).  refresh: draw again each 'epoch', or 'once'.  bins, cap:
    of the ratio, see Reweighting.
    """

    nuisance: tuple[str, ...] = ()
    method: str = "resample"
    redraw: str = "epoch"
    bins: int = 40
    cap: float = 50.0

    @classmethod
    def from_config(cls, spec: Mapping[str, Any], *, where: str) -> Self:
        """From the block `match`."""
        known = [f.name for f in fields(cls)]
        if not isinstance(spec, Mapping):
            raise InputError(
                f"{where} must say in what, as {{nuisance: mass, method: resample}}, not {spec!r}"
            )
        for key in spec:
            if key not in known:
                raise InputError(f"{where}: there is no {key!r}{suggest(str(key), known)}")
        for key, allowed in (("method", MATCHING_METHODS), ("redraw", REDRAW_CHOICES)):
            if key in spec and spec[key] == "reweight":
                raise InputError(
                    f"{where}: for weights write, beside 'exposure', reweight: {{nuisances: "
                    "[NAME], classes: signal, target: background}"
                )
            if key in spec and spec[key] not in allowed:
                raise InputError(f"{where}: {key}: no {spec[key]!r}{suggest(str(spec[key]), allowed)}")
        given = spec.get("nuisance", ())
        names = (given,) if isinstance(given, str) else tuple(given)
        return cls(**{**spec, "nuisance": names})

    def to_reweighting(self, nuisances: Sequence[str]) -> Reweighting:
        """The same as weights; InputError where a nuisance is none."""
        spec = {"nuisances": list(self.nuisance), "bins": self.bins, "cap": self.cap}
        try:
            return Reweighting.from_config(
                spec | {"classes": "signal", "target": "background"}, table_nuisances=nuisances
            )
        except InputError as err:
            raise InputError(str(err).replace("reweight:", "exposure: match:", 1)) from err


class MatchedOutliers:
    """The outliers of a sample, matched: `take` gives as many as a batch wants.

    events: background and outliers that the ratio is found from, with nuisances of the names given.  All
    draws follow from `seed` and the epoch, so that a training that goes on draws what it would have drawn.
    """

    def __init__(self, config: MatchingConfig, events: Batch, *, nuisances: Sequence[str], seed: int) -> None:
        rule = config.to_reweighting(nuisances)
        self._columns = [list(nuisances).index(name) for name in config.nuisance]
        self._fitted_reweighting = rule.fit(*self._to_numpy(events))
        self._config, self._seed, self._epoch = config, seed, -1
        self._outliers = events.take((events.y == 1).nonzero()[:, 0])
        weighed = self.with_spectrum_weights(self._outliers)
        self._weight = weight = weighed.w.double().clamp_min(0) * weighed.loss_weight
        self._order = torch.zeros(0, dtype=torch.int64)
        warn_few_effective_events(weight, label="outliers matched in " + ", ".join(config.nuisance))

    def draw_batch(self, num_events: int, *, epoch: int, iteration: int) -> Batch:
        """So many outliers for this turn of the epoch, of weight one each."""
        once = self._config.redraw == "once"
        if self._epoch != (0 if once else epoch):
            self._epoch = 0 if once else epoch
            self._order = self._draw_order(
                Generator().manual_seed(self._seed + EPOCH_SEED_STRIDE * (self._epoch + 1))
            )
        place = (iteration * num_events + torch.arange(num_events, device=self._order.device)) % len(
            self._order
        )
        drawn = self._outliers.take(self._order[place])
        return drawn._replace(w=torch.ones_like(drawn.w), loss_weight=torch.ones_like(drawn.loss_weight))

    def with_spectrum_weights(self, outliers: Batch) -> Batch:
        """Outliers with the ratio of the spectra as their factor r, for where none is drawn."""
        factor = torch.as_tensor(
            self._fitted_reweighting(*self._to_numpy(outliers)), device=outliers.loss_weight.device
        )
        return outliers._replace(loss_weight=factor.to(outliers.loss_weight.dtype))

    def _to_numpy(self, batch: Batch) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Nuisances (n, k), labels and weights (n,)."""
        z, label, w = (
            t.cpu().numpy().astype(np.float64) for t in (batch.z[:, self._columns], batch.y, batch.w)
        )
        return z, label.astype(np.int64), w

    def _draw_order(self, generator: Generator) -> Tensor:
        """As many as there are, in equal steps of the weight from a random start, shuffled."""
        grown = self._weight.cumsum(0)
        steps = torch.arange(len(grown), dtype=torch.float64) + torch.rand(1, generator=generator).double()
        places = torch.searchsorted(grown, steps.to(grown.device) * (grown[-1] / len(grown)))
        mixed = torch.randperm(len(grown), generator=generator).to(grown.device)
        return places.clamp_max(len(grown) - 1)[mixed]


def warn_few_effective_events(weight: Tensor, *, label: str) -> float:
    """How many events of equal weight say as much (Kish); a warning where they are few."""
    w = weight.double()
    effective = float(w.sum() ** 2 / w.square().sum().clamp_min(1e-300))
    if effective < MIN_EFFECTIVE_OUTLIERS:
        log.warning(
            "%s: %d of them count as %.0f of equal weight; exposure to so few teaches these jets alone",
            label, len(w), effective,
        )  # fmt: skip
    return effective


class JetLosses(NamedTuple):
    """What an exposure sees of n jets."""

    mse: Tensor  # (n,), distance of what was decoded from a draw of the posterior; empty if not `decodes`
    kl: Tensor  # (n, d), of each latent dimension, in nats
    w: Tensor  # (n,)

    def take(self, index: Tensor | slice) -> JetLosses:
        """Those of the jets that `index` names."""
        return JetLosses(self.mse[index] if len(self.mse) else self.mse, self.kl[index], self.w[index])


class Exposure:
    """-L_OE of L = L_VAE - lambda L_OE (Cheng's slides, 'Outlier Exposure'; Hendrycks et al., 1812.04606).

    strength: lambda.  anneal: how it comes in, by default in cycles, as of Annealing.  form: what is
    compared, see the classes.  match: {nuisance: mass, method: resample}: outliers drawn so that their
    spectrum is the background's, see Matching; without it they count by their weights and by the factor that
    `reweight` gives.
    """

    comparisons: ClassVar[tuple[str, ...]] = ()
    needs_reconstruction: ClassVar[bool] = False  # whether it looks at the reconstruction of outliers

    def __init__(
        self,
        *,
        strength: float = 2.0,
        compare: str = "batch",
        anneal: Mapping[str, Any] | str = "cyclic",
        match: Mapping[str, Any] | None = None,
    ) -> None:
        name = type(self).__name__
        if not 0 <= strength < float("inf"):
            raise InputError(
                f"{name}: strength is {strength:g}; it must be finite and not negative, or the network would "
                "be paid for taking outliers for background"
            )
        if compare not in self.comparisons:
            raise InputError(f"{name}: no form {compare!r}{suggest(str(compare), self.comparisons)}")
        self.strength, self.compare = float(strength), compare
        self.schedule = AnnealingSchedule.from_config(anneal, where=f"{name}: anneal")
        self.matching = (
            MatchingConfig.from_config(match, where=f"{name}: match") if match is not None else None
        )

    @abstractmethod
    def loss(self, outliers: JetLosses, background: JetLosses) -> Tensor:
        """-L_OE, scalar, of outliers and background of a batch, neither of them without weight."""


def safe_loss(exposure: Exposure, outliers: JetLosses, background: JetLosses) -> Tensor:
    """The price, 0 with gradient 0 where a batch has no outliers or no background."""
    if not (len(outliers.w) and len(background.w)) or not (outliers.w.sum() > 0 and background.w.sum() > 0):
        return (outliers.kl.sum() + background.kl.sum()) * 0
    return exposure.loss(outliers, background)


def make_pairs(outliers: JetLosses, background: JetLosses) -> tuple[JetLosses, JetLosses, Tensor]:
    """Each jet of the larger side beside one of the smaller, taken in turn, and the pairs' weights.

    Which ones meet is arbitrary, as batches are shuffled.  A pair counts by the product of its weights.
    """
    place = torch.arange(max(len(outliers.w), len(background.w)), device=background.w.device)
    first, second = outliers.take(place % len(outliers.w)), background.take(place % len(background.w))
    return first, second, first.w * second.w


class KLOE(Exposure):
    """L_OE = min(0, KL_out - KL_in - margin) (Cheng's slides, 'Outlier Exposure'), in nats.

    When to use it: for score 'kl', which the reconstruction leaves free to learn what is no background; of
    outliers matched in mass it learns nothing of the mass.  Outliers are not decoded, which saves time.

    form: 'batch' compares the means over a batch of the summed KL, as the slides write it: it has done its
    duty when the means are apart.  'pair': the summed KL of one outlier and one background jet, averaged over
    the pairs: each is to be apart.  'latent': of one dimension of such a pair, averaged over pairs and
    dimensions, as the author's code does; the margin then is one for each dimension (1 to 2 there).
    """

    comparisons = ("batch", "pair", "latent")

    def __init__(
        self,
        *,
        margin: float = 1.0,
        strength: float = 2.0,
        compare: str = "batch",
        anneal: Mapping[str, Any] | str = "cyclic",
        match: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(strength=strength, compare=compare, anneal=anneal, match=match)
        if not 0 <= margin < math.inf:
            raise InputError(
                f"KLOE: margin is {margin:g} and must be finite and not negative: it is by how many nats "
                "outliers are to exceed background; 1 to 2 are usual"
            )
        self.margin = float(margin)

    def loss(self, outliers: JetLosses, background: JetLosses) -> Tensor:
        """Not negative, 0 where the margin is kept."""
        if self.compare == "batch":
            apart = weighted_mean(outliers.kl.sum(1), outliers.w) - weighted_mean(
                background.kl.sum(1), background.w
            )
            return (self.margin - apart).clamp_min(0)
        first, second, w = make_pairs(outliers, background)
        if self.compare == "pair":
            return weighted_mean((self.margin - first.kl.sum(1) + second.kl.sum(1)).clamp_min(0), w)
        return weighted_mean((self.margin - first.kl + second.kl).clamp_min(0).mean(1), w)


class MSEOE(Exposure):
    """L_OE = sigmoid(MSE_out - MSE_in) (Cheng's slides, 'Outlier Exposure').

    When to use it: to raise the AUC of scores 'mse' and 'nll'; the reward for outliers that are reconstructed
    badly is bounded, so that background still is reconstructed well.

    form: 'batch' compares the means of a batch's outliers and background; 'pair' one outlier with one
    background jet, and averages over the pairs.
    """

    comparisons = ("batch", "pair")
    needs_reconstruction = True

    def loss(self, outliers: JetLosses, background: JetLosses) -> Tensor:
        """Between -1 and 0."""
        if self.compare == "batch":
            apart = weighted_mean(outliers.mse, outliers.w) - weighted_mean(background.mse, background.w)
            return -apart.sigmoid()
        first, second, w = make_pairs(outliers, background)
        return -weighted_mean((first.mse - second.mse).sigmoid(), w)
