"""Features of jets against closed forms, brute force, and what must not change them."""

from __future__ import annotations

import itertools
from pathlib import Path

import awkward as ak
import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from scipy.special import eval_legendre

from hepdecorr.catalogue import load_file
from hepdecorr.columnar import features
from hepdecorr.errors import InputError

making = load_file(Path(__file__).with_name("making_rows.py"))

pytest.importorskip("fastjet")

OF_JETS = "jets_all"
ACROSS = ("planar_flow", "angularity", "jet_r2", "jet_aplanarity", "jet_sphericity")
SIZES = (1, 2, 3, 4, 7, 12, 30)


@pytest.fixture(scope="module")
def several():
    """Jets of many sizes, some over phi = pi."""
    return [making.generic(i, n) for i, n in enumerate(SIZES)]


def one(jet, *names):
    found = features.compute(list(names), making.rows([jet]))
    return [float(found[name][0]) for name in names]


def triples(jet):
    """e2, e3, 2e3 by their definitions."""
    momenta = making.cartesian(jet)
    x, y, z, e = momenta.T
    rapidity, phi, pt = 0.5 * np.log((e + z) / (e - z)), np.arctan2(y, x), np.hypot(x, y)
    share = pt / pt.sum()

    def theta(i, j):
        return np.hypot(rapidity[i] - rapidity[j], abs((phi[i] - phi[j] + np.pi) % (2 * np.pi) - np.pi))

    e2 = sum(share[i] * share[j] * theta(i, j) for i, j in itertools.combinations(range(len(pt)), 2))
    e3 = two_e3 = 0.0
    for i, j, k in itertools.combinations(range(len(pt)), 3):
        angles = sorted([theta(i, j), theta(i, k), theta(j, k)])
        weight = share[i] * share[j] * share[k]
        e3 += weight * np.prod(angles)
        two_e3 += weight * angles[0] * angles[1]
    return e2, e3, two_e3


def test_correlators_are_their_definitions(several) -> None:
    found = features.compute(["c2", "d2", "n2"], making.rows(several))
    for i, jet in enumerate(several):
        e2, e3, two_e3 = triples(jet)
        expected = [e3 / e2**2, e3 / e2**3, two_e3 / e2**2] if len(jet) > 2 else [0, 0, 0]
        assert [found[n][i] for n in ("c2", "d2", "n2")] == pytest.approx(expected, rel=1e-6)


def test_three_equal_prongs_have_known_correlators() -> None:
    theta = 0.3
    corners = theta / np.sqrt(3) * np.exp(2j * np.pi * np.arange(3) / 3)
    jet = [[100, 0.4 + c.real, 1.0 + c.imag, 0] for c in corners]
    # e2 = theta / 3, e3 = theta^3 / 27, 2e3 = theta^2 / 27
    assert one(jet, "c2", "d2", "n2") == pytest.approx([theta / 3, 1, 1 / 3], rel=1e-6)


def test_two_prongs_have_closed_forms() -> None:
    pt, eta, phi = np.array([300.0, 120.0]), np.array([0.1, 0.5]), np.array([3.1, -3.0])
    jet = np.column_stack([pt, eta, phi, [0, 0]])
    dphi = 2 * np.pi - 6.1
    distance = np.hypot(0.4, dphi)
    mass = np.sqrt(2 * pt[0] * pt[1] * (np.cosh(0.4) - np.cos(dphi)))
    d12 = (120 * distance) ** 2
    names = ["split12", "zcut12", "kt_dr", "jet_mass", "tau2", "tau21", "c2", "d2", "n2", *ACROSS]
    found = dict(zip(names, one(jet, *names), strict=True))
    assert found["kt_dr"] == pytest.approx(distance, rel=1e-6)
    assert found["split12"] == pytest.approx(120 * distance, rel=1e-6)
    assert found["jet_mass"] == pytest.approx(mass, rel=1e-6)
    assert found["zcut12"] == pytest.approx(d12 / (d12 + mass**2), rel=1e-6)
    assert found["jet_r2"] == pytest.approx(1, abs=1e-6)
    for name in ("tau2", "tau21", "c2", "d2", "n2", "planar_flow", "jet_aplanarity", "jet_sphericity"):
        assert found[name] == pytest.approx(0, abs=1e-6)
    p = making.cartesian(jet)
    axis = p[:, :3].sum(axis=0) / np.linalg.norm(p[:, :3].sum(axis=0))
    angle = np.arccos(p[:, :3] @ axis / np.linalg.norm(p[:, :3], axis=1))
    expected = (p[:, 3] * np.sin(angle) ** -2 * (1 - np.cos(angle)) ** 3).sum() / mass
    assert found["angularity"] == pytest.approx(expected, rel=1e-5)


