"""The jets that a pair of muons recoils against: above 25 GeV, |eta| < 4.7, off both muons by 0.4."""

from __future__ import annotations

from typing import Any

import numpy as np

from hepdecorr.columnar.features.branches import Floats
from hepdecorr.columnar.features.dimuon import pair_of_muons
from hepdecorr.columnar.features.momenta import Objects, Pair, azimuth, objects, pair
from hepdecorr.columnar.features.sharing import feature, intermediate

PT_MIN, ETA_MAX, RADIUS = 25.0, 4.7, 0.4


@feature(title="jets")
def n_jets(events: Any) -> Floats:
    """How many jets there are."""
    return np.bincount(_jets(events).event, minlength=len(events)).astype(np.float64)


@feature(unit="GeV", title=r"$p_T$ of the leading jet")
def pt_jet1(events: Any) -> Floats:
    """Transverse momentum of the hardest jet; 0 if there is none."""
    return _leading(events).one.pt


@feature(title=r"$|\eta|$ of the leading jet")
def eta_jet1(events: Any) -> Floats:
    """|eta| of the hardest jet; 0 if there is none."""
    return np.abs(_leading(events).one.eta)


@feature(unit="GeV", title=r"$m_{jj}$")
def m_jj(events: Any) -> Floats:
    """Mass of the two hardest jets, large in weak boson fusion; 0 if there are fewer."""
    return _two(events).mass()


@feature(title=r"$|\Delta\eta_{jj}|$")
def deta_jj(events: Any) -> Floats:
    """|Delta eta| of the two hardest jets, large in weak boson fusion; 0 if there are fewer."""
    return _two(events).deta()


@intermediate
def _jets(events: Any) -> Objects:
    jets, muons = objects(events, "Jet"), pair_of_muons(events)
    keep = (jets.pt > PT_MIN) & (np.abs(jets.eta) < ETA_MAX)
    for muon in (muons.one, muons.other):
        away = np.hypot(jets.eta - muon.eta[jets.event], azimuth(jets.phi - muon.phi[jets.event]))
        keep &= (away > RADIUS) | ~muons.there[jets.event]
    return jets.take(keep)


def _leading(events: Any) -> Pair:
    jets = _jets(events)
    first = jets.first(np.ones(len(jets.pt), dtype=bool), events=len(events))
    return pair(jets, first, first)


@intermediate
def _two(events: Any) -> Pair:
    jets = _jets(events)
    left = np.ones(len(jets.pt), dtype=bool)
    first = jets.first(left, events=len(events))
    left[first[first >= 0]] = False
    return pair(jets, first, jets.first(left, events=len(events)))
