"""Names, branches, users' functions, and what is said when they do not fit."""

from __future__ import annotations

import gc
import logging
import pickle
import subprocess
import sys
import threading
import weakref

import awkward as ak
import numpy as np
import pytest

from hepdecorr import compiled
from hepdecorr.columnar import features
from hepdecorr.columnar.features import particles
from hepdecorr.errors import InputError

USER = """
import awkward as ak
import numpy as np
from hepdecorr.columnar.features import feature

@feature(unit="GeV", title="hardest photon")
def hardest(events):
    return ak.max(events["Photon"]["pt"], axis=1, mask_identity=False)

def plain(events):
    return [1] * len(events)

def short(events):
    return np.ones(len(events) - 1)

def optional(events):
    return ak.firsts(events["Photon"]["pt"])

def masked(events):
    return np.ma.masked_array(np.ones(len(events)), mask=False)

def jagged(events):
    return events["Photon"]["pt"]

def square(events):
    return np.ones((len(events), 2))

def words(events):
    return ["a"] * len(events)

def nothing(events):
    pass

def number(events):
    return 1.0

def broken(events):
    return events["Track"]["missing_branch"]

def attribute(events):
    return events.Track.missing_branch

def infinite(events):
    return np.full(len(events), np.nan)

def large(events):
    return np.full(len(events), 1e300)

rho = 3
"""


@pytest.fixture
def events(made, forty):
    return made(forty, beta=(0.0, 0.0, 3 / 11))


@pytest.fixture
def user(tmp_path):
    (tmp_path / "my_features.py").write_text(USER)
    return tmp_path


def flat(events):
    """As uproot gives it: no collections."""
    columns = {
        f"{c}_{f}": events[c][f] for c in ("Track", "Photon", "Bcand", "Beam") for f in events[c].fields
    }
    return ak.zip({"run": events["run"], **columns}, depth_limit=1)


def test_the_set_of_the_analysis(events):
    found = features.compute("bsgamma", events)
    assert list(found) == list(features.BSGAMMA)
    assert len(found) == 67
    shapes = features.expand("bsgamma_shapes")
    assert tuple(shapes) == features.BSGAMMA_SHAPES
    assert not {"p_star_b", "e_star_gamma", "delta_e", "p_roe", "r1_roe"} & set(shapes)
    assert {"cos_tbto", "r2", "cleo_1", "ksfw_hso_c2", "cos_hel"} <= set(shapes) <= set(found)
    assert not {"m_bc", "m_bc_corr", "m_bc_recomputed"} & set(found)
    assert {"cos_tbto", "cleo_9", "ksfw_hso_c0", "ksfw_mm2", "r2_roe", "cos_hel", "n_tracks_roe"} <= set(
        found
    )


def test_names_are_spelt_out_once_and_in_order():
    assert features.expand(["r2", "r[1-4]", "cleo_*", "cleo_1"]) == [
        "r2", "r1", "r3", "r4", *(f"cleo_{i}" for i in range(1, 10)),
    ]  # fmt: skip
    assert features.expand("ksfw")[0] == "ksfw_hso_c0"
    assert features.expand(["Bcand.mbc", "my*.py:rho"]) == ["Bcand.mbc", "my*.py:rho"]
    with pytest.raises(InputError, match=r"no feature matches 'cleo_x\*'"):
        features.expand("cleo_x*")


def test_groups_hold_every_feature_once():
    chosen = {"bsgamma", "bsgamma_shapes", "bsgamma_all", "jets_atlas", "jets_all"}
    chosen |= {"hbb", "hmumu", "hmumu_ratios"}
    inside = [name for group, names in features.GROUPS.items() if group not in chosen for name in names]
    assert sorted(inside) == sorted(features.FEATURES)
    assert not set(features.GROUPS) & set(features.FEATURES)


def test_branches_as_they_are(events):
    found = features.compute(["Bcand.mPi0", "run"], events)
    np.testing.assert_array_equal(found["Bcand.mPi0"], np.asarray(events["Bcand"]["mPi0"], np.float32))
    np.testing.assert_array_equal(found["run"], np.arange(len(events)))
    assert features.describe("Bcand.mPi0") == features.Description("Bcand.mPi0", "", "Bcand.mPi0")


def test_a_branch_is_not_hidden_by_a_property_of_the_vector(events):
    """events.Bcand.tau2 of a Lorentz vector is its mass squared."""
    from coffea.nanoevents.methods import vector

    columns = {"pt": np.ones(3), "eta": np.zeros(3), "phi": np.zeros(3), "mass": np.full(3, 2.0)}
    jets = ak.zip(
        columns | {"tau2": [7.0, 8.0, 9.0]}, with_name="PtEtaPhiMLorentzVector", behavior=vector.behavior
    )
    made = ak.zip({"Jet": jets}, depth_limit=1)
    assert features.compute("Jet.tau2", made)["Jet.tau2"].tolist() == [7.0, 8.0, 9.0]


