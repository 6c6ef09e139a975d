"""What the networks of a variational autoencoder of jets share.

Fully connected autoencoder.

Recurrent autoencoder.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from hepdecorr.errors import InputError, suggest
from hepdecorr.training.networks.lstm import apply_onnx_lstm, compact_constituents
from hepdecorr.training.networks.mlp import mlp_layers
from hepdecorr.training.optim import full_precision

MAX_LOG_VAR = 10.0  # of a log variance: deviations from 0.007 to 150, far beyond what a prior of 1 lets stand


class Autoencoder(nn.Module):
    """Encoder, decoder and the distance of what was decoded from what was there.

    Jets are scaled four-vectors (E, px, py, pz) of `length` constituents, hardest first, as JetFrame gives
    them, and a mask that says which slots hold one.  given: `condition` numbers of order one beside each jet,
    which both encoder and decoder are told.
    A network of your own has these verbs, all of operations that ONNX can hold:
    `network: {type: my_network.py:Mine}`.
    """

    scale_per: ClassVar[str] = (
        "slot"  # how JetFrame is to scale for it: each 'slot', or each 'component' of all
    )
    validation_distance: ClassVar[str] = (
        "mean square"  # what distance is in the graph, and when epochs are judged
    )
    training_distance: str = (
        "mean square"  # what it is in training; a report is to say so where it is another
    )

    def __init__(self, *, length: int, latent_dim: int, condition_dim: int = 0) -> None:
        super().__init__()
        if length < 1 or latent_dim < 1 or condition_dim < 0:
            raise InputError(
                f"{type(self).__name__}: length and latent_dim must be at least 1 and condition_dim not "
                f"negative; they are {length}, {latent_dim} and {condition_dim}"
            )
        self.length, self.latent_dim, self.condition_dim = length, latent_dim, condition_dim

    def fit(self, scaled_zero: Tensor) -> None:
        """Told before training how a four-vector of zero looks once it is scaled, (rows, 4)."""

    @abstractmethod
    def encode(self, x: Tensor, mask: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Means and log variances of the posterior, both (n, latents), of jets (n, length, 4)."""

    @abstractmethod
    def decode(self, latent: Tensor, condition: Tensor | None = None) -> Tensor:
        """Scaled four-vectors (n, length, 4) of latents (n, latents)."""

    def distance(self, decoded: Tensor, x: Tensor, mask: Tensor) -> Tensor:  # noqa: ARG002  padding counts, too
        """|xhat - x|^2 / 4n of each jet, shape (n,), over its n = length slots: Cheng's slides, 'VAE'."""
        with full_precision(x):
            return (decoded.to(x.dtype) - x).square().mean((1, 2))

    def constituent_mask(self, decoded: Tensor, mask: Tensor) -> Tensor:  # noqa: ARG002  slots answer slots
        """Which of the decoded four-vectors are constituents, (n, length) bool, for a jet with this mask."""
        return mask


def split_posterior(network_output: Tensor) -> tuple[Tensor, Tensor]:
    """Means and log variances, both (n, d), of an encoder's answer (n, 2 d).

    The log variance is bounded softly: as it is near 0, where a KL that vanishes has to come to rest, and its
    exponential and its gradient finite for whatever jet.
    """
    mean, log_var = network_output.float().chunk(2, 1)
    return mean, MAX_LOG_VAR * torch.tanh(log_var / MAX_LOG_VAR)


def append_condition(x: Tensor, condition: Tensor | None) -> Tensor:
    """x (n, k) with the conditions beside it."""
    return x if condition is None else torch.cat([x, condition.to(x.dtype)], 1)


