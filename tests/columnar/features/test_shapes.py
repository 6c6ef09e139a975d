"""Event shapes against independent ones: Pythia's own, scipy's Legendre, and every sign there is."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from scipy.special import eval_legendre

from hepdecorr.columnar import features

BELLE = (0.02, -0.01, 3 / 11)


def exhaustive_thrust(momenta):
    """The longest sum over all 2^(n-1) choices of signs: the definition turned round."""
    momenta = np.asarray(momenta, float)
    total = np.linalg.norm(momenta, axis=1).sum()
    if total == 0:
        return 0.0
    signs = np.array([(1, *s) for s in itertools.product((1, -1), repeat=len(momenta) - 1)])
    return np.linalg.norm(signs @ momenta, axis=1).max() / total


def fox_wolfram(momenta, order):
    size = np.linalg.norm(momenta, axis=1)
    cosine = np.clip(momenta @ momenta.T / np.outer(size, size), -1, 1)
    return (np.outer(size, size) * eval_legendre(order, cosine)).sum() / size.sum() ** 2


def pythia_event(momenta):
    pythia8mc = pytest.importorskip("pythia8mc")
    event = pythia8mc.Event()
    event.init("", pythia8mc.ParticleData())
    for x, y, z in momenta:
        event.append(22, 1, 0, 0, float(x), float(y), float(z), float(np.sqrt(x * x + y * y + z * z)), 0.0)
    return event


def test_thrust_and_sphericity_agree_with_pythia(made, forty, apart):
    pythia8mc = pytest.importorskip("pythia8mc")
    names = ["thrust_all", "thrust_o", "sphericity", "aplanarity", "sphericity_roe", "aplanarity_roe"]
    found = features.compute(names, made(forty, beta=BELLE))
    thrust, tensor = pythia8mc.Thrust(1), pythia8mc.Sphericity(2.0, 1)
    compared = 0
    for i, given in enumerate(forty):
        ours, others = apart(given)
        for momenta, (t, s, a) in (
            (np.concatenate([ours, others]), ("thrust_all", "sphericity", "aplanarity")),
            (others, ("thrust_o", "sphericity_roe", "aplanarity_roe")),
        ):
            if len(momenta) < 3:
                continue
            event = pythia_event(momenta[:, :3])
            assert thrust.analyze(event)
            assert tensor.analyze(event)
            assert found[t][i] == pytest.approx(thrust.thrust(), abs=2e-7)
            assert found[s][i] == pytest.approx(tensor.sphericity(), abs=2e-6)
            assert found[a][i] == pytest.approx(tensor.aplanarity(), abs=2e-6)
            compared += 1
    assert compared > 60


def test_thrust_axes_agree_with_pythia(made, forty, apart):
    pythia8mc = pytest.importorskip("pythia8mc")
    found = features.compute(["cos_tbto", "cos_tbz", "cos_toz"], made(forty, beta=BELLE))
    for i, given in enumerate(forty):
        ours, others = apart(given)
        if len(others) < 3:
            continue
        axes = []
        for momenta in (ours, others):
            thrust = pythia8mc.Thrust(1)
            assert thrust.analyze(pythia_event(momenta[:, :3]))
            axis = thrust.eventAxis(1)
            axes.append(np.array([axis.px(), axis.py(), axis.pz()]))
        assert found["cos_tbto"][i] == pytest.approx(abs(axes[0] @ axes[1]), abs=2e-6)
        assert found["cos_tbz"][i] == pytest.approx(abs(axes[0][2]), abs=2e-6)
        assert found["cos_toz"][i] == pytest.approx(abs(axes[1][2]), abs=2e-6)


def test_thrust_is_the_best_of_all_signs(made, generic, apart):
    given = [generic(i, tracks=2 + i % 5, photons=1 + i % 4) for i in range(25)]
    found = features.compute("thrusts", made(given, beta=BELLE))
    for i, event in enumerate(given):
        ours, others = apart(event)
        assert found["thrust_b"][i] == pytest.approx(exhaustive_thrust(ours[:, :3]), abs=1e-6)
        assert found["thrust_o"][i] == pytest.approx(exhaustive_thrust(others[:, :3]) if len(others) else 0)


@pytest.mark.parametrize("seed", range(8))
def test_thrust_is_exact_where_momenta_share_planes_and_lines(made, seed):
    """On a lattice nearly every plane holds more than two momenta: where pairs of signs are not enough."""
    rng = np.random.default_rng(seed)
    flat = (1, 1, 0) if seed % 2 else (1, 1, 1)
    # Turned, as a momentum along z has no pseudorapidity.
    turn = Rotation.from_euler("xyz", [0.3, 0.5, 0.7]).as_matrix()
    lattice = [rng.integers(-2, 3, size=(9, 3)) * flat @ turn for _ in range(30)]
    given = [{"tracks": momenta[:5], "photons": momenta[5:]} for momenta in lattice]
    found = features.compute("thrust_all", made(given))["thrust_all"]
    expected = [exhaustive_thrust(momenta) for momenta in lattice]
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_fox_wolfram_is_the_double_sum(made, forty, apart, order):
    found = features.compute([f"r{order}", f"r{order}_roe"], made(forty, beta=BELLE))
    for i, given in enumerate(forty):
        ours, others = apart(given)
        everything = np.concatenate([ours, others])[:, :3]
        assert found[f"r{order}"][i] == pytest.approx(fox_wolfram(everything, order), abs=1e-6)
        expected = fox_wolfram(others[:, :3], order) if len(others) else 0.0
        assert found[f"r{order}_roe"][i] == pytest.approx(expected, abs=1e-6)


def ksfw(ours, others, *, energy, sqrt_s):
    """The sums of the docstring, written as loops over scipy's polynomials."""
    largest = 2 * (sqrt_s - energy)
    missing = np.append(-(ours.sum(axis=0) + others.sum(axis=0))[:3], 0.0)
    out = {}
    for order in range(5):
        so = {"c": 0.0, "n": 0.0, "m": 0.0}
        for *p, q in ours:
            for kind, rows in (
                ("c", others[others[:, 3] != 0]),
                ("n", others[others[:, 3] == 0]),
                ("m", [missing]),
            ):
                for *pj, qj in rows:
                    cosine = np.dot(p, pj) / np.linalg.norm(p) / np.linalg.norm(pj)
                    sign = q * qj if order % 2 else 1.0
                    so[kind] += sign * np.linalg.norm(pj) * eval_legendre(order, cosine) / largest
        oo = 0.0
        for (*p, q), (*pj, qj) in itertools.combinations([*others, missing], 2):
            cosine = np.dot(p, pj) / np.linalg.norm(p) / np.linalg.norm(pj)
            sign = q * qj if order % 2 else 1.0
            weight = np.linalg.norm(p) * np.linalg.norm(pj)
            oo += sign * weight * eval_legendre(order, cosine) / largest**2
        out[f"ksfw_hso_c{order}"], out[f"ksfw_hoo_{order}"] = so["c"], oo
        if order % 2 == 0:
            out[f"ksfw_hso_n{order}"], out[f"ksfw_hso_m{order}"] = so["n"], so["m"]
    return out


