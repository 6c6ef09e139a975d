"""Supervised alignment of sensitive dimensions with nuisances."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from hepdecorr.catalogue import suggest
from hepdecorr.errors import InputError
from hepdecorr.learning.batches import Batch
from hepdecorr.learning.latents.discrete import Values, misses
from hepdecorr.learning.latents.term import Latent, LatentTerm, weighted_mean
from hepdecorr.learning.terms.nuisance import Nuisance
from hepdecorr.learning.terms.strength import Growth

FORMS = ("probit", "bernoulli")


class SupervisedAlignment(LatentTerm):
    """Sensitive dimension i is made to carry nuisance i; v is the nuisance's background rank.

    form 'bernoulli': minus R_s of Tan, Urquijo (2020, eq. 6), cross-entropy of v and sigmoid(mean).
    Its optimum, mean = logit(v), has deviation 1.81 and is at odds with the prior.  form 'probit':
    squared distance of the mean from Phi^-1(v), which fits the prior exactly.  A nuisance of few values has a
    discrete latent instead, and pays its cross-entropy with the true value.  signal: weight of signal events
    beside background's 1.
    """

    def __init__(
        self,
        strength: float = 20.0,
        *,
        nuisances: Sequence[str],
        sensitive: int,
        values: Sequence[int] = (),
        form: str = "probit",
        signal: float = 0.2,
        start: float = 0.0,
        ramp: float = 0.0,
    ) -> None:
        super().__init__(growth=Growth(float(strength), start, ramp))
        if form not in FORMS:
            raise InputError(f"SupervisedAlignment: no form {form!r}{suggest(form, FORMS)}")
        counts = tuple(values) or (0,) * len(nuisances)
        if sensitive < counts.count(0):
            raise InputError(
                f"SupervisedAlignment: {counts.count(0)} nuisances need as many sensitive latents, "
                f"not {sensitive}"
            )
        self.form, self.signal = form, float(signal)
        self.scalings = nn.ModuleList(
            Values(count, name=name) if count else Nuisance("probit" if form == "probit" else "rank")
            for name, count in zip(nuisances, counts, strict=True)
        )

    def fit(self, b: Batch, *, rows: int) -> None:  # noqa: ARG002
        """Ranks from background."""
        background = b.y == 0
        for k, scaling in enumerate(self.scalings):
            if isinstance(scaling, Values):
                scaling.fit(b.z[:, k])
            else:
                scaling.fit(b.z[background, k], b.w[background])  # type: ignore[operator]

    def price(self, latent: Latent, b: Batch) -> Tensor:
        """Sum over nuisances of the mean over background plus `signal` x the mean over signal."""
        price = latent.mean.new_zeros(())
        background = b.w * (b.y == 0)
        for distance in self._distances(latent, b):
            price = price + weighted_mean(distance, background)
            if self.signal:
                price = price + self.signal * weighted_mean(distance, b.w - background)
        return price

    def _distances(self, latent: Latent, b: Batch) -> Iterator[Tensor]:
        """Of each nuisance, how far its latent is from it, (n,)."""
        single, discrete = iter(latent.mean.T), iter(latent.classes)
        for k, scaling in enumerate(self.scalings):
            v = scaling(b.z[:, k])
            if isinstance(scaling, Values):
                yield misses(next(discrete), v)
            elif self.form == "probit":
                yield (next(single) - v) ** 2
            else:
                yield F.binary_cross_entropy_with_logits(next(single), v, reduction="none")
