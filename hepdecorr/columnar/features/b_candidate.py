"""Four-vectors in the e+e- centre-of-mass frame: the candidate's K, pi and photon, and everything else.

The boost to that frame is the vector Beam_boost{X,Y,Z} (in units of c, lab frame), one per event, so no
accelerator is built in.  The boost is a pure one: the z axis is that of the lab, also for beams that cross
at an angle.  Tracks take the mass in Track_mass, photons none; the candidate's two tracks take the kaon and
pion masses of their hypotheses, everywhere, so that the candidate is the same in every feature.

The candidate B -> K*(K pi) gamma: what the ntuple stores of it and what its daughters tell.

Stored ones read one branch each.  Everything else is computed in the CM frame from K, pi and photon.

The rest of the event (ROE): all but K, pi and photon of the candidate; and what no detector saw.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from hepdecorr._numba import cached_njit
from hepdecorr.columnar.features.branches import (
    Floats,
    Ints,
    count_objects,
    read_columns,
    read_index,
    read_scalars,
)
from hepdecorr.columnar.features.registry import cached, feature
from hepdecorr.errors import InputError

# PDG 2024 [GeV]
KAON_MASS = 0.493677
PION_MASS = 0.13957039

# The candidate's daughters come first in every event: K, pi, photon.
NUM_DAUGHTERS = 3


class CMParticles(NamedTuple):
    """All particles of all events, flat: event i holds start[i] to start[i + 1].

    Per event: K, pi and photon of the candidate, the other tracks, the other photons.  x, y, z, e are the
    CM four-momentum and p its magnitude [GeV]; `track` is the place in the flat track branches, -1 for
    photons.
    """

    x: Floats
    y: Floats
    z: Floats
    e: Floats
    p: Floats
    start: Ints
    track: Ints


@cached
def cm_velocity(events: Any) -> Floats:
    """The velocity of the CM frame in the lab, shape (events, 3)."""
    vector = np.stack([read_scalars(events, f"Beam.boost{axis}") for axis in "XYZ"], axis=1)
    fast = ~((vector**2).sum(axis=1) < 1.0)
    if fast.any():
        raise InputError(
            f"branches 'Beam.boostX', 'Beam.boostY', 'Beam.boostZ': not below the speed of light in row "
            f"{int(np.flatnonzero(fast)[0])}; they are velocities in units of c"
        )
    return vector


@cached
def kaon_momentum(events: Any) -> Floats:
    """CM four-momentum of the candidate's kaon, shape (events, 4): x, y, z, e [GeV]."""
    return _daughter_momentum(events, "Track", index_branch="Bcand.kIdx", mass=KAON_MASS)


@cached
def pion_momentum(events: Any) -> Floats:
    """CM four-momentum of the candidate's pion, shape (events, 4): x, y, z, e [GeV]."""
    return _daughter_momentum(events, "Track", index_branch="Bcand.piIdx", mass=PION_MASS)


@cached
def photon_momentum(events: Any) -> Floats:
    """CM four-momentum of the candidate's photon, shape (events, 4): x, y, z, e [GeV]."""
    return _daughter_momentum(events, "Photon", index_branch="Bcand.gIdx", mass=0.0)


@cached
def candidate_momentum(events: Any) -> Floats:
    """CM four-momentum of the candidate, shape (events, 4): x, y, z, e [GeV]."""
    return np.asarray(kaon_momentum(events) + pion_momentum(events) + photon_momentum(events))


@cached
def candidate_tracks(events: Any) -> tuple[Ints, Ints]:
    """The places of the candidate's kaon and pion among the event's tracks.

    Raises InputError if a place is outside of the tracks or both are the same.
    """
    k, pi = read_index(events, "Bcand.kIdx", "Track"), read_index(events, "Bcand.piIdx", "Track")
    same = np.flatnonzero(k == pi)
    if same.size:
        raise InputError(
            f"branches 'Bcand.kIdx' and 'Bcand.piIdx' name one track in row {int(same[0])}; "
            f"drop such candidates"
        )
    return k, pi


