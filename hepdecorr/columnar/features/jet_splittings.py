r"""How a jet splits in two: kT splitting scale, z_cut and distance, and the soft-drop mass.

kT: the constituents are clustered again with the longitudinally invariant kT algorithm (E scheme, every
constituent into one jet); the two subjets of its last step have
d12 = min(pT1, pT2)^2 [(y1 - y2)^2 + (phi1 - phi2)^2].
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hepdecorr.columnar.features.branches import Floats
from hepdecorr.columnar.features.jet_clustering import groomed_mass, kt_subjets
from hepdecorr.columnar.features.jet_momenta import divided, sums
from hepdecorr.columnar.features.jet_stored import stored, takes
from hepdecorr.columnar.features.sharing import feature, intermediate


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
    below = d12 + sums(rows).mass ** 2
    return divided(d12, below)


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
    return stored(rows, "msoftdrop") if takes(rows, "msoftdrop") else groomed_mass(rows)


@intermediate
def last_splitting(rows: Any) -> Floats:
    """sqrt(d12) [GeV] and distance of the two kT subjets, shape (rows, 2); zeros where there are none."""
    return split(kt_subjets(rows))


def split(subjets: Floats) -> Floats:
    """sqrt(d12) and distance from four-momenta of two subjets, shape (jets, 2, 4)."""
    x, y, z, e = np.moveaxis(subjets, -1, 0)
    pt = np.hypot(x, y)
    phi = np.arctan2(y, x)
    transverse = np.sqrt(np.maximum(e * e - z * z, pt * pt))
    rapidity = np.arcsinh(divided(z, transverse))
    dphi = np.abs(phi[:, 0] - phi[:, 1])
    distance = np.hypot(rapidity[:, 0] - rapidity[:, 1], np.minimum(dphi, 2.0 * np.pi - dphi))
    return np.stack([pt.min(axis=1) * distance, distance], axis=1)
