"""Gaussian-mixture adversary."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hepdecorr.errors import InputError
from hepdecorr.learning.batches import Batch
from hepdecorr.learning.terms.adversary import Guess
from hepdecorr.learning.terms.entropy import UNIT_GAUSSIAN, conditional_entropy
from hepdecorr.learning.terms.term import Look

FEWEST_VALUES = 20  # of a nuisance that is not discrete
EDGE = 1.5  # the components' means start within +- this


class GMM(Guess):
    """The nuisance's density given the score as a mixture of Gaussians (Louppe et al., 1611.01046, 3).

    When to use it: for a continuous nuisance whose density given the score is smooth, and where the loss
    shall be read in nats.  A discrete nuisance has no density: take Softmax.

    Its loss cannot fall below H(Z), 1.4189 nats for the unit Gaussian that 'probit' makes of the
    background's nuisance; at equilibrium H(Z) minus the loss is I(score; nuisance).  nuisance: a list of them
    is protected jointly; each component is a product over them.

    truncated: [low, high] for a nuisance that ends there, in its units after the transform ([0, 1] for
    'rank'); each Gaussian is then divided by its integral over the range, so that none is lost outside.
    """

    several = True

    def __init__(
        self,
        nuisance: str | Sequence[str],
        *,
        nuisances: Sequence[str],
        components: int = 8,
        truncated: Sequence[float] | None = None,
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
        dims = 1 if isinstance(nuisance, str) else len(nuisance)
        self._check_settings(components, truncated)
        super().__init__(
            nuisance,
            nuisances=nuisances,
            outputs=(1 + 2 * dims) * components,
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
        self.truncated = None if truncated is None else (float(truncated[0]), float(truncated[1]))
        spread_components(cast("nn.Linear", self.net[-1]), components, dims=dims)

    @staticmethod
    def _check_settings(components: int, truncated: Sequence[float] | None) -> None:
        if components < 1:
            raise InputError(f"GMM: components must be at least 1, not {components}")
        if truncated is not None and (len(truncated) != 2 or not truncated[0] < truncated[1]):
            raise InputError(f"GMM: truncated must be [low, high] with low < high, not {list(truncated)}")

    def fit(self, b: Batch) -> None:
        """As every term; each nuisance must have a density, and lie in the truncated range."""
        super().fit(b)
        for name, column in zip(self.nuisances, self.columns, strict=True):
            z = b.z[self.among(b), column]
            values = len(z.unique())
            if len(z) > 10 * FEWEST_VALUES and values < FEWEST_VALUES:
                raise InputError(
                    f"GMM: nuisance {name!r} has {values} different values in {len(z)} events and so no "
                    "density; take Softmax or DisCo for a discrete nuisance"
                )
        if self.truncated is None:
            return
        z = self._scaled(b.z[self.among(b)])
        low, high = self.truncated
        outside = int(((z < low) | (z > high)).sum())
        if outside:
            raise InputError(
                f"GMM: {outside} of {z.numel()} values of {', '.join(self.nuisances)} are outside truncated: "
                f"[{low:g}, {high:g}]; after transform {self.transform!r} they go from {float(z.min()):g} to "
                f"{float(z.max()):g}"
            )

    def guess(self, answer: Tensor, z: Tensor) -> Tensor:
        """Minus log density of z, shape (m,)."""
        if self.truncated is None:
            return mixture_loss(answer, z)
        low, high = self.truncated
        scale = 2 * EDGE / (high - low)
        placed = ((z - low) * scale - EDGE).clamp(-EDGE, EDGE)
        return mixture_loss(answer, placed, edge=EDGE) - len(self.nuisances) * math.log(scale)

    def floor(self, look: Look) -> float:
        """Entropy of z, or of z within each class if the label is given."""
        plain = self.truncated is None and len(self.nuisances) == 1
        if plain and self.given in ("background", "signal") and self.transform == "probit" and self.top == 1:
            return UNIT_GAUSSIAN
        return conditional_entropy(look.z, look.y if self.given == "label" else look.y * 0, look.w)


def mixture_loss(answer: Tensor, z: Tensor, *, edge: float = 0.0) -> Tensor:
    """-log sum_c pi_c prod_d N(z_d; m_cd, s_cd^2), shape (m,), for z of shape (m,) or (m, q).

    The answer, shape (m, (1 + 2 q) c), holds logits of pi, then means and widths, for each d those of all c.
    Widths are softplus + 1e-3: exponentials of a network's output blow up.  With an `edge` each Gaussian is
    divided by its integral from -edge to edge, where z must lie, and is at least 1e-2 wide.
    """
    z = z[:, None] if z.ndim == 1 else z
    dims = z.shape[1]
    components = answer.shape[1] // (1 + 2 * dims)
    weight, rest = answer.float().split([components, 2 * dims * components], -1)
    mean, width = rest.unflatten(-1, (2, dims, components)).unbind(1)
    width = F.softplus(width) + (1e-2 if edge else 1e-3)
    if edge:
        # Narrow and far outside there is nothing to describe, and the integral would lose its digits.
        mean = 2 * edge * torch.tanh(mean / (2 * edge))
    log_p = -0.5 * ((z[..., None] - mean) / width) ** 2 - width.log() - 0.5 * math.log(2 * math.pi)
    if edge:
        log_p = log_p - _log_integral((-edge - mean) / width, (edge - mean) / width)
    loss: Tensor = -torch.logsumexp(weight.log_softmax(-1) + log_p.sum(1), -1)
    return loss


def _log_integral(low: Tensor, high: Tensor) -> Tensor:
    """log(Phi(high) - Phi(low)), taken from the side where Phi is small and keeps its digits."""
    turned = low + high > 0
    low, high = torch.where(turned, -high, low), torch.where(turned, -low, high)
    above = torch.special.log_ndtr(high)
    below = (torch.special.log_ndtr(low) - above).clamp_max(-1e-6)
    integral: Tensor = above + torch.log1p(-below.exp())
    return integral


@torch.no_grad()
def spread_components(last: nn.Linear, components: int, *, dims: int = 1) -> None:
    """Let mixtures start wide, side by side and hardly moved by their input, whatever their number.

    Components that start alike would stay alike, and narrow ones give wild first gradients.
    """
    last.weight.mul_(0.1)
    weight, mean, width = last.bias.view(-1, 1 + 2 * dims, components).split([1, dims, dims], 1)
    weight.zero_()
    mean.copy_(_places(components, dims).expand_as(mean))
    width.fill_(0.5)


def _places(components: int, dims: int) -> Tensor:
    """Points spread evenly over a box of half width EDGE, shape (dims, components)."""
    if dims == 1:
        return torch.linspace(-EDGE, EDGE, components)[None]
    # Additive recurrence with the powers of the root of x^(q + 1) = x + 1, the golden ratio for q = 1.
    root = 1.5
    for _ in range(40):
        root = (1 + root) ** (1 / (dims + 1))
    steps = root ** -torch.arange(1, dims + 1, dtype=torch.float64)
    places = (0.5 + steps[:, None] * torch.arange(components)) % 1
    return (EDGE * (2 * places - 1)).float()