@cached
def cm_particles(events: Any) -> CMParticles:
    """Every reconstructed particle in the CM frame."""
    track_start, (pt, eta, phi, mass) = read_columns(events, "Track", "pt", "eta", "phi", "mass")
    photon_start, (g_pt, g_eta, g_phi) = read_columns(events, "Photon", "pt", "eta", "phi")
    k, pi = candidate_tracks(events)
    g = read_index(events, "Bcand.gIdx", "Photon")
    start = track_start + photon_start
    block = np.empty((5, int(start[-1])))
    source = np.empty(int(start[-1]), dtype=np.int64)
    _fill_particles(
        track_start,
        pt,
        eta,
        phi,
        mass,
        photon_start,
        g_pt,
        g_eta,
        g_phi,
        k,
        pi,
        g,
        cm_velocity(events),
        block,
        source,
    )
    x, y, z, e, p = block
    return CMParticles(x, y, z, e, p, start, source)


@cached
def rest_momentum(events: Any) -> Floats:
    """Summed CM four-momentum of the rest of the event, shape (events, 4): x, y, z, e [GeV]."""
    everything = cm_particles(events)
    out = np.zeros((len(events), 4))
    _fill_rest_sums(everything.x, everything.y, everything.z, everything.e, everything.start, out)
    return out


@cached
def missing_four_momentum(events: Any) -> Floats:
    """(0, 0, 0, sqrt s) less all that was seen: CM four-momentum, shape (events, 4) [GeV]."""
    unseen = -(candidate_momentum(events) + rest_momentum(events))
    unseen[:, 3] += read_scalars(events, "Beam.sqrtS")
    return unseen


@cached
def particle_charges(events: Any) -> Floats:
    """The charge of each of `particles(events)`, in their order."""
    (charge,) = read_columns(events, "Track", "charge")[1]
    # Photons have the place -1: the appended zero.
    return np.asarray(np.append(charge, 0.0)[cm_particles(events).track])


def momentum_magnitude(vector: Floats) -> Floats:
    """|p| of four-vectors of shape (events, 4)."""
    return np.asarray(np.sqrt((vector[:, :3] ** 2).sum(axis=1)))


def _daughter_momentum(events: Any, collection: str, *, index_branch: str, mass: float) -> Floats:
    start, (pt, eta, phi) = read_columns(events, collection, "pt", "eta", "phi")
    out = np.empty((len(events), 4))
    _fill_daughters(
        start[:-1] + read_index(events, index_branch, collection),
        pt,
        eta,
        phi,
        mass,
        cm_velocity(events),
        out,
    )
    return out


@cached_njit
def _boost_to_cm(
    pt: float, eta: float, phi: float, mass: float, boost: Floats
) -> tuple[float, float, float, float]:
    x, y, z = pt * math.cos(phi), pt * math.sin(phi), pt * math.sinh(eta)
    e = math.sqrt(x * x + y * y + z * z + mass * mass)
    gamma = 1.0 / math.sqrt(1.0 - (boost[0] * boost[0] + boost[1] * boost[1] + boost[2] * boost[2]))
    along = boost[0] * x + boost[1] * y + boost[2] * z
    # (gamma - 1) / beta^2 written so that it holds at rest
    shift = gamma * gamma / (gamma + 1.0) * along - gamma * e
    return x + shift * boost[0], y + shift * boost[1], z + shift * boost[2], gamma * (e - along)


@cached_njit
def _fill_daughters(
    indices: Ints, pt: Floats, eta: Floats, phi: Floats, mass: float, boost: Floats, out: Floats
) -> None:
    for i in range(len(indices)):
        k = indices[i]
        x, y, z, e = _boost_to_cm(pt[k], eta[k], phi[k], mass, boost[i])
        out[i, 0], out[i, 1], out[i, 2], out[i, 3] = x, y, z, e


