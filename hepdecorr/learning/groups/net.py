"""The network of the family: group encoder, instance encoder, decoder, and the deviation of p(x | u, v)."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Generator, Tensor, nn

from hepdecorr.learning.grouping import Posterior
from hepdecorr.learning.groups.decoders import Decoder
from hepdecorr.learning.groups.encoders import GroupEncoder
from hepdecorr.learning.groups.instances import InstanceEncoder
from hepdecorr.learning.groups.members import Members
from hepdecorr.learning.groups.posteriors import ClassPrior, drawn, nats

LEAST = 1e-4  # of a learned variance: with as many latents as features it would go to nothing
START = 0.1  # of a learned variance


class Inferred(NamedTuple):
    """What is known of n events in g groups, with a draw of each."""

    group: Posterior  # (g, d_u)
    u: Tensor  # (g, d_u)
    instance: Posterior  # (n, d_v), given u
    v: Tensor  # (n, d_v)


class Net(nn.Module):
    """q(u | x) and q(v_k | x_k, u), and p(x_k | u, v_k), a Gaussian of a variance for each feature.

    variance: of preprocessed features, or of raw ones where the decoder gives those; None to learn it.
    prior: of v where there is one for each class; None for the unit Gaussian.
    """

    log_variance: Tensor

    def __init__(
        self,
        encoder: GroupEncoder,
        instance: InstanceEncoder,
        decoder: Decoder,
        *,
        features: int,
        variance: float | None,
        prior: ClassPrior | None = None,
    ) -> None:
        super().__init__()
        self.encoder, self.instance, self.decoder, self.prior = encoder, instance, decoder, prior
        self.learned = variance is None
        if variance is None:
            self.log_variance = nn.Parameter(torch.full((features,), math.log(START)))
        else:
            self.register_buffer("log_variance", torch.full((features,), math.log(variance)))

    @property
    def variance(self) -> Tensor:
        """Of p(x | u, v), (f,)."""
        return self.log_variance.exp() + (LEAST if self.learned else 0.0)

    def infer(self, scaled: Tensor, among: Members, *, generator: Generator | None = None) -> Inferred:
        """Both posteriors of preprocessed features (n, f)."""
        summands = self.encoder.members(scaled)
        group = self.encoder.pool(among.total(summands), among.counts)
        u = drawn(group, generator=generator)
        instance = self.instance(scaled, summands, u.index_select(0, among.group))
        return Inferred(group, u, instance, drawn(instance, generator=generator))

    def distance(self, target: Tensor, u: Tensor, v: Tensor) -> Tensor:
        """(x - mean of p)^2 / 2 variance of events (n, f) with codes (n, d_u) and (n, d_v), summed, (n,)."""
        missed: Tensor = self.decoder(u, v) - target
        return (missed.square() / (2 * self.variance)).sum(1)

    def instance_nats(self, p: Posterior, y: Tensor) -> Tensor:
        """KL of each dimension of q(v | x, u) from p(v), (n, d), of events with labels (n,)."""
        return nats(p) if self.prior is None else self.prior.nats(p, y)

    @property
    def constant(self) -> Tensor:
        """What -log p(x | u, v) is more than the distance, in nats."""
        return 0.5 * (2 * math.pi * self.variance).log().sum()
