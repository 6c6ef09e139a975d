"""Distance correlation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hepdecorr.errors import InputError
from hepdecorr.learning.batches import Batch
from hepdecorr.learning.precision import in_full
from hepdecorr.learning.terms.term import Term


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

    several = True

    def __init__(
        self,
        nuisance: str | Sequence[str],
        *,
        nuisances: Sequence[str],
        strength: float = 10.0,
        start: float = 0.125,
        ramp: float = 0.125,
        sees: str = "logit",
        given: str = "background",
        top: float = 1.0,
        tail: float = 0.005,
        transform: str = "rank",
        unbiased: bool = True,
        draw: int = 1536,
        refresh: int = 18,
    ) -> None:
        super().__init__(
            nuisance,
            nuisances=nuisances,
            strength=strength,
            start=start,
            ramp=ramp,
            sees=sees,
            given=given,
            top=top,
            tail=tail,
            transform=transform,
        )
        if given == "label" or len(self.sees) > 1:
            raise InputError("DisCo sees one form of the score, given background, signal or all")
        if draw < 0 or refresh < 1 or (draw and not tail):
            raise InputError(
                "DisCo: draw cannot be negative, refresh is at least 1, and draw needs a tail above 0"
            )
        self.unbiased, self.draw, self.refresh = unbiased, draw, refresh

    def price(self, logit: Tensor, b: Batch, *, even: bool = False) -> Tensor:
        """Squared distance correlation over the events looked at; 0 when they are too few.

        `even` leaves the tail weight off, for events that were drawn with it.
        """
        look = self.look(logit, b, even=even)
        if look is None:
            return logit.sum() * 0
        return distance_correlation(look.seen[:, 0], look.z, look.w, unbiased=self.unbiased)


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
    with torch.no_grad(), in_full(s):
        b_row = _row_means(z, w)
        b_mean = (w * b_row).sum()
        b_variance = _mean_square(z.double(), w.double()) - 2 * (w * b_row**2).sum() + b_mean**2
        slope = _slope(z, w, b_row, below=below, above=above)
    a_row = _means_in_order(s.double(), w.double(), below=below, above=above)
    a_mean = (w * a_row).sum()
    a_variance = _mean_square(s.double(), w.double()) - 2 * (w * a_row**2).sum() + a_mean**2
    covariance = (s * slope).sum()
    if unbiased:
        # What the V-statistic would be on average if the z were dealt to the events by lot.
        square = (w**2).double()
        lot = 2 * (square * a_row).sum() - square.sum() * a_mean
        covariance = covariance - b_mean / (1 - square.sum()) * lot
    scale = (a_mean * b_mean).detach() ** 2 * 1e-8 + 1e-30
    found: Tensor = covariance / (a_variance * b_variance + scale).clamp_min(1e-30).sqrt()
    return found.to(s.dtype)


def _slope(z: Tensor, w: Tensor, b_row: Tensor, *, below: Tensor, above: Tensor) -> Tensor:
    """g of all events in the order of s; below, above: how many have a smaller s, or none larger.

    A few rows at a time, which stay in the cache.  The rows of B sum to zero, so that the events of smaller
    s, with half of those of equal s, tell all: g_i = 4 sum_{s_j < s_i} B_ij.
    """
    count, slope = len(w), torch.empty_like(b_row)
    b_mean = (w * b_row).sum()
    both = torch.stack([w.double(), w * b_row], 1)
    grown = torch.cat([both.new_zeros(1, 2), both.cumsum(0)])
    starts = range(0, count, _rows_at_once(count))
    ends = [*starts[1:], count]
    spans = below[list(starts)].tolist(), above[[end - 1 for end in ends]].tolist()
    for first, last, low, high in zip(starts, ends, *spans, strict=True):
        far = _distances(z[first:last], z[:high])
        # Of the rows' own neighbourhood: 1 for smaller s, 1/2 for equal.
        place = torch.arange(low, high, device=w.device)
        share = 0.5 * (
            (place < below[first:last, None]).to(w.dtype) + (place < above[first:last, None]).to(w.dtype)
        )
        far[:, low:].mul_(share)
        weight, rows = (grown[low] + share.double() @ both[low:high]).unbind(1)
        slope[first:last] = torch.mv(far, w[:high]) - (b_row[first:last] - b_mean) * weight - rows
    return 4 * w * slope


def _means_in_order(s: Tensor, w: Tensor, *, below: Tensor, above: Tensor) -> Tensor:
    """Weighted mean of |s_i - s_j| over j, shape (n,), for s in order; w sums to one."""
    nothing = w.new_zeros(1)
    weight, moment = torch.cat([nothing, w.cumsum(0)]), torch.cat([nothing, (w * s).cumsum(0)])
    more, less = weight[-1] - weight[above], weight[below]
    return s * (less - more) + (moment[-1] - moment[above]) - moment[below]


def _row_means(z: Tensor, w: Tensor) -> Tensor:
    """Weighted mean of |z_i - z_j| over j, shape (n,)."""
    if z.ndim > 1:
        parts = z.split(_rows_at_once(len(z)))
        return torch.cat([torch.mv(_distances(part, z), w) for part in parts]).double()
    ordered, order = z.double().sort()
    place = torch.arange(len(z), device=z.device)
    means = torch.empty_like(ordered)
    means[order] = _means_in_order(ordered, w[order].double(), below=place, above=place + 1)
    return means


def _rows_at_once(count: int) -> int:
    return max(16, min(512, 2**18 // max(1, count)))


def _distances(z: Tensor, others: Tensor) -> Tensor:
    if z.ndim == 1:
        return (z[:, None] - others[None]).abs_()
    # By differences: the binomial formula loses the digits of small distances.
    return torch.cdist(z, others, compute_mode="donot_use_mm_for_euclid_dist")


def _mean_square(s: Tensor, w: Tensor) -> Tensor:
    """Weighted mean of |s_i - s_j|^2 over all pairs."""
    if s.ndim > 1:
        return torch.stack([_mean_square(column, w) for column in s.T]).sum()
    mean = (w * s).sum()
    return 2 * (w * (s - mean) ** 2).sum()
