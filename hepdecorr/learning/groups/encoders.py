"""Group encoders: from the events of a group to the posterior of what they share.

Each works in two steps, so that the events of a group may come in any order and in any number of parts:
`members` gives summands of each event, `pool` the posterior from their sums and the number of events.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hepdecorr.catalogue import suggest
from hepdecorr.errors import InputError
from hepdecorr.learning.grouping import Posterior
from hepdecorr.learning.groups.posteriors import posterior
from hepdecorr.learning.networks.mlp import layers

POOLS = ("sum", "mean")
PRECISIONS = ("variance", "deviation")


class GroupEncoder(nn.Module):
    """summands: m, numbers of each event."""

    summands: int
    typical: Tensor

    def __init__(self, *, summands: int) -> None:
        super().__init__()
        self.summands = summands
        self.register_buffer("typical", torch.ones(()))

    def fit(self, counts: Tensor) -> None:
        """Take the number of events (g,) that training groups have."""
        self.typical.copy_(counts.float().median().clamp_min(1))

    @abstractmethod
    def members(self, scaled: Tensor) -> Tensor:
        """Summands (n, m) of preprocessed features (n, f)."""

    @abstractmethod
    def pool(self, sums: Tensor, counts: Tensor) -> Posterior:
        """Posterior (g, d) from the sums (g, m) of so many events (g,)."""


class DeepSets(GroupEncoder):
    """E_B(sum over k of E_A(x_k)), both networks (reference 3, section 4.1; Zaheer et al., 1703.06114).

    `hidden` widths of each network, with `summands` numbers between them.  pool: 'sum' as in the paper, in
    units of the median group of training, which the first weights of E_B could take in; 'mean', with the
    logarithm of the number of events beside it, for groups whose sizes differ by factors.
    """

    def __init__(
        self,
        *,
        features: int,
        latents: int,
        pool: str = "sum",
        summands: int = 32,
        hidden: Sequence[int] = (32, 32),
        activation: str = "silu",
    ) -> None:
        if pool not in POOLS:
            raise InputError(f"DeepSets: no pool {pool!r}{suggest(pool, POOLS)}")
        size: Any = summands  # from YAML, where it may be anything
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
            raise InputError(f"DeepSets: summands must be a whole number of at least 1, not {summands!r}")
        super().__init__(summands=summands)
        self.by_mean = pool == "mean"
        self.each = layers(features, summands, hidden=hidden, activation=activation)
        entering = summands + (1 if self.by_mean else 0)
        self.all = layers(entering, 2 * latents, hidden=hidden, activation=activation)

    def members(self, scaled: Tensor) -> Tensor:
        """E_A of each event."""
        return self.each(scaled).float()  # type: ignore[no-any-return]

    def pool(self, sums: Tensor, counts: Tensor) -> Posterior:
        """E_B of the sum, or of the mean and ln(K / median K)."""
        if not self.by_mean:
            return posterior(self.all(sums / self.typical))
        counts = counts.clamp_min(1)[:, None]  # a group of nothing is not to give NaN
        return posterior(self.all(torch.cat([sums / counts, (counts / self.typical).log()], 1)))


class Mean(GroupEncoder):
    """Each event gives a posterior; the group's has their mean mean and their mean variance.

    Hosoya (1905.13527), as in reference 3, section 2.2.  The variance does not fall with the number of
    events: the code of many is no surer than that of one.
    """

    def __init__(
        self, *, features: int, latents: int, hidden: Sequence[int] = (32, 32), activation: str = "silu"
    ) -> None:
        super().__init__(summands=2 * latents)
        self.each = layers(features, 2 * latents, hidden=hidden, activation=activation)

    def members(self, scaled: Tensor) -> Tensor:
        """Mean and variance of each event's posterior, (n, 2d)."""
        own = posterior(self.each(scaled))
        return torch.cat([own.mean, own.log_var.exp()], 1)

    def pool(self, sums: Tensor, counts: Tensor) -> Posterior:
        """The means of both."""
        mean, variance = (sums / counts.clamp_min(1)[:, None]).chunk(2, 1)
        return Posterior(mean, variance.clamp_min(torch.finfo(torch.float32).tiny).log())


class Product(GroupEncoder):
    """Each event gives a posterior; the group's is their product, normalised.

    Bouchacourt et al. (1705.08841), as in reference 3, section 2.2: precisions are added, means weighed by
    them.  prior: one more factor, the unit Gaussian, to which the code of few unsure events then tends; that
    paper has none.  precision: 'variance', 1/sigma^2, as the formula says; 'deviation', 1/sigma in its place,
    as the authors' code of reference 3 has it.
    """

    def __init__(
        self,
        *,
        features: int,
        latents: int,
        prior: bool = False,
        precision: str = "variance",
        hidden: Sequence[int] = (32, 32),
        activation: str = "silu",
    ) -> None:
        if precision not in PRECISIONS:
            raise InputError(f"Product: no precision {precision!r}{suggest(precision, PRECISIONS)}")
        if not isinstance(prior, bool):
            raise InputError(f"Product: prior is true or false, not {prior!r}")
        super().__init__(summands=2 * latents)
        self.prior, self.power = float(prior), 1.0 if precision == "variance" else 0.5
        self.each = layers(features, 2 * latents, hidden=hidden, activation=activation)

    def members(self, scaled: Tensor) -> Tensor:
        """Precision times mean, and precision, of each event's posterior, (n, 2d)."""
        own = posterior(self.each(scaled))
        precision = (-self.power * own.log_var).exp()
        return torch.cat([precision * own.mean, precision], 1)

    def pool(self, sums: Tensor, counts: Tensor) -> Posterior:  # noqa: ARG002
        """The product of all."""
        weighed, precision = sums.chunk(2, 1)
        precision = (precision + self.prior).clamp_min(torch.finfo(torch.float32).tiny)
        return Posterior(weighed / precision, -precision.log() / self.power)
