"""Supervised alignment of sensitive dimensions with nuisances."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from hepdecorr.catalogue import suggest
from hepdecorr.errors import InputError
from hepdecorr.learning.batches import Batch
from hepdecorr.learning.latents.term import Latent, LatentTerm, weighted_mean
from hepdecorr.learning.terms.nuisance import Nuisance
from hepdecorr.learning.terms.strength import Growth

FORMS = ("probit", "bernoulli")


class SupervisedAlignment(LatentTerm):
    """Sensitive dimension i is made to carry nuisance i; v is the nuisance's background rank.

    form 'bernoulli': minus R_s of Tan, Urquijo (2020, eq. 6), cross-entropy of v and sigmoid(mean).
    Its optimum, mean = logit(v), has deviation 1.81 and is at odds with the prior.  form 'probit':
    squared distance of the mean from Phi^-1(v), which fits the prior exactly.  signal: weight of signal
    events beside background's 1.
    """

    def __init__(
        self,
        strength: float = 20.0,
        *,
        nuisances: Sequence[str],
        sensitive: int,
        form: str = "probit",
        signal: float = 0.2,
        start: float = 0.0,
        ramp: float = 0.0,
    ) -> None:
        super().__init__(growth=Growth(float(strength), start, ramp))
        if form not in FORMS:
            raise InputError(f"SupervisedAlignment: no form {form!r}{suggest(form, FORMS)}")
        if sensitive < len(nuisances):
            raise InputError(
                f"SupervisedAlignment: {len(nuisances)} nuisances need as many sensitive latents, "
                f"not {sensitive}"
            )
        self.form, self.signal = form, float(signal)
        self.scalings = nn.ModuleList(Nuisance("probit" if form == "probit" else "rank") for _ in nuisances)

    def fit(self, b: Batch, *, rows: int) -> None:  # noqa: ARG002
        """Ranks from background."""
        background = b.y == 0
        for k, scaling in enumerate(self.scalings):
            scaling.fit(b.z[background, k], b.w[background])  # type: ignore[operator]

    def price(self, latent: Latent, b: Batch) -> Tensor:
        """Sum over nuisances of the mean over background plus `signal` x the mean over signal."""
        price = latent.mean.new_zeros(())
        for k, scaling in enumerate(self.scalings):
            v, r = scaling(b.z[:, k]), latent.mean[:, k]
            if self.form == "probit":
                distance = (r - v) ** 2
            else:
                distance = F.binary_cross_entropy_with_logits(r, v, reduction="none")
            background = b.w * (b.y == 0)
            price = price + weighted_mean(distance, background)
            if self.signal:
                price = price + self.signal * weighted_mean(distance, b.w - background)
        return price
