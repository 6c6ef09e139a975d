"""Pairs of muons and of b jets, and what they recoil against, by the `vector` package and plain loops."""

from __future__ import annotations

from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import uproot
import vector
from coffea.nanoevents import NanoAODSchema, NanoEventsFactory

from hepdecorr.columnar import features
from hepdecorr.errors import InputError

EVENTS = 300
MUONS = ("has_mumu", "m_mumu", "pt_mumu", "y_mumu", "cos_theta_star", "deta_mumu", "dphi_mumu", "dr_mumu")
EVERY = (*features.GROUPS["dimuon"], *features.GROUPS["recoil_jets"], *features.GROUPS["bb_pair"], "met")


def collection(rng, counts, mass, **more):
    """Objects of random kinematics, as NanoAOD types them."""
    n = int(counts.sum())
    flat = {
        "pt": rng.exponential(30, n) + 5,
        "eta": rng.normal(0, 1.5, n),
        "phi": rng.uniform(-np.pi, np.pi, n),
        "mass": np.broadcast_to(mass, n),
        **{name: make(n) for name, make in more.items()},
    }
    flat = {k: v.astype(np.float32) if v.dtype == np.float64 else v for k, v in flat.items()}
    return ak.unflatten(ak.zip(flat), counts)


@pytest.fixture(scope="module")
def columns():
    """From nothing at all to events with five muons and seven jets."""
    rng = np.random.default_rng(11)
    return {
        "run": np.ones(EVENTS, np.uint32),
        "luminosityBlock": np.ones(EVENTS, np.uint32),
        "event": np.arange(EVENTS, dtype=np.uint64),
        "genWeight": np.ones(EVENTS, np.float32),
        "PuppiMET_pt": rng.exponential(40, EVENTS).astype(np.float32),
        "PuppiMET_phi": rng.uniform(-np.pi, np.pi, EVENTS).astype(np.float32),
        "Muon": collection(
            rng,
            np.append([0, 1], rng.integers(0, 6, EVENTS - 2)),
            0.1056584,
            charge=lambda n: rng.choice([-1, 1], n).astype(np.int32),
            pfRelIso04_all=lambda n: rng.exponential(1.0, n),
            mediumId=lambda n: rng.random(n) < 0.8,
        ),
        "Jet": collection(
            rng,
            np.append([0, 1, 2], rng.integers(0, 8, EVENTS - 3)),
            8.0,
            btagged=lambda n: rng.random(n) < 0.4,
            hadronFlavour=lambda n: rng.choice([0, 4, 5], n).astype(np.uint8),
        ),
    }


@pytest.fixture(scope="module")
def stored(columns, tmp_path_factory):
    """The same as a file in the layout of NanoAOD."""
    path = tmp_path_factory.mktemp("nano") / "nano.root"
    with uproot.recreate(path) as file:
        tree = file.mktree(
            "Events", {k: v.type.content if isinstance(v, ak.Array) else v.dtype for k, v in columns.items()}
        )
        tree.extend(columns)
    return path


@pytest.fixture(scope="module")
def events(columns):
    return ak.zip(columns, depth_limit=1)


@pytest.fixture(scope="module")
def found(events):
    return features.compute(EVERY, events)


def four(one):
    return vector.obj(**{k: float(one[k]) for k in ("pt", "eta", "phi", "mass")})


def hardest(objects):
    return sorted(objects, key=lambda one: -one["pt"])


def pair_of(event):
    """The hardest negative and the hardest positive muon, or None."""
    good = [m for m in event["Muon"] if m["pt"] > 10 and abs(m["eta"]) < 2.4]
    both = [hardest([m for m in good if m["charge"] * sign > 0]) for sign in (-1, 1)]
    return (both[0][0], both[1][0]) if all(both) else None


def collins_soper(one, other):
    """By its definition: the axis bisects one beam and the reverse of the other in the rest frame."""
    total = one + other
    beams = [vector.obj(px=0, py=0, pz=sign * 6500, E=6500).boostCM_of_p4(total) for sign in (1, -1)]
    axis = beams[0].to_3D().unit() - beams[1].to_3D().unit()
    muon = one.boostCM_of_p4(total).to_3D()
    return abs(muon.dot(axis)) / muon.mag / axis.mag


