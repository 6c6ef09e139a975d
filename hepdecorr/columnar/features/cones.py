"""CLEO's cones: momentum flow of the rest of the event around the candidate's thrust axis.

D. M. Asner et al. (CLEO), Phys. Rev. D 53 (1996) 1039: nine double cones of 10 degrees, forward and backward
folded together; the flow in each is the sum of |p| of the particles in it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from hepdecorr.columnar.features.branches import Floats, Ints
from hepdecorr.columnar.features.particles import DAUGHTERS, particles
from hepdecorr.columnar.features.sharing import Feature, family, intermediate
from hepdecorr.columnar.features.thrusts import candidate_thrust
from hepdecorr.compiled import compiled

CONES = 9


def _cone(number: int) -> Feature:
    def cone(events: Any) -> Floats:
        return flows(events)[:, number - 1]

    return family(
        cone,
        name=f"cleo_{number}",
        unit="GeV",
        title=rf"$\mathrm{{CC}}_{number}$",
        doc=f"""Summed |p*| of the rest of the event between {10 * number - 10} and {10 * number} degrees
        from the candidate's thrust axis, either way; 0 if nothing is there.""",
    )


cleo_1, cleo_2, cleo_3, cleo_4, cleo_5, cleo_6, cleo_7, cleo_8, cleo_9 = (_cone(i + 1) for i in range(CONES))


@intermediate
def flows(events: Any) -> Floats:
    """Momentum in each cone [GeV], shape (events, 9)."""
    everything = particles(events)
    out = np.zeros((len(events), CONES))
    axis = candidate_thrust(events).axis
    _flows(everything.x, everything.y, everything.z, everything.p, everything.start, axis, out)
    return out


@compiled
def _flows(x: Floats, y: Floats, z: Floats, p: Floats, start: Ints, axis: Floats, out: Floats) -> None:
    for i in range(len(out)):
        for k in range(start[i] + DAUGHTERS, start[i + 1]):
            if p[k] > 0.0:
                along = abs(x[k] * axis[i, 0] + y[k] * axis[i, 1] + z[k] * axis[i, 2]) / p[k]
                degrees = math.degrees(math.acos(min(along, 1.0)))
                out[i, min(int(degrees / 10.0), CONES - 1)] += p[k]
