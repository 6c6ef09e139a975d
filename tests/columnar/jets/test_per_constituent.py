"""What networks see of a constituent, against scikit-hep's vector and numpy's linear algebra."""

from __future__ import annotations

import awkward as ak
import numpy as np
import pytest
import vector
from hypothesis import given, settings
from hypothesis import strategies as st

from hepdecorr.columnar import constituents, features, objects
from hepdecorr.columnar.features import per_constituent
from hepdecorr.columnar.features.per_constituent import (
    CONSTITUENT_FEATURES,
    CONSTITUENT_GROUPS,
    describe_constituent,
    expand_constituents,
    prepare,
)
from hepdecorr.errors import InputError

SPEC = {"collection": "FatJet"}
REST = ["rest_e", "rest_px", "rest_py", "rest_pz"]


@pytest.fixture(scope="module")
def rows(jets, made):
    return objects.rows(jets.in_memory(made), SPEC)


def four_vectors(rows):
    """Constituents and, repeated for each, their jet."""
    found = constituents.of(rows)
    count = np.diff(found.start)
    own = vector.array({"pt": found.pt, "eta": found.eta, "phi": found.phi, "mass": found.mass})
    jet = {f: np.repeat(constituents.jet(rows, f), count) for f in ("pt", "eta", "phi", "mass")}
    return found, own, vector.array(jet)


def reference(rows):
    """Every feature by vector's formulas, flat."""
    found, own, jet = four_vectors(rows)
    pdg = np.abs(found.pdg)
    kinds = {"is_electron": [11], "is_muon": [13], "is_photon": [22, 2]}
    kinds |= {"is_charged_hadron": [211], "is_neutral_hadron": [130, 1]}
    return {
        "pt": own.pt,
        "log_pt": np.log(own.pt),
        "pt_rel": own.pt / jet.pt,
        "log_pt_rel": np.log(own.pt / jet.pt),
        "e": own.E,
        "log_e": np.log(own.E),
        "log_e_rel": np.log(own.E / jet.E),
        "eta": own.eta,
        "phi": own.phi,
        "deta": own.eta - jet.eta,
        "dphi": own.deltaphi(jet),
        "dr": own.deltaR(jet),
        "mass": own.mass,
        "charge": np.where(
            np.isin(found.pdg, [211, -11, -13]), 1, np.where(np.isin(found.pdg, [-211, 11]), -1, 0)
        ),
        **{name: np.isin(pdg, ids) for name, ids in kinds.items()},
    }


def test_features_are_those_of_vector(rows):
    expected = reference(rows)
    assert set(expected) == set(CONSTITUENT_FEATURES) - {*REST, "puppi_weight"}
    for name, values in expected.items():
        found = CONSTITUENT_FEATURES[name](rows)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, values, rtol=2e-6, atol=2e-6, err_msg=name)


@pytest.mark.parametrize("length", [1, 7, 50])
def test_the_hardest_are_padded_and_masked(rows, length):
    names = ["log_pt", "dphi", "branch:dz", "puppi_weight", "is_photon"]
    x, mask, dropped = prepare(rows, names, length=length)
    found = constituents.of(rows)
    count = np.diff(found.start)
    assert x.shape == (len(rows), length, len(names))
    assert x.dtype == np.float32
    assert mask.dtype == bool
    np.testing.assert_array_equal(mask.sum(axis=1), np.minimum(count, length))
    np.testing.assert_array_equal(mask, np.arange(length) < count[:, None])
    assert dropped == np.maximum(count - length, 0).sum()
    assert (x[~mask] == 0).all()
    flat = {"branch:dz": found.column("dz"), "puppi_weight": found.column("puppiWeight")}
    chosen = np.concatenate(
        [np.arange(s, s + min(n, length)) for s, n in zip(found.start[:-1], count, strict=True)]
    )
    for i, name in enumerate(names):
        values = flat[name] if name in flat else CONSTITUENT_FEATURES[name](rows)
        np.testing.assert_allclose(x[mask][:, i], values[chosen].astype(np.float32), err_msg=name)


def test_padding_to_the_longest_and_to_a_number(rows):
    most = int(np.diff(constituents.of(rows).start).max())
    full = prepare(rows, ["pt"], length=100)
    for pad_to, width in (("longest", most), (64, 64)):
        found = prepare(rows, ["pt"], length=100, pad_to=pad_to)
        assert found.x.shape[1] == width
        np.testing.assert_array_equal(found.x, full.x[:, :width])
    short = prepare(rows, ["pt"], length=3, pad_to="longest")
    assert short.x.shape[1] == 3
    with pytest.raises(InputError, match="pad_to 'most'"):
        prepare(rows, ["pt"], length=3, pad_to="most")
    with pytest.raises(InputError, match="length 0"):
        prepare(rows, ["pt"], length=0)


