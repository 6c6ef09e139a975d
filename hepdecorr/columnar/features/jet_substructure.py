"""Energy correlation functions with beta = 1 and their ratios C2, D2, N2.

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

N-subjettiness: how well N axes describe a jet.

tau_N = sum_k pT_k min(dR_1k, ..., dR_Nk) / (R sum_k pT_k): J. Thaler and K. Van Tilburg, JHEP 03 (2011) 015
(arXiv:1011.2268), eqs. 2.1 and 2.2, with beta = 1.

Where the file has the branch tauN it is taken as stored (0 where it is negative, CMS writes -1, or NaN),
unless `substructure` of the objects is `computed`.  Else tau_N is computed with FastJet's Nsubjettiness from
the constituents: axes from exclusive kT clustering, then one pass of minimisation (JHEP 02 (2012) 093,
arXiv:1108.2701; OnePass_KT_Axes, as CMS stores them), and `radius` of the objects; 0 for up to N
constituents.  The two differ where radius or pile-up treatment do; `features.sources` says which one a file
gives.  Both terms of a ratio have the same source.

How a jet splits in two: kT splitting scale, z_cut and distance, and the soft-drop mass.

kT: the constituents are clustered again with the longitudinally invariant kT algorithm (E scheme, every
constituent into one jet); the two subjets of its last step have
d12 = min(pT1, pT2)^2 [(y1 - y2)^2 + (phi1 - phi2)^2].
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from hepdecorr._numba import cached_njit
from hepdecorr.columnar.features.branches import Floats, Ints
from hepdecorr.columnar.features.jet_clustering import jet_groomed_mass, jet_kt_subjets, jet_njettiness
from hepdecorr.columnar.features.jet_momenta import (
    ConstituentMomenta,
    constituent_momenta,
    divide_or_zero,
    jet_four_momenta,
)
from hepdecorr.columnar.features.registry import FeatureFunction, cached, feature, parametrised_feature
from hepdecorr.columnar.features.stored_substructure import read_nonnegative_branch, uses_branches


@feature(title=r"$C_2$")
def c2(rows: Any) -> Floats:
    """C2 = e3 / e2^2 (arXiv:1305.0007, section 2: C_N is ECF(N+1) ECF(N-1) / ECF(N)^2).

    0 for fewer than three constituents, and where all fly in one direction (0 / 0).
    """
    e2, e3, _ = energy_correlators(rows).T
    return divide_or_zero(e3, e2**2)


@feature(title=r"$D_2$")
def d2(rows: Any) -> Floats:
    """D2 = e3 / e2^3 (A. J. Larkoski, I. Moult and D. Neill, JHEP 12 (2014) 009, arXiv:1409.6298).

    0 for fewer than three constituents, and where all fly in one direction (0 / 0).
    """
    e2, e3, _ = energy_correlators(rows).T
    return divide_or_zero(e3, e2**3)


@feature(title=r"$N_2$")
def n2(rows: Any) -> Floats:
    """N2 = 2e3 / e2^2 (arXiv:1609.07483), of all constituents.

    CMS's branch n2b1, on which N2 DDT is built, is that of the soft-dropped jet, and so smaller where there
    is much to groom; take 'FatJet.n2b1' for it.  0 for fewer than three constituents, and where all fly in
    one direction (0 / 0).
    """
    e2, _, two_e3 = energy_correlators(rows).T
    return divide_or_zero(two_e3, e2**2)


@cached
def energy_correlators(rows: Any) -> Floats:
    """e2, e3 and 2e3 of each jet, shape (rows, 3); 0 where there are too few constituents."""
    return compute_energy_correlators(constituent_momenta(rows))


def compute_energy_correlators(momenta: ConstituentMomenta) -> Floats:
    """e2, e3 and 2e3 from flat momenta, shape (jets, 3)."""
    out = np.zeros((len(momenta.start) - 1, 3))
    most = int(np.diff(momenta.start).max(initial=0))
    table = np.empty((most, most))
    _fill_energy_correlators(
        momenta.start, momenta.pt, momenta.rapidity, momenta.phi, table, np.empty((2, most)), out
    )
    return out


@cached_njit
def _fill_energy_correlators(
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


def _tau_feature(number: int) -> FeatureFunction:
    def tau(rows: Any) -> Floats:
        if uses_branches(rows, f"tau{number}"):
            return read_nonnegative_branch(rows, f"tau{number}")
        return jet_njettiness(rows)[:, number - 1]

    return parametrised_feature(
        tau,
        name=f"tau{number}",
        title=rf"$\tau_{number}$",
        doc=f"""tau_{number}: the branch tau{number} (0 where negative or NaN), else computed (0 for up to
        {number} constituents).""",
    )


def _tau_ratio_feature(number: int) -> FeatureFunction:
    above, below = f"tau{number}", f"tau{number - 1}"

    def ratio(rows: Any) -> Floats:
        if uses_branches(rows, above, below):
            numerator, denominator = (
                read_nonnegative_branch(rows, above),
                read_nonnegative_branch(rows, below),
            )
        else:
            numerator, denominator = jet_njettiness(rows)[:, number - 1], jet_njettiness(rows)[:, number - 2]
        return divide_or_zero(numerator, denominator)

    return parametrised_feature(
        ratio,
        name=f"tau{number}{number - 1}",
        title=rf"$\tau_{{{number}{number - 1}}}$",
        doc=f"""tau_{number} / tau_{number - 1}, small for {number} or more prongs: from both
        branches if they are there, else computed; 0 where tau_{number - 1} is 0 or invalid.""",
    )


tau1, tau2, tau3, tau4 = (_tau_feature(number) for number in (1, 2, 3, 4))
tau21, tau32, tau43 = (_tau_ratio_feature(number) for number in (2, 3, 4))


@feature(unit="GeV", title=r"$\sqrt{d_{12}}$")
def split12(rows: Any) -> Floats:
    """sqrt(d12), ATLAS's first kT splitting scale; 0 for fewer than two constituents.

    ATL-PHYS-PUB-2009-081; J. M. Butterworth, B. E. Cox and J. R. Forshaw, Phys. Rev. D 65 (2002) 096014.
    """
    return last_splitting(rows)[:, 0]


@feature(title=r"$z_\mathrm{cut,12}$")
def zcut12(rows: Any) -> Floats:
    """d12 / (d12 + m^2), with the mass of the constituents' sum; 0 for fewer than two constituents.

    J. Thaler and L.-T. Wang, JHEP 07 (2008) 092 (arXiv:0806.0023), in ATLAS's form
    (ATL-PHYS-PUB-2009-081).  0 also for two massless constituents in one direction (0 / 0).
    """
    d12 = last_splitting(rows)[:, 0] ** 2
    below = d12 + jet_four_momenta(rows).mass ** 2
    return divide_or_zero(d12, below)


@feature(title=r"$\Delta R^{k_T}_{12}$")
def kt_dr(rows: Any) -> Floats:
    """Distance of the two kT subjets in rapidity and azimuth; 0 for fewer than two constituents.

    KtDR of the ATLAS study (ATL-PHYS-PUB-2018-014); ATLAS's code takes the pseudorapidity.
    """
    return last_splitting(rows)[:, 1]


@feature(unit="GeV", title=r"$m_\mathrm{SD}$")
def softdrop_mass(rows: Any) -> Floats:
    """Soft-drop mass: the branch msoftdrop where there is one (see `substructure`), else computed.

    Branch: as stored (CMS corrects the subjets of its puppi jets); 0 where it is negative (CMS writes -1 for
    jets without a groomed partner) or NaN.  Computed: Cambridge/Aachen, z_cut = 0.1, beta = 0 (A. J.
    Larkoski et al., JHEP 05 (2014) 146, arXiv:1402.2657, eq. 1.1), uncorrected; of a single constituent its
    own mass, 0 without constituents.  The two differ; `features.sources` says which one a file gives.
    """
    return (
        read_nonnegative_branch(rows, "msoftdrop")
        if uses_branches(rows, "msoftdrop")
        else jet_groomed_mass(rows)
    )


@cached
def last_splitting(rows: Any) -> Floats:
    """sqrt(d12) [GeV] and distance of the two kT subjets, shape (rows, 2); zeros where there are none."""
    return splitting_of_subjets(jet_kt_subjets(rows))


def splitting_of_subjets(subjets: Floats) -> Floats:
    """sqrt(d12) and distance from four-momenta of two subjets, shape (jets, 2, 4)."""
    x, y, z, e = np.moveaxis(subjets, -1, 0)
    pt = np.hypot(x, y)
    phi = np.arctan2(y, x)
    transverse = np.sqrt(np.maximum(e * e - z * z, pt * pt))
    rapidity = np.arcsinh(divide_or_zero(z, transverse))
    dphi = np.abs(phi[:, 0] - phi[:, 1])
    distance = np.hypot(rapidity[:, 0] - rapidity[:, 1], np.minimum(dphi, 2.0 * np.pi - dphi))
    return np.stack([pt.min(axis=1) * distance, distance], axis=1)
