"""The pair of b jets and what it recoils against: the two hardest jets of `Jet.btagged`.

`btagged`, which the built-in sample has, is 1 for jets that pass a working point.  Events with fewer than two
give 0 everywhere but in `met`, `n_btags`: cut on `n_btags`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hepdecorr.columnar.features.branches import Floats, columns
from hepdecorr.columnar.features.missing_momentum import met_phi
from hepdecorr.columnar.features.momenta import Pair, azimuth, objects, pair
from hepdecorr.columnar.features.sharing import feature, intermediate


@feature(title="b-tagged jets")
def n_btags(events: Any) -> Floats:
    """How many jets are tagged."""
    start, (tagged,) = columns(events, "Jet", "btagged")
    event = np.repeat(np.arange(len(events)), np.diff(start))
    return np.bincount(event[tagged > 0], minlength=len(events)).astype(np.float64)


@feature(unit="GeV", title=r"$m_{bb}$")
def m_bb(events: Any) -> Floats:
    """Mass of the b jets: usually the protected variable."""
    return pair_of_jets(events).mass()


@feature(unit="GeV", title=r"$p_T^{b_1}$")
def pt_b1(events: Any) -> Floats:
    """Transverse momentum of the harder b jet: with that of the other and the angles it gives the mass."""
    return pair_of_jets(events).one.pt


@feature(unit="GeV", title=r"$p_T^{b_2}$")
def pt_b2(events: Any) -> Floats:
    """Transverse momentum of the softer b jet."""
    return pair_of_jets(events).other.pt


@feature(title=r"$\Delta R_{bb}$")
def dr_bb(events: Any) -> Floats:
    """Delta R of the b jets."""
    jets = pair_of_jets(events)
    return np.hypot(jets.deta(), jets.dphi())


@feature(title=r"$|\Delta\eta_{bb}|$")
def deta_bb(events: Any) -> Floats:
    """|Delta eta| of the b jets."""
    return pair_of_jets(events).deta()


@feature(title=r"$|\Delta\phi(E_T^\mathrm{miss}, bb)|$")
def dphi_met_bb(events: Any) -> Floats:
    """|Delta phi| of the missing momentum and the sum of the b jets: pi if nothing else is there."""
    jets = pair_of_jets(events)
    total = jets.total()
    return jets.only(np.abs(azimuth(met_phi(events) - np.arctan2(total[:, 1], total[:, 0]))))


@intermediate
def pair_of_jets(events: Any) -> Pair:
    """The two hardest tagged jets, the harder one first."""
    jets = objects(events, "Jet")
    _, (tagged,) = columns(events, "Jet", "btagged")
    left = tagged > 0
    first = jets.first(left, events=len(events))
    left[first[first >= 0]] = False
    return pair(jets, first, jets.first(left, events=len(events)))