def test_batches_of_rows_are_parts_of_the_whole(rows):
    names = ["log_pt", "deta", "rest_pz", "branch:dz"]
    whole = prepare(rows, names, length=9)
    with features.shared(rows):
        parts = [prepare(rows, names, length=9, at=slice(i, i + 11)) for i in range(0, len(rows), 11)]
    np.testing.assert_array_equal(np.concatenate([p.x for p in parts]), whole.x)
    np.testing.assert_array_equal(np.concatenate([p.mask for p in parts]), whole.mask)
    assert sum(p.dropped for p in parts) == whole.dropped
    some = prepare(rows, names, length=9, at=np.array([4, 1]))
    np.testing.assert_array_equal(some.x, whole.x[[4, 1]])


def test_layouts_give_the_same_arrays(files, opened):
    names = [n for n in CONSTITUENT_FEATURES if n != "puppi_weight"]
    found = [prepare(objects.rows(opened(files[k]), SPEC), names, length=20) for k in ("pfnano", "v15")]
    np.testing.assert_array_equal(found[0].x, found[1].x)


def test_nothing_is_read_that_the_names_do_not_need(files, opened):
    log = []
    rows = objects.rows(opened(files["v15"], schema="BaseSchema", access_log=log), SPEC)
    prepare(rows, ["log_pt"], length=5)
    before = {a.branch for a in log}
    angles = {f"{name}_{field}" for name in ("FatJet", "PFCand") for field in ("eta", "phi")}
    links = {"FatJetPFCand_jetIdx", "FatJetPFCand_pfCandIdx"}
    assert before == {"nFatJet", "PFCand_pt", *links, *angles}
    log.clear()
    prepare(rows, ["log_pt_rel", "deta", "branch:dz"], length=5)
    assert {a.branch for a in log} - before == {"FatJet_pt", "PFCand_dz"}


def test_jets_without_constituents_and_no_jets(jets):
    rows = objects.rows(jets.by_hand([[{"pt": [], "eta": [], "phi": [], "jet": {"pt": 0.0}}], []]), SPEC)
    x, mask, dropped = prepare(rows, ["log_pt_rel", "log_e_rel", "rest_e"], length=4, pad_to="longest")
    assert x.shape == (1, 1, 3)
    assert not mask.any()
    assert not x.any()
    assert dropped == 0
    none = prepare(rows[:0], ["pt", "rest_e"], length=4, pad_to="longest")
    assert none.x.shape == (0, 1, 2)
    assert prepare(rows[:0], ["pt"], length=4).x.shape == (0, 4, 1)


def test_azimuths_wrap_and_logarithms_have_a_floor(jets):
    one = {
        "pt": [2.0, 1e-12],
        "eta": [0.0, 0.0],
        "phi": [3.1, -3.1],
        "jet": {"phi": -3.1, "pt": 1e3, "mass": -2.0},
    }
    rows = objects.rows(jets.by_hand([[one]]), SPEC)
    x = prepare(rows, ["dphi", "log_pt", "log_pt_rel", "log_e", "log_e_rel", "pt_rel"], length=2).x[0]
    assert x[:, 0] == pytest.approx([6.2 - 2 * np.pi, 0], abs=1e-6)
    floor = np.log(1e-8)
    assert x[:, 1] == pytest.approx([np.log(2), floor], rel=1e-6)
    assert x[:, 2] == pytest.approx([np.log(2e-3), floor], rel=1e-6)
    assert x[:, 3] == pytest.approx([np.log(2), floor], rel=1e-6)
    # a negative mass of the jet is none
    assert x[:, 4] == pytest.approx([np.log(2e-3), floor], rel=1e-6)
    assert x[:, 5] == pytest.approx([2e-3, 1e-15])


