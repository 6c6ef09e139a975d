"""The rest of the event (ROE): all but K, pi and photon of the candidate; and what no detector saw."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from hepdecorr.columnar.features import particles
from hepdecorr.columnar.features.branches import Floats, columns, counts
from hepdecorr.columnar.features.particles import magnitude, two_tracks
from hepdecorr.columnar.features.sharing import feature
from hepdecorr.errors import InputError


@feature(title=r"$N_\mathrm{tracks}^\mathrm{ROE}$")
def n_tracks_roe(events: Any) -> Floats:
    """Tracks beside the candidate's two."""
    return _beside(events, "Track", taken=2)


@feature(title=r"$N_\gamma^\mathrm{ROE}$")
def n_photons_roe(events: Any) -> Floats:
    """Photons beside the candidate's one."""
    return _beside(events, "Photon", taken=1)


@feature(title=r"$N_K^\mathrm{ROE}$")
def n_kaons_roe(events: Any) -> Floats:
    """Identified charged kaons (|Track_pdgId| = 321) beside the candidate's two tracks."""
    return _sum_others(events, "pdgId", lambda code: np.abs(code) == 321)


@feature(title=r"$N_\ell^\mathrm{ROE}$")
def n_leptons_roe(events: Any) -> Floats:
    """Identified electrons and muons (|Track_pdgId| = 11, 13) beside the candidate's two tracks."""
    return _sum_others(events, "pdgId", lambda code: np.isin(np.abs(code), (11, 13)))


@feature(title=r"$\sum Q^\mathrm{ROE}$")
def charge_roe(events: Any) -> Floats:
    """Summed charge of the tracks beside the candidate's two."""
    return _sum_others(events, "charge", lambda charge: charge)


@feature(unit="GeV", title=r"$E^*_\mathrm{ROE}$")
def e_roe(events: Any) -> Floats:
    """CM energy of the rest of the event."""
    return particles.rest(events)[:, 3]


@feature(unit="GeV", title=r"$p^*_\mathrm{ROE}$")
def p_roe(events: Any) -> Floats:
    """CM momentum of the rest of the event."""
    return magnitude(particles.rest(events))


@feature(unit="GeV", title=r"$M_\mathrm{ROE}$")
def m_roe(events: Any) -> Floats:
    """Mass of the rest of the event; 0 where rounding makes its square negative."""
    momentum = particles.rest(events)
    return np.sqrt(np.maximum(momentum[:, 3] ** 2 - magnitude(momentum) ** 2, 0.0))


@feature(unit="GeV", title=r"$E^*_\mathrm{miss}$")
def e_miss(events: Any) -> Floats:
    """sqrt s less the CM energies of all particles; negative if more was seen than there was."""
    return particles.missing(events)[:, 3]


@feature(unit="GeV", title=r"$p^*_\mathrm{miss}$")
def p_miss(events: Any) -> Floats:
    """Magnitude of the summed CM momentum of all particles."""
    return magnitude(particles.missing(events))


@feature(title=r"$|\cos\theta^*_\mathrm{miss}|$")
def cos_miss(events: Any) -> Floats:
    """|cos| of the CM angle between missing momentum and z; 0 if nothing is missing."""
    along, magnitude = np.abs(particles.missing(events)[:, 2]), p_miss(events)
    return np.divide(along, magnitude, out=np.zeros_like(along), where=magnitude > 0.0)


def _beside(events: Any, collection: str, *, taken: int) -> Floats:
    others = counts(events, collection) - taken
    if (others < 0).any():
        row = int(np.flatnonzero(others < 0)[0])
        raise InputError(
            f"{others[row] + taken} entries of {collection} in row {row}, but a candidate takes {taken}; "
            f"drop events without a candidate"
        )
    return others.astype(np.float64)


def _sum_others(events: Any, field: str, of: Callable[[Floats], Any]) -> Floats:
    """The sum of whole numbers made of a track branch, without the candidate's two tracks."""
    k, pi = two_tracks(events)
    start, (column,) = columns(events, "Track", field)
    values = np.asarray(of(column), dtype=np.float64)
    running = np.concatenate([[0.0], np.cumsum(values)])
    # Exact, as these are whole numbers far below 2^53.
    total = running[start[1:]] - running[start[:-1]]
    return np.asarray(total - values[start[:-1] + k] - values[start[:-1] + pi])
