"""Flatness loss."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from hepdecorr.errors import InputError
from hepdecorr.learning.terms.cumulative import cumulate, relative
from hepdecorr.learning.terms.penalty import Penalty
from hepdecorr.learning.terms.softmax import MOST_CELLS, cell_of


class Flatness(Penalty):
    """Sum over bins of share x integral |F_bin(s) - F(s)|^power ds (Rogozhnikov et al., 1410.4140, eq. 8).

    When to use it: where every cut shall have the same efficiency all over one or two nuisances, such as a
    Dalitz plot; for one nuisance its square is MoDe of order 0.  It costs n x bins and not n^2, and is
    happy with large batches.  It does not see what happens within a bin, and bins of few events are noise:
    about (bins - 1) / events of the price.

    bins: quantiles of each nuisance; several nuisances are protected jointly on the product of their bins.
    relative: divide by the integral of F (1 - F), so that a score cannot pay less by becoming narrower and
    the price is at most 1 for power 2; the published form is `relative: false, tail: 0`.
    """

    several = True

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
        sees: str = "logit",
        given: str = "background",
        top: float = 1.0,
        tail: float = 0.01,
    ) -> None:
        cells = bins ** (1 if isinstance(nuisance, str) else len(nuisance))
        if bins < 2 or cells > MOST_CELLS:
            raise InputError(
                f"Flatness: {bins} bins of each nuisance make {cells} cells; there must be at least 2 bins "
                f"and at most {MOST_CELLS} cells"
            )
        if power < 1:
            raise InputError(f"Flatness: power must be at least 1, not {power:g}")
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
            transform="rank",
        )
        self.bins, self.cells, self.power, self.relative = bins, cells, power, relative

    def measure(self, s: Tensor, z: Tensor, w: Tensor) -> Tensor:
        """The loss of ranks z."""
        steps = cumulate(s, cell_of(z, self.bins), w, cells=self.cells)
        apart = steps.within - (steps.within @ steps.share)[:, None]
        integral = (steps.gap * (apart.abs() ** self.power @ steps.share)).sum()
        return relative(integral, steps) if self.relative else integral