@cached_njit
def _fill_particles(
    track_start: Ints,
    t_pt: Floats,
    t_eta: Floats,
    t_phi: Floats,
    t_mass: Floats,
    photon_start: Ints,
    g_pt: Floats,
    g_eta: Floats,
    g_phi: Floats,
    kaons: Ints,
    pions: Ints,
    photons: Ints,
    boost: Floats,
    out: Floats,
    source: Ints,
) -> None:
    for i in range(len(boost)):
        start = track_start[i] + photon_start[i]
        other = start + NUM_DAUGHTERS
        for k in range(track_start[i], track_start[i + 1]):
            mass, to = t_mass[k], other
            if k - track_start[i] == kaons[i]:
                mass, to = KAON_MASS, start
            elif k - track_start[i] == pions[i]:
                mass, to = PION_MASS, start + 1
            else:
                other += 1
            x, y, z, e = _boost_to_cm(t_pt[k], t_eta[k], t_phi[k], mass, boost[i])
            out[0, to], out[1, to], out[2, to], out[3, to] = x, y, z, e
            out[4, to] = math.sqrt(x * x + y * y + z * z)
            source[to] = k
        for k in range(photon_start[i], photon_start[i + 1]):
            to = start + 2 if k - photon_start[i] == photons[i] else other
            if to == other:
                other += 1
            x, y, z, e = _boost_to_cm(g_pt[k], g_eta[k], g_phi[k], 0.0, boost[i])
            out[0, to], out[1, to], out[2, to], out[3, to] = x, y, z, e
            out[4, to] = math.sqrt(x * x + y * y + z * z)
            source[to] = -1


@cached_njit
def _fill_rest_sums(x: Floats, y: Floats, z: Floats, e: Floats, start: Ints, out: Floats) -> None:
    for i in range(len(out)):
        for k in range(start[i] + NUM_DAUGHTERS, start[i + 1]):
            out[i, 0] += x[k]
            out[i, 1] += y[k]
            out[i, 2] += z[k]
            out[i, 3] += e[k]


@feature(unit="GeV", title=r"$M_{bc}$")
def m_bc(events: Any) -> Floats:
    """Beam-constrained mass sqrt(E*_beam^2 - p*_B^2) as stored: usually the protected variable."""
    return read_scalars(events, "Bcand.mbc")


@feature(unit="GeV", title=r"$M_{bc}^\mathrm{corr}$")
def m_bc_corr(events: Any) -> Floats:
    """M_bc with the photon's energy replaced by E*_beam - E*_K*, as stored."""
    return read_scalars(events, "Bcand.mbcCorr")


@feature(unit="GeV", title=r"$M_{bc}$ (recomputed)")
def m_bc_recomputed(events: Any) -> Floats:
    """M_bc from K, pi, photon and Beam_EStar: a check of the stored one; 0 if p*_B exceeds E*_beam."""
    squared = read_scalars(events, "Beam.EStar") ** 2 - momentum_magnitude(candidate_momentum(events)) ** 2
    return np.sqrt(np.maximum(squared, 0.0))


@feature(unit="GeV", title=r"$\Delta E$")
def delta_e(events: Any) -> Floats:
    """E*_B - E*_beam as stored."""
    return read_scalars(events, "Bcand.deltaE")


@feature(unit="GeV", title=r"$\Delta E$ (recomputed)")
def delta_e_recomputed(events: Any) -> Floats:
    """E*_B - E*_beam from K, pi, photon and Beam_EStar: a check of the stored one."""
    return np.asarray(candidate_momentum(events)[:, 3] - read_scalars(events, "Beam.EStar"))


@feature(unit="GeV", title=r"$p^*_B$")
def p_star_b(events: Any) -> Floats:
    """CM momentum of the candidate as stored; it fixes M_bc."""
    return read_scalars(events, "Bcand.pStar")


@feature(unit="GeV", title=r"$E^*_\gamma$")
def e_star_gamma(events: Any) -> Floats:
    """CM energy of the photon as stored."""
    return read_scalars(events, "Bcand.EgStar")


@feature(unit="GeV", title=r"$m_{K\pi}$")
def m_kpi(events: Any) -> Floats:
    """Mass of the K pi pair as stored."""
    return read_scalars(events, "Bcand.mKst")


@feature(unit="GeV", title=r"$m_{\gamma\gamma}$ near $\pi^0$")
def m_pi0(events: Any) -> Floats:
    """pi0 veto: mass of the photon with the other photon that brings it nearest to the pi0; -1 if none."""
    return read_scalars(events, "Bcand.mPi0")


