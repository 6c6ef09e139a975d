"""Gaussian-mixture adversary."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hepdecorr.learning.terms.entropy import UNIT_GAUSSIAN, conditional_entropy
from hepdecorr.learning.terms.term import Adversary, Look


class GMM(Adversary):
    """The nuisance's density given the score as a mixture of Gaussians (Louppe et al., 1611.01046, 3).

    Its loss cannot fall below H(Z), 1.4189 nats for the unit Gaussian that 'probit' makes of the
    background's nuisance; at equilibrium H(Z) minus the loss is I(score; nuisance).
    """

    def __init__(
        self,
        nuisance: str,
        *,
        nuisances: Sequence[str],
        components: int = 8,
        strength: float = 5.0,
        start: float = 0.125,
        ramp: float = 0.125,
        sees: str | Sequence[str] = "logit",
        given: str = "background",
        top: float = 1.0,
        tail: float = 0.01,
        transform: str = "probit",
        hidden: Sequence[int] = (64, 64),
        steps: int = 5,
        batch: int = 2048,
        moves: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(
            nuisance,
            nuisances=nuisances,
            outputs=3 * components,
            strength=strength,
            start=start,
            ramp=ramp,
            sees=sees,
            given=given,
            top=top,
            tail=tail,
            transform=transform,
            hidden=hidden,
            steps=steps,
            batch=batch,
            moves=moves,
        )
        spread_components(cast("nn.Linear", self.net[-1]), components)

    def guess(self, answer: Tensor, z: Tensor) -> Tensor:
        """Minus log density of z, shape (m,)."""
        return mixture_loss(answer, z)

    def floor(self, look: Look) -> float:
        """Entropy of z, or of z within each class if the label is given."""
        if self.given in ("background", "signal") and self.transform == "probit" and self.top == 1:
            return UNIT_GAUSSIAN
        return conditional_entropy(look.z, look.y if self.given == "label" else look.y * 0, look.w)


def mixture_loss(answer: Tensor, z: Tensor) -> Tensor:
    """-log sum_c pi_c N(z; m_c, s_c^2), shape (m,), for an answer (m, 3 c) and z (m,).

    Widths are softplus + 1e-3: exponentials of a network's output blow up.
    """
    weight, mean, width = answer.float().chunk(3, -1)
    width = F.softplus(width) + 1e-3
    log_p = -0.5 * ((z[:, None] - mean) / width) ** 2 - width.log() - 0.5 * math.log(2 * math.pi)
    return -torch.logsumexp(weight.log_softmax(-1) + log_p, -1)


@torch.no_grad()
def spread_components(last: nn.Linear, components: int) -> None:
    """Let mixtures start wide, side by side and hardly moved by their input, whatever their number.

    Components that start alike would stay alike, and narrow ones give wild first gradients.
    """
    last.weight.mul_(0.1)
    weight, mean, width = last.bias.view(-1, 3, components).unbind(1)
    weight.zero_()
    mean.copy_(torch.linspace(-1.5, 1.5, components).expand_as(mean))
    width.fill_(0.5)
