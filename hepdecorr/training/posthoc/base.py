"""What a score transform is: monotone in the score at each value of its nuisances, fitted on background."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from hepdecorr.errors import InputError
from hepdecorr.stats.arrays import effective_count

FloatArray = npt.NDArray[np.float64]

MIN_EFFECTIVE_EVENTS = 200.0  # effective background events below which nothing is fitted


@dataclass(frozen=True)
class BackgroundSample:
    """What a transform is fitted on: scores (n,), nuisances (n, k) and weights (n,), float64."""

    score: FloatArray
    z: FloatArray
    w: FloatArray

    @classmethod
    def from_arrays(
        cls, score: FloatArray, z: FloatArray, w: FloatArray, *, nuisance_names: Sequence[str]
    ) -> BackgroundSample:
        """Events of positive weight; InputError for too few, for a constant nuisance, for NaN."""
        kept = w > 0
        score, z, w = (np.asarray(v[kept], np.float64) for v in (score, z, w))
        if effective_count(w) < MIN_EFFECTIVE_EVENTS:
            raise InputError(
                f"posthoc: {effective_count(w):.0f} effective background events with positive weight; "
                "a map of the "
                f"score takes at least {MIN_EFFECTIVE_EVENTS:g}: train on more events, or leave 'posthoc' out"
            )
        for name, values in (
            ("score", score[:, None]),
            *((n, z[:, k, None]) for k, n in enumerate(nuisance_names)),
        ):
            if bad := int(np.count_nonzero(~np.isfinite(values))):
                raise InputError(f"posthoc: {name} is not finite in {bad} of {len(values)} background events")
            if np.ptp(values) == 0:
                raise InputError(
                    f"posthoc: {name} has the same value in all background events; there is nothing to map"
                )
        return cls(score, z, w / w.mean())


class ScoreTransform(nn.Module):
    """A transform of your own has these two verbs; what `forward` does must have a counterpart in ONNX."""

    def __init__(self, nuisance: str | Sequence[str], *, max_nuisances: int = 1) -> None:
        super().__init__()
        self.nuisances = (nuisance,) if isinstance(nuisance, str) else tuple(nuisance)
        if not 1 <= len(self.nuisances) <= max_nuisances:
            wanted = "one nuisance" if max_nuisances == 1 else "one or two nuisances"
            raise InputError(f"posthoc: {type(self).__name__} takes {wanted}, not {len(self.nuisances)}")

    @abstractmethod
    def fit(self, background: BackgroundSample) -> None:
        """Set the transform from background events that it may look at."""

    @abstractmethod
    def forward(self, score: Tensor, z: Tensor) -> Tensor:
        """The score (n,) of score (n,) and nuisances (n, k); outside the range of these as at its end."""
