"""What keeps the instance code from telling the group: mutual information, bounded from below by a critic."""

from __future__ import annotations

import logging
import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Generator, Tensor, nn

from hepdecorr.errors import InputError, suggest
from hepdecorr.training.data.groups import BatchGroups
from hepdecorr.training.losses.adversary import GradientReversal
from hepdecorr.training.losses.schedules import Schedule
from hepdecorr.training.networks.mlp import mlp_layers
from hepdecorr.training.optim import OptimizerConfig

log = logging.getLogger(__name__)

MI_BOUNDS = ("mean", "sum")
DIVISORS = ("num_others", "group_size")


class Regulariser(nn.Module):
    """A price on I(x; v), for a choice of the x that v must not tell, with the critic T that finds it.

    The bound is E[T] - ln E~[e^T] in nats (Belghazi et al., 1801.04062, eq. 10; reference 3, eqs. 2 and 3): E
    over pairs (x, v) of one group, E~ over x of one and v of another.  The critic maximises it, the
    encoders pay `strength` times it; it may be below 0 by chance, or where the critic is behind.  A group of
    one event has no x and is left out, of both; of one group alone nothing can be said, and it costs nothing.

    start, ramp: fractions of the stage after which the price sets in and over which it grows; the critic
    rests for half of the first.  update: 'alternating' moves the critic `steps` times a turn (1 by default),
    then the encoders; 'reversal' both on one backward pass, with the gradient that goes on to the encoders
    reversed (Ganin, Lempitsky, 1409.7495), which is cheaper.  batch: events in batches of its own, 0 for
    those of the encoders.  pairs: so many events of a batch are looked at as v, by lot, each beside its own x
    and beside that of another group; 0 for all.  moves: its lr, optimizer, ... as in `training`.  hidden:
    widths of both its networks, with `summands` numbers between.

    bound: 'mean' as above; 'sum', the sum of T minus the logarithm of the sum of e^T, as the authors' code
    has it, which is no bound of anything.  squash: T through a tanh, as in that code, whose strength is 1e3.
    """

    def __init__(
        self,
        *,
        num_features: int,
        latent_dim: int,
        strength: float = 1.0,
        start: float = 0.0,
        ramp: float = 0.0,
        bound: str = "mean",
        tanh_critic: bool = False,
        num_summands: int = 32,
        hidden: Sequence[int] = (32, 32),
        activation: str = "silu",
        gradient_reversal: bool = False,
        steps_per_batch: int | None = None,
        batch_size: int = 0,
        num_pairs: int = 1024,
        optimizer: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        if bound not in MI_BOUNDS:
            raise InputError(f"{name}: no bound {bound!r}{suggest(bound, MI_BOUNDS)}")
        if not isinstance(gradient_reversal, bool):
            raise InputError(f"{name}: gradient_reversal is true or false, not {gradient_reversal!r}")
        self.uses_gradient_reversal = gradient_reversal
        if self.uses_gradient_reversal and (steps_per_batch is not None or batch_size):
            raise InputError(
                f"{name}: with gradient_reversal: true the critic steps once per batch, with the encoders; "
                "leave out steps_per_batch and batch_size, or set gradient_reversal: false"
            )
        steps_per_batch = 1 if steps_per_batch is None else steps_per_batch
        given: list[tuple[str, Any, int]] = [
            ("steps_per_batch", steps_per_batch, 1),
            ("batch_size", batch_size, 0),
            ("num_pairs", num_pairs, 0),
        ]
        for key, value, least in (*given, ("num_summands", num_summands, 1)):
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise InputError(f"{name}: {key} must be a whole number of at least {least}, not {value!r}")
        self.schedule = Schedule(*(_parse_number(v, key=f"{name}: {k}") for k, v in
                               (("strength", strength), ("start", start), ("ramp", ramp))))  # fmt: skip
        self.uses_sum_bound, self.tanh_critic, self.steps_per_batch, self.batch_size = (
            bound == "sum",
            tanh_critic,
            steps_per_batch,
            batch_size,
        )
        self.num_pairs = num_pairs
        self.optimizer_config = OptimizerConfig.from_config(
            optimizer, where=f"{name} optimizer", schedule="cosine", weight_decay=1e-4, grad_clip=5.0
        )
        self.context_net = mlp_layers(num_features, num_summands, hidden=hidden, activation=activation)
        self.critic_net = mlp_layers(num_summands + latent_dim, 1, hidden=hidden, activation=activation)
        self.last_loss, self._has_warned = torch.zeros(()), False

    def num_steps(self, progress: float) -> int:
        """Moves of the critic a turn when this fraction of the stage has passed."""
        return 0 if progress < 0.5 * self.schedule.start else self.steps_per_batch

    def reversed_penalty(
        self, scaled: Tensor, v: Tensor, batch_groups: BatchGroups, *, strength: float
    ) -> Tensor:
        """Strength times the bound; its gradient moves the critic as its own loss does, not the price."""
        bound: Tensor = self(scaled, GradientReversal.apply(v, strength), batch_groups)
        self.last_loss = -bound.detach()
        return (1 + strength) * bound.detach() - bound

    @abstractmethod
    def critic_context(
        self, scaled: Tensor, batch_groups: BatchGroups, rows: Tensor, *, generator: Generator | None
    ) -> Tensor:
        """What the critic knows of the x of these rows, (m, summands), of preprocessed features (n, f)."""

    def forward(
        self, scaled: Tensor, v: Tensor, batch_groups: BatchGroups, *, generator: Generator | None = None
    ) -> Tensor:
        """The bound, scalar, of instance codes v (n, d)."""
        several = batch_groups.counts > 1
        if int(several.sum()) < 2:
            return self._zero_bound(v)
        if not several.all():
            own = several[batch_groups.group].nonzero()[:, 0]
            scaled, v = scaled.index_select(0, own), v.index_select(0, own)
            batch_groups = batch_groups.subset(own)
        rows = batch_groups.sample(self.num_pairs if self.training else 0, generator=generator)
        x = self.critic_context(scaled, batch_groups, rows, generator=generator)
        other = batch_groups.sample_other_group(rows, generator=generator)
        answer = self._critic_values(x.repeat(2, 1), v.index_select(0, torch.cat([rows, other])))
        joint, apart = answer.chunk(2)
        if self.uses_sum_bound:
            return joint.sum() - apart.logsumexp(0)
        return joint.mean() - (apart.logsumexp(0) - math.log(len(apart)))

    def _critic_values(self, x: Tensor, v: Tensor) -> Tensor:
        answer: Tensor = self.critic_net(torch.cat([v, x], 1)).float()[:, 0]
        return answer.tanh() if self.tanh_critic else answer

    def _zero_bound(self, v: Tensor) -> Tensor:
        """0, with gradient 0."""
        if not self._has_warned:
            log.warning(
                "%s: a batch without two groups of two events or more says nothing of what the instance code "
                "tells of its group, and costs nothing; write training: batch_size: so that "
                "batches hold many",
                type(self).__name__,
            )
        self._has_warned = True
        every = [v.flatten(), *(p.flatten() for p in self.parameters())]
        return 0 * torch.cat(every).sum()


class Nemeth(Regulariser):
    """I(x_l; v_k) of two events l and k of a group (Nemeth, AAAI 2020; reference 3, section 2.3, eq. 2).

    itself: l may also be k, as in the authors' code, which permutes events within groups: then even codes
    that tell nothing of the group cost something.
    """

    def __init__(
        self,
        *,
        num_features: int,
        latent_dim: int,
        strength: float = 1.0,
        start: float = 0.0,
        ramp: float = 0.0,
        bound: str = "mean",
        tanh_critic: bool = False,
        num_summands: int = 32,
        hidden: Sequence[int] = (32, 32),
        activation: str = "silu",
        gradient_reversal: bool = False,
        steps_per_batch: int | None = None,
        batch_size: int = 0,
        num_pairs: int = 1024,
        optimizer: Mapping[str, Any] | None = None,
        include_self: bool = False,
    ) -> None:
        super().__init__(
            num_features=num_features,
            latent_dim=latent_dim,
            strength=strength,
            start=start,
            ramp=ramp,
            bound=bound,
            tanh_critic=tanh_critic,
            num_summands=num_summands,
            hidden=hidden,
            activation=activation,
            gradient_reversal=gradient_reversal,
            steps_per_batch=steps_per_batch,
            batch_size=batch_size,
            num_pairs=num_pairs,
            optimizer=optimizer,
        )
        self.include_self = include_self

    def critic_context(
        self, scaled: Tensor, batch_groups: BatchGroups, rows: Tensor, *, generator: Generator | None
    ) -> Tensor:
        """Of one other event."""
        other = batch_groups.sample_same_group(rows, generator=generator, include_self=self.include_self)
        return self.context_net(scaled.index_select(0, other)).float()  # type: ignore[no-any-return]


class LeaveOneOut(Regulariser):
    """I(x_-k; v_k) of all other events of the group: what CxVAE pays (reference 3, section 4.3, eq. 3).

    One event may not tell its group where all of them do.  T sees the mean of T_a over the others.
    divisor: 'others', K - 1; 'group', K, as the paper prints it.  included: the event k itself is among them,
    as in the authors' code.
    """

    def __init__(
        self,
        *,
        num_features: int,
        latent_dim: int,
        strength: float = 1.0,
        start: float = 0.0,
        ramp: float = 0.0,
        bound: str = "mean",
        tanh_critic: bool = False,
        num_summands: int = 32,
        hidden: Sequence[int] = (32, 32),
        activation: str = "silu",
        gradient_reversal: bool = False,
        steps_per_batch: int | None = None,
        batch_size: int = 0,
        num_pairs: int = 1024,
        optimizer: Mapping[str, Any] | None = None,
        divisor: str = "num_others",
        include_self: bool = False,
    ) -> None:
        if divisor not in DIVISORS:
            raise InputError(f"LeaveOneOut: no divisor {divisor!r}{suggest(divisor, DIVISORS)}")
        super().__init__(
            num_features=num_features,
            latent_dim=latent_dim,
            strength=strength,
            start=start,
            ramp=ramp,
            bound=bound,
            tanh_critic=tanh_critic,
            num_summands=num_summands,
            hidden=hidden,
            activation=activation,
            gradient_reversal=gradient_reversal,
            steps_per_batch=steps_per_batch,
            batch_size=batch_size,
            num_pairs=num_pairs,
            optimizer=optimizer,
        )
        self.divide_by_group_size, self.include_self = divisor == "group_size", include_self

    def critic_context(
        self,
        scaled: Tensor,
        batch_groups: BatchGroups,
        rows: Tensor,
        *,
        generator: Generator | None,  # noqa: ARG002
    ) -> Tensor:
        """The mean of T_a over the others."""
        each = self.context_net(scaled).float()
        if self.include_self:
            mean = batch_groups.sum_by_group(each) / batch_groups.counts[:, None]
            return mean.index_select(0, batch_groups.group.index_select(0, rows))
        return batch_groups.leave_one_out_mean(each, rows, divide_by_group_size=self.divide_by_group_size)


def _parse_number(value: Any, *, key: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise InputError(f"{key} must be a number, not {value!r}")
    return number