def test_muons(events, found):
    pairs = 0
    for i, event in enumerate(events.to_list()):
        muons = pair_of(event)
        values = {name: float(found[name][i]) for name in features.GROUPS["dimuon"]}
        if muons is None:
            assert values == dict.fromkeys(values, 0.0)
            continue
        pairs += 1
        one, other = map(four, muons)
        total = one + other
        high, low = max(one.pt, other.pt), min(one.pt, other.pt)
        expected = {
            "has_mumu": 1,
            "m_mumu": total.mass,
            "pt_mumu": total.pt,
            "pt_mumu_over_m": total.pt / total.mass,
            "y_mumu": abs(total.rapidity),
            "deta_mumu": abs(one.deltaeta(other)),
            "dphi_mumu": abs(one.deltaphi(other)),
            "dr_mumu": one.deltaR(other),
            "pt_mu1": high,
            "pt_mu2": low,
            "pt_mu1_over_m": high / total.mass,
            "pt_mu2_over_m": low / total.mass,
            "iso_mumu": max(m["pfRelIso04_all"] for m in muons),
            "medium_mumu": int(all(m["mediumId"] for m in muons)),
        }
        for name, value in expected.items():
            assert values[name] == pytest.approx(value, rel=2e-5, abs=2e-5), name
        assert values["cos_theta_star"] == pytest.approx(collins_soper(one, other), abs=2e-3)
    assert 60 < pairs < EVENTS - 60


@pytest.mark.parametrize("pt", [0.0, 15.0, 40.0])
def test_collins_soper_knows_no_boost_along_the_beam(pt):
    """Without transverse momentum it is the polar angle in the rest frame."""
    rng = np.random.default_rng(5)
    for cos, phi in zip(rng.uniform(-0.6, 0.6, 20), rng.uniform(-3, 3, 20), strict=True):
        sin = np.sqrt(1 - cos**2)
        rest = vector.obj(px=50 * sin * np.cos(phi), py=50 * sin * np.sin(phi), pz=50 * cos, mass=0.1056584)
        back = vector.obj(px=-rest.px, py=-rest.py, pz=-rest.pz, mass=0.1056584)
        carrier = vector.obj(pt=pt, phi=0.3, eta=0.0, mass=2 * rest.E)
        pairs = [[m.boost_p4(carrier).boostZ(beta) for m in (rest, back)] for beta in (0.0, 0.2)]
        listed = [
            [{k: getattr(m, k) for k in ("pt", "eta", "phi", "mass")} | {"charge": q} for m, q in both]
            for both in (zip(pair, (-1, 1), strict=True) for pair in pairs)
        ]
        made = ak.Array([{"Muon": muons} for muons in listed])
        assert features.compute("has_mumu", made)["has_mumu"].all()
        at_rest, moving = features.compute("cos_theta_star", made)["cos_theta_star"]
        assert at_rest == pytest.approx(moving, abs=1e-5)
        assert at_rest == pytest.approx(collins_soper(*pairs[1]), abs=1e-5)
        if pt == 0:
            assert at_rest == pytest.approx(abs(cos), abs=1e-5)


def test_jets_off_the_muons(events, found):
    near = 0
    for i, event in enumerate(events.to_list()):
        muons = [four(m) for m in pair_of(event) or ()]
        above = [j for j in event["Jet"] if j["pt"] > 25 and abs(j["eta"]) < 4.7]
        jets = hardest([j for j in above if all(four(j).deltaR(m) > 0.4 for m in muons)])
        near += len(above) - len(jets)
        two = [four(j) for j in jets[:2]]
        expected = {
            "n_jets": len(jets),
            "pt_jet1": jets[0]["pt"] if jets else 0,
            "eta_jet1": abs(jets[0]["eta"]) if jets else 0,
            "m_jj": (two[0] + two[1]).mass if len(two) == 2 else 0,
            "deta_jj": abs(two[0].deltaeta(two[1])) if len(two) == 2 else 0,
        }
        for name, value in expected.items():
            assert found[name][i] == pytest.approx(value, rel=1e-5, abs=1e-5), name
    assert near > 5


