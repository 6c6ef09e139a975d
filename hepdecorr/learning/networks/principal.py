"""Features with the same mean and covariance at every value of one of them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hepdecorr.errors import InputError
from hepdecorr.learning.batches import Batch

FLOOR = 1e-3  # of a standardised feature's variance: directions with less are not blown up


class Principal(nn.Module):
    """Principal components in `bins` of feature number `within`, brought to mean 0 and covariance 1 in each.

    Aguilar-Saavedra, Collins, Mishra, JHEP 11 (2017) 163, and Bradshaw, Mishra, Mitridate, Ostdiek, SciPost
    Phys. 8 (2020) 011: what is left of the features says nothing of that one to second order.  In each bin
    they are standardised, rotated to their principal components, scaled and rotated back, C^(-1/2) (x - m).
    Without the way back the axes of neighbouring bins would differ by signs, and nothing could be
    interpolated.  Feature `within` itself becomes 0.  With `interpolate` mean and matrix change linearly
    between the bins' medians, without it in steps.
    """

    places: Tensor
    matrices: Tensor
    offsets: Tensor

    def __init__(self, features: int, *, within: int, bins: int, interpolate: bool) -> None:
        super().__init__()
        self.within, self.bins, self.interpolate = within, bins, interpolate
        self.register_buffer("places", torch.arange(bins, dtype=torch.float32))  # medians, or lower edges
        self.register_buffer("matrices", torch.eye(features).repeat(bins, 1, 1))
        self.register_buffer("offsets", torch.zeros(bins, features))

    @torch.no_grad()
    def fit(self, x: Tensor) -> None:
        """From events (n, features), each feature of deviation about one; InputError for too few of them."""
        n, f = x.shape
        if n < self.bins * (f + 10):
            raise InputError(
                f"inputs: {n} events for a covariance of {f} features in each of {self.bins} bins; take "
                "fewer bins or more events"
            )
        order = x[:, self.within].argsort()
        parts = [x[rows].double() for rows in order.tensor_split(self.bins)]
        medians = torch.stack([part[:, self.within].median() for part in parts])
        lowest = torch.stack([part[:, self.within].min() for part in parts])
        if (medians.diff() <= 0).any() or (lowest.diff() <= 0).any():
            raise InputError("inputs: feature 'within' has too few different values for so many bins")
        self.places.copy_(medians if self.interpolate else lowest)
        for k, part in enumerate(parts):
            matrix = _whitening(part, without=self.within)
            self.matrices[k] = matrix
            self.offsets[k] = part.mean(0) @ matrix

    def forward(self, x: Tensor) -> Tensor:
        """Shape (n, features)."""
        share = self._shares(x[:, self.within])
        f = x.shape[1]
        # All bins at once, and then their sum: gathering a matrix for each event would take more memory.
        every = (x @ self.matrices.transpose(0, 1).reshape(f, -1)).view(-1, self.bins, f) - self.offsets
        found: Tensor = (share[..., None] * every).sum(1)
        return found

    def _shares(self, z: Tensor) -> Tensor:
        """How much each bin has to say, (n, bins): hats between the medians, or 1 for the bin itself."""
        above = z[:, None] - self.places
        if self.interpolate:
            risen = (above[:, :-1] / (self.places[1:] - self.places[:-1])).clamp(0, 1)
        else:
            risen = (above[:, 1:] >= 0).to(z.dtype)
        edge = torch.ones_like(z)[:, None]  # len(z) would fix the number of rows of an exported graph
        return torch.cat([edge, risen], 1) - torch.cat([risen, 0 * edge], 1)


def fitted_on(network: nn.Module, b: Batch) -> Batch:
    """The events that the inputs of a network are scaled by.

    For principal components background alone, each event as often as its weight says: it is the weighted
    spectrum that a tagger must not sculpt.
    """
    if not any(isinstance(part, Principal) for part in network.modules()):
        return b
    own = b.take(b.y == 0)
    w = own.w.double().clamp_min(0)
    if not w.sum() > 0 or w.min() == w.max():
        return own
    # In equal steps, not by lot: no event is there more than once too often or too rarely.
    steps = (torch.arange(len(w), dtype=w.dtype, device=w.device) + 0.5) / len(w)
    grown = w.cumsum(0)
    return own.take(torch.searchsorted(grown, steps * grown[-1]).clamp_max(len(w) - 1))


def _whitening(part: Tensor, *, without: int) -> Tensor:
    """C^(-1/2) of the features but one, whose row and column are 0."""
    matrix = part.new_zeros(part.shape[1], part.shape[1])
    kept = torch.arange(part.shape[1], device=part.device) != without
    values, vectors = torch.linalg.eigh(part[:, kept].T.cov())
    inverse = vectors @ torch.diag(values.clamp_min(FLOOR) ** -0.5) @ vectors.T
    matrix[kept.nonzero(), kept.nonzero().T] = inverse
    return matrix
