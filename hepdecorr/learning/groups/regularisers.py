"""What keeps the instance code from telling the group: mutual information, bounded from below by a critic."""

from __future__ import annotations

import logging
import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Generator, Tensor, nn

from hepdecorr.catalogue import suggest
from hepdecorr.errors import InputError
from hepdecorr.learning.groups.members import Members
from hepdecorr.learning.moves import Moves
from hepdecorr.learning.networks.mlp import layers
from hepdecorr.learning.terms.adversary import Reversed
from hepdecorr.learning.terms.strength import UPDATES, Growth

log = logging.getLogger(__name__)

BOUNDS = ("mean", "sum")
DIVISORS = ("others", "group")


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
        features: int,
        latents: int,
        strength: float = 1.0,
        start: float = 0.0,
        ramp: float = 0.0,
        bound: str = "mean",
        squash: bool = False,
        summands: int = 32,
        hidden: Sequence[int] = (32, 32),
        activation: str = "silu",
        update: str = "alternating",
        steps: int | None = None,
        batch: int = 0,
        pairs: int = 1024,
        moves: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        if bound not in BOUNDS:
            raise InputError(f"{name}: no bound {bound!r}{suggest(bound, BOUNDS)}")
        if update not in UPDATES:
            raise InputError(f"{name}: no update {update!r}{suggest(update, UPDATES)}")
        self.reversal = update == "reversal"
        if self.reversal and (steps is not None or batch):
            raise InputError(
                f"{name}: with update: reversal the critic moves once a turn, with the encoders; leave steps "
                "and batch out, or take update: alternating"
            )
        steps = 1 if steps is None else steps
        given: list[tuple[str, Any, int]] = [("steps", steps, 1), ("batch", batch, 0), ("pairs", pairs, 0)]
        for key, value, least in (*given, ("summands", summands, 1)):
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise InputError(f"{name}: {key} must be a whole number of at least {least}, not {value!r}")
        self.growth = Growth(*(_number(v, key=f"{name}: {k}") for k, v in
                               (("strength", strength), ("start", start), ("ramp", ramp))))  # fmt: skip
        self.by_sum, self.squash, self.steps, self.batch = bound == "sum", squash, steps, batch
        self.pairs = pairs
        self.moves = Moves.read(moves, where=f"{name} moves", schedule="cosine", weight_decay=1e-4, clip=5.0)
        self.of_x = layers(features, summands, hidden=hidden, activation=activation)
        self.of_both = layers(summands + latents, 1, hidden=hidden, activation=activation)
        self.latest, self._told = torch.zeros(()), False

    def steps_at(self, passed: float) -> int:
        """Moves of the critic a turn when this fraction of the stage has passed."""
        return 0 if passed < 0.5 * self.growth.start else self.steps

    def reverse(self, scaled: Tensor, v: Tensor, among: Members, *, strength: float) -> Tensor:
        """Strength times the bound; its gradient moves the critic as its own loss does, not the price."""
        bound: Tensor = self(scaled, Reversed.apply(v, strength), among)
        self.latest = -bound.detach()
        return (1 + strength) * bound.detach() - bound

    @abstractmethod
    def context(self, scaled: Tensor, among: Members, rows: Tensor, *, generator: Generator | None) -> Tensor:
        """What the critic knows of the x of these rows, (m, summands), of preprocessed features (n, f)."""

    def forward(
        self, scaled: Tensor, v: Tensor, among: Members, *, generator: Generator | None = None
    ) -> Tensor:
        """The bound, scalar, of instance codes v (n, d)."""
        several = among.counts > 1
        if int(several.sum()) < 2:
            return self._nothing(v)
        if not several.all():
            own = several[among.group].nonzero()[:, 0]
            scaled, v = scaled.index_select(0, own), v.index_select(0, own)
            among = among.part(own)
        rows = among.some(self.pairs if self.training else 0, generator=generator)
        x = self.context(scaled, among, rows, generator=generator)
        other = among.stranger(rows, generator=generator)
        answer = self._critic(x.repeat(2, 1), v.index_select(0, torch.cat([rows, other])))
        joint, apart = answer.chunk(2)
        if self.by_sum:
            return joint.sum() - apart.logsumexp(0)
        return joint.mean() - (apart.logsumexp(0) - math.log(len(apart)))

    def _critic(self, x: Tensor, v: Tensor) -> Tensor:
        answer: Tensor = self.of_both(torch.cat([v, x], 1)).float()[:, 0]
        return answer.tanh() if self.squash else answer

    def _nothing(self, v: Tensor) -> Tensor:
        """0, with gradient 0."""
        if not self._told:
            log.warning(
                "%s: a batch without two groups of two events or more says nothing of what the instance code "
                "tells of its group, and costs nothing; write training: batch: so that batches hold many",
                type(self).__name__,
            )
        self._told = True
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
        features: int,
        latents: int,
        strength: float = 1.0,
        start: float = 0.0,
        ramp: float = 0.0,
        bound: str = "mean",
        squash: bool = False,
        summands: int = 32,
        hidden: Sequence[int] = (32, 32),
        activation: str = "silu",
        update: str = "alternating",
        steps: int | None = None,
        batch: int = 0,
        pairs: int = 1024,
        moves: Mapping[str, Any] | None = None,
        itself: bool = False,
    ) -> None:
        super().__init__(
            features=features,
            latents=latents,
            strength=strength,
            start=start,
            ramp=ramp,
            bound=bound,
            squash=squash,
            summands=summands,
            hidden=hidden,
            activation=activation,
            update=update,
            steps=steps,
            batch=batch,
            pairs=pairs,
            moves=moves,
        )
        self.itself = itself

    def context(self, scaled: Tensor, among: Members, rows: Tensor, *, generator: Generator | None) -> Tensor:
        """Of one other event."""
        other = among.sibling(rows, generator=generator, itself=self.itself)
        return self.of_x(scaled.index_select(0, other)).float()  # type: ignore[no-any-return]


