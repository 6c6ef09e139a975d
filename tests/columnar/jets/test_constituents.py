"""constituents.of: the same jets from every layout, in order, and nothing odd in silence."""

from __future__ import annotations

from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import uproot
from coffea.nanoevents import NanoAODSchema, NanoEventsFactory
from hypothesis import given, settings
from hypothesis import strategies as st

from hepdecorr.columnar import constituents, features, objects
from hepdecorr.columnar.constituents import linking
from hepdecorr.errors import InputError

SPEC = {"collection": "FatJet"}
REAL = Path(__file__).parents[4] / "shared" / "data" / "nano_tt_v15.root"
TABLES = {"pfnano": ("PFCands", "pFCandsIdx"), "v15": ("PFCand", "pfCandIdx")}
TABLES["pfnano_raw"] = TABLES["pfnano"]


def loop(path, layout, collection="FatJet", *, weighted=False):
    """Constituents of each jet by a loop over what uproot reads: {field: list}, hardest first."""
    table, index = TABLES[layout]
    with uproot.open(path) as file:
        stored = file["Events"].arrays(filter_name=[f"n{collection}", f"{collection}{table}_*", f"{table}_*"])
    out = []
    for event in stored.to_list():
        jets = [[] for _ in range(event[f"n{collection}"])]
        for j, c in zip(
            event[f"{collection}{table}_jetIdx"], event[f"{collection}{table}_{index}"], strict=True
        ):
            one = {k.removeprefix(f"{table}_"): event[k][c] for k in event if k.startswith(f"{table}_")}
            factor = one.get("puppiWeight", 1.0) if weighted else 1.0
            one |= {"pt": one["pt"] * factor, "mass": one["mass"] * factor}
            if one["pt"] > 0:
                jets[j].append(one)
        out += [sorted(jet, key=lambda one: -one["pt"]) for jet in jets]
    return out


def rows_of(events, **spec):
    return objects.rows(events, {**SPEC, **spec})


def assert_same(found, jets):
    np.testing.assert_array_equal(np.diff(found.start), [len(jet) for jet in jets])
    for name, field in (("pt", "pt"), ("eta", "eta"), ("phi", "phi"), ("mass", "mass"), ("pdg", "pdgId")):
        np.testing.assert_array_equal(getattr(found, name), [one[field] for jet in jets for one in jet], name)


@pytest.mark.parametrize("schema", ["NanoAODSchema", "PFNanoAODSchema", "BaseSchema"])
@pytest.mark.parametrize(
    ("layout", "collection", "convention"),
    [
        ("pfnano", "FatJet", "weighted"),
        ("pfnano", "Jet", "raw"),
        ("pfnano_raw", "FatJet", "raw"),
        ("v15", "FatJet", "weighted"),
    ],
)
def test_constituents_are_those_of_a_loop(files, opened, layout, collection, convention, schema):
    events = opened(files[layout], schema=schema)
    spec = {"collection": collection}
    assert constituents.conventions(events, spec) == {"collection": collection, "candidates": convention}
    found = constituents.of(objects.rows(events, spec))
    assert found.convention == convention
    weighted = convention == "weighted" and layout == "pfnano"
    assert_same(found, loop(files[layout], layout, collection, weighted=weighted))
    assert found.pt.dtype == found.eta.dtype == found.charge.dtype == np.float64
    assert found.start.dtype == found.pdg.dtype == np.int64


def test_layouts_give_identical_constituents(files, opened):
    pfnano, v15 = (constituents.of(rows_of(opened(files[k]))) for k in ("pfnano", "v15"))
    for name in ("start", "pt", "eta", "phi", "mass", "pdg", "charge"):
        # charge from the branch, and from the PDG id
        np.testing.assert_array_equal(getattr(pfnano, name), getattr(v15, name), name)
    assert "PFCand_charge" not in uproot.open(files["v15"])["Events"]


