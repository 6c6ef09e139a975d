"""Adversary over quantile bins.

Gaussian-mixture adversary.

Least-squares adversary.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hepdecorr.errors import InputError
from hepdecorr.training.data.batches import Batch
from hepdecorr.training.losses.adversary import PredictiveAdversary
from hepdecorr.training.losses.base import TermBatch
from hepdecorr.training.losses.information import UNIT_GAUSSIAN_ENTROPY, conditional_entropy

MAX_CELLS = 1024


class QuantileBinAdversary(PredictiveAdversary):
    """The probability of each of `bins` background quantiles of the nuisance, given the score.

    When to use it: the adversary to begin with; it assumes nothing of the nuisance's shape, which may be
    discrete, and is hard to derail.  It does not see what happens within a bin.

    Its loss cannot fall below ln(bins) for an independent score.  nuisance: a list of them is protected
    jointly, on the product of the bins, `bins` for each; few bins then, since each must see events.
    """

    joint = True

    def __init__(
        self,
        nuisance: str | Sequence[str],
        *,
        nuisances: Sequence[str],
        bins: int = 20,
        strength: float = 5.0,
        start: float = 0.125,
        ramp: float = 0.125,
        score_as: str | Sequence[str] = "logit",
        classes: str = "background",
        top_fraction: float = 1.0,
        tail_weight: float = 0.01,
        hidden: Sequence[int] = (64, 64),
        gradient_reversal: bool = False,
        steps_per_batch: int | None = None,
        batch_size: int = 2048,
        optimizer: Mapping[str, Any] | None = None,
    ) -> None:
        cells = bins ** (1 if isinstance(nuisance, str) else len(nuisance))
        if bins < 2 or cells > MAX_CELLS:
            raise InputError(
                f"QuantileBinAdversary: {bins} bins of each nuisance make {cells} cells; there must be "
                f"at least 2 bins and at most {MAX_CELLS} cells"
            )
        super().__init__(
            nuisance,
            nuisances=nuisances,
            num_outputs=cells,
            strength=strength,
            start=start,
            ramp=ramp,
            score_as=score_as,
            classes=classes,
            top_fraction=top_fraction,
            tail_weight=tail_weight,
            transform="rank",
            hidden=hidden,
            gradient_reversal=gradient_reversal,
            steps_per_batch=steps_per_batch,
            batch_size=batch_size,
            optimizer=optimizer,
        )
        self.bins, self.num_cells = bins, cells

    def event_loss(self, output: Tensor, z: Tensor) -> Tensor:
        """Minus log probability of the cell of z, whose values are ranks in (0, 1); shape (m,)."""
        return F.cross_entropy(output.float(), cell_index(z, self.bins), reduction="none")

    def baseline_loss(self, term_batch: TermBatch) -> float:
        """Entropy of the cells, or of the cells within each class if the label is given."""
        (_, z, _, w), nats = term_batch, 0.0
        for own in self.class_masks(term_batch):
            filled = torch.bincount(
                cell_index(z[own], self.bins), weights=w[own].double(), minlength=self.num_cells
            )
            p = filled / filled.sum()
            nats += float(-(torch.xlogy(p, p)).sum() * w[own].sum() / w.sum())
        return nats


def bin_index(rank: Tensor, bins: int) -> Tensor:
    """Index of the bin of equal width that holds each rank in (0, 1)."""
    return (rank * bins).long().clamp(0, bins - 1)


def cell_index(rank: Tensor, bins: int) -> Tensor:
    """Index of the cell, among bins^q, that holds each row of ranks, shape (n,) or (n, q)."""
    if rank.ndim == 1:
        return bin_index(rank, bins)
    return (bin_index(rank, bins) * bins ** torch.arange(rank.shape[1], device=rank.device)).sum(1)


MIN_DISTINCT_VALUES = 20  # of a nuisance that is not discrete
COMPONENT_RANGE = 1.5  # the components' means start within +- this


class GMM(PredictiveAdversary):
    """The nuisance's density given the score as a mixture of Gaussians (Louppe et al., 1611.01046, 3).

    When to use it: for a continuous nuisance whose density given the score is smooth, and where the loss
    shall be read in nats.  A discrete nuisance has no density: take QuantileBinAdversary.

    Its loss cannot fall below H(Z), 1.4189 nats for the unit Gaussian that 'probit' makes of the
    background's nuisance; at equilibrium H(Z) minus the loss is I(score; nuisance).  nuisance: a list of them
    is protected jointly; each component is a product over them.

    truncated: [low, high] for a nuisance that ends there, in its units after the transform ([0, 1] for
    'rank'); each Gaussian is then divided by its integral over the range, so that none is lost outside.
    """

    joint = True

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
        dims = 1 if isinstance(nuisance, str) else len(nuisance)
        self._check_settings(components, truncated)
        super().__init__(
            nuisance,
            nuisances=nuisances,
            num_outputs=(1 + 2 * dims) * components,
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
        self.truncated = None if truncated is None else (float(truncated[0]), float(truncated[1]))
        init_mixture_components(cast("nn.Linear", self.net[-1]), components, dims=dims)

    @staticmethod
    def _check_settings(components: int, truncated: Sequence[float] | None) -> None:
        if components < 1:
            raise InputError(f"GMM: components must be at least 1, not {components}")
        if truncated is not None and (len(truncated) != 2 or not truncated[0] < truncated[1]):
            raise InputError(f"GMM: truncated must be [low, high] with low < high, not {list(truncated)}")

    def fit(self, batch: Batch) -> None:
        """As every term; each nuisance must have a density, and lie in the truncated range."""
        super().fit(batch)
        for name, column in zip(self.nuisances, self.columns, strict=True):
            z = batch.z[self.event_mask(batch), column]
            values = len(z.unique())
            if len(z) > 10 * MIN_DISTINCT_VALUES and values < MIN_DISTINCT_VALUES:
                raise InputError(
                    f"GMM: nuisance {name!r} has {values} different values in {len(z)} events and so no "
                    "density; take QuantileBinAdversary or DisCo for a discrete nuisance"
                )
        if self.truncated is None:
            return
        z = self._transform_nuisances(batch.z[self.event_mask(batch)])
        low, high = self.truncated
        outside = int(((z < low) | (z > high)).sum())
        if outside:
            raise InputError(
                f"GMM: {outside} of {z.numel()} values of {', '.join(self.nuisances)} are outside truncated: "
                f"[{low:g}, {high:g}]; after transform {self.transform!r} they go from {float(z.min()):g} to "
                f"{float(z.max()):g}"
            )

    def event_loss(self, output: Tensor, z: Tensor) -> Tensor:
        """Minus log density of z, shape (m,)."""
        if self.truncated is None:
            return mixture_nll(output, z)
        low, high = self.truncated
        scale = 2 * COMPONENT_RANGE / (high - low)
        placed = ((z - low) * scale - COMPONENT_RANGE).clamp(-COMPONENT_RANGE, COMPONENT_RANGE)
        return mixture_nll(output, placed, truncation=COMPONENT_RANGE) - len(self.nuisances) * math.log(scale)

    def baseline_loss(self, term_batch: TermBatch) -> float:
        """Entropy of z, or of z within each class if the label is given."""
        plain = self.truncated is None and len(self.nuisances) == 1
        if (
            plain
            and self.classes in ("background", "signal")
            and self.transform == "probit"
            and self.top_fraction == 1
        ):
            return UNIT_GAUSSIAN_ENTROPY
        return conditional_entropy(
            term_batch.z, term_batch.y if self.classes == "each" else term_batch.y * 0, term_batch.w
        )


def mixture_nll(output: Tensor, z: Tensor, *, truncation: float = 0.0) -> Tensor:
    """-log sum_c pi_c prod_d N(z_d; m_cd, s_cd^2), shape (m,), for z of shape (m,) or (m, q).

    The answer, shape (m, (1 + 2 q) c), holds logits of pi, then means and widths, for each d those of all c.
    Widths are softplus + 1e-3: exponentials of a network's output blow up.  With an `edge` each Gaussian is
    divided by its integral from -edge to edge, where z must lie, and is at least 1e-2 wide.
    """
    z = z[:, None] if z.ndim == 1 else z
    dims = z.shape[1]
    components = output.shape[1] // (1 + 2 * dims)
    weight, rest = output.float().split([components, 2 * dims * components], -1)
    mean, width = rest.unflatten(-1, (2, dims, components)).unbind(1)
    width = F.softplus(width) + (1e-2 if truncation else 1e-3)
    if truncation:
        # Narrow and far outside there is nothing to describe, and the integral would lose its digits.
        mean = 2 * truncation * torch.tanh(mean / (2 * truncation))
    log_p = -0.5 * ((z[..., None] - mean) / width) ** 2 - width.log() - 0.5 * math.log(2 * math.pi)
    if truncation:
        log_p = log_p - _log_normal_integral((-truncation - mean) / width, (truncation - mean) / width)
    loss: Tensor = -torch.logsumexp(weight.log_softmax(-1) + log_p.sum(1), -1)
    return loss


def _log_normal_integral(low: Tensor, high: Tensor) -> Tensor:
    """log(Phi(high) - Phi(low)), taken from the side where Phi is small and keeps its digits."""
    turned = low + high > 0
    low, high = torch.where(turned, -high, low), torch.where(turned, -low, high)
    above = torch.special.log_ndtr(high)
    below = (torch.special.log_ndtr(low) - above).clamp_max(-1e-6)
    integral: Tensor = above + torch.log1p(-below.exp())
    return integral


@torch.no_grad()
def init_mixture_components(output_layer: nn.Linear, components: int, *, dims: int = 1) -> None:
    """Let mixtures start wide, side by side and hardly moved by their input, whatever their number.

    Components that start alike would stay alike, and narrow ones give wild first gradients.
    """
    output_layer.weight.mul_(0.1)
    weight, mean, width = output_layer.bias.view(-1, 1 + 2 * dims, components).split([1, dims, dims], 1)
    weight.zero_()
    mean.copy_(_component_means(components, dims).expand_as(mean))
    width.fill_(0.5)


def _component_means(components: int, dims: int) -> Tensor:
    """Points spread evenly over a box of half width EDGE, shape (dims, components)."""
    if dims == 1:
        return torch.linspace(-COMPONENT_RANGE, COMPONENT_RANGE, components)[None]
    # Additive recurrence with the powers of the root of x^(q + 1) = x + 1, the golden ratio for q = 1.
    root = 1.5
    for _ in range(40):
        root = (1 + root) ** (1 / (dims + 1))
    steps = root ** -torch.arange(1, dims + 1, dtype=torch.float64)
    places = (0.5 + steps[:, None] * torch.arange(components)) % 1
    return (COMPONENT_RANGE * (2 * places - 1)).float()


class RegressionAdversary(PredictiveAdversary):
    """The nuisance's mean given the score, guessed by least squares (Borisyak, Learning to pivot, 2021).

    When to use it: for a first look, or where the nuisance only shifts with the score.  It is GMM with one
    Gaussian of fixed width and sees nothing but the mean: a score that knows how far the nuisance is from
    its mean pays nothing.  Take GMM, QuantileBinAdversary or DisCo for independence.

    Its loss cannot fall below the variance of Z, 1 for 'probit' and 'standard', of which the score takes the
    fraction R^2; the price is minus the loss.  Where nats are needed it counts as -ln(1 - R^2) / 2, what a
    Gaussian pair of that correlation shares.
    """

    advice = (
        "least squares sees the mean of the nuisance alone: take GMM or QuantileBinAdversary, or "
        "give it more steps"
    )

    def __init__(
        self,
        nuisance: str,
        *,
        nuisances: Sequence[str],
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
        super().__init__(
            nuisance,
            nuisances=nuisances,
            num_outputs=1,
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

    def event_loss(self, output: Tensor, z: Tensor) -> Tensor:
        """Squared distance of z from the guess, shape (m,)."""
        return (output.float()[:, 0] - z) ** 2

    def baseline_loss(self, term_batch: TermBatch) -> float:
        """Variance of z, or within the classes if the label is given."""
        variance, total = 0.0, term_batch.w.sum()
        for own in self.class_masks(term_batch):
            z, w = term_batch.z[own].double(), term_batch.w[own].double()
            mean = (w * z).sum() / w.sum()
            variance += float((w * (z - mean) ** 2).sum() / total)
        return variance

    def information(self, loss: float, baseline: float) -> float:
        """Nats that a Gaussian pair shares where this fraction of the variance is explained."""
        return 0.5 * math.log(max(baseline, 1e-12) / max(loss, 1e-12))
