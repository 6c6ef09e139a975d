"""The toys of the papers and practicals: (events, rng) -> x1, x2, z and label, each of shape (events,).

Sources: LKC: Louppe, Kagan, Cranmer, 'Learning to pivot', 1611.01046, 5.1.  Practicals: M. Borisyak's at
MLHEP 2019 (pivot-toy-1, -2, -3) and the slides that go with them.  Seminar: M. Zgubic, 'Independence of a NN
classifier from a continuous parameter', MLHEP 2019.  Both classes are equally frequent unless z decides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Rng = np.random.Generator

VALUES = 5  # of the discrete z: 0, 1, 2, 3, 4
NOISE = 0.05  # of x2 in `discrete`
SIGMA = 1.0  # of x2 in `slides`, where the slide leaves it open


class Toy(NamedTuple):
    """Events of a toy, one number an event in each field."""

    x1: Floats
    x2: Floats
    z: Floats
    label: NDArray[np.int32]


def louppe(events: int, rng: Rng) -> Toy:
    """x|0 ~ N((0, 0), [[1, -1/2], [-1/2, 1]]), x|1, z ~ N((1, 1 + z), 1), z ~ N(0, 1) for both (LKC 5.1).

    Only the signal depends on z; H(z) = ln(2 pi e) / 2 = 1.4189 nats.
    """
    label = _coin(events, rng)
    z = rng.standard_normal(events)
    x1, x2 = np.where(label == 1, _round(1.0, z, rng), _tilted(events, rng))
    return Toy(x1, x2, z, label)


def zgubic(events: int, rng: Rng) -> Toy:
    """As `louppe`, but x|1, z ~ N((1, 1 + z), 1/2), and z = 0 for the background (Seminar, 1).

    z itself gives the label away: no score that separates is independent of z over all events, as one can be
    within the signal.
    """
    label = _coin(events, rng)
    z = np.where(label == 1, rng.standard_normal(events), 0.0)
    x1, x2 = np.where(label == 1, _round(np.sqrt(0.5), z, rng), _tilted(events, rng))
    return Toy(x1, x2, z, label)


def discrete(events: int, rng: Rng) -> Toy:
    """z ~ U{0, ..., 4}, x1 ~ U(-1, 1), x2 ~ N(z / 4, 0.05^2), label = [(x1 + 1) / 2 < x2] (toy 2).

    P(label = 1 | z) = z / 4 but for the noise: the label depends on z.
    """
    z = rng.integers(0, VALUES, events).astype(np.float64)
    x1 = rng.uniform(-1, 1, events)
    x2 = z / 4 + NOISE * rng.standard_normal(events)
    return Toy(x1, x2, z, ((x1 + 1) / 2 < x2).astype(np.int32))


def slides(events: int, rng: Rng) -> Toy:
    """z ~ U{0, ..., 4}, x1 ~ U(0, 1), x2 ~ N(z, sigma^2), label = [x2 > x1] (the slides' example).

    As it is printed there: `discrete` divides z by 4.  Where z is 3 or 4 there is hardly any background.
    The slide gives no sigma; here it is 1.
    """
    z = rng.integers(0, VALUES, events).astype(np.float64)
    x1 = rng.uniform(0, 1, events)
    x2 = z + SIGMA * rng.standard_normal(events)
    return Toy(x1, x2, z, (x2 > x1).astype(np.int32))


def unused(events: int, rng: Rng) -> Toy:
    """'Independence is not: unused' (Practicals, toy 3): z = x1 is an input that no classifier can spare.

    x1 ~ U(0.1, 0.9) with a gap of 0.2 opened at 1/2; x2 = x1 (signal) or 1 - x1 (background), plus
    U(-1, 1) (x1 - 1/2)^2: two lines that cross.  The label can be told from x1 and x2 together, from neither
    alone, and is independent of z.
    """
    label = _coin(events, rng)
    x1 = rng.uniform(0.1, 0.9, events)
    x1 += 0.1 * np.sign(x1 - 0.5)
    x2 = np.where(label == 1, x1, 1 - x1) + rng.uniform(-1, 1, events) * (x1 - 0.5) ** 2
    return Toy(x1, x2, x1.copy(), label)


def _coin(events: int, rng: Rng) -> NDArray[np.int32]:
    return rng.integers(0, 2, events, dtype=np.int32)


def _round(width: float, z: Floats, rng: Rng) -> Floats:
    """N((1, 1 + z), width^2 1), (2, events)."""
    centre = np.stack([np.ones_like(z), 1 + z])
    return centre + width * rng.standard_normal((2, len(z)))


def _tilted(events: int, rng: Rng) -> Floats:
    """Two Gaussians of unit width with correlation -1/2, (2, events)."""
    first, second = rng.standard_normal((2, events))
    return np.stack([first, -0.5 * first + np.sqrt(0.75) * second])


# `regression` is Louppe's distribution, with the small training sample of Practicals, toy 1, in its config.
TOYS: Mapping[str, Callable[[int, Rng], Toy]] = {
    "louppe": louppe,
    "regression": louppe,
    "discrete": discrete,
    "unused": unused,
    "slides": slides,
    "zgubic": zgubic,
}
