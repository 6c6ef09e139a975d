"""Distributions of whole samples: what makes the sample a test of sculpting."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import awkward as ak
import numpy as np
import pytest
from scipy.stats import kstest

from hepdecorr.samples import builtin_path
from hepdecorr.samples.bsgamma import kinematics as kin

SHARED = Path(__file__).parents[3] / "shared" / "data"


def chosen(events: ak.Array, collection: str, *, index: str, mass: float) -> np.ndarray:
    """In the CM frame, what an index branch points to, with a mass hypothesis."""
    counts = np.asarray(events[f"n{collection}"])
    rows = np.cumsum(counts) - counts + np.asarray(events[index])
    pt, eta, phi = (
        np.asarray(ak.flatten(events[f"{collection}_{name}"]), dtype=float)[rows]
        for name in ("pt", "eta", "phi")
    )
    return kin.to_cm(kin.four_vector(pt, eta, phi=phi, mass=np.full(len(rows), mass)))


def rebuilt(events: ak.Array) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return (
        chosen(events, "Track", index="Bcand_kIdx", mass=0.493677),
        chosen(events, "Track", index="Bcand_piIdx", mass=0.13957),
        chosen(events, "Photon", index="Bcand_gIdx", mass=0.0),
    )


def cos_theta_b(events: ak.Array) -> np.ndarray:
    b = sum(rebuilt(events))
    return np.asarray(b[:, 2] / kin.momentum(b))


def helicity(events: ak.Array) -> np.ndarray:
    kaon, pion, gamma = rebuilt(events)
    b, kstar = kaon + pion + gamma, kaon + pion
    kaon_b, kstar_b = (kin.boost(p4, -kin.velocity(b)) for p4 in (kaon, kstar))
    rest = kin.boost(kaon_b, -kin.velocity(kstar_b))
    scale = kin.momentum(rest) * kin.momentum(kstar_b)
    return np.asarray((rest[:, :3] * kstar_b[:, :3]).sum(axis=1) / scale)


def test_signal_peaks_at_the_b_mass(signal: ak.Array) -> None:
    mbc = np.asarray(signal.Bcand_mbc)[np.asarray(signal.Bcand_isMatched)]
    low, middle, high = np.percentile(mbc, [16, 50, 84])
    assert (high - low) / 2 == pytest.approx(3.3e-3, abs=2e-4)
    assert middle == pytest.approx(5.2794, abs=3e-4)
    counts, edges = np.histogram(mbc, np.arange(5.27, 5.2891, 1e-3))
    peak = np.polynomial.Polynomial.fit(edges[6:15] + 5e-4, counts[6:15], 2)
    assert -peak.convert().coef[1] / (2 * peak.convert().coef[2]) == pytest.approx(5.2795, abs=5e-4)
    assert np.asarray(signal.Bcand_isMatched).mean() > 0.7


def test_signal_delta_e_is_centred_with_a_tail_below(signal: ak.Array) -> None:
    delta_e = np.asarray(signal.Bcand_deltaE)[np.asarray(signal.Bcand_isMatched)]
    assert abs(np.median(delta_e)) < 0.025
    assert (delta_e < -0.2).mean() > 3 * (delta_e > 0.2).mean()


def test_continuum_falls_to_an_end_at_half_the_energy(continuum: ak.Array) -> None:
    mbc = np.asarray(continuum.Bcand_mbc, dtype=float)
    assert 5.2 <= mbc.min()
    assert mbc.max() < 5.29
    # The ARGUS shape x sqrt(1 - x^2) exp(c (1 - x^2)), ARGUS Collaboration, Phys. Lett. B 241 (1990) 278.
    x = np.linspace(5.2, 5.29, 2001) / 5.29
    fits = []
    for slope in np.linspace(-60, 20, 81):
        density = x * np.sqrt(np.maximum(1 - x**2, 0)) * np.exp(slope * (1 - x**2))
        cumulative = np.cumsum(density) / density.sum()
        fits.append(kstest(mbc, lambda m, c=cumulative: np.interp(m / 5.29, x, c)).statistic)
    assert min(fits) < 1.6 / np.sqrt(len(mbc))


def test_b_angle_tells_signal_from_continuum(signal: ak.Array, continuum: ak.Array) -> None:
    # <cos^2> is 1/5 for sin^2, 1/3 for a flat distribution; acceptance moves both a little.
    matched = signal[signal.Bcand_isMatched]
    assert (cos_theta_b(matched) ** 2).mean() == pytest.approx(0.2, abs=0.02)
    assert (cos_theta_b(continuum) ** 2).mean() > 0.26


def test_helicity_of_matched_signal_is_transverse(signal: ak.Array) -> None:
    cosine = helicity(signal[signal.Bcand_isMatched])
    assert (cosine**2).mean() == pytest.approx(0.2, abs=0.02)


@pytest.mark.parametrize("process", ["signal", "continuum"])
def test_candidate_branches_follow_from_their_tracks_and_photon(
    process: str, request: pytest.FixtureRequest
) -> None:
    events = request.getfixturevalue(process)
    kaon, pion, gamma = rebuilt(events)
    kpi = kaon + pion
    b = kpi + gamma
    expected = {
        "mKst": kin.invariant_mass(kpi),
        "EgStar": gamma[:, 3],
        "deltaE": b[:, 3] - 5.29,
        "pStar": kin.momentum(b),
        "mbc": np.sqrt(5.29**2 - kin.momentum(b) ** 2),
        "mass": kin.invariant_mass(b),
    }
    for name, values in expected.items():
        np.testing.assert_allclose(events[f"Bcand_{name}"], values, atol=2e-5, err_msg=name)
    lab = kin.four_vector(
        *(np.asarray(events[f"Bcand_{name}"], dtype=float) for name in ("pt", "eta")),
        phi=np.asarray(events.Bcand_phi, dtype=float),
        mass=np.asarray(events.Bcand_mass, dtype=float),
    )
    np.testing.assert_allclose(kin.to_cm(lab), b, atol=2e-5)
    corrected = kpi[:, :3] + gamma[:, :3] * ((5.29 - kpi[:, 3]) / gamma[:, 3])[:, None]
    mbc = np.sqrt(5.29**2 - (corrected**2).sum(axis=1))
    np.testing.assert_allclose(events.Bcand_mbcCorr, mbc, atol=2e-5)


@pytest.mark.parametrize("process", ["signal", "continuum"])
def test_flags_mark_the_three_particles_of_the_candidate(
    process: str, request: pytest.FixtureRequest
) -> None:
    events = request.getfixturevalue(process)
    assert (ak.sum(events.Track_fromCand, axis=1) == 2).to_numpy().all()
    assert (ak.sum(events.Photon_fromCand, axis=1) == 1).to_numpy().all()
    local = ak.local_index(events.Track_fromCand)
    is_chosen = (local == events.Bcand_kIdx) | (local == events.Bcand_piIdx)
    assert ak.all(is_chosen == events.Track_fromCand)
    assert ak.all((ak.local_index(events.Photon_fromCand) == events.Bcand_gIdx) == events.Photon_fromCand)
    charges = events.Track_charge[events.Track_fromCand]
    assert ak.all(ak.sum(charges, axis=1) == 0)


def test_truth(signal: ak.Array, continuum: ak.Array) -> None:
    assert set(signal.label.tolist()) == {1}
    assert set(continuum.label.tolist()) == {0}
    assert set(signal.genFlavour.tolist()) == {5}
    assert set(continuum.genFlavour.tolist()) == {1, 2, 3, 4}
    assert not ak.any(continuum.Bcand_isMatched)
    kaon = signal.Track_genPdgId[ak.local_index(signal.Track_genPdgId) == signal.Bcand_kIdx]
    mother = signal.Track_genMother[ak.local_index(signal.Track_genPdgId) == signal.Bcand_kIdx]
    true = (abs(kaon) == 321) & (abs(mother) == 9000313)
    assert ak.all(true[signal.Bcand_isMatched])


def distributions(events: ak.Array) -> dict[str, np.ndarray]:
    """One value an event, so that a Kolmogorov-Smirnov test applies."""
    flat = {
        name: np.asarray(events[name], dtype=float)
        for name in events.fields
        if name.startswith("Bcand_") or name in {"nTrack", "nPhoton", "genFlavour"}
    }
    for collection in ("Track", "Photon"):
        for name in ("pt", "eta", "phi"):
            first = ak.fill_none(ak.firsts(events[f"{collection}_{name}"]), -9)
            flat[f"first {collection}_{name}"] = np.asarray(first, dtype=float)
        flat[f"sum {collection}_pt"] = np.asarray(ak.sum(events[f"{collection}_pt"], axis=1), dtype=float)
    flat["kaons"] = np.asarray(ak.sum(abs(events.Track_pdgId) == 321, axis=1), dtype=float)
    flat["true kaons"] = np.asarray(ak.sum(abs(events.Track_genPdgId) == 321, axis=1), dtype=float)
    flat["photons of pi0"] = np.asarray(ak.sum(events.Photon_genMother == 111, axis=1), dtype=float)
    flat["helicity"], flat["cos theta_B"] = helicity(events), cos_theta_b(events)
    return flat


def assert_same_physics(one: ak.Array, other: ak.Array) -> None:
    first, second = distributions(one), distributions(other)
    values = {name: kstest(first[name], second[name]).pvalue for name in first}
    worst = min(values, key=lambda name: values[name])
    assert values[worst] > 1e-3 / len(values), (worst, values[worst])


@pytest.mark.parametrize("process", ["signal", "continuum"])
def test_the_shipped_sample_has_the_same_physics(
    process: str, request: pytest.FixtureRequest, load: Callable[[Path], ak.Array]
) -> None:
    assert_same_physics(request.getfixturevalue(process), load(builtin_path(f"bsgamma_{process}.root")))


@pytest.mark.parametrize("process", ["signal", "continuum"])
def test_an_earlier_sample_has_the_same_physics(
    process: str, request: pytest.FixtureRequest, load: Callable[[Path], ak.Array]
) -> None:
    path = SHARED / f"bsgamma_{process}_test.root"
    if not path.exists():
        pytest.skip(f"{path.name} of the first trials is not here; the shipped sample is compared above")
    events = load(path)[:20_000]
    assert_same_physics(request.getfixturevalue(process), events)


@pytest.mark.parametrize("wrong", ["Bcand_mbc", "Track_pt"])
def test_the_comparison_sees_a_shift(signal: ak.Array, wrong: str) -> None:
    moved = ak.with_field(signal, signal[wrong] * (1.002 if wrong == "Bcand_mbc" else 1.2), wrong)
    with pytest.raises(AssertionError):
        assert_same_physics(signal, moved)
