"""Distance correlation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hepdecorr.errors import InputError
from hepdecorr.learning.batches import Batch
from hepdecorr.learning.terms.term import Term


class DisCo(Term):
    """Squared distance correlation of score and nuisance (Kasieczka, Shih, 2001.05310, eqs. 3-7).

    Zero if and only if they are independent, else up to 1; no adversary.  nuisance: a list of them stands for
    one of as many dimensions, with Euclidean distances after the transform of each (Szekely et al. 2007):
    zero only if the score is independent of all of them jointly, which a term for each does not ask.

    draw: look not at the batch but at so many background events, drawn each turn from all training events
    with the tail weight as probability (their scores are refreshed every `refresh` turns): the far tail is
    where one cuts, and a batch has too few events there.  0, or events that are streamed: look at the batch,
    with the tail weight.  unbiased: take the leading part of the bias off, about 2.4 / events looked at.  The
    published form is `sees: score, tail: 0, draw: 0, unbiased: false`, which leaves the tail dependent.
    Time and memory grow with the square of the events looked at.
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
    itself, and <a^2> is twice the variance, which leaves one n x n product to differentiate.
    """
    w = w / w.sum()
    with torch.no_grad():
        b = _distances(z)
        b_row = b @ w
        b_mean = w @ b_row
        b_variance = _mean_square(z, w) - 2 * (w * b_row**2).sum() + b_mean**2
        b = b.sub_(b_row[:, None]).sub_(b_row[None]).add_(b_mean).mul_(w[:, None]).mul_(w[None])
    # Distances are invariant under shifts; without one the squares lose digits.
    s = s - (w * s).sum().detach()
    a = (s[:, None] - s[None]).abs()
    a_row = a @ w
    a_mean = w @ a_row
    a_variance = _mean_square(s, w) - 2 * (w * a_row**2).sum() + a_mean**2
    covariance = (a * b).sum()
    if unbiased:
        # What the V-statistic would be on average if the z were dealt to the events by lot.
        square = w**2
        lot = 2 * square @ a_row - square.sum() * a_mean
        covariance = covariance - b_mean / (1 - square.sum()) * lot
    scale = (a_mean * b_mean).detach() ** 2 * 1e-8 + 1e-30
    return covariance / (a_variance * b_variance + scale).clamp_min(1e-30).sqrt()


def _distances(z: Tensor) -> Tensor:
    if z.ndim == 1:
        return (z[:, None] - z[None]).abs()
    # By differences: the binomial formula loses the digits of small distances.
    return torch.cdist(z, z, compute_mode="donot_use_mm_for_euclid_dist")


def _mean_square(s: Tensor, w: Tensor) -> Tensor:
    """Weighted mean of |s_i - s_j|^2 over all pairs."""
    if s.ndim > 1:
        return torch.stack([_mean_square(column, w) for column in s.T]).sum()
    mean = (w * s).sum()
    return 2 * (w * (s - mean) ** 2).sum()
