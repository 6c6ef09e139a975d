"""What every latent term shares."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from hepdecorr.catalogue import suggest
from hepdecorr.errors import InputError
from hepdecorr.learning.batches import Batch
from hepdecorr.learning.terms.strength import Chasing, Growth


class Classes(NamedTuple):
    """Posterior of a discrete latent of C values, and a relaxed draw from it."""

    logits: Tensor  # (n, C)
    sample: Tensor  # (n, C), rows that are positive and sum to one
    log_prior: Tensor  # (C,)

    def take(self, index: Tensor | slice) -> Classes:
        """Those of the events that `index` names."""
        return Classes(self.logits[index], self.sample[index], self.log_prior)


class Latent(NamedTuple):
    """Posterior of each event, a Gaussian with independent dimensions, and one draw from it.

    All of shape (n, d); the sensitive dimensions come first.  classes: the discrete latents beside them.
    """

    mean: Tensor
    log_var: Tensor
    sample: Tensor
    classes: tuple[Classes, ...] = ()

    def take(self, index: Tensor | slice) -> Latent:
        """Those of the events that `index` names."""
        classes = tuple(c.take(index) for c in self.classes)
        return Latent(self.mean[index], self.log_var[index], self.sample[index], classes)


class Layout(NamedTuple):
    """What a latent term has to know of the representation."""

    latents: int  # all dimensions
    sensitive: int  # the first of them
    nuisances: Sequence[str]
    values: Sequence[int] = ()  # of each nuisance, how many it has; 0 for a continuous one


class LatentTerm(nn.Module):
    """A price on a representation.

    strength, start, ramp: as for the terms of a tagger.  given: 'all' events or 'background' only.
    A term that must itself be trained sets `chasing` and has `chase(latent, b)`.
    """

    chasing: Chasing | None = None

    def __init__(self, *, growth: Growth, given: str = "all") -> None:
        super().__init__()
        if given not in ("all", "background"):
            raise InputError(f"{type(self).__name__}: no {given!r}{suggest(given, ('all', 'background'))}")
        self.growth, self.given = growth, given

    @abstractmethod
    def price(self, latent: Latent, b: Batch) -> Tensor:
        """Scalar without the strength."""

    def cost(self, latent: Latent, b: Batch, *, passed: float) -> Tensor:
        """What is paid when this fraction of the training has passed."""
        strength = self.growth.at(passed)
        return strength * self.price(latent, b) if strength else latent.mean.new_zeros(())

    @property
    def settled(self) -> float:
        """The fraction of the training after which the cost no longer changes by itself."""
        return self.growth.settled

    def chase(self, latent: Latent, b: Batch) -> Tensor:  # noqa: ARG002
        """The loss of the part that is trained; latent carries no gradient."""
        raise TypeError(f"{type(self).__name__} has nothing to train")

    def floor(self, latent: Latent, b: Batch) -> float | None:  # noqa: ARG002
        """The loss of the best blind guess, where there is one."""
        return None

    def fit(self, b: Batch, *, rows: int) -> None:
        """Set scalings from some of the `rows` training events."""

    def given_events(self, latent: Latent, b: Batch) -> tuple[Latent, Batch]:
        """The events this term looks at."""
        if self.given == "all":
            return latent, b
        own = b.y == 0
        return latent.take(own), b.take(own)


def weighted_mean(values: Tensor, w: Tensor) -> Tensor:
    """Mean over events of values of shape (n,); 0, with gradient 0, where weights sum to nothing or less."""
    total = w.sum()
    # One in place of nothing: the smallest number there is would give the gradient 0 x infinity.
    return (total > 0) * (w * values).sum() / torch.where(total > 0, total, 1.0)