@feature(unit="GeV", title=r"$m_{\gamma\gamma}$ near $\eta$")
def m_eta(events: Any) -> Floats:
    """Eta veto: mass of the photon with the other photon that brings it nearest to the eta; -1 if none."""
    return read_scalars(events, "Bcand.mEta")


@feature(title="candidates in the event")
def n_candidates(events: Any) -> Floats:
    """How many candidates the event had before one was chosen, as stored."""
    return read_scalars(events, "Bcand.mult")


@feature(unit="GeV", title=r"$p^*_{K^*}$")
def p_star_kst(events: Any) -> Floats:
    """CM momentum of the K pi pair."""
    return momentum_magnitude(_kstar_momentum(events))


@feature(title=r"$\cos\theta_{K^*\gamma}$")
def cos_kst_gamma(events: Any) -> Floats:
    """Cosine of the CM angle between the K pi pair and the photon; 0 if one is at rest."""
    pair, gamma = _kstar_momentum(events), photon_momentum(events)
    return _clipped_cosine(
        (pair * gamma)[:, :3].sum(axis=1), momentum_magnitude(pair) * momentum_magnitude(gamma)
    )


@feature(title=r"$|\cos\theta^*_B|$")
def cos_theta_b(events: Any) -> Floats:
    """|cos| of the CM angle between candidate and z; 0 if it is at rest.

    sin^2 for Upsilon(4S) -> B B, flat for the continuum.
    """
    momentum = candidate_momentum(events)
    return _clipped_cosine(np.abs(momentum[:, 2]), momentum_magnitude(momentum))


@feature(title=r"$\cos\theta_\mathrm{hel}$")
def cos_hel(events: Any) -> Floats:
    """Cosine of the helicity angle: in the K* rest frame, between the kaon and the reverse of the B.

    sin^2 for B -> K* gamma, as the photon's helicity is +-1.  The B flies with the photon there, so with the
    invariants E = (P.k)/M it is -(E_K E_g - k.g) / (p_K E_g).  0 if the kaon is at rest in that frame.
    """
    pair, k, gamma = _kstar_momentum(events), kaon_momentum(events), photon_momentum(events)
    mass = np.sqrt(np.maximum(_minkowski_product(pair, pair), 0.0))
    e_k, e_g = (
        _divide_or_zero(_minkowski_product(pair, k), mass),
        _divide_or_zero(_minkowski_product(pair, gamma), mass),
    )
    p_k = np.sqrt(np.maximum(e_k**2 - KAON_MASS**2, 0.0))
    return _clipped_cosine(_minkowski_product(k, gamma) - e_k * e_g, p_k * e_g)


@feature(title="kaon identified as kaon")
def kaon_id(events: Any) -> Floats:
    """1 if the detector took the candidate's kaon for a kaon (|Track_pdgId| = 321), else 0."""
    return _has_pdg_id(events, read_index(events, "Bcand.kIdx", "Track"), 321)


@feature(title="pion identified as pion")
def pion_id(events: Any) -> Floats:
    """1 if the detector took the candidate's pion for a pion (|Track_pdgId| = 211), else 0."""
    return _has_pdg_id(events, read_index(events, "Bcand.piIdx", "Track"), 211)


@cached
def _kstar_momentum(events: Any) -> Floats:
    return kaon_momentum(events) + pion_momentum(events)


def _has_pdg_id(events: Any, track_index: Ints, pdg_id: int) -> Floats:
    start, (pdg,) = read_columns(events, "Track", "pdgId")
    return np.asarray(np.abs(pdg[start[:-1] + track_index]) == pdg_id, dtype=np.float64)


def _minkowski_product(a: Floats, b: Floats) -> Floats:
    return np.asarray(a[:, 3] * b[:, 3] - (a * b)[:, :3].sum(axis=1))


def _divide_or_zero(numerator: Floats, denominator: Floats) -> Floats:
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0.0)


def _clipped_cosine(numerator: Floats, denominator: Floats) -> Floats:
    return np.clip(_divide_or_zero(numerator, denominator), -1.0, 1.0)


