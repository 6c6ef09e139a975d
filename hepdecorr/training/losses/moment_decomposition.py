"""Cumulative distributions of the score in bins of the nuisance, and what they differ by.

Moment decomposition.

Flatness loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor

from hepdecorr.errors import InputError
from hepdecorr.training.data.batches import Batch
from hepdecorr.training.losses.base import DependencePenalty
from hepdecorr.training.losses.nuisance_transform import NuisanceTransform
from hepdecorr.training.losses.predictive_adversaries import MAX_CELLS, cell_index


class BinnedCDFs(NamedTuple):
    """Empirical cumulative distributions between n - 1 neighbouring scores."""

    score_gaps: Tensor  # (n - 1,): from each score to the next; the only part with a gradient
    cdfs: Tensor  # (n - 1, bins): F(s | bin), weighted; 0 in bins without weight
    bin_fractions: Tensor  # (bins,): of the weight in each bin


def compute_binned_cdfs(s: Tensor, bin_indices: Tensor, w: Tensor, *, num_bins: int) -> BinnedCDFs:
    """The steps of scores s (n,) that lie in the bins `cell` (n,) with weights w (n,).

    An integral over the score of anything made of the F is sum(gap * it): exact, since the F are constant
    between neighbours, and so is its derivative, since no score passes another under a small move.  The
    delta functions of dF/ds (Kitouni et al., 2010.09745, section 3) need no smoothing then.
    """
    s, order = s.sort()
    weights = torch.zeros(len(s), num_bins, dtype=w.dtype, device=w.device)
    weights[torch.arange(len(s), device=w.device), bin_indices[order]] = w[order].clamp_min(0)
    grown = weights.cumsum(0)
    total = grown[-1]
    tiny = torch.finfo(w.dtype).tiny
    return BinnedCDFs(s.diff(), (grown / total.clamp_min(tiny))[:-1], total / total.sum().clamp_min(tiny))


def score_spread(binned_cdfs: BinnedCDFs) -> Tensor:
    """Integral of F (1 - F) over the score, F of all bins: half the mean distance of two events (Gini)."""
    whole = binned_cdfs.cdfs @ binned_cdfs.bin_fractions
    return (binned_cdfs.score_gaps * whole * (1 - whole)).sum()


def divide_by_spread(integral: Tensor, binned_cdfs: BinnedCDFs) -> Tensor:
    """The integral in units of the score's spread, so that a narrower score is not a better one."""
    return integral / (score_spread(binned_cdfs) + 1e-9)


MIN_MOMENT = 1e-6  # below it a moment counts as nothing


