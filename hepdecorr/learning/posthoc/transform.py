"""What a score transform is: monotone in the score at each value of its nuisances, fitted on background."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from hepdecorr.errors import InputError
from hepdecorr.validation.measures.events import effective

Array = npt.NDArray[np.float64]

LEAST = 200.0  # effective background events below which nothing is fitted


@dataclass(frozen=True)
class Background:
    """What a transform is fitted on: scores (n,), nuisances (n, k) and weights (n,), float64."""

    score: Array
    z: Array
    w: Array

    @classmethod
    def checked(cls, score: Array, z: Array, w: Array, *, names: Sequence[str]) -> Background:
        """Events of positive weight; InputError for too few, for a constant nuisance, for NaN."""
        kept = w > 0
        score, z, w = (np.asarray(v[kept], np.float64) for v in (score, z, w))
        if effective(w) < LEAST:
            raise InputError(
                f"posthoc: {effective(w):.0f} effective background events with positive weight; a map of the "
                f"score takes at least {LEAST:g}: train on more events, or leave 'posthoc' out"
            )
        for name, values in (("score", score[:, None]), *((n, z[:, k, None]) for k, n in enumerate(names))):
            if bad := int(np.count_nonzero(~np.isfinite(values))):
                raise InputError(f"posthoc: {name} is not finite in {bad} of {len(values)} background events")
            if np.ptp(values) == 0:
                raise InputError(
                    f"posthoc: {name} has the same value in all background events; there is nothing to map"
                )
        return cls(score, z, w / w.mean())


class Transform(nn.Module):
    """A transform of your own has these two verbs; what `forward` does must have a counterpart in ONNX."""

    def __init__(self, nuisance: str | Sequence[str], *, most: int = 1) -> None:
        super().__init__()
        self.nuisances = (nuisance,) if isinstance(nuisance, str) else tuple(nuisance)
        if not 1 <= len(self.nuisances) <= most:
            wanted = "one nuisance" if most == 1 else "one or two nuisances"
            raise InputError(f"posthoc: {type(self).__name__} takes {wanted}, not {len(self.nuisances)}")

    @abstractmethod
    def fit(self, background: Background) -> None:
        """Set the transform from background events that it may look at."""

    @abstractmethod
    def forward(self, score: Tensor, z: Tensor) -> Tensor:
        """The score (n,) of score (n,) and nuisances (n, k); outside the range of these as at its end."""
