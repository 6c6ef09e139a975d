"""The threshold of one background efficiency as a function of the nuisances, taken off the score."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from hepdecorr.catalogue import suggest
from hepdecorr.errors import InputError
from hepdecorr.learning.posthoc.distribution import POINTS, Estimate, cells, ranked
from hepdecorr.learning.posthoc.grid import Axis, Curve, knots, quantiles
from hepdecorr.learning.posthoc.transform import Array, Background, Transform

FORMS = ("smooth", "binned", "knn")


class FixedEfficiency(Transform):
    """t = s - q(z), q the score below which the share `rejection` of background lies at z.

    ATLAS, ATL-PHYS-PUB-2018-014 (there D2 at 16 % of the background, in rho and pT).  A cut at
    t > 0 passes 1 - rejection everywhere; other cuts sculpt as far as the shape of the score changes with z.

    form: 'smooth' and 'binned' as Estimate has them, whose arguments these are; 'knn', the paper's, takes the
    quantile in each of `bins` cells (400 by default for two nuisances: 20 x 20) and between them the mean of
    the `neighbours` nearest ones, in the nuisances' ranks, weighed by their inverse distance.
    """

    def __init__(
        self,
        *,
        nuisance: str | Sequence[str],
        rejection: float = 0.95,
        form: str = "smooth",
        bins: int | None = None,
        interpolate: bool = True,
        thresholds: int = 81,
        pieces: int | None = None,
        neighbours: int = 5,
    ) -> None:
        super().__init__(nuisance, most=2)
        if form not in FORMS:
            raise InputError(f"posthoc: FixedEfficiency: no form {form!r}{suggest(str(form), FORMS)}")
        if not 0 < rejection < 1:
            raise InputError(f"posthoc: FixedEfficiency: rejection {rejection}; it lies between 0 and 1")
        if type(neighbours) is not int or neighbours < 1:
            raise InputError(f"posthoc: FixedEfficiency: neighbours must be at least 1, not {neighbours!r}")
        self.rejection, self.form, self.neighbours = rejection, form, neighbours
        bins = bins if bins is not None else (20, 400)[len(self.nuisances) - 1]
        self.estimate = Estimate("binned" if form == "knn" else form, bins, interpolate, thresholds, pieces)
        self.curve: Curve | None = None

    def fit(self, background: Background) -> None:
        """From background events."""
        if self.form == "knn":
            self.curve = self._nearest(background)
            return
        found = self.estimate.fit(background)
        self.curve = Curve(found.axes, found.quantile(self.rejection))

    def _nearest(self, background: Background) -> Curve:
        # Imported here: what applies nothing of this should not wait for it.
        from sklearn.neighbors import KNeighborsRegressor

        axes = [Axis(knots(z, background.w, number=POINTS[len(self.nuisances) - 1])) for z in background.z.T]
        u = np.stack([ranked(axis, z) for axis, z in zip(axes, background.z.T, strict=True)], 1)
        places = cells(background, bins=self.estimate.bins, interpolate=True)[1]
        own = [places == cell for cell in np.unique(places)]
        if len(own) < self.neighbours:
            raise InputError(f"posthoc: FixedEfficiency: {len(own)} cells for {self.neighbours} neighbours")
        centres = np.array([np.average(u[o], axis=0, weights=background.w[o]) for o in own])
        at = np.array([self.rejection])
        found = [float(quantiles(background.score[o], background.w[o], at)[0]) for o in own]
        near = KNeighborsRegressor(self.neighbours, weights="distance").fit(centres, found)
        grid = np.meshgrid(*(np.linspace(0, 1, axis.size) for axis in axes), indexing="ij")
        values: Array = near.predict(np.stack([g.ravel() for g in grid], 1))
        return Curve(axes, values.reshape(grid[0].shape))

    def forward(self, score: Tensor, z: Tensor) -> Tensor:
        """Shape (n,)."""
        if self.curve is None:
            raise InputError("posthoc: FixedEfficiency is not fitted yet")
        shifted: Tensor = score - self.curve(z)
        return shifted
