"""The exam scores of 'Context-aware variational autoencoders' (3.1): x = 2 mu + (sigma^2 + 1) v + eps.

Moments: E x = 0, Var x = 4 + E(sigma^2 + 1)^2 + noise^2 = 10 + noise^2, and within a school of given sigma
Var x = (sigma^2 + 1)^2 + noise^2.  Only sigma^2 acts: the sign of sigma cannot be learnt.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hepdecorr.errors import InputError

Floats = NDArray[np.float64]

MEAN_SIZE, LEAST_SIZE = 16, 8  # K ~ Poisson(16) + 8
BATCH = 64  # schools of one batch in the authors' code, which gives all of them one K


@dataclass(frozen=True)
class Options:
    """noise: standard deviation of eps, which the paper leaves open; the authors' code has none.

    same_size: 64 schools after one another share their size, as in the authors' code; else each has its own.
    """

    noise: float = 0.5
    same_size: bool = False

    def __post_init__(self) -> None:
        if not (np.isfinite(self.noise) and self.noise >= 0):
            raise InputError(f"noise must not be below 0, but is {self.noise}")


class Scores(NamedTuple):
    """One number a student: school from 0, place in it from 1, the school's mu and sigma, own v, score x."""

    school: NDArray[np.int64]
    student: NDArray[np.int64]
    mu: Floats
    sigma: Floats
    v: Floats
    x: Floats


def process(mu: Floats, sigma: Floats, v: Floats) -> Floats:
    """The score without its noise, 2 mu + (sigma^2 + 1) v."""
    return 2 * mu + (sigma**2 + 1) * v


def sizes(schools: int, rng: np.random.Generator, *, same: bool) -> NDArray[np.int64]:
    """Students of each school."""
    batch = BATCH if same else 1
    drawn = LEAST_SIZE + rng.poisson(MEAN_SIZE, -(-schools // batch))
    return np.repeat(drawn, batch)[:schools]


def draw(schools: int, rng: np.random.Generator, options: Options) -> Scores:
    """All students of so many schools; mu, sigma and v are unit Gaussians."""
    count = sizes(schools, rng, same=options.same_size)
    mu, sigma = (np.repeat(rng.standard_normal(schools), count) for _ in range(2))
    v, eps = rng.standard_normal((2, count.sum()))
    before = np.cumsum(count) - count
    return Scores(
        school=np.repeat(np.arange(schools), count),
        student=1 + np.arange(count.sum()) - np.repeat(before, count),
        mu=mu,
        sigma=sigma,
        v=v,
        x=process(mu, sigma, v) + options.noise * eps,
    )
