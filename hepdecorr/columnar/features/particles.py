r"""Four-vectors in the e+e- centre-of-mass frame: the candidate's K, pi and photon, and everything else.

The boost to that frame is the vector Beam_boost{X,Y,Z} (in units of c, lab frame), one per event, so no
accelerator is built in.  The boost is a pure one: the z axis is that of the lab, also for beams that cross
at an angle.  Tracks take the mass in Track_mass, photons none; the candidate's two tracks take the kaon and
pion masses of their hypotheses, everywhere, so that the candidate is the same in every feature.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from hepdecorr.columnar.features.branches import Floats, Ints, columns, index, per_event
from hepdecorr.columnar.features.sharing import intermediate
from hepdecorr.compiled import compiled
from hepdecorr.errors import InputError

# PDG 2024 [GeV]
KAON_MASS = 0.493677
PION_MASS = 0.13957039

# The candidate's daughters come first in every event: K, pi, photon.
DAUGHTERS = 3


class Particles(NamedTuple):
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


@intermediate
def beta(events: Any) -> Floats:
    """The velocity of the CM frame in the lab, shape (events, 3)."""
    vector = np.stack([per_event(events, f"Beam.boost{axis}") for axis in "XYZ"], axis=1)
    fast = ~((vector**2).sum(axis=1) < 1.0)
    if fast.any():
        raise InputError(
            f"branches 'Beam.boostX', 'Beam.boostY', 'Beam.boostZ': not below the speed of light in row "
            f"{int(np.flatnonzero(fast)[0])}; they are velocities in units of c"
        )
    return vector


@intermediate
def kaon(events: Any) -> Floats:
    """CM four-momentum of the candidate's kaon, shape (events, 4): x, y, z, e [GeV]."""
    return _daughter(events, "Track", place="Bcand.kIdx", mass=KAON_MASS)


@intermediate
def pion(events: Any) -> Floats:
    """CM four-momentum of the candidate's pion, shape (events, 4): x, y, z, e [GeV]."""
    return _daughter(events, "Track", place="Bcand.piIdx", mass=PION_MASS)


@intermediate
def photon(events: Any) -> Floats:
    """CM four-momentum of the candidate's photon, shape (events, 4): x, y, z, e [GeV]."""
    return _daughter(events, "Photon", place="Bcand.gIdx", mass=0.0)


@intermediate
def candidate(events: Any) -> Floats:
    """CM four-momentum of the candidate, shape (events, 4): x, y, z, e [GeV]."""
    return np.asarray(kaon(events) + pion(events) + photon(events))


@intermediate
def two_tracks(events: Any) -> tuple[Ints, Ints]:
    """The places of the candidate's kaon and pion among the event's tracks.

    Raises InputError if a place is outside of the tracks or both are the same.
    """
    k, pi = index(events, "Bcand.kIdx", "Track"), index(events, "Bcand.piIdx", "Track")
    same = np.flatnonzero(k == pi)
    if same.size:
        raise InputError(
            f"branches 'Bcand.kIdx' and 'Bcand.piIdx' name one track in row {int(same[0])}; "
            f"drop such candidates"
        )
    return k, pi


@intermediate
def particles(events: Any) -> Particles:
    """Every reconstructed particle in the CM frame."""
    track_start, (pt, eta, phi, mass) = columns(events, "Track", "pt", "eta", "phi", "mass")
    photon_start, (g_pt, g_eta, g_phi) = columns(events, "Photon", "pt", "eta", "phi")
    k, pi = two_tracks(events)
    g = index(events, "Bcand.gIdx", "Photon")
    start = track_start + photon_start
    block = np.empty((5, int(start[-1])))
    source = np.empty(int(start[-1]), dtype=np.int64)
    _assemble(
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
        beta(events),
        block,
        source,
    )
    x, y, z, e, p = block
    return Particles(x, y, z, e, p, start, source)


