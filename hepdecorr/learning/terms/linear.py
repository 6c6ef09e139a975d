"""Linear correlation."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from hepdecorr.learning.terms.penalty import Penalty


class LinearCorrelation(Penalty):
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
        sees: str = "logit",
        given: str = "background",
        top: float = 1.0,
        tail: float = 0.01,
        transform: str = "probit",
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

    def measure(self, s: Tensor, z: Tensor, w: Tensor) -> Tensor:
        """rho^2, in [0, 1]."""
        w = w / w.sum()
        s, z = s - (w * s).sum(), z - (w * z).sum()
        spread = (w * s**2).sum() * (w * z**2).sum()
        return (w * s * z).sum() ** 2 / (spread + 1e-12)
