"""Objects of NanoAOD as four-vectors: the first of each event in some order, and what two of them make."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hepdecorr.columnar.features.branches import Floats, Ints, columns


class Objects(NamedTuple):
    """Flat objects of all events: the event of each, pt and mass in GeV, eta, phi."""

    event: Ints
    pt: Floats
    eta: Floats
    phi: Floats
    mass: Floats

    def take(self, rows: NDArray[Any]) -> Objects:
        """The rows of an index or a mask."""
        return Objects(*(column[rows] for column in self))

    def first(self, wanted: NDArray[np.bool_], *, events: int) -> Ints:
        """Row of the object with the largest pt in each event, of those wanted; -1 where there is none."""
        rows = np.flatnonzero(wanted)
        order = rows[np.lexsort((-self.pt[rows], self.event[rows]))]
        found = np.full(events, -1, dtype=np.int64)
        event, at = np.unique(self.event[order], return_index=True)
        found[event] = order[at]
        return found

    def p4(self) -> Floats:
        """px, py, pz, E, shape (objects, 4)."""
        px, py, pz = self.pt * np.cos(self.phi), self.pt * np.sin(self.phi), self.pt * np.sinh(self.eta)
        return np.column_stack([px, py, pz, np.sqrt(px**2 + py**2 + pz**2 + self.mass**2)])


class Pair(NamedTuple):
    """Two objects of each event; where `there` is False they are no objects but zeros."""

    there: NDArray[np.bool_]
    one: Objects
    other: Objects

    def only(self, values: Floats) -> Floats:
        """The values; 0 where there is no pair."""
        return np.where(self.there, values, 0.0)

    def total(self) -> Floats:
        """Sum of the four-vectors, shape (events, 4)."""
        return self.one.p4() + self.other.p4()

    def mass(self) -> Floats:
        """Invariant mass, GeV; 0 where there is no pair, and for a square that rounding makes negative."""
        total = self.total()
        squared = total[:, 3] ** 2 - (total[:, :3] ** 2).sum(axis=1)
        return self.only(np.sqrt(np.maximum(squared, 0.0)))

    def deta(self) -> Floats:
        """|Delta eta|."""
        return np.abs(self.one.eta - self.other.eta)

    def dphi(self) -> Floats:
        """|Delta phi|, from 0 to pi."""
        return np.abs(azimuth(self.one.phi - self.other.phi))


def objects(events: Any, collection: str) -> Objects:
    """A collection with pt, eta, phi and mass."""
    start, found = columns(events, collection, "pt", "eta", "phi", "mass")
    return Objects(np.repeat(np.arange(len(start) - 1), np.diff(start)), *found)


def pair(found: Objects, one: Ints, other: Ints) -> Pair:
    """The objects of rows `one` and `other` of each event, -1 for none."""
    there = (one >= 0) & (other >= 0)
    return Pair(there, _rows(found, one, there), _rows(found, other, there))


def azimuth(difference: Floats) -> Floats:
    """An angle brought to [-pi, pi)."""
    return (difference + np.pi) % (2 * np.pi) - np.pi


def _rows(found: Objects, rows: Ints, there: NDArray[np.bool_]) -> Objects:
    event = np.arange(len(rows))
    if not there.any():
        return Objects(event, *(np.zeros(len(rows)) for _ in range(4)))
    taken = found.take(np.where(there, rows, 0))
    return Objects(event, *(np.where(there, column, 0.0) for column in taken[1:]))
