"""Group encoders: from the events of a group to the posterior of what they share.

Each works in two steps, so that the events of a group may come in any order and in any number of parts:
`members` gives summands of each event, `pool` the posterior from their sums and the number of events.

The instance encoder: what one event is, given what its group is.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hepdecorr.errors import InputError, suggest
from hepdecorr.training.export.group_encoder import GroupPosterior
from hepdecorr.training.group_vae.gaussian import posterior_from_output
from hepdecorr.training.networks.mlp import mlp_layers

POOLINGS = ("sum", "mean")
PRECISIONS = ("inverse_variance", "inverse_std")


class GroupEncoder(nn.Module):
    """summands: m, numbers of each event."""

    num_summands: int
    median_group_size: Tensor

    def __init__(self, *, num_summands: int) -> None:
        super().__init__()
        self.num_summands = num_summands
        self.register_buffer("median_group_size", torch.ones(()))

    def fit(self, group_sizes: Tensor) -> None:
        """Take the number of events (g,) that training groups have."""
        self.median_group_size.copy_(group_sizes.float().median().clamp_min(1))

    @abstractmethod
    def summands(self, scaled: Tensor) -> Tensor:
        """Summands (n, m) of preprocessed features (n, f)."""

    @abstractmethod
    def pool(self, sums: Tensor, group_sizes: Tensor) -> GroupPosterior:
        """Posterior (g, d) from the sums (g, m) of so many events (g,)."""


class DeepSetsEncoder(GroupEncoder):
    """E_B(sum over k of E_A(x_k)), both networks (reference 3, section 4.1; Zaheer et al., 1703.06114).

    `hidden` widths of each network, with `summands` numbers between them.  pool: 'sum' as in the paper, in
    units of the median group of training, which the first weights of E_B could take in; 'mean', with the
    logarithm of the number of events beside it, for groups whose sizes differ by factors.
    """

    def __init__(
        self,
        *,
        num_features: int,
        latent_dim: int,
        pooling: str = "sum",
        num_summands: int = 32,
        hidden: Sequence[int] = (32, 32),
        activation: str = "silu",
    ) -> None:
        if pooling not in POOLINGS:
            raise InputError(f"DeepSetsEncoder: no pooling {pooling!r}{suggest(pooling, POOLINGS)}")
        size: Any = num_summands  # from YAML, where it may be anything
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
            raise InputError(
                f"DeepSetsEncoder: num_summands must be a whole number of at least 1, not {num_summands!r}"
            )
        super().__init__(num_summands=num_summands)
        self.uses_mean_pooling = pooling == "mean"
        self.event_net = mlp_layers(num_features, num_summands, hidden=hidden, activation=activation)
        entering = num_summands + (1 if self.uses_mean_pooling else 0)
        self.group_net = mlp_layers(entering, 2 * latent_dim, hidden=hidden, activation=activation)

    def summands(self, scaled: Tensor) -> Tensor:
        """E_A of each event."""
        return self.event_net(scaled).float()  # type: ignore[no-any-return]

    def pool(self, sums: Tensor, group_sizes: Tensor) -> GroupPosterior:
        """E_B of the sum, or of the mean and ln(K / median K)."""
        if not self.uses_mean_pooling:
            return posterior_from_output(self.group_net(sums / self.median_group_size))
        group_sizes = group_sizes.clamp_min(1)[:, None]  # a group of nothing is not to give NaN
        return posterior_from_output(
            self.group_net(torch.cat([sums / group_sizes, (group_sizes / self.median_group_size).log()], 1))
        )


class MeanEncoder(GroupEncoder):
    """Each event gives a posterior; the group's has their mean mean and their mean variance.

    Hosoya (1905.13527), as in reference 3, section 2.2.  The variance does not fall with the number of
    events: the code of many is no surer than that of one.
    """

    def __init__(
        self,
        *,
        num_features: int,
        latent_dim: int,
        hidden: Sequence[int] = (32, 32),
        activation: str = "silu",
    ) -> None:
        super().__init__(num_summands=2 * latent_dim)
        self.event_net = mlp_layers(num_features, 2 * latent_dim, hidden=hidden, activation=activation)

    def summands(self, scaled: Tensor) -> Tensor:
        """Mean and variance of each event's posterior, (n, 2d)."""
        own = posterior_from_output(self.event_net(scaled))
        return torch.cat([own.mean, own.log_var.exp()], 1)

    def pool(self, sums: Tensor, group_sizes: Tensor) -> GroupPosterior:
        """The means of both."""
        mean, variance = (sums / group_sizes.clamp_min(1)[:, None]).chunk(2, 1)
        return GroupPosterior(mean, variance.clamp_min(torch.finfo(torch.float32).tiny).log())


