"""Terms that must themselves be trained."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hepdecorr.training.data.batches import Batch
from hepdecorr.training.losses.base import Term, TermBatch
from hepdecorr.training.losses.schedules import AdversaryUpdate
from hepdecorr.training.networks.mlp import mlp_layers


class Adversary(Term):
    """A term that must itself be trained: the more it finds out, the more the tagger pays.

    What it sees is brought to mean 0 and deviation 1 by running statistics and squashed to +-4, since the
    logit's scale moves while it learns.  With `given: label` it also knows the label and so protects each
    class by itself.

    update: 'alternating' moves it `steps` times a turn (5 by default) on `batch` events of its own before the
    tagger moves once; 'reversal' moves both on one backward pass over the tagger's batch, in which the
    gradient that goes on from the adversary to the tagger is reversed and multiplied by the strength (Ganin,
    Lempitsky, 1409.7495, eqs. 4-6 and 9): cheaper by far, but it leads less.  Under both it has an optimiser
    of its own, `moves`, and is trained ahead of `start`.
    """

    advice = "give it more steps, or wider layers"  # when it finds less than there is
    running_mean: Tensor
    running_square: Tensor
    num_updates: Tensor

    def __init__(
        self,
        nuisance: str | Sequence[str],
        *,
        nuisances: Sequence[str],
        num_outputs: int,
        hidden: Sequence[int],
        steps_per_batch: int | None,
        batch_size: int,
        gradient_reversal: bool,
        optimizer: Mapping[str, Any] | None,
        num_extra_inputs: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(nuisance, nuisances=nuisances, **options)
        self.adversary_update = AdversaryUpdate(
            steps_per_batch,
            batch_size,
            start=self.schedule.start,
            optimizer=optimizer,
            gradient_reversal=gradient_reversal,
            where=type(self).__name__,
        )
        self.net = mlp_layers(
            len(self.score_as) + (self.classes == "each") + num_extra_inputs, num_outputs, hidden=hidden
        )
        self.register_buffer("running_mean", torch.zeros(len(self.score_as)))
        self.register_buffer("running_square", torch.ones(len(self.score_as)))
        self.register_buffer("num_updates", torch.zeros(()))
        self.last_loss = torch.zeros(())

    @abstractmethod
    def loss_from_inputs(self, inputs: Tensor, term_batch: TermBatch, *, update_statistics: bool) -> Tensor:
        """What the adversary wants to be small, scalar; seen (m, k) is what it may know of the events.

        With `follow` it may bring its running statistics up to date.
        """

    @abstractmethod
    def baseline_loss(self, term_batch: TermBatch) -> float:
        """The loss of the best guess that does not see the score."""

    def information(self, loss: float, baseline: float) -> float:
        """How many nats of the nuisance the adversary has found, by its loss."""
        return baseline - loss

    def loss(self, logit: Tensor, batch: Batch) -> Tensor:
        """The adversary's own loss, scalar."""
        return self._loss(logit, batch, update_statistics=self.training and not logit.requires_grad)

    def penalty(self, logit: Tensor, batch: Batch) -> Tensor:
        """Minus the adversary's loss; to be asked moves no statistics."""
        return -self._loss(logit, batch, update_statistics=False)

    def reversed_penalty(self, logit: Tensor, batch: Batch, *, strength: float) -> Tensor:
        """Strength times the price; its gradient moves the adversary as its own loss does, not the price."""
        loss = self._loss(GradientReversal.apply(logit, strength), batch, update_statistics=self.training)
        self.last_loss = loss.detach()
        return loss - (1 + strength) * loss.detach()

    def _loss(self, logit: Tensor, batch: Batch, *, update_statistics: bool) -> Tensor:
        look = self.select(logit, batch)
        if look is None:
            return _zero_loss(self.net, logit)
        if update_statistics:
            self._update_statistics(look.score.detach())
        spread = (self.running_square - self.running_mean**2).clamp_min(1e-8).sqrt()
        seen = 4 * torch.tanh((look.score - self.running_mean) / spread / 4)
        if self.classes == "each":
            seen = torch.cat([seen, look.y[:, None]], 1)
        return self.loss_from_inputs(seen, look, update_statistics=update_statistics)

    @torch.no_grad()
    def _update_statistics(self, inputs: Tensor) -> None:
        self.num_updates += 1
        self.running_mean.lerp_(inputs.mean(0), self.momentum)
        self.running_square.lerp_((inputs**2).mean(0), self.momentum)

    @property
    def momentum(self) -> Tensor:
        """How much of a running statistic the present batch is: of the first all, later a hundredth."""
        return (1 / self.num_updates).clamp_min(0.01)


class PredictiveAdversary(Adversary):
    """An adversary that guesses the nuisance of each event: its loss is the mean over the events."""

    def loss_from_inputs(self, inputs: Tensor, term_batch: TermBatch, *, update_statistics: bool) -> Tensor:  # noqa: ARG002
        """Weighted mean of what `guess` gives."""
        return (term_batch.w * self.event_loss(self.net(inputs), term_batch.z)).sum() / term_batch.w.sum()

    @abstractmethod
    def event_loss(self, output: Tensor, z: Tensor) -> Tensor:
        """Minus log likelihood, or another loss, of z under the net's answer (m, outputs); shape (m,)."""


class GradientReversal(torch.autograd.Function):
    """The identity, whose gradient comes back with minus the factor (1409.7495, eqs. 7-8)."""

    @staticmethod
    def forward(ctx: Any, logit: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return logit.view_as(logit)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return -ctx.factor * gradients[0], None


def _zero_loss(net: nn.Module, logit: Tensor) -> Tensor:
    own: Tensor = sum((p.sum() * 0 for p in net.parameters()), start=torch.zeros((), device=logit.device))
    return own + logit.sum() * 0
