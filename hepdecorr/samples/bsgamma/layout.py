"""The branches of a bsgamma file, in NanoAOD's habit: TTree `Events`, one candidate an event."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepdecorr.samples.bsgamma import kinematics as kin
from hepdecorr.samples.bsgamma.candidates import Candidates
from hepdecorr.samples.bsgamma.conditions import Conditions
from hepdecorr.samples.bsgamma.detector import Photons, Tracks
from hepdecorr.samples.columns import Chunk, Collection, Columns

RUN = {"signal": 1, "continuum": 2}
# Signal and continuum share runs where there are conditions, so events of each process begin elsewhere.
EVENTS_APART = 1_000_000_000

EVENT_BRANCHES = {
    "run": "uint32",
    "luminosityBlock": "uint32",
    "event": "uint64",
    "genWeight": "float32",
    "label": "int32",
    "genFlavour": "int32",
    "Beam_EStar": "float32",
    "Beam_sqrtS": "float32",
    "Beam_boostX": "float32",
    "Beam_boostY": "float32",
    "Beam_boostZ": "float32",
    "Bcand_pt": "float32",
    "Bcand_eta": "float32",
    "Bcand_phi": "float32",
    "Bcand_mass": "float32",
    "Bcand_mbc": "float32",
    "Bcand_mbcCorr": "float32",
    "Bcand_deltaE": "float32",
    "Bcand_pStar": "float32",
    "Bcand_mKst": "float32",
    "Bcand_EgStar": "float32",
    "Bcand_mult": "int32",
    "Bcand_isMatched": "bool",
    "Bcand_kIdx": "int32",
    "Bcand_piIdx": "int32",
    "Bcand_gIdx": "int32",
    "Bcand_mPi0": "float32",
    "Bcand_mEta": "float32",
}
# Only of samples with runs: their true shifts, which an analysis does not know.
CONDITIONS_BRANCHES = {"Conditions_photonScale": "float32", "Conditions_beamShift": "float32"}
COLLECTION_BRANCHES = {
    "Track": {
        "pt": "float32",
        "eta": "float32",
        "phi": "float32",
        "mass": "float32",
        "charge": "int32",
        "pdgId": "int32",
        "genPdgId": "int32",
        "genMother": "int32",
        "fromCand": "bool",
    },
    "Photon": {
        "pt": "float32",
        "eta": "float32",
        "phi": "float32",
        "mass": "float32",
        "genMother": "int32",
        "fromCand": "bool",
    },
}

# Bits of mantissa in a compact file: a relative error of 2^-13 at 12 bits, several times finer than the
# detector.  The candidate keeps 20 (4 keV at 5 GeV); M_bc, histogrammed from a cut on, keeps all.
COMPACT_BITS = {
    **{f"Track_{key}": 12 for key in ("pt", "eta", "phi")},
    "Photon_pt": 10,
    "Photon_eta": 11,
    "Photon_phi": 11,
    **{f"Bcand_{key}": 20 for key in ("pt", "eta", "phi", "mass", "deltaE", "pStar", "mKst", "EgStar")},
    "Bcand_mPi0": 12,
    "Bcand_mEta": 12,
}


def event_branches(conditions: Conditions | None) -> dict[str, str]:
    """Types by name of the branches with one value an event."""
    return EVENT_BRANCHES | ({} if conditions is None else CONDITIONS_BRANCHES)


def build(
    tracks: Tracks,
    photons: Photons,
    *,
    candidates: Candidates,
    flavour: NDArray[np.int32],
    run: NDArray[np.int64],
    process: str,
    luminosity_block: int,
    first_event: int,
    conditions: Conditions | None = None,
) -> Chunk:
    """The branches of the events that have a candidate.

    flavour, run: of every generated event (as in Batch); first_event: number of the first generated event.
    """
    events = len(candidates.event)
    index = np.full(len(flavour), -1)
    index[candidates.event] = np.arange(events)
    kept_tracks, kept_photons = index[tracks.event] >= 0, index[photons.event] >= 0
    track_row, photon_row = np.cumsum(kept_tracks) - 1, np.cumsum(kept_photons) - 1
    pi0, eta = veto_masses(photons, index, hard=candidates.photon)

    track = _tracks(tracks.take(kept_tracks), [track_row[candidates.kaon], track_row[candidates.pion]])
    photon = _photons(photons.take(kept_photons), [photon_row[candidates.photon]])
    n_track = np.bincount(index[tracks.event[kept_tracks]], minlength=events)
    n_photon = np.bincount(index[photons.event[kept_photons]], minlength=events)
    track_start, photon_start = np.cumsum(n_track) - n_track, np.cumsum(n_photon) - n_photon

    values: dict[str, Any] = {
        "run": RUN[process],
        "luminosityBlock": luminosity_block,
        "event": first_event + candidates.event,
        "genWeight": 1.0,
        "label": int(process == "signal"),
        "genFlavour": flavour[candidates.event],
        "Beam_EStar": kin.BEAM_STAR,
        "Beam_sqrtS": kin.SQRT_S,
        "Beam_boostX": 0.0,
        "Beam_boostY": 0.0,
        "Beam_boostZ": kin.BOOST_Z,
        **_candidate(candidates),
        "Bcand_isMatched": _matched(tracks, photons, candidates),
        "Bcand_kIdx": track_row[candidates.kaon] - track_start,
        "Bcand_piIdx": track_row[candidates.pion] - track_start,
        "Bcand_gIdx": photon_row[candidates.photon] - photon_start,
        "Bcand_mPi0": pi0,
        "Bcand_mEta": eta,
    }
    if conditions is not None:
        values |= _conditions(conditions, run[candidates.event], process=process, event=values["event"])
    columns = {
        name: np.broadcast_to(np.asarray(values[name], dtype=dtype), (events,))
        for name, dtype in event_branches(conditions).items()
    }
    return Chunk(columns, {"Track": Collection(n_track, track), "Photon": Collection(n_photon, photon)})


def _conditions(
    conditions: Conditions, run: NDArray[np.int64], *, process: str, event: NDArray[np.int64]
) -> dict[str, Any]:
    shifts = conditions.shifts()
    return {
        "run": conditions.number(run),
        "event": RUN[process] * EVENTS_APART + event,
        "Conditions_photonScale": shifts.photon_scale[run],
        "Conditions_beamShift": shifts.beam_shift[run],
    }


def _candidate(candidates: Candidates) -> dict[str, Any]:
    lab = kin.to_laboratory(candidates.b)
    pt = np.hypot(lab[:, 0], lab[:, 1])
    return {
        "Bcand_pt": pt,
        "Bcand_eta": np.arcsinh(lab[:, 2] / np.maximum(pt, 1e-9)),
        "Bcand_phi": np.arctan2(lab[:, 1], lab[:, 0]),
        "Bcand_mass": kin.invariant_mass(lab),
        "Bcand_mbc": candidates.mbc,
        "Bcand_mbcCorr": candidates.mbc_corrected,
        "Bcand_deltaE": candidates.delta_e,
        "Bcand_pStar": kin.momentum(candidates.b),
        "Bcand_mKst": candidates.mass_kpi,
        "Bcand_EgStar": candidates.photon_energy,
        "Bcand_mult": candidates.multiplicity,
    }


def _matched(tracks: Tracks, photons: Photons, candidates: Candidates) -> NDArray[np.bool_]:
    """Kaon, pion and photon are truly those of B -> K*0 gamma."""
    return np.asarray(
        tracks.signal[candidates.kaon]
        & tracks.signal[candidates.pion]
        & photons.signal[candidates.photon]
        & (np.abs(tracks.gen_id[candidates.kaon]) == 321)
        & (np.abs(tracks.gen_id[candidates.pion]) == 211)
    )


def _tracks(tracks: Tracks, chosen: list[NDArray[np.int64]]) -> Columns:
    return _typed(
        "Track",
        pt=tracks.pt,
        eta=tracks.eta,
        phi=tracks.phi,
        mass=tracks.mass,
        charge=tracks.charge,
        pdgId=tracks.pdg_id,
        genPdgId=tracks.gen_id,
        genMother=tracks.mother,
        fromCand=_flag(len(tracks.event), chosen),
    )


def _photons(photons: Photons, chosen: list[NDArray[np.int64]]) -> Columns:
    return _typed(
        "Photon",
        pt=photons.pt,
        eta=photons.eta,
        phi=photons.phi,
        mass=np.zeros(len(photons.event)),
        genMother=photons.mother,
        fromCand=_flag(len(photons.event), chosen),
    )


def _typed(collection: str, **values: NDArray[Any]) -> Columns:
    return {name: values[name].astype(dtype) for name, dtype in COLLECTION_BRANCHES[collection].items()}


def _flag(count: int, rows: list[NDArray[np.int64]]) -> NDArray[np.bool_]:
    flags = np.zeros(count, dtype=bool)
    flags[np.concatenate(rows)] = True
    return flags


def veto_masses(
    photons: Photons, index: NDArray[np.int64], *, hard: NDArray[np.int64]
) -> tuple[kin.Floats, kin.Floats]:
    """m(gamma gamma) nearest the pi0 and nearest the eta, of the hard photon with any other; -1 if alone.

    index: row among the kept events of every event, -1 if not kept; hard: row of each kept event's photon.
    """
    p4 = photons.p4()
    other = np.flatnonzero(index[photons.event] >= 0)
    other = other[hard[index[photons.event[other]]] != other]
    event = index[photons.event[other]]
    mass = kin.invariant_mass(p4[other] + p4[hard[event]])
    return (
        _nearest(mass, kin.PI0_MASS, event=event, events=len(hard)),
        _nearest(mass, kin.ETA_MASS, event=event, events=len(hard)),
    )


def _nearest(mass: kin.Floats, target: float, *, event: NDArray[np.int64], events: int) -> kin.Floats:
    order = np.lexsort((np.abs(mass - target), event))
    found, first = np.unique(event[order], return_index=True)
    nearest = np.full(events, -1.0)
    nearest[found] = mass[order[first]]
    return nearest
