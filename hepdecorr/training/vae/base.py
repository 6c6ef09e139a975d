"""Base class of the terms on latents."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor, nn

from hepdecorr.errors import InputError, suggest
from hepdecorr.training.data.batches import Batch
from hepdecorr.training.losses.schedules import AdversaryUpdate, Schedule


class CategoricalPosterior(NamedTuple):
    """Posterior of a discrete latent of C values, and a relaxed draw from it."""

    logits: Tensor  # (n, C)
    sample: Tensor  # (n, C), rows that are positive and sum to one
    log_prior: Tensor  # (C,)

    def take(self, index: Tensor | slice) -> CategoricalPosterior:
        """Those of the events that `index` names."""
        return CategoricalPosterior(self.logits[index], self.sample[index], self.log_prior)


class LatentPosterior(NamedTuple):
    """Posterior of each event, a Gaussian with independent dimensions, and one draw from it.

    All of shape (n, d); the sensitive dimensions come first.  classes: the discrete latents beside them.
    """

    mean: Tensor
    log_var: Tensor
    sample: Tensor
    categorical: tuple[CategoricalPosterior, ...] = ()

    def take(self, index: Tensor | slice) -> LatentPosterior:
        """Those of the events that `index` names."""
        classes = tuple(c.take(index) for c in self.categorical)
        return LatentPosterior(self.mean[index], self.log_var[index], self.sample[index], classes)


class LatentLayout(NamedTuple):
    """What a latent term has to know of the representation."""

    latent_dim: int  # all dimensions
    sensitive: int  # the first of them
    nuisances: Sequence[str]
    num_values: Sequence[int] = ()  # of each nuisance, how many it has; 0 for a continuous one


class LatentTerm(nn.Module):
    """A price on a representation.

    strength, start, ramp: as for the terms of a tagger.  given: 'all' events or 'background' only.
    A term that must itself be trained sets `chasing` and has `chase(latent, b)`.
    """

    critic_update: AdversaryUpdate | None = None

    def __init__(self, *, schedule: Schedule, classes: str = "all") -> None:
        super().__init__()
        if classes not in ("all", "background"):
            raise InputError(
                f"{type(self).__name__}: no {classes!r}{suggest(classes, ('all', 'background'))}"
            )
        self.schedule, self.classes = schedule, classes

    @abstractmethod
    def penalty(self, latent: LatentPosterior, batch: Batch) -> Tensor:
        """Scalar without the strength."""

    def weighted_penalty(self, latent: LatentPosterior, batch: Batch, *, progress: float) -> Tensor:
        """What is paid when this fraction of the training has passed."""
        strength = self.schedule.value(progress)
        return strength * self.penalty(latent, batch) if strength else latent.mean.new_zeros(())

    @property
    def warmup_end(self) -> float:
        """The fraction of the training after which the cost no longer changes by itself."""
        return self.schedule.end

    def critic_loss(self, latent: LatentPosterior, batch: Batch) -> Tensor:  # noqa: ARG002
        """The loss of the part that is trained; latent carries no gradient."""
        raise TypeError(f"{type(self).__name__} has nothing to train")

    def baseline_loss(self, latent: LatentPosterior, batch: Batch) -> float | None:  # noqa: ARG002
        """The loss of the best blind guess, where there is one."""
        return None

    def fit(self, batch: Batch, *, num_events: int) -> None:
        """Set scalings from some of the `rows` training events."""

    def select_events(self, latent: LatentPosterior, batch: Batch) -> tuple[LatentPosterior, Batch]:
        """The events this term looks at."""
        if self.classes == "all":
            return latent, batch
        own = batch.y == 0
        return latent.take(own), batch.take(own)