@pytest.mark.parametrize("layout", ["pfnano", "v15"])
def test_neither_order_of_links_nor_nconstituents_matters(jets, made, layout):
    link = made["FatJetLink"]
    rng = np.random.default_rng(0)
    shuffled = ak.Array([rng.permutation(n) for n in ak.num(link)])
    events = jets.in_memory({**made, "FatJetLink": link[shuffled]}, layout=layout)
    wrong = ak.with_field(
        events, ak.full_like(events["FatJet"]["nConstituents"], 99), ["FatJet", "nConstituents"]
    )
    absent = events[[f for f in events.fields if f != "FatJet"]]
    absent = ak.with_field(absent, events["FatJet"][["pt", "eta", "phi", "mass"]], "FatJet")
    expected = constituents.of(rows_of(jets.in_memory(made, layout=layout)))
    for changed in (wrong, absent):
        found = constituents.of(rows_of(changed))
        np.testing.assert_array_equal(found.start, expected.start)
        np.testing.assert_array_equal(found.pt, expected.pt)
        np.testing.assert_array_equal(found.phi, expected.phi)


def test_selected_reordered_and_repeated_rows(jets, made):
    rows = rows_of(jets.in_memory(made))
    every = constituents.of(rows)
    chosen = np.array([5, 2, 2, len(rows) - 1])
    found = constituents.of(rows[chosen])
    parts = [every.pt[every.start[i] : every.start[i + 1]] for i in chosen]
    np.testing.assert_array_equal(found.pt, np.concatenate(parts))
    np.testing.assert_array_equal(np.diff(found.start), [len(p) for p in parts])


def test_equal_pt_keeps_the_order_of_the_links(jets):
    one = {"pt": [1.0, 3.0, 1.0, 3.0, 2.0], "eta": [0.0, 1.0, 2.0, 3.0, 4.0], "phi": np.zeros(5)}
    assert constituents.of(rows_of(jets.by_hand([[one]]))).eta.tolist() == [1, 3, 4, 0, 2]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.lists(st.lists(st.integers(0, 9), max_size=6), max_size=4),
        max_size=5,
    )
)
def test_any_shape_of_events(jets, numbers):
    listed = [
        [{"pt": np.array(n, float), "eta": np.arange(6) / 10, "phi": np.zeros(6)} for n in event]
        for event in numbers
    ]
    rows = rows_of(jets.by_hand(listed))
    found = constituents.of(rows)
    flat = [sorted((p for p in jet if p), reverse=True) for event in numbers for jet in event]
    assert [found.pt[a:b].tolist() for a, b in zip(found.start[:-1], found.start[1:], strict=True)] == flat
    zero = sum(p == 0 for event in numbers for jet in event for p in jet)
    empty = sum(not jet for jet in flat)
    expected = {"jets without constituents": empty, "constituents with pt 0 left out": zero}
    assert constituents.notes(rows) == {k: v for k, v in expected.items() if v}


def test_jets_without_links_stay_and_are_counted(jets, made):
    link = made["FatJetLink"]
    rows = rows_of(jets.in_memory({**made, "FatJetLink": link[link["jetIdx"] != 0]}))
    empty = np.diff(constituents.of(rows).start) == 0
    np.testing.assert_array_equal(empty, rows["rowObject"] == 0)
    assert constituents.notes(rows)["jets without constituents"] == empty.sum()
    assert (constituents.closure(rows)[empty] == 0).all()


def changed_link(made, field, value, *, event):
    """The links with the last one of an event pointing elsewhere."""
    links = made["FatJetLink"].to_list()
    links[event][-1][field] = value
    return {**made, "FatJetLink": ak.Array(links)}


def busy_event(made):
    return int(np.flatnonzero(ak.to_numpy(ak.num(made["FatJet"])) > 1)[0])


def test_links_to_jets_that_were_not_stored_are_left_out_and_counted(jets, made):
    event = busy_event(made)
    rows = rows_of(jets.in_memory(changed_link(made, "jetIdx", -1, event=event), layout="pfnano_raw"))
    link = made["JetLink"].to_list()
    assert constituents.notes(rows) == {}  # pfnano_raw takes the links of Jet, which are whole
    rows = rows_of(jets.in_memory(changed_link(made, "jetIdx", -1, event=event)), puppi="raw")
    assert constituents.notes(rows) == {"links to jets that are not stored left out": 1}
    every = sum(len(e) for e in link)
    assert len(constituents.of(rows).pt) == every - 1


