"""Distance correlation.

Linear correlation.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hepdecorr.errors import InputError
from hepdecorr.training.data.batches import Batch
from hepdecorr.training.losses.base import DependencePenalty, Term
from hepdecorr.training.optim import full_precision


class DisCo(Term):
    """Squared distance correlation of score and nuisance (Kasieczka, Shih, 2001.05310, eqs. 3-7).

    When to use it: the first choice for independence, of one nuisance or of several jointly; nothing to
    train, no bins, and with its tail weight it reaches the rejections where one cuts.

    Zero if and only if they are independent, else up to 1; no adversary.  nuisance: a list of them stands for
    one of as many dimensions, with Euclidean distances after the transform of each (Szekely et al. 2007):
    zero only if the score is independent of all of them jointly, which a term for each does not ask.

    draw: look not at the batch but at so many background events, drawn each turn from all training events
    with the tail weight as probability (their scores are refreshed every `refresh` turns): the far tail is
    where one cuts, and a batch has too few events there.  0, or events that are streamed: look at the batch,
    with the tail weight.  unbiased: take the leading part of the bias off, about 2.4 / events looked at.  The
    published form is `sees: score, tail: 0, draw: 0, unbiased: false`, which leaves the tail dependent.
    Time grows with the square of the events looked at (11 ms for 4096), memory does not.
    """

    joint = True

    def __init__(
        self,
        nuisance: str | Sequence[str],
        *,
        nuisances: Sequence[str],
        strength: float = 10.0,
        start: float = 0.125,
        ramp: float = 0.125,
        score_as: str = "logit",
        classes: str = "background",
        top_fraction: float = 1.0,
        tail_weight: float = 0.005,
        transform: str = "rank",
        unbiased: bool = True,
        tail_sample: int = 1536,
        refresh_every: int = 18,
    ) -> None:
        super().__init__(
            nuisance,
            nuisances=nuisances,
            strength=strength,
            start=start,
            ramp=ramp,
            score_as=score_as,
            classes=classes,
            top_fraction=top_fraction,
            tail_weight=tail_weight,
            transform=transform,
        )
        if classes == "each" or len(self.score_as) > 1:
            raise InputError("DisCo sees one form of the score, classes: background, signal or all")
        if tail_sample < 0 or refresh_every < 1 or (tail_sample and not tail_weight):
            raise InputError(
                "DisCo: tail_sample cannot be negative, refresh_every is at least 1, and "
                "tail_sample needs a tail_weight above 0"
            )
        self.unbiased, self.tail_sample, self.refresh_every = unbiased, tail_sample, refresh_every

    def penalty(self, logit: Tensor, batch: Batch, *, ignore_tail_weight: bool = False) -> Tensor:
        """Squared distance correlation over the events looked at; 0 when they are too few.

        `even` leaves the tail weight off, for events that were drawn with it.
        """
        look = self.select(logit, batch, ignore_tail_weight=ignore_tail_weight)
        if look is None:
            return logit.sum() * 0
        return distance_correlation(look.score[:, 0], look.z, look.w, unbiased=self.unbiased)


def distance_correlation(s: Tensor, z: Tensor, w: Tensor, *, unbiased: bool = False) -> Tensor:
    """Weighted squared distance correlation of s (n,) and z (n,) or (n, q); differentiable in s.

    The V-statistic of Szekely, Rizzo, Bakirov (2007), definitions 4-5, with event weights in all means.
    Only the distances of z are centred: a doubly centred matrix picks the centred part of the other by
    itself.  With B_ij the centred and weighted ones, sum |s_i - s_j| B_ij = sum s_i g_i, where
    g_i = 2 sum_j sign(s_i - s_j) B_ij is its gradient too: no n x n matrix is kept, nor differentiated.
    """
    w = w / w.sum()
    # Distances are invariant under shifts; without one the squares lose digits.
    s, order = (s - (w * s).sum().detach()).sort()
    z, w = z[order], w[order]
    below = torch.searchsorted(s.detach(), s.detach())
    above = torch.searchsorted(s.detach(), s.detach(), right=True)
    with torch.no_grad(), full_precision(s):
        b_row = _row_means(z, w)
        b_mean = (w * b_row).sum()
        b_variance = _mean_square_distance(z.double(), w.double()) - 2 * (w * b_row**2).sum() + b_mean**2
        slope = _covariance_gradient(z, w, b_row, num_below=below, num_not_above=above)
    a_row = _sorted_row_means(s.double(), w.double(), num_below=below, num_not_above=above)
    a_mean = (w * a_row).sum()
    a_variance = _mean_square_distance(s.double(), w.double()) - 2 * (w * a_row**2).sum() + a_mean**2
    covariance = (s * slope).sum()
    if unbiased:
        # What the V-statistic would be on average if the z were dealt to the events by lot.
        square = (w**2).double()
        lot = 2 * (square * a_row).sum() - square.sum() * a_mean
        covariance = covariance - b_mean / (1 - square.sum()) * lot
    scale = (a_mean * b_mean).detach() ** 2 * 1e-8 + 1e-30
    found: Tensor = covariance / (a_variance * b_variance + scale).clamp_min(1e-30).sqrt()
    return found.to(s.dtype)


def _covariance_gradient(
    z: Tensor, w: Tensor, b_row: Tensor, *, num_below: Tensor, num_not_above: Tensor
) -> Tensor:
    """g of all events in the order of s; below, above: how many have a smaller s, or none larger.

    A few rows at a time, which stay in the cache.  The rows of B sum to zero, so that the events of smaller
    s, with half of those of equal s, tell all: g_i = 4 sum_{s_j < s_i} B_ij.
    """
    count, slope = len(w), torch.empty_like(b_row)
    b_mean = (w * b_row).sum()
    both = torch.stack([w.double(), w * b_row], 1)
    grown = torch.cat([both.new_zeros(1, 2), both.cumsum(0)])
    starts = range(0, count, _rows_per_block(count))
    ends = [*starts[1:], count]
    spans = num_below[list(starts)].tolist(), num_not_above[[end - 1 for end in ends]].tolist()
    for first, last, low, high in zip(starts, ends, *spans, strict=True):
        far = _pairwise_distances(z[first:last], z[:high])
        # Of the rows' own neighbourhood: 1 for smaller s, 1/2 for equal.
        place = torch.arange(low, high, device=w.device)
        share = 0.5 * (
            (place < num_below[first:last, None]).to(w.dtype)
            + (place < num_not_above[first:last, None]).to(w.dtype)
        )
        far[:, low:].mul_(share)
        weight, rows = (grown[low] + share.double() @ both[low:high]).unbind(1)
        slope[first:last] = torch.mv(far, w[:high]) - (b_row[first:last] - b_mean) * weight - rows
    return 4 * w * slope


def _sorted_row_means(s: Tensor, w: Tensor, *, num_below: Tensor, num_not_above: Tensor) -> Tensor:
    """Weighted mean of |s_i - s_j| over j, shape (n,), for s in order; w sums to one."""
    nothing = w.new_zeros(1)
    weight, moment = torch.cat([nothing, w.cumsum(0)]), torch.cat([nothing, (w * s).cumsum(0)])
    more, less = weight[-1] - weight[num_not_above], weight[num_below]
    return s * (less - more) + (moment[-1] - moment[num_not_above]) - moment[num_below]


def _row_means(z: Tensor, w: Tensor) -> Tensor:
    """Weighted mean of |z_i - z_j| over j, shape (n,)."""
    if z.ndim > 1:
        parts = z.split(_rows_per_block(len(z)))
        return torch.cat([torch.mv(_pairwise_distances(part, z), w) for part in parts]).double()
    ordered, order = z.double().sort()
    place = torch.arange(len(z), device=z.device)
    means = torch.empty_like(ordered)
    means[order] = _sorted_row_means(ordered, w[order].double(), num_below=place, num_not_above=place + 1)
    return means


def _rows_per_block(num_rows: int) -> int:
    return max(16, min(512, 2**18 // max(1, num_rows)))


def _pairwise_distances(z: Tensor, others: Tensor) -> Tensor:
    if z.ndim == 1:
        return (z[:, None] - others[None]).abs_()
    # By differences: the binomial formula loses the digits of small distances.
    return torch.cdist(z, others, compute_mode="donot_use_mm_for_euclid_dist")


def _mean_square_distance(s: Tensor, w: Tensor) -> Tensor:
    """Weighted mean of |s_i - s_j|^2 over all pairs."""
    if s.ndim > 1:
        return torch.stack([_mean_square_distance(column, w) for column in s.T]).sum()
    mean = (w * s).sum()
    return 2 * (w * (s - mean) ** 2).sum()


class LinearCorrelation(DependencePenalty):
    """Squared Pearson correlation of score and nuisance, with event weights.

    When to use it: as the cheapest baseline, or beside another term to hold a slope down; it costs nothing
    and is blind to all that is not a straight line.  0 does not mean independent.
    """

    def __init__(
        self,
        nuisance: str,
        *,
        nuisances: Sequence[str],
        strength: float = 10.0,
        start: float = 0.125,
        ramp: float = 0.125,
        score_as: str = "logit",
        classes: str = "background",
        top_fraction: float = 1.0,
        tail_weight: float = 0.01,
        transform: str = "probit",
    ) -> None:
        super().__init__(
            nuisance,
            nuisances=nuisances,
            strength=strength,
            start=start,
            ramp=ramp,
            score_as=score_as,
            classes=classes,
            top_fraction=top_fraction,
            tail_weight=tail_weight,
            transform=transform,
        )

    def measure_dependence(self, s: Tensor, z: Tensor, w: Tensor) -> Tensor:
        """rho^2, in [0, 1]."""
        w = w / w.sum()
        s, z = s - (w * s).sum(), z - (w * z).sum()
        spread = (w * s**2).sum() * (w * z**2).sum()
        return (w * s * z).sum() ** 2 / (spread + 1e-12)
