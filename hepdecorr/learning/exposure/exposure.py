"""What every outlier exposure shares."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from hepdecorr.catalogue import suggest
from hepdecorr.errors import InputError
from hepdecorr.learning.anomaly.annealing import Annealing
from hepdecorr.learning.exposure.matching import Matching


class Seen(NamedTuple):
    """What an exposure sees of n jets."""

    mse: Tensor  # (n,), distance of what was decoded from a draw of the posterior; empty if not `decodes`
    kl: Tensor  # (n, d), of each latent dimension, in nats
    w: Tensor  # (n,)

    def take(self, index: Tensor | slice) -> Seen:
        """Those of the jets that `index` names."""
        return Seen(self.mse[index] if len(self.mse) else self.mse, self.kl[index], self.w[index])


class Exposure:
    """-L_OE of L = L_VAE - lambda L_OE (Cheng's slides, 'Outlier Exposure'; Hendrycks et al., 1812.04606).

    strength: lambda.  anneal: how it comes in, by default in cycles, as of Annealing.  form: what is
    compared, see the classes.  match: {nuisance: mass, how: resample}: outliers drawn so that their spectrum
    is the background's, see Matching; without it they count by their weights and by the factor that
    `reweight` gives.
    """

    forms: ClassVar[tuple[str, ...]] = ()
    decodes: ClassVar[bool] = False  # whether it looks at the reconstruction of outliers

    def __init__(
        self,
        *,
        strength: float = 2.0,
        form: str = "batch",
        anneal: Mapping[str, Any] | str = "cyclic",
        match: Mapping[str, Any] | None = None,
    ) -> None:
        name = type(self).__name__
        if not 0 <= strength < float("inf"):
            raise InputError(
                f"{name}: strength is {strength:g}; it must be finite and not negative, or the network would "
                "be paid for taking outliers for background"
            )
        if form not in self.forms:
            raise InputError(f"{name}: no form {form!r}{suggest(str(form), self.forms)}")
        self.strength, self.form = float(strength), form
        self.annealing = Annealing.read(anneal, where=f"{name}: anneal")
        self.matching = Matching.read(match, where=f"{name}: match") if match is not None else None

    @abstractmethod
    def price(self, outside: Seen, inside: Seen) -> Tensor:
        """-L_OE, scalar, of outliers and background of a batch, neither of them without weight."""


def paid(exposure: Exposure, outside: Seen, inside: Seen) -> Tensor:
    """The price, 0 with gradient 0 where a batch has no outliers or no background."""
    if not (len(outside.w) and len(inside.w)) or not (outside.w.sum() > 0 and inside.w.sum() > 0):
        return (outside.kl.sum() + inside.kl.sum()) * 0
    return exposure.price(outside, inside)


def paired(outside: Seen, inside: Seen) -> tuple[Seen, Seen, Tensor]:
    """Each jet of the larger side beside one of the smaller, taken in turn, and the pairs' weights.

    Which ones meet is arbitrary, as batches are shuffled.  A pair counts by the product of its weights.
    """
    place = torch.arange(max(len(outside.w), len(inside.w)), device=inside.w.device)
    first, second = outside.take(place % len(outside.w)), inside.take(place % len(inside.w))
    return first, second, first.w * second.w