class ProductEncoder(GroupEncoder):
    """Each event gives a posterior; the group's is their product, normalised.

    Bouchacourt et al. (1705.08841), as in reference 3, section 2.2: precisions are added, means weighed by
    them.  prior: one more factor, the unit Gaussian, to which the code of few unsure events then tends; that
    paper has none.  precision: 'variance', 1/sigma^2, as the formula says; 'deviation', 1/sigma in its place,
    as the authors' code of reference 3 has it.
    """

    def __init__(
        self,
        *,
        num_features: int,
        latent_dim: int,
        include_prior: bool = False,
        precision: str = "inverse_variance",
        hidden: Sequence[int] = (32, 32),
        activation: str = "silu",
    ) -> None:
        if precision not in PRECISIONS:
            raise InputError(f"ProductEncoder: no precision {precision!r}{suggest(precision, PRECISIONS)}")
        if not isinstance(include_prior, bool):
            raise InputError(f"ProductEncoder: include_prior is true or false, not {include_prior!r}")
        super().__init__(num_summands=2 * latent_dim)
        self.prior_precision, self.precision_power = (
            float(include_prior),
            1.0 if precision == "inverse_variance" else 0.5,
        )
        self.event_net = mlp_layers(num_features, 2 * latent_dim, hidden=hidden, activation=activation)

    def summands(self, scaled: Tensor) -> Tensor:
        """Precision times mean, and precision, of each event's posterior, (n, 2d)."""
        own = posterior_from_output(self.event_net(scaled))
        precision = (-self.precision_power * own.log_var).exp()
        return torch.cat([precision * own.mean, precision], 1)

    def pool(self, sums: Tensor, group_sizes: Tensor) -> GroupPosterior:  # noqa: ARG002
        """The product of all."""
        weighed, precision = sums.chunk(2, 1)
        precision = (precision + self.prior_precision).clamp_min(torch.finfo(torch.float32).tiny)
        return GroupPosterior(weighed / precision, -precision.log() / self.precision_power)


ENCODER_INPUTS = ("features", "summands")


class InstanceEncoder(nn.Module):
    """q(v_k | x_k, u), a network on both (reference 3, section 4.2); without `conditional` q(v_k | x_k).

    Which is what tells two equal events of different groups apart.  sees: 'features' x_k as in the paper, or
    'summands', what the group encoder makes of x_k, as the authors' code has it.
    """

    def __init__(
        self,
        *,
        num_features: int,
        num_summands: int,
        group_dim: int,
        latent_dim: int,
        conditional: bool = True,
        encoder_input: str = "features",
        hidden: Sequence[int] = (32, 32),
        activation: str = "silu",
    ) -> None:
        super().__init__()
        if encoder_input not in ENCODER_INPUTS:
            raise InputError(f"no encoder_input {encoder_input!r}{suggest(encoder_input, ENCODER_INPUTS)}")
        if not isinstance(conditional, bool):
            raise InputError(f"conditional is true or false, not {conditional!r}")
        self.conditional, self.uses_summands = conditional, encoder_input == "summands"
        entering = (num_summands if self.uses_summands else num_features) + (group_dim if conditional else 0)
        self.net = mlp_layers(entering, 2 * latent_dim, hidden=hidden, activation=activation)

    def forward(self, scaled: Tensor, summands: Tensor, group: Tensor) -> GroupPosterior:
        """Posterior (n, d) of events (n, f) with summands (n, m) in groups with codes (n, d_u)."""
        seen = summands if self.uses_summands else scaled
        return posterior_from_output(self.net(torch.cat([seen, group], 1) if self.conditional else seen))