@feature(title=r"$N_\mathrm{tracks}^\mathrm{ROE}$")
def n_tracks_roe(events: Any) -> Floats:
    """Tracks beside the candidate's two."""
    return _count_others(events, "Track", num_candidate=2)


@feature(title=r"$N_\gamma^\mathrm{ROE}$")
def n_photons_roe(events: Any) -> Floats:
    """Photons beside the candidate's one."""
    return _count_others(events, "Photon", num_candidate=1)


@feature(title=r"$N_K^\mathrm{ROE}$")
def n_kaons_roe(events: Any) -> Floats:
    """Identified charged kaons (|Track_pdgId| = 321) beside the candidate's two tracks."""
    return _sum_other_tracks(events, "pdgId", lambda code: np.abs(code) == 321)


@feature(title=r"$N_\ell^\mathrm{ROE}$")
def n_leptons_roe(events: Any) -> Floats:
    """Identified electrons and muons (|Track_pdgId| = 11, 13) beside the candidate's two tracks."""
    return _sum_other_tracks(events, "pdgId", lambda code: np.isin(np.abs(code), (11, 13)))


@feature(title=r"$\sum Q^\mathrm{ROE}$")
def charge_roe(events: Any) -> Floats:
    """Summed charge of the tracks beside the candidate's two."""
    return _sum_other_tracks(events, "charge", lambda charge: charge)


@feature(unit="GeV", title=r"$E^*_\mathrm{ROE}$")
def e_roe(events: Any) -> Floats:
    """CM energy of the rest of the event."""
    return rest_momentum(events)[:, 3]


@feature(unit="GeV", title=r"$p^*_\mathrm{ROE}$")
def p_roe(events: Any) -> Floats:
    """CM momentum of the rest of the event."""
    return momentum_magnitude(rest_momentum(events))


@feature(unit="GeV", title=r"$M_\mathrm{ROE}$")
def m_roe(events: Any) -> Floats:
    """Mass of the rest of the event; 0 where rounding makes its square negative."""
    momentum = rest_momentum(events)
    return np.sqrt(np.maximum(momentum[:, 3] ** 2 - momentum_magnitude(momentum) ** 2, 0.0))


@feature(unit="GeV", title=r"$E^*_\mathrm{miss}$")
def e_miss(events: Any) -> Floats:
    """sqrt s less the CM energies of all particles; negative if more was seen than there was."""
    return missing_four_momentum(events)[:, 3]


@feature(unit="GeV", title=r"$p^*_\mathrm{miss}$")
def p_miss(events: Any) -> Floats:
    """Magnitude of the summed CM momentum of all particles."""
    return momentum_magnitude(missing_four_momentum(events))


@feature(title=r"$|\cos\theta^*_\mathrm{miss}|$")
def cos_miss(events: Any) -> Floats:
    """|cos| of the CM angle between missing momentum and z; 0 if nothing is missing."""
    along, magnitude = np.abs(missing_four_momentum(events)[:, 2]), p_miss(events)
    return np.divide(along, magnitude, out=np.zeros_like(along), where=magnitude > 0.0)


def _count_others(events: Any, collection: str, *, num_candidate: int) -> Floats:
    others = count_objects(events, collection) - num_candidate
    if (others < 0).any():
        row = int(np.flatnonzero(others < 0)[0])
        raise InputError(
            f"{others[row] + num_candidate} entries of {collection} in row {row}, but a candidate takes "
            f"{num_candidate}; "
            f"drop events without a candidate"
        )
    return others.astype(np.float64)


def _sum_other_tracks(events: Any, field: str, transform: Callable[[Floats], Any]) -> Floats:
    """The sum of whole numbers made of a track branch, without the candidate's two tracks."""
    k, pi = candidate_tracks(events)
    start, (column,) = read_columns(events, "Track", field)
    values = np.asarray(transform(column), dtype=np.float64)
    running = np.concatenate([[0.0], np.cumsum(values)])
    # Exact, as these are whole numbers far below 2^53.
    total = running[start[1:]] - running[start[:-1]]
    return np.asarray(total - values[start[:-1] + k] - values[start[:-1] + pi])
