"""Candidate and rest of event against four-vectors of the `vector` package and plain counting."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import uproot
import vector

import hepdecorr
from hepdecorr.columnar import features

BELLE = (0.02, -0.01, 3 / 11)
SAMPLE = Path(hepdecorr.__file__).parent / "samples" / "data" / "bsgamma_continuum.root"


def four(momentum, mass):
    return vector.obj(px=momentum[0], py=momentum[1], pz=momentum[2], mass=mass)


def test_kinematics_of_the_candidate(made, forty):
    names = ["candidate", "m_bc_recomputed"]
    found = features.compute(names, made(forty, beta=BELLE))
    for i, given in enumerate(forty):
        k = four(given["tracks"][given["k"]], 0.493677)
        pi = four(given["tracks"][given["pi"]], 0.13957039)
        gamma = four(given["photons"][given["g"]], 0.0)
        kst, b = k + pi, k + pi + gamma
        expected = {
            "p_star_kst": kst.mag,
            "cos_kst_gamma": kst.to_3D().dot(gamma.to_3D()) / kst.mag / gamma.mag,
            "cos_theta_b": abs(b.pz) / b.mag,
            "delta_e_recomputed": b.E - 5.29,
            "m_bc_recomputed": np.sqrt(max(5.29**2 - b.mag**2, 0.0)),
        }
        kaon, back = k.boostCM_of_p4(kst).to_3D(), -b.boostCM_of_p4(kst).to_3D()
        expected["cos_hel"] = kaon.dot(back) / kaon.mag / back.mag
        for name, value in expected.items():
            assert found[name][i] == pytest.approx(value, abs=3e-6), name


def test_rest_of_event(made, forty, apart):
    found = features.compute("rest_of_event", made(forty, beta=BELLE))
    for i, given in enumerate(forty):
        keep = np.delete(np.arange(len(given["tracks"])), [given["k"], given["pi"]])
        photons = np.delete(given["photons"], given["g"], axis=0)
        total = four((0, 0, 0), 0.0)
        for j in keep:
            total += four(given["tracks"][j], given["mass"][j])
        for p in photons:
            total += four(p, 0.0)
        code = np.abs(given["pdgId"][keep])
        expected = {
            "n_tracks_roe": len(keep),
            "n_photons_roe": len(photons),
            "n_kaons_roe": (code == 321).sum(),
            "n_leptons_roe": np.isin(code, (11, 13)).sum(),
            "charge_roe": given["charge"][keep].sum(),
            "e_roe": total.E,
            "p_roe": total.mag,
            "m_roe": total.mass,
        }
        ours = np.concatenate([given["tracks"], given["photons"]]).sum(axis=0)
        expected["p_miss"] = np.linalg.norm(ours)
        expected["cos_miss"] = abs(ours[2]) / np.linalg.norm(ours)
        for name, value in expected.items():
            # one massless particle: its mass is the root of a rounding error
            assert found[name][i] == pytest.approx(value, abs=3e-6 if name != "m_roe" else 1e-4), name


def test_energies_add_up(made, forty):
    found = features.compute(["e_roe", "e_miss", "delta_e_recomputed"], made(forty, beta=BELLE, sqrt_s=10.58))
    total = found["e_roe"] + found["e_miss"] + found["delta_e_recomputed"] + 5.29
    np.testing.assert_allclose(total, 10.58, rtol=1e-5)


def test_identification_looks_at_the_candidates_own_tracks(made, generic):
    event = generic(1, tracks=4, photons=2) | {"k": 2, "pi": 0, "pdgId": np.array([-211, 211, 321, 13])}
    swapped = event | {"k": 0, "pi": 2}
    found = features.compute(["kaon_id", "pion_id"], made([event, swapped]))
    assert found["kaon_id"].tolist() == [1, 0]
    assert found["pion_id"].tolist() == [1, 0]


def test_event_with_nothing_but_the_candidate(made, generic):
    found = features.compute("bsgamma_all", made([generic(0, tracks=2, photons=1)], beta=BELLE))
    nothing = ["thrust_o", "cos_tbto", "cos_toz", "r1_roe", "r2_roe", "r3_roe", "r4_roe", "sphericity_roe"]
    nothing += ["aplanarity_roe", "e_roe", "p_roe", "m_roe", "n_tracks_roe", "n_photons_roe", "charge_roe"]
    nothing += [f"cleo_{i}" for i in range(1, 10)] + [f"ksfw_hso_{x}{i}" for x in "cn" for i in (0, 2, 4)]
    nothing += [f"ksfw_hoo_{i}" for i in range(5)]
    assert {name: float(found[name][0]) for name in nothing} == dict.fromkeys(nothing, 0.0)


def test_one_particle_beside_the_candidate_is_a_jet(made, generic):
    found = features.compute(["thrusts", "fox_wolfram"], made([generic(0, tracks=2, photons=2)], beta=BELLE))
    for name in ("thrust_o", "r1_roe", "r2_roe", "r3_roe", "r4_roe"):
        assert found[name][0] == pytest.approx(1.0)


def test_everything_at_rest_gives_numbers(made):
    event = {"tracks": np.zeros((3, 3)), "photons": np.zeros((2, 3))}
    found = features.compute("bsgamma_all", made([event]))
    for name in (
        "thrust_b",
        "thrust_o",
        "r2",
        "sphericity",
        "cos_theta_b",
        "cos_hel",
        "cos_miss",
        "cos_tbto",
    ):
        assert found[name][0] == 0.0, name


def test_recomputed_matches_stored_in_the_shipped_sample():
    names = ["m_bc", "m_bc_recomputed", "delta_e", "delta_e_recomputed"]
    with uproot.open(SAMPLE) as file:
        events = file["Events"].arrays(entry_stop=2000)
    found = features.compute(names, events)
    # The sample stores momenta with few digits, the candidate's own numbers are from before the rounding.
    np.testing.assert_allclose(found["m_bc_recomputed"], found["m_bc"], atol=1e-3)
    np.testing.assert_allclose(found["delta_e_recomputed"], found["delta_e"], atol=3e-3)
    assert np.median(np.abs(found["m_bc_recomputed"] - found["m_bc"])) < 1e-4
