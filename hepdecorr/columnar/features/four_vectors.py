"""Objects of NanoAOD as four-vectors: the first of each event in some order, and what two of them make."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hepdecorr.columnar.features.branches import Floats, Ints, read_columns


class FourVectors(NamedTuple):
    """Flat objects of all events: the event of each, pt and mass in GeV, eta, phi."""

    event: Ints
    pt: Floats
    eta: Floats
    phi: Floats
    mass: Floats

    def take(self, rows: NDArray[Any]) -> FourVectors:
        """The rows of an index or a mask."""
        return FourVectors(*(column[rows] for column in self))

    def leading_rows(self, mask: NDArray[np.bool_], *, num_events: int) -> Ints:
        """Row of the object with the largest pt in each event, of those wanted; -1 where there is none."""
        rows = np.flatnonzero(mask)
        order = rows[np.lexsort((-self.pt[rows], self.event[rows]))]
        found = np.full(num_events, -1, dtype=np.int64)
        event, at = np.unique(self.event[order], return_index=True)
        found[event] = order[at]
        return found

    def p4(self) -> Floats:
        """px, py, pz, E, shape (objects, 4)."""
        px, py, pz = self.pt * np.cos(self.phi), self.pt * np.sin(self.phi), self.pt * np.sinh(self.eta)
        return np.column_stack([px, py, pz, np.sqrt(px**2 + py**2 + pz**2 + self.mass**2)])


class ObjectPair(NamedTuple):
    """Two objects of each event; where `there` is False they are no objects but zeros."""

    exists: NDArray[np.bool_]
    first: FourVectors
    second: FourVectors

    def zero_where_missing(self, values: Floats) -> Floats:
        """The values; 0 where there is no pair."""
        return np.where(self.exists, values, 0.0)

    def total_p4(self) -> Floats:
        """Sum of the four-vectors, shape (events, 4)."""
        return self.first.p4() + self.second.p4()

    def mass(self) -> Floats:
        """Invariant mass, GeV; 0 where there is no pair, and for a square that rounding makes negative."""
        total = self.total_p4()
        squared = total[:, 3] ** 2 - (total[:, :3] ** 2).sum(axis=1)
        return self.zero_where_missing(np.sqrt(np.maximum(squared, 0.0)))

    def deta(self) -> Floats:
        """|Delta eta|."""
        return np.abs(self.first.eta - self.second.eta)

    def dphi(self) -> Floats:
        """|Delta phi|, from 0 to pi."""
        return np.abs(wrap_phi(self.first.phi - self.second.phi))


def read_four_vectors(events: Any, collection: str) -> FourVectors:
    """A collection with pt, eta, phi and mass."""
    start, found = read_columns(events, collection, "pt", "eta", "phi", "mass")
    return FourVectors(np.repeat(np.arange(len(start) - 1), np.diff(start)), *found)


def make_pair(objects: FourVectors, first_rows: Ints, second_rows: Ints) -> ObjectPair:
    """The objects of rows `one` and `other` of each event, -1 for none."""
    there = (first_rows >= 0) & (second_rows >= 0)
    return ObjectPair(there, _take_rows(objects, first_rows, there), _take_rows(objects, second_rows, there))


def wrap_phi(angle: Floats) -> Floats:
    """An angle brought to [-pi, pi)."""
    return (angle + np.pi) % (2 * np.pi) - np.pi


def _take_rows(objects: FourVectors, rows: Ints, exists: NDArray[np.bool_]) -> FourVectors:
    event = np.arange(len(rows))
    if not exists.any():
        return FourVectors(event, *(np.zeros(len(rows)) for _ in range(4)))
    taken = objects.take(np.where(exists, rows, 0))
    return FourVectors(event, *(np.where(exists, column, 0.0) for column in taken[1:]))
