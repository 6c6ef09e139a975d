"""Terms that must themselves be trained."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hepdecorr.learning.batches import Batch
from hepdecorr.learning.networks.mlp import layers
from hepdecorr.learning.terms.strength import Chasing
from hepdecorr.learning.terms.term import Look, Term


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

    remedy = "give it more steps, or wider layers"  # when it finds less than there is
    mean: Tensor
    square: Tensor
    looks: Tensor

    def __init__(
        self,
        nuisance: str | Sequence[str],
        *,
        nuisances: Sequence[str],
        outputs: int,
        hidden: Sequence[int],
        steps: int | None,
        batch: int,
        update: str,
        moves: Mapping[str, Any] | None,
        more: int = 0,
        **look: Any,
    ) -> None:
        super().__init__(nuisance, nuisances=nuisances, **look)
        self.chasing = Chasing(
            steps, batch, start=self.growth.start, moves=moves, update=update, where=type(self).__name__
        )
        self.net = layers(len(self.sees) + (self.given == "label") + more, outputs, hidden=hidden)
        self.register_buffer("mean", torch.zeros(len(self.sees)))
        self.register_buffer("square", torch.ones(len(self.sees)))
        self.register_buffer("looks", torch.zeros(()))
        self.latest = torch.zeros(())

    @abstractmethod
    def loss(self, seen: Tensor, look: Look, *, follow: bool) -> Tensor:
        """What the adversary wants to be small, scalar; seen (m, k) is what it may know of the events.

        With `follow` it may bring its running statistics up to date.
        """

    @abstractmethod
    def floor(self, look: Look) -> float:
        """The loss of the best guess that does not see the score."""

    def found(self, loss: float, floor: float) -> float:
        """How many nats of the nuisance the adversary has found, by its loss."""
        return floor - loss

    def chase(self, logit: Tensor, b: Batch) -> Tensor:
        """The adversary's own loss, scalar."""
        return self._chased(logit, b, follow=self.training and not logit.requires_grad)

    def price(self, logit: Tensor, b: Batch) -> Tensor:
        """Minus the adversary's loss; to be asked moves no statistics."""
        return -self._chased(logit, b, follow=False)

    def reverse(self, logit: Tensor, b: Batch, *, strength: float) -> Tensor:
        """Strength times the price; its gradient moves the adversary as its own loss does, not the price."""
        loss = self._chased(Reversed.apply(logit, strength), b, follow=self.training)
        self.latest = loss.detach()
        return loss - (1 + strength) * loss.detach()

    def _chased(self, logit: Tensor, b: Batch, *, follow: bool) -> Tensor:
        look = self.look(logit, b)
        if look is None:
            return _nothing(self.net, logit)
        if follow:
            self._follow(look.seen.detach())
        spread = (self.square - self.mean**2).clamp_min(1e-8).sqrt()
        seen = 4 * torch.tanh((look.seen - self.mean) / spread / 4)
        if self.given == "label":
            seen = torch.cat([seen, look.y[:, None]], 1)
        return self.loss(seen, look, follow=follow)

    @torch.no_grad()
    def _follow(self, seen: Tensor) -> None:
        self.looks += 1
        self.mean.lerp_(seen.mean(0), self.pace)
        self.square.lerp_((seen**2).mean(0), self.pace)

    @property
    def pace(self) -> Tensor:
        """How much of a running statistic the present batch is: of the first all, later a hundredth."""
        return (1 / self.looks).clamp_min(0.01)


class Guess(Adversary):
    """An adversary that guesses the nuisance of each event: its loss is the mean over the events."""

    def loss(self, seen: Tensor, look: Look, *, follow: bool) -> Tensor:  # noqa: ARG002
        """Weighted mean of what `guess` gives."""
        return (look.w * self.guess(self.net(seen), look.z)).sum() / look.w.sum()

    @abstractmethod
    def guess(self, answer: Tensor, z: Tensor) -> Tensor:
        """Minus log likelihood, or another loss, of z under the net's answer (m, outputs); shape (m,)."""


class Reversed(torch.autograd.Function):
    """The identity, whose gradient comes back with minus the factor (1409.7495, eqs. 7-8)."""

    @staticmethod
    def forward(ctx: Any, logit: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return logit.view_as(logit)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return -ctx.factor * gradients[0], None


def _nothing(net: nn.Module, logit: Tensor) -> Tensor:
    own: Tensor = sum((p.sum() * 0 for p in net.parameters()), start=torch.zeros((), device=logit.device))
    return own + logit.sum() * 0
