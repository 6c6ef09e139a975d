"""Recurrent autoencoder."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hepdecorr.catalogue import suggest
from hepdecorr.errors import InputError
from hepdecorr.learning.networks.autoencoders.autoencoder import Autoencoder, beside, posterior
from hepdecorr.learning.networks.lstm import as_onnx, closed
from hepdecorr.learning.precision import in_full

PADDING = ("read", "skip")


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
        latents: int = 10,
        condition: int = 0,
        width: int = 50,
        depth: int = 2,
        padding: str = "read",
    ) -> None:
        super().__init__(length=length, latents=latents, condition=condition)
        if width < 1 or depth < 1:
            raise InputError(f"Recurrent: width and depth must be at least 1; they are {width} and {depth}")
        if padding not in PADDING:
            raise InputError(f"Recurrent: no padding {padding!r}{suggest(padding, PADDING)}")
        self.padding = padding
        self.encoder = nn.LSTM(4 + condition, width, depth, batch_first=True)
        self.to_latents = nn.Linear(width, 2 * latents)
        self.decoder = nn.LSTM(latents + condition, width, batch_first=True)
        self.to_momenta = nn.Linear(width, 4)

    def encode(self, x: Tensor, mask: Tensor, given: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Means and log variances of the posterior, both (n, latents), of jets (n, length, 4)."""
        if self.padding == "skip":
            x, mask = closed(x, mask)
        if given is not None:
            x = torch.cat([x, given.to(x.dtype)[:, None].expand(-1, self.length, -1)], 2)
        steps = _steps(self.encoder, x)
        if self.padding == "read":
            return posterior(self.to_latents(steps[:, -1]))
        # It reads on into the padding; what it knew before is taken.
        last = mask & ~torch.cat([mask[:, 1:], torch.zeros_like(mask[:, :1])], 1)
        return posterior(self.to_latents(torch.einsum("nl,nld->nd", last.to(steps.dtype), steps)))

    def decode(self, latent: Tensor, given: Tensor | None = None) -> Tensor:
        """Scaled four-vectors (n, length, 4) of latents (n, latents)."""
        repeated = beside(latent, given)[:, None].expand(-1, self.length, -1)
        answer: Tensor = self.to_momenta(_steps(self.decoder, repeated))
        return answer.float()

    def distance(self, decoded: Tensor, x: Tensor, mask: Tensor) -> Tensor:
        """|xhat - x|^2 / 4n of each jet, shape (n,); n counts the slots, or those with a constituent."""
        if self.padding == "read":
            return super().distance(decoded, x, mask)
        x, mask = closed(x, mask)
        with in_full(x):
            each = (decoded.to(x.dtype) - x).square().mean(2)
            return (each * mask).sum(1) / mask.sum(1).clamp_min(1)

    def made(self, decoded: Tensor, mask: Tensor) -> Tensor:
        """Which of the decoded four-vectors are constituents: where padding is skipped, the first ones."""
        return mask if self.padding == "read" else closed(decoded, mask)[1]


def _steps(recurrent: nn.LSTM, x: Tensor) -> Tensor:
    """The steps (n, L, width) of an LSTM on (n, L, c)."""
    if torch.compiler.is_exporting():
        return as_onnx(recurrent, x)
    steps: Tensor = recurrent(x)[0]
    return steps
