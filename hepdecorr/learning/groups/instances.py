"""The instance encoder: what one event is, given what its group is."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hepdecorr.catalogue import suggest
from hepdecorr.errors import InputError
from hepdecorr.learning.grouping import Posterior
from hepdecorr.learning.groups.posteriors import posterior
from hepdecorr.learning.networks.mlp import layers

SEEN = ("features", "summands")


class InstanceEncoder(nn.Module):
    """q(v_k | x_k, u), a network on both (reference 3, section 4.2); without `conditional` q(v_k | x_k).

    Which is what tells two equal events of different groups apart.  sees: 'features' x_k as in the paper, or
    'summands', what the group encoder makes of x_k, as the authors' code has it.
    """

    def __init__(
        self,
        *,
        features: int,
        summands: int,
        group: int,
        latents: int,
        conditional: bool = True,
        sees: str = "features",
        hidden: Sequence[int] = (32, 32),
        activation: str = "silu",
    ) -> None:
        super().__init__()
        if sees not in SEEN:
            raise InputError(f"no sees {sees!r}{suggest(sees, SEEN)}")
        if not isinstance(conditional, bool):
            raise InputError(f"conditional is true or false, not {conditional!r}")
        self.conditional, self.by_summands = conditional, sees == "summands"
        entering = (summands if self.by_summands else features) + (group if conditional else 0)
        self.net = layers(entering, 2 * latents, hidden=hidden, activation=activation)

    def forward(self, scaled: Tensor, summands: Tensor, group: Tensor) -> Posterior:
        """Posterior (n, d) of events (n, f) with summands (n, m) in groups with codes (n, d_u)."""
        seen = summands if self.by_summands else scaled
        return posterior(self.net(torch.cat([seen, group], 1) if self.conditional else seen))