class FullyConnected(Autoencoder):
    """Layers of widths `hidden` to the latents, and back in reverse (Cheng's slides, 'VAE Architecture').

    80-256-128-64-10-64-128-256-80 for 20 constituents.  Padding is four-vectors of zero, scaled as all
    others: the network sees it and pays for it, as the paper's does.
    """

    def __init__(
        self,
        *,
        length: int = 20,
        latent_dim: int = 10,
        condition_dim: int = 0,
        hidden: Sequence[int] = (256, 128, 64),
        activation: str = "relu",
    ) -> None:
        super().__init__(length=length, latent_dim=latent_dim, condition_dim=condition_dim)
        self.encoder = mlp_layers(
            4 * length + condition_dim, 2 * latent_dim, hidden=hidden, activation=activation
        )
        self.decoder = mlp_layers(
            latent_dim + condition_dim, 4 * length, hidden=tuple(hidden)[::-1], activation=activation
        )

    def encode(self, x: Tensor, mask: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        """Means and log variances of the posterior, both (n, latents), of jets (n, length, 4)."""
        return split_posterior(self.encoder(append_condition(x.flatten(1), condition)))

    def decode(self, latent: Tensor, condition: Tensor | None = None) -> Tensor:
        """Scaled four-vectors (n, length, 4) of latents (n, latents)."""
        answer: Tensor = self.decoder(append_condition(latent, condition)).float()
        return answer.view(latent.shape[0], self.length, 4)


PADDING_MODES = ("read", "skip")


class Recurrent(Autoencoder):
    """`depth` layers of LSTM of this width to the latents; repeated `length` times, they go through one back.

    Cheng's LSTM network (slides, 'Settings'): 2 layers of 50, whose last state gives the latents; a layer of
    50 on the latents at each step, and a linear one to its four-vector.  Conditions enter at every step.
    padding: 'read' as four-vectors of zero, as the paper does: a short jet is known by the zeros at its end,
    which are read last, and pays for them.  'skip' takes what is known behind the last constituent, and the
    mean of the distance over the constituents there are; then nothing tells the decoder how many to make.
    """

    def __init__(
        self,
        *,
        length: int = 20,
        latent_dim: int = 10,
        condition_dim: int = 0,
        width: int = 50,
        depth: int = 2,
        padding: str = "read",
    ) -> None:
        super().__init__(length=length, latent_dim=latent_dim, condition_dim=condition_dim)
        if width < 1 or depth < 1:
            raise InputError(f"Recurrent: width and depth must be at least 1; they are {width} and {depth}")
        if padding not in PADDING_MODES:
            raise InputError(f"Recurrent: no padding {padding!r}{suggest(padding, PADDING_MODES)}")
        self.padding = padding
        self.encoder = nn.LSTM(4 + condition_dim, width, depth, batch_first=True)
        self.to_latents = nn.Linear(width, 2 * latent_dim)
        self.decoder = nn.LSTM(latent_dim + condition_dim, width, batch_first=True)
        self.to_momenta = nn.Linear(width, 4)

    def encode(self, x: Tensor, mask: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Means and log variances of the posterior, both (n, latents), of jets (n, length, 4)."""
        if self.padding == "skip":
            x, mask = compact_constituents(x, mask)
        if condition is not None:
            x = torch.cat([x, condition.to(x.dtype)[:, None].expand(-1, self.length, -1)], 2)
        steps = _run_lstm(self.encoder, x)
        if self.padding == "read":
            return split_posterior(self.to_latents(steps[:, -1]))
        # It reads on into the padding; what it knew before is taken.
        last = mask & ~torch.cat([mask[:, 1:], torch.zeros_like(mask[:, :1])], 1)
        return split_posterior(self.to_latents(torch.einsum("nl,nld->nd", last.to(steps.dtype), steps)))

    def decode(self, latent: Tensor, condition: Tensor | None = None) -> Tensor:
        """Scaled four-vectors (n, length, 4) of latents (n, latents)."""
        repeated = append_condition(latent, condition)[:, None].expand(-1, self.length, -1)
        answer: Tensor = self.to_momenta(_run_lstm(self.decoder, repeated))
        return answer.float()

    def distance(self, decoded: Tensor, x: Tensor, mask: Tensor) -> Tensor:
        """|xhat - x|^2 / 4n of each jet, shape (n,); n counts the slots, or those with a constituent."""
        if self.padding == "read":
            return super().distance(decoded, x, mask)
        x, mask = compact_constituents(x, mask)
        with full_precision(x):
            each = (decoded.to(x.dtype) - x).square().mean(2)
            return (each * mask).sum(1) / mask.sum(1).clamp_min(1)

    def constituent_mask(self, decoded: Tensor, mask: Tensor) -> Tensor:
        """Which of the decoded four-vectors are constituents: where padding is skipped, the first ones."""
        return mask if self.padding == "read" else compact_constituents(decoded, mask)[1]


def _run_lstm(lstm: nn.LSTM, x: Tensor) -> Tensor:
    """The steps (n, L, width) of an LSTM on (n, L, c)."""
    if torch.compiler.is_exporting():
        return apply_onnx_lstm(lstm, x)
    steps: Tensor = lstm(x)[0]
    return steps
