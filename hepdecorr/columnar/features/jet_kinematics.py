"""The jet as the file has it: four-momentum, rho, number of constituents."""

from __future__ import annotations

from typing import Any

import numpy as np

from hepdecorr.columnar import constituents
from hepdecorr.columnar.features.branches import Floats
from hepdecorr.columnar.features.jet_stored import collection, counts_constituents, stored
from hepdecorr.columnar.features.sharing import feature

# What a lighter jet counts as in a logarithm of the mass [GeV].
LIGHTEST = 1e-3


@feature(unit="GeV", title=r"$p_T$")
def jet_pt(rows: Any) -> Floats:
    """Transverse momentum of the jet, as stored (with its jet energy corrections)."""
    return _jet(rows, "pt")


@feature(title=r"$\eta$")
def jet_eta(rows: Any) -> Floats:
    """Pseudorapidity of the jet, as stored."""
    return _jet(rows, "eta")


@feature(title=r"$\phi$")
def jet_phi(rows: Any) -> Floats:
    """Azimuth of the jet, as stored."""
    return _jet(rows, "phi")


@feature(unit="GeV", title=r"$m$")
def jet_mass(rows: Any) -> Floats:
    """Mass of the jet before grooming, as stored; 0 for a negative one (negative square) or NaN."""
    collection(rows)
    return stored(rows, "mass")


@feature(title=r"$\rho$")
def rho(rows: Any) -> Floats:
    r"""ln(m^2 / pT^2), from the ungroomed mass; jets below 1 MeV, negative or massless, count as 1 MeV.

    M. Dasgupta et al., JHEP 09 (2013) 029 (arXiv:1307.0007), without their R^2.
    """
    return 2.0 * np.log(np.maximum(jet_mass(rows), LIGHTEST) / jet_pt(rows))


@feature(title=r"$\rho^\mathrm{DDT}$")
def rho_ddt(rows: Any) -> Floats:
    r"""ln(m^2 / (pT * 1 GeV)), from the ungroomed mass; jets below 1 MeV count as 1 MeV.

    J. Dolen et al., JHEP 05 (2016) 156 (arXiv:1603.00027).
    """
    mass = np.maximum(jet_mass(rows), LIGHTEST)
    return np.log(mass * mass / jet_pt(rows))


@feature(title=r"$n_\mathrm{const}$")
def n_constituents(rows: Any) -> Floats:
    """How many constituents the jet has in the file, less those without momentum.

    Where the file has no table of constituents, or with `substructure: stored`, its branch nConstituents.
    """
    if counts_constituents(rows):
        return np.diff(constituents.of(rows).start).astype(np.float64)
    return stored(rows, "nConstituents")


def _jet(rows: Any, field: str) -> Floats:
    collection(rows)
    return constituents.jet(rows, field)
