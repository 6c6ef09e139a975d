"""What the networks of a variational autoencoder of jets share."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn

from hepdecorr.errors import InputError
from hepdecorr.learning.precision import in_full

BOUND = 10.0  # of a log variance: deviations from 0.007 to 150, far beyond what a prior of 1 lets stand


class Autoencoder(nn.Module):
    """Encoder, decoder and the distance of what was decoded from what was there.

    Jets are scaled four-vectors (E, px, py, pz) of `length` constituents, hardest first, as JetFrame gives
    them, and a mask that says which slots hold one.  given: `condition` numbers of order one beside each jet,
    which both encoder and decoder are told.
    A network of your own has these verbs, all of operations that ONNX can hold:
    `network: {type: my_network.py:Mine}`.
    """

    per: ClassVar[str] = "slot"  # how JetFrame is to scale for it: each 'slot', or each 'component' of all
    judged_by: ClassVar[str] = "mean square"  # what distance is in the graph, and when epochs are judged
    trained_by: str = "mean square"  # what it is in training; a report is to say so where it is another

    def __init__(self, *, length: int, latents: int, condition: int = 0) -> None:
        super().__init__()
        if length < 1 or latents < 1 or condition < 0:
            raise InputError(
                f"{type(self).__name__}: length and latents must be at least 1 and condition not negative; "
                f"they are {length}, {latents} and {condition}"
            )
        self.length, self.latents, self.condition = length, latents, condition

    def fit(self, zero: Tensor) -> None:
        """Told before training how a four-vector of zero looks once it is scaled, (rows, 4)."""

    @abstractmethod
    def encode(self, x: Tensor, mask: Tensor, given: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Means and log variances of the posterior, both (n, latents), of jets (n, length, 4)."""

    @abstractmethod
    def decode(self, latent: Tensor, given: Tensor | None = None) -> Tensor:
        """Scaled four-vectors (n, length, 4) of latents (n, latents)."""

    def distance(self, decoded: Tensor, x: Tensor, mask: Tensor) -> Tensor:  # noqa: ARG002  padding counts, too
        """|xhat - x|^2 / 4n of each jet, shape (n,), over its n = length slots: Cheng's slides, 'VAE'."""
        with in_full(x):
            return (decoded.to(x.dtype) - x).square().mean((1, 2))

    def made(self, decoded: Tensor, mask: Tensor) -> Tensor:  # noqa: ARG002  slots answer slots
        """Which of the decoded four-vectors are constituents, (n, length) bool, for a jet with this mask."""
        return mask


def posterior(answer: Tensor) -> tuple[Tensor, Tensor]:
    """Means and log variances, both (n, d), of an encoder's answer (n, 2 d).

    The log variance is bounded softly: as it is near 0, where a KL that vanishes has to come to rest, and its
    exponential and its gradient finite for whatever jet.
    """
    mean, log_var = answer.float().chunk(2, 1)
    return mean, BOUND * torch.tanh(log_var / BOUND)


def beside(x: Tensor, given: Tensor | None) -> Tensor:
    """x (n, k) with the conditions beside it."""
    return x if given is None else torch.cat([x, given.to(x.dtype)], 1)