def around(axis, offsets, *, energy=50.0):
    """Massless momenta along the axis plus (a, b) across it."""
    turn = Rotation.align_vectors([axis], [[0, 0, 1]])[0]
    p = turn.apply(np.column_stack([offsets, np.ones(len(offsets))]))
    p *= energy / np.linalg.norm(p, axis=1)[:, np.newaxis]
    return making.polar(np.column_stack([p, np.full(len(p), energy)]))


@pytest.mark.parametrize("axis", [[1, 0, 0], [0, -1, 0.0], [0.3, 0.5, -2], [-1, 0.2, 0.4]])
def test_planar_flow_is_one_when_round_and_nothing_in_a_line(axis) -> None:
    angles = 2 * np.pi * np.arange(7) / 7
    ring = 0.2 * np.column_stack([np.cos(angles), np.sin(angles)])
    assert one(around(axis, ring), "planar_flow") == pytest.approx([1], rel=1e-6)
    line = np.outer([-0.3, -0.1, 0.05, 0.35], [0.6, 0.8])
    assert one(around(axis, line), "planar_flow") == pytest.approx([0], abs=1e-6)
    # unequal axes of an ellipse: 4 ab / (a + b)^2 with the squared momenta across
    cross = np.array([[0.3, 0], [-0.3, 0], [0, 0.1], [0, -0.1]])
    a, b = 0.09 / 1.09, 0.01 / 1.01
    assert one(around(axis, cross), "planar_flow") == pytest.approx([4 * a * b / (a + b) ** 2], rel=1e-5)


@pytest.mark.parametrize("velocity", [[0.9, 0.2, 0.1], [0.1, -0.6, 0.7]])
def test_rest_frame_shapes_of_regular_bodies(velocity) -> None:
    directions = np.concatenate([np.eye(3), -np.eye(3)])
    names = ("jet_r2", "jet_sphericity", "jet_aplanarity")
    for chosen, expected in ((directions, (0, 1, 0.5)), (directions[[0, 1, 3, 4]], (0.25, 0.75, 0))):
        still = np.column_stack([40 * chosen, np.full(len(chosen), 40.0)])
        jet = making.polar(making.boosted(still, velocity))
        assert one(jet, *names) == pytest.approx(expected, abs=1e-6)


def test_shapes_are_their_definitions(several) -> None:
    found = features.compute(list(ACROSS), making.rows(several))
    for i, jet in enumerate(several[2:], 2):
        p, total = making.cartesian(jet), making.cartesian(jet).sum(axis=0)
        mass = np.sqrt(total[3] ** 2 - total[:3] @ total[:3])
        axis = total[:3] / np.linalg.norm(total[:3])
        across = p[:, :3] - np.outer(p[:, :3] @ axis, axis)
        # of the three-dimensional tensor one eigenvalue belongs to the axis and is 0
        _, one_, two = np.linalg.eigvalsh((across.T / p[:, 3]) @ across)
        angle = np.arccos(p[:, :3] @ axis / np.linalg.norm(p[:, :3], axis=1))
        angular = (p[:, 3] * np.sin(angle) ** -2 * (1 - np.cos(angle)) ** 3).sum() / mass
        still = making.boosted(p, -total[:3] / total[3])[:, :3]
        size = np.linalg.norm(still, axis=1)
        r2 = (np.outer(size, size) * eval_legendre(2, still @ still.T / np.outer(size, size))).sum()
        low, middle, _ = np.linalg.eigvalsh(still.T @ still) / (size**2).sum()
        expected = [4 * one_ * two / (one_ + two) ** 2, angular, r2 / size.sum() ** 2, 1.5 * low]
        expected.append(1.5 * (low + middle))
        assert [found[n][i] for n in ACROSS] == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_shapes_follow_the_jet_when_it_turns(several) -> None:
    turn = Rotation.from_rotvec([0.4, -0.3, 0.8]).as_matrix()
    turned = []
    for jet in several:
        momenta = making.cartesian(jet)
        turned.append(making.polar(np.column_stack([momenta[:, :3] @ turn.T, momenta[:, 3]])))
    before = features.compute(list(ACROSS), making.rows(several))
    after = features.compute(list(ACROSS), making.rows(turned))
    for name in ACROSS:
        assert after[name] == pytest.approx(before[name], rel=1e-4, abs=1e-6), name


