"""What changes from run to run and no event tells alone: the scale of photon energies, the beams' energy.

The analysis goes on using nominal values.  With the energy of a beam in the CM frame off by d, the true B has
Delta E = d and, from M_bc^2 = E_beam^2 - p_B^2, M_bc = sqrt(m_B^2 - 2 E_beam d - d^2), about m_B - d.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hepdecorr.errors import InputError
from hepdecorr.samples.bsgamma.kinematics import Floats
from hepdecorr.samples.production import BLOCKS, SEEDS_APART

# Further, most pairs would lie below the threshold of B anti-B, 10 MeV under the nominal energy of a beam.
BEAM_SHIFT_MAX = 0.003
PHOTON_SCALE_MAX = 0.1
# A shift is drawn again where it is further off than this many standard deviations.
WITHIN = 3.0
# The stream of random numbers that the shifts of runs come from; 1 and 2 are those of the processes.
_STREAM = 3


class Shifts(NamedTuple):
    """The hidden conditions of all runs, one entry each: relative scale, energy in GeV."""

    photon_scale: Floats
    beam_shift: Floats


@dataclass(frozen=True)
class Conditions:
    """Each event belongs to one of `runs` runs, and each run has conditions of its own.

    photon_scale: standard deviation of the relative shift s of photon energies, E -> E (1 + s);
    beam_shift: that of the energy of a beam in the CM frame, GeV; both normal, within three deviations.
    The shifts of a run follow from `seed` and its number alone, so that all files with the same seed and
    deviations share them: signal and continuum, however many events or runs there are.
    """

    runs: int
    photon_scale: float = 0.02
    beam_shift: float = 0.0025
    seed: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.runs < BLOCKS:
            raise InputError(f"runs must lie in [1, {BLOCKS - 1}], not {self.runs}; leave it out for no runs")
        for name, high, unit in (
            ("photon_scale", PHOTON_SCALE_MAX, ""),
            ("beam_shift", BEAM_SHIFT_MAX, " GeV"),
        ):
            if not 0 <= getattr(self, name) <= high:
                raise InputError(f"{name} must lie in [0, {high}]{unit}, not {getattr(self, name)}")
        if self.seed < 0:
            raise InputError(f"the seed of conditions must not be negative, but is {self.seed}")

    def number(self, run: NDArray[np.int64]) -> NDArray[np.int64]:
        """The branch `run` of runs counted from 0: never 1 or 2, and other numbers for another seed."""
        return (1 + self.seed % SEEDS_APART) * BLOCKS + 1 + run

    def shifts(self) -> Shifts:
        """The shifts of all runs."""
        pulls = _pulls(self.seed, self.runs)
        return Shifts(self.photon_scale * pulls[:, 0], self.beam_shift * pulls[:, 1])


@cache
def _pulls(seed: int, runs: int) -> Floats:
    """Standard normal numbers (runs, 2) within three deviations, a row of which depends on no other."""
    return np.stack([_pull(np.random.SeedSequence(seed, spawn_key=(_STREAM, run))) for run in range(runs)])


def _pull(sequence: np.random.SeedSequence) -> Floats:
    rng = np.random.default_rng(sequence)
    pull = rng.normal(size=2)
    while (far := np.abs(pull) > WITHIN).any():
        pull[far] = rng.normal(size=int(far.sum()))
    return pull
