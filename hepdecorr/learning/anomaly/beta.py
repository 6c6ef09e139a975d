"""The weight of the KL against the reconstruction, and what it means."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from hepdecorr.catalogue import suggest
from hepdecorr.errors import InputError

REDUCTIONS = ("sum", "mean")


@dataclass(frozen=True)
class Beta:
    """beta x KL of the loss |xhat - x|^2 / 4n + beta KL (Cheng's slides, 'From Autoencoder to VAE').

    reduction: of the KL over `latents` dimensions.  The slide writes D_KL, a 'sum'; the author's code takes
    the 'mean', so that its beta of 0.1 with 10 latents is one of 0.01 in the slide's formula.
    """

    value: float
    reduction: str
    latents: int

    def __post_init__(self) -> None:
        if self.reduction not in REDUCTIONS:
            raise InputError(f"reduction: no {self.reduction!r}{suggest(str(self.reduction), REDUCTIONS)}")
        if not 0 < self.value < math.inf:
            raise InputError(
                f"beta is {self.value:g} and must be above 0 and finite: without a price on the KL the "
                "latents have no prior to be unusual for; 0.01 to 1 are usual"
            )

    def reduced(self, kl: Tensor) -> Tensor:
        """KL as the loss takes it, (n,), of that of each dimension (n, d)."""
        return kl.sum(1) if self.reduction == "sum" else kl.mean(1)

    def elbo(self, length: int) -> float:
        """The same beta in nats of an ELBO, for which 1 is a true one, with `length` = n constituents.

        A decoder p(x|z) = N(xhat, 1) on the 4n scaled numbers has -log p = |xhat - x|^2 / 2 but for a
        constant, which is 2n times the loss: the KL, summed, then has the weight 2n beta (sum) or
        2n beta / d (mean).  It is also the variance of the Gaussian whose ELBO with beta = 1 this is.
        """
        summed = self.value if self.reduction == "sum" else self.value / self.latents
        return 2 * length * summed

    def told(self, length: int) -> str:
        """What it means, in a sentence."""
        return (
            f"beta {self.value:g} with KL as {self.reduction} over {self.latents} latents is beta "
            f"{self.elbo(length):.4g} in the ELBO of a Gaussian of unit variance on {4 * length} numbers"
        )