@pytest.mark.parametrize("layout", ["pfnano", "v15"])
@pytest.mark.parametrize("value", [-2, 99, 2**31 - 1])
def test_a_jet_index_out_of_range(jets, made, layout, value):
    event = busy_event(made)
    rows = rows_of(jets.in_memory(changed_link(made, "jetIdx", value, event=event), layout=layout))
    table, _ = TABLES[layout]
    where = rf"in event {event} of the chunk \(run 1, .* event {event}\)"
    message = rf"'FatJet{table}\.jetIdx' points at FatJet {value} {where}"
    with pytest.raises(InputError, match=message):
        constituents.of(rows)


@pytest.mark.parametrize("layout", ["pfnano", "v15"])
@pytest.mark.parametrize("value", [-1, 9999])
def test_a_candidate_index_out_of_range(jets, made, layout, value):
    event = busy_event(made)
    rows = rows_of(jets.in_memory(changed_link(made, "candIdx", value, event=event), layout=layout))
    table, index = TABLES[layout]
    with pytest.raises(
        InputError, match=rf"'FatJet{table}\.{index}' points at {table} {value} in event {event}"
    ):
        constituents.of(rows)


@pytest.mark.parametrize("name", ["FatJet", "PFCands"])
@pytest.mark.parametrize("how", ["filtered", "ordered"])
def test_a_collection_that_is_not_as_it_was_read(files, opened, name, how):
    events = opened(files["pfnano"])
    pt = events[name]["pt"]
    picked = events[name][pt > 1 if how == "filtered" else ak.argsort(pt)]
    rows = rows_of(ak.with_field(events, picked, name))
    with pytest.raises(InputError, match=rf"collection '{name}' was filtered or put in another order"):
        constituents.of(rows)


def test_selected_events_fit_their_links(files, opened):
    events = opened(files["pfnano"])
    rows = rows_of(events)
    found = constituents.of(rows_of(events[np.arange(len(events)) % 3 == 1]))
    expected = constituents.of(rows[np.asarray(rows["rowEvent"]) % 3 == 1])
    np.testing.assert_array_equal(found.pt, expected.pt)
    np.testing.assert_array_equal(found.eta, expected.eta)


def test_changed_momenta_keep_their_links(files, opened):
    events = opened(files["pfnano"])
    scaled = ak.with_field(events, events["PFCands"]["pt"] * 1.25, ["PFCands", "pt"])
    np.testing.assert_allclose(constituents.closure(rows_of(scaled)), 1.25, rtol=1e-6)


def hand(pt, **more):
    n = len(pt)
    return [[], [{"pt": pt, "eta": np.zeros(n), "phi": np.zeros(n), **more}]]


@pytest.mark.parametrize(("value", "shown"), [(np.nan, "nan"), (np.inf, "inf"), (-1.0, "-1")])
def test_bad_pt_names_branch_and_event(jets, value, shown):
    rows = rows_of(jets.by_hand(hand([1.0, value])))
    with pytest.raises(
        InputError, match=rf"'PFCands\.pt': {shown} for candidate 1 in event 1 of the chunk \(event 1\)"
    ):
        constituents.of(rows)


@pytest.mark.parametrize("field", ["eta", "phi", "mass"])
def test_nan_elsewhere_names_branch_and_event(jets, field):
    rows = rows_of(jets.by_hand(hand([3.0, 1.0, 2.0], **{field: [0.0, np.nan, 0.0]})))
    found = constituents.of(rows)
    with pytest.raises(InputError, match=rf"'PFCands\.{field}': nan for candidate 1 in event 1"):
        getattr(found, field)