def test_pids_take_any_hadron(jets):
    ids = [321, -2212, 2112, 310, 1, 2, 22, -11, 13, 12]
    one = {"pt": np.arange(10.0, 0, -1), "eta": np.zeros(10), "phi": np.zeros(10), "pdgId": ids}
    rows = objects.rows(jets.by_hand([[one]]), SPEC)
    x = prepare(rows, "particle_id", length=10).x[0]
    columns = dict(zip(CONSTITUENT_GROUPS["particle_id"], x.T.tolist(), strict=True))
    assert columns["charge"] == [1, -1, 0, 0, 0, 0, 0, 1, -1, 0]
    assert columns["is_charged_hadron"] == [1, 1, 0, 0, 0, 0, 0, 0, 0, 0]
    assert columns["is_neutral_hadron"] == [0, 0, 1, 1, 1, 0, 0, 0, 0, 0]
    assert columns["is_photon"] == [0, 0, 0, 0, 0, 1, 1, 0, 0, 0]
    assert columns["is_electron"] == [0, 0, 0, 0, 0, 0, 0, 1, 0, 0]
    assert columns["is_muon"] == [0, 0, 0, 0, 0, 0, 0, 0, 1, 0]


# --- the rest frame ---


def made_jet(rng, n, *, pt=500.0):
    return {
        "pt": np.sort(rng.exponential(pt / n, n))[::-1] + 0.5,
        "eta": rng.normal(0.3, 0.2, n),
        "phi": rng.normal(2.9, 0.2, n),
        "mass": rng.choice([0.0, 0.1396], n),
    }


def at_rest(jets, *listed):
    """(E, x, y, z) at rest of listed jets, each of shape (n, 4), in float64; their axes are the sums."""
    sums = [polar(cartesian(one).sum(axis=0, keepdims=True)) for one in listed]
    own = [{**one, "jet": {k: v[0] for k, v in s.items()}} for one, s in zip(listed, sums, strict=True)]
    rows = objects.rows(jets.by_hand([own]), SPEC)
    found = constituents.of(rows)
    p = per_constituent._rest(rows).T
    return [p[a:b] for a, b in zip(found.start[:-1], found.start[1:], strict=True)]


def cartesian(jet):
    own = {"mass": np.zeros(len(jet["pt"])), **jet}
    v = vector.array({k: np.asarray(own[k], float) for k in ("pt", "eta", "phi", "mass")})
    return np.stack([v.E, v.px, v.py, v.pz], axis=1)


def polar(p):
    v = vector.array({"E": p[:, 0], "px": p[:, 1], "py": p[:, 2], "pz": p[:, 3]})
    return {"pt": v.pt, "eta": v.eta, "phi": v.phi, "mass": np.sqrt(np.maximum(v.mass2, 0))}


def products(p):
    return np.outer(p[:, 0], p[:, 0]) - p[:, 1:] @ p[:, 1:].T


@pytest.mark.parametrize("n", [2, 3, 30])
def test_the_rest_frame_is_a_lorentz_transformation_to_rest(jets, n):
    jet = made_jet(np.random.default_rng(n), n)
    lab, (rest,) = cartesian(jet), at_rest(jets, jet)
    # scalar products are what a boost and a rotation keep
    np.testing.assert_allclose(products(rest), products(lab), rtol=1e-6, atol=1e-9 * lab[:, 0].max() ** 2)
    np.testing.assert_allclose(rest[:, 1:].sum(axis=0), 0, atol=1e-9 * rest[:, 0].sum())
    total = lab.sum(axis=0)
    assert rest[:, 0].sum() == pytest.approx(np.sqrt(total[0] ** 2 - (total[1:] ** 2).sum()), rel=1e-9)
    # energies as vector boosts them
    own = vector.array({"E": lab[:, 0], "px": lab[:, 1], "py": lab[:, 2], "pz": lab[:, 3]})
    whole = vector.array({k: np.full(n, v) for k, v in zip(("E", "px", "py", "pz"), total, strict=True)})
    np.testing.assert_allclose(rest[:, 0], own.boostCM_of_p4(whole).E, rtol=1e-9)