def test_flat_branches_serve_as_collections(events):
    one, other = features.compute("bsgamma", events), features.compute("bsgamma", flat(events))
    for name in one:
        np.testing.assert_array_equal(one[name], other[name])


def test_flat_branches_that_disagree_are_refused(events):
    columns = {name: flat(events)[name] for name in flat(events).fields}
    columns["Track_phi"] = columns["Track_phi"][:, 1:]
    with pytest.raises(InputError, match=r"feature 'r2': branch 'Track.phi' has other lengths"):
        features.compute("r2", ak.zip(columns, depth_limit=1))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("thrust_x", r"feature 'thrust_x': neither a feature nor a branch; did you mean 'thrust_\w'"),
        ("Bcand.mbcc", r"did you mean 'Bcand.mbc'"),
        ("bsgama", r"did you mean 'bsgamma'"),
        ("Track.pt", r"feature 'Track.pt': not one number per event"),
        ("Bcand", r"feature 'Bcand': not one number per event"),
        ("nowhere.py:rho", r"feature 'nowhere.py:rho': no file"),
    ],
)
def test_unknown_names_say_what_there_is(events, name, said):
    with pytest.raises(InputError, match=said):
        features.compute(["r2", name], events)


@pytest.mark.parametrize(
    ("feature", "collection", "field"),
    [
        ("r2", "Track", "mass"),
        ("thrust_b", "Photon", "eta"),
        ("cos_hel", "Beam", "boostZ"),
        ("delta_e", "Bcand", "deltaE"),
        ("ksfw_mm2", "Beam", "sqrtS"),
        ("kaon_id", "Track", "pdgId"),
        ("cleo_3", "Bcand", "gIdx"),
    ],
)
def test_a_missing_branch_is_named_with_the_feature(events, feature, collection, field):
    without = ak.with_field(
        events, events[collection][[f for f in events[collection].fields if f != field]], collection
    )
    with pytest.raises(
        InputError, match=rf"feature '{feature}': no branch '{collection}.{field}'; did you mean"
    ):
        features.compute(feature, without)


def test_a_missing_collection_is_named(events):
    without = events[[f for f in events.fields if f != "Photon"]]
    with pytest.raises(InputError, match="feature 'n_photons_roe': no collection 'Photon'"):
        features.compute("n_photons_roe", without)


@pytest.mark.parametrize(("field", "value"), [("kIdx", 99), ("piIdx", -1), ("gIdx", 99)])
def test_an_index_outside_of_its_collection_is_refused(events, field, value):
    places = np.asarray(events["Bcand"][field]).copy()
    places[17] = value
    wrong = ak.with_field(events, places, ["Bcand", field])
    with pytest.raises(
        InputError, match=rf"feature 'r2': branch 'Bcand.{field}' points at \w+ {value} in row 17"
    ):
        features.compute("r2", wrong)


def test_one_track_cannot_be_kaon_and_pion(events):
    wrong = ak.with_field(events, events["Bcand"]["kIdx"], ["Bcand", "piIdx"])
    with pytest.raises(InputError, match=r"'Bcand.kIdx' and 'Bcand.piIdx' name one track in row 0"):
        features.compute("n_kaons_roe", wrong)


def test_events_without_a_candidate_are_refused(events):
    empty = ak.with_field(events, events["Photon"][:, :0], "Photon")
    with pytest.raises(InputError, match="0 entries of Photon in row 0, but a candidate takes 1"):
        features.compute("n_photons_roe", empty)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_momentum_that_is_no_number_is_found(events, bad):
    pt = ak.to_list(events["Track"]["pt"])
    pt[5][1] = bad
    with pytest.raises(InputError, match=r"feature 'r2': branch 'Track.pt': a value in row 5 is not finite"):
        features.compute("r2", ak.with_field(events, ak.Array(pt), ["Track", "pt"]))


def test_a_velocity_beyond_light_is_refused(events):
    with pytest.raises(InputError, match="not below the speed of light in row 0"):
        features.compute("r2", ak.with_field(events, 1.2, ["Beam", "boostZ"]))


@pytest.mark.parametrize("feature", ["delta_e", "Bcand.deltaE"])
def test_missing_values_are_refused(events, feature):
    holed = ak.with_field(
        events, ak.mask(events["Bcand"]["deltaE"], np.arange(len(events)) > 3), ["Bcand", "deltaE"]
    )
    with pytest.raises(InputError, match=rf"feature '{feature}': .*may be missing"):
        features.compute(feature, holed)
    holed = ak.with_field(events, ak.mask(events["Track"], np.arange(len(events)) > 3), "Track")
    with pytest.raises(InputError, match=r"feature 'r2': .*missing"):
        features.compute("r2", holed)