@pytest.mark.parametrize("value", [np.nan, -0.5])
def test_a_bad_weight_names_branch_and_event(jets, made, value):
    weights = made["Cand"]["puppiWeight"].to_list()
    event = busy_event(made)
    place = made["FatJetLink"]["candIdx"][event, 0]
    weights[event][place] = value
    rows = rows_of(jets.in_memory(made, PFCands_puppiWeight=ak.Array(weights)))
    with pytest.raises(
        InputError, match=rf"'PFCands\.puppiWeight': {value:g} for candidate {place} in event {event}"
    ):
        constituents.of(rows)


def test_candidates_of_no_momentum_may_be_undefined(jets):
    rows = rows_of(jets.by_hand(hand([0.0, 2.0], eta=[np.nan, 1.0])))
    assert constituents.of(rows).eta.tolist() == [1.0]
    assert constituents.notes(rows) == {"constituents with pt 0 left out": 1}


def test_negative_masses_become_zero_and_are_counted(jets):
    rows = rows_of(jets.by_hand(hand([3.0, 2.0, 1.0], mass=[-1e-6, 0.14, -0.5])))
    with features.shared(rows):
        assert constituents.of(rows).mass.tolist() == [0, 0.14, 0]
        assert constituents.notes(rows) == {"negative masses set to 0": 2}


def test_puppi_weight_zero_is_counted(files, opened):
    rows = rows_of(opened(files["pfnano"]))
    counted = constituents.notes(rows)["constituents with Puppi weight 0 left out"]
    every = rows_of(opened(files["pfnano"]), puppi="raw")
    assert 0 < counted == len(constituents.of(every).pt) - len(constituents.of(rows).pt)


@pytest.mark.parametrize(
    ("layout", "spec", "convention"),
    [
        ("pfnano", {}, "weighted"),
        ("pfnano", {"puppi": "raw"}, "raw"),
        ("pfnano", {"puppi": "weighted", "collection": "Jet"}, "weighted"),
        ("pfnano_raw", {"puppi": "raw"}, "raw"),
        ("v15", {"puppi": "weighted"}, "weighted"),
        ("plain", {}, None),
        ("v15", {"collection": "Jet"}, None),
    ],
)
def test_conventions(jets, made, layout, spec, convention):
    spec = {**SPEC, **spec}
    events = jets.in_memory(made, layout=layout)
    expected = {"collection": spec["collection"]} | ({"candidates": convention} if convention else {})
    assert constituents.conventions(events, spec) == expected
    assert constituents.conventions(objects.rows(events, spec), spec) == expected


@pytest.mark.parametrize(
    ("layout", "puppi", "message"),
    [
        ("v15", "raw", "'puppi: raw' is not in these files"),
        ("pfnano_raw", "weighted", r"wants branch 'PFCands\.puppiWeight'"),
        ("pfnano", "yes", "puppi 'yes'; it is auto, raw, weighted"),
    ],
)
def test_a_convention_that_cannot_be_had(jets, made, layout, puppi, message):
    events = jets.in_memory(made, layout=layout)
    for ask in (
        lambda: constituents.conventions(events, {**SPEC, "puppi": puppi}),
        lambda: constituents.of(rows_of(events, puppi=puppi)),
    ):
        with pytest.raises(InputError, match=message):
            ask()


def test_no_constituents_say_what_was_looked_for(files, opened):
    rows = rows_of(opened(files["plain"]))
    assert constituents.notes(rows) == {}
    with pytest.raises(
        InputError, match=r"no constituents of 'FatJet'.*FatJetPFCands_jetIdx.*FatJetPFCand_jetIdx"
    ):
        constituents.of(rows)
    with pytest.raises(InputError, match=r"objects\.rows"):
        constituents.of(opened(files["pfnano"]))


def test_flat_branches_of_other_lengths(jets, made):
    flat = jets.branches(made, layout="pfnano")
    for name in ("FatJetPFCands_pFCandsIdx", "PFCands_puppiWeight"):
        events = ak.zip({**flat, name: flat[name][:, :-1]}, depth_limit=1)
        with pytest.raises(InputError, match=f"'{name.replace('_', '.')}' has other lengths"):
            constituents.of(rows_of(events))
    for field in ("eta", "phi", "mass"):
        events = ak.zip({**flat, f"PFCands_{field}": flat[f"PFCands_{field}"][:, :-1]}, depth_limit=1)
        with pytest.raises(InputError, match=rf"'PFCands\.{field}' has other lengths"):
            getattr(constituents.of(rows_of(events)), field)