def test_axes_are_the_eigenvectors_of_the_energy_weighted_tensor(jets):
    jet = made_jet(np.random.default_rng(5), 20)
    (rest,) = at_rest(jets, jet)
    e, n = rest[:, 0], rest[:, 1:] / np.linalg.norm(rest[:, 1:], axis=1)[:, None]
    tensor = np.einsum("i,ij,ik->jk", e, n, n) / e.sum()
    np.testing.assert_allclose(tensor - np.diag(np.diag(tensor)), 0, atol=1e-10)
    x, y, z = np.diag(tensor)
    assert z > x > y
    # numpy's own, from a frame that was boosted alone
    lab = cartesian(jet)
    total = lab.sum(axis=0)
    own = vector.array({"E": lab[:, 0], "px": lab[:, 1], "py": lab[:, 2], "pz": lab[:, 3]})
    boosted = own.boostCM_of_p4(
        vector.array({k: np.full(20, v) for k, v in zip(("E", "px", "py", "pz"), total, strict=True)})
    )
    m = np.stack([boosted.px, boosted.py, boosted.pz], axis=1) / boosted.mag[:, None]
    values, vectors = np.linalg.eigh(np.einsum("i,ij,ik->jk", boosted.E, m, m) / boosted.E.sum())
    np.testing.assert_allclose([y, x, z], values, rtol=1e-8)
    along = (m * boosted.mag[:, None]) @ vectors[:, 2]
    np.testing.assert_allclose(np.abs(rest[:, 3]), np.abs(along), rtol=1e-6, atol=1e-7)
    # the signs
    for axis in (0, 2):
        assert (e * n[:, axis] * np.abs(n[:, axis])).sum() > 0


@pytest.mark.parametrize("seed", range(4))
def test_neither_turning_nor_boosting_the_jet_changes_it(jets, seed):
    rng = np.random.default_rng(seed)
    jet = made_jet(rng, 12)
    lab = cartesian(jet)
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    turn *= np.linalg.det(turn)
    turned = lab.copy()
    turned[:, 1:] = lab[:, 1:] @ turn.T
    boosted = lab.copy()
    boosted[:, [0, 3]] = lab[:, [0, 3]] @ [[np.cosh(0.7), np.sinh(0.7)], [np.sinh(0.7), np.cosh(0.7)]]
    axis = lab[:, 1:].sum(axis=0)
    axis /= np.linalg.norm(axis)
    spun = lab.copy()  # about the jet's own axis, by 1 radian (Rodrigues)
    p = lab[:, 1:]
    spun[:, 1:] = p * np.cos(1) + np.cross(axis, p) * np.sin(1) + np.outer(p @ axis, axis) * (1 - np.cos(1))
    # the same order in all
    (expected,), scale = at_rest(jets, jet), lab[:, 0].max()

    def sorted_(p):
        return p[np.argsort(p[:, 0])]

    for changed in (polar(turned), polar(boosted), polar(spun)):
        (found,) = at_rest(jets, changed)
        np.testing.assert_allclose(sorted_(found), sorted_(expected), atol=1e-7 * scale)


def test_a_mirrored_jet_stays_mirrored(jets):
    jet = made_jet(np.random.default_rng(8), 15)
    one, other = at_rest(jets, jet, {**jet, "phi": -jet["phi"]})
    np.testing.assert_allclose(other, one * [1, 1, -1, 1], atol=1e-7)
    assert np.abs(one[:, 2]).max() > 0.1


def test_two_massless_prongs(jets):
    # back to back in the rest frame, each with half the mass: m^2 = 2 pt1 pt2 (cosh deta - cos dphi)
    jet = {"pt": [300.0, 200.0], "eta": [0.1, 0.4], "phi": [1.0, 1.2]}
    mass = np.sqrt(2 * 300 * 200 * (np.cosh(0.3) - np.cos(0.2)))
    (rest,) = at_rest(jets, jet)
    # nothing but the hardest tells one side from the other
    expected = np.array([[1, 0, 0, 1], [1, 0, 0, -1]]) * mass / 2
    np.testing.assert_allclose(rest, expected, atol=1e-7 * mass)


def test_three_prongs_lie_in_the_plane_of_x_and_z(jets):
    jet = {"pt": [300.0, 200.0, 100.0], "eta": [0.1, 0.4, -0.2], "phi": [1.0, 1.2, 1.4]}
    (rest,) = at_rest(jets, jet)
    np.testing.assert_allclose(rest[:, 2], 0, atol=1e-8 * rest[:, 0].sum())