def test_functions_of_the_user(events, user):
    name = "my_features.py:hardest"
    found = features.compute([name, "my_features.py:plain"], events, base=user)
    np.testing.assert_array_equal(found[name], np.asarray(ak.max(events["Photon"]["pt"], axis=1), np.float32))
    assert found["my_features.py:plain"].tolist() == [1.0] * len(events)
    assert features.describe(name, base=user) == features.Description(name, "GeV", "hardest photon")
    assert features.describe("my_features.py:plain", base=user).unit == ""
    ready = features.compute("hepdecorr.columnar.features.fox_wolfram:r2", events)
    np.testing.assert_array_equal(*ready.values(), features.compute("r2", events)["r2"])


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("short", "39 values for 40 events"),
        ("optional", "may be missing"),
        ("masked", "masked values"),
        ("jagged", "not one number per event"),
        ("square", "not one number per event"),
        ("words", "not numbers"),
        ("nothing", "not an array but NoneType"),
        ("number", "not an array but float"),
        ("broken", "missing_branch"),
        ("attribute", "missing_branch"),
        ("infinite", "40 of 40 values are not finite"),
        ("large", "not finite in float32"),
        ("rho", "not a function"),
        ("hardes", "did you mean 'hardest'"),
    ],
)
def test_functions_of_the_user_that_do_not_fit(events, user, function, said):
    with pytest.raises(InputError, match=rf"feature 'my_features.py:{function}': .*{said}"):
        features.compute(f"my_features.py:{function}", events, base=user)


def test_events_must_be_awkward():
    with pytest.raises(InputError, match="not dict"):
        features.compute("r2", {"Track": []})


@pytest.fixture
def runs(monkeypatch):
    """How often the four-vectors are assembled."""
    done = []
    assemble = particles._assemble
    monkeypatch.setattr(particles, "_assemble", lambda *a: (done.append(threading.get_ident()), assemble(*a)))
    return done


def test_intermediates_are_computed_once(events, runs):
    features.compute("bsgamma", events)
    assert len(runs) == 1
    features.compute("r2", events)
    assert len(runs) == 2
    with features.shared(events):
        features.compute("r2", events)
        features.compute("thrust_o", events)
        features.r4(events)
        assert len(runs) == 3
        # others: a slice, a mask, a changed collection
        for other in (events[:5], events[np.arange(len(events)) % 2 == 0]):
            features.compute(["r2", "r4"], other)
        assert len(runs) == 5
    features.r4(events)
    assert len(runs) == 6


def test_a_change_in_place_is_seen(events):
    with features.shared(events):
        before = features.compute("r2", events)["r2"]
        events["Track", "pt"] = 2 * events["Track"]["pt"]
        after = features.compute("r2", events)["r2"]
    assert (before != after).all()


def test_a_function_may_look_at_other_events(events, tmp_path):
    """A feature inside of a feature, on events of its own: neither sees what the other computed."""
    text = "from hepdecorr.columnar import features\ndef reversed_r2(e): return features.r2(e[::-1])[::-1]\n"
    (tmp_path / "other.py").write_text(text)
    found = features.compute(["r2", "other.py:reversed_r2", "r4"], events, base=tmp_path)
    np.testing.assert_array_equal(found["other.py:reversed_r2"], found["r2"])


def test_threads_do_not_share(events, runs):
    whole = features.compute("bsgamma", events)
    found = {}

    together = threading.Barrier(4)

    def work(i):
        together.wait(timeout=60)  # all are alive at once: the identifier of one that ended is given again
        found[i] = features.compute("bsgamma", events[i::4])

    with features.shared(events):
        threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(set(runs[1:])) == 4
    for i in range(4):
        for name, values in whole.items():
            np.testing.assert_array_equal(found[i][name], values[i::4], err_msg=name)


def test_nothing_is_kept_afterwards(made, forty):
    events = made(forty)
    layout = weakref.ref(events.layout)
    features.compute("bsgamma", events)
    del events
    gc.collect()
    assert layout() is None


def test_features_pickle():
    for function in features.FEATURES.values():
        assert pickle.loads(pickle.dumps(function)) is function


def test_results_do_not_alias_the_events(events):
    first = features.compute("delta_e", events)["delta_e"]
    first[:] = -1
    assert (features.compute("delta_e", events)["delta_e"] >= 0).all()


def test_compiled_code_works_where_nothing_can_be_written(monkeypatch, caplog):
    import numba

    plain = numba.njit

    def refuse(*args, cache=False, **options):
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return plain(*args, **options)

    monkeypatch.setattr(numba, "njit", refuse)
    with caplog.at_level(logging.INFO):
        double = compiled.compiled(lambda x: 2 * x)
    assert double(4) == 8
    assert "not kept" in caplog.text


def test_the_room_never_loads_torch():
    code = "import sys; import hepdecorr.columnar.features; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