def test_b_jets(events, found):
    pairs = 0
    for i, event in enumerate(events.to_list()):
        tagged = hardest([j for j in event["Jet"] if j["btagged"]])
        assert found["n_btags"][i] == len(tagged)
        expected = dict.fromkeys(("m_bb", "pt_b1", "pt_b2", "dr_bb", "deta_bb", "dphi_met_bb"), 0.0)
        if len(tagged) >= 2:
            pairs += 1
            one, other = map(four, tagged[:2])
            met = vector.obj(pt=1.0, phi=event["PuppiMET_phi"])
            total = one + other
            expected = {
                "m_bb": total.mass,
                "pt_b1": one.pt,
                "pt_b2": other.pt,
                "dr_bb": one.deltaR(other),
                "deta_bb": abs(one.deltaeta(other)),
                "dphi_met_bb": abs(vector.obj(pt=1.0, phi=total.phi).deltaphi(met)),
            }
        for name, value in expected.items():
            assert found[name][i] == pytest.approx(value, rel=2e-5, abs=2e-5), name
    assert 60 < pairs < EVENTS - 60


@pytest.mark.parametrize("mode", ["virtual", "eager"])
def test_files_of_nanoaod_give_the_same(stored, found, mode, monkeypatch):
    monkeypatch.setattr(NanoAODSchema, "warn_missing_crossrefs", False)
    nano = NanoEventsFactory.from_root({str(stored): "Events"}, schemaclass=NanoAODSchema, mode=mode).events()
    rows = np.arange(EVENTS) % 3 == 1
    for chosen, events in ((slice(None), nano), (rows, nano[rows]), (slice(0, 0), nano[:0])):
        for name, values in features.compute(EVERY, events).items():
            np.testing.assert_array_equal(values, found[name][chosen], err_msg=name)


def test_missing_momentum_by_what_the_file_has(events):
    other = {name: events[name] for name in events.fields if not name.startswith("PuppiMET")}
    with pytest.raises(InputError, match=r"feature 'met': no branch 'PuppiMET.pt'"):
        features.compute("met", ak.zip(other, depth_limit=1))
    both = other | {"PFMET_pt": np.full(EVENTS, 1.0), "MET_pt": np.full(EVENTS, 2.0)}
    assert set(features.compute("met", ak.zip(both, depth_limit=1))["met"]) == {2.0}


def test_the_muons_in_gev_give_the_mass_and_their_ratios_alone_do_not():
    """Twice the momenta, twice the mass: what is dimensionless stays."""
    assert not set(features.HMUMU) & {"m_mumu"}
    assert not set(features.HBB) & {"m_bb"}
    listed = [
        {"pt": 60.0, "eta": 0.3, "phi": 0.0, "charge": 1},
        {"pt": 40.0, "eta": -1, "phi": 2.8, "charge": -1},
    ]
    scaled = [[one | {"pt": f * one["pt"], "mass": f * 0.1} for one in listed] for f in (1.0, 2.0)]
    made = ak.Array([{"Muon": both} for both in scaled])
    names = [n for n in features.expand("hmumu_ratios") if n in features.GROUPS["dimuon"]]
    for name, (one, other) in features.compute(names, made).items():
        assert one == pytest.approx(other, rel=1e-5), name
    one, other = features.compute("m_mumu", made)["m_mumu"]
    assert other == pytest.approx(2 * one, rel=1e-5)


def test_the_real_file_of_cms():
    path = Path(__file__).parents[4] / "shared" / "data" / "nano_tt_v15.root"
    if not path.is_file():
        pytest.skip("../shared/data/nano_tt_v15.root is not there; the made file above stands for it")
    with uproot.open(path) as file:
        events = file["Events"].arrays(filter_name=["Muon_*", "Jet_*", "PuppiMET_*", "nMuon", "nJet"])
    found = features.compute([*features.HMUMU, *features.HMUMU_RATIOS, *MUONS], events)
    for i, event in enumerate(events.to_list()):
        muons = [
            dict(zip(("pt", "eta", "phi", "mass", "charge"), one, strict=True))
            for one in zip(*(event[f"Muon_{k}"] for k in ("pt", "eta", "phi", "mass", "charge")), strict=True)
        ]
        pair = pair_of({"Muon": muons})
        assert found["has_mumu"][i] == (pair is not None)
        if pair:
            assert found["m_mumu"][i] == pytest.approx((four(pair[0]) + four(pair[1])).mass, rel=1e-4)
    assert found["n_jets"].mean() > 4  # t tbar
