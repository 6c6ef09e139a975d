"""The pair of muons in events of NanoAOD: the hardest of either charge, above 10 GeV and |eta| < 2.4.

Events without such a pair give 0 everywhere: cut on `has_mumu`, or on a window of `m_mumu`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hepdecorr.columnar.features.branches import Floats, columns
from hepdecorr.columnar.features.momenta import Objects, Pair, objects, pair
from hepdecorr.columnar.features.sharing import feature, intermediate

PT_MIN, ETA_MAX = 10.0, 2.4


@feature(title=r"has $\mu^+\mu^-$")
def has_mumu(events: Any) -> Floats:
    """1 if there is a muon of either charge above 10 GeV and |eta| < 2.4, else 0."""
    return pair_of_muons(events).there.astype(np.float64)


@feature(unit="GeV", title=r"$m_{\mu\mu}$")
def m_mumu(events: Any) -> Floats:
    """Mass of the pair: usually the protected variable."""
    return pair_of_muons(events).mass()


@feature(unit="GeV", title=r"$p_T^{\mu\mu}$")
def pt_mumu(events: Any) -> Floats:
    """Transverse momentum of the pair."""
    total = pair_of_muons(events).total()
    return np.hypot(total[:, 0], total[:, 1])


@feature(title=r"$p_T^{\mu\mu}/m_{\mu\mu}$")
def pt_mumu_over_m(events: Any) -> Floats:
    """Transverse momentum of the pair over its mass."""
    return _over_mass(events, pt_mumu(events))


@feature(title=r"$|y_{\mu\mu}|$")
def y_mumu(events: Any) -> Floats:
    """|Rapidity| of the pair."""
    total = pair_of_muons(events).total()
    energy = np.where(total[:, 3] > 0, total[:, 3], 1.0)
    return np.arctanh(np.abs(total[:, 2]) / energy)


@feature(title=r"$|\cos\theta^*|$")
def cos_theta_star(events: Any) -> Floats:
    r"""|cos| of the angle of the muons in the Collins-Soper frame: flat for H, 1 + cos^2 for gamma*.

    J. C. Collins, D. E. Soper, Phys. Rev. D 16 (1977) 2219: in the rest frame of the pair the axis bisects
    the angle between one beam and the reverse of the other, so that for massless muons
    cos theta* = 2 (p1z E2 - p2z E1) / (m sqrt(m^2 + pT^2)).
    """
    muons = pair_of_muons(events)
    one, other = muons.one.p4(), muons.other.p4()
    mass = muons.mass()
    scale = mass * np.hypot(mass, pt_mumu(events))
    found = 2 * np.abs(one[:, 2] * other[:, 3] - other[:, 2] * one[:, 3])
    # The muon's mass and rounding leave 1 + 1e-6 beside the beam.
    ratio = np.divide(found, scale, out=np.zeros_like(found), where=scale > 0)
    return np.asarray(np.minimum(ratio, 1.0))


@feature(title=r"$|\Delta\eta_{\mu\mu}|$")
def deta_mumu(events: Any) -> Floats:
    """|Delta eta| of the muons."""
    return pair_of_muons(events).deta()


@feature(title=r"$|\Delta\phi_{\mu\mu}|$")
def dphi_mumu(events: Any) -> Floats:
    """|Delta phi| of the muons."""
    return pair_of_muons(events).dphi()


@feature(title=r"$\Delta R_{\mu\mu}$")
def dr_mumu(events: Any) -> Floats:
    """Delta R of the muons."""
    muons = pair_of_muons(events)
    return np.hypot(muons.deta(), muons.dphi())


@feature(unit="GeV", title=r"$p_T^{\mu_1}$")
def pt_mu1(events: Any) -> Floats:
    """Transverse momentum of the harder muon: with that of the other and the angles it gives the mass."""
    return np.maximum(*_pts(events))


@feature(unit="GeV", title=r"$p_T^{\mu_2}$")
def pt_mu2(events: Any) -> Floats:
    """Transverse momentum of the softer muon."""
    return np.minimum(*_pts(events))


@feature(title=r"$p_T^{\mu_1}/m_{\mu\mu}$")
def pt_mu1_over_m(events: Any) -> Floats:
    """Transverse momentum of the harder muon over the mass of the pair."""
    return _over_mass(events, pt_mu1(events))


@feature(title=r"$p_T^{\mu_2}/m_{\mu\mu}$")
def pt_mu2_over_m(events: Any) -> Floats:
    """Transverse momentum of the softer muon over the mass of the pair."""
    return _over_mass(events, pt_mu2(events))


@feature(title=r"isolation of the worse $\mu$")
def iso_mumu(events: Any) -> Floats:
    """The larger pfRelIso04_all of the two muons, as stored."""
    return np.maximum(*_of_both(events, "pfRelIso04_all"))


@feature(title=r"both $\mu$ of medium quality")
def medium_mumu(events: Any) -> Floats:
    """1 if both muons have mediumId, else 0."""
    return np.minimum(*_of_both(events, "mediumId"))


@intermediate
def pair_of_muons(events: Any) -> Pair:
    """The negative and the positive muon."""
    muons, rows = _rows(events)
    return pair(muons, *rows)


def _rows(events: Any) -> tuple[Objects, tuple[Any, Any]]:
    muons = objects(events, "Muon")
    _, (charge,) = columns(events, "Muon", "charge")
    good = (muons.pt > PT_MIN) & (np.abs(muons.eta) < ETA_MAX)
    negative, positive = (muons.first(good & (charge * sign > 0), events=len(events)) for sign in (-1, 1))
    return muons, (negative, positive)


def _of_both(events: Any, field: str) -> tuple[Floats, Floats]:
    """A branch of the negative and of the positive muon; 0 where there is no pair."""
    _, (negative, positive) = _rows(events)
    _, (values,) = columns(events, "Muon", field)
    there = (negative >= 0) & (positive >= 0)
    padded = np.append(values, 0.0)
    first, second = (padded[np.where(there, rows, len(values))] for rows in (negative, positive))
    return first, second


def _pts(events: Any) -> tuple[Floats, Floats]:
    muons = pair_of_muons(events)
    return muons.one.pt, muons.other.pt


def _over_mass(events: Any, values: Floats) -> Floats:
    mass = m_mumu(events)
    return np.divide(values, mass, out=np.zeros_like(values), where=mass > 0)
