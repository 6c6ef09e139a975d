"""The pair of muons in events of NanoAOD: the hardest of either charge, above 10 GeV and |eta| < 2.4.

Events without such a pair give 0 everywhere: cut on `has_mumu`, or on a window of `m_mumu`.

The jets that a pair of muons recoils against: above 25 GeV, |eta| < 4.7, off both muons by 0.4.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hepdecorr.columnar.features.branches import Floats, read_columns
from hepdecorr.columnar.features.four_vectors import (
    FourVectors,
    ObjectPair,
    make_pair,
    read_four_vectors,
    wrap_phi,
)
from hepdecorr.columnar.features.registry import cached, feature

MUON_PT_MIN, MUON_ETA_MAX = 10.0, 2.4


@feature(title=r"has $\mu^+\mu^-$")
def has_mumu(events: Any) -> Floats:
    """1 if there is a muon of either charge above 10 GeV and |eta| < 2.4, else 0."""
    return muon_pair(events).exists.astype(np.float64)


@feature(unit="GeV", title=r"$m_{\mu\mu}$")
def m_mumu(events: Any) -> Floats:
    """Mass of the pair: usually the protected variable."""
    return muon_pair(events).mass()


@feature(unit="GeV", title=r"$p_T^{\mu\mu}$")
def pt_mumu(events: Any) -> Floats:
    """Transverse momentum of the pair."""
    total = muon_pair(events).total_p4()
    return np.hypot(total[:, 0], total[:, 1])


@feature(title=r"$p_T^{\mu\mu}/m_{\mu\mu}$")
def pt_mumu_over_m(events: Any) -> Floats:
    """Transverse momentum of the pair over its mass."""
    return _divide_by_mass(events, pt_mumu(events))


@feature(title=r"$|y_{\mu\mu}|$")
def y_mumu(events: Any) -> Floats:
    """|Rapidity| of the pair."""
    total = muon_pair(events).total_p4()
    energy = np.where(total[:, 3] > 0, total[:, 3], 1.0)
    return np.arctanh(np.abs(total[:, 2]) / energy)


@feature(title=r"$|\cos\theta^*|$")
def cos_theta_star(events: Any) -> Floats:
    r"""|cos| of the angle of the muons in the Collins-Soper frame: flat for H, 1 + cos^2 for gamma*.

    J. C. Collins, D. E. Soper, Phys. Rev. D 16 (1977) 2219: in the rest frame of the pair the axis bisects
    the angle between one beam and the reverse of the other, so that for massless muons
    cos theta* = 2 (p1z E2 - p2z E1) / (m sqrt(m^2 + pT^2)).
    """
    muons = muon_pair(events)
    one, other = muons.first.p4(), muons.second.p4()
    mass = muons.mass()
    scale = mass * np.hypot(mass, pt_mumu(events))
    found = 2 * np.abs(one[:, 2] * other[:, 3] - other[:, 2] * one[:, 3])
    # The muon's mass and rounding leave 1 + 1e-6 beside the beam.
    ratio = np.divide(found, scale, out=np.zeros_like(found), where=scale > 0)
    return np.asarray(np.minimum(ratio, 1.0))


@feature(title=r"$|\Delta\eta_{\mu\mu}|$")
def deta_mumu(events: Any) -> Floats:
    """|Delta eta| of the muons."""
    return muon_pair(events).deta()


@feature(title=r"$|\Delta\phi_{\mu\mu}|$")
def dphi_mumu(events: Any) -> Floats:
    """|Delta phi| of the muons."""
    return muon_pair(events).dphi()


@feature(title=r"$\Delta R_{\mu\mu}$")
def dr_mumu(events: Any) -> Floats:
    """Delta R of the muons."""
    muons = muon_pair(events)
    return np.hypot(muons.deta(), muons.dphi())


@feature(unit="GeV", title=r"$p_T^{\mu_1}$")
def pt_mu1(events: Any) -> Floats:
    """Transverse momentum of the harder muon: with that of the other and the angles it gives the mass."""
    return np.maximum(*_muon_pts(events))


@feature(unit="GeV", title=r"$p_T^{\mu_2}$")
def pt_mu2(events: Any) -> Floats:
    """Transverse momentum of the softer muon."""
    return np.minimum(*_muon_pts(events))


@feature(title=r"$p_T^{\mu_1}/m_{\mu\mu}$")
def pt_mu1_over_m(events: Any) -> Floats:
    """Transverse momentum of the harder muon over the mass of the pair."""
    return _divide_by_mass(events, pt_mu1(events))


@feature(title=r"$p_T^{\mu_2}/m_{\mu\mu}$")
def pt_mu2_over_m(events: Any) -> Floats:
    """Transverse momentum of the softer muon over the mass of the pair."""
    return _divide_by_mass(events, pt_mu2(events))


@feature(title=r"isolation of the worse $\mu$")
def iso_mumu(events: Any) -> Floats:
    """The larger pfRelIso04_all of the two muons, as stored."""
    return np.maximum(*_read_muon_branch(events, "pfRelIso04_all"))


@feature(title=r"both $\mu$ of medium quality")
def medium_mumu(events: Any) -> Floats:
    """1 if both muons have mediumId, else 0."""
    return np.minimum(*_read_muon_branch(events, "mediumId"))


@cached
def muon_pair(events: Any) -> ObjectPair:
    """The negative and the positive muon."""
    muons, rows = _select_muons(events)
    return make_pair(muons, *rows)


def _select_muons(events: Any) -> tuple[FourVectors, tuple[Any, Any]]:
    muons = read_four_vectors(events, "Muon")
    _, (charge,) = read_columns(events, "Muon", "charge")
    good = (muons.pt > MUON_PT_MIN) & (np.abs(muons.eta) < MUON_ETA_MAX)
    negative, positive = (
        muons.leading_rows(good & (charge * sign > 0), num_events=len(events)) for sign in (-1, 1)
    )
    return muons, (negative, positive)


def _read_muon_branch(events: Any, field: str) -> tuple[Floats, Floats]:
    """A branch of the negative and of the positive muon; 0 where there is no pair."""
    _, (negative, positive) = _select_muons(events)
    _, (values,) = read_columns(events, "Muon", field)
    there = (negative >= 0) & (positive >= 0)
    padded = np.append(values, 0.0)
    first, second = (padded[np.where(there, rows, len(values))] for rows in (negative, positive))
    return first, second


def _muon_pts(events: Any) -> tuple[Floats, Floats]:
    muons = muon_pair(events)
    return muons.first.pt, muons.second.pt


def _divide_by_mass(events: Any, values: Floats) -> Floats:
    mass = m_mumu(events)
    return np.divide(values, mass, out=np.zeros_like(values), where=mass > 0)


JET_PT_MIN, JET_ETA_MAX, MUON_JET_DR_MIN = 25.0, 4.7, 0.4


@feature(title="jets")
def n_jets(events: Any) -> Floats:
    """How many jets there are."""
    return np.bincount(_recoil_jets(events).event, minlength=len(events)).astype(np.float64)


@feature(unit="GeV", title=r"$p_T$ of the leading jet")
def pt_jet1(events: Any) -> Floats:
    """Transverse momentum of the hardest jet; 0 if there is none."""
    return _leading_jet(events).first.pt


@feature(title=r"$|\eta|$ of the leading jet")
def eta_jet1(events: Any) -> Floats:
    """|eta| of the hardest jet; 0 if there is none."""
    return np.abs(_leading_jet(events).first.eta)


@feature(unit="GeV", title=r"$m_{jj}$")
def m_jj(events: Any) -> Floats:
    """Mass of the two hardest jets, large in weak boson fusion; 0 if there are fewer."""
    return _leading_jet_pair(events).mass()


@feature(title=r"$|\Delta\eta_{jj}|$")
def deta_jj(events: Any) -> Floats:
    """|Delta eta| of the two hardest jets, large in weak boson fusion; 0 if there are fewer."""
    return _leading_jet_pair(events).deta()


@cached
def _recoil_jets(events: Any) -> FourVectors:
    jets, muons = read_four_vectors(events, "Jet"), muon_pair(events)
    keep = (jets.pt > JET_PT_MIN) & (np.abs(jets.eta) < JET_ETA_MAX)
    for muon in (muons.first, muons.second):
        away = np.hypot(jets.eta - muon.eta[jets.event], wrap_phi(jets.phi - muon.phi[jets.event]))
        keep &= (away > MUON_JET_DR_MIN) | ~muons.exists[jets.event]
    return jets.take(keep)


def _leading_jet(events: Any) -> ObjectPair:
    jets = _recoil_jets(events)
    first = jets.leading_rows(np.ones(len(jets.pt), dtype=bool), num_events=len(events))
    return make_pair(jets, first, first)


@cached
def _leading_jet_pair(events: Any) -> ObjectPair:
    jets = _recoil_jets(events)
    left = np.ones(len(jets.pt), dtype=bool)
    first = jets.leading_rows(left, num_events=len(events))
    left[first[first >= 0]] = False
    return make_pair(jets, first, jets.leading_rows(left, num_events=len(events)))
