"""Mutual-information adversary."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hepdecorr.catalogue import suggest
from hepdecorr.errors import InputError
from hepdecorr.learning.terms.adversary import Adversary
from hepdecorr.learning.terms.term import Look

BOUNDS = ("dv", "js")
LARGEST = 10.0  # of the critic's answer, whose exponential is taken
GOLDEN = (5**0.5 - 1) / 2


class MINE(Adversary):
    """A critic that tells pairs of score and nuisance that belong together from pairs that do not.

    When to use it: for several nuisances jointly, or one of awkward shape, since it models no density; with
    few events or strong dependence it is noisier than Softmax or GMM.  What it finds is a *lower* bound on
    the information: a small price may also mean a weak critic, so look at the audit.

    bound: 'dv', the Donsker-Varadhan bound I >= E[T] - ln E~[e^T] in nats, whose gradient divides by a moving
    average in place of the batch's mean (Belghazi et al., 1801.04062, eq. 12 and section 3.2); or 'js', with
    an unbiased gradient and so more stable, the Jensen-Shannon bound 2 JSD >= ln 4 - E[sp(-T)] - E~[sp(T)]
    (Nowozin et al., 1606.00709; Hjelm et al., 1808.06670, eq. 4), taken twice, which for small dependence is
    I.  E~ is over `pairs` strangers drawn by weight; `given: label` draws them from the same class.
    The critic maximises the bound, the tagger pays it.
    """

    several = True
    remedy = "give it more steps, wider layers or larger batches, or take GMM or Softmax"
    partition: Tensor

    def __init__(
        self,
        nuisance: str | Sequence[str],
        *,
        nuisances: Sequence[str],
        bound: str = "dv",
        pairs: int = 2048,
        strength: float = 5.0,
        start: float = 0.125,
        ramp: float = 0.125,
        sees: str | Sequence[str] = "logit",
        given: str = "background",
        top: float = 1.0,
        tail: float = 0.01,
        transform: str = "probit",
        hidden: Sequence[int] = (64, 64),
        update: str = "alternating",
        steps: int | None = None,
        batch: int = 2048,
        moves: Mapping[str, Any] | None = None,
    ) -> None:
        if bound not in BOUNDS:
            raise InputError(f"MINE: no bound {bound!r}{suggest(bound, BOUNDS)}")
        if pairs < 1:
            raise InputError("MINE: pairs must be at least 1")
        super().__init__(
            nuisance,
            nuisances=nuisances,
            outputs=1,
            more=1 if isinstance(nuisance, str) else len(nuisance),
            strength=strength,
            start=start,
            ramp=ramp,
            sees=sees,
            given=given,
            top=top,
            tail=tail,
            transform=transform,
            hidden=hidden,
            update=update,
            steps=steps,
            batch=batch,
            moves=moves,
        )
        self.bound, self.pairs = bound, pairs
        self.register_buffer("partition", torch.ones(()))

    def loss(self, seen: Tensor, look: Look, *, follow: bool) -> Tensor:
        """Minus the bound, and for 'js' the floor more: twice the cross-entropy of the critic."""
        groups = look.y if self.given == "label" else torch.zeros_like(look.y)
        # On the CPU, that the draws do not depend on the device.
        shift = torch.rand(2, device="cpu") if self.training else torch.full((2,), 0.5, device="cpu")
        # Nobody is drawn with a negative weight; the pairs that belong together must be of the same events.
        w = look.w.clamp_min(0)
        first, second = strangers(look.seen[:, 0].detach(), w, groups, count=self.pairs, shift=shift)
        joint, apart = self._critic(seen, look.z), self._critic(seen[first], look.z[second])
        share = w / w.sum()
        if self.bound == "js":
            return 2 * ((share * F.softplus(-joint)).sum() + F.softplus(apart).mean())
        partition = apart.exp().mean()
        if follow:
            self.partition.lerp_(partition.detach(), self.pace)
        known = (share * joint).sum()
        # The gradient of the second, the value of the first.
        bound, slope = known - partition.log(), known - partition / self.partition
        return slope.detach() - slope - bound.detach()

    def _critic(self, seen: Tensor, z: Tensor) -> Tensor:
        answer = self.net(torch.cat([seen, z.reshape(len(z), -1)], 1)).float()[:, 0]
        return LARGEST * torch.tanh(answer / LARGEST)

    def floor(self, look: Look) -> float:  # noqa: ARG002
        """The loss of a critic that answers 0 to every pair."""
        return 4 * math.log(2) if self.bound == "js" else 0.0


@torch.no_grad()
def strangers(s: Tensor, w: Tensor, groups: Tensor, *, count: int, shift: Tensor) -> tuple[Tensor, Tensor]:
    """Indices of `count` pairs, two events of the same group (0 or 1) each drawn with its weight.

    Not by lot: the places of both in the order of s are the points of a shifted lattice, which fills the
    square more evenly and does not depend on the order of the events.
    """
    order = s.argsort()
    order = order[groups[order].argsort(stable=True)]
    grown = w[order].double().clamp_min(0).cumsum(0)
    place = torch.arange(count, dtype=torch.float64, device=s.device)
    shift = shift.to(place)
    first = _at(grown, ((place + shift[0]) / count) * grown[-1])
    background = (w.double().clamp_min(0) * (groups == 0)).sum()
    signal = groups[order[first]] == 1
    low = torch.where(signal, background, 0.0)
    size = torch.where(signal, grown[-1] - background, background)
    second = _at(grown, low + size * ((place * GOLDEN + shift[1]) % 1))
    return order[first], order[second]


def _at(grown: Tensor, weight: Tensor) -> Tensor:
    return torch.searchsorted(grown, weight, right=True).clamp_max(len(grown) - 1)