class LeaveOneOut(Regulariser):
    """I(x_-k; v_k) of all other events of the group: what CxVAE pays (reference 3, section 4.3, eq. 3).

    One event may not tell its group where all of them do.  T sees the mean of T_a over the others.
    divisor: 'others', K - 1; 'group', K, as the paper prints it.  included: the event k itself is among them,
    as in the authors' code.
    """

    def __init__(
        self,
        *,
        features: int,
        latents: int,
        strength: float = 1.0,
        start: float = 0.0,
        ramp: float = 0.0,
        bound: str = "mean",
        squash: bool = False,
        summands: int = 32,
        hidden: Sequence[int] = (32, 32),
        activation: str = "silu",
        update: str = "alternating",
        steps: int | None = None,
        batch: int = 0,
        pairs: int = 1024,
        moves: Mapping[str, Any] | None = None,
        divisor: str = "others",
        included: bool = False,
    ) -> None:
        if divisor not in DIVISORS:
            raise InputError(f"LeaveOneOut: no divisor {divisor!r}{suggest(divisor, DIVISORS)}")
        super().__init__(
            features=features,
            latents=latents,
            strength=strength,
            start=start,
            ramp=ramp,
            bound=bound,
            squash=squash,
            summands=summands,
            hidden=hidden,
            activation=activation,
            update=update,
            steps=steps,
            batch=batch,
            pairs=pairs,
            moves=moves,
        )
        self.by_group, self.included = divisor == "group", included

    def context(
        self,
        scaled: Tensor,
        among: Members,
        rows: Tensor,
        *,
        generator: Generator | None,  # noqa: ARG002
    ) -> Tensor:
        """The mean of T_a over the others."""
        each = self.of_x(scaled).float()
        if self.included:
            mean = among.total(each) / among.counts[:, None]
            return mean.index_select(0, among.group.index_select(0, rows))
        return among.others(each, rows, by_group=self.by_group)


def _number(value: Any, *, key: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise InputError(f"{key} must be a number, not {value!r}")
    return number
