"""The detector against its own data sheet, on particles made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from hepdecorr.samples.bsgamma import kinematics as kin
from hepdecorr.samples.bsgamma.detector import Photons, Tracks, detect, identify
from hepdecorr.samples.bsgamma.generation import Particles

COUNT = 40_000


def particles(pdg_id: int, *, momentum: float, theta: float = 1.2) -> Particles:
    """COUNT events of one particle that flies at `theta` in the laboratory."""
    mass = kin.TRACK_MASS.get(abs(pdg_id), 0.0)
    direction = np.array([np.sin(theta), 0.0, np.cos(theta)])
    lab = kin.with_mass(np.tile(momentum * direction, (COUNT, 1)), mass)
    return Particles(
        event=np.arange(COUNT),
        id=np.full(COUNT, pdg_id, dtype=np.int32),
        mother=np.full(COUNT, 511, dtype=np.int32),
        signal=np.arange(COUNT) % 2 == 0,
        p4=kin.to_cm(lab),
    )


def seen(pdg_id: int, *, momentum: float, theta: float = 1.2) -> tuple[Tracks, Photons]:
    return detect(particles(pdg_id, momentum=momentum, theta=theta), np.random.default_rng(5))


@pytest.mark.parametrize("momentum", [0.5, 3.0])
def test_track_resolution_and_efficiency(momentum: float) -> None:
    tracks, photons = seen(211, momentum=momentum)
    true_pt = momentum * np.sin(1.2)
    assert len(photons.event) == 0
    assert len(tracks.event) / COUNT == pytest.approx(0.97, abs=0.004)
    assert tracks.pt.mean() == pytest.approx(true_pt, rel=1e-3)
    assert tracks.pt.std() / true_pt == pytest.approx(np.hypot(0.005, 0.001 * true_pt), rel=0.03)
    theta = 2 * np.arctan(np.exp(-tracks.eta))
    assert theta.mean() == pytest.approx(1.2, abs=1e-4)
    assert theta.std() == pytest.approx(1e-3, rel=0.03)
    assert tracks.phi.std() == pytest.approx(1e-3, rel=0.03)


@pytest.mark.parametrize("energy", [0.2, 2.5])
def test_photon_resolution_efficiency_and_tail(energy: float) -> None:
    tracks, photons = seen(22, momentum=energy)
    assert len(tracks.event) == 0
    assert len(photons.event) / COUNT == pytest.approx(0.98, abs=0.004)
    pull = (photons.p4()[:, 3] / energy - 1) / np.hypot(0.02, 0.0066 / energy)
    # The upper side is a Gaussian half of 85 % of the photons; 15 % more lie below.
    assert (pull > 0).mean() == pytest.approx(0.425, abs=0.01)
    assert np.sqrt((pull[pull > 0] ** 2).mean()) == pytest.approx(1.0, abs=0.02)
    assert (pull < -3).mean() > 0.01
    assert (pull > 3).mean() < 0.003
    theta = 2 * np.arctan(np.exp(-photons.eta))
    assert theta.std() == pytest.approx(0.004 / np.sqrt(energy), rel=0.03)


@pytest.mark.parametrize("pdg_id", [22, 211])
@pytest.mark.parametrize(("degrees", "inside"), [(16.9, False), (17.1, True), (149.9, True), (150.1, False)])
def test_acceptance(pdg_id: int, degrees: float, inside: bool) -> None:
    tracks, photons = seen(pdg_id, momentum=2.0, theta=np.radians(degrees))
    assert (len(tracks.event) + len(photons.event) > 0) == inside


def test_thresholds() -> None:
    assert len(seen(211, momentum=0.09)[0].event) == 0
    assert len(seen(22, momentum=0.02)[1].event) == 0
    assert (seen(211, momentum=0.11)[0].pt > 0.1).all()
    assert (seen(22, momentum=0.055)[1].p4()[:, 3] > 0.05).all()


@pytest.mark.parametrize("pdg_id", [12, 130, 2112, 111])
def test_what_leaves_neither_track_nor_photon(pdg_id: int) -> None:
    tracks, photons = seen(pdg_id, momentum=2.0)
    assert len(tracks.event) == len(photons.event) == 0


@pytest.mark.parametrize(
    ("species", "expected"),
    [
        (321, {321: 0.95, 211: 0.05}),
        (211, {211: 0.94, 321: 0.05, 13: 0.01}),
        (2212, {2212: 0.90, 321: 0.05, 211: 0.05}),
        (13, {13: 0.85, 211: 0.15}),
        (11, {11: 0.95, 211: 0.05}),
    ],
)
def test_identification(species: int, expected: dict[int, float]) -> None:
    taken_for = identify(np.full(COUNT, species, dtype=np.int32), np.random.default_rng(2))
    found = dict(zip(*np.unique(taken_for, return_counts=True), strict=True))
    assert set(found) == set(expected)
    for code, probability in expected.items():
        assert found[code] / COUNT == pytest.approx(probability, abs=0.006)


@pytest.mark.parametrize(("pdg_id", "charge"), [(211, 1), (-321, -1), (11, -1), (-13, 1), (-2212, -1)])
def test_charge_is_kept_whatever_a_track_is_taken_for(pdg_id: int, charge: int) -> None:
    tracks, _ = seen(pdg_id, momentum=1.0)
    assert set(tracks.charge.tolist()) == {charge}
    lepton = np.isin(np.abs(tracks.pdg_id), (11, 13))
    np.testing.assert_array_equal(np.sign(tracks.pdg_id), np.where(lepton, -charge, charge))
    assert set(tracks.gen_id.tolist()) == {pdg_id}
    masses = np.array([kin.TRACK_MASS[code] for code in np.abs(tracks.pdg_id).tolist()])
    np.testing.assert_array_equal(tracks.mass, masses)
    np.testing.assert_array_equal(tracks.signal, tracks.event % 2 == 0)