class MoDe(DependencePenalty):
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
        score_as: str = "logit",
        classes: str = "background",
        top_fraction: float = 1.0,
        tail_weight: float | None = None,
        transform: str = "standard",
    ) -> None:
        self._check_settings(order, bins, max_slope=max_slope, monotonic=monotonic)
        tail_weight = (0.0 if order else 0.01) if tail_weight is None else tail_weight
        if order and (top_fraction < 1 or tail_weight > 0):
            raise InputError(
                f"MoDe of order {order}: a line is none under top_fraction or tail_weight; leave both out"
            )
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

    def fit(self, batch: Batch) -> None:
        """As every term; also the edges of the bins and the means of the Legendre polynomials in them."""
        super().fit(batch)
        own, scaling = self.event_mask(batch), cast("NuisanceTransform", self.nuisance_transforms[0])
        last = len(scaling.knots) - 1
        quantiles = torch.linspace(0, last, self.bins + 1, device=scaling.knots.device).round().long()
        edges = scaling(scaling.knots[quantiles]).double()
        self.edges.copy_(edges)
        m = self._scale_to_range(self._transform_nuisances(batch.z[own]).double()).clamp(-1, 1)
        cell, w = (
            self._bin_indices(self._transform_nuisances(batch.z[own])),
            batch.w[own].double().clamp_min(0),
        )
        polynomials = _legendre_polynomials(m, self.order)
        summed = polynomials.new_zeros(self.bins, self.order + 1).index_add(0, cell, w[:, None] * polynomials)
        filled = polynomials.new_zeros(self.bins).index_add(0, cell, w)
        self.basis.copy_(summed / filled.clamp_min(1e-30)[:, None])
        self.widths.copy_(self._scale_to_range(edges).diff())

    def _scale_to_range(self, z: Tensor) -> Tensor:
        """The nuisance from -1 to 1."""
        low, high = self.edges[0], self.edges[-1]
        return 2 * (z - low) / (high - low).clamp_min(1e-30) - 1

    def _bin_indices(self, z: Tensor) -> Tensor:
        cell: Tensor = torch.searchsorted(self.edges[1:-1].contiguous(), z.double().contiguous(), right=True)
        return cell

    def measure_dependence(self, s: Tensor, z: Tensor, w: Tensor) -> Tensor:
        """The loss of the transformed nuisance z."""
        steps = compute_binned_cdfs(s, self._bin_indices(z), w, num_bins=self.bins)
        apart = steps.cdfs - self._fit_cdfs(steps.cdfs, steps.bin_fractions > 0)
        integral = (steps.score_gaps * (apart**2 @ steps.bin_fractions)).sum()
        return divide_by_spread(integral, steps) if self.relative else integral

    def _fit_cdfs(self, cdfs: Tensor, has_weight: Tensor) -> Tensor:
        """The fit to F(s|m), shape (n - 1, bins)."""
        basis = self.basis.to(cdfs)
        weighed = basis * (self.widths.to(cdfs) * has_weight)[:, None]
        moments = cdfs @ weighed @ torch.linalg.pinv(weighed.T @ basis)
        if self.max_slope:
            most = (self.max_slope * moments[:, 0]).clamp_min(MIN_MOMENT)
            moments[:, 1] = most * torch.tanh(moments[:, 1] / most)
        if self.monotonic:
            most = (moments[:, 1].abs() / 3).clamp_min(MIN_MOMENT)
            moments[:, 2] = most * torch.tanh(moments[:, 2] / most)
        smooth: Tensor = moments @ basis.T
        return smooth


def _legendre_polynomials(m: Tensor, order: int) -> Tensor:
    """P_0 to P_order at m (n,), shape (n, order + 1)."""
    return torch.stack([torch.ones_like(m), m, 0.5 * (3 * m**2 - 1)][: order + 1], 1)


class Flatness(DependencePenalty):
    """Sum over bins of share x integral |F_bin(s) - F(s)|^power ds (Rogozhnikov et al., 1410.4140, eq. 8).

    When to use it: where every cut shall have the same efficiency all over one or two nuisances, such as a
    Dalitz plot; for one nuisance its square is MoDe of order 0.  It costs n x bins and not n^2, and is
    happy with large batches.  It does not see what happens within a bin, and bins of few events are noise:
    about (bins - 1) / events of the price.

    bins: quantiles of each nuisance; several nuisances are protected jointly on the product of their bins.
    relative: divide by the integral of F (1 - F), so that a score cannot pay less by becoming narrower and
    the price is at most 1 for power 2; the published form is `relative: false, tail: 0`.
    """

    joint = True

    def __init__(
        self,
        nuisance: str | Sequence[str],
        *,
        nuisances: Sequence[str],
        bins: int = 15,
        power: float = 2.0,
        relative: bool = True,
        strength: float = 10.0,
        start: float = 0.125,
        ramp: float = 0.125,
        score_as: str = "logit",
        classes: str = "background",
        top_fraction: float = 1.0,
        tail_weight: float = 0.01,
    ) -> None:
        cells = bins ** (1 if isinstance(nuisance, str) else len(nuisance))
        if bins < 2 or cells > MAX_CELLS:
            raise InputError(
                f"Flatness: {bins} bins of each nuisance make {cells} cells; there must be at least 2 bins "
                f"and at most {MAX_CELLS} cells"
            )
        if power < 1:
            raise InputError(f"Flatness: power must be at least 1, not {power:g}")
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
            transform="rank",
        )
        self.bins, self.num_cells, self.power, self.relative = bins, cells, power, relative

    def measure_dependence(self, s: Tensor, z: Tensor, w: Tensor) -> Tensor:
        """The loss of ranks z."""
        steps = compute_binned_cdfs(s, cell_index(z, self.bins), w, num_bins=self.num_cells)
        apart = steps.cdfs - (steps.cdfs @ steps.bin_fractions)[:, None]
        integral = (steps.score_gaps * (apart.abs() ** self.power @ steps.bin_fractions)).sum()
        return divide_by_spread(integral, steps) if self.relative else integral