def test_what_is_too_light_to_boost_is_counted(jets):
    photon = {"pt": [500.0], "eta": [1.0], "phi": [0.0]}
    two = {"pt": [500.0, 400.0], "eta": [1.0, 1.0], "phi": [0.0, 0.0]}
    pion = {**photon, "mass": [0.1396]}
    rows = objects.rows(jets.by_hand([[photon, two], [pion]]), SPEC)
    with features.shared(rows):
        x = prepare(rows, REST, length=2).x
        notes = constituents.notes(rows)
    assert np.isfinite(x).all()
    # gamma = 1e4 along the photon: E' = E (gamma - sqrt(gamma^2 - 1))
    assert x[0, 0, 0] == pytest.approx(500 * np.cosh(1) / 2e4, rel=1e-3)
    assert notes == {
        "jets boosted as if of mass 0.0001 E, being lighter": 2 + (0.1396 < 1e-4 * 500 * np.cosh(1))
    }
    heavy = objects.rows(jets.by_hand([[{**photon, "mass": [1.0]}]]), SPEC)
    np.testing.assert_allclose(prepare(heavy, REST, length=1).x[0, 0], [1, 0, 0, 0], atol=1e-4)


def test_the_frame_is_that_of_all_constituents(rows):
    long, short = (prepare(rows, REST, length=n) for n in (50, 2))
    np.testing.assert_array_equal(short.x, long.x[:, :2])
    sums = long.x.astype(float).sum(axis=1)
    np.testing.assert_allclose(sums[:, 1:], 0, atol=1e-4 * max(1, sums[:, 0].max()))


candidate = st.tuples(
    st.floats(1e-3, 1e3), st.floats(-5, 5), st.floats(-3.2, 3.2), st.sampled_from([0.0, 0.1396])
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.lists(candidate, max_size=5), max_size=2), max_size=3))
def test_everything_is_finite(jets, listed):
    columns = ("pt", "eta", "phi", "mass")
    events = [[{f: [c[i] for c in jet] for i, f in enumerate(columns)} for jet in event] for event in listed]
    names = [n for n in CONSTITUENT_FEATURES if n != "puppi_weight"]
    # candidates anywhere, jets at 0, 0
    rows = objects.rows(jets.by_hand(events), {**SPEC, "radius": 10.0})
    x, mask, dropped = prepare(rows, names, length=3)
    assert np.isfinite(x).all()
    assert mask.sum() + dropped == sum(len(jet) for event in listed for jet in event)


# --- names ---


def test_groups_patterns_and_descriptions():
    assert expand_constituents(["rest_*", "pt", "rest_e"]) == [*REST, "pt"]
    assert expand_constituents("kinematics") == list(CONSTITUENT_GROUPS["kinematics"])
    assert expand_constituents(["branch:d0"]) == ["branch:d0"]
    assert describe_constituent("pt").unit == describe_constituent("rest_e").unit == "GeV"
    assert describe_constituent("log_pt").unit == ""
    assert describe_constituent("branch:d0").title == "d0"
    for name, known in CONSTITUENT_FEATURES.items():
        assert describe_constituent(name).name == known.name == name
        assert known.title


@pytest.mark.parametrize("name", ["log_ptt", "tau21", "branch:", "nope_*"])
def test_an_unknown_name_gets_a_suggestion(rows, name):
    with pytest.raises(InputError, match="no constituent feature"):
        prepare(rows, [name], length=3)


def test_missing_and_undefined_branches_are_named(jets, made, rows):
    raw = objects.rows(jets.in_memory(made, layout="pfnano_raw"), SPEC)
    with pytest.raises(InputError, match=r"no branch 'PFCands\.puppiWeight'"):
        prepare(raw, ["puppi_weight"], length=3)
    with pytest.raises(InputError, match=r"no branch 'PFCands\.d0'; did you mean"):
        prepare(raw, ["branch:d0"], length=3)
    dz = ak.where(made["Cand"]["dz"] == 0, np.nan, made["Cand"]["dz"])
    undefined = objects.rows(jets.in_memory(made, PFCands_dz=dz), SPEC)
    with pytest.raises(InputError, match=r"'PFCands\.dz': nan for candidate \d+ in event \d+"):
        prepare(undefined, ["branch:dz"], length=3)
    huge = objects.rows(jets.in_memory(made, PFCands_dz=ak.values_astype(dz, float) * 0 + 1e300), SPEC)
    with pytest.raises(
        InputError, match=r"'branch:dz': values that are not finite in float32|'PFCands\.dz': nan"
    ):
        prepare(huge, ["branch:dz"], length=3)


def test_a_jet_without_pt_is_an_error(jets):
    one = {"pt": [1.0], "eta": [0.0], "phi": [0.0], "jet": {"pt": 0.0}}
    rows = objects.rows(jets.by_hand([[one]]), SPEC)
    with pytest.raises(InputError, match="jet in row 0 has pt 0"):
        prepare(rows, ["pt_rel"], length=3)
