"""Moment decomposition."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from hepdecorr.errors import InputError
from hepdecorr.learning.batches import Batch
from hepdecorr.learning.terms.cumulative import cumulate, relative
from hepdecorr.learning.terms.nuisance import Nuisance
from hepdecorr.learning.terms.penalty import Penalty

LOWEST = 1e-6  # below it a moment counts as nothing


class MoDe(Penalty):
    """Mean over bins m of the integral |F(s|m) - fit(s|m)|^2 ds (Kitouni et al., 2010.09745, eqs. 2-6).

    When to use it: order 0 for independence of one nuisance, at less cost than DisCo; order 1 or 2 where
    independence asks too much: the efficiency of every cut may then be linear or quadratic in the nuisance,
    which fakes no bump in a smooth spectrum and leaves the tagger more to work with.

    The fit is sum_l c_l(s) P_l(m) up to `order`, m going from -1 to 1 over the background's range; the c_l
    are its Legendre moments, by least squares over the bins, which for narrow bins are the published
    c_l = (2 l + 1)/2 integral P_l F dm.  max_slope: the largest |c_1| in units of c_0, 0 for none.
    monotonic: the parabola of order 2 must not turn within the range, |c_2| <= |c_1| / 3.  transform: linear
    in what?  'standard' or 'none': in the nuisance itself, 'rank': in its rank.  bins: of equal background.

    relative: divide by the integral of F (1 - F), so that a score cannot pay less by becoming narrower; the
    published form is `relative: false, sees: score`.  The tail weight, and a cut, bend a line, so that tail
    and top are for order 0 alone (tail: 0.01 there unless told otherwise).
    """

    edges: Tensor
    widths: Tensor
    basis: Tensor

    def __init__(
        self,
        nuisance: str,
        *,
        nuisances: Sequence[str],
        order: int = 0,
        bins: int = 16,
        max_slope: float = 0.0,
        monotonic: bool = False,
        relative: bool = True,
        strength: float = 10.0,
        start: float = 0.125,
        ramp: float = 0.125,
        sees: str = "logit",
        given: str = "background",
        top: float = 1.0,
        tail: float | None = None,
        transform: str = "standard",
    ) -> None:
        self._check_settings(order, bins, max_slope=max_slope, monotonic=monotonic)
        tail = (0.0 if order else 0.01) if tail is None else tail
        if order and (top < 1 or tail > 0):
            raise InputError(f"MoDe of order {order}: a line is none under top or tail; leave both out")
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
        self.order, self.bins, self.max_slope = order, bins, float(max_slope)
        self.monotonic, self.relative = monotonic, relative
        self.register_buffer("edges", torch.linspace(-1, 1, bins + 1, dtype=torch.float64))
        self.register_buffer("widths", torch.zeros(bins, dtype=torch.float64))
        self.register_buffer("basis", torch.zeros(bins, order + 1, dtype=torch.float64))

    @staticmethod
    def _check_settings(order: int, bins: int, *, max_slope: float, monotonic: bool) -> None:
        if order not in (0, 1, 2):
            raise InputError(f"MoDe: order must be 0, 1 or 2, not {order}")
        if bins < order + 2:
            raise InputError(f"MoDe of order {order}: bins must be at least {order + 2}, not {bins}")
        if max_slope < 0 or (max_slope and not order):
            raise InputError("MoDe: max_slope is positive, and for order 1 or 2")
        if monotonic and order != 2:
            raise InputError("MoDe: monotonic is for order 2; a line is monotonic anyway")

    def fit(self, b: Batch) -> None:
        """As every term; also the edges of the bins and the means of the Legendre polynomials in them."""
        super().fit(b)
        own, scaling = self.among(b), cast("Nuisance", self.scalings[0])
        last = len(scaling.knots) - 1
        quantiles = torch.linspace(0, last, self.bins + 1, device=scaling.knots.device).round().long()
        edges = scaling(scaling.knots[quantiles]).double()
        self.edges.copy_(edges)
        m = self._within(self._scaled(b.z[own]).double()).clamp(-1, 1)
        cell, w = self._bin(self._scaled(b.z[own])), b.w[own].double().clamp_min(0)
        polynomials = _legendre(m, self.order)
        summed = polynomials.new_zeros(self.bins, self.order + 1).index_add(0, cell, w[:, None] * polynomials)
        filled = polynomials.new_zeros(self.bins).index_add(0, cell, w)
        self.basis.copy_(summed / filled.clamp_min(1e-30)[:, None])
        self.widths.copy_(self._within(edges).diff())

    def _within(self, z: Tensor) -> Tensor:
        """The nuisance from -1 to 1."""
        low, high = self.edges[0], self.edges[-1]
        return 2 * (z - low) / (high - low).clamp_min(1e-30) - 1

    def _bin(self, z: Tensor) -> Tensor:
        cell: Tensor = torch.searchsorted(self.edges[1:-1].contiguous(), z.double().contiguous(), right=True)
        return cell

    def measure(self, s: Tensor, z: Tensor, w: Tensor) -> Tensor:
        """The loss of the transformed nuisance z."""
        steps = cumulate(s, self._bin(z), w, cells=self.bins)
        apart = steps.within - self._smooth(steps.within, steps.share > 0)
        integral = (steps.gap * (apart**2 @ steps.share)).sum()
        return relative(integral, steps) if self.relative else integral

    def _smooth(self, within: Tensor, filled: Tensor) -> Tensor:
        """The fit to F(s|m), shape (n - 1, bins)."""
        basis = self.basis.to(within)
        weighed = basis * (self.widths.to(within) * filled)[:, None]
        moments = within @ weighed @ torch.linalg.pinv(weighed.T @ basis)
        if self.max_slope:
            most = (self.max_slope * moments[:, 0]).clamp_min(LOWEST)
            moments[:, 1] = most * torch.tanh(moments[:, 1] / most)
        if self.monotonic:
            most = (moments[:, 1].abs() / 3).clamp_min(LOWEST)
            moments[:, 2] = most * torch.tanh(moments[:, 2] / most)
        smooth: Tensor = moments @ basis.T
        return smooth


def _legendre(m: Tensor, order: int) -> Tensor:
    """P_0 to P_order at m (n,), shape (n, order + 1)."""
    return torch.stack([torch.ones_like(m), m, 0.5 * (3 * m**2 - 1)][: order + 1], 1)
