"""Mutual-information adversary."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hepdecorr.errors import InputError, suggest
from hepdecorr.training.losses.adversary import Adversary
from hepdecorr.training.losses.base import TermBatch

MINE_BOUNDS = ("dv", "js")
MAX_CRITIC_OUTPUT = 10.0  # of the critic's answer, whose exponential is taken
GOLDEN_RATIO = (5**0.5 - 1) / 2


class MINE(Adversary):
    """A critic that tells pairs of score and nuisance that belong together from pairs that do not.

    When to use it: for several nuisances jointly, or one of awkward shape, since it models no density; with
    few events or strong dependence it is noisier than QuantileBinAdversary or GMM.  What it finds is
    a *lower* bound on the information: a small price may also mean a weak critic, so look at the audit.

    bound: 'dv', the Donsker-Varadhan bound I >= E[T] - ln E~[e^T] in nats, whose gradient divides by a moving
    average in place of the batch's mean (Belghazi et al., 1801.04062, eq. 12 and section 3.2); or 'js', with
    an unbiased gradient and so more stable, the Jensen-Shannon bound 2 JSD >= ln 4 - E[sp(-T)] - E~[sp(T)]
    (Nowozin et al., 1606.00709; Hjelm et al., 1808.06670, eq. 4), taken twice, which for small dependence is
    I.  E~ is over `pairs` strangers drawn by weight; `given: label` draws them from the same class.
    The critic maximises the bound, the tagger pays it.
    """

    joint = True
    advice = "give it more steps, wider layers or larger batches, or take GMM or QuantileBinAdversary"
    partition: Tensor

    def __init__(
        self,
        nuisance: str | Sequence[str],
        *,
        nuisances: Sequence[str],
        bound: str = "dv",
        num_pairs: int = 2048,
        strength: float = 5.0,
        start: float = 0.125,
        ramp: float = 0.125,
        score_as: str | Sequence[str] = "logit",
        classes: str = "background",
        top_fraction: float = 1.0,
        tail_weight: float = 0.01,
        transform: str = "probit",
        hidden: Sequence[int] = (64, 64),
        gradient_reversal: bool = False,
        steps_per_batch: int | None = None,
        batch_size: int = 2048,
        optimizer: Mapping[str, Any] | None = None,
    ) -> None:
        if bound not in MINE_BOUNDS:
            raise InputError(f"MINE: no bound {bound!r}{suggest(bound, MINE_BOUNDS)}")
        if num_pairs < 1:
            raise InputError("MINE: pairs must be at least 1")
        super().__init__(
            nuisance,
            nuisances=nuisances,
            num_outputs=1,
            num_extra_inputs=1 if isinstance(nuisance, str) else len(nuisance),
            strength=strength,
            start=start,
            ramp=ramp,
            score_as=score_as,
            classes=classes,
            top_fraction=top_fraction,
            tail_weight=tail_weight,
            transform=transform,
            hidden=hidden,
            gradient_reversal=gradient_reversal,
            steps_per_batch=steps_per_batch,
            batch_size=batch_size,
            optimizer=optimizer,
        )
        self.bound, self.num_pairs = bound, num_pairs
        self.register_buffer("partition", torch.ones(()))

    def loss_from_inputs(self, inputs: Tensor, term_batch: TermBatch, *, update_statistics: bool) -> Tensor:
        """Minus the bound, and for 'js' the floor more: twice the cross-entropy of the critic."""
        groups = term_batch.y if self.classes == "each" else torch.zeros_like(term_batch.y)
        # On the CPU, that the draws do not depend on the device.
        shift = torch.rand(2, device="cpu") if self.training else torch.full((2,), 0.5, device="cpu")
        # Nobody is drawn with a negative weight; the pairs that belong together must be of the same events.
        w = term_batch.w.clamp_min(0)
        first, second = shuffled_pairs(
            term_batch.score[:, 0].detach(), w, groups, num_pairs=self.num_pairs, lattice_shift=shift
        )
        joint, apart = (
            self._critic_values(inputs, term_batch.z),
            self._critic_values(inputs[first], term_batch.z[second]),
        )
        share = w / w.sum()
        if self.bound == "js":
            return 2 * ((share * F.softplus(-joint)).sum() + F.softplus(apart).mean())
        partition = apart.exp().mean()
        if update_statistics:
            self.partition.lerp_(partition.detach(), self.momentum)
        known = (share * joint).sum()
        # The gradient of the second, the value of the first.
        bound, slope = known - partition.log(), known - partition / self.partition
        return slope.detach() - slope - bound.detach()

    def _critic_values(self, inputs: Tensor, z: Tensor) -> Tensor:
        answer = self.net(torch.cat([inputs, z.reshape(len(z), -1)], 1)).float()[:, 0]
        return MAX_CRITIC_OUTPUT * torch.tanh(answer / MAX_CRITIC_OUTPUT)

    def baseline_loss(self, term_batch: TermBatch) -> float:  # noqa: ARG002
        """The loss of a critic that answers 0 to every pair."""
        return 4 * math.log(2) if self.bound == "js" else 0.0


@torch.no_grad()
def shuffled_pairs(
    s: Tensor, w: Tensor, class_labels: Tensor, *, num_pairs: int, lattice_shift: Tensor
) -> tuple[Tensor, Tensor]:
    """Indices of `count` pairs, two events of the same group (0 or 1) each drawn with its weight.

    Not by lot: the places of both in the order of s are the points of a shifted lattice, which fills the
    square more evenly and does not depend on the order of the events.
    """
    order = s.argsort()
    order = order[class_labels[order].argsort(stable=True)]
    grown = w[order].double().clamp_min(0).cumsum(0)
    place = torch.arange(num_pairs, dtype=torch.float64, device=s.device)
    lattice_shift = lattice_shift.to(place)
    first = _index_at_weight(grown, ((place + lattice_shift[0]) / num_pairs) * grown[-1])
    background = (w.double().clamp_min(0) * (class_labels == 0)).sum()
    signal = class_labels[order[first]] == 1
    low = torch.where(signal, background, 0.0)
    size = torch.where(signal, grown[-1] - background, background)
    second = _index_at_weight(grown, low + size * ((place * GOLDEN_RATIO + lattice_shift[1]) % 1))
    return order[first], order[second]


def _index_at_weight(cumulative_weight: Tensor, weight: Tensor) -> Tensor:
    return torch.searchsorted(cumulative_weight, weight, right=True).clamp_max(len(cumulative_weight) - 1)
