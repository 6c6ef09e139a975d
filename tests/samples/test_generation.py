"""What leaves Pythia: conservation laws, angles, flavours."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kstest

from hepdecorr.samples.bsgamma import generation
from hepdecorr.samples.bsgamma import kinematics as kin

pytestmark = pytest.mark.usefixtures("pythia")


def sin2_cdf(c: np.ndarray) -> np.ndarray:
    return (2 + 3 * c - c**3) / 4


@pytest.fixture(scope="module")
def signal_batch() -> generation.Batch:
    return generation.make_generator("signal", seed=11, rng=np.random.default_rng(11))(3000)


@pytest.fixture(scope="module")
def signal_decay(signal_batch: generation.Batch) -> dict[str, np.ndarray]:
    particles = signal_batch.particles.take(signal_batch.particles.signal)
    species = np.abs(particles.id)
    return {name: particles.p4[species == code] for name, code in (("K", 321), ("pi", 211), ("gamma", 22))}


def total(batch: generation.Batch) -> np.ndarray:
    sums = np.zeros((batch.size, 4))
    np.add.at(sums, batch.particles.event, batch.particles.p4)
    return sums


def test_signal_conserves_momentum_and_has_the_spread_of_the_beams(signal_batch: generation.Batch) -> None:
    sums = total(signal_batch)
    assert np.abs(sums[:, :3]).max() < 1e-9
    assert sums[:, 3].mean() == pytest.approx(10.58, abs=0.0005)
    assert sums[:, 3].std() == pytest.approx(0.005, rel=0.06)


def test_signal_has_one_forced_decay_of_the_right_masses(
    signal_batch: generation.Batch, signal_decay: dict[str, np.ndarray]
) -> None:
    assert {len(p4) for p4 in signal_decay.values()} == {signal_batch.size}
    np.testing.assert_allclose(kin.invariant_mass(sum(signal_decay.values())), 5.27958, atol=1e-9)
    np.testing.assert_allclose(kin.invariant_mass(signal_decay["K"]), 0.4937, atol=1e-3)
    np.testing.assert_allclose(kin.invariant_mass(signal_decay["pi"]), 0.1396, atol=1e-3)
    kstar = kin.invariant_mass(signal_decay["K"] + signal_decay["pi"])
    assert kstar.min() > 0.7 - 1e-9
    assert kstar.max() < 1.3 + 1e-9
    assert np.median(kstar) == pytest.approx(0.896, abs=0.01)


def test_the_other_b_decays_freely(signal_batch: generation.Batch) -> None:
    rest = signal_batch.particles.take(~signal_batch.particles.signal)
    per_event = np.bincount(rest.event, minlength=signal_batch.size)
    assert per_event.std() > 3
    assert {211, 321, 22, 11, 13, 2212} <= set(np.abs(rest.id).tolist())


def test_b_mesons_go_as_sin2_of_the_polar_angle(signal_decay: dict[str, np.ndarray]) -> None:
    b = sum(signal_decay.values())
    assert kstest(b[:, 2] / kin.momentum(b), sin2_cdf).pvalue > 1e-3


def test_kstar_is_transverse(signal_decay: dict[str, np.ndarray]) -> None:
    # The helicity angle without boosts: cos(theta_K) is linear in the kaon's energy in the frame of the B.
    b = sum(signal_decay.values())
    kaon = kin.boost(signal_decay["K"], -kin.velocity(b))
    kstar = kin.boost(signal_decay["K"] + signal_decay["pi"], -kin.velocity(b))
    m, m_k, m_pi = (kin.invariant_mass(p4) for p4 in (kstar, kaon, signal_decay["pi"]))
    energy = (m**2 + m_k**2 - m_pi**2) / (2 * m)
    cosine = (kaon[:, 3] * m - kstar[:, 3] * energy) / (kin.momentum(kstar) * np.sqrt(energy**2 - m_k**2))
    assert kstest(cosine, sin2_cdf).pvalue > 1e-3


def test_both_b_flavours_are_forced_equally_often(signal_batch: generation.Batch) -> None:
    photons = signal_batch.particles.take(signal_batch.particles.signal & (signal_batch.particles.id == 22))
    assert (photons.mother > 0).mean() == pytest.approx(0.5, abs=0.05)
    assert set(np.abs(photons.mother).tolist()) == {generation.SIGNAL_B}


@pytest.mark.parametrize("isr", [False, True])
def test_continuum_conserves_momentum_and_has_light_quarks(isr: bool) -> None:
    generator = generation.make_generator("continuum", seed=12, rng=np.random.default_rng(12), isr=isr)
    batch = generator(2000)
    sums = total(batch)
    # Without radiation no energy is lost; with it some, to photons along the beams (which are stored, too).
    np.testing.assert_allclose(sums, np.broadcast_to([0, 0, 0, 10.58], sums.shape), atol=1e-3)
    charge2 = np.array([0, 1, 4, 1, 4]) / 9
    counts = np.bincount(batch.flavour, minlength=5)
    expected = charge2 / charge2.sum() * batch.size
    assert np.abs(counts - expected).max() < 5 * np.sqrt(batch.size / 4)
    beam_photons = (batch.particles.id == 22) & (np.abs(batch.particles.mother) == 11)
    assert beam_photons.any() == isr


def test_the_seed_decides() -> None:
    def energies(seed: int) -> np.ndarray:
        generator = generation.make_generator("continuum", seed=seed, rng=np.random.default_rng(0))
        return generator(20).particles.p4

    np.testing.assert_array_equal(energies(5), energies(5))
    assert energies(5).shape != energies(6).shape or (energies(5) != energies(6)).any()


def test_sin2_cosine_inverts_the_cumulative_distribution() -> None:
    uniform = np.linspace(0, 1, 101)
    np.testing.assert_allclose(sin2_cdf(kin.sin2_cosine(uniform)), uniform, atol=1e-12)


def test_boost_there_and_back_keeps_the_vector_and_the_mass() -> None:
    rng = np.random.default_rng(1)
    p4 = kin.with_mass(rng.normal(size=(50, 3)), rng.uniform(0, 2, 50))
    beta = rng.uniform(-0.5, 0.5, (50, 3))
    away = kin.boost(p4, beta)
    np.testing.assert_allclose(kin.boost(away, -beta), p4, atol=1e-12)
    np.testing.assert_allclose(kin.invariant_mass(away), kin.invariant_mass(p4), atol=1e-7)
    # A particle at rest takes on the velocity of the boost.
    rest = np.column_stack([np.zeros((50, 3)), np.ones(50)])
    np.testing.assert_allclose(kin.velocity(kin.boost(rest, beta)), beta, atol=1e-12)
    np.testing.assert_array_equal(kin.boost(p4, np.zeros(3)), p4)
