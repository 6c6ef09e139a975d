r"""N-subjettiness: how well N axes describe a jet.

tau_N = sum_k pT_k min(dR_1k, ..., dR_Nk) / (R sum_k pT_k): J. Thaler and K. Van Tilburg, JHEP 03 (2011) 015
(arXiv:1011.2268), eqs. 2.1 and 2.2, with beta = 1.

Where the file has the branch tauN it is taken as stored (0 where it is negative, CMS writes -1, or NaN),
unless `substructure` of the objects is `computed`.  Else tau_N is computed with FastJet's Nsubjettiness from
the constituents: axes from exclusive kT clustering, then one pass of minimisation (JHEP 02 (2012) 093,
arXiv:1108.2701; OnePass_KT_Axes, as CMS stores them), and `radius` of the objects; 0 for up to N
constituents.  The two differ where radius or pile-up treatment do; `features.sources` says which one a file
gives.  Both terms of a ratio have the same source.
"""

from __future__ import annotations

from typing import Any

from hepdecorr.columnar.features.branches import Floats
from hepdecorr.columnar.features.jet_clustering import njettiness
from hepdecorr.columnar.features.jet_momenta import divided
from hepdecorr.columnar.features.jet_stored import stored, takes
from hepdecorr.columnar.features.sharing import Feature, family


def _tau(number: int) -> Feature:
    def tau(rows: Any) -> Floats:
        if takes(rows, f"tau{number}"):
            return stored(rows, f"tau{number}")
        return njettiness(rows)[:, number - 1]

    return family(
        tau,
        name=f"tau{number}",
        title=rf"$\tau_{number}$",
        doc=f"""tau_{number}: the branch tau{number} (0 where negative or NaN), else computed (0 for up to
        {number} constituents).""",
    )


def _ratio(number: int) -> Feature:
    above, below = f"tau{number}", f"tau{number - 1}"

    def ratio(rows: Any) -> Floats:
        if takes(rows, above, below):
            numerator, denominator = stored(rows, above), stored(rows, below)
        else:
            numerator, denominator = njettiness(rows)[:, number - 1], njettiness(rows)[:, number - 2]
        return divided(numerator, denominator)

    return family(
        ratio,
        name=f"tau{number}{number - 1}",
        title=rf"$\tau_{{{number}{number - 1}}}$",
        doc=f"""tau_{number} / tau_{number - 1}, small for {number} or more prongs: from both
        branches if they are there, else computed; 0 where tau_{number - 1} is 0 or invalid.""",
    )


tau1, tau2, tau3, tau4 = (_tau(number) for number in (1, 2, 3, 4))
tau21, tau32, tau43 = (_ratio(number) for number in (2, 3, 4))