@intermediate
def rest(events: Any) -> Floats:
    """Summed CM four-momentum of the rest of the event, shape (events, 4): x, y, z, e [GeV]."""
    everything = particles(events)
    out = np.zeros((len(events), 4))
    _sum_rest(everything.x, everything.y, everything.z, everything.e, everything.start, out)
    return out


@intermediate
def missing(events: Any) -> Floats:
    """(0, 0, 0, sqrt s) less all that was seen: CM four-momentum, shape (events, 4) [GeV]."""
    unseen = -(candidate(events) + rest(events))
    unseen[:, 3] += per_event(events, "Beam.sqrtS")
    return unseen


@intermediate
def charges(events: Any) -> Floats:
    """The charge of each of `particles(events)`, in their order."""
    (charge,) = columns(events, "Track", "charge")[1]
    # Photons have the place -1: the appended zero.
    return np.asarray(np.append(charge, 0.0)[particles(events).track])


def magnitude(vector: Floats) -> Floats:
    """|p| of four-vectors of shape (events, 4)."""
    return np.asarray(np.sqrt((vector[:, :3] ** 2).sum(axis=1)))


def _daughter(events: Any, collection: str, *, place: str, mass: float) -> Floats:
    start, (pt, eta, phi) = columns(events, collection, "pt", "eta", "phi")
    out = np.empty((len(events), 4))
    _pick(start[:-1] + index(events, place, collection), pt, eta, phi, mass, beta(events), out)
    return out


@compiled
def _to_cm(pt: float, eta: float, phi: float, mass: float, b: Floats) -> tuple[float, float, float, float]:
    x, y, z = pt * math.cos(phi), pt * math.sin(phi), pt * math.sinh(eta)
    e = math.sqrt(x * x + y * y + z * z + mass * mass)
    gamma = 1.0 / math.sqrt(1.0 - (b[0] * b[0] + b[1] * b[1] + b[2] * b[2]))
    along = b[0] * x + b[1] * y + b[2] * z
    # (gamma - 1) / beta^2 written so that it holds at rest
    shift = gamma * gamma / (gamma + 1.0) * along - gamma * e
    return x + shift * b[0], y + shift * b[1], z + shift * b[2], gamma * (e - along)


@compiled
def _pick(place: Ints, pt: Floats, eta: Floats, phi: Floats, mass: float, boost: Floats, out: Floats) -> None:
    for i in range(len(place)):
        k = place[i]
        x, y, z, e = _to_cm(pt[k], eta[k], phi[k], mass, boost[i])
        out[i, 0], out[i, 1], out[i, 2], out[i, 3] = x, y, z, e


@compiled
def _assemble(
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
        other = start + DAUGHTERS
        for k in range(track_start[i], track_start[i + 1]):
            mass, to = t_mass[k], other
            if k - track_start[i] == kaons[i]:
                mass, to = KAON_MASS, start
            elif k - track_start[i] == pions[i]:
                mass, to = PION_MASS, start + 1
            else:
                other += 1
            x, y, z, e = _to_cm(t_pt[k], t_eta[k], t_phi[k], mass, boost[i])
            out[0, to], out[1, to], out[2, to], out[3, to] = x, y, z, e
            out[4, to] = math.sqrt(x * x + y * y + z * z)
            source[to] = k
        for k in range(photon_start[i], photon_start[i + 1]):
            to = start + 2 if k - photon_start[i] == photons[i] else other
            if to == other:
                other += 1
            x, y, z, e = _to_cm(g_pt[k], g_eta[k], g_phi[k], 0.0, boost[i])
            out[0, to], out[1, to], out[2, to], out[3, to] = x, y, z, e
            out[4, to] = math.sqrt(x * x + y * y + z * z)
            source[to] = -1


@compiled
def _sum_rest(x: Floats, y: Floats, z: Floats, e: Floats, start: Ints, out: Floats) -> None:
    for i in range(len(out)):
        for k in range(start[i] + DAUGHTERS, start[i + 1]):
            out[i, 0] += x[k]
            out[i, 1] += y[k]
            out[i, 2] += z[k]
            out[i, 3] += e[k]
