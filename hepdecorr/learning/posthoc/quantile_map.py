"""The score becomes the background's conditional quantile: flat in the nuisance at every cut."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from hepdecorr.errors import InputError
from hepdecorr.learning.posthoc.distribution import Estimate, Surface
from hepdecorr.learning.posthoc.transform import Background, Transform


class QuantileMap(Transform):
    """t = log F(s|z) / (1 - F(s|z)), F the background's cumulative distribution of the score s given z.

    Its sigmoid is F itself: background is uniform in it at every z, and a cut at any threshold passes the
    same share everywhere.  The map keeps the order of scores at each z.  A score ordered by the likelihood
    ratio at each z is therefore, so mapped, the most powerful of all that are independent of z on background
    (the lemma of Neyman and Pearson, Phil. Trans. R. Soc. A 231 (1933) 289, at each z).

    nuisance: one, or a list of two.  The other arguments are those of Estimate.
    """

    def __init__(
        self,
        *,
        nuisance: str | Sequence[str],
        form: str = "smooth",
        bins: int = 20,
        interpolate: bool = True,
        thresholds: int = 81,
        pieces: int | None = None,
    ) -> None:
        super().__init__(nuisance, most=2)
        self.estimate = Estimate(form, bins, interpolate, thresholds, pieces)
        self.surface: Surface | None = None

    def fit(self, background: Background) -> None:
        """From background events."""
        found = self.estimate.fit(background)
        self.surface = Surface(found.axes, found.scores, found.odds)

    def forward(self, score: Tensor, z: Tensor) -> Tensor:
        """Shape (n,)."""
        if self.surface is None:
            raise InputError("posthoc: QuantileMap is not fitted yet")
        mapped: Tensor = self.surface(score, z)
        return mapped
