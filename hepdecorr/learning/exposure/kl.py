"""Exposure of the latents."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from hepdecorr.errors import InputError
from hepdecorr.learning.exposure.exposure import Exposure, Seen, paired
from hepdecorr.learning.latents.term import weighted_mean


class KLOE(Exposure):
    """L_OE = min(0, KL_out - KL_in - margin) (Cheng's slides, 'Outlier Exposure'), in nats.

    When to use it: for score 'kl', which the reconstruction leaves free to learn what is no background; of
    outliers matched in mass it learns nothing of the mass.  Outliers are not decoded, which saves time.

    form: 'batch' compares the means over a batch of the summed KL, as the slides write it: it has done its
    duty when the means are apart.  'pair': the summed KL of one outlier and one background jet, averaged over
    the pairs: each is to be apart.  'latent': of one dimension of such a pair, averaged over pairs and
    dimensions, as the author's code does; the margin then is one for each dimension (1 to 2 there).
    """

    forms = ("batch", "pair", "latent")

    def __init__(
        self,
        *,
        margin: float = 1.0,
        strength: float = 2.0,
        form: str = "batch",
        anneal: Mapping[str, Any] | str = "cyclic",
        match: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(strength=strength, form=form, anneal=anneal, match=match)
        if not 0 <= margin < math.inf:
            raise InputError(
                f"KLOE: margin is {margin:g} and must be finite and not negative: it is by how many nats "
                "outliers are to exceed background; 1 to 2 are usual"
            )
        self.margin = float(margin)

    def price(self, outside: Seen, inside: Seen) -> Tensor:
        """Not negative, 0 where the margin is kept."""
        if self.form == "batch":
            apart = weighted_mean(outside.kl.sum(1), outside.w) - weighted_mean(inside.kl.sum(1), inside.w)
            return (self.margin - apart).clamp_min(0)
        first, second, w = paired(outside, inside)
        if self.form == "pair":
            return weighted_mean((self.margin - first.kl.sum(1) + second.kl.sum(1)).clamp_min(0), w)
        return weighted_mean((self.margin - first.kl + second.kl).clamp_min(0).mean(1), w)
