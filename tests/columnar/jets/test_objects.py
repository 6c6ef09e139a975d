"""objects.rows: each jet as a row, whatever the schema, reading nothing that nobody asked for."""

from __future__ import annotations

import awkward as ak
import numpy as np
import pytest
import uproot
from coffea import processor
from coffea.nanoevents import NanoAODSchema

from hepdecorr.columnar import features, objects
from hepdecorr.columnar.features.branches import branch, numbers
from hepdecorr.errors import InputError

SPEC = {"collection": "FatJet"}


def column(rows, name):
    return numbers(branch(rows, name), length=len(rows))


def expected(path, field, *, leading=99, collection="FatJet"):
    """(event, place, value) of each jet, by a loop over what uproot reads."""
    with uproot.open(path) as file:
        stored = file["Events"].arrays([f"{collection}_pt", f"{collection}_{field}"], library="ak")
    out = []
    for i, event in enumerate(stored.to_list()):
        pt = event[f"{collection}_pt"]
        for k, value in enumerate(event[f"{collection}_{field}"]):
            if sum(p > pt[k] for p in pt) < leading:
                out.append((i, k, value))
    return [np.array(column) for column in zip(*out, strict=True)]


@pytest.mark.parametrize("mode", ["eager", "virtual"])
@pytest.mark.parametrize("schema", ["NanoAODSchema", "PFNanoAODSchema", "BaseSchema"])
@pytest.mark.parametrize("layout", ["pfnano", "v15", "plain"])
def test_each_jet_is_a_row_with_its_event(files, opened, layout, schema, mode):
    events = opened(files[layout], schema=schema, mode=mode, metadata={"dataset": "made"})
    rows = objects.rows(events, {**SPEC, "leading": 2})
    event, place, tau2 = expected(files[layout], "tau2", leading=2)
    np.testing.assert_array_equal(rows["rowEvent"], event)
    np.testing.assert_array_equal(rows["rowObject"], place)
    # the branch, and not the vector's property of that name
    np.testing.assert_array_equal(column(rows, "FatJet.tau2"), tau2)
    np.testing.assert_array_equal(rows["FatJet"]["tau2"], tau2)
    np.testing.assert_array_equal(rows["genWeight"], np.asarray(events["genWeight"])[event])
    assert column(rows, "rowEvent").dtype == column(rows, "rowObject").dtype == np.int64
    assert rows.metadata["dataset"] == "made"
    assert rows.attrs["@events_factory"] is events.attrs["@events_factory"]
    # other collections stay those of the event
    number = np.asarray(ak.num(branch(events, "Jet.pt")))
    np.testing.assert_array_equal(ak.num(branch(rows, "Jet.pt")), number[event])


def test_flat_branches_of_the_collection_hold_one_value_a_row_too(files, opened):
    rows = objects.rows(opened(files["plain"], schema="BaseSchema"), SPEC)
    np.testing.assert_array_equal(rows["FatJet_tau1"], rows["FatJet"]["tau1"])
    assert set(features.compute(["FatJet_tau1", "FatJet.tau1"], rows)) == {"FatJet_tau1", "FatJet.tau1"}


@pytest.mark.parametrize("schema", ["NanoAODSchema", "BaseSchema"])
def test_only_what_is_asked_for_is_read(files, opened, schema):
    log = []
    events = opened(files["v15"], schema=schema, access_log=log)
    rows = objects.rows(events, SPEC)
    assert {a.branch for a in log} == {"nFatJet"}
    log.clear()
    chosen = rows[rows["rowObject"] == 0]
    features.compute(["FatJet.msoftdrop", "genWeight"], chosen)
    assert {a.branch for a in log} == {"FatJet_msoftdrop", "genWeight"}


def test_a_selection_keeps_what_rows_are_made_of(files, opened):
    events = opened(files["pfnano"], metadata={"dataset": "made"})
    rows = objects.rows(events, SPEC)
    chosen = rows[np.asarray(rows["FatJet"]["pt"]) > 500]
    assert 0 < len(chosen) < len(rows)
    assert objects.spec(chosen) == SPEC
    assert objects.source(chosen) is events
    assert chosen.metadata["dataset"] == "made"
    places = zip(chosen["rowEvent"], chosen["rowObject"], strict=True)
    there = [events["FatJet"]["pt"][int(event), int(place)] for event, place in places]
    np.testing.assert_array_equal(chosen["FatJet"]["pt"], there)


def test_behaviours_of_the_schema_stay(files, opened):
    rows = objects.rows(opened(files["pfnano"]), SPEC)
    np.testing.assert_allclose(
        rows["FatJet"].px, rows["FatJet"]["pt"] * np.cos(rows["FatJet"]["phi"]), rtol=1e-5
    )


