"""Missing transverse momentum of NanoAOD events.

The pair of b jets and what it recoils against: the two hardest jets of `Jet.btagged`.

`btagged`, which the built-in sample has, is 1 for jets that pass a working point.  Events with fewer than two
give 0 everywhere but in `met`, `n_btags`: cut on `n_btags`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hepdecorr.columnar.features.branches import Floats, branch_names, read_columns, read_scalars
from hepdecorr.columnar.features.four_vectors import ObjectPair, make_pair, read_four_vectors, wrap_phi
from hepdecorr.columnar.features.registry import cached, feature

# In this order: every NanoAOD file has the first; the others are for older private ones.
MET_COLLECTIONS = ("PuppiMET", "MET", "PFMET")


@feature(unit="GeV", title=r"$E_T^\mathrm{miss}$")
def met(events: Any) -> Floats:
    """Missing transverse momentum, as stored: PuppiMET, in files without it MET or PFMET."""
    return read_scalars(events, f"{_met_collection(events)}.pt")


def met_phi(events: Any) -> Floats:
    """Its azimuth."""
    return read_scalars(events, f"{_met_collection(events)}.phi")


def _met_collection(events: Any) -> str:
    there = {name.replace("_", ".", 1) for name in branch_names(events)}
    # If there is none, the error names the first.
    return next((source for source in MET_COLLECTIONS if f"{source}.pt" in there), MET_COLLECTIONS[0])


@feature(title="b-tagged jets")
def n_btags(events: Any) -> Floats:
    """How many jets are tagged."""
    start, (tagged,) = read_columns(events, "Jet", "btagged")
    event = np.repeat(np.arange(len(events)), np.diff(start))
    return np.bincount(event[tagged > 0], minlength=len(events)).astype(np.float64)


@feature(unit="GeV", title=r"$m_{bb}$")
def m_bb(events: Any) -> Floats:
    """Mass of the b jets: usually the protected variable."""
    return b_jet_pair(events).mass()


@feature(unit="GeV", title=r"$p_T^{b_1}$")
def pt_b1(events: Any) -> Floats:
    """Transverse momentum of the harder b jet: with that of the other and the angles it gives the mass."""
    return b_jet_pair(events).first.pt


@feature(unit="GeV", title=r"$p_T^{b_2}$")
def pt_b2(events: Any) -> Floats:
    """Transverse momentum of the softer b jet."""
    return b_jet_pair(events).second.pt


@feature(title=r"$\Delta R_{bb}$")
def dr_bb(events: Any) -> Floats:
    """Delta R of the b jets."""
    jets = b_jet_pair(events)
    return np.hypot(jets.deta(), jets.dphi())


@feature(title=r"$|\Delta\eta_{bb}|$")
def deta_bb(events: Any) -> Floats:
    """|Delta eta| of the b jets."""
    return b_jet_pair(events).deta()


@feature(title=r"$|\Delta\phi(E_T^\mathrm{miss}, bb)|$")
def dphi_met_bb(events: Any) -> Floats:
    """|Delta phi| of the missing momentum and the sum of the b jets: pi if nothing else is there."""
    jets = b_jet_pair(events)
    total = jets.total_p4()
    return jets.zero_where_missing(np.abs(wrap_phi(met_phi(events) - np.arctan2(total[:, 1], total[:, 0]))))


@cached
def b_jet_pair(events: Any) -> ObjectPair:
    """The two hardest tagged jets, the harder one first."""
    jets = read_four_vectors(events, "Jet")
    _, (tagged,) = read_columns(events, "Jet", "btagged")
    left = tagged > 0
    first = jets.leading_rows(left, num_events=len(events))
    left[first[first >= 0]] = False
    return make_pair(jets, first, jets.leading_rows(left, num_events=len(events)))
