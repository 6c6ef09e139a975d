"""The selection on events made by hand, and against a loop over combinations."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from hepdecorr.errors import InputError
from hepdecorr.samples.bsgamma import Options
from hepdecorr.samples.bsgamma import kinematics as kin
from hepdecorr.samples.bsgamma.candidates import STAGES, Candidates, find_candidates
from hepdecorr.samples.bsgamma.detector import Photons, Tracks
from hepdecorr.samples.bsgamma.layout import veto_masses


def coordinates(cm: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    lab = kin.to_laboratory(cm)
    pt = np.hypot(lab[:, 0], lab[:, 1])
    return pt, np.arcsinh(lab[:, 2] / pt), np.arctan2(lab[:, 1], lab[:, 0])


def tracks_of(cm: np.ndarray, *, pdg_id: list[int], event: list[int]) -> Tracks:
    ids = np.array(pdg_id, dtype=np.int32)
    pt, eta, phi = coordinates(cm)
    mass = np.array([kin.TRACK_MASS[abs(code)] for code in pdg_id])
    charge = np.sign(ids)
    flags = np.ones(len(ids), dtype=bool)
    return Tracks(np.array(event), pt, eta, phi, mass, charge, ids, ids, ids, flags)


def photons_of(cm: np.ndarray, *, event: list[int]) -> Photons:
    pt, eta, phi = coordinates(cm)
    return Photons(
        np.array(event),
        pt,
        eta,
        phi,
        np.full(len(event), 511, dtype=np.int32),
        np.ones(len(event), dtype=bool),
    )


def perfect_decay(*, kaon_charge: int = 1, photon_scale: float = 1.0) -> tuple[Tracks, Photons]:
    """B at rest in the CM frame -> K*0 (at its mass) gamma, K+ pi- at 60 degrees to the flight."""
    energy = (kin.B0_MASS**2 - 0.896**2) / (2 * kin.B0_MASS)
    axis = np.array([0.6, 0.0, 0.8])
    kstar = np.array([*(energy * axis), np.hypot(energy, 0.896)])[None]
    m_k, m_pi = kin.TRACK_MASS[321], kin.TRACK_MASS[211]
    e_k = (0.896**2 + m_k**2 - m_pi**2) / (2 * 0.896)
    break_up = np.sqrt(e_k**2 - m_k**2) * np.array([0.0, 1.0, 0.0])
    kaon = kin.boost(kin.with_mass(break_up[None], m_k), kin.velocity(kstar))
    pion = kin.boost(kin.with_mass(-break_up[None], m_pi), kin.velocity(kstar))
    gamma = photon_scale * np.array([[*(-energy * axis), energy]])
    tracks = tracks_of(np.vstack([kaon, pion]), pdg_id=[321 * kaon_charge, -211], event=[0, 0])
    return tracks, photons_of(gamma, event=[0])


def find(
    tracks: Tracks, photons: Photons, *, events: int = 1, seed: int = 0, **options: Any
) -> tuple[Candidates, np.ndarray]:
    return find_candidates(
        tracks, photons, events=events, rng=np.random.default_rng(seed), options=Options(**options)
    )


def test_a_perfect_decay_gives_the_masses_of_the_b() -> None:
    found, reached = find(*perfect_decay())
    assert reached.tolist() == [len(STAGES) - 1]
    assert found.mbc[0] == pytest.approx(5.29, abs=1e-6)  # a B at rest
    assert found.mbc_corrected[0] == pytest.approx(5.29, abs=2e-5)
    assert found.delta_e[0] == pytest.approx(kin.B0_MASS - 5.29, abs=1e-6)
    assert found.mass_kpi[0] == pytest.approx(0.896, abs=1e-6)
    assert found.multiplicity.tolist() == [1]
    assert (found.kaon[0], found.pion[0], found.photon[0]) == (0, 1, 0)


def test_a_lost_photon_energy_is_mended_in_the_corrected_mass() -> None:
    found, _ = find(*perfect_decay(photon_scale=0.95))
    assert found.mbc[0] < 5.2890
    assert found.mbc_corrected[0] == pytest.approx(5.29, abs=2e-5)


@pytest.mark.parametrize(
    ("options", "stage"),
    [
        ({"de_max": 0.005}, "K*0 mass"),
        ({"mbc_min": 5.2899999}, "Delta E"),
        ({"kaon_id": True}, "M_bc"),
    ],
)
def test_cuts_end_an_event_at_their_stage(options: dict[str, Any], stage: str) -> None:
    tracks, photons = perfect_decay(photon_scale=0.998)
    _, reached = find(tracks, photons, **options)
    assert STAGES[reached[0]] == stage


def test_the_mass_window_is_around_the_kstar() -> None:
    tracks, photons = perfect_decay()
    opened = tracks._replace(phi=tracks.phi + np.array([0.0, 0.4]))
    mass = find(opened, photons, mkst_window=3.0, de_max=3.0, mbc_min=0.0)[0].mass_kpi[0]
    width = abs(mass - 0.896)
    assert find(opened, photons, mkst_window=width * 1.01, de_max=3.0, mbc_min=0.0)[1][0] == 5
    assert (
        STAGES[find(opened, photons, mkst_window=width * 0.99, de_max=3.0, mbc_min=0.0)[1][0]] == "K pi pair"
    )


def test_equal_charges_are_no_pair() -> None:
    _, reached = find(*perfect_decay(kaon_charge=-1))
    assert STAGES[reached[0]] == "hard photon"


def test_kaon_id_asks_for_one_kaon_and_one_pion() -> None:
    tracks, photons = perfect_decay()
    unknown = tracks._replace(pdg_id=np.array([211, -211], dtype=np.int32))
    assert STAGES[find(unknown, photons, kaon_id=True)[1][0]] == "hard photon"
    # Without identification one hypothesis of the two, either one, is tried.
    firsts = {
        int(find(unknown, photons, seed=s, mbc_min=0, de_max=2, mkst_window=2)[0].kaon[0]) for s in range(20)
    }
    assert firsts == {0, 1}


def test_keep_either_keeps_what_only_the_corrected_mass_passes() -> None:
    tracks, photons = perfect_decay(photon_scale=0.85)
    plain, _ = find(tracks, photons, mbc_min=5.285)
    either, _ = find(tracks, photons, mbc_min=5.285, keep_either=True)
    assert len(plain.event) == 0
    assert either.mbc[0] < 5.285 < either.mbc_corrected[0]


def test_leptons_and_soft_photons_are_not_used() -> None:
    tracks, photons = perfect_decay()
    leptons = tracks._replace(pdg_id=np.array([-13, 13], dtype=np.int32))
    assert STAGES[find(leptons, photons)[1][0]] == "hard photon"
    assert STAGES[find(tracks, photons._replace(pt=photons.pt * 0.6))[1][0]] == "generated"
    assert STAGES[find(tracks, photons._replace(pt=photons.pt * 1.4))[1][0]] == "generated"


def random_events(events: int, *, seed: int) -> tuple[Tracks, Photons]:
    rng = np.random.default_rng(seed)
    n_track, n_photon = rng.integers(0, 6, events), rng.integers(0, 4, events)
    species = rng.choice([211, 321, 13], n_track.sum(), p=[0.6, 0.3, 0.1])
    ids = (species * rng.choice([-1, 1], n_track.sum())).tolist()
    cm = kin.with_mass(rng.normal(0, 0.4, (n_track.sum(), 3)), [kin.TRACK_MASS[abs(i)] for i in ids])
    gamma = kin.with_mass(rng.normal(0, 1.5, (n_photon.sum(), 3)), 0.0)
    rows = np.arange(events)
    return (
        tracks_of(cm, pdg_id=ids, event=np.repeat(rows, n_track).tolist()),
        photons_of(gamma, event=np.repeat(rows, n_photon).tolist()),
    )


def allowed(tracks: Tracks, photons: Photons, options: Options) -> dict[int, set[tuple[int, int, int]]]:
    """Every (kaon, pion, photon) that a loop finds, per event: the hypothesis of a pair left open."""
    lab, star = tracks.p4(), kin.to_cm(photons.p4())
    good = [i for i in range(len(star)) if 1.8 < star[i, 3] < 3.4]
    found: dict[int, set[tuple[int, int, int]]] = {}
    for k, pi in itertools.permutations(range(len(lab)), 2):
        event = int(tracks.event[k])
        if event != tracks.event[pi]:
            continue
        ids = (abs(int(tracks.pdg_id[k])), abs(int(tracks.pdg_id[pi])))
        mine = [i for i in good if photons.event[i] == event]
        opposite = tracks.charge[k] == -tracks.charge[pi]
        if not mine or not opposite or 13 in ids:
            continue
        if options.kaon_id and ids != (321, 211):
            continue
        hard = max(mine, key=lambda i: star[i, 3])
        kpi = kin.to_cm(kin.with_mass(lab[[k]], 0.493677)) + kin.to_cm(kin.with_mass(lab[[pi]], 0.13957))
        b = kpi + star[[hard]]
        mbc2 = 5.29**2 - (b[0, :3] ** 2).sum()
        if (
            abs(kin.invariant_mass(kpi)[0] - 0.896) < options.mkst_window
            and abs(b[0, 3] - 5.29) < options.de_max
            and mbc2 > options.mbc_min**2
        ):
            found.setdefault(event, set()).add((k, pi, hard))
    return found


@pytest.mark.parametrize("kaon_id", [True, False])
def test_candidates_are_those_of_a_loop(kaon_id: bool) -> None:
    options = Options(de_max=2.5, mkst_window=0.8, mbc_min=4.6, kaon_id=kaon_id)
    tracks, photons = random_events(150, seed=4)
    expected = allowed(tracks, photons, options)
    found, reached = find_candidates(
        tracks, photons, events=150, rng=np.random.default_rng(1), options=options
    )
    assert len(found.event) > (5 if kaon_id else 20)
    for row, event in enumerate(found.event.tolist()):
        triple = (int(found.kaon[row]), int(found.pion[row]), int(found.photon[row]))
        assert triple in expected[event]
    if kaon_id:
        assert set(found.event.tolist()) == set(expected)
        assert found.multiplicity.tolist() == [len(expected[e]) for e in found.event.tolist()]
    else:
        assert set(found.event.tolist()) <= set(expected)
    np.testing.assert_array_equal(np.flatnonzero(reached == 5), found.event)


def test_one_hypothesis_a_pair_and_the_identified_kaon_first() -> None:
    options = Options(de_max=5, mkst_window=5, mbc_min=0)
    tracks, photons = random_events(200, seed=9)
    found, _ = find_candidates(tracks, photons, events=200, rng=np.random.default_rng(1), options=options)
    kaon_tag, pion_tag = (np.abs(tracks.pdg_id[rows]) == 321 for rows in (found.kaon, found.pion))
    assert (kaon_tag | ~pion_tag).all()
    hadron = np.abs(tracks.pdg_id) != 13
    for event, multiplicity in zip(found.event, found.multiplicity, strict=True):
        charge = tracks.charge[(tracks.event == event) & hadron]
        assert multiplicity == (charge > 0).sum() * (charge < 0).sum()


def test_nothing_to_find() -> None:
    tracks, photons = random_events(5, seed=1)
    none = np.zeros(0, dtype=int)
    found, reached = find(tracks.take(none), photons, events=5)
    assert len(found.event) == 0
    assert reached.max() <= 1
    found, reached = find(tracks, photons.take(none), events=5)
    assert len(found.event) == 0
    assert reached.tolist() == [0] * 5


def test_veto_masses_are_those_of_a_loop() -> None:
    _, photons = random_events(40, seed=3)
    event, first, count = np.unique(photons.event, return_index=True, return_counts=True)
    index = np.full(40, -1)
    index[event] = np.arange(len(event))
    pi0, eta = veto_masses(photons, index, hard=first)
    assert set(count.tolist()) >= {1, 2, 3}
    p4 = photons.p4()
    for row in range(len(event)):
        others = np.arange(first[row] + 1, first[row] + count[row])
        masses = [float(kin.invariant_mass((p4[first[row]] + p4[o])[None])[0]) for o in others] or [-1.0]
        assert pi0[row] == pytest.approx(min(masses, key=lambda m: abs(m - 0.1350)))
        assert eta[row] == pytest.approx(min(masses, key=lambda m: abs(m - 0.5479)))


@pytest.mark.parametrize(
    "bad", [{"de_max": 0.0}, {"mkst_window": -1.0}, {"mbc_min": 5.29}, {"mbc_min": -0.1}]
)
def test_options_out_of_range_are_named(bad: dict[str, float]) -> None:
    with pytest.raises(InputError, match=next(iter(bad))):
        replace(Options(), **bad)