def test_ksfw_is_the_sum_of_its_docstring(made, forty, apart):
    events = made(forty, beta=BELLE)
    names = ["ksfw", "delta_e_recomputed"]
    found = features.compute(names, events)
    assert len([n for n in found if n.startswith("ksfw_h")]) == 16
    for i, given in enumerate(forty):
        ours, others = apart(given)
        mass = np.array([0.493677, 0.13957039, 0.0])
        energy = np.sqrt((ours[:, :3] ** 2).sum(axis=1) + mass**2).sum()
        for name, value in ksfw(ours, others, energy=energy, sqrt_s=10.58).items():
            assert found[name][i] == pytest.approx(value, abs=2e-6), name
        momenta = np.concatenate([ours, others])[:, :3]
        assert found["ksfw_et"][i] == pytest.approx(np.hypot(momenta[:, 0], momenta[:, 1]).sum(), rel=1e-6)


def test_missing_mass_keeps_its_sign_when_too_much_was_seen(made, generic):
    event = generic(3, tracks=4, photons=3)
    seen = features.compute(["e_miss", "p_miss", "ksfw_mm2"], made([event], sqrt_s=1.0))
    assert seen["e_miss"][0] < 0
    assert seen["ksfw_mm2"][0] == pytest.approx(-(seen["e_miss"][0] ** 2) - seen["p_miss"][0] ** 2, rel=1e-5)


def test_cones_hold_each_momentum_once_at_its_angle(made, forty, apart):
    found = features.compute("cleo_cones", made(forty, beta=BELLE))
    flows = np.stack([found[f"cleo_{i}"] for i in range(1, 10)], axis=1)
    for i, given in enumerate(forty):
        ours, others = apart(given)
        sums = np.array([[1, 1, 1], [1, 1, -1], [1, -1, 1], [1, -1, -1]]) @ ours[:, :3]
        axis = max(sums, key=np.linalg.norm)
        size = np.linalg.norm(others[:, :3], axis=1)
        angle = np.degrees(np.arccos(np.abs(others[:, :3] @ axis) / size / np.linalg.norm(axis)))
        expected, _ = np.histogram(angle, np.arange(0, 91, 10), weights=size)
        np.testing.assert_allclose(flows[i], expected, atol=2e-6)


def test_two_back_to_back_particles_are_a_line(made):
    """The candidate at rest leaves the two others."""
    still = np.zeros((2, 3))
    event = {"tracks": [*still, (0.3, 1.0, -0.4), (-0.3, -1.0, 0.4)], "photons": np.zeros((1, 3))}
    found = features.compute(["thrusts", "fox_wolfram", "sphericities"], made([event]))
    for name, value in {
        "thrust_all": 1, "thrust_o": 1, "thrust_b": 0, "cos_tbto": 0, "sphericity": 0, "aplanarity": 0,
        "r1": 0, "r2": 1, "r3": 0, "r4": 1, "r2_roe": 1, "r4_roe": 1,
    }.items():  # fmt: skip
        assert found[name][0] == pytest.approx(value, abs=1e-6), name


def test_many_isotropic_particles_reach_the_limits(made):
    rng = np.random.default_rng(0)
    directions = rng.normal(size=(300, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    event = {"tracks": np.concatenate([directions, -directions]), "photons": np.zeros((1, 3))}
    names = ["thrust_all", "sphericity", "aplanarity", "r2", "r4"]
    found = features.compute(names, made([event]))
    assert found["thrust_all"][0] == pytest.approx(0.5, abs=0.04)
    assert found["sphericity"][0] == pytest.approx(1.0, abs=0.1)
    assert found["aplanarity"][0] == pytest.approx(0.5, abs=0.06)
    assert found["r2"][0] < 0.01
    assert found["r4"][0] < 0.01
