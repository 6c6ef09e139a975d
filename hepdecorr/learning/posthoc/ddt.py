"""A straight line taken off the score: designed decorrelated taggers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from hepdecorr.errors import InputError
from hepdecorr.learning.posthoc.grid import quantiles
from hepdecorr.learning.posthoc.transform import Background, Transform


class DDT(Transform):
    """t' = t - M (rho - ref): Dolen, Harris, Marzani, Rappoccio, Tran, JHEP 05 (2016) 156, sect. 3.

    M is the slope of the background's mean score in `bins` bins of equal content of rho, fitted where rho
    lies in `range` (default: everywhere); `ref` (default: the middle of the range) is where the score stays
    as it is.  Beyond the range the shift is that at its end: the line was not fitted there.  It flattens the
    mean, and cuts as far as the score only shifts with rho.
    """

    slope: Tensor
    ref: Tensor
    bounds: Tensor

    def __init__(
        self,
        *,
        nuisance: str,
        range: Sequence[float] | None = None,  # noqa: A002  what the paper and the YAML call it
        ref: float | None = None,
        bins: int = 20,
    ) -> None:
        super().__init__(nuisance)
        if range is not None and (len(range) != 2 or not range[0] < range[1]):
            raise InputError(f"posthoc: DDT: range must be [low, high] with low < high, not {range!r}")
        if bins < 3:
            raise InputError(f"posthoc: DDT: bins must be at least 3, not {bins}")
        self.bins, self._range, self._ref = bins, range, ref
        self.register_buffer("slope", torch.zeros(()))
        self.register_buffer("ref", torch.zeros(()))
        self.register_buffer("bounds", torch.zeros(2))

    def fit(self, background: Background) -> None:
        """The line through the means of the bins, each with the weight of its events."""
        z, score, w = background.z[:, 0], background.score, background.w
        low, high = self._range or (float(z.min()), float(z.max()))
        inside = (z >= low) & (z <= high)
        if np.count_nonzero(inside) < 10 * self.bins or np.ptp(z[inside]) == 0:
            raise InputError(
                f"posthoc: DDT: {np.count_nonzero(inside)} background events with {self.nuisances[0]} in "
                f"[{low:g}, {high:g}]; too few for {self.bins} bins, or all at one value: give another range"
            )
        z, score, w = z[inside], score[inside], w[inside]
        edges = np.unique(quantiles(z, w, np.arange(1, self.bins) / self.bins))
        place = np.searchsorted(edges, z, side="right")
        content, *sums = (np.bincount(place, w * v) for v in (np.ones_like(z), z, score))
        filled = content > 0
        x, y = (s[filled] / content[filled] for s in sums)
        slope = np.polynomial.polynomial.polyfit(x - x.mean(), y, 1, w=np.sqrt(content[filled]))[1]
        self.slope.fill_(slope)
        self.ref.fill_((low + high) / 2 if self._ref is None else self._ref)
        self.bounds.copy_(torch.tensor([low, high]))

    def forward(self, score: Tensor, z: Tensor) -> Tensor:
        """Shape (n,)."""
        rho = torch.minimum(torch.maximum(z[:, 0], self.bounds[0]), self.bounds[1])
        return score - self.slope * (rho - self.ref)