def test_moving_along_the_beam_changes_no_longitudinally_invariant_feature(several) -> None:
    massless = [np.column_stack([jet[:, :3], np.zeros(len(jet))]) for jet in several]
    moved = [np.column_stack([j[:, 0], j[:, 1] - 1.1, (j[:, 2] + 2.5 + np.pi) % (2 * np.pi) - np.pi, j[:, 3]])
             for j in massless]  # fmt: skip
    # the one-pass minimisation of the axes stops at a tolerance, and so have tau_N another
    loose = {"tau1", "tau2", "tau3", "tau4", "tau21", "tau32", "tau43"}
    names = ["c2", "d2", "n2", "split12", "zcut12", "kt_dr", "softdrop_mass", *sorted(loose)]
    before, after = (features.compute(names, making.rows(jets)) for jets in (massless, moved))
    for name in names:
        assert after[name] == pytest.approx(before[name], rel=2e-2 if name in loose else 1e-4, abs=2e-4), name


def test_order_of_the_constituents_does_not_matter(several) -> None:
    rng = np.random.default_rng(5)
    before = features.compute(OF_JETS, making.rows(several))
    after = features.compute(OF_JETS, making.rows([rng.permutation(jet) for jet in several]))
    for name in before:
        assert after[name] == pytest.approx(before[name], rel=1e-4, abs=1e-5), name


def test_degenerate_jets_have_the_documented_values() -> None:
    along = [[50, 0.2, 1.0, 0], [30, 0.2, 1.0, 0], [20, 0.2, 1.0, 0]]
    pions = [[50, 0.2, 1.0, making.PION], [50, 0.2, 1.0, making.PION], [50, 0.2, 1.0, making.PION]]
    jets = [
        np.empty((0, 4)),
        [[100, 0.3, 2.0, 5.0]],
        [[100, 0.3, 2.0, 0]],
        along,
        pions,
        making.generic(1, 9),
    ]
    found = features.compute(OF_JETS, making.rows(jets))
    for name, values in found.items():
        assert np.isfinite(values).all(), name
    assert found["n_constituents"].tolist() == [0, 1, 1, 3, 3, 9]
    shapes = {*features.GROUPS["jet_correlators"], *features.GROUPS["jet_prongs"], *ACROSS}
    for name in sorted(shapes | {"split12", "kt_dr", "zcut12"}):
        assert found[name][:5] == pytest.approx(0, abs=1e-6), name
        assert found[name][5] > 0, name
    assert found["softdrop_mass"][:3] == pytest.approx([0, 5, 0], abs=1e-3)
    # below 1 MeV a mass counts as 1 MeV
    assert found["rho"][2] == pytest.approx(2 * np.log(1e-3 / 100), rel=1e-6)
    assert found["rho_ddt"][2] == pytest.approx(np.log(1e-6 / 100), rel=1e-6)


def test_rho_is_that_of_the_stored_jet() -> None:
    rows = making.rows([making.generic(1, 5)] * 2, mass=[80.4, 20.0], pt=[500.0, 800.0])
    found = features.compute(["rho", "rho_ddt"], rows)
    assert found["rho"] == pytest.approx(np.log([80.4**2 / 500**2, 20**2 / 800**2]), rel=1e-6)
    assert found["rho_ddt"] == pytest.approx(np.log([80.4**2 / 500, 20**2 / 800]), rel=1e-6)


def test_no_jet_at_all_gives_empty_columns(several) -> None:
    rows = making.rows(several)[:0]
    found = features.compute(OF_JETS, rows)
    assert {values.shape for values in found.values()} == {(0,)}


def test_a_selection_of_rows_has_its_own_values(several) -> None:
    rows = making.rows(several)
    everything = features.compute(OF_JETS, rows)
    some = features.compute(OF_JETS, rows[[True, False, True, True, False, False, True]])
    for name, values in some.items():
        assert values == pytest.approx(everything[name][[0, 2, 3, 6]], rel=1e-6), name


def test_every_feature_says_what_it_is() -> None:
    for name in features.GROUPS[OF_JETS]:
        assert features.describe(name).title != name
        assert len(features.FEATURES[name].__doc__) > 20
    assert len(features.GROUPS["jets_atlas"]) == 10
    assert set(features.GROUPS["jets_atlas"]) <= set(features.FEATURES)


def test_events_are_not_taken_for_jets() -> None:
    events = ak.Array({"FatJet": [[{"pt": 500.0, "tau1": 0.1, "tau2": 0.1}]]})
    for name in ("tau21", "jet_pt", "jet_mass"):
        with pytest.raises(InputError, match=rf"feature '{name}'.*objects: \{{collection: FatJet\}}"):
            features.compute(name, events)
