"""Which of the constituents' features are momenta and directions: for networks that look at pairs."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from hepdecorr.errors import InputError

MOMENTA = (("log_pt", True), ("pt", False), ("log_pt_rel", True), ("pt_rel", False))
DIRECTIONS = (("deta", "dphi"), ("eta", "phi"))
LEAST = 1e-8


class Directions:
    """Pseudorapidity and azimuth of constituents, by the names of their features."""

    def __init__(self, constituents: Sequence[str], *, by: str) -> None:
        names = list(constituents)
        for pair in DIRECTIONS:
            if all(name in names for name in pair):
                self._columns = [names.index(name) for name in pair]
                return
        raise InputError(
            f"{by} needs the directions of the constituents: put deta and dphi, or eta and phi, among their "
            f"features; they are {', '.join(names)}"
        )

    def __call__(self, constituents: Tensor) -> tuple[Tensor, Tensor]:
        """Both of shape (n, L), within bounds that no real constituent exceeds."""
        eta, phi = (constituents[..., k] for k in self._columns)
        return eta.clamp(-10, 10), phi.clamp(-4, 4)

    def apart(self, constituents: Tensor) -> Tensor:
        """Squared distances in the plane of both, shape (n, L, L)."""
        eta, phi = self(constituents)
        # By differences: the constituents of a jet are too near each other for the binomial formula.
        return (eta[:, :, None] - eta[:, None]) ** 2 + turned(phi[:, :, None] - phi[:, None]) ** 2


class Momenta:
    """Logarithm of the transverse momentum of constituents, by the names of their features."""

    def __init__(self, constituents: Sequence[str], *, by: str) -> None:
        names = list(constituents)
        for name, self._logarithm in MOMENTA:
            if name in names:
                self._column = names.index(name)
                return
        raise InputError(
            f"{by} needs the momenta of the constituents: put one of {', '.join(n for n, _ in MOMENTA)} "
            f"among their features; they are {', '.join(names)}"
        )

    def __call__(self, constituents: Tensor) -> Tensor:
        """Shape (n, L)."""
        value = constituents[..., self._column]
        return value.clamp(-20, 20) if self._logarithm else value.clamp_min(LEAST).log()


def turned(phi: Tensor) -> Tensor:
    """Differences of azimuths, brought to [-pi, pi]."""
    return phi - 2 * math.pi * torch.round(phi / (2 * math.pi))