def test_leading_is_by_pt_where_the_file_is_not_ordered():
    pt = ak.Array([[10.0, 30.0, 20.0], [], [5.0], [7.0, 7.0, 7.0, 1.0]])
    events = ak.zip({"FatJet": ak.zip({"pt": pt})}, depth_limit=1)
    rows = objects.rows(events, {**SPEC, "leading": 2})
    assert rows["FatJet"]["pt"].to_list() == [30, 20, 5, 7, 7]
    assert rows["rowObject"].to_list() == [1, 2, 0, 0, 1]
    assert rows["rowEvent"].to_list() == [0, 0, 2, 3, 3]


def test_rows_of_selected_events(jets, made):
    events = jets.in_memory(made)
    some = events[np.arange(len(events)) % 3 == 1]
    rows = objects.rows(some, SPEC)
    np.testing.assert_array_equal(rows["FatJet"]["pt"], ak.flatten(some["FatJet"]["pt"]))
    np.testing.assert_array_equal(rows["event"], np.asarray(some["event"])[np.asarray(rows["rowEvent"])])


@pytest.mark.parametrize("events", [0, 5])
@pytest.mark.parametrize("schema", ["NanoAODSchema", "BaseSchema"])
def test_no_jets(jets, opened, tmp_path, schema, events):
    path = jets.write(tmp_path / "none.root", jets.physics(events, jets=(0, 0)))
    rows = objects.rows(opened(path, schema=schema), {**SPEC, "leading": 1})
    assert len(rows) == 0
    assert features.compute(["FatJet.tau2", "genWeight"], rows)["FatJet.tau2"].shape == (0,)


def test_without_a_spec_rows_are_the_events(files, opened):
    events = opened(files["plain"])
    assert objects.rows(events, None) is events
    assert objects.spec(events) is None
    with pytest.raises(InputError, match=r"objects\.rows"):
        objects.source(events)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"collection": "FatJets"}, "no collection 'FatJets'; did you mean 'FatJet'"),
        ({"collection": "event"}, "'event' is not a list of records per event"),
        ({"leading": 2}, "names no collection"),
        ({**SPEC, "leading": 0}, "leading 0"),
        ({**SPEC, "leading": 1.5}, "leading 1.5"),
        ({**SPEC, "leading": True}, "leading True"),
    ],
)
def test_what_cannot_be_is_said(files, opened, spec, message):
    with pytest.raises(InputError, match=message):
        objects.rows(opened(files["plain"]), spec)


def test_an_unknown_collection_of_flat_branches_gets_a_suggestion(files, opened):
    with pytest.raises(InputError, match="no collection 'FatJt'; did you mean 'FatJet'"):
        objects.rows(opened(files["v15"], schema="BaseSchema"), {"collection": "FatJt"})


def test_missing_values_and_other_things_are_no_events():
    events = ak.zip({"FatJet": ak.Array([[{"pt": 1.0}], None])}, depth_limit=1)
    with pytest.raises(InputError, match="'FatJet': values may be missing"):
        objects.rows(events, SPEC)
    with pytest.raises(InputError, match="not list"):
        objects.rows([1], SPEC)


def test_flat_branches_must_agree(jets, opened, tmp_path):
    made = jets.physics(10, jets=(1, 2))
    rows = objects.rows(
        ak.zip(
            {"FatJet_pt": made["FatJet"]["pt"], "FatJet_eta": made["FatJet"]["eta"][:, :1]}, depth_limit=1
        ),
        SPEC,
    )
    with pytest.raises(InputError, match="'FatJet_eta' has other lengths"):
        features.compute("FatJet_eta", rows)


class Sums(processor.ProcessorABC):
    """Jets and their pt, from rows."""

    def process(self, events):
        rows = objects.rows(events, {**SPEC, "leading": 2})
        pt = column(rows, "FatJet.pt").astype(float)
        return {"chunks": 1, "jets": len(rows), "pt": pt.sum(), "weight": float(np.sum(rows["genWeight"]))}

    def postprocess(self, accumulator):
        pass


@pytest.mark.filterwarnings("ignore:Missing cross-reference")
def test_chunks_of_coffeas_runner_add_up(jets, files, tmp_path):
    _, _, pt = expected(files["pfnano"], "pt", leading=2)
    run = processor.Runner(processor.IterativeExecutor(status=False), schema=NanoAODSchema, chunksize=10)
    found = run({"made": [str(files["pfnano"])]}, Sums(), treename="Events")
    assert found["chunks"] == 4
    assert found["jets"] == len(pt)
    assert found["pt"] == pytest.approx(pt.sum())
