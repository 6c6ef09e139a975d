"""The detector against its own data sheet, on particles made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from hepdecorr.samples.jets.detector import KINDS, MANTISSA_BITS, Candidates, detect
from hepdecorr.samples.jets.generation import Particles

COUNT = 40_000
MASSES = {211: 0.13957, 2212: 0.93827, 11: 0.000511, 13: 0.105658, 22: 0.0, 130: 0.4976, 2112: 0.93957}


def seen(pdg_id: int, *, pt: float, eta: float = 0.7, phi: float = 0.5) -> Candidates:
    """What is seen of COUNT events of one particle."""
    mass = MASSES.get(abs(pdg_id), 0.0)
    momentum = pt * np.array([np.cos(phi), np.sin(phi), np.sinh(eta)])
    p4 = np.append(momentum, np.sqrt((momentum**2).sum() + mass**2))
    particles = Particles(np.arange(COUNT), np.full(COUNT, pdg_id, np.int32), np.tile(p4, (COUNT, 1)))
    return detect(particles, np.random.default_rng(5))


@pytest.mark.parametrize(
    ("pdg_id", "kind", "taken_for"),
    [
        *[(211, "charged hadron", 211), (-321, "charged hadron", -211), (-2212, "charged hadron", -211)],
        *[(3112, "charged hadron", -211), (11, "electron", 11), (-13, "muon", -13)],
        *[(22, "photon", 22), (130, "neutral hadron", 130), (-2112, "neutral hadron", 130)],
    ],
)
@pytest.mark.parametrize("pt", [20.0, 300.0])
def test_what_a_particle_is_seen_as_and_how_well(pdg_id: int, kind: str, taken_for: int, pt: float) -> None:
    found, expected = seen(pdg_id, pt=pt), KINDS[kind]
    assert set(found.pdg_id.tolist()) == {taken_for}
    charge = {11: -1, -13: 1, 211: 1, -211: -1}.get(taken_for, 0)
    assert set(found.charge.tolist()) == {charge}
    np.testing.assert_allclose(found.mass, expected.mass, rtol=1e-6)
    energy = pt * np.cosh(0.7)
    sigma = np.sqrt(expected.constant**2 + expected.stochastic**2 / energy + (expected.slope * pt) ** 2)
    response = found.pt.astype(float) / pt
    assert response.mean() == pytest.approx(1.0, abs=4 * sigma / np.sqrt(COUNT) + 2e-3)
    assert response.std() == pytest.approx(sigma, rel=0.02)
    for angle, true in ((found.eta, 0.7), (found.phi, 0.5)):
        assert angle.mean() == pytest.approx(true, abs=3e-4)
        assert angle.astype(float).std() == pytest.approx(expected.angle, rel=0.03)
    assert len(found.event) / COUNT == pytest.approx(expected.efficiency, abs=0.004)


@pytest.mark.parametrize(
    ("pdg_id", "eta", "taken_for"),
    [
        *[(211, 2.45, {211}), (211, 2.6, {130}), (-11, 2.6, {22}), (13, 2.6, set())],
        *[(22, -2.9, {22}), (22, -3.1, set()), (130, 3.1, set()), (14, 0.1, set()), (-12, 0.1, set())],
    ],
)
def test_acceptance(pdg_id: int, eta: float, taken_for: set[int]) -> None:
    assert set(seen(pdg_id, pt=40.0, eta=eta).pdg_id.tolist()) == taken_for


@pytest.mark.parametrize(("pdg_id", "threshold"), [(211, 0.5), (22, 0.5), (130, 1.0)])
def test_thresholds(pdg_id: int, threshold: float) -> None:
    found = seen(pdg_id, pt=1.02 * threshold)
    assert 0 < len(found.event) < 0.97 * COUNT
    assert found.pt.min() > threshold
    assert len(seen(pdg_id, pt=0.05).event) == 0


def test_candidates_are_rounded_as_nanoaod_does_and_phi_is_wrapped() -> None:
    found = seen(211, pt=30.0, phi=np.pi)
    dropped = (1 << (23 - MANTISSA_BITS)) - 1
    for column in (found.pt, found.eta, found.phi):
        assert not (column.view(np.uint32) & dropped).any()
        assert len(np.unique(column)) > 3
    assert (found.phi > 0).mean() == pytest.approx(0.5, abs=0.02)
    assert np.abs(found.phi).max() < np.pi + 2**-12


def test_nothing_in_nothing_out() -> None:
    empty = Particles(np.zeros(0, np.int64), np.zeros(0, np.int32), np.zeros((0, 4)))
    assert len(detect(empty, np.random.default_rng(1)).event) == 0
