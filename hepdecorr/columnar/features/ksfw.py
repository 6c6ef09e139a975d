r"""Belle's improved Super-Fox-Wolfram (KSFW) moments.

S. H. Lee et al. (Belle), Phys. Rev. Lett. 91 (2003) 261801, and The Physics of the B Factories, Eur. Phys. J.
C 74 (2014) 3026, chapter 9; conventions and normalisation as in Belle's and Belle II's software with the
candidate's final-state particles.  In the CM frame, with i the K, pi and photon of the candidate, j and k the
rest of the event, Q the charges, and the missing momentum p_m = -(sum of all momenta):

    H^so_{c,l} = sum_i sum_{j charged} |p_j| P_l(cos theta_ij) [Q_i Q_j for odd l]           / H_max
    H^so_{n,l} = sum_i sum_{j neutral} |p_j| P_l(cos theta_ij),        even l only           / H_max
    H^so_{m,l} = sum_i |p_m| P_l(cos theta_im),                        even l only           / H_max
    R^oo_l     = sum_{j<k} |p_j| |p_k| P_l(cos theta_jk) [Q_j Q_k for odd l]                 / H_max^2
    H_max      = 2 (E*_beam - Delta E) = 2 (sqrt s - E*_B),      Delta E from K, pi and photon

where the missing momentum counts among j and k as one more neutral particle, and every pair counts once.  The
odd neutral and missing moments are zero by construction and not offered.  The Fisher coefficients of the
paper are not applied: weighting is what the tagger learns.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from hepdecorr.columnar.features.branches import Floats, Ints, per_event
from hepdecorr.columnar.features.fox_wolfram import legendre
from hepdecorr.columnar.features.particles import DAUGHTERS, candidate, charges, magnitude, missing, particles
from hepdecorr.columnar.features.sharing import Feature, family, feature, intermediate
from hepdecorr.compiled import compiled

CHARGED, NEUTRAL, MISSING, OTHERS = range(4)
_KINDS = {CHARGED: "charged particles", NEUTRAL: "photons", MISSING: "missing momentum"}


def _signal_other(kind: int, order: int) -> Feature:
    def moment(events: Any) -> Floats:
        return moments(events)[:, kind, order]

    letter = "cnm"[kind]
    return family(
        moment,
        name=f"ksfw_hso_{letter}{order}",
        title=rf"$H^\mathrm{{so}}_{{{letter}{order}}}$",
        doc=f"KSFW moment of order {order} between candidate and the rest's {_KINDS[kind]}; 0 without any.",
    )


def _other_other(order: int) -> Feature:
    def moment(events: Any) -> Floats:
        return moments(events)[:, OTHERS, order]

    return family(
        moment,
        name=f"ksfw_hoo_{order}",
        title=rf"$R^\mathrm{{oo}}_{{{order}}}$",
        doc=f"KSFW moment of order {order} within the rest of the event; 0 if it is empty.",
    )


ksfw_hso_c0, ksfw_hso_c1, ksfw_hso_c2, ksfw_hso_c3, ksfw_hso_c4 = (
    _signal_other(CHARGED, i) for i in range(5)
)
ksfw_hso_n0, ksfw_hso_n2, ksfw_hso_n4 = (_signal_other(NEUTRAL, i) for i in (0, 2, 4))
ksfw_hso_m0, ksfw_hso_m2, ksfw_hso_m4 = (_signal_other(MISSING, i) for i in (0, 2, 4))
ksfw_hoo_0, ksfw_hoo_1, ksfw_hoo_2, ksfw_hoo_3, ksfw_hoo_4 = (_other_other(i) for i in range(5))


@feature(unit="GeV", title=r"$E_T$")
def ksfw_et(events: Any) -> Floats:
    """Sum of the transverse momenta of all particles in the CM frame."""
    everything = particles(events)
    out = np.zeros(len(events))
    _transverse(everything.x, everything.y, everything.start, out)
    return out


@feature(unit="GeV^2", title=r"$M^2_\mathrm{miss}$")
def ksfw_mm2(events: Any) -> Floats:
    """Missing mass squared E_m^2 - p_m^2, with E_m = sqrt s - sum of energies.

    Belle's convention for E_m < 0 (more seen than there was): -E_m^2 - p_m^2, so that it stays monotonous.
    """
    unseen = missing(events)
    energy = unseen[:, 3]
    return energy * np.abs(energy) - magnitude(unseen) ** 2


@intermediate
def moments(events: Any) -> Floats:
    """H^so charged, neutral, missing and R^oo (second axis) of orders 0 to 4: shape (events, 4, 5).

    0 where H_max <= 0, that is for a candidate with more than the whole energy.
    """
    everything = particles(events)
    largest = 2.0 * (per_event(events, "Beam.sqrtS") - candidate(events)[:, 3])
    out = np.zeros((len(events), 4, 5))
    most = int(np.diff(everything.start).max(initial=0))
    # one more place for the missing momentum
    work = np.empty((5, most + 1))
    _moments(*everything[:3], everything.p, everything.start, charges(events), largest, work, out)
    return out


@compiled
def _moments(
    x: Floats,
    y: Floats,
    z: Floats,
    p: Floats,
    start: Ints,
    charge: Floats,
    largest: Floats,
    work: Floats,
    out: Floats,
) -> None:
    for i in range(len(out)):
        if largest[i] <= 0.0:
            continue
        n = start[i + 1] - start[i]
        mx, my, mz = 0.0, 0.0, 0.0
        for j in range(n):
            k = start[i] + j
            scale = 1.0 / p[k] if p[k] > 0.0 else 0.0
            _put(work, j, x[k] * scale, y[k] * scale, z[k] * scale, p[k] / largest[i], charge[k])
            mx, my, mz = mx - x[k], my - y[k], mz - z[k]
        m = math.sqrt(mx * mx + my * my + mz * mz)
        scale = 1.0 / m if m > 0.0 else 0.0
        _put(work, n, mx * scale, my * scale, mz * scale, m / largest[i], 0.0)
        for j in range(DAUGHTERS):
            _add(work, j, DAUGHTERS, n, out[i, CHARGED], out[i, NEUTRAL], 1.0)
            _add(work, j, n, n + 1, out[i, MISSING], out[i, MISSING], 1.0)
        for j in range(DAUGHTERS + 1, n + 1):
            _add(work, j, DAUGHTERS, j, out[i, OTHERS], out[i, OTHERS], work[3, j])


@compiled
def _put(work: Floats, j: int, x: float, y: float, z: float, p: float, charge: float) -> None:
    work[0, j], work[1, j], work[2, j], work[3, j], work[4, j] = x, y, z, p, charge


@compiled
def _add(
    work: Floats, j: int, first: int, last: int, charged: Floats, neutral: Floats, weight: float
) -> None:
    """Add the moments of particle j with those from `first` to `last`, apart for charged and neutral ones."""
    c0, c2, c4, n0, n2, n4, q1, q3 = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for k in range(first, last):
        c = work[0, j] * work[0, k] + work[1, j] * work[1, k] + work[2, j] * work[2, k]
        w = work[3, k]
        wc = w if work[4, k] != 0.0 else 0.0
        wn = w - wc
        wq = w * work[4, k]
        c0, c2, c4 = c0 + wc, c2 + wc * c * c, c4 + wc * c * c * c * c
        n0, n2, n4 = n0 + wn, n2 + wn * c * c, n4 + wn * c * c * c * c
        q1, q3 = q1 + wq * c, q3 + wq * c * c * c
    q = work[4, j]
    of_charged = legendre(c0, q * q1, c2, q * q3, c4)
    of_neutral = legendre(n0, 0.0, n2, 0.0, n4)
    for l in range(5):  # noqa: E741
        charged[l] += weight * of_charged[l]
        neutral[l] += weight * of_neutral[l]


@compiled
def _transverse(x: Floats, y: Floats, start: Ints, out: Floats) -> None:
    for i in range(len(out)):
        for k in range(start[i], start[i + 1]):
            out[i] += math.sqrt(x[k] * x[k] + y[k] * y[k])
