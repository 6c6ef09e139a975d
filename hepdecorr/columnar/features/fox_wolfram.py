r"""Fox-Wolfram moments: H_l = sum_ij |p_i| |p_j| P_l(cos theta_ij), R_l = H_l / H_0.

G. C. Fox and S. Wolfram, Phys. Rev. Lett. 41 (1978) 1581, with momenta in the place of energies as at
the B factories.  The sum runs over all ordered pairs, each particle with itself included, so that 0 <= R_l
<= 1: two back-to-back particles of one momentum have R_1 = R_3 = 0 and R_2 = R_4 = 1.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hepdecorr.columnar.features.branches import Floats, Ints
from hepdecorr.columnar.features.particles import DAUGHTERS, particles
from hepdecorr.columnar.features.sharing import feature, intermediate
from hepdecorr.compiled import compiled


@feature(title=r"$R_1$")
def r1(events: Any) -> Floats:
    """R_1 of all particles in the CM frame: (momentum imbalance / summed momentum)^2."""
    return ratios(events, 0)[:, 1]


@feature(title=r"$R_2$")
def r2(events: Any) -> Floats:
    """R_2 of all particles in the CM frame: small for B decays at threshold, large for jets."""
    return ratios(events, 0)[:, 2]


@feature(title=r"$R_3$")
def r3(events: Any) -> Floats:
    """R_3 of all particles in the CM frame."""
    return ratios(events, 0)[:, 3]


@feature(title=r"$R_4$")
def r4(events: Any) -> Floats:
    """R_4 of all particles in the CM frame."""
    return ratios(events, 0)[:, 4]


@feature(title=r"$R_1^\mathrm{ROE}$")
def r1_roe(events: Any) -> Floats:
    """R_1 of the rest of the event in the CM frame; 0 if it is empty."""
    return ratios(events, DAUGHTERS)[:, 1]


@feature(title=r"$R_2^\mathrm{ROE}$")
def r2_roe(events: Any) -> Floats:
    """R_2 of the rest of the event in the CM frame; 0 if it is empty."""
    return ratios(events, DAUGHTERS)[:, 2]


@feature(title=r"$R_3^\mathrm{ROE}$")
def r3_roe(events: Any) -> Floats:
    """R_3 of the rest of the event in the CM frame; 0 if it is empty."""
    return ratios(events, DAUGHTERS)[:, 3]


@feature(title=r"$R_4^\mathrm{ROE}$")
def r4_roe(events: Any) -> Floats:
    """R_4 of the rest of the event in the CM frame; 0 if it is empty."""
    return ratios(events, DAUGHTERS)[:, 4]


@intermediate
def ratios(events: Any, skip: int) -> Floats:
    """R_0 to R_4 without the first `skip` particles of each event, shape (events, 5); 0 without momentum."""
    everything = particles(events)
    return ratios_of(*everything[:3], p=everything.p, start=everything.start, skip=skip)


def ratios_of(x: Floats, y: Floats, z: Floats, *, p: Floats, start: Ints, skip: int = 0) -> Floats:
    """R_0 to R_4 of flat momenta, without the first `skip` of each event or jet, shape (events, 5)."""
    out = np.zeros((len(start) - 1, 5))
    most = int(np.diff(start).max(initial=0))
    _ratios(x, y, z, p, start, skip, np.empty((4, most)), out)
    return np.clip(out, 0.0, 1.0)


@compiled
def legendre(
    c0: float, c1: float, c2: float, c3: float, c4: float
) -> tuple[float, float, float, float, float]:
    """sum P_0 to sum P_4 from the sums of the powers of the cosine: P_l is linear in them."""
    return c0, c1, 1.5 * c2 - 0.5 * c0, 2.5 * c3 - 1.5 * c1, 4.375 * c4 - 3.75 * c2 + 0.375 * c0


@compiled
def _ratios(
    x: Floats, y: Floats, z: Floats, p: Floats, start: Ints, skip: int, work: Floats, out: Floats
) -> None:
    for i in range(len(out)):
        n = 0
        total = 0.0
        for k in range(start[i] + skip, start[i + 1]):
            if p[k] > 0.0:
                work[0, n], work[1, n], work[2, n] = x[k] / p[k], y[k] / p[k], z[k] / p[k]
                work[3, n] = p[k]
                total += p[k]
                n += 1
        if n == 0:
            continue
        h1, h2, h3, h4, own = 0.0, 0.0, 0.0, 0.0, 0.0
        for j in range(n):
            s1, s2, s3, s4 = 0.0, 0.0, 0.0, 0.0
            wj = work[3, j] / total
            for k in range(j):
                c = work[0, j] * work[0, k] + work[1, j] * work[1, k] + work[2, j] * work[2, k]
                w = work[3, k]
                s1 += w * c
                s2 += w * c * c
                s3 += w * c * c * c
                s4 += w * c * c * c * c
            own += wj * wj
            h1, h2, h3, h4 = h1 + wj * s1, h2 + wj * s2, h3 + wj * s3, h4 + wj * s4
        twice = 2.0 / total
        moments = legendre(1.0, own + twice * h1, own + twice * h2, own + twice * h3, own + twice * h4)
        for l in range(5):  # noqa: E741
            out[i, l] = moments[l]
