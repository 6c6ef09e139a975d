"""The loss of a variational autoencoder with outlier exposure, batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from hepdecorr.learning.anomaly.annealing import Annealing
from hepdecorr.learning.anomaly.jets import Jets
from hepdecorr.learning.anomaly.variational import Variational
from hepdecorr.learning.batches import Batch
from hepdecorr.learning.exposure import Exposure, Seen
from hepdecorr.learning.exposure.exposure import paid
from hepdecorr.learning.exposure.matching import Matched
from hepdecorr.learning.latents.kl import gaussian_kl
from hepdecorr.learning.latents.term import Latent, weighted_mean
from hepdecorr.learning.methods.dues import Dues
from hepdecorr.learning.training import Play


@dataclass(frozen=True)
class Loss:
    """distance + beta KL of background, what outliers cost by each exposure, and the terms on the score.

    jets: flat rows -> Jets.  growing: how beta comes in.  exposures: by name; matched: the outliers drawn for
    those that ask for it.  epochs: of the stage.  Jets count by w r; terms see w alone.
    """

    vae: Variational
    jets: Callable[[Tensor], Jets]
    growing: Annealing
    exposures: Mapping[str, Exposure]
    dues: Dues
    epochs: int
    matched: Mapping[str, Matched] = field(default_factory=dict)

    def bill(self, b: Batch, play: Play) -> dict[str, Tensor]:
        """What a batch of flat rows costs now."""
        self.dues.follow(play)
        inside = b.take((b.y == 0).nonzero()[:, 0])
        jets = self.jets(inside.x)
        latent = self.vae.encode(jets)
        known = Seen(self.vae.distance(latent.sample, jets), gaussian_kl(latent), inside.w * inside.r)
        share = self.growing.at(play.passed, epochs=self.epochs)
        bill = {
            "mse": weighted_mean(known.mse, known.w),
            "kl": share * self.vae.beta.value * weighted_mean(self.vae.beta.reduced(known.kl), known.w),
        }
        bill |= self._exposed(b, known, play)
        return bill | self._dependence(jets, latent, inside, play)

    def price(self, b: Batch) -> dict[str, Tensor]:
        """The bill of validation events at full strength, without what terms cost."""
        inside, outside = b.take(b.y == 0), b.take(b.y == 1)
        known = self._seen(inside, decode=True)
        bill = {
            "reconstruct": weighted_mean(known.mse, known.w),
            "kl": self.vae.beta.value * weighted_mean(self.vae.beta.reduced(known.kl), known.w),
        }
        for name, exposure in self.exposures.items():
            own = self.matched[name].weighed(outside) if name in self.matched else outside
            bill[name] = self._cost(exposure, own, known)
        return bill

    def full(self, epoch: int) -> bool:
        """Whether every weight was full during this epoch."""
        every = [self.growing, *(one.annealing for one in self.exposures.values())]
        return all(one.full(epoch, epochs=self.epochs) for one in every)

    def _exposed(self, b: Batch, known: Seen, play: Play) -> dict[str, Tensor]:
        bill = {}
        outside = b.take((b.y == 1).nonzero()[:, 0]) if self.exposures else b
        epoch = min(self.epochs - 1, int(play.passed * self.epochs + 1e-9))
        for name, exposure in self.exposures.items():
            share = exposure.annealing.at(play.passed, epochs=self.epochs)
            if not share or not exposure.strength:
                bill[name] = known.kl.new_zeros(())
                continue
            own = outside
            if name in self.matched:
                own = self.matched[name].take(len(outside.y), epoch=epoch, turn=play.turn)
            bill[name] = share * self._cost(exposure, own, known)
        return bill

    def _cost(self, exposure: Exposure, outside: Batch, known: Seen) -> Tensor:
        if not len(outside.y):
            return known.kl.sum() * 0
        return exposure.strength * paid(exposure, self._seen(outside, decode=exposure.decodes), known)

    def _seen(self, b: Batch, *, decode: bool) -> Seen:
        jets = self.jets(b.x)
        latent = self.vae.encode(jets)
        kl = gaussian_kl(latent)
        mse = self.vae.distance(latent.sample, jets) if decode else kl.new_zeros(0)
        return Seen(mse, kl, b.w * b.r)

    def _dependence(self, jets: Jets, latent: Latent, inside: Batch, play: Play) -> dict[str, Tensor]:
        if not self.dues.each():
            return {}
        score = self.vae.score(jets, latent)
        self.vae.standard.follow(score, inside.w)
        return self.dues.bill(self.vae.standard(score), inside, play)
