"""The candidate B -> K*(K pi) gamma: what the ntuple stores of it and what its daughters tell.

Stored ones read one branch each.  Everything else is computed in the CM frame from K, pi and photon.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hepdecorr.columnar.features import particles
from hepdecorr.columnar.features.branches import Floats, Ints, columns, index, per_event
from hepdecorr.columnar.features.particles import kaon, magnitude, photon, pion
from hepdecorr.columnar.features.sharing import feature, intermediate


@feature(unit="GeV", title=r"$M_{bc}$")
def m_bc(events: Any) -> Floats:
    """Beam-constrained mass sqrt(E*_beam^2 - p*_B^2) as stored: usually the protected variable."""
    return per_event(events, "Bcand.mbc")


@feature(unit="GeV", title=r"$M_{bc}^\mathrm{corr}$")
def m_bc_corr(events: Any) -> Floats:
    """M_bc with the photon's energy replaced by E*_beam - E*_K*, as stored."""
    return per_event(events, "Bcand.mbcCorr")


@feature(unit="GeV", title=r"$M_{bc}$ (recomputed)")
def m_bc_recomputed(events: Any) -> Floats:
    """M_bc from K, pi, photon and Beam_EStar: a check of the stored one; 0 if p*_B exceeds E*_beam."""
    squared = per_event(events, "Beam.EStar") ** 2 - magnitude(particles.candidate(events)) ** 2
    return np.sqrt(np.maximum(squared, 0.0))


@feature(unit="GeV", title=r"$\Delta E$")
def delta_e(events: Any) -> Floats:
    """E*_B - E*_beam as stored."""
    return per_event(events, "Bcand.deltaE")


@feature(unit="GeV", title=r"$\Delta E$ (recomputed)")
def delta_e_recomputed(events: Any) -> Floats:
    """E*_B - E*_beam from K, pi, photon and Beam_EStar: a check of the stored one."""
    return np.asarray(particles.candidate(events)[:, 3] - per_event(events, "Beam.EStar"))


@feature(unit="GeV", title=r"$p^*_B$")
def p_star_b(events: Any) -> Floats:
    """CM momentum of the candidate as stored; it fixes M_bc."""
    return per_event(events, "Bcand.pStar")


@feature(unit="GeV", title=r"$E^*_\gamma$")
def e_star_gamma(events: Any) -> Floats:
    """CM energy of the photon as stored."""
    return per_event(events, "Bcand.EgStar")


@feature(unit="GeV", title=r"$m_{K\pi}$")
def m_kpi(events: Any) -> Floats:
    """Mass of the K pi pair as stored."""
    return per_event(events, "Bcand.mKst")


@feature(unit="GeV", title=r"$m_{\gamma\gamma}$ near $\pi^0$")
def m_pi0(events: Any) -> Floats:
    """pi0 veto: mass of the photon with the other photon that brings it nearest to the pi0; -1 if none."""
    return per_event(events, "Bcand.mPi0")


@feature(unit="GeV", title=r"$m_{\gamma\gamma}$ near $\eta$")
def m_eta(events: Any) -> Floats:
    """Eta veto: mass of the photon with the other photon that brings it nearest to the eta; -1 if none."""
    return per_event(events, "Bcand.mEta")


@feature(title="candidates in the event")
def n_candidates(events: Any) -> Floats:
    """How many candidates the event had before one was chosen, as stored."""
    return per_event(events, "Bcand.mult")


@feature(unit="GeV", title=r"$p^*_{K^*}$")
def p_star_kst(events: Any) -> Floats:
    """CM momentum of the K pi pair."""
    return magnitude(_kst(events))


@feature(title=r"$\cos\theta_{K^*\gamma}$")
def cos_kst_gamma(events: Any) -> Floats:
    """Cosine of the CM angle between the K pi pair and the photon; 0 if one is at rest."""
    pair, gamma = _kst(events), photon(events)
    return _cosine((pair * gamma)[:, :3].sum(axis=1), magnitude(pair) * magnitude(gamma))


@feature(title=r"$|\cos\theta^*_B|$")
def cos_theta_b(events: Any) -> Floats:
    """|cos| of the CM angle between candidate and z; 0 if it is at rest.

    sin^2 for Upsilon(4S) -> B B, flat for the continuum.
    """
    momentum = particles.candidate(events)
    return _cosine(np.abs(momentum[:, 2]), magnitude(momentum))


@feature(title=r"$\cos\theta_\mathrm{hel}$")
def cos_hel(events: Any) -> Floats:
    """Cosine of the helicity angle: in the K* rest frame, between the kaon and the reverse of the B.

    sin^2 for B -> K* gamma, as the photon's helicity is +-1.  The B flies with the photon there, so with the
    invariants E = (P.k)/M it is -(E_K E_g - k.g) / (p_K E_g).  0 if the kaon is at rest in that frame.
    """
    pair, k, gamma = _kst(events), kaon(events), photon(events)
    mass = np.sqrt(np.maximum(_product(pair, pair), 0.0))
    e_k, e_g = _ratio(_product(pair, k), mass), _ratio(_product(pair, gamma), mass)
    p_k = np.sqrt(np.maximum(e_k**2 - particles.KAON_MASS**2, 0.0))
    return _cosine(_product(k, gamma) - e_k * e_g, p_k * e_g)


@feature(title="kaon identified as kaon")
def kaon_id(events: Any) -> Floats:
    """1 if the detector took the candidate's kaon for a kaon (|Track_pdgId| = 321), else 0."""
    return _identified(events, index(events, "Bcand.kIdx", "Track"), 321)


@feature(title="pion identified as pion")
def pion_id(events: Any) -> Floats:
    """1 if the detector took the candidate's pion for a pion (|Track_pdgId| = 211), else 0."""
    return _identified(events, index(events, "Bcand.piIdx", "Track"), 211)


@intermediate
def _kst(events: Any) -> Floats:
    return kaon(events) + pion(events)


def _identified(events: Any, place: Ints, code: int) -> Floats:
    start, (pdg,) = columns(events, "Track", "pdgId")
    return np.asarray(np.abs(pdg[start[:-1] + place]) == code, dtype=np.float64)


def _product(a: Floats, b: Floats) -> Floats:
    return np.asarray(a[:, 3] * b[:, 3] - (a * b)[:, :3].sum(axis=1))


def _ratio(above: Floats, below: Floats) -> Floats:
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0.0)


def _cosine(above: Floats, below: Floats) -> Floats:
    return np.clip(_ratio(above, below), -1.0, 1.0)
