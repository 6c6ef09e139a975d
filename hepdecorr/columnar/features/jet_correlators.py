r"""Energy correlation functions with beta = 1 and their ratios C2, D2, N2.

With z_i = pT_i / sum_j pT_j and theta_ij the distance in rapidity and azimuth,

    e2  = sum_{i<j} z_i z_j theta_ij
    e3  = sum_{i<j<k} z_i z_j z_k theta_ij theta_ik theta_jk
    2e3 = sum_{i<j<k} z_i z_j z_k (the product of the two smallest of the three theta).

e2 and e3: A. J. Larkoski, G. P. Salam and J. Thaler, JHEP 06 (2013) 108 (arXiv:1305.0007), section 2, with
ECF(N) divided by ECF(1)^N.  2e3: I. Moult, L. Necib and J. Thaler, JHEP 12 (2016) 153 (arXiv:1609.07483).
All constituents are used, whatever their number.

FastJet's contrib computes the same (the tests compare), but needs 210 CPU-s per 10k jets of 60 constituents
for the three-point function alone, as it takes every distance anew for each triple; from a table of the
distances both take 0.2 CPU-s.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from hepdecorr.columnar.features.branches import Floats, Ints
from hepdecorr.columnar.features.jet_momenta import Momenta, divided, momenta
from hepdecorr.columnar.features.sharing import feature, intermediate
from hepdecorr.compiled import compiled


@feature(title=r"$C_2$")
def c2(rows: Any) -> Floats:
    """C2 = e3 / e2^2 (arXiv:1305.0007, section 2: C_N is ECF(N+1) ECF(N-1) / ECF(N)^2).

    0 for fewer than three constituents, and where all fly in one direction (0 / 0).
    """
    e2, e3, _ = correlators(rows).T
    return divided(e3, e2**2)


@feature(title=r"$D_2$")
def d2(rows: Any) -> Floats:
    """D2 = e3 / e2^3 (A. J. Larkoski, I. Moult and D. Neill, JHEP 12 (2014) 009, arXiv:1409.6298).

    0 for fewer than three constituents, and where all fly in one direction (0 / 0).
    """
    e2, e3, _ = correlators(rows).T
    return divided(e3, e2**3)


@feature(title=r"$N_2$")
def n2(rows: Any) -> Floats:
    """N2 = 2e3 / e2^2 (arXiv:1609.07483), of all constituents.

    CMS's branch n2b1, on which N2 DDT is built, is that of the soft-dropped jet, and so smaller where there
    is much to groom; take 'FatJet.n2b1' for it.  0 for fewer than three constituents, and where all fly in
    one direction (0 / 0).
    """
    e2, _, two_e3 = correlators(rows).T
    return divided(two_e3, e2**2)


@intermediate
def correlators(rows: Any) -> Floats:
    """e2, e3 and 2e3 of each jet, shape (rows, 3); 0 where there are too few constituents."""
    return correlated(momenta(rows))


def correlated(parts: Momenta) -> Floats:
    """e2, e3 and 2e3 from flat momenta, shape (jets, 3)."""
    out = np.zeros((len(parts.start) - 1, 3))
    most = int(np.diff(parts.start).max(initial=0))
    table = np.empty((most, most))
    _correlate(parts.start, parts.pt, parts.rapidity, parts.phi, table, np.empty((2, most)), out)
    return out


@compiled
def _correlate(
    start: Ints, pt: Floats, rapidity: Floats, phi: Floats, table: Floats, work: Floats, out: Floats
) -> None:
    z, weighted = work[0], work[1]
    for jet in range(len(start) - 1):
        first, n = start[jet], start[jet + 1] - start[jet]
        total = 0.0
        for i in range(n):
            total += pt[first + i]
        e2, e3, two_e3 = 0.0, 0.0, 0.0
        for i in range(n):
            z[i] = pt[first + i] / total
            row = table[i]
            s2, s3, s23 = 0.0, 0.0, 0.0
            for j in range(i):
                dy = rapidity[first + i] - rapidity[first + j]
                dphi = abs(phi[first + i] - phi[first + j])
                dphi = min(dphi, 2.0 * math.pi - dphi)
                row[j] = math.sqrt(dy * dy + dphi * dphi)
                weighted[j] = z[j] * row[j]
                s2 += weighted[j]
            for j in range(1, i):
                a, other = row[j], table[j]
                t3, t23 = 0.0, 0.0
                for k in range(j):
                    # z_k theta_ik theta_jk and z_k times the product of the two smallest
                    ab, bc, ac = a * row[k], row[k] * other[k], a * other[k]
                    t3 += weighted[k] * other[k]
                    t23 += z[k] * min(ab, bc, ac)
                s3 += weighted[j] * t3
                s23 += z[j] * t23
            e2, e3, two_e3 = e2 + z[i] * s2, e3 + z[i] * s3, two_e3 + z[i] * s23
        out[jet, 0], out[jet, 1], out[jet, 2] = e2, e3, two_e3
