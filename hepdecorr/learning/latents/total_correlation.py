"""Total correlation between the sensitive latents and the others, by an estimator of choice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from hepdecorr import catalogue
from hepdecorr.errors import InputError
from hepdecorr.learning.batches import Batch
from hepdecorr.learning.latents.term import Latent, LatentTerm, Layout
from hepdecorr.learning.terms.strength import Growth

HOME = "hepdecorr.learning.latents.estimators"


class TotalCorrelation(LatentTerm):
    """beta x the dependence between the sensitive latents and the rest; `of: all`, among all.

    estimator (a name, or `{type: name, ...}`):
    Stratified, as published: blind in more than a few dimensions, where it tends to I(x; z_S) whatever
    the dependence.  Ratio: a critic tells joint from shuffled latents (FactorVAE).  Conditional: a
    critic guesses the nuisance (or z_S) from the rest: bounds I(nuisance; rest), a stand-in for TC.
    Distance: squared distance correlation, which loses power in more than about eight dimensions.
    """

    def __init__(
        self,
        beta: float = 400.0,
        *,
        latents: int,
        sensitive: int,
        nuisances: Sequence[str],
        values: Sequence[int] = (),
        estimator: str | Mapping[str, Any] = "Conditional",
        of: str = "sensitive",
        start: float = 1 / 12,
        ramp: float = 1 / 6,
        given: str = "background",
        base: Any = None,
    ) -> None:
        super().__init__(growth=Growth(float(beta), start, ramp), given=given)
        if of not in ("sensitive", "all"):
            raise InputError(f"TotalCorrelation: of must be sensitive or all, not {of!r}")
        layout = Layout(latents, sensitive if of == "sensitive" else latents, list(nuisances), values)
        self.estimator = catalogue.build(estimator, home=HOME, base=base, layout=layout, start=start)
        self.chasing = getattr(self.estimator, "chasing", None)

    def fit(self, b: Batch, *, rows: int) -> None:
        """Passed on to the estimator."""
        seen = rows if self.given == "all" else round(rows * float((b.y == 0).float().mean()))
        self.estimator.fit(b, rows=seen)

    def price(self, latent: Latent, b: Batch) -> Tensor:
        """In nats, but for Distance."""
        return self.estimator.price(*self.given_events(latent, b))  # type: ignore[no-any-return]

    def chase(self, latent: Latent, b: Batch) -> Tensor:
        """The critic's loss."""
        return self.estimator.chase(*self.given_events(latent, b))  # type: ignore[no-any-return]

    def floor(self, latent: Latent, b: Batch) -> float | None:
        """The loss of a blind critic, where it is known."""
        if self.chasing is None:
            return None
        return self.estimator.floor(*self.given_events(latent, b))  # type: ignore[no-any-return]