@pytest.mark.parametrize("schema", ["NanoAODSchema", "BaseSchema"])
def test_only_what_is_needed_is_read(files, opened, schema):
    log = []
    rows = rows_of(opened(files["v15"], schema=schema, access_log=log))
    constituents.of(rows)
    links = {"FatJetPFCand_jetIdx", "FatJetPFCand_pfCandIdx"}
    counters = {"nFatJet"} | ({"nPFCand", "nFatJetPFCand"} if schema == "NanoAODSchema" else set())
    # the angles tell whether jets and links belong together
    angles = {f"{name}_{field}" for name in ("FatJet", "PFCand") for field in ("eta", "phi")}
    assert {a.branch for a in log} == {"PFCand_pt", *angles, *links, *counters}


@pytest.mark.parametrize(
    ("layout", "collection"),
    [("pfnano", "FatJet"), ("pfnano", "Jet"), ("pfnano_raw", "FatJet"), ("v15", "FatJet")],
)
def test_the_convention_closes(files, opened, layout, collection):
    rows = objects.rows(opened(files[layout]), {"collection": collection})
    # float32 of the file
    np.testing.assert_allclose(constituents.closure(rows), 1, atol=1e-6)


def test_the_other_convention_does_not_close(files, opened):
    for spec in ({"puppi": "raw"}, {"collection": "Jet", "puppi": "weighted"}):
        closure = constituents.closure(rows_of(opened(files["pfnano"]), **spec))
        assert np.mean(np.abs(closure - 1)) > 0.01


@pytest.mark.skipif(
    not REAL.is_file(), reason="CMS's file is not part of the repository; the made v15 file is"
)
def test_real_nanoaod_v15_closes():
    rows = rows_of(NanoEventsFactory.from_root({str(REAL): "Events"}, schemaclass=NanoAODSchema).events())
    closure = constituents.closure(rows)
    inside = np.abs(constituents.jet(rows, "eta")) <= 2.5
    assert len(rows) == 64
    # the table holds constituents of central jets only
    assert (
        constituents.notes(rows)["jets without constituents"] == (~inside).sum() == (closure == 0).sum() == 2
    )
    # pt is stored with 10 bits of mantissa
    np.testing.assert_allclose(closure[inside], 1, atol=3e-3)
    assert np.median(closure[inside]) == pytest.approx(0.999, abs=1e-3)


def test_charges_follow_from_pdg_ids():
    known = {
        11: -1,
        -13: 1,
        15: -1,
        22: 0,
        211: 1,
        -211: -1,
        321: 1,
        -321: -1,
        130: 0,
        310: 0,
        111: 0,
        2212: 1,
    }
    known |= {-2212: -1, 2112: 0, 3122: 0, 3222: 1, 3112: -1, 3312: -1, 3334: -1, -3334: 1, 411: 1, 421: 0}
    known |= {
        431: 1,
        521: 1,
        511: 0,
        -521: -1,
        4122: 1,
        1: 0,
        2: 0,
        -1: 0,
        12: 0,
        24: 1,
        23: 0,
        2224: 2,
        1114: -1,
    }
    known |= {213: 1, 113: 0, 323: 1, 313: 0, 10211: 1, 1000022: 0}
    out = np.empty(len(known))
    linking.charges(np.array(list(known)), out)
    assert dict(zip(known, out.tolist(), strict=True)) == known


def test_a_jets_own_branch_is_finite(jets):
    one = {"pt": [1.0], "eta": [0.0], "phi": [0.0], "jet": {"eta": np.nan}}
    rows = rows_of(jets.by_hand([[one]]))
    assert constituents.jet(rows, "pt").tolist() == [100.0]
    with pytest.raises(InputError, match=r"'FatJet\.eta': nan in row 0"):
        constituents.jet(rows, "eta")
    with pytest.raises(InputError, match=r"no branch 'FatJet\.et'"):
        constituents.jet(rows, "et")
